//! What a boot came to, for those who collect metrics: a text file in the `OpenMetrics` format, as the textfile collector of
//! node exporters reads it.

use std::fmt::Write;
use std::time::SystemTime;

use crate::status::{State, Status, Step, WatchState};

/// The text for a run that ended. `untold` is how many wait for its result.
pub fn text(status: &Status, untold: usize) -> String {
    let part = |part: &Option<String>| escaped(part.as_deref().unwrap_or_default());
    let labels = format!("environment=\"{}\",role=\"{}\"", part(&status.environment), part(&status.role));
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, samples: &[(String, String)]| {
        let _ = writeln!(text, "# TYPE bootstrap_agent_{name} gauge\n# HELP bootstrap_agent_{name} {help}");
        for (labels, value) in samples {
            let _ = writeln!(text, "bootstrap_agent_{name}{{{labels}}} {value}");
        }
    };
    let bit = |is: bool| u8::from(is).to_string();
    gauge("up", "Whether the last run went well.", &[(labels.clone(), bit(status.state == State::Done))]);
    gauge(
        "cached",
        "Whether it used its last good values.",
        &[(labels.clone(), bit(status.cached.is_some()))],
    );
    let seconds = status.finished.as_deref().and_then(time).unwrap_or_default()
        - time(&status.started).unwrap_or_default();
    gauge("run_seconds", "How long the last run took.", &[(labels.clone(), format!("{seconds:.3}"))]);
    let steps = |value: fn(&Step) -> String| -> Vec<_> {
        let of = |step: &Step| (format!("{labels},step=\"{}\"", escaped(&step.name)), value(step));
        status.steps.iter().map(of).collect()
    };
    let seconds = |step: &Step| format!("{}.{:03}", step.milliseconds / 1000, step.milliseconds % 1000);
    gauge("step_seconds", "How long each of its steps took.", &steps(seconds));
    gauge("step_calls", "How often each asked for something.", &steps(|step| step.calls.to_string()));
    gauge("step_attempts", "How often that was tried.", &steps(|step| step.attempts.to_string()));
    let requests = [("aws", status.requests.aws), ("metadata", status.requests.metadata)];
    let requests = requests.map(|(to, count)| (format!("{labels},to=\"{to}\""), count.to_string()));
    gauge("requests", "How many requests it made.", &requests);
    gauge("untold", "How many have not been told what it came to.", &[(labels.clone(), untold.to_string())]);
    if let Some(watch) = &status.watch {
        let looked = format!("{:.0}", time(&watch.looked).unwrap_or_default());
        gauge("looked_seconds", "When new values were looked for last.", &[(labels.clone(), looked)]);
        gauge(
            "current",
            "Whether the host has the newest values.",
            &[(labels.clone(), bit(watch.state == WatchState::Current))],
        );
    }
    text + "# EOF\n"
}

/// A time of the status, in seconds since 1970.
fn time(text: &str) -> Option<f64> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(SystemTime::UNIX_EPOCH);
    Some(since.ok()?.as_secs_f64())
}

/// As it is in the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Watched, of_test};

    #[test]
    fn a_run_is_told_in_numbers() {
        let status = Status {
            role: Some("we\"b".into()),
            steps: vec![Step { name: "fetch".into(), milliseconds: 1012, calls: 4, attempts: 6 }],
            watch: Some(Watched {
                state: WatchState::RolledBack,
                looked: "2026-11-22T10:15:00Z".into(),
                changed: Vec::new(),
                since: None,
                requests: 2,
                error: None,
            }),
            ..of_test(State::Done)
        };
        insta::assert_snapshot!(text(&status, 1), @r#"
        # TYPE bootstrap_agent_up gauge
        # HELP bootstrap_agent_up Whether the last run went well.
        bootstrap_agent_up{environment="prod",role="we\"b"} 1
        # TYPE bootstrap_agent_cached gauge
        # HELP bootstrap_agent_cached Whether it used its last good values.
        bootstrap_agent_cached{environment="prod",role="we\"b"} 0
        # TYPE bootstrap_agent_run_seconds gauge
        # HELP bootstrap_agent_run_seconds How long the last run took.
        bootstrap_agent_run_seconds{environment="prod",role="we\"b"} 2.500
        # TYPE bootstrap_agent_step_seconds gauge
        # HELP bootstrap_agent_step_seconds How long each of its steps took.
        bootstrap_agent_step_seconds{environment="prod",role="we\"b",step="fetch"} 1.012
        # TYPE bootstrap_agent_step_calls gauge
        # HELP bootstrap_agent_step_calls How often each asked for something.
        bootstrap_agent_step_calls{environment="prod",role="we\"b",step="fetch"} 4
        # TYPE bootstrap_agent_step_attempts gauge
        # HELP bootstrap_agent_step_attempts How often that was tried.
        bootstrap_agent_step_attempts{environment="prod",role="we\"b",step="fetch"} 6
        # TYPE bootstrap_agent_requests gauge
        # HELP bootstrap_agent_requests How many requests it made.
        bootstrap_agent_requests{environment="prod",role="we\"b",to="aws"} 2
        bootstrap_agent_requests{environment="prod",role="we\"b",to="metadata"} 5
        # TYPE bootstrap_agent_untold gauge
        # HELP bootstrap_agent_untold How many have not been told what it came to.
        bootstrap_agent_untold{environment="prod",role="we\"b"} 1
        # TYPE bootstrap_agent_looked_seconds gauge
        # HELP bootstrap_agent_looked_seconds When new values were looked for last.
        bootstrap_agent_looked_seconds{environment="prod",role="we\"b"} 1795342500
        # TYPE bootstrap_agent_current gauge
        # HELP bootstrap_agent_current Whether the host has the newest values.
        bootstrap_agent_current{environment="prod",role="we\"b"} 0
        # EOF
        "#);
    }
}
