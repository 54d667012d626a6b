//! What a run came to, for journald, with fields that can be asked for: `journalctl BOOTSTRAP_AGENT_STATE=failed`.
//!
//! journald's own protocol (systemd, "Native Journal Protocol") is a datagram of lines `FIELD=value`.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::status::{State, Status};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Tells it, and returns whether somebody listened. `line` is without secrets.
pub(crate) fn tell(status: &Status, line: &str) -> bool {
    send(Path::new(SOCKET), &entry(status, line))
}

fn send(socket: &Path, entry: &str) -> bool {
    UnixDatagram::unbound().and_then(|from| from.send_to(entry.as_bytes(), socket)).is_ok()
}

fn entry(status: &Status, line: &str) -> String {
    let mut entry = String::new();
    let mut field = |name: &str, value: &str| {
        // A value of several lines would have to be written with its length.
        entry += &format!("{name}={}\n", value.replace('\n', " "));
    };
    // As syslog numbers them: an error, or information (sd-daemon(3)).
    field("PRIORITY", if status.state == State::Failed { "3" } else { "6" });
    field("SYSLOG_IDENTIFIER", "bootstrap-agent");
    field("MESSAGE", line);
    let state = serde_json::to_value(status.state).unwrap_or_default();
    field("BOOTSTRAP_AGENT_STATE", state.as_str().unwrap_or_default());
    let known = [
        ("INSTANCE", &status.instance_id),
        ("ENVIRONMENT", &status.environment),
        ("ROLE", &status.role),
        ("CONFIG_DIGEST", &status.config_digest),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            field(&format!("BOOTSTRAP_AGENT_{name}"), value);
        }
    }
    for step in &status.steps {
        let name = step.name.to_ascii_uppercase().replace('-', "_");
        field(&format!("BOOTSTRAP_AGENT_{name}_MILLISECONDS"), &step.milliseconds.to_string());
        field(&format!("BOOTSTRAP_AGENT_{name}_CALLS"), &step.calls.to_string());
        field(&format!("BOOTSTRAP_AGENT_{name}_ATTEMPTS"), &step.attempts.to_string());
    }
    field("BOOTSTRAP_AGENT_AWS_REQUESTS", &status.requests.aws.to_string());
    field("BOOTSTRAP_AGENT_METADATA_REQUESTS", &status.requests.metadata.to_string());
    if let Some(failure) = &status.error {
        field("BOOTSTRAP_AGENT_FAILED_STEP", &failure.step);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Failure, Step, of_test};

    #[test]
    fn a_run_that_failed_can_be_asked_for_by_its_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        assert!(!send(&socket, "MESSAGE=nobody listens\n"));
        let journal = UnixDatagram::bind(&socket).expect("a socket");
        let status = Status {
            steps: vec![Step { name: "user-data".into(), milliseconds: 12, calls: 2, attempts: 5 }],
            error: Some(Failure { step: "fetch".into(), message: "no".into(), help: None }),
            ..of_test(State::Failed)
        };
        assert!(send(&socket, &entry(&status, "failed\nat fetch")));
        let mut bytes = [0; 4096];
        let count = journal.recv(&mut bytes).expect("an entry");
        insta::assert_snapshot!(String::from_utf8_lossy(&bytes[..count]), @r"
        PRIORITY=3
        SYSLOG_IDENTIFIER=bootstrap-agent
        MESSAGE=failed at fetch
        BOOTSTRAP_AGENT_STATE=failed
        BOOTSTRAP_AGENT_INSTANCE=i-0123456789abcdef0
        BOOTSTRAP_AGENT_ENVIRONMENT=prod
        BOOTSTRAP_AGENT_ROLE=web
        BOOTSTRAP_AGENT_USER_DATA_MILLISECONDS=12
        BOOTSTRAP_AGENT_USER_DATA_CALLS=2
        BOOTSTRAP_AGENT_USER_DATA_ATTEMPTS=5
        BOOTSTRAP_AGENT_AWS_REQUESTS=2
        BOOTSTRAP_AGENT_METADATA_REQUESTS=5
        BOOTSTRAP_AGENT_FAILED_STEP=fetch
        ");
    }
}
