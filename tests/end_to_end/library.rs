//! Each recipe of the library, converged in a container, with its service seen working.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use baker::image::Chain;
use testbed::binaries;
use testbed::cloud::Cloud;
use testbed::host::{Disk, Host};
use testbed::workspace::{Workspace, image};
use testbed::world::World;

use crate::Outcome;
use crate::boot::{AGENT, status_of};

/// A recipe with inputs, and what must be seen on the builder once it is applied.
struct Case {
    recipe: &'static str,
    wanted: &'static str,
    checks: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        recipe: "packages",
        wanted: "packages: { install: [jq], remove: [tzdata] }",
        checks: &["jq --version", "sh -c '! dpkg-query --show tzdata'"],
    },
    Case {
        recipe: "hardening",
        wanted: "packages: { install: [procps] }, hardening: { umask: '077', journal_size: 300M }",
        checks: &[
            "bash -lc 'test $(umask) = 0077 && test $(ulimit -c) = 0 && test $TMOUT = 900'",
            "sh -c 'passwd --status root | grep -q \"^root L \"'",
            "sh -c 'systemd-analyze cat-config systemd/journald.conf | grep -q SystemMaxUse=300M'",
            // Of two files that set a key the later wins.
            "sh -c 'test \"$(systemd-analyze cat-config sysctl.d | grep ^kernel.kptr_restrict | tail -n1 | tr -d \" \")\" = kernel.kptr_restrict=2'",
            "sh -c 'test \"$(systemd-analyze cat-config sysctl.d | grep ^net.ipv4.ip_forward | tail -n1 | tr -d \" \")\" = net.ipv4.ip_forward=0'",
            "sh -c 'useradd --create-home probe && test $(stat --format=%a /home/probe) = 700'",
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
            "bash -c 'exec 3<>/dev/tcp/127.0.0.1/2222; read -r line <&3; [[ $line == SSH-2.0-* ]]'",
            "sh -c '! awk \"\\$5 < 3071 { found = 1 } END { exit !found }\" /etc/ssh/moduli'",
        ],
    },
    Case {
        recipe: "firewall",
        wanted: "firewall: { allow: [ { port: 22, from: 10.0.0.0/8 }, { port: 53, protocol: udp } ] }",
        checks: &[
            "nft -c -f /etc/nftables.conf",
            "sh -c 'grep -qx \" *ip saddr 10.0.0.0/8 tcp dport 22 accept\" /etc/nftables.conf'",
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

/// What is applied at boot is seen working there.
const AT_BOOT: &[&str] = &["bootstrap-agent", "web-site"];

#[test]
fn every_recipe_has_a_case() -> Outcome {
    let there: BTreeSet<String> = fs::read_dir(binaries::project().join("recipes/library"))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let cases = CASES.iter().map(|case| case.recipe).chain(AT_BOOT.iter().copied());
    assert_eq!(there, cases.map(str::to_owned).collect());
    Ok(())
}

fn converges(recipe: &str) -> Outcome {
    let case = CASES.iter().find(|case| case.recipe == recipe).ok_or("there is no such case")?;
    let checks: String = case
        .checks
        .iter()
        .map(|check| format!("  - command: {{ argv: {}, within: 5s }}\n", serde_json::json!(check)))
        .collect();
    let definition = format!(
        "source: {{ local: {{ suite: bookworm }} }}\nrecipes: [ {} ]\nchecks:\n{checks}",
        case.wanted
    );
    let workspace = Workspace::new()?.with("images/one.yaml", &definition)?;
    workspace.bake("one")?;
    Ok(())
}

#[test]
fn packages_come_and_go() -> Outcome {
    converges("packages")
}

#[test]
fn hardening_takes_effect() -> Outcome {
    converges("hardening")
}

#[test]
fn sshd_is_as_it_is_told() -> Outcome {
    converges("sshd")
}

#[test]
fn firewall_rules_are_valid_and_not_loaded_by_a_bake() -> Outcome {
    converges("firewall")
}

#[test]
fn logs_are_rotated() -> Outcome {
    converges("logrotate")
}

#[test]
fn nginx_serves() -> Outcome {
    converges("nginx")
}

/// On a host of an image, all of its recipes are true, on whatever it has become by sealing and booting.
#[test]
fn a_host_of_an_image_needs_no_change() -> Outcome {
    let cache = tempfile::tempdir()?;
    let definition = binaries::project().join("images/web.yaml");
    let chain = Chain::load(&definition, &BTreeMap::new(), &[], cache.path())
        .map_err(|problems| problems.to_string())?;
    assert_eq!(chain.images.len(), 2);
    for plan in &chain.images {
        let cloud = Cloud::prod()?;
        let host = cloud.boot(Disk::of_image(&image(&plan.name)?)?)?;
        status_of(&host)?;
        let folder = host.disk().tree().join("root/bundle");
        for (path, bytes) in plan.bundle()? {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().ok_or("no folder")?)?;
            fs::write(path, bytes)?;
        }
        let planned = host.run(&[AGENT, "plan", "--detailed-exitcode", "/root/bundle"])?;
        let text = String::from_utf8_lossy(&planned.stdout).into_owned();
        assert_eq!(planned.status.code(), Some(0), "{}: {text}", plan.name);
        let applied = host.output(&[AGENT, "apply", "--format", "json", "/root/bundle"])?;
        let applied = applied.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let finished: Vec<_> = applied.filter(|event| event["event"] == "resource_finished").collect();
        assert!(
            finished.len() > 5 && finished.iter().all(|event| event["outcome"] == "unchanged"),
            "{finished:?}"
        );
    }
    Ok(())
}

#[test]
fn ssh_lets_in_members_with_a_key_and_nobody_else() -> Outcome {
    let world = World::new()?;
    let host = Host::boot(Disk::of_image(&image("base")?)?, world.place(2)?)?;
    let keys = tempfile::tempdir()?;
    let key = keys.path().join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
    assert!(made.success());
    let public = fs::read_to_string(key.with_extension("pub"))?;
    for (user, groups) in [("member", "ssh-users"), ("other", "games")] {
        host.output(&["useradd", "--create-home", "--shell", "/bin/bash", "--groups", groups, user])?;
        let add = format!(
            "install -d -m 700 -o {user} ~{user}/.ssh; echo '{}' > ~{user}/.ssh/authorized_keys",
            public.trim()
        );
        host.output(&["bash", "-ec", &add])?;
    }
    host.output(&[
        "bash",
        "-ec",
        &format!("install -d -m 700 /root/.ssh; echo '{}' > /root/.ssh/authorized_keys", public.trim()),
    ])?;
    let host_key = host.output(&["cat", "/etc/ssh/ssh_host_ed25519_key.pub"])?;
    let known = keys.path().join("known_hosts");
    fs::write(&known, format!("{} {host_key}", World::address(2)))?;
    let login = |user: &str, options: &[&str]| {
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o"])
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .args(options)
            .arg(format!("{user}@{}", World::address(2)))
            .arg("id -un");
        world.within(|| command.output())
    };
    let with_key = ["-i", &key.display().to_string()];
    let member = login("member", &with_key)?;
    assert_eq!(
        String::from_utf8_lossy(&member.stdout),
        "member\n",
        "{}",
        String::from_utf8_lossy(&member.stderr)
    );
    for (user, options) in
        [("other", &with_key[..]), ("root", &with_key), ("member", &["-o", "PubkeyAuthentication=no"])]
    {
        let refused = login(user, options)?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("Permission denied (publickey)"), "{user}: {said}");
    }
    Ok(())
}
