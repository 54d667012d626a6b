//! An image, judged by scanners that we did not write, on a host that is booted from it: in a container, or on a virtual
//! machine.
//!
//! Lynis, `OpenSCAP` with the SCAP Security Guide and systemd-analyze run on the host (`tests/judge/inside.sh`), from a
//! folder that is not a part of the image; ssh-audit asks it from outside, and gitleaks reads its tree before it is booted.

mod tools;
mod verdict;

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value as Json;

pub use tools::Tools;
pub use verdict::{Ssh, Verdict};

use crate::host::{Disk, Host};
use crate::machine::{ADDRESS, Machine};
use crate::world::World;

/// Where the host sees the scanners.
const THERE: &str = "/run/judge";

/// The number of the host in its world.
const NUMBER: u8 = 2;

/// The profiles whose rules are to hold.
pub const CIS: [&str; 2] = ["cis_level1_server", "cis_level2_server"];

/// Those that are told besides.
pub const ANSSI: [&str; 2] = ["anssi_bp28_minimal", "anssi_bp28_high"];

/// Has all scanners look at an image in a container; `OpenSCAP` with these profiles of the SCAP Security Guide.
///
/// # Errors
/// When the image does not boot, or a scanner does not run.
pub fn judge(image: &Path, tools: &Tools, profiles: &[&str]) -> io::Result<Verdict> {
    let disk = Disk::of_image(image)?;
    let leaks = leaks(&disk, tools)?;
    let world = World::new()?;
    let binds = vec![(tools.folder().to_owned(), THERE.into())];
    let host = Host::boot_with(disk, world.place(NUMBER)?, binds)?;
    // Who asks a server as much as ssh-audit does is banned.
    host.run(&["systemctl", "stop", "fail2ban"])?;
    let ssh = ssh_audit(&world, &host, tools)?;
    host.run(&["systemctl", "start", "fail2ban"])?;
    let script = format!("{THERE}/inside.sh");
    let findings = host.output(&[&["sh", &script], profiles].concat())?;
    Verdict::new(&findings, ssh, leaks).map_err(io::Error::other)
}

/// The same on a virtual machine, for the profiles of [`CIS`]. Everything takes longer there, so rules are asked for once: those of
/// level 1 are all in level 2, with the same values.
///
/// # Errors
/// When the image does not boot, or a scanner does not run.
pub fn judge_on_machine(image: &Path, tools: &Tools) -> io::Result<Verdict> {
    let [level_1, level_2] = CIS;
    let disk = Disk::of_image(image)?;
    let leaks = leaks(&disk, tools)?;
    let settings = disk.read("/etc/ssh/sshd_config")?;
    let port = settings.lines().find_map(|line| line.strip_prefix("Port ")?.parse().ok()).unwrap_or(22);
    let world = World::new()?;
    let mut machine = Machine::boot(&disk, tools.folder(), &world, port)?;
    machine.until("up")?;
    let ssh = ask(&world, ADDRESS, &port.to_string(), tools)?;
    machine.say(level_2)?;
    let findings = machine.until("end")?;
    let mut verdict = Verdict::new(&findings, ssh, leaks).map_err(io::Error::other)?;
    let rules = tools.rules(level_1)?;
    let mut results = verdict.profiles.get(level_2).cloned().unwrap_or_default();
    results.retain(|rule, _| rules.contains(rule));
    verdict.profiles.insert(level_1.into(), results);
    Ok(verdict)
}

/// What a scanner for secrets finds in a tree, but for what is in packages, and public.
fn leaks(disk: &Disk, tools: &Tools) -> io::Result<Vec<String>> {
    let tree = disk.tree();
    let report = tree.with_extension("leaks.json");
    let output = tools
        .program("gitleaks")
        .args(["dir", "--no-banner", "--redact", "--log-level=error", "--exit-code=0"])
        .arg("--report-format=json")
        .arg(format!("--report-path={}", report.display()))
        .arg(&tree)
        .stdin(Stdio::null())
        .output()?;
    let text = fs::read_to_string(&report)
        .map_err(|_| io::Error::other(format!("gitleaks: {}", String::from_utf8_lossy(&output.stderr))))?;
    let found: Vec<Json> =
        serde_json::from_str(&text).map_err(|error| io::Error::other(format!("gitleaks: {error}")))?;
    let mut leaks = Vec::new();
    for leak in &found {
        let file = leak["File"].as_str().unwrap_or_default();
        let path = file.trim_start_matches(&*tree.to_string_lossy()).trim_start_matches('/');
        if !is_of_a_package(&tree, path)? {
            leaks.push(format!("{} in /{path}", leak["RuleID"].as_str().unwrap_or_default()));
        }
    }
    Ok(leaks)
}

/// Whether a file is just as a package brought it, or is what dpkg writes down about packages.
fn is_of_a_package(tree: &Path, path: &str) -> io::Result<bool> {
    if path.starts_with("var/lib/dpkg/") {
        return Ok(true);
    }
    let output = Command::new("md5sum").arg(tree.join(path)).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sum = text.split_whitespace().next().unwrap_or_default();
    for list in fs::read_dir(tree.join("var/lib/dpkg/info"))? {
        let list = list?.path();
        if list.extension().is_some_and(|extension| extension == "md5sums")
            && fs::read_to_string(list)?.lines().any(|line| line == format!("{sum}  {path}"))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What ssh-audit says of the server of a host, and of its own policy for hardened hosts of this release.
///
/// # Errors
/// When it does not answer.
pub fn ssh_audit(world: &World, host: &Host, tools: &Tools) -> io::Result<Ssh> {
    let settings = host.output(&["/usr/sbin/sshd", "-T"])?;
    let port = settings.lines().find_map(|line| line.strip_prefix("port ")).unwrap_or("22").to_owned();
    // It starts when its keys are there, which a new host makes.
    let up = "until ss -Htln | grep -q \":$0 \"; do sleep 0.2; done";
    host.output(&["timeout", "180", "bash", "-c", up, &port])?;
    ask(world, &World::address(NUMBER), &port, tools)
}

fn ask(world: &World, address: &str, port: &str, tools: &Tools) -> io::Result<Ssh> {
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(tools.ssh_audit());
        // Its test of denial of service competes with the limits of the server and of the firewall.
        command.args(["--json", "--skip-rate-test", "--timeout=60", "--port", port]).args(arguments);
        command.arg(address).stdin(Stdio::null());
        world.within(|| command.output())
    };
    let parse = |bytes: &[u8]| -> io::Result<Json> {
        serde_json::from_slice(bytes).map_err(|error| {
            io::Error::other(format!("ssh-audit: {error}: {}", String::from_utf8_lossy(bytes)))
        })
    };
    let algorithms = parse(&ask(&[])?.stdout)?;
    let policy = parse(&ask(&["--policy", "Hardened Debian 12 (version 3)"])?.stdout)?;
    Ok(Ssh::new(&algorithms, policy["passed"].as_bool().unwrap_or(false)))
}
