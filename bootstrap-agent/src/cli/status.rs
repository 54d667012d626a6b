//! `status`: what this host's boot came to.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{DONE, FAILED, complain};
use crate::boot::boot_id;
use crate::report::Format;
use crate::signal::message::Message;
use crate::signal::outbox::Outbox;
use crate::status::{State, Status as Record, StatusFile, WatchState, Watched};

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
        let outbox = Outbox::below(&self.root);
        let (told, untold) = (outbox.told().unwrap_or_default(), outbox.waiting().unwrap_or_default());
        // What an earlier boot told is not about this one.
        let told: Vec<Message> = told.into_iter().filter(|told| told.boot_id == status.boot_id).collect();
        let text = match self.format {
            Format::Json => json(&status, &told, &untold),
            Format::Human => human(&status, &told, &untold),
        };
        let _ = writeln!(io::stdout(), "{text}");
        let is_whole = status.watch.is_none_or(|watch| watch.state != WatchState::Failed);
        if status.state == State::Done && is_whole { DONE } else { FAILED }
    }
}

fn json(status: &Record, told: &[Message], untold: &[Message]) -> String {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    let said = |message: &Message| json!({ "to": message.to.key(), "tries": message.tries, "answer": message.answer, "error": message.last_error });
    value["told"] = told.iter().map(said).collect();
    value["untold"] = untold.iter().map(said).collect();
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

fn human(status: &Record, told: &[Message], untold: &[Message]) -> String {
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
    lines.extend(status.steps.iter().map(|step| format!("step:      {:<10} {step}", step.name)));
    lines.extend(told.iter().map(|message| {
        format!("told:      {}: {}", message.to.key(), message.answer.as_deref().unwrap_or_default())
    }));
    lines.extend(untold.iter().map(|message| {
        let why = message.last_error.as_deref().unwrap_or("it is not time yet");
        format!("untold:    {}, after {} tries: {why}", message.to.key(), message.tries)
    }));
    lines.extend(status.watch.iter().flat_map(watched));
    if let Some(error) = &status.error {
        lines.push(format!("error:     {}: {}", error.step, error.message));
        lines.extend(error.help.iter().map(|help| format!("help:      {help}")));
    }
    lines.join("\n")
}

/// What the last look for new values came to.
fn watched(watch: &Watched) -> Vec<String> {
    let state = match watch.state {
        WatchState::Current => "the values are the newest",
        WatchState::RolledBack => "the values are those before the newest",
        WatchState::Unknown => "it is not known whether the values are the newest",
        WatchState::Failed => "the values are some of both: going back failed",
    };
    let mut lines = vec![format!("watch:     {state} ({})", watch.looked)];
    let since = watch.since.as_deref().unwrap_or("?");
    lines.extend(watch.changed.iter().map(|name| format!("new:       {name} ({since})")));
    if let Some(error) = &watch.error {
        lines.push(format!("error:     {}: {}", error.step, error.message));
        lines.extend(error.help.iter().map(|help| format!("help:      {help}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::message::{Outcome, Recipient, of_test};
    use crate::status::{self, Failure, Step};

    #[test]
    fn a_person_sees_the_step_and_the_reason() {
        let status = Record {
            steps: vec![Step { name: "identify".into(), milliseconds: 12, calls: 1, attempts: 3 }],
            error: Some(Failure { step: "fetch".into(), message: "no".into(), help: Some("do".into()) }),
            ..status::of_test(State::Failed)
        };
        let message = |to, result| of_test(to, result);
        let failed = Outcome::Failed { step: "fetch".into() };
        let told = [Message {
            answer: Some("failed at fetch".into()),
            ..message(Recipient::Tag { key: "k".into() }, failed.clone())
        }];
        let untold = [Message {
            tries: 3,
            last_error: Some("AccessDenied: no".into()),
            ..message(Recipient::InstanceHealth, failed)
        }];
        let value: serde_json::Value = serde_json::from_str(&json(&status, &told, &untold)).expect("JSON");
        assert_eq!((&value["told"][0]["to"], &value["untold"][0]["tries"]), (&"tag".into(), &3.into()));
        insta::assert_snapshot!(human(&status, &told, &untold), @"
        state:     failed
        host:      prod/web (i-0123456789abcdef0)
        started:   2026-11-22T10:00:00.000Z
        finished:  2026-11-22T10:00:02.500Z
        requests:  2 to AWS, 5 to the metadata service
        step:      identify   12 ms, 1 call in 3 attempts
        told:      tag: failed at fetch
        untold:    instance_health, after 3 tries: AccessDenied: no
        error:     fetch: no
        help:      do
        ");
    }
}
