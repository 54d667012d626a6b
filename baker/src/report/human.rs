//! Events for people: a line for each step, on standard error, with progress where that is a terminal.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use recipes::event::{Event as AgentEvent, Outcome};

use super::{Event, Report};

/// How many lines of output are shown when something fails.
const TAIL: usize = 20;

/// Writes events for people.
pub struct Human {
    /// Shows what is being done now; hidden where nobody watches.
    progress: ProgressBar,
    output: VecDeque<String>,
    verbose: bool,
    /// What lines begin with that do not name the image themselves.
    label: String,
}

impl Human {
    /// Writes to standard error. `verbose` shows what programs print as well.
    pub fn new(verbose: bool) -> Self {
        let progress =
            if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        Self::with(progress, verbose, String::new())
    }

    /// The same for an image among others, whose lines stand between those of the others.
    pub fn among(image: &str, verbose: bool, all: &MultiProgress) -> Self {
        let progress = if io::stderr().is_terminal() {
            all.add(ProgressBar::new_spinner())
        } else {
            ProgressBar::hidden()
        };
        Self::with(progress, verbose, format!("{image}: "))
    }

    fn with(progress: ProgressBar, verbose: bool, label: String) -> Self {
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:10} {wide_msg} {elapsed}") {
            progress.set_style(style);
        }
        Self { progress, output: VecDeque::new(), verbose, label }
    }

    fn line(&self, text: &str) {
        self.progress.suspend(|| {
            let _ = writeln!(io::stderr(), "{text}");
        });
    }

    /// A line that does not say of which image it is.
    fn own_line(&self, text: &str) {
        self.line(&format!("{}{text}", self.label));
    }

    fn remember(&mut self, line: &str) {
        if self.verbose {
            self.own_line(&format!("    | {line}"));
        }
        if self.output.len() == TAIL {
            self.output.pop_front();
        }
        self.output.push_back(line.to_owned());
        self.progress.set_message(line.to_owned());
    }

    fn agent(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::ResourceStarted { resource, changes, .. } => {
                self.progress.set_message(resource.clone());
                if self.verbose {
                    self.own_line(&format!("  {resource}"));
                    changes.iter().for_each(|change| self.own_line(&format!("    {change}")));
                }
            }
            AgentEvent::Output { line, .. } => self.remember(line),
            AgentEvent::ResourceFinished { resource, outcome: Outcome::Changed } if !self.verbose => {
                self.progress.set_message(resource.clone());
            }
            _ => {}
        }
    }
}

impl Report for Human {
    fn event(&mut self, event: &Event) {
        match event {
            Event::BakeStarted { image, run } => self.line(&format!("{image}: run {run}")),
            Event::UpToDate { image, path } => {
                self.line(&format!("{image}: up to date in {path} (`--force` bakes it again)"));
            }
            Event::StepStarted { step, .. } => {
                self.output.clear();
                self.progress.set_prefix(format!("{}{step}", self.label));
                self.progress.set_message("");
                self.progress.enable_steady_tick(Duration::from_millis(120));
            }
            Event::Agent { agent } => self.agent(agent),
            Event::Output { line } => self.remember(line),
            Event::Checked { check, error: None } => self.own_line(&format!("  ok      {check}")),
            Event::Checked { error: Some(error), .. } => self.own_line(&format!("  failed  {error}")),
            Event::StepFinished { image, step, milliseconds, result } => {
                self.progress.disable_steady_tick();
                #[expect(clippy::cast_precision_loss, reason = "nobody reads the milliseconds of a month")]
                let seconds = *milliseconds as f64 / 1000.0;
                self.line(&format!("{image}: {:<9} {seconds:>7.1} s  {result}", step.to_string()));
            }
            Event::Kept { run, way_in } => {
                self.own_line(&format!("kept until its time is over: {way_in}"));
                self.own_line(&format!("`baker clean --run {run}` removes it"));
            }
            Event::Undone { created, error: None } if self.verbose => {
                self.own_line(&format!("undone: {created}"));
            }
            Event::Undone { error: None, .. } => {}
            Event::Undone { created, error: Some(error) } => {
                self.own_line(&format!("LEFT BEHIND: {created}: {error}; `baker clean` tries again"));
            }
            Event::BakeFinished { .. } => self.progress.finish_and_clear(),
            Event::BakeFailed { .. } => {
                self.progress.finish_and_clear();
                if !self.verbose {
                    self.output.iter().for_each(|line| self.own_line(&format!("    | {line}")));
                }
            }
        }
    }
}
