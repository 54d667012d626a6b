//! Loading a firewall so that it locks nobody out.
//!
//! The rules in force are saved, and a timer of systemd is set that brings them back; it needs neither this
//! process nor a way in. Then the new rules are loaded in one transaction, and what must still work is tried.
//! Only when it works is the timer stopped. A load that fails, is interrupted or does not prove itself is
//! taken back at once; after one that is killed, or whose way in is cut, the timer does it.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::process::Runner;
use super::session::{self, Connection};
use super::{Linux, failed, state};
use crate::duration::Span;
use crate::op::{Command, Confirm, LoadFirewall};
use crate::system::{EntryKind, FactsError, PerformError};

/// On tmpfs: after a reboot the rules in force are those of the files, and there is nothing to go back to.
const FOLDER: &str = "/run/bootstrap-agent/firewall";

const NFT: &str = "/usr/sbin/nft";

/// The table that counts what comes through the others. It is there only while a load proves itself.
const PROBE: &str = "bootstrap_agent_probe";

/// How much later than this process the timer takes a load back: it is for a process that is gone.
const GRACE: Duration = Duration::from_secs(10);

/// Between two looks at whether something works by now.
const PAUSE: Duration = Duration::from_millis(200);

/// How many looks a packet has time for before the next one is provoked: a second.
const LOOKS: u32 = 5;

/// Whether the kernel has a table just as a file of rules makes it. The file is loaded into a network
/// namespace of its own and both are listed: nft lists rules otherwise than people write them.
pub(super) fn is_loaded(linux: &Linux, rules: &Path, table: &str) -> Result<bool, FactsError> {
    let list = [NFT, "--stateless", "list", "table", "inet", table];
    // Without the table, or without nft, nothing of it is loaded.
    let Ok(loaded) = linux.runner.read(&Command::new(list)) else { return Ok(false) };
    let script = format!("{NFT} -f \"$1\" && exec {NFT} --stateless list table inet \"$2\"");
    let rules = rules.to_string_lossy();
    let wanted = Command::new(["unshare", "--net", "sh", "-c", &script, "sh", &rules, table]);
    let wanted = linux.runner.read(&wanted).map_err(|source| {
        let what = format!("what the rules of `{rules}` are in an empty network namespace");
        FactsError { what, source }
    })?;
    Ok(lasting(&loaded) == lasting(&wanted))
}

/// The listing of a table without the elements of sets that packets or time change.
fn lasting(listing: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let (mut changes, mut in_elements) = (false, false);
    for line in listing.lines() {
        let text = line.trim();
        if text.ends_with('{') && !text.starts_with("elements") {
            changes = false;
        }
        changes |= text.starts_with("flags ") && (text.contains("dynamic") || text.contains("timeout"));
        in_elements |= changes && text.starts_with("elements = {");
        if !in_elements {
            lines.push(text);
        }
        in_elements &= !text.ends_with('}');
    }
    lines
}

/// Loads a table, and takes it back unless it proves itself.
pub(super) fn load(
    linux: &Linux,
    wanted: &LoadFirewall,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    linux.needs_booted_root("load a firewall")?;
    if !linux.host.systemd {
        let message = "cannot load a firewall: systemd does not run this host, so nothing would take it back \
                       if it locked this run out";
        return Err(PerformError::Unsupported(message.into()));
    }
    let rescue = Rescue::new(&wanted.table);
    if linux.tree.entry(&rescue.saved).map_err(failed("look for an earlier load"))?.is_some() {
        output("an earlier load did not come to its end; its rules are taken back first");
        rescue.take_back(linux)?;
    }
    let rules = Path::new(FOLDER).join(format!("{}.nft", wanted.table));
    state::write_durably(&linux.tree, &rules, wanted.ruleset.bytes())?;
    linux.runner.run(&nft(&["-c", "-f"], &rules), output)?;
    rescue.arm(linux, wanted, output)?;
    let loaded = linux.runner.run(&nft(&["-f"], &rules), output);
    // Whoever is killed from here on leaves nothing but what the timer removes.
    let _ = linux.tree.remove(&rules, &EntryKind::File);
    let proven = loaded.map_err(|error| error.to_string()).and_then(|()| {
        let sessions = if wanted.confirm.session { session::connections() } else { Vec::new() };
        prove(linux, &wanted.confirm, &sessions, output)
    });
    match proven {
        Ok(()) => rescue.disarm(linux),
        Err(why) => {
            rescue.take_back(linux)?;
            Err(PerformError::TakenBack(why))
        }
    }
}

fn nft(options: &[&str], file: &Path) -> Command {
    let file = file.to_string_lossy();
    Command::new([NFT].iter().chain(options).copied().chain([file.as_ref()]))
}

/// What brings the rules back that were in force.
struct Rescue {
    /// The commands for nft that do it. Who has done it removes them.
    saved: PathBuf,
    unit: String,
}

impl Rescue {
    fn new(table: &str) -> Self {
        Self {
            saved: Path::new(FOLDER).join(format!("{table}.saved.nft")),
            unit: format!("bootstrap-agent-firewall-{table}"),
        }
    }

    fn arm(
        &self,
        linux: &Linux,
        wanted: &LoadFirewall,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError> {
        let table = wanted.table.as_str();
        let (gone, list): (String, Vec<&str>) = if wanted.flushes {
            ("flush ruleset\n".into(), vec![NFT, "list", "ruleset"])
        } else {
            (removal(table), vec![NFT, "list", "table", "inet", table])
        };
        // A table that is not there cannot be listed, and is not made again.
        let before = linux.runner.read(&Command::new(list)).unwrap_or_default();
        let saved = format!("{}{gone}{before}", removal(PROBE));
        state::write_durably(&linux.tree, &self.saved, saved.as_bytes())?;
        let script = format!("{NFT} -f \"$1\" && rm -f \"$1\"");
        let after = (wanted.confirm.within + GRACE).as_secs();
        let timer = Command::new([
            "systemd-run",
            "--quiet",
            "--collect",
            &format!("--unit={}", self.unit),
            &format!("--on-active={after}"),
            "--timer-property=AccuracySec=1s",
            "/bin/sh",
            "-c",
            &script,
            "sh",
            &self.saved.to_string_lossy(),
        ]);
        let check = nft(&["-c", "-f"], &self.saved);
        let armed = linux.runner.run(&check, output).and_then(|()| linux.runner.run(&timer, output));
        if armed.is_err() {
            // Nothing is loaded yet, so there is nothing to take back.
            let _ = linux.tree.remove(&self.saved, &EntryKind::File);
        }
        armed
    }

    /// Keeps the new rules.
    fn disarm(&self, linux: &Linux) -> Result<(), PerformError> {
        self.stop_timer();
        let removed = linux.tree.remove(&self.saved, &EntryKind::File);
        removed.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PerformError::TakenBack("they proved themselves too late".into()),
            _ => failed(format!("remove `{}`", self.saved.display()))(error),
        })
    }

    /// Brings the old rules back. If that fails, the timer tries again.
    fn take_back(&self, linux: &Linux) -> Result<(), PerformError> {
        // Not the host's runner: an interrupted run starts no more programs there.
        match Runner::default().run(&nft(&["-f"], &self.saved), &mut |_| {}) {
            // The timer was faster.
            Err(_) if linux.tree.entry(&self.saved).is_ok_and(|entry| entry.is_none()) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.stop_timer();
                let _ = linux.tree.remove(&self.saved, &EntryKind::File);
                Ok(())
            }
        }
    }

    /// A timer that has fired is gone, which is no error.
    fn stop_timer(&self) {
        let timer = format!("{}.timer", self.unit);
        let _ = Runner::default().run(&Command::new(["systemctl", "stop", &timer]), &mut |_| {});
    }
}

/// Commands that remove a table, be it there or not.
fn removal(table: &str) -> String {
    format!("table inet {table}\ndelete table inet {table}\n")
}

/// Tries what must work until all of it does or the time is over.
fn prove(
    linux: &Linux,
    confirm: &Confirm,
    sessions: &[Connection],
    output: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let proof = Proof { linux, within: confirm.within, deadline: Instant::now() + confirm.within };
    if !sessions.is_empty() {
        proof.of_session(sessions, output)?;
    }
    for (host, port) in &confirm.tcp {
        proof.until(&format!("`{host}:{port}` cannot be reached"), |left| reaches(host, *port, left))?;
    }
    if let Some(command) = &confirm.command {
        proof.until(&format!("`{command}` does not succeed"), |left| {
            let command = Command { timeout: left, ..command.clone() };
            linux.runner.succeeds(&command).unwrap_or(false)
        })?;
    }
    Ok(())
}

fn reaches(host: &str, port: u16, left: Duration) -> bool {
    let addresses = (host, port).to_socket_addrs();
    addresses.is_ok_and(|mut all| all.any(|address| TcpStream::connect_timeout(&address, left).is_ok()))
}

struct Proof<'a> {
    linux: &'a Linux,
    within: Duration,
    deadline: Instant,
}

impl Proof<'_> {
    fn until(&self, otherwise: &str, mut works: impl FnMut(Duration) -> bool) -> Result<(), String> {
        loop {
            if self.linux.runner.interrupter().is_interrupted() {
                return Err("the run was interrupted before they had proved themselves".into());
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("{otherwise} within {}", Span(self.within)));
            }
            if works(left) {
                return Ok(());
            }
            thread::sleep(PAUSE.min(left));
        }
    }

    /// Packets of the connection have to come in and go out past all other chains, where they are counted.
    /// Those that go out are provoked: a line of output goes to whoever has the other end.
    fn of_session(&self, sessions: &[Connection], output: &mut dyn FnMut(&str)) -> Result<(), String> {
        let path = Path::new(FOLDER).join("probe.nft");
        let probe = format!("{}{}", removal(PROBE), counters(sessions));
        let counting = state::write_durably(&self.linux.tree, &path, probe.as_bytes())
            .and_then(|()| self.linux.runner.run(&nft(&["-f"], &path), output));
        let _ = self.linux.tree.remove(&path, &EntryKind::File);
        counting
            .map_err(|error| format!("the packets of this run's connection cannot be counted: {error}"))?;
        let mut looks = 0;
        let list = Command::new([NFT, "list", "table", "inet", PROBE]);
        let otherwise = format!("no packets of the connection {} went both ways", sessions[0]);
        let proven = self.until(&otherwise, |left| {
            if looks % LOOKS == 0 {
                let left = left.as_secs();
                output(&format!("the rules are loaded; taken back in {left}s unless this line is received"));
            }
            looks += 1;
            self.linux.runner.read(&list).is_ok_and(|listing| both_ways(&counts(&listing)))
        });
        let gone = ["delete", "table", "inet", PROBE];
        let _ = Runner::default().run(&Command::new([NFT].into_iter().chain(gone)), &mut |_| {});
        proven
    }
}

/// A table with a counter for each direction of each connection, behind all filters.
fn counters(sessions: &[Connection]) -> String {
    let chain = |hook: &str, rule: fn(&Connection) -> String| {
        let rules: String = sessions.iter().map(|session| format!("{} counter\n", rule(session))).collect();
        format!("chain {hook} {{\ntype filter hook {hook} priority 300;\n{rules}}}\n")
    };
    let (input, output) = (chain("input", Connection::incoming), chain("output", Connection::outgoing));
    format!("table inet {PROBE} {{\n{input}{output}}}\n")
}

/// What the counters of a listing have counted, in their order.
fn counts(listing: &str) -> Vec<u64> {
    let after = listing.split("counter packets ").skip(1);
    after.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

/// Whether one connection had packets in both directions: all that come in are counted first.
fn both_ways(counts: &[u64]) -> bool {
    let (incoming, outgoing) = counts.split_at(counts.len() / 2);
    incoming.iter().zip(outgoing).any(|(&incoming, &outgoing)| incoming > 0 && outgoing > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packets_and_time_put_into_sets_is_no_difference() {
        let listing = |dynamic: &str, fixed: &str| {
            format!(
                "table inet filter {{\n\tset seen {{\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n{dynamic}\t}}\n\n\tset office {{\n\t\ttype ipv4_addr\n\t\telements = {{ {fixed} }}\n\t}}\n}}\n"
            )
        };
        let one = listing("\t\telements = { 10.0.0.1,\n\t\t\t     10.0.0.2 }\n", "10.0.0.3");
        assert_eq!(lasting(&one), lasting(&listing("", "10.0.0.3")));
        assert_ne!(lasting(&one), lasting(&listing("", "10.0.0.4")));
    }

    #[test]
    fn a_connection_works_when_it_has_packets_both_ways() {
        let listing = |packets: [u64; 4]| {
            let rules: String = packets
                .iter()
                .map(|count| format!("\t\tip saddr 10.0.0.2 counter packets {count} bytes 60\n"))
                .collect();
            counts(&rules)
        };
        assert_eq!(listing([1, 0, 12, 3]), [1, 0, 12, 3]);
        assert!(both_ways(&listing([1, 0, 12, 0])));
        assert!(both_ways(&listing([0, 4, 0, 3])));
        assert!(!both_ways(&listing([1, 0, 0, 3])), "one that only answers and another that only asks");
        assert!(!both_ways(&listing([3, 3, 0, 0])), "packets that are sent again as nothing answers");
        assert!(!both_ways(&counts("")));
    }
}
