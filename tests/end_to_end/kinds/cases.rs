//! The recipe with every kind in it, and what other tools must see of each.

/// A kind: its part of the recipe, and what a shell must find on the builder once all is applied.
pub(super) struct Case {
    pub(super) kind: &'static str,
    pub(super) resources: &'static str,
    pub(super) checks: &'static [&'static str],
}

/// In the order in which they are applied: later ones need what earlier ones made.
pub(super) const CASES: &[Case] = &[
    Case {
        kind: "assert",
        // It is no state that could be seen; that nothing is applied if it does not hold is tested below.
        resources: "
- assert: { that: 'facts.os.id == \"debian\" and (facts.mode == \"bake\" or facts.mode == \"live\")' }
",
        checks: &[],
    },
    Case {
        kind: "directory",
        resources: "
- directory: { path: /srv/repository }
- directory: { path: /srv/probe/private, group: adm, mode: \"2750\" }
",
        checks: &["test \"$(stat -c '%U %G %a %F' /srv/probe/private)\" = 'root adm 2750 directory'"],
    },
    Case {
        kind: "file",
        resources: "
- file: { path: \"/srv/repository/{{ item }}\", source: \"{{ item }}\" }
  for_each: \"{{ inputs.repository }}\"
- file: { path: /srv/probe/file, content: \"one\\ntwo\\n\", owner: daemon, group: adm, mode: \"0640\", validate: \"grep -q two {file}\" }
",
        checks: &[
            "test \"$(stat -c '%U %G %a %F' /srv/probe/file)\" = 'daemon adm 640 regular file'",
            "test \"$(sha256sum < /srv/probe/file)\" = \"$(printf 'one\\ntwo\\n' | sha256sum)\"",
            "dpkg-deb --info /srv/repository/probe-purged_1.0_all.deb",
        ],
    },
    Case {
        kind: "template",
        resources: "
- template: { path: /srv/probe/rendered, source: probe.tera, mode: \"0444\" }
",
        checks: &[
            ". /etc/os-release; test \"$(cat /srv/probe/rendered)\" = \"$ID $VERSION_CODENAME\"",
            "test \"$(stat -c '%U %a' /srv/probe/rendered)\" = 'root 444'",
        ],
    },
    Case {
        kind: "symlink",
        resources: "
- symlink: { path: /srv/probe/link, target: ../probe/file }
",
        checks: &["test \"$(readlink /srv/probe/link)\" = ../probe/file; grep -qx two /srv/probe/link"],
    },
    Case {
        kind: "repository",
        resources: "
- repository: { name: probe, uris: [\"file:/srv/repository\"], suites: [./], key: key.asc }
",
        checks: &[
            "apt-cache policy probe-pinned | grep -q ' file:/srv/repository ./ Packages'",
            "apt-cache policy | grep -q 'release o=testbed'",
            // Only what is signed with the key is trusted.
            "apt-get indextargets --format '$(DESCRIPTION) $(TRUSTED)' 'Identifier: Packages' | grep -x 'file:/srv/repository ./ Packages yes'",
        ],
    },
    Case {
        kind: "package_pin",
        resources: "
- package_pin: { name: probe, packages: [probe-pinned], version: \"1.*\", priority: 900 }
",
        checks: &[
            "apt-cache policy probe-pinned | grep -qx '  Candidate: 1.0'",
            "apt-cache policy | grep -q 'probe-pinned -> 1.0 with priority 900'",
        ],
    },
    Case {
        kind: "package",
        resources: "
- package: { name: \"{{ item }}\" }
  for_each: [cron, grub2-common, jq, xz-utils, zstd, kmod, locales, logrotate, nano, nftables, openssh-client, sudo, tzdata, vim-tiny, probe-pinned]
- command:
    argv: [sh, -ec, 'mkdir -p /srv/local/DEBIAN; printf \"Package: probe-local\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: n <n@example.com>\\nDepends: tree\\nDescription: d\\n\" > /srv/local/DEBIAN/control; dpkg-deb --root-owner-group --build /srv/local /srv/local.deb']
    creates: /srv/local.deb
- package: { name: probe-local, source: /srv/local.deb }
",
        checks: &[
            "test \"$(dpkg-query -Wf '${db:Status-Abbrev}${Version}' probe-pinned)\" = 'hi 1.0'",
            "test \"$(dpkg-query -Wf '${db:Status-Abbrev}${Version}' probe-local)\" = 'ii 1.0'; tree --version; test -z \"$(apt-mark showmanual tree)\"",
            "dpkg --audit; test -z \"$(dpkg --audit)\"; dpkg --verify jq sudo cron; apt-get check",
            // Nothing that was asked for goes with what it came with; nothing came that is only recommended.
            "test \"$(apt-mark showmanual jq probe-pinned)\" = \"$(printf 'jq\\nprobe-pinned')\"",
            "! dpkg-query -Wf '${db:Status-Abbrev}' grub-pc | grep '^.i'",
        ],
    },
    Case {
        kind: "command",
        resources: "
- command:
    argv: [sh, -ec, 'dpkg --install /srv/repository/probe-upgraded_1.0_all.deb /srv/repository/probe-purged_1.0_all.deb; echo once >> /srv/installed']
    creates: /srv/installed
- directory: { path: /srv/probe/daemon, owner: daemon }
- command:
    argv: [sh, -c, 'id -un > \"$FILE\"; pwd >> \"$FILE\"']
    user: daemon
    cwd: /usr
    environment: { FILE: /srv/probe/daemon/file }
    unless: test -s /srv/probe/daemon/file
- command: { argv: [tee, /srv/probe/by-stdin], stdin: \"one\\ntwo\\n\", creates: /srv/probe/by-stdin, sensitive: true }
# A guard cannot write, not even here.
- command: { argv: [touch, /srv/probe/guarded], unless: \"sh -c 'echo x > /srv/by-guard; echo x > /tmp/by-guard; test -e /srv/probe/guarded'\" }
",
        checks: &[
            "test \"$(cat /srv/installed)\" = once",
            "test \"$(xargs < /srv/probe/by-stdin)\" = 'one two'",
            "test -e /srv/probe/guarded; ! test -e /srv/by-guard; ! test -e /tmp/by-guard",
            "test \"$(stat -c %U /srv/probe/daemon/file)\" = daemon; test \"$(cat /srv/probe/daemon/file)\" = \"$(printf 'daemon\\n/usr')\"",
        ],
    },
    Case {
        kind: "script",
        resources: "
- script:
    content: |
      #!/bin/sh -eu
      { id -un; pwd; cat; } > /srv/probe/daemon/by-script
    creates: /srv/probe/daemon/by-script
    user: daemon
    cwd: /usr
- script:
    content: open(my $f, '>', '/srv/probe/by-perl') or die; print $f readlink('/proc/self/fd/0'); exit 3
    interpreter: perl -w
    success_codes: [3]
    creates: /srv/probe/by-perl
",
        checks: &[
            "test \"$(xargs < /srv/probe/daemon/by-script)\" = 'daemon /usr'",
            // It had no name in a file system.
            "test \"$(cat /srv/probe/by-perl)\" = '/memfd:input (deleted)'",
        ],
    },
    Case {
        kind: "package_hold",
        resources: "
- package: { name: probe-purged, state: purged }
- package_hold: { names: [probe-pinned, jq] }
- package_hold: { names: [nano], held: false }
",
        checks: &[
            "! dpkg-query -Wf '${db:Status-Abbrev}' probe-purged | grep '^.[ic]'",
            "test \"$(apt-mark showhold)\" = \"$(printf 'jq\\nprobe-pinned')\"",
        ],
    },
    Case {
        kind: "package_upgrade",
        resources: "
# On a live host it is an error, and this recipe is applied to one, too.
- package_upgrade: {}
  when: facts.mode == \"bake\"
",
        checks: &[
            "test \"$(dpkg-query -Wf '${Version}' probe-upgraded)\" = 2.0",
            "test \"$(dpkg-query -Wf '${Version}' probe-pinned)\" = 1.0",
            "apt-get --simulate upgrade | grep -q '^0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded'",
        ],
    },
    Case {
        kind: "line",
        resources: "
- line: { path: /etc/login.defs, match: '^#?\\s*HOME_MODE\\s', line: \"HOME_MODE 0711\" }
",
        // What useradd makes of it is seen below.
        checks: &["test \"$(grep -c '^HOME_MODE' /etc/login.defs)\" = 1; grep -qx 'HOME_MODE 0711' /etc/login.defs"],
    },
    Case {
        kind: "group",
        resources: "
- group: { name: probers, gid: 4321 }
",
        checks: &["test \"$(getent group 4321)\" = probers:x:4321:probe"],
    },
    Case {
        kind: "user",
        resources: "
- user: { name: probe, uid: 4322, groups: [probers], shell: /bin/bash, comment: A probe }
",
        checks: &[
            "test \"$(getent passwd probe)\" = \"probe:x:4322:$(id -g probe):A probe:/home/probe:/bin/bash\"",
            "test \"$(id -Gn probe)\" = 'probe probers'; passwd --status probe | grep -q '^probe L '",
            "test \"$(stat -c '%U %G %a' /home/probe)\" = 'probe probe 711'",
        ],
    },
    Case {
        kind: "authorized_key",
        resources: "
# Sealing refuses an image that lets somebody in, so it is seen on a host, below.
- authorized_key:
    user: probe
    key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV ci
    options: [restrict, from=10.0.0.0/8, \"command=/usr/bin/echo a \\\"b\\\"\"]
  when: facts.mode == \"live\"
",
        checks: &["! test -e /home/probe/.ssh"],
    },
    Case {
        kind: "sudo",
        resources: "
- sudo: { name: probe, groups: [probers], run_as: [root], commands: [\"/usr/bin/id -u\", \"/usr/bin/printf a=b,c:d\"], nopasswd: true }
",
        checks: &[
            "visudo -c; test \"$(stat -c '%U %G %a' /etc/sudoers.d/probe)\" = 'root root 440'",
            "test \"$(su probe -c 'sudo -n id -u')\" = 0",
            "test \"$(su probe -c 'sudo -n printf a=b,c:d')\" = a=b,c:d",
            "! su probe -c 'sudo -n id'",
        ],
    },
    Case {
        kind: "limits",
        resources: "
- limits:
    name: probe
    entries: [ { domain: probe, type: soft, item: nofile, value: 321 }, { domain: \"@probers\", type: hard, item: core, value: 0 } ]
",
        checks: &["test \"$(su probe -c 'ulimit -Sn; ulimit -Hc')\" = \"$(printf '321\\n0')\""],
    },
    Case {
        // Before lines are put between those of pam-auth-update: after that it changes nothing.
        kind: "pam_profile",
        resources: "
- file:
    path: /usr/share/pam-configs/probe
    content: \"Name: Probe\\nDefault: no\\nPriority: 0\\nSession-Type: Additional\\nSession:\\n\\toptional\\tpam_exec.so /usr/bin/touch /run/probe-session\\n\"
- pam_profile: { names: [probe] }
",
        checks: &[
            "grep -q '^session.*pam_exec.so /usr/bin/touch /run/probe-session' /etc/pam.d/common-session; grep -qx 'Module: probe' /var/lib/pam/session",
            "rm -f /run/probe-session; su -c true root; test -e /run/probe-session",
        ],
    },
    Case {
        kind: "pam",
        resources: "
- group: { name: probe-su, gid: 4333 }
- pam:
    file: su
    rules:
      - { type: auth, control: required, module: pam_wheel.so, arguments: [use_uid, group=probe-su], before: \"@include common-auth\" }
- pam:
    file: common-auth
    rules:
      - { type: auth, control: required, module: pam_faillock.so, having: preauth, before: pam_unix.so }
      - { type: auth, module: pam_unix.so, control: \"[success=1 default=ignore]\", remove_arguments: [nullok] }
      - { type: auth, control: \"[default=die]\", module: pam_faillock.so, having: authfail, after: pam_unix.so }
      - { type: auth, control: sufficient, module: pam_faillock.so, having: authsucc, after: pam_faillock.so authfail }
- pam: { file: common-account, rules: [ { type: account, control: required, module: pam_faillock.so } ] }
- pam: { file: common-password, rules: [ { type: password, module: pam_unix.so, add_arguments: [rounds=6] } ] }
- script:
    creates: /usr/local/bin/as-probe-pam
    content: |
      #!/bin/sh -eu
      printf '#!/bin/sh\\necho \"$1\" | setpriv --reuid probe-pam --regid probe-pam --init-groups su -c true probe-pam\\n' > /usr/local/bin/as-probe-pam
      chmod 755 /usr/local/bin/as-probe-pam
      useradd --create-home --groups probe-su probe-pam
      echo probe-pam:Rye-7-harbour-lamp | chpasswd
",
        checks: &[
            "getent shadow probe-pam | grep -q '^probe-pam:.y.jAT.'",
            // Two failures lock the account, also for who has the password.
            "as-probe-pam Rye-7-harbour-lamp",
            "! as-probe-pam wrong",
            "! as-probe-pam wrong again",
            "! as-probe-pam Rye-7-harbour-lamp",
            "faillock --user probe-pam --reset; as-probe-pam Rye-7-harbour-lamp",
            // An image with a password in it would not be sealed.
            "gpasswd --delete probe-pam probe-su; ! as-probe-pam Rye-7-harbour-lamp; userdel --remove probe-pam",
        ],
    },
    Case {
        kind: "password_policy",
        resources: "
- password_policy:
    faillock: { deny: 2, unlock_time: 600, nodelay: true }
    login_defs: { PASS_MAX_DAYS: 222, LOG_OK_LOGINS: true }
",
        checks: &[
            "grep -qx 'deny = 2' /etc/security/faillock.conf; grep -qx nodelay /etc/security/faillock.conf; grep -qx '# deny = 3' /etc/security/faillock.conf",
            "useradd probe-policy; test \"$(getent shadow probe-policy | cut -d: -f5)\" = 222; userdel probe-policy",
        ],
    },
    Case {
        kind: "sysusers",
        resources: "
- sysusers:
    name: probe
    users: [ { name: probed, id: 480, comment: A daemon, home: /srv/probe, groups: [probe-data] } ]
    groups: [ { name: probe-data, id: 481 } ]
",
        checks: &[
            "test \"$(getent passwd probed)\" = 'probed:x:480:480:A daemon:/srv/probe:/usr/sbin/nologin'",
            "test \"$(id -Gn probed)\" = 'probed probe-data'; test \"$(getent group probe-data)\" = probe-data:x:481:probed",
            "! systemd-sysusers --dry-run /etc/sysusers.d/probe.conf 2>&1 | grep Creating",
            // Where /etc starts empty it makes the same accounts.
            "mkdir -p /tmp/root/etc; systemd-sysusers --root=/tmp/root - < /etc/sysusers.d/probe.conf; test \"$(grep ^probed: /tmp/root/etc/passwd)\" = \"$(getent passwd probed)\"",
        ],
    },
    Case {
        kind: "tmpfiles",
        resources: "
- tmpfiles:
    name: probe
    entries:
      - { type: d, path: /run/probe, mode: \"0750\", user: probe, group: probers }
      - { type: f, path: /run/probe/file, mode: \"0600\", argument: text with spaces }
      - { type: L+, path: /run/probe/link, argument: /srv/probe/file }
",
        checks: &[
            "test \"$(stat -c '%U %G %a' /run/probe)\" = 'probe probers 750'",
            "systemd-tmpfiles --create /etc/tmpfiles.d/probe.conf; test \"$(readlink /run/probe/link)\" = /srv/probe/file",
            "test \"$(stat -c '%U %G %a' /run/probe)\" = 'probe probers 750'; test \"$(cat /run/probe/file)\" = 'text with spaces'",
        ],
    },
    Case {
        kind: "systemd_unit",
        resources: "
- systemd_unit:
    name: probe.service
    sections:
      Unit: { Description: A probe }
      Service: { ExecStart: /usr/bin/sleep infinity, User: probed, Environment: [\"A=1\", \"B=2\"] }
      Install: { WantedBy: multi-user.target }
    validate: \"systemd-analyze verify --recursive-errors=no {file}:probe.service\"
- systemd_unit: { name: probe.service, drop_in: 10-limits, content: \"[Service]\\nLimitNOFILE=4321\\n\" }
",
        checks: &[
            "systemd-analyze verify probe.service; systemctl cat probe.service | grep -qx 'Description=A probe'",
            "test \"$(systemctl show --value -p NeedDaemonReload,LimitNOFILE,Environment probe.service | sort | xargs)\" = '4321 A=1 B=2 no'",
        ],
    },
    Case {
        kind: "service",
        resources: "
- service: { name: probe, enabled: true, state: running }
- service: { name: apt-daily.timer, masked: true, state: stopped }
",
        checks: &[
            "systemctl is-enabled probe.service; systemctl is-active probe.service; test \"$(systemctl is-enabled apt-daily.timer)\" = masked",
            "! systemctl is-active apt-daily.timer",
            "test \"$(stat -c %U /proc/$(systemctl show --value -p MainPID probe))\" = probed",
        ],
    },
    Case {
        kind: "wait_for",
        resources: "
- command: { argv: [sh, -ec, 'systemd-run --collect sh -ec \"sleep 1; touch /srv/probe/late\"; touch /srv/probe/asked'], creates: /srv/probe/asked }
- wait_for: { path: /srv/probe/late, within: 20s }
- wait_for: { service: probe }
- wait_for: { command: test -e /srv/probe/late }
",
        checks: &["test -e /srv/probe/late"],
    },
    Case {
        kind: "reboot",
        // It would end the bake: this file is on every builder, and on no host. That a host reboots, and once, is
        // tested in reboot.rs.
        resources: "
- reboot: { if_exists: /run/baker-builder }
",
        checks: &[],
    },
    Case {
        kind: "cron",
        resources: "
# Cron runs it when it starts, so it is seen that it reads the file, and what it makes of `%`.
- cron: { name: probe, schedule: \"@reboot\", user: probe, command: 'date +%Y | sed \"s/$/ $GREETING/\" > /tmp/by-cron', environment: { GREETING: hello } }
- service: { name: cron, enabled: true, state: running }
",
        checks: &["test \"$(cat /tmp/by-cron)\" = \"$(date +%Y) hello\"; test \"$(stat -c %U /tmp/by-cron)\" = probe"],
    },
    Case {
        kind: "logrotate",
        resources: "
- directory: { path: /var/log/probe }
- logrotate:
    name: probe
    paths: [/var/log/probe/*.log]
    rotate: 2
    dateext: false
    create: { mode: \"0640\", user: probe, group: adm }
    postrotate: touch /tmp/rotated
",
        checks: &[
            "test -e /tmp/rotated || { echo old > /var/log/probe/a.log; logrotate --force /etc/logrotate.conf; }; test \"$(cat /var/log/probe/a.log.1)\" = old",
            "test \"$(stat -c '%U %G %a %s' /var/log/probe/a.log)\" = 'probe adm 640 0'; test -e /tmp/rotated",
        ],
    },
    Case {
        kind: "journald",
        resources: "
- journald: { name: 10-size, settings: { Storage: persistent, SystemMaxUse: 30M } }
  notify: restart journald
",
        checks: &[
            "systemd-analyze cat-config systemd/journald.conf | grep -qx SystemMaxUse=30M",
            // The journal says of itself, when it starts, how large it may become.
            "journalctl --output cat MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6 | grep '^System Journal' | tail -n1 | grep 'max 30.*M'",
        ],
    },
    Case {
        kind: "sysctl",
        resources: "
# On Debian 12 `/etc/sysctl.d` has a link that leads nowhere without procps, which systemd-analyze does not take.
- package: { name: procps }
  when: facts.os.version == \"12\"
- sysctl: { name: probe, settings: { net.core.somaxconn: 4321 } }
",
        checks: &[
            // Of two files that set a key the later wins.
            "test \"$(systemd-analyze cat-config sysctl.d | grep '^net.core.somaxconn' | tail -n1 | tr -d ' ')\" = net.core.somaxconn=4321",
        ],
    },
    Case {
        kind: "kernel_module",
        resources: "
# A bake loads nothing.
- kernel_module: { name: nf_conntrack, options: { hashsize: 65536 } }
- kernel_module: { name: usb-storage, state: blocked }
",
        checks: &[
            "modprobe --showconfig | grep -qx 'options nf_conntrack hashsize=65536'",
            "systemd-analyze cat-config modules-load.d | grep -qx nf_conntrack",
            "modprobe --showconfig | grep -qx 'install usb_storage /bin/false'; modprobe --showconfig | grep -qx 'blacklist usb_storage'",
        ],
    },
    Case {
        kind: "kernel_parameter",
        resources: "
# A container has no kernel, so there is no `grub.cfg`: only what `update-grub` reads is written.
- kernel_parameter: { name: probe, parameters: [audit=1, nosmt] }
",
        checks: &[
            // As /usr/sbin/grub-mkconfig does.
            "GRUB_CMDLINE_LINUX=quiet; for file in /etc/default/grub.d/*.cfg; do . \"$file\"; done; test \"$GRUB_CMDLINE_LINUX\" = 'quiet audit=1 nosmt'",
        ],
    },
    Case {
        kind: "mount",
        resources: "
- mount: { path: /srv/scratch, device: tmpfs, fstype: tmpfs, options: [nosuid, nodev, size=1M], state: mounted }
",
        checks: &[
            "test \"$(findmnt --fstab --noheadings --output SOURCE,FSTYPE,OPTIONS /srv/scratch | xargs)\" = 'tmpfs tmpfs nosuid,nodev,size=1M'",
            // A bake does not mount; that systemd can is seen here.
            "! findmnt /srv/scratch",
            "systemctl daemon-reload; systemctl start srv-scratch.mount; findmnt --verify; findmnt --noheadings --output OPTIONS /srv/scratch | grep -q 'nosuid,nodev.*size=1024k'; systemctl stop srv-scratch.mount",
        ],
    },
    Case {
        kind: "hosts_entry",
        resources: "
- hosts_entry: { address: 10.0.0.5, names: [db.internal, db] }
- hosts_entry: { address: \"2001:db8::5\", names: [db6.internal] }
",
        checks: &[
            "test \"$(getent hosts db | xargs)\" = '10.0.0.5 db.internal db'; test \"$(getent ahostsv6 db6.internal | head -n1 | cut -d' ' -f1)\" = 2001:db8::5",
            "getent hosts localhost",
        ],
    },
    Case {
        kind: "hostname",
        resources: "
# In a bake it is an error: every host of the image would have the same. It is seen on a host, below.
- hostname: { name: probe-host }
  when: facts.mode == \"live\"
",
        checks: &["! grep -q probe-host /etc/hostname"],
    },
    Case {
        kind: "timezone",
        resources: "
- timezone: { name: Asia/Kathmandu }
",
        checks: &[
            "test \"$(date +%z)\" = +0545; test \"$(readlink -f /etc/localtime)\" = /usr/share/zoneinfo/Asia/Kathmandu",
            "test \"$(timedatectl show --property=Timezone --value)\" = Asia/Kathmandu",
        ],
    },
    Case {
        kind: "locale",
        resources: "
- locale: { lang: C.UTF-8, variables: { LC_TIME: en_GB.UTF-8 }, generate: [de_DE.UTF-8] }
",
        checks: &[
            "locale -a | grep -qix en_GB.utf8; locale -a | grep -qix de_DE.utf8",
            "test \"$(LC_ALL=de_DE.UTF-8 date -d 2026-03-01 +%B)\" = März",
            "test \"$(su - probe -c 'echo $LANG $LC_TIME')\" = 'C.UTF-8 en_GB.UTF-8'",
        ],
    },
    Case {
        kind: "alternatives",
        resources: "
# By its priority it would be nano.
- alternatives: { name: editor, path: /usr/bin/vim.tiny }
",
        checks: &[
            "update-alternatives --query editor | grep -x -e 'Status: manual' -e 'Value: /usr/bin/vim.tiny' | wc -l | grep -qx 2",
            "test \"$(readlink -f /usr/bin/editor)\" = /usr/bin/vim.tiny; update-alternatives --query editor | grep -qx 'Best: /bin/nano\\|Best: /usr/bin/nano'",
        ],
    },
    Case {
        kind: "firewall",
        resources: "
- firewall:
    sets: { office: [10.0.0.0/8, 10.0.0.5-10.0.0.9, 'fd00::/8'] }
    allow:
      - { port: 22, from: ['@office', 192.0.2.1], rate: 60/minute, comment: probe }
      - { port: [80, 8000-8010], protocol: [tcp, udp], interface: 'eth*' }
    outgoing: { deny: [ { port: 25, except_users: [root, probe] } ] }
    rules: { table: [\"set seen { type ipv4_addr; flags dynamic, timeout; timeout 1h; }\"], input: ['tcp dport 23 add @seen { ip saddr } drop'] }
    metadata_users: root
",
        checks: &[
            "nft -c -f /etc/nftables.conf; systemctl is-enabled --quiet nftables",
            // A bake loads nothing: a builder may share its kernel. Seen on a host, below, is what a boot loads.
            "test -z \"$(nft list ruleset)\"",
        ],
    },
    Case {
        kind: "block",
        resources: "
- block: { path: /etc/profile, name: probe, content: \"PROBE=block\\nexport PROBE\\n\" }
",
        checks: &["test \"$(su - probe -c 'echo $PROBE')\" = block; test \"$(grep -c 'managed block probe' /etc/profile)\" = 2"],
    },
    Case {
        kind: "ini",
        resources: "
- ini: { path: /etc/systemd/logind.conf, section: Login, key: NAutoVTs, value: 3, create: true }
",
        checks: &["systemd-analyze cat-config systemd/logind.conf | tr -d ' ' | grep -qx NAutoVTs=3"],
    },
    Case {
        kind: "toml",
        resources: "
- command: { argv: [sh, -ec, 'printf \"# kept\\n[server]\\nport = 1 # here\\n\" > /srv/probe/conf.toml'], creates: /srv/probe/conf.toml }
- toml: { path: /srv/probe/conf.toml, key: server.port, value: 8080 }
- toml: { path: /srv/probe/conf.toml, key: server.names, value: [a, b] }
",
        checks: &[
            "head -n1 /srv/probe/conf.toml | grep -qx '# kept'",
            "grep -qx 'port = 8080 # here' /srv/probe/conf.toml; grep -qx 'names = \\[\"a\", \"b\"\\]' /srv/probe/conf.toml",
        ],
    },
    Case {
        kind: "archive",
        resources: "
- command:
    argv: [sh, -ec, 'mkdir -p /srv/packed/app-1/bin; cd /srv/packed; echo run > app-1/bin/run; chmod 4750 app-1/bin/run; ln -s bin/run app-1/link; ln app-1/bin/run app-1/bin/same; echo no > app-1/notes; for how in gzip xz zstd; do tar --create --$how --owner=daemon --file app.$how app-1; done']
    creates: /srv/packed/app.zstd
- archive: { path: \"/srv/unpacked/{{ item }}\", host_path: \"/srv/packed/app.{{ item }}\", strip_components: 1, exclude: [notes], group: adm }
  for_each: [gzip, xz, zstd]
",
        checks: &[
            "cd /srv/unpacked; for how in gzip xz zstd; do test \"$(stat -c '%U %G %a %F' $how/bin/run)\" = 'root adm 750 regular file'; done",
            "cd /srv/unpacked; for how in gzip xz zstd; do cmp $how/bin/run /srv/packed/app-1/bin/run; cmp $how/bin/same $how/bin/run; test $(readlink $how/link) = bin/run; test ! -e $how/notes; done",
        ],
    },
    Case {
        kind: "swap",
        resources: "
- swap: { path: /srv/swapfile, size: 2M, priority: 5 }
",
        // A container has no kernel to swap with: what can be seen is that the host would.
        checks: &[
            "test \"$(stat -c '%U %G %a %s' /srv/swapfile)\" = 'root root 600 2097152'; swaplabel /srv/swapfile | grep -q ^UUID",
            "test \"$(blkid --probe --match-tag TYPE --output value /srv/swapfile)\" = swap",
            "findmnt --verify --fstab; grep -qx '/srv/swapfile none swap sw,pri=5 0 0' /etc/fstab; ! grep -q swapfile /proc/swaps",
        ],
    },
    Case {
        kind: "yaml",
        resources: "
- command: { argv: [sh, -ec, 'printf \"# kept\\nserver:\\n    port: 1 # here\\n    old: true\\n# other\\nother:\\n\" > /srv/probe/conf.yml'], creates: /srv/probe/conf.yml }
- yaml: { path: /srv/probe/conf.yml, key: server.port, value: 8080 }
- yaml: { path: /srv/probe/conf.yml, key: server.names, value: [a, \"yes\"] }
- yaml: { path: /srv/probe/conf.yml, key: server.old, state: absent }
- yaml: { path: /srv/probe/conf.yml, key: other.deep, value: \"0644\" }
",
        checks: &[
            "printf '# kept\\nserver:\\n    port: 8080 # here\\n    names:\\n        - a\\n        - \"yes\"\\n# other\\nother:\\n    deep: \"0644\"\\n' | cmp - /srv/probe/conf.yml",
        ],
    },
    Case {
        kind: "permissions",
        resources: "
- command: { argv: [sh, -ec, 'mkdir -p /srv/probe/tree/deep; echo k > /srv/probe/tree/deep/key'], creates: /srv/probe/tree/deep/key }
- permissions: { path: /srv/probe/tree, directory_mode: \"0750\", file_mode: \"0640\", group: adm }
",
        checks: &[
            "test \"$(stat -c '%U %G %a' /srv/probe/tree/deep /srv/probe/tree/deep/key | xargs)\" = 'root adm 750 root adm 640'",
        ],
    },
    Case {
        kind: "absent",
        resources: "
- command: { argv: [sh, -ec, 'touch /srv/probe/a.old /srv/probe/b.old /srv/old-made'], creates: /srv/old-made }
- absent: { path: /srv/probe/*.old }
",
        checks: &["test -e /srv/old-made; test -z \"$(find /srv/probe -name '*.old')\""],
    },
    Case {
        kind: "json",
        resources: "
- json: { path: /srv/probe/daemon.json, key: log-opts.max-size, value: 10m, create: true }
- json: { path: /srv/probe/daemon.json, key: [features, a.b], value: [1, null, \"ü\"] }
",
        checks: &["jq -e '. == {\"log-opts\": {\"max-size\": \"10m\"}, \"features\": {\"a.b\": [1, null, \"ü\"]}}' /srv/probe/daemon.json"],
    },
];

/// What the resources notify.
pub(super) const HANDLERS: &str = "
handlers:
  restart journald: { service: { name: systemd-journald, state: restarted } }
";
