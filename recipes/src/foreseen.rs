//! What would be done for one resource, against the facts as those before it will leave them.

use crate::change::{Change, Fingerprint};
use crate::op::{Before, Content, Op, WriteFile};
use crate::plan::Basis;
use crate::registered::LATER;
use crate::resolve::Step;
use crate::resource::Claim;
use crate::run::{RunError, begins_transaction, goes_on_with_transaction};
use crate::system::simulated::{Pretence, Simulated};
use crate::system::{Attributes, PlanError};

/// What would be done for a resource.
pub(crate) struct Foreseen {
    /// As operations; none if it is not known which.
    pub(crate) ops: Option<Vec<Op>>,
    /// As it is shown.
    pub(crate) changes: Vec<Change>,
    pub(crate) basis: Basis,
    /// The text that it adds to a file of which nothing else is known.
    adds: Option<String>,
}

impl Foreseen {
    /// Takes it as done.
    pub(crate) fn happen(&self, step: &Step, simulated: &mut Simulated<'_>) {
        match &self.ops {
            Some(ops) => ops.iter().for_each(|op| simulated.foresee(op, Some(&*step.resource))),
            None => {
                simulated.foresee_unknown(&format!("`{}`", step.id), &*step.resource, self.adds.clone());
            }
        }
    }
}

/// What would be done for the next resource, and for those behind it that a run makes true together with it.
pub(crate) fn next_batch(
    steps: &[Step],
    simulated: &mut Simulated<'_>,
    secrets: Option<&Fingerprint<'_>>,
) -> Result<Vec<Foreseen>, RunError> {
    let Some((first, rest)) = steps.split_first() else { return Ok(Vec::new()) };
    let mut batch = vec![foresee(first, simulated, secrets)?];
    if batch[0].ops.as_deref().is_some_and(begins_transaction) {
        for step in rest.iter().take_while(|step| goes_on_with_transaction(step)) {
            batch.push(foresee(step, simulated, secrets)?);
        }
    }
    Ok(batch)
}

/// What would be done for a resource.
pub(crate) fn foresee(
    step: &Step,
    simulated: &mut Simulated<'_>,
    secrets: Option<&Fingerprint<'_>>,
) -> Result<Foreseen, RunError> {
    let shown = |op: &Op| match secrets {
        Some(secrets) => Change::from(op).with_fingerprints(op, secrets),
        None => Change::from(op),
    };
    simulated.read_anew();
    let why = match step.resource.plan(simulated) {
        Ok(ops) => {
            let runs = ops.iter().any(|op| matches!(op, Op::Run(_)));
            let basis = match simulated.read() {
                Some(basis) => basis,
                // A command that nothing is asked for runs every time, and nobody knows what for.
                None if runs => Basis::Assumed,
                None => Basis::Observed,
            };
            let changes = ops.iter().map(shown).collect();
            return Ok(Foreseen { ops: Some(ops), changes, basis, adds: None });
        }
        Err(PlanError::Unknown(why)) => why,
        Err(error) => return Err(RunError::planning(step, error)),
    };
    if let Some(write) = created_anyway(step, simulated) {
        let changes = vec![Change::incomplete(&write)];
        return Ok(Foreseen { ops: None, changes, basis: Basis::Derived, adds: None });
    }
    if let Some(Written { write, is_whole }) = written_anyway(step, simulated) {
        let (text, op) = (text_of(&write), Op::WriteFile(write));
        let (change, ops, adds) = if is_whole {
            (shown(&op).even_if(&why), Some(vec![op]), None)
        } else {
            (shown(&op).in_unknown(), None, Some(text))
        };
        return Ok(Foreseen { ops, changes: vec![change], basis: Basis::Derived, adds });
    }
    // What would be done if what is absent stayed absent is the best that can be shown.
    let planned = simulated.pretending(Pretence::Absent, |simulated| step.resource.plan(simulated));
    let (ops, changes) = match planned {
        Ok(ops) if !ops.is_empty() => {
            let changes = ops.iter().map(|op| shown(op).unless(&why)).collect();
            (Some(ops), changes)
        }
        _ => (None, vec![Change::unknown(&why)]),
    };
    Ok(Foreseen { ops, changes, basis: Basis::Assumed, adds: None })
}

/// What makes a file whose text, and nothing else, depends on commands that have yet to run: it is not there, so it will be made.
fn created_anyway(step: &Step, simulated: &Simulated<'_>) -> Option<WriteFile> {
    let planned = step.resource.foreseen()?.plan(simulated).ok()?;
    match <[Op; 1]>::try_from(planned).ok()? {
        [Op::WriteFile(write)] if write.before == Before::Absent => {
            let Attributes { owner, group, .. } = &write.attributes;
            let is_known = |text: &str| !text.contains(LATER);
            (is_known(&write.path.to_string_lossy()) && is_known(owner) && is_known(group)).then_some(write)
        }
        _ => None,
    }
}

/// A file that is written whatever is in it before.
struct Written {
    write: WriteFile,
    /// Whether nothing of what was there stays.
    is_whole: bool,
}

/// What is written for a resource of which it is not known what is there before it: nothing is, or nothing that may be there has
/// its text in it.
fn written_anyway(step: &Step, simulated: &mut Simulated<'_>) -> Option<Written> {
    if !step.resource.is_verbatim() {
        return None;
    }
    let (path, is_whole) = match &step.resource.claims()[..] {
        [Claim::Path(path)] => (path.clone(), true),
        [Claim::Line { path, .. } | Claim::Block { path, .. }] => (path.clone(), false),
        _ => return None,
    };
    let pretence = Pretence::EmptyFile(path);
    let planned = simulated.pretending(pretence, |simulated| step.resource.plan(simulated)).ok()?;
    let [Op::WriteFile(mut write)] = <[Op; 1]>::try_from(planned).ok()? else { return None };
    if write.content.is_secret() {
        return None;
    }
    if write.before == Before::Absent {
        return Some(Written { write, is_whole: true });
    }
    if !simulated.is_new(&write.path, &text_of(&write)) {
        return None;
    }
    // Whose an unknown file is, is not known either.
    let empty = Before::File { content: Content::new(""), attributes: None };
    write.before = if is_whole { Before::Absent } else { empty };
    Some(Written { write, is_whole })
}

fn text_of(write: &WriteFile) -> String {
    String::from_utf8_lossy(write.content.bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::plan::{Basis, Guards, Plan, plan_with_transaction};
    use crate::system::fake::Fake;
    use crate::system::{Attributes, Entry, EntryKind, Facts, PackageArchive};
    use crate::testing::Example;

    /// What the package `site` brings: scripts, and a file beside `/etc/site` which they copy there.
    fn host(scripts: &str, sample: &str) -> Fake {
        let attributes = Attributes { owner: "root".into(), group: "root".into(), mode: 0o755 };
        let entry = |kind| Entry { kind, attributes: attributes.clone() };
        let entries = BTreeMap::from([
            ("/etc/site".into(), (entry(EntryKind::Directory), None)),
            ("/etc/site/rules".into(), (entry(EntryKind::Directory), None)),
            ("/usr/share/site/sample".into(), (entry(EntryKind::File), Some(sample.into()))),
        ]);
        let mut fake = Fake::debian();
        fake.solve_to(&[("site", Some("1"))]);
        fake.has_archive(
            "site",
            PackageArchive { entries, scripts: scripts.into(), ..PackageArchive::default() },
        );
        fake
    }

    fn planned(fake: &Fake, behind: &str) -> Plan {
        let example = Example::resources(&format!("- package: {{ name: site }}\n{behind}"));
        let resolved = example.resolve(fake.host()).expect("valid");
        plan_with_transaction(&resolved, fake, Guards::Skip, &[], None).expect("a plan")
    }

    fn basis(fake: &Fake, behind: &str) -> Basis {
        planned(fake, behind).items.last().expect("an item").basis
    }

    const COPIES: &str = "ucf /usr/share/site/sample /etc/site/conf\n";

    #[test]
    fn what_no_package_has_is_written_whatever_their_scripts_put_there() {
        let fake = host(COPIES, "workers = 4\n# As it comes.\n");
        let behind = "
- file: { path: /etc/site/conf, content: \"workers = 4\\n# As we want it.\\n\" }
";
        insta::assert_snapshot!(planned(&fake, behind), @"
        example: package site
          + install site 1 (600 kB to download)
        example: file /etc/site/conf (derived)
          + create /etc/site/conf (root:root 0644, 29 bytes), even if installing site brings it
              --- /dev/null
              +++ /etc/site/conf
              @@ -0,0 +1,2 @@
              +workers = 4
              +# As we want it.
        Plan: 2 to change, 0 unchanged.
        Of these 1 observed, 1 derived, 0 assumed.
        ");
        let lines = "
- line: { path: /etc/site/conf, match: '^level', line: level = careful }
- line: { path: /etc/site/conf, line: include /etc/site/more }
- block: { path: /etc/site/conf, name: more, content: \"of it all\\n\" }
";
        insta::assert_snapshot!(planned(&fake, lines), @"
        example: package site
          + install site 1 (600 kB to download)
        example: line /etc/site/conf: level = careful (derived)
          ~ change /etc/site/conf, whatever is in it by then
              --- /etc/site/conf
              +++ /etc/site/conf
              @@ -0,0 +1 @@
              +level = careful
        example: line /etc/site/conf: include /etc/site/more (derived)
          ~ change /etc/site/conf, whatever is in it by then
              --- /etc/site/conf
              +++ /etc/site/conf
              @@ -0,0 +1 @@
              +include /etc/site/more
        example: block /etc/site/conf: more (derived)
          ~ change /etc/site/conf, whatever is in it by then
              --- /etc/site/conf
              +++ /etc/site/conf
              @@ -0,0 +1,3 @@
              +# BEGIN managed block more
              +of it all
              +# END managed block more
        Plan: 4 to change, 0 unchanged.
        Of these 1 observed, 3 derived, 0 assumed.
        ");
    }

    #[test]
    fn what_a_package_has_or_may_make_may_be_there_already() {
        let file = "- file: { path: /etc/site/conf, content: \"workers = 4\\n\" }";
        let line = "- line: { path: /etc/site/conf, line: workers = 4 }";
        for told in [file, line] {
            assert_eq!(basis(&host(COPIES, "# The default.\n  workers = 4\n"), told), Basis::Assumed);
            assert_eq!(
                basis(&host("echo \"workers = $(nproc)\" > /etc/site/conf\n", ""), told),
                Basis::Assumed
            );
            assert_eq!(
                basis(&host("touch /etc/site/conf; workers=$(nproc)\n", "nothing\n"), told),
                Basis::Assumed
            );
            assert_eq!(basis(&host(COPIES, "workers = 5\n"), told), Basis::Derived);
        }
        // A variable may be all of a line.
        let name = "- file: { path: /etc/site/conf, content: \"mail.example.org\\n\" }";
        assert_eq!(basis(&host("echo \"$NAME\" > /etc/site/conf\n", ""), name), Basis::Assumed);
        let printed = "printf '[main]\\nworkers = %s\\n' 4 > /etc/site/conf\n";
        assert_eq!(basis(&host(printed, ""), line), Basis::Assumed);
        // As short as that is anything.
        assert_eq!(basis(&host(COPIES, ""), "- line: { path: /etc/site/conf, line: a = 1 }"), Basis::Assumed);
        // Who says the same in other words has said it.
        let key = "- ini: { path: /etc/site/conf, key: workers, value: \"4000\" }";
        assert_eq!(basis(&host(COPIES, "workers=5\n"), key), Basis::Assumed);
        let absent = "- file: { path: /etc/site/conf, state: absent }";
        assert_eq!(basis(&host(COPIES, ""), absent), Basis::Assumed);
    }

    #[test]
    fn a_folder_that_a_package_may_make_has_what_is_put_into_it() {
        let fake = host("new_cluster /etc/site/main\n", "");
        let behind = "- file: { path: /etc/site/main/ours, content: \"1\" }";
        assert_eq!(basis(&fake, behind), Basis::Derived);
        let line = "- line: { path: /etc/site/main/more, line: a, create: true }";
        let told = planned(&fake, line).to_string();
        assert!(
            told.contains("(derived)\n  + create /etc/site/main/more (root:root 0644, 2 bytes), even if"),
            "{told}"
        );
    }

    #[test]
    fn a_folder_that_is_emptied_has_no_more_in_it_than_before() {
        let fake = host("make-rules /etc/site/rules\n", "");
        let emptied = "- directory: { path: /etc/site/rules, purge: true, keep: [\"*-ours\"] }";
        assert_eq!(basis(&fake, emptied), Basis::Assumed);
        let file = format!("{emptied}\n- file: {{ path: /etc/site/rules/1-ours, content: x }}");
        assert_eq!(basis(&fake, &file), Basis::Derived);
    }

    #[test]
    fn what_may_become_of_a_file_matters_to_its_folder_and_not_to_those_above() {
        let mut fake = Fake::debian();
        fake.directory("/srv/a");
        fake.directory("/srv/a/b");
        fake.file("/srv/a/b/c", "old");
        let behind = |folder: &str| {
            let text = format!(
                "
- file: {{ path: /etc/before, content: x }}
- command: {{ argv: [id] }}
  register: who
- file: {{ path: /srv/a/b/c, content: \"{{{{ registered.who.stdout }}}}\" }}
- permissions: {{ path: {folder}, match: \"x*\", file_mode: \"0600\" }}
"
            );
            let resolved = Example::resources(&text).resolve(fake.host()).expect("valid");
            let plan = plan_with_transaction(&resolved, &fake, Guards::Run, &[], None).expect("a plan");
            plan.items.last().expect("an item").basis
        };
        assert_eq!((behind("/srv/a/b"), behind("/srv/a")), (Basis::Assumed, Basis::Observed));
    }

    #[test]
    fn a_file_made_of_what_a_command_will_print_is_made_where_there_is_none() {
        let mut fake = Fake::debian();
        let told = |fake: &Fake, command: &str, path: &str| {
            let text = format!(
                "
- file: {{ path: /etc/before, content: x }}
- command: {{ {command} }}
  register: who
- file: {{ path: \"{path}\", content: \"{{{{ registered.who.stdout }}}}\" }}
"
            );
            let resolved = Example::resources(&text).resolve(fake.host()).expect("valid");
            let plan = plan_with_transaction(&resolved, fake, Guards::Run, &[], None).expect("a plan");
            Plan { items: plan.items.into_iter().skip(1).collect() }.to_string()
        };
        insta::assert_snapshot!(told(&fake, "argv: [id]", "/etc/who"), @r"
        example: file /etc/who (derived)
          + create /etc/who (root:root 0644), with content known after apply
              --- /dev/null
              +++ /etc/who
              @@ -0,0 +1 @@
              +(known after apply)
              \ No newline at end of file
        Plan: 1 to change, 1 unchanged.
        Of these 0 observed, 1 derived, 1 assumed.
        ");
        let later = "? known after apply: whether `id` then prints the same";
        assert!(told(&fake, "argv: [id]", "/srv/{{ registered.who.stdout }}").contains(later));
        // A secret is written elsewhere, and linked to.
        insta::assert_snapshot!(told(&fake, "argv: [id], sensitive: true", "/etc/who"), @"
        example: file /etc/who (assumed)
          ? known after apply: whether `id` then prints the same
        Plan: 0 to change, 1 known after apply, 1 unchanged.
        Of these 0 observed, 0 derived, 2 assumed.
        ");
        fake.file("/etc/who", "root");
        assert!(told(&fake, "argv: [id]", "/etc/who").contains(later));
    }

    #[test]
    fn settings_that_may_be_overridden_by_what_comes_are_written_all_the_same() {
        let fake = host("rm -f /etc/sysctl.d/old.conf; ls /etc/sysctl.d\n", "");
        assert_eq!(
            basis(&fake, "- sysctl: { name: net, settings: { net.ipv4.ip_forward: 0 } }"),
            Basis::Derived
        );
    }
}
