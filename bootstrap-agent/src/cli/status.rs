//! `status`: what this host's boot came to.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{DONE, FAILED, complain};
use crate::boot::boot_id;
use crate::report::Format;
use crate::status::{State, Status as Record, StatusFile};

/// Show what this host's boot came to; end with 0 only if it is up
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// The root of the host
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// How to show it
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Status {
    pub(super) fn run(self) -> u8 {
        let file = StatusFile::below(Path::new(&self.root));
        let status = match file.read() {
            // A disk may have been booted since, or cloned.
            Ok(Some(status)) if self.root == Path::new("/") && status.boot_id != boot_id() => {
                complain("this host has not been configured since it booted");
                return FAILED;
            }
            Ok(Some(status)) => status,
            Ok(None) => {
                complain("this host has not been configured: there is no status");
                return FAILED;
            }
            Err(error) => {
                complain(&format!("error: failed to read `{}`: {error}", file.path().display()));
                return FAILED;
            }
        };
        let text = match self.format {
            Format::Json => serde_json::to_string_pretty(&status).unwrap_or_default(),
            Format::Human => human(&status),
        };
        let _ = writeln!(io::stdout(), "{text}");
        if status.state == State::Done { DONE } else { FAILED }
    }
}

fn human(status: &Record) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "?".into());
    let state = match status.state {
        State::Running => "running",
        State::Committed => "starting services",
        State::Rebooting => "rebooting",
        State::Done => "up",
        State::Failed => "failed",
    };
    let mut lines = vec![
        format!("state:     {state}"),
        format!(
            "host:      {}/{} ({})",
            part(&status.environment),
            part(&status.role),
            part(&status.instance_id)
        ),
        format!("started:   {}", status.started),
    ];
    lines.extend(status.finished.iter().map(|finished| format!("finished:  {finished}")));
    lines.push(format!(
        "requests:  {} to AWS, {} to the metadata service",
        status.requests.aws, status.requests.metadata
    ));
    lines.extend(
        status
            .cached
            .iter()
            .map(|time| format!("values:    the last good ones, of {time}: the network is away")),
    );
    lines.extend(status.fetched.iter().map(|name| format!("fetched:   {name}")));
    lines.extend(
        status.steps.iter().map(|step| format!("step:      {:<10} {:>6} ms", step.name, step.milliseconds)),
    );
    if let Some(error) = &status.error {
        lines.push(format!("error:     {}: {}", error.step, error.message));
        lines.extend(error.help.iter().map(|help| format!("help:      {help}")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Failure, Requests, Step, VERSION};

    #[test]
    fn a_person_sees_the_step_and_the_reason() {
        let status = Record {
            version: VERSION,
            state: State::Failed,
            agent: "0.1.0".into(),
            boot_id: "b".into(),
            instance_id: Some("i-0123456789abcdef0".into()),
            environment: Some("prod".into()),
            role: Some("web".into()),
            config_digest: None,
            started: "2026-11-22T10:00:00.000Z".into(),
            finished: Some("2026-11-22T10:00:01.500Z".into()),
            steps: vec![Step { name: "identify".into(), milliseconds: 12 }],
            fetched: vec![],
            requests: Requests { aws: 1, metadata: 5 },
            cached: None,
            error: Some(Failure { step: "fetch".into(), message: "no".into(), help: Some("do".into()) }),
        };
        insta::assert_snapshot!(human(&status), @"
        state:     failed
        host:      prod/web (i-0123456789abcdef0)
        started:   2026-11-22T10:00:00.000Z
        finished:  2026-11-22T10:00:01.500Z
        requests:  1 to AWS, 5 to the metadata service
        step:      identify       12 ms
        error:     fetch: no
        help:      do
        ");
    }
}
