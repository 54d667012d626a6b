//! The kinds that fetch. The builder is its own server; what it fetched is there already when the image boots.

use super::cases::Case;

/// In the order in which they are applied, behind all others.
pub(super) const FETCHING: &[Case] = &[
    Case {
        kind: "download",
        resources: "
- package: { name: \"{{ item }}\" }
  for_each: [git, lighttpd, lighttpd-mod-openssl, openssl]
- directory: { path: /srv/probe/www }
- file: { path: /srv/probe/www/file, content: \"fetched\\n\" }
- file:
    path: /etc/probe-https.conf
    content: |
      server.modules = (\"mod_openssl\", \"mod_alias\", \"mod_setenv\", \"mod_cgi\")
      server.document-root = \"/srv/probe/www\"
      server.bind = \"127.0.0.1\"
      server.port = 8443
      ssl.engine = \"enable\"
      ssl.pemfile = \"/run/probe-https/server.pem\"
      ssl.privkey = \"/run/probe-https/server.key\"
      # As git-http-backend(1) has it.
      alias.url = (\"/git\" => \"/usr/lib/git-core/git-http-backend\")
      $HTTP[\"url\"] =~ \"^/git\" {
        cgi.assign = (\"\" => \"\")
        setenv.add-environment = (\"GIT_PROJECT_ROOT\" => \"/srv/probe/git\", \"GIT_HTTP_EXPORT_ALL\" => \"\")
      }
- systemd_unit:
    name: probe-https.service
    sections:
      Service:
        RuntimeDirectory: probe-https
        # A key on a disk would be a leak.
        ExecStartPre: /usr/bin/openssl req -x509 -extensions v3_req -addext subjectAltName=IP:127.0.0.1 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 -subj /CN=probe -keyout /run/probe-https/server.key -out /run/probe-https/server.pem
        ExecStart: /usr/sbin/lighttpd -D -f /etc/probe-https.conf
      Install: { WantedBy: multi-user.target }
- service: { name: probe-https, enabled: true, state: running }
- download:
    url: https://127.0.0.1:8443/file
    sha256: f6e379b0639054c51806fd5d67948cbcaebd354b0e91a7683932b043c5c3ba32
    path: /srv/probe/fetched
    owner: daemon
    mode: \"0640\"
    ca_file: /run/probe-https/server.pem
    validate: grep -qx fetched {file}
",
        checks: &[
            "test \"$(cat /srv/probe/fetched)\" = fetched; test \"$(stat -c '%U %G %a' /srv/probe/fetched)\" = 'daemon root 640'",
            "test \"$(ls -A /srv/probe | grep -c part)\" = 0",
        ],
    },
    Case {
        kind: "git",
        resources: "
- directory: { path: /srv/probe/git }
- command:
    argv:
      - sh
      - -ec
      - |
        git init --quiet --initial-branch=main /tmp/git
        cd /tmp/git
        for text in one two; do echo $text > a; git add a; git commit --quiet --message $text; done
        git clone --quiet --bare /tmp/git /srv/probe/git/probe
    # So the ids of the commits are known.
    environment:
      GIT_AUTHOR_NAME: p
      GIT_AUTHOR_EMAIL: p@p
      GIT_AUTHOR_DATE: 2026-01-01T00:00:00Z
      GIT_COMMITTER_NAME: p
      GIT_COMMITTER_EMAIL: p@p
      GIT_COMMITTER_DATE: 2026-01-01T00:00:00Z
    creates: /srv/probe/git/probe
- git:
    url: https://127.0.0.1:8443/git/probe
    commit: d4725496497c8e980d490ac4f460b2281ec04bb7
    path: /srv/probe/checkout
    owner: daemon
    ca_file: /run/probe-https/server.pem
",
        checks: &[
            "test \"$(cat /srv/probe/checkout/a)\" = one; test \"$(stat -c %U /srv/probe/checkout /srv/probe/checkout/a | xargs)\" = 'daemon daemon'",
            "as=\"runuser -u daemon -- git -C /srv/probe/checkout\"; test \"$($as rev-parse HEAD)\" = d4725496497c8e980d490ac4f460b2281ec04bb7; test -z \"$($as status --porcelain)\"",
            "test \"$(runuser -u daemon -- git -C /srv/probe/checkout rev-list --all --count HEAD)\" = 1",
        ],
    },
];
