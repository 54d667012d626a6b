//! The hardened image: what scanners say of it, and that it still works.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Output;
use std::time::Duration;

use testbed::apt;
use testbed::binaries;
use testbed::cloud::Cloud;
use testbed::host::Disk;
use testbed::judge::{CIS, Tools, Verdict, judge};
use testbed::person::{Person, said};
use testbed::workspace::image;
use testbed::world::{Place, World};

use crate::Outcome;
use crate::boot::{AGENT, status_of};

/// The rules that do not hold where an image is judged, as the page says, with the reasons that it gives: in a container
/// or on a machine, or in both.
fn exceptions(place: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let page = fs::read_to_string(binaries::project().join("docs/hardening.md"))?;
    let (_, table) = page.split_once("\n## Rules that do not hold\n").ok_or("the page has no list")?;
    let rows = table.lines().take_while(|line| !line.starts_with("## ")).filter_map(|line| {
        let (rule, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (places, reason) = rest.split_once(" | ")?;
        assert!(reason.len() > 20, "{rule} has no reason");
        ["both", place].contains(&places).then(|| rule.to_owned())
    });
    Ok(rows.collect())
}

/// What docs/hardening.md promises wherever an image is judged, with these floors: Lynis, and levels 1 and 2 of CIS in tenths of a
/// percent.
pub(crate) fn is_as_good_as_the_page_says(
    verdict: &Verdict,
    place: &str,
    floors: (u32, usize, usize),
) -> Outcome {
    let (lynis, level_1, level_2) = floors;
    assert!(verdict.lynis >= lynis, "{verdict}\n{:#?}", verdict.suggestions);
    let failed: BTreeSet<String> = verdict.failed_rules("cis").into_iter().map(str::to_owned).collect();
    assert_eq!(failed, exceptions(place)?, "each rule that does not hold is on the page, and no other");
    assert!(verdict.per_mille("cis_level1_server") >= level_1, "{verdict}");
    assert!(verdict.per_mille("cis_level2_server") >= level_2, "{verdict}");
    assert!(verdict.counts("cis_level2_server").0 > 400, "rules were left out: {verdict}");
    assert_eq!(verdict.ssh.failures, Vec::<String>::new());
    assert_eq!(verdict.leaks, Vec::<String>::new());
    assert_eq!(verdict.failed_units, Vec::<String>::new());
    assert_eq!(verdict.listening, ["tcp 0.0.0.0:2222 sshd", "tcp [::]:2222 sshd"]);
    Ok(())
}

#[test]
fn scanners_find_the_hardened_image_as_good_as_the_page_says() -> Outcome {
    let verdict = judge(&image("hardened")?, &Tools::get()?, &CIS)?;
    println!("{verdict}");
    is_as_good_as_the_page_says(&verdict, "container", (92, 965, 950))
}

/// Logs in, without being asked anything.
fn login(person: &Person, at: &Place, user: &str, command: &str) -> std::io::Result<Output> {
    let destination = format!("{user}@{}", World::address(2));
    person.ssh(Some(at), 2222).args(["-o", "BatchMode=yes", &destination, command]).output()
}

#[test]
fn the_hardened_image_still_works() -> Outcome {
    let cloud = Cloud::prod()?;
    let disk = Disk::of_image(&image("hardened-web")?)?;
    // As every disk has it, but no tree.
    fs::create_dir(disk.tree().join("lost+found"))?;
    let host = cloud.boot(disk)?;
    // The agent boots it, and nginx serves.
    assert_eq!(status_of(&host)?["state"], "done");
    let page = cloud.get("/")?;
    assert!(page.status == 200 && page.body.contains("Hello from prod"), "{}", page.body);
    let looked = "while systemctl is-active --quiet aidecheck; do sleep 0.2; done";
    host.output(&["bash", "-c", looked])?;
    let failed = host.output(&["systemctl", "--failed", "--plain", "--no-legend"])?;
    assert_eq!(failed, "");

    // A person with a key logs in and uses sudo; others do not.
    cloud.world.let_hosts_meet()?;
    let (friend, enemy) = (cloud.world.place(3)?, cloud.world.place(4)?);
    let person = Person::new()?;
    let public = person.public()?;
    let users = format!(
        "resources:\n  - include: {{ users: {{ people: [ {{ name: ada, keys: ['{public}'], sudo: true }}, {{ name: eve, keys: ['{public}'] }} ] }} }}\n"
    );
    let applied = host.put("users", &users)?;
    host.output(&[AGENT, "apply", "--format", "json", &applied])?;
    let root = login(&person, &friend, "ada", "sudo --non-interactive id --user && umask")?;
    assert_eq!(String::from_utf8_lossy(&root.stdout), "0\n0027\n", "{}", said(&root));
    let eve = login(&person, &friend, "eve", "sudo --non-interactive id --user || su -c id")?;
    assert!(!eve.status.success(), "{}", said(&eve));
    assert!(host.disk().read("/var/log/sudo.log")?.contains("ada"));

    // apt installs, also what asks questions with programs that it unpacks.
    let repository = host.disk().tree().join("srv/repository");
    let asks = apt::Scripted {
        name: "asks",
        fields: "",
        scripts: &[("config", "#!/bin/sh\necho run > /var/lib/asks\n"), ("postinst", "#!/bin/sh\nexit 0\n")],
    };
    apt::repository_with_scripts(&repository, &[asks])?;
    let install = "echo 'deb [signed-by=/srv/repository/key.asc] file:/srv/repository ./' > /etc/apt/sources.list.d/here.list; \
                   apt-get update --quiet -o Dir::Etc::SourceList=/dev/null; DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet asks";
    host.output(&["sh", "-ec", install])?;
    host.output(&["dpkg-query", "--show", "asks"])?;

    // Logs rotate.
    host.output(&["sh", "-ec", "logger one; logrotate --force /etc/logrotate.conf; ls /var/log/syslog-* /var/log/sudo.log-* || ls /var/log/syslog-*; logger two; sleep 0.5; grep -q two /var/log/syslog"])?;

    // The firewall lets nobody in elsewhere, and only root to the metadata service.
    let listen = "systemd-run --quiet --unit=open bash -c 'exec python3 -m http.server 8080'; for try in $(seq 50); do ss -Htln | grep -q :8080 && exit; sleep 0.1; done; exit 1";
    host.output(&["bash", "-c", listen])?;
    let reached = |port: u16| {
        let address: SocketAddr = format!("{}:{port}", World::address(2)).parse().expect("an address");
        cloud.world.within(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok())
    };
    assert!(reached(80) && !reached(8080));
    let metadata = "exec 3<>/dev/tcp/169.254.169.254/80";
    assert!(host.run(&["bash", "-c", metadata])?.status.success());
    assert!(!host.run(&["runuser", "-u", "nobody", "--", "bash", "-c", metadata])?.status.success());
    // Nothing is run from where everybody writes, once the host's own mount is in place.
    let scripts = "systemctl reload tmp.mount; for folder in /tmp /dev/shm /var/tmp; do cp /bin/true $folder/probe; $folder/probe 2> /dev/null && exit 1; rm $folder/probe; done; exit 0";
    host.output(&["bash", "-c", scripts])?;

    // Who guesses is banned, and nobody else.
    let guesser = Person::new()?;
    for name in ["admin", "oracle", "test", "ubuntu", "postgres", "guest"] {
        let refused = login(&guesser, &enemy, name, "id")?;
        assert!(!refused.status.success());
    }
    let banned = format!(
        "for try in $(seq 100); do fail2ban-client status sshd | grep -q {} && exit; sleep 0.2; done; fail2ban-client status sshd; exit 1",
        World::address(4)
    );
    host.output(&["bash", "-c", &banned])?;
    let refused = login(&guesser, &enemy, "ada", "id")?;
    assert!(
        said(&refused).contains("Connection refused") || said(&refused).contains("timed out"),
        "{}",
        said(&refused)
    );
    assert!(login(&person, &friend, "ada", "true")?.status.success());

    // What was changed on the host is told by its integrity check.
    host.output(&["sh", "-c", "echo more >> /usr/bin/apt-key"])?;
    let told = host.run(&["aide", "--config=/etc/aide/aide.conf", "--check"])?;
    assert!(!told.status.success() && said(&told).contains("/usr/bin/apt-key"), "{}", said(&told));
    Ok(())
}
