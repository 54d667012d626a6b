//! What must be seen on a builder of each recipe, once it is applied.

/// A recipe with inputs, and what must be seen on the builder.
pub(super) struct Case {
    pub(super) recipe: &'static str,
    /// The recipe with its inputs; nothing if it comes with another one of its group.
    pub(super) wanted: &'static str,
    pub(super) checks: &'static [&'static str],
}

/// Recipes that do not contradict each other are baked together, in the order in which they are written.
pub(super) const GROUPS: &[(&str, &[Case])] = &[("plain", PLAIN), ("levels", LEVELS), ("services", SERVICES)];

const PLAIN: &[Case] = &[
    Case {
        recipe: "packages",
        wanted: "packages: { install: [jq, procps], remove: [tzdata] }",
        checks: &["jq --version", "sh -c '! dpkg-query --show tzdata'"],
    },
    Case {
        recipe: "hardening",
        wanted: "hardening: { umask: '077', journal_size: 300M }",
        checks: &[
            "bash -lc 'test $(umask) = 0077 && test $(ulimit -c) = 0 && test $TMOUT = 900'",
            "sh -c 'passwd --status root | grep -q \"^root L \"'",
            "sh -c 'systemd-analyze cat-config systemd/journald.conf | grep -q SystemMaxUse=300M'",
            // Of two files that set a key the later wins.
            "sh -c 'test \"$(systemd-analyze cat-config sysctl.d | grep ^kernel.kptr_restrict | tail -n1 | tr -d \" \")\" = kernel.kptr_restrict=2'",
            "sh -c 'test \"$(systemd-analyze cat-config sysctl.d | grep ^net.ipv4.ip_forward | tail -n1 | tr -d \" \")\" = net.ipv4.ip_forward=0'",
            "sh -c 'useradd --create-home probe && test $(stat --format=%a /home/probe) = 700'",
            // The lowest level takes nothing away that servers need.
            "sh -c '! test -e /etc/sudoers.d/00-hardening && ! grep -q /tmp /etc/fstab'",
            "grep -qx 'Hardened to the level baseline.' /etc/hardening/report",
        ],
    },
    Case {
        recipe: "sshd",
        wanted: "sshd: { port: 2222, allow_groups: [ops], banner: false }",
        checks: &[
            "sh -c 'sshd -T | grep -qx \"port 2222\"'",
            "sh -c 'sshd -T | grep -qx \"permitrootlogin no\"'",
            "sh -c 'sshd -T | grep -qx \"passwordauthentication no\"'",
            "sh -c 'sshd -T | grep -qx \"allowgroups ops\"'",
            "sh -c 'sshd -T | grep -qx \"banner none\"'",
            "sh -c 'sshd -T | grep -qx \"disableforwarding yes\"'",
            "bash -c 'exec 3<>/dev/tcp/127.0.0.1/2222; read -r line <&3; [[ $line == SSH-2.0-* ]]'",
            "sh -c '! awk \"\\$5 < 3071 { found = 1 } END { exit !found }\" /etc/ssh/moduli'",
        ],
    },
    Case {
        recipe: "firewall",
        wanted: "firewall: { allow: [ { port: 22, from: 10.0.0.0/8, rate: 10/minute }, { port: 53, protocol: udp } ], outgoing: [ { port: 443 } ] }",
        checks: &[
            "nft -c -f /etc/nftables.conf",
            "sh -c 'grep -qx \" *ip saddr 10.0.0.0/8 tcp dport 22 limit rate 10/minute accept\" /etc/nftables.conf'",
            "sh -c 'grep -A9 hook.output /etc/nftables.conf | grep -q policy.drop'",
            "systemctl is-enabled --quiet nftables",
            // A builder has no rules: it may share its kernel.
            "sh -c 'test -z \"$(nft list ruleset)\"'",
        ],
    },
    Case {
        recipe: "logrotate",
        wanted: "logrotate: { keep: 3, logs: [ { name: app, path: /var/log/app/*.log } ] }",
        checks: &[
            "sh -ec 'mkdir -p /var/log/app; echo one > /var/log/app/a.log; logrotate --force /etc/logrotate.conf; ls /var/log/app/a.log-*; test ! -s /var/log/app/a.log'",
            "systemctl is-active --quiet logrotate.timer",
        ],
    },
    Case {
        recipe: "nginx",
        wanted: "nginx: { worker_connections: 2048, max_body_size: 8m }",
        checks: &[
            "nginx -t -q",
            "sh -c 'nginx -T 2>/dev/null | grep -q \"client_max_body_size 8m;\"'",
            "bash -c 'exec 3<>/dev/tcp/127.0.0.1/80; printf \"GET /healthz HTTP/1.0\\r\\n\\r\\n\" >&3; grep -q \"200 OK\" <&3'",
        ],
    },
];

const LEVELS: &[Case] = &[Case {
    recipe: "hardening",
    // Each exception leaves its control out and the others in, and the reason is on the host.
    wanted: "packages: { install: [procps] }, \
             hardening: { level: anssi-high, exceptions: [ { control: mounts, reason: builds run programs in /tmp }, \
             { control: su, reason: an old script needs su }, { control: usb, reason: a dongle has the licence } ] }",
    checks: &[
        "bash -lc 'test $(umask) = 0077 && test $TMOUT = 600'",
        "sh -c '! grep -q /tmp /etc/fstab && grep -q hidepid=2 /etc/fstab'",
        "sh -c '! grep -q pam_wheel.so.*sugroup /etc/pam.d/su'",
        "sh -c '! dpkg-query --show usbguard'",
        "sh -c '! grep -q usb-storage /etc/modprobe.d/99-hardening.conf && grep -q \"install cramfs\" /etc/modprobe.d/99-hardening.conf'",
        "grep -qx 'Without mounts: builds run programs in /tmp' /etc/hardening/report",
        "visudo --check",
        // Who has failed three times is locked out, with the right password too, and root can open it again.
        "sh -ec 'useradd ada; for n in 1 2 3; do faillock --user ada | grep -q V || true; done; chage --list ada | grep -q \"days.*: 365\"'",
        "sh -c 'test $(stat --format=%a /usr/bin/chfn /usr/bin/mount | sort -u) = 755'",
        "sh -c 'test \"$(systemd-analyze cat-config sysctl.d | grep ^net.ipv4.conf.all.arp_ignore | tail -n1 | tr -d \" \")\" = net.ipv4.conf.all.arp_ignore=2'",
    ],
}];

const SERVICES: &[Case] = &[
    Case {
        recipe: "reverse-proxy",
        wanted: "packages: { install: [curl, procps] }, reverse-proxy: { sites: [ { name: app, upstreams: ['127.0.0.1:8080', '127.0.0.1:8081'] } ] }",
        checks: &[
            "nginx -t -q",
            // One of the two servers is not there, and nobody notices.
            "sh -ec 'systemd-run --quiet --unit=app sh -c \"mkdir -p /run/app && cd /run/app && echo served > index.html && exec python3 -m http.server 8081\"; for n in $(seq 50); do curl -ksSf https://localhost/ | grep -qx served && exit; sleep 0.1; done; exit 1'",
            "sh -c 'test \"$(curl -s -o /dev/null -w \"%{http_code} %{redirect_url}\" -H Host:site http://localhost/x)\" = \"301 https://site/x\"'",
            "sh -c 'curl -ksSI https://localhost/ | grep -qi \"^strict-transport-security: max-age=31536000\"'",
            "sh -c '! curl -ksS --tls-max 1.1 https://localhost/'",
            "sh -c 'curl -ksS --tls-max 1.2 --ciphers DHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384 https://localhost/'",
            // The key is in memory only.
            "sh -c 'test $(stat --file-system --format=%T /run/nginx-tls/key.pem) = tmpfs'",
        ],
    },
    Case {
        recipe: "redis",
        wanted: "redis: { max_memory: 64mb, when_full: allkeys-lru }",
        checks: &[
            "sh -c 'redis-cli set a 1 | grep -qx OK && redis-cli get a | grep -qx 1'",
            "sh -c 'redis-cli config get maxmemory | grep -qx 67108864'",
            "sh -c 'redis-cli debug sleep 0 2>&1 | grep -q \"not allowed\"'",
            // What was written is there after a restart.
            "sh -ec 'redis-cli set kept yes; sleep 1.2; systemctl restart redis-server; redis-cli get kept | grep -qx yes'",
        ],
    },
    Case {
        recipe: "postgresql",
        wanted: "postgresql: { connections: 50, networks: [10.0.0.0/8] }",
        checks: &[
            "runuser -u postgres -- psql -c 'create table if not exists t (n int); insert into t values (1); select n from t'",
            "sh -c 'runuser -u postgres -- psql -Atc \"show max_connections\" | grep -qx 50'",
            // A role with a password would be a leak in the image: its hash stays in the pages of the table.
            "sh -c 'runuser -u postgres -- psql -Atc \"show password_encryption\" | grep -qx scram-sha-256'",
            "sh -ec 'runuser -u postgres -- psql -c \"create role app login\"; ! PGPASSWORD=y psql -h 127.0.0.1 -U app -d postgres -c \"select 1\"'",
            "sh -c '! test -e /etc/ssl/private/ssl-cert-snakeoil.key'",
        ],
    },
    Case {
        recipe: "mariadb",
        wanted: "mariadb: { connections: 50 }",
        checks: &[
            "mariadb --execute 'create database if not exists probe; create or replace table probe.t (n int); insert into probe.t values (1); select n from probe.t'",
            "sh -c 'mariadb -BNe \"select @@max_connections\" | grep -qx 50'",
            "sh -c 'mariadb -BNe \"select @@local_infile\" | grep -qx 0'",
            "sh -c 'ss -Htln | grep :3306 | grep -q 127.0.0.1'",
        ],
    },
    Case {
        recipe: "metrics",
        wanted: "metrics",
        checks: &[
            "sh -c 'curl -sSf http://127.0.0.1:9100/metrics | grep -q ^node_cpu_seconds_total'",
            "sh -c 'sar -u 1 1 | grep -q Average'",
        ],
    },
    Case {
        recipe: "logs",
        wanted: "logs: { server: logs.example.com, tls: false, elasticsearch: 'http://127.0.0.1:9200' }",
        checks: &[
            "rsyslogd -N1",
            "sh -ec 'logger probe-of-logs; for n in $(seq 50); do grep -q probe-of-logs /var/log/syslog && exit; sleep 0.1; done; exit 1'",
            "sh -c 'test $(stat --format=%a /var/log/syslog) = 640'",
            // What speaks as Elasticsearch gets the entries, with the index of the day.
            "sh -ec 'systemctl is-active --quiet es || { systemd-run --quiet --unit=es python3 -c \"import sys, http.server as h; answer = lambda s: (open(sys.argv[1], sys.argv[2]).write(s.rfile.read(int(s.headers.get(sys.argv[3], 0)))), s.send_response(200), s.end_headers(), s.wfile.write(sys.argv[4].encode())); h.HTTPServer((sys.argv[5], 9200), type(sys.argv[1], (h.BaseHTTPRequestHandler,), dict(do_GET=answer, do_HEAD=answer, do_POST=answer))).serve_forever()\" /run/got ab content-length {} 127.0.0.1; sleep 1; systemctl restart rsyslog; }; for n in $(seq 60); do logger shipped-entry; grep -q shipped-entry /run/got 2> /dev/null && grep -q logs-20 /run/got && exit; sleep 0.2; done; journalctl --no-pager -u rsyslog -u es; exit 1'",
        ],
    },
    Case {
        recipe: "fail2ban",
        wanted: "fail2ban: { ssh_port: 2222, max_retry: 3 }",
        checks: &[
            "sh -c 'fail2ban-client status sshd'",
            "sh -c 'fail2ban-client get sshd maxretry | grep -qx 3'",
        ],
    },
    Case {
        recipe: "updates",
        wanted: "updates: { reboot: true, restart: list }",
        checks: &[
            "sh -c 'apt-config dump | grep -q \"Unattended-Upgrade::Automatic-Reboot .true.\"'",
            "sh -c 'apt-config dump | grep -q \"Acquire::AllowInsecureRepositories .false.\"'",
            // It would install what is new, and says so.
            "sh -c 'unattended-upgrade --dry-run --verbose 2>&1 | grep -q \"Allowed origins are\"'",
            "perl -e 'our %nrconf; do \"/etc/needrestart/conf.d/50-recipe.conf\"; exit($nrconf{restart} ne \"l\")'",
        ],
    },
    Case {
        recipe: "time",
        wanted: "time: { servers: [time.example.com] }",
        checks: &[
            "chronyd -p -f /etc/chrony/chrony.conf",
            "sh -c 'chronyd -p -f /etc/chrony/chrony.conf | grep -q \"server 169.254.169.123 prefer\"'",
            "systemctl is-enabled --quiet chrony",
        ],
    },
    Case {
        recipe: "localization",
        wanted: "localization: { timezone: Europe/Berlin, generate: [de_DE.UTF-8] }",
        checks: &[
            "sh -c 'date +%Z | grep -qE \"CES?T\"'",
            "sh -c 'LC_ALL=de_DE.UTF-8 locale -k d_fmt | grep -q %d.%m.%Y'",
        ],
    },
    Case {
        recipe: "swap",
        wanted: "swap: { size: 16M }",
        checks: &[
            "sh -c 'test \"$(blkid -o value -s TYPE /swapfile)\" = swap && test $(stat --format=%a /swapfile) = 600'",
            "grep -q '^/swapfile' /etc/fstab",
        ],
    },
    Case {
        recipe: "tuning",
        wanted: "tuning: { connections: 8192 }",
        checks: &[
            "sh -c 'systemd-analyze cat-config sysctl.d | grep -q \"^net.core.somaxconn *= *8192\"'",
            "sh -c 'systemd-analyze cat-config systemd/system.conf | grep -qx DefaultLimitNOFILE=1024:65536'",
        ],
    },
    Case {
        recipe: "docker",
        wanted: "docker: { log_size: 5m }",
        checks: &["grep -q 5m /etc/docker/daemon.json", "systemctl is-enabled --quiet docker"],
    },
    Case {
        recipe: "ci-runner",
        wanted: "ci-runner: { docker: false }",
        checks: &[
            "runuser -u ci -- sh -ec 'cd; git init -q probe; cd probe; echo x > a; git add a; git -c user.name=a -c user.email=a@b commit -qm a; git log --oneline'",
        ],
    },
    Case {
        recipe: "keepalived",
        wanted: "keepalived: { addresses: [10.9.9.9/24], check: /bin/true, peers: [10.9.9.2] }",
        checks: &["grep -q 10.9.9.2 /etc/keepalived/keepalived.conf"],
    },
    Case {
        recipe: "zookeeper",
        wanted: "zookeeper: { heap: 64m }",
        checks: &["bash -c 'exec 3<>/dev/tcp/127.0.0.1/2181; printf ruok >&3; grep -q imok <&3'"],
    },
    // These two look at what is there.
    Case {
        recipe: "audit",
        wanted: "packages: { install: [aide-common, cron] }, audit",
        checks: &[
            "sh -c 'augenrules --check | grep -q \"No change\"'",
            "sh -c 'grep -q path=/usr/bin/su /etc/audit/audit.rules && grep -qx -- \"-e 2\" /etc/audit/audit.rules'",
            "sh -c 'test $(stat --format=%a /etc/audit/audit.rules) = 640'",
        ],
    },
    Case {
        recipe: "integrity",
        wanted: "integrity",
        checks: &[
            // That it tells what was changed, and nothing else, is shown on the hardened host.
            "sh -c 'debsums --silent apt'",
            "systemctl is-enabled --quiet aidecheck.timer",
        ],
    },
];
