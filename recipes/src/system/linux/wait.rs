//! Waiting until something holds, which other programs bring about.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use super::{Linux, failed};
use crate::op::Command;
use crate::system::condition::Condition;
use crate::system::{Facts, FactsError, Known, PerformError};

/// What comes at once is seen at once; what takes longer is looked at less often, and never less than twice a
/// second.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long one connection may take: a dropped packet is sent again after 1 s and 3 s (RFC 6298, 2).
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Waits until a condition holds.
pub(super) fn wait_until(
    linux: &mut Linux,
    condition: &Condition,
    within: Duration,
) -> Result<(), PerformError> {
    let until = Instant::now() + within;
    let mut pause = FIRST_PAUSE;
    loop {
        linux.forget_what_passes();
        if condition.holds(linux)? == Known::Yes(true) {
            return Ok(());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let last = last_seen(linux, condition)?;
            return Err(PerformError::NotSeen { what: condition.to_string(), within, last });
        }
        thread::sleep(pause.min(left));
        if linux.runner.interrupter().is_interrupted() {
            return Err(failed("wait")(io::ErrorKind::Interrupted.into()));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What there is instead.
fn last_seen(linux: &Linux, condition: &Condition) -> Result<String, FactsError> {
    Ok(match condition {
        Condition::Tcp { address } => match connect(address) {
            Ok(()) => "it does now".into(),
            Err(error) => error.to_string(),
        },
        Condition::Exists(_) => "there is nothing".into(),
        Condition::Absent(path) => match linux.entry(path)? {
            Known::Yes(Some(entry)) => format!("there is {}", entry.kind.noun()),
            _ => "it is now".into(),
        },
        Condition::Running(unit) | Condition::Stopped(unit) => {
            let show = ["systemctl", "show", "--value", "--property=ActiveState", "--", unit];
            let failed = |source| FactsError { what: format!("the state of `{unit}`"), source };
            format!("it is {}", linux.runner.read(&Command::new(show)).map_err(failed)?.trim())
        }
        Condition::Succeeds(_) => "it does not".into(),
    })
}

/// Whether something accepts connections at an address.
pub(super) fn accepts(address: &str) -> bool {
    connect(address).is_ok()
}

fn connect(address: &str) -> io::Result<()> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(_) => return Ok(()),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpListener;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::op::Op;
    use crate::system::{Machine, Mode};

    #[test]
    fn what_comes_while_it_is_waited_for_is_seen_and_what_does_not_is_told() {
        let folder = TempDir::new().expect("a folder");
        let mut machine = Linux::open(Path::new("/"), Mode::Live).expect("this host");
        let mut wait = |condition: Condition, within: Duration| {
            machine
                .perform(&Op::WaitFor { condition, within }, &mut |_| {})
                .map_err(|error| error.to_string())
        };
        // A port that is free, and stays so for as long as nobody asks for another.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let (path, tcp) = (folder.path().join("later"), Condition::Tcp { address: address.to_string() });
        insta::assert_snapshot!(
            wait(tcp.clone(), Duration::ZERO).expect_err("nobody listens").replace(&address.to_string(), "ADDRESS"),
            @"not seen within 0s: ADDRESS accepts connections (Connection refused (os error 111))"
        );
        let comes = path.clone();
        let later = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            fs::write(comes, "x").expect("written");
            TcpListener::bind(address).expect("the port again")
        });
        assert_eq!(wait(Condition::Exists(path.clone()), Duration::from_mins(1)), Ok(()));
        assert_eq!(wait(tcp, Duration::from_mins(1)), Ok(()));
        drop(later.join().expect("no panic"));
        let path = path.display().to_string();
        insta::assert_snapshot!(
            wait(Condition::Absent(path.clone().into()), Duration::ZERO).expect_err("it is there").replace(&path, "PATH"),
            @"not seen within 0s: PATH is gone (there is a file)"
        );
        let guard = Condition::Succeeds(Command::new(["test", "-e", "/nonexistent"]));
        insta::assert_snapshot!(wait(guard, Duration::ZERO).expect_err("it does not"), @"not seen within 0s: `test -e /nonexistent` succeeds (it does not)");
    }
}
