//! How events are shown: one JSON object a line for programs, or a line for people.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Instant;

use recipes::event::{Event, Outcome};

use crate::redact::Redactor;

/// How a command tells what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Writes events to an output.
pub struct Reporter<W> {
    format: Format,
    output: W,
    redactor: Redactor,
    started: Instant,
    /// The last lines, for the report of a run that failed.
    tail: VecDeque<String>,
}

/// How many of the last lines are kept.
const TAIL: usize = 200;

impl<W: Write> Reporter<W> {
    /// Writes in a format.
    pub fn new(format: Format, output: W) -> Self {
        Self { format, output, redactor: Redactor::default(), started: Instant::now(), tail: VecDeque::new() }
    }

    /// Hides these values from now on.
    pub fn hide(&mut self, values: &[String]) {
        self.redactor.learn(values);
    }

    /// What hides them.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The last lines that it wrote.
    pub fn tail(&self) -> String {
        self.tail.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Writes an event. That nobody reads any more does not stop a run.
    pub fn event(&mut self, event: &Event) {
        let text = match self.format {
            Format::Json => serde_json::to_string(event).ok(),
            Format::Human => human(event),
        };
        if let Some(text) = text {
            self.line(&text);
        }
        if let (Format::Human, Event::RunFinished { summary }) = (self.format, event) {
            let seconds = self.started.elapsed().as_secs_f64();
            let done = if summary.rebooting { "Until the reboot" } else { "Done" };
            self.line(&format!(
                "{done}: {} changed, {} unchanged, {} handlers, in {seconds:.1} s.",
                summary.changed, summary.unchanged, summary.handlers
            ));
        }
    }

    /// Writes a line.
    pub fn line(&mut self, text: &str) {
        let text = self.redactor.clean(text);
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text.clone());
        let _: io::Result<()> = writeln!(self.output, "{text}").and_then(|()| self.output.flush());
    }
}

fn human(event: &Event) -> Option<String> {
    match event {
        Event::ResourceStarted { resource, changes, .. } => {
            let lines: Vec<String> = changes.iter().map(|change| format!("  {change}")).collect();
            Some(format!("{resource}\n{}", lines.join("\n")))
        }
        Event::Output { line, .. } => Some(format!("    | {line}")),
        Event::ResourceFinished { resource, outcome: Outcome::Changed } => Some(format!("ok: {resource}")),
        Event::Rebooting { .. } => Some("rebooting; the run goes on after that".into()),
        Event::Committed { paths } if *paths > 0 => Some(format!("{paths} paths put in place together")),
        // A failure is printed by whoever started the run, with its place.
        Event::RunStarted { .. }
        | Event::ResourceFinished { .. }
        | Event::Committed { .. }
        | Event::RunFinished { .. }
        | Event::RunFailed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use recipes::event::Summary;

    use super::*;

    #[test]
    fn nothing_secret_gets_out_in_either_format() {
        for format in [Format::Human, Format::Json] {
            let mut output = Vec::new();
            let mut reporter = Reporter::new(format, &mut output);
            reporter.hide(&["hunter2".into()]);
            reporter.event(&Event::Output { resource: "app: command x".into(), line: "pw hunter2".into() });
            reporter.event(&Event::RunFinished { summary: Summary::default() });
            let text = String::from_utf8(output).expect("text");
            assert!(text.contains("pw (secret)") && !text.contains("hunter2"), "{text}");
        }
    }
}
