//! Performing a run, and proving each resource right after: plan, perform, plan again.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::fmt::Write;

use miette::{Diagnostic, LabeledSpan, SourceCode};

use crate::change::Change;
use crate::error::Problem;
use crate::event::{Event, Outcome, Summary};
use crate::op::{Op, UnitAction};
use crate::plan::{Guards, is_barrier, is_file, is_foundation, plan_with_pending};
use crate::resolve::{Resolved, ResolvedRecipe, Step};
use crate::resource::Claim;
use crate::system::simulated::Simulated;
use crate::system::{Machine, Mode, PerformError, PlanError};

/// Why a run stopped.
#[derive(Debug)]
pub struct RunError {
    /// The id of the resource that it stopped at, if it was one.
    pub resource: Option<String>,
    /// What went wrong.
    pub failure: Box<Failure>,
    place: Option<Problem>,
}

/// What went wrong in a run.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no plan for the resource.
    #[error(transparent)]
    Plan(PlanError),
    /// An operation failed.
    #[error("failed to {op}")]
    Perform {
        /// What was to be done.
        op: String,
        /// Why it failed.
        #[source]
        source: PerformError,
    },
    /// It was performed, and is still not true.
    #[error("did not settle: after it was applied it still needs to change{}", remaining.iter().fold(String::new(), |mut text, change| { let _ = write!(text, "\n  {change}"); text }))]
    DidNotSettle {
        /// What a second plan wants to do.
        remaining: Vec<Change>,
        /// Whether the resource says nothing about when it is done.
        runs_every_time: bool,
    },
    /// What the host remembers between runs could not be read or written.
    #[error("the run cannot go on")]
    State(#[source] PerformError),
}

impl RunError {
    pub(crate) fn planning(step: &Step, error: PlanError) -> Self {
        Self::at(step, Failure::Plan(error))
    }

    fn at(step: &Step, failure: Failure) -> Self {
        let place = Some(Problem::new("").at(&step.at));
        Self { resource: Some(step.id.clone()), failure: Box::new(failure), place }
    }

    /// What is remembered on the host cannot be read or written.
    pub fn state(error: PerformError) -> Self {
        Self { resource: None, failure: Box::new(Failure::State(error)), place: None }
    }

    /// What to do about it, if anybody knows.
    pub fn advice(&self) -> Option<String> {
        match &*self.failure {
            Failure::Plan(PlanError::Impossible { help, .. }) => help.clone(),
            Failure::DidNotSettle { runs_every_time: true, .. } => {
                Some("say how the command knows that it is done: `creates`, `unless` or `onlyif`".into())
            }
            _ => None,
        }
    }

    /// What went wrong, with all causes.
    fn in_full(&self) -> String {
        let mut error = self.failure.to_string();
        let mut cause = self.failure.source();
        while let Some(next) = cause {
            let _ = write!(error, ": {next}");
            cause = next.source();
        }
        error
    }

    /// The error as an event.
    pub fn event(&self) -> Event {
        Event::RunFailed {
            resource: self.resource.clone(),
            error: self.in_full(),
            at: self.place.as_ref().and_then(Problem::location).map(ToString::to_string),
            help: self.advice(),
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.resource {
            Some(resource) => write!(formatter, "{resource}: {}", self.failure),
            None => self.failure.fmt(formatter),
        }
    }
}

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failure.source()
    }
}

impl Diagnostic for RunError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.advice().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().and_then(Diagnostic::source_code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.place.as_ref().and_then(Diagnostic::labels)
    }
}

/// How files are put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Each when its resource is reached.
    InTurn,
    /// All of them or none, for a host that must not be left with some.
    ///
    /// Everything is planned first, so that what cannot be had is found before anything changes. Then what
    /// files need is made (packages, accounts, directories), then all files are staged, checked, and moved
    /// into place at once; the rest follows in turn. What comes after a command comes in its turn, because
    /// the command may make what it is about.
    Together,
}

/// Makes everything true, in order. A resource that fails stops the run.
///
/// # Errors
/// What could not be made true. Everything before it is true, nothing after it was tried, and handlers
/// that were notified are remembered for the next run.
pub fn converge(
    resolved: &Resolved,
    machine: &mut dyn Machine,
    files: Files,
    events: &mut dyn FnMut(Event),
) -> Result<Summary, RunError> {
    let resources = resolved.resources().count();
    events(Event::RunStarted { mode: machine.host().mode, resources });
    let result = Run::new(machine, events).and_then(|mut run| {
        let result = run.whole(resolved, files);
        if let Err(error) = &result {
            run.react(resolved, error);
        }
        result
    });
    match &result {
        Ok(summary) => events(Event::RunFinished { summary: *summary }),
        Err(error) => events(error.event()),
    }
    result
}

struct Run<'a> {
    machine: &'a mut dyn Machine,
    events: &'a mut dyn FnMut(Event),
    /// The handlers that have yet to run, as the host remembers them.
    pending: BTreeSet<String>,
    /// The resources that were changed before their turn.
    changed: BTreeSet<String>,
    /// A commit of files to which more belong that could not be put in place with it: it is told of when
    /// they are there too.
    untold: Option<usize>,
    summary: Summary,
}

impl<'a> Run<'a> {
    fn new(machine: &'a mut dyn Machine, events: &'a mut dyn FnMut(Event)) -> Result<Self, RunError> {
        machine.begin().map_err(RunError::state)?;
        let pending = machine.pending_handlers().map_err(RunError::state)?.into_iter().collect();
        Ok(Self {
            machine,
            events,
            pending,
            changed: BTreeSet::new(),
            untold: None,
            summary: Summary::default(),
        })
    }

    fn whole(&mut self, resolved: &Resolved, files: Files) -> Result<Summary, RunError> {
        if files == Files::Together {
            self.commit(resolved)?;
        }
        for recipe in &resolved.recipes {
            let mut steps = recipe.resources.as_slice();
            while let Some(count) = self.next_batch(steps)? {
                steps[..count].iter().for_each(|step| self.finish(step));
                steps = &steps[count..];
            }
            if !self.summary.rebooting {
                self.handlers(recipe)?;
            }
            if self.summary.rebooting {
                return Ok(self.summary);
            }
        }
        self.tell_of_commit();
        self.machine.forget_reboots().map_err(RunError::state)?;
        self.machine.sync().map_err(RunError::state)?;
        Ok(self.summary)
    }

    /// Makes the next resource true, together with those behind it that one transaction can do as well.
    /// Returns how many that were; none if there is none left, or if the host is booted anew first.
    fn next_batch(&mut self, steps: &[Step]) -> Result<Option<usize>, RunError> {
        let Some(first) = steps.first() else { return Ok(None) };
        let mut batch = vec![(first, self.plan(first)?)];
        if begins_transaction(&batch[0].1) {
            for step in steps[1..].iter().take_while(|step| goes_on_with_transaction(step)) {
                batch.push((step, self.plan(step)?));
            }
        }
        let changing: Vec<&Step> =
            batch.iter().filter(|(_, ops)| !ops.is_empty()).map(|(step, _)| *step).collect();
        self.notify(&changing)?;
        if let [Op::Reboot] = batch[0].1[..] {
            return self.reboot(first).map(|()| None);
        }
        for (step, ops) in batch.iter().filter(|(_, ops)| !ops.is_empty()) {
            let (changes, makes) =
                (ops.iter().map(Change::from).collect(), ops.iter().flat_map(Op::makes).collect());
            (self.events)(Event::ResourceStarted { resource: step.id.clone(), changes, makes });
        }
        let mut merged: Vec<(&Step, Op)> = Vec::new();
        for (step, ops) in &batch {
            for op in ops {
                let unmerged = merged.iter_mut().try_fold(op.clone(), |op, (_, other)| other.merge(op));
                merged.extend(unmerged.map(|op| (*step, op)));
            }
        }
        for (step, op) in &merged {
            self.perform(step, op)?;
        }
        for (step, ops) in &batch {
            if !ops.is_empty() {
                self.settle(step)?;
                self.changed.insert(step.id.clone());
            }
        }
        Ok(Some(batch.len()))
    }

    /// Ends the run with a boot, after which the next one goes on. A host that is booted for a resource, and is
    /// asked to by the same one again, would boot for ever.
    fn reboot(&mut self, step: &Step) -> Result<(), RunError> {
        if self.machine.rebooted_for(&step.id).map_err(RunError::state)? {
            let error = PlanError::impossible_but(
                "the host was rebooted for this, and it asks for it still",
                "find out why what asks for it is still there after a boot",
            );
            return Err(RunError::planning(step, error));
        }
        let (changes, makes) = (vec![Change::from(&Op::Reboot)], Vec::new());
        (self.events)(Event::ResourceStarted { resource: step.id.clone(), changes, makes });
        self.machine.remember_reboot(&step.id).map_err(RunError::state)?;
        self.machine.sync().map_err(RunError::state)?;
        // Whoever hears of it has to be done with it before the host goes down.
        (self.events)(Event::Rebooting { resource: step.id.clone() });
        self.perform(step, &Op::Reboot)?;
        self.summary.rebooting = true;
        Ok(())
    }

    fn plan(&self, step: &Step) -> Result<Vec<Op>, RunError> {
        step.resource.plan(self.machine).map_err(|error| RunError::planning(step, error))
    }

    fn perform(&mut self, step: &Step, op: &Op) -> Result<(), RunError> {
        if let Op::Unit { action: UnitAction::Start | UnitAction::Restart | UnitAction::Reload, .. }
        | Op::WaitFor { .. } = op
        {
            // What is started or waited for may wait for the commit.
            self.tell_of_commit();
        }
        let Self { machine, events, .. } = self;
        let mut output = |line: &str| {
            events(Event::Output { resource: step.id.clone(), line: line.to_owned() });
        };
        machine.perform(op, &mut output).map_err(|source| {
            let op = Change::from(op).summary;
            RunError::at(step, Failure::Perform { op, source })
        })
    }

    /// Remembers on the host what has to be done because of a change, before the change is made: a run
    /// that is cut off then reloads a service once too often rather than never.
    fn notify(&mut self, changing: &[&Step]) -> Result<(), RunError> {
        let before = self.pending.len();
        self.pending.extend(changing.iter().flat_map(|step| step.notify.iter().cloned()));
        if self.pending.len() > before { self.remember() } else { Ok(()) }
    }

    fn remember(&mut self) -> Result<(), RunError> {
        let pending: Vec<String> = self.pending.iter().cloned().collect();
        self.machine.remember_handlers(&pending).map_err(RunError::state)
    }

    /// Plans again what was just made true: nothing may be left to do.
    fn settle(&mut self, step: &Step) -> Result<(), RunError> {
        let runs_every_time = step.resource.runs_every_time();
        // On a live host a command may run at every run; an image has to come out the same.
        if runs_every_time && self.machine.host().mode == Mode::Live {
            return Ok(());
        }
        let remaining: Vec<Change> = self.plan(step)?.iter().map(Change::from).collect();
        if remaining.is_empty() {
            return Ok(());
        }
        Err(RunError::at(step, Failure::DidNotSettle { remaining, runs_every_time }))
    }

    fn finish(&mut self, step: &Step) {
        let outcome = if self.changed.contains(&step.id) { Outcome::Changed } else { Outcome::Unchanged };
        match outcome {
            Outcome::Unchanged => self.summary.unchanged += 1,
            Outcome::Changed => self.summary.changed += 1,
        }
        (self.events)(Event::ResourceFinished { resource: step.id.clone(), outcome });
    }

    /// Runs what was notified, by this run or by an earlier one that did not get here.
    fn handlers(&mut self, recipe: &ResolvedRecipe) -> Result<(), RunError> {
        for (id, step) in &recipe.handlers {
            if !self.pending.contains(id) {
                continue;
            }
            let ops = self.plan(step)?;
            let is_reboot = ops == [Op::Reboot];
            if is_reboot && !self.machine.rebooted_for(&step.id).map_err(RunError::state)? {
                // It stays pending, so that the next run knows what it was booted for.
                return self.reboot(step);
            }
            if !is_reboot && self.act(step, &ops)? {
                self.summary.handlers += 1;
            }
            self.pending.remove(id);
            self.remember()?;
        }
        Ok(())
    }

    /// Does what a resource needs, without a proof. Returns whether that was anything.
    fn act(&mut self, step: &Step, ops: &[Op]) -> Result<bool, RunError> {
        if ops.is_empty() {
            return Ok(false);
        }
        let (changes, makes) =
            (ops.iter().map(Change::from).collect(), ops.iter().flat_map(Op::makes).collect());
        (self.events)(Event::ResourceStarted { resource: step.id.clone(), changes, makes });
        for op in ops {
            self.perform(step, op)?;
        }
        let (resource, outcome) = (step.id.clone(), Outcome::Changed);
        (self.events)(Event::ResourceFinished { resource, outcome });
        Ok(true)
    }

    /// Does what the recipe that failed, and those around it, want done then. The run fails with its own error,
    /// whatever becomes of this.
    fn react(&mut self, resolved: &Resolved, error: &RunError) {
        let is_at = |step: &Step| error.resource.as_ref() == Some(&step.id);
        let failed = resolved.recipes.iter().find(|recipe| {
            recipe.resources.iter().chain(recipe.handlers.iter().map(|(_, step)| step)).any(is_at)
        });
        for step in failed.iter().flat_map(|recipe| &recipe.on_error).flat_map(|steps| steps.iter()) {
            if let Err(later) = self.plan(step).and_then(|ops| self.act(step, &ops)) {
                let line = format!("failed: {}", later.in_full());
                (self.events)(Event::Output { resource: step.id.clone(), line });
            }
        }
    }

    fn commit(&mut self, resolved: &Resolved) -> Result<(), RunError> {
        let pending: Vec<String> = self.pending.iter().cloned().collect();
        plan_with_pending(resolved, self.machine, Guards::Skip, &pending)?;
        self.foundations(resolved)?;
        let FileOps { writes, steps, complete } = self.files(resolved)?;
        for step in steps {
            self.notify(&[step])?;
            self.changed.insert(step.id.clone());
        }
        let Self { machine, events, .. } = self;
        let mut output = |line: &str| {
            events(Event::Output { resource: "commit".into(), line: line.to_owned() });
        };
        machine.commit(&writes, &mut output).map_err(|source| RunError {
            resource: None,
            failure: Box::new(Failure::Perform { op: "put the files in place".into(), source }),
            place: None,
        })?;
        self.untold = Some(writes.len());
        if complete {
            self.tell_of_commit();
        }
        Ok(())
    }

    fn tell_of_commit(&mut self) {
        if let Some(paths) = self.untold.take() {
            (self.events)(Event::Committed { paths });
        }
    }

    /// Makes what files need to be there first, up to the first command or mount.
    fn foundations(&mut self, resolved: &Resolved) -> Result<(), RunError> {
        for recipe in &resolved.recipes {
            let mut steps = recipe.resources.as_slice();
            while let Some(step) = steps.first() {
                // What cannot be planned yet waits for files; the plan of the whole found it possible.
                let ops = step.resource.plan(self.machine).unwrap_or_default();
                if ops.iter().any(is_barrier) {
                    return Ok(());
                }
                let is_foundation = !ops.is_empty() && ops.iter().all(is_foundation);
                let count = if is_foundation { self.next_batch(steps)?.unwrap_or(1) } else { 1 };
                steps = &steps[count..];
            }
        }
        Ok(())
    }

    /// Every operation on files up to the first command or mount, and the resources they are for.
    fn files<'r>(&self, resolved: &'r Resolved) -> Result<FileOps<'r>, RunError> {
        let mut simulated = Simulated::over(self.machine, Guards::Skip);
        let mut found = FileOps { writes: Vec::new(), steps: Vec::new(), complete: false };
        for recipe in &resolved.recipes {
            for step in &recipe.resources {
                let ops = match step.resource.plan(&simulated) {
                    Ok(ops) => ops,
                    Err(PlanError::Unknown(_)) => return Ok(found),
                    Err(error) => return Err(RunError::planning(step, error)),
                };
                if ops.iter().any(is_barrier) {
                    return Ok(found);
                }
                // Services start only after the commit: what they would make does not stand in its way.
                let before_commit = ops.iter().filter(|op| !matches!(op, Op::Unit { .. }));
                before_commit.for_each(|op| simulated.foresee(op, None));
                if !ops.is_empty() && ops.iter().all(is_file) {
                    found.writes.extend(ops);
                    found.steps.push(step);
                }
            }
        }
        found.complete = true;
        Ok(found)
    }
}

/// What can be put in place together.
struct FileOps<'a> {
    writes: Vec<Op>,
    /// The resources that they are for.
    steps: Vec<&'a Step>,
    /// Whether no resource behind them has to wait for what only its turn can tell.
    complete: bool,
}

/// Whether a run goes on with packages in the same transaction of the package manager.
pub(crate) fn begins_transaction(ops: &[Op]) -> bool {
    matches!(ops, [Op::InstallPackages { .. } | Op::RemovePackages { .. }])
}

/// Whether a resource that is next can be a part of a transaction: anything else than a package, even one that is there
/// already, ends it.
pub(crate) fn goes_on_with_transaction(step: &Step) -> bool {
    matches!(step.resource.claims()[..], [Claim::Package(_)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const SITE: &str = "
resources:
  - package: { name: nginx }
  - file: { path: /etc/nginx/site.conf, content: \"a\" }
    notify: reload nginx
  - user: { name: web, system: true }
  - file: { path: /srv/index.html, content: hello, owner: web }
  - service: { name: nginx, enabled: true, state: running }
handlers:
  reload nginx: { service: { name: nginx, state: reloaded } }
";

    /// A host on which the package brings what the recipe needs.
    fn host() -> Fake {
        let mut fake = Fake::debian();
        fake.package_brings(
            "nginx",
            vec![
                Op::CreateDirectory {
                    path: "/etc/nginx".into(),
                    attributes: crate::system::Attributes {
                        owner: "root".into(),
                        group: "root".into(),
                        mode: 0o755,
                    },
                },
                Op::WriteFile(crate::op::WriteFile {
                    path: "/lib/systemd/system/nginx.service".into(),
                    content: crate::op::Content::new("[Install]\nWantedBy=multi-user.target\n"),
                    attributes: crate::system::Attributes {
                        owner: "root".into(),
                        group: "root".into(),
                        mode: 0o644,
                    },
                    validate: None,
                    before: crate::op::Before::Absent,
                }),
            ],
        );
        fake
    }

    fn names(events: &[Event]) -> Vec<String> {
        events
            .iter()
            .map(|event| match event {
                Event::RunStarted { .. } => "run started".into(),
                Event::ResourceStarted { resource, .. } => format!("start {resource}"),
                Event::Output { line, .. } => format!("output {line}"),
                Event::ResourceFinished { resource, outcome } => format!("{outcome:?} {resource}"),
                Event::Committed { paths } => format!("committed {paths}"),
                Event::RunFinished { summary } => format!("{summary:?}"),
                Event::Rebooting { resource } => format!("rebooting {resource}"),
                Event::RunFailed { resource, error, .. } => format!("failed {resource:?}: {error}"),
            })
            .collect()
    }

    #[test]
    fn a_run_tells_what_it_does_and_a_second_run_does_nothing() {
        let mut fake = host();
        let example = Example::recipe(SITE);
        insta::assert_snapshot!(names(&example.run(&mut fake, Files::InTurn).1).join("\n"), @"
        run started
        start example: package nginx
        Changed example: package nginx
        start example: file /etc/nginx/site.conf
        Changed example: file /etc/nginx/site.conf
        start example: user web
        Changed example: user web
        start example: file /srv/index.html
        Changed example: file /srv/index.html
        start example: service nginx.service
        Changed example: service nginx.service
        start example: handler reload nginx
        Changed example: handler reload nginx
        Summary { unchanged: 0, changed: 5, handlers: 1, rebooting: false }
        ");
        insta::assert_snapshot!(names(&example.run(&mut fake, Files::InTurn).1).join("\n"), @"
        run started
        Unchanged example: package nginx
        Unchanged example: file /etc/nginx/site.conf
        Unchanged example: user web
        Unchanged example: file /srv/index.html
        Unchanged example: service nginx.service
        Summary { unchanged: 5, changed: 0, handlers: 0, rebooting: false }
        ");
    }

    #[test]
    fn files_are_put_in_place_together_after_what_they_need() {
        let mut fake = host();
        let example = Example::recipe(SITE);
        insta::assert_snapshot!(names(&example.run(&mut fake, Files::Together).1).join("\n"), @"
        run started
        start example: package nginx
        start example: user web
        committed 2
        Changed example: package nginx
        Changed example: file /etc/nginx/site.conf
        Changed example: user web
        Changed example: file /srv/index.html
        start example: service nginx.service
        Changed example: service nginx.service
        start example: handler reload nginx
        Changed example: handler reload nginx
        Summary { unchanged: 0, changed: 5, handlers: 1, rebooting: false }
        ");
        assert_eq!(fake.text("/srv/index.html").as_deref(), Some("hello"));
        insta::assert_snapshot!(names(&example.run(&mut fake, Files::Together).1).join("\n"), @"
        run started
        committed 0
        Unchanged example: package nginx
        Unchanged example: file /etc/nginx/site.conf
        Unchanged example: user web
        Unchanged example: file /srv/index.html
        Unchanged example: service nginx.service
        Summary { unchanged: 5, changed: 0, handlers: 0, rebooting: false }
        ");
    }

    #[test]
    fn when_files_go_together_one_that_cannot_be_had_keeps_all_back() {
        let broken = SITE.replace("owner: web", "owner: nobody-at-all");
        let mut fake = host();
        let (result, _) = Example::recipe(&broken).run(&mut fake, Files::Together);
        assert!(result.is_err());
        assert!(!fake.performed.iter().any(|op| matches!(op, Op::WriteFile(_))), "no file is in place");
    }

    /// Whatever operation fails, what comes after it is not tried, the error says so, and the next run
    /// finishes the job, handlers included.
    #[test]
    fn a_run_that_fails_at_any_operation_is_finished_by_the_next() {
        for files in [Files::InTurn, Files::Together] {
            let example = Example::recipe(SITE);
            let mut whole = host();
            example.run(&mut whole, files).0.expect("it converges");
            let operations = whole.performed.len();
            assert!(operations >= 6, "there is something to fail");
            for operation in 0..operations {
                let mut fake = host();
                fake.fail_at(operation);
                let (result, events) = example.run(&mut fake, files);
                let error = result.expect_err("it fails");
                assert!(error.to_string().contains("failed to"), "{error}");
                assert!(matches!(events.last(), Some(Event::RunFailed { .. })));
                assert!(fake.performed.len() <= operation, "nothing after it is tried");
                fake.heal();
                example.run(&mut fake, files).0.expect("the next run finishes");
                assert!(example.plan(&fake).expect("a plan").is_empty());
                assert_eq!(fake.pending_handlers().expect("read"), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn a_handler_that_was_notified_before_a_failure_runs_in_the_next_run() {
        let mut fake = host();
        Example::recipe(SITE).converge(&mut fake).expect("it converges");
        let changed =
            SITE.replace("content: \"a\"", "content: \"b\"").replace("content: hello", "content: bye");
        let before = fake.performed.len();
        fake.fail_at(before + 1);
        Example::recipe(&changed).converge(&mut fake).expect_err("the second file fails");
        assert_eq!(fake.pending_handlers().expect("read"), ["example/reload nginx"]);
        fake.heal();
        Example::recipe(&changed).converge(&mut fake).expect("it converges");
        let reload = Op::Unit { name: "nginx.service".into(), action: UnitAction::Reload };
        assert_eq!(fake.performed.last(), Some(&reload));
        assert_eq!(fake.pending_handlers().expect("read"), Vec::<String>::new());
    }

    #[test]
    fn files_behind_a_service_that_is_yet_to_start_are_put_in_place_with_the_others() {
        let mut fake = host();
        let behind = "  - file: { path: /etc/behind, content: b }\nhandlers:";
        let example = Example::recipe(&SITE.replace("handlers:", behind));
        let (_, events) = example.run(&mut fake, Files::Together);
        assert!(names(&events).contains(&"committed 3".to_owned()), "{:#?}", names(&events));
    }

    #[test]
    fn what_comes_after_a_command_is_not_put_in_place_before_it() {
        let mut fake = Fake::debian();
        let example = Example::resources(
            "
- file: { path: /etc/a, content: a }
- command: { argv: [make-defaults] }
- file: { path: /etc/b, content: b }
",
        );
        let (_, events) = example.run(&mut fake, Files::Together);
        insta::assert_snapshot!(names(&events).join("\n"), @"
        run started
        Changed example: file /etc/a
        start example: command make-defaults
        Changed example: command make-defaults
        start example: file /etc/b
        Changed example: file /etc/b
        committed 1
        Summary { unchanged: 0, changed: 3, handlers: 0, rebooting: false }
        ");
    }

    /// Services that wait for the files must not start on some of them.
    #[test]
    fn a_commit_with_files_to_follow_is_told_of_before_the_first_service_starts() {
        let mut fake = host();
        let text = SITE.replace("  - service:", "  - command: { argv: [make-defaults] }\n  - file: { path: /etc/behind, content: b }\n  - service:");
        let (result, events) = Example::recipe(&text).run(&mut fake, Files::Together);
        result.expect("it converges");
        let names = names(&events);
        let place = |wanted: &str| {
            names.iter().position(|name| name == wanted).unwrap_or_else(|| panic!("{wanted}: {names:#?}"))
        };
        assert!(place("Changed example: file /etc/behind") < place("committed 2"));
        assert!(place("committed 2") < place("Changed example: service nginx.service"));
    }
}
