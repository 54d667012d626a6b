//! The plan of a whole run: what apply would do, found without doing anything.
//!
//! Each resource is planned against the facts as the operations before it will leave them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Change, ChangeKind, Fingerprint};
use crate::foreseen::{Foreseen, foresee, next_batch};
use crate::installations::Installations;
use crate::op::{Op, UnitAction};
use crate::resolve::Resolved;
use crate::resource::SECRET_FILES;
use crate::run::RunError;
use crate::system::Facts;
use crate::system::simulated::Simulated;

/// What a run would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Every resource, and every handler that would run, in order.
    pub items: Vec<PlanItem>,
}

/// What a run would do for one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanItem {
    /// The id of the resource.
    pub resource: String,
    /// What would be done; nothing if it is true already.
    pub changes: Vec<Change>,
    /// How that is known.
    pub basis: Basis,
    /// Of a handler, the resources that notify it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notified_by: Vec<String>,
}

/// How it is known what would be done for a resource, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// What it is about was read on the host, and compared.
    Observed,
    /// It follows from what earlier operations of the plan will have made, or is so whatever they make.
    Derived,
    /// It rests on what only happens when the plan is applied: what a command does, what a package brings.
    Assumed,
}

impl fmt::Display for Basis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Observed => "observed",
            Self::Derived => "derived",
            Self::Assumed => "assumed",
        })
    }
}

/// How many things of a plan are known in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bases {
    /// Read on the host.
    pub observed: usize,
    /// Following from earlier operations.
    pub derived: usize,
    /// Not known before the plan is applied.
    pub assumed: usize,
}

/// Whether a plan runs the `unless` and `onlyif` of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guards {
    /// It does not: their answers are unknown.
    Skip,
    /// It does, where they cannot write, as long as nothing that would change comes before.
    Run,
}

/// Plans a whole run against a host.
///
/// # Errors
/// The first resource that apply would fail at.
pub fn plan(resolved: &Resolved, facts: &dyn Facts, guards: Guards) -> Result<Plan, RunError> {
    plan_with_pending(resolved, facts, guards, &[])
}

/// Plans a whole run on a host where handlers are still pending from an earlier one.
///
/// # Errors
/// The first resource that apply would fail at.
pub fn plan_with_pending(
    resolved: &Resolved,
    facts: &dyn Facts,
    guards: Guards,
    pending: &[String],
) -> Result<Plan, RunError> {
    Ok(planned(resolved, &mut Simulated::over(facts, guards), pending, None)?.0)
}

/// The same, and what comes with the packages that are installed. If there are any, the package manager is
/// asked once, of the package lists at hand. Where archives of packages are at hand, too, what is behind them is planned
/// against what they have in them. With `secrets`, each secret is shown as its fingerprint.
///
/// # Errors
/// The first resource that apply would fail at.
pub fn plan_with_transaction(
    resolved: &Resolved,
    facts: &dyn Facts,
    guards: Guards,
    pending: &[String],
    secrets: Option<&Fingerprint<'_>>,
) -> Result<Plan, RunError> {
    let mut simulated = Simulated::over(facts, guards);
    let (mut plan, mut installations) = planned(resolved, &mut simulated, pending, secrets)?;
    let Some(changes) = installations.transaction(facts) else { return Ok(plan) };
    if let Some(archives) = installations.archives(&changes, facts, simulated.looked_for()) {
        let mut simulated = Simulated::over(facts, guards).with_archives(archives);
        (plan, installations) = planned(resolved, &mut simulated, pending, secrets)?;
    }
    installations.tell(&mut plan, &changes);
    Ok(plan)
}

fn planned(
    resolved: &Resolved,
    simulated: &mut Simulated<'_>,
    pending: &[String],
    secrets: Option<&Fingerprint<'_>>,
) -> Result<(Plan, Installations), RunError> {
    let mut plan = Plan::default();
    // Handlers with the items that notify them; those of an earlier run have none.
    let mut notified: BTreeMap<&str, Vec<usize>> =
        pending.iter().map(|handler| (handler.as_str(), Vec::new())).collect();
    let mut installations = Installations::default();
    for recipe in &resolved.recipes {
        let mut steps = recipe.resources.as_slice();
        while !steps.is_empty() {
            let batch = next_batch(steps, simulated, secrets)?;
            let (done, rest) = steps.split_at(batch.len());
            for (step, foreseen) in done.iter().zip(batch) {
                foreseen.happen(step, simulated);
                let Foreseen { ops, changes, basis, .. } = foreseen;
                installations.note(plan.items.len(), &ops.unwrap_or_default());
                if !changes.is_empty() {
                    for handler in &step.notify {
                        notified.entry(handler).or_default().push(plan.items.len());
                    }
                }
                let notified_by = Vec::new();
                plan.items.push(PlanItem { resource: step.id.clone(), changes, basis, notified_by });
            }
            steps = rest;
        }
        for (id, step) in &recipe.handlers {
            let Some(by) = notified.get(id.as_str()) else { continue };
            let foreseen = foresee(step, simulated, secrets)?;
            let read = simulated.read();
            foreseen.happen(step, simulated);
            let changes = foreseen.changes;
            if changes.is_empty() {
                continue;
            }
            // It runs for certain if one of those that notify it does, unless it has to look and cannot.
            let notifying = by.iter().filter_map(|index| plan.items.get(*index));
            let basis = match notifying.clone().map(|item| item.basis.max(Basis::Derived)).min() {
                Some(basis) if !pending.contains(id) => basis,
                // An earlier run left it to be done.
                _ => Basis::Observed,
            };
            let basis = if read == Some(Basis::Assumed) { Basis::Assumed } else { basis };
            let notified_by = notifying.map(|item| item.resource.clone()).collect();
            plan.items.push(PlanItem { resource: step.id.clone(), changes, basis, notified_by });
        }
    }
    Ok((plan, installations))
}

impl Plan {
    /// Whether everything is true already.
    pub fn is_empty(&self) -> bool {
        self.items.iter().all(|item| item.changes.is_empty())
    }

    /// How many resources would change for certain, may change, and are true already.
    pub fn counts(&self) -> (usize, usize, usize) {
        let unknown = |item: &&PlanItem| {
            !item.changes.is_empty() && item.changes.iter().all(|change| change.kind == ChangeKind::Unknown)
        };
        let unchanged = self.items.iter().filter(|item| item.changes.is_empty()).count();
        let unknown = self.items.iter().filter(unknown).count();
        (self.items.len() - unchanged - unknown, unknown, unchanged)
    }

    /// How many resources are known in which way, those that are true already among them.
    pub fn bases(&self) -> Bases {
        let count = |basis| self.items.iter().filter(|item| item.basis == basis).count();
        Bases {
            observed: count(Basis::Observed),
            derived: count(Basis::Derived),
            assumed: count(Basis::Assumed),
        }
    }
}

/// The plan as people read it: like a diff, with a last line that counts.
impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in self.items.iter().filter(|item| !item.changes.is_empty()) {
            write!(formatter, "{}", item.resource)?;
            if item.basis != Basis::Observed {
                write!(formatter, " ({})", item.basis)?;
            }
            if !item.notified_by.is_empty() {
                write!(formatter, ", notified by {}", item.notified_by.join(", "))?;
            }
            writeln!(formatter)?;
            for change in &item.changes {
                writeln!(formatter, "  {change}")?;
                for line in change.diff.iter().flat_map(|diff| diff.lines()) {
                    writeln!(formatter, "      {line}")?;
                }
            }
        }
        let (changed, unknown, unchanged) = self.counts();
        write!(formatter, "Plan: {changed} to change")?;
        if unknown > 0 {
            write!(formatter, ", {unknown} known after apply")?;
        }
        write!(formatter, ", {unchanged} unchanged.")?;
        let Bases { observed, derived, assumed } = self.bases();
        if derived + assumed > 0 {
            write!(formatter, "\nOf these {observed} observed, {derived} derived, {assumed} assumed.")?;
        }
        Ok(())
    }
}

/// Whether an operation is done before any file is put in place: what files need to be there first.
pub(crate) fn is_foundation(op: &Op) -> bool {
    // Where packages come from has to be there before they are installed.
    if let Some(path) = op.path()
        && is_of_package_manager(path)
    {
        return true;
    }
    matches!(
        op,
        Op::InstallPackages { .. }
            | Op::RemovePackages { .. }
            | Op::UpgradePackages { .. }
            | Op::CreateGroup { .. }
            | Op::ModifyGroup { .. }
            | Op::CreateUser(_)
            | Op::ModifyUser(_)
            | Op::CreateDirectory { .. }
    )
}

/// Whether what is at a path tells the package manager where packages come from, which it may take, and how.
/// Credentials for it are secrets, which a live host keeps elsewhere.
pub(crate) fn is_of_package_manager(path: &Path) -> bool {
    let path =
        path.strip_prefix(SECRET_FILES).map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest));
    let folders = ["/etc/apt", "/etc/yum.repos.d", "/etc/dnf", "/etc/pki/rpm-gpg"];
    folders.iter().any(|folder| path.starts_with(folder))
}

/// Whether what comes after an operation may be about what only performing it makes: a command may make
/// anything, so may an archive, what is waited for may bring anything, a boot empties `/run`, and a file system
/// that is mounted covers what was at its path.
pub(crate) fn is_barrier(op: &Op) -> bool {
    match op {
        // What is in a checkout is known as little as what a command makes.
        Op::Run(_) | Op::Unpack(_) | Op::Checkout(_) | Op::WaitFor { .. } | Op::Reboot => true,
        Op::Unit { name, action: UnitAction::Start } => {
            name.rsplit_once('.').is_some_and(|(_, suffix)| suffix == "mount")
        }
        _ => false,
    }
}

/// Whether an operation can be part of a commit of files.
pub(crate) fn is_file(op: &Op) -> bool {
    matches!(
        op,
        Op::WriteFile(_)
            | Op::Download(_)
            | Op::CreateSymlink { .. }
            | Op::CreateDirectory { .. }
            | Op::SetAttributes { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn a_plan_of_the_whole_sees_what_earlier_resources_will_do() {
        let fake = Fake::debian();
        let example = Example::recipe(
            "
resources:
  - package: { name: nginx }
  - group: { name: app }
  - directory: { path: /srv/app, group: app }
  - file: { path: /srv/app/a, content: \"x\\n\", group: app }
    notify: tell
  - line: { path: /srv/app/b, line: y, create: true }
  - line: { path: /etc/nginx/nginx.conf, line: y }
  - service: { name: nginx, state: running }
handlers:
  tell: { command: { argv: [tell] } }
  other: { command: { argv: [other] } }
",
        );
        insta::assert_snapshot!(example.plan(&fake).expect("a plan"), @"
        example: package nginx
          + install nginx
        example: group app (assumed)
          ? create the group app, unless installing nginx brings it
        example: directory /srv/app (assumed)
          ? create the directory /srv/app (root:app 0755), unless installing nginx brings it
        example: file /srv/app/a (assumed)
          ? create /srv/app/a (root:app 0644, 2 bytes), unless installing nginx brings it
              --- /dev/null
              +++ /srv/app/a
              @@ -0,0 +1 @@
              +x
        example: line /srv/app/b: y (assumed)
          ? create /srv/app/b (root:root 0644, 2 bytes), unless installing nginx brings it
              --- /dev/null
              +++ /srv/app/b
              @@ -0,0 +1 @@
              +y
        example: line /etc/nginx/nginx.conf: y (assumed)
          ? known after apply: whether installing nginx brings it
        example: service nginx.service (assumed)
          ? known after apply: whether installing nginx brings it
        example: handler tell (assumed), notified by example: file /srv/app/a
          > run tell
        Plan: 2 to change, 6 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 7 assumed.
        ");
    }

    #[test]
    fn the_proof_runs_guards_as_long_as_nothing_changes() {
        let mut fake = Fake::debian();
        fake.let_succeed(&["true"]);
        let example = Example::resources("- command: { argv: [make], unless: 'true' }");
        let resolved = example.resolve(fake.host()).expect("valid");
        assert!(plan(&resolved, &fake, Guards::Run).expect("a plan").is_empty());
        assert_eq!(plan(&resolved, &fake, Guards::Skip).expect("a plan").counts(), (0, 1, 0));
        let example = Example::resources(
            "
- file: { path: /etc/a, content: x }
- command: { argv: [make], unless: 'true' }
",
        );
        let resolved = example.resolve(fake.host()).expect("valid");
        assert_eq!(plan(&resolved, &fake, Guards::Run).expect("a plan").counts(), (1, 1, 0));
    }

    #[test]
    fn each_item_tells_how_it_is_known() {
        let mut fake = Fake::debian();
        fake.file("/etc/there", "x");
        let example = Example::recipe(
            "
resources:
  - file: { path: /etc/there, content: x }
  - directory: { path: /srv/app }
  - file: { path: /srv/app/a, content: x }
    notify: certain
  - symlink: { path: /srv/app/b, target: a }
  - command: { argv: [date] }
    notify: [certain, doubtful]
  - file: { path: /srv/app/c, content: x }
handlers:
  certain: { command: { argv: [tell] } }
  doubtful: { command: { argv: [tell, it] } }
  pending: { command: { argv: [tell, at, last] } }
",
        );
        let resolved = example.resolve(fake.host()).expect("valid");
        let pending = resolved.recipes[0].handlers.iter().map(|(id, _)| id.clone());
        let pending: Vec<String> = pending.filter(|id| id.ends_with("pending")).collect();
        let plan = plan_with_pending(&resolved, &fake, Guards::Run, &pending).expect("a plan");
        let known: Vec<String> = plan
            .items
            .iter()
            .map(|item| format!("{}: {}, {:?}", item.resource, item.basis, item.notified_by))
            .collect();
        insta::assert_snapshot!(known.join("\n"), @r#"
        example: file /etc/there: observed, []
        example: directory /srv/app: observed, []
        example: file /srv/app/a: derived, []
        example: symlink /srv/app/b: derived, []
        example: command date: assumed, []
        example: file /srv/app/c: assumed, []
        example: handler certain: derived, ["example: file /srv/app/a", "example: command date"]
        example: handler doubtful: assumed, ["example: command date"]
        example: handler pending: observed, []
        "#);
        assert_eq!(plan.bases(), Bases { observed: 3, derived: 3, assumed: 3 });
    }

    #[test]
    fn what_apply_would_fail_at_the_plan_fails_at() {
        let example = Example::resources(
            "
- file: { path: /etc/a, content: x }
- file: { path: /etc/a/b, content: x }
",
        );
        let error = example.plan(&Fake::debian()).expect_err("a file is no directory");
        insta::assert_snapshot!(error.to_string(), @"example: file /etc/a/b: `/etc/a` is a file, not a directory");
    }
}
