//! `reboot`: the host is booted anew, and the run goes on after that.

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::AbsolutePath;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, Mode, PlanError};

/// A live host that is booted anew, when something asks for it: a file that is there, or what notifies it as a
/// handler.
///
/// The run ends there, and what comes behind is for the run after the boot: that of the agent's unit, or the
/// next `bootstrap-agent apply`. Until one has come to its end, a resource reboots the host once: if its file
/// is still there then, that is an error, and as a handler it counts as done.
///
/// In a bake it does nothing: whatever starts from the image boots it anew.
///
/// ```yaml
/// - reboot: { if_exists: /run/reboot-required }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reboot {
    /// The file that asks for it, which the boot or the run after it removes; without it, it is for a handler.
    if_exists: Option<AbsolutePath>,
}

impl Fields for Reboot {
    const KIND: &'static str = "reboot";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        Ok(Box::new(self))
    }
}

impl Resource for Reboot {
    fn subject(&self) -> String {
        self.if_exists.as_ref().map_or_else(|| "the host".into(), |path| format!("if {path} exists"))
    }

    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    fn is_reaction(&self) -> bool {
        self.if_exists.is_none()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if facts.host().mode == Mode::Bake {
            return Ok(Vec::new());
        }
        if let Some(path) = &self.if_exists
            && facts.entry(path.as_path())?.known()?.is_none()
        {
            return Ok(Vec::new());
        }
        if !facts.host().systemd {
            return Err(PlanError::impossible_but(
                "this host cannot be rebooted: systemd does not run it",
                "write `when: facts.systemd`",
            ));
        }
        Ok(vec![Op::Reboot])
    }
}

#[cfg(test)]
mod tests {
    use crate::event::{Event, Summary};
    use crate::op::Op;
    use crate::run::Files;
    use crate::system::fake::Fake;
    use crate::system::{Facts, Host, Machine};
    use crate::testing::Example;

    const ASKED: &str = "/run/reboot-required";
    const RECIPE: &str = "
- file: { path: /etc/before, content: x }
- reboot: { if_exists: /run/reboot-required }
- file: { path: /etc/after, content: x }
";

    fn asking() -> Fake {
        let mut fake = Fake::debian();
        fake.file(ASKED, "");
        fake
    }

    #[test]
    fn settles_where_nothing_asks_for_it_and_in_a_bake() {
        let example = Example::resources("- reboot: { if_exists: /run/reboot-required }");
        example.settles(&mut Fake::debian());
        let mut builder = Fake::builder();
        builder.file(ASKED, "");
        example.settles(&mut builder);
        assert!(builder.performed.is_empty());
    }

    #[test]
    fn the_run_ends_with_it_and_the_next_one_goes_on() {
        for files in [Files::InTurn, Files::Together] {
            let mut fake = asking();
            let example = Example::resources(RECIPE);
            insta::allow_duplicates! {
                insta::assert_snapshot!(example.plan(&fake).expect("a plan"), @r"
                example: file /etc/before
                  + create /etc/before (root:root 0644, 1 bytes)
                      --- /dev/null
                      +++ /etc/before
                      @@ -0,0 +1 @@
                      +x
                      \ No newline at end of file
                example: reboot if /run/reboot-required exists
                  > reboot the host, and go on after that
                example: file /etc/after (assumed)
                  ? create /etc/after (root:root 0644, 1 bytes), unless the boot brings it
                      --- /dev/null
                      +++ /etc/after
                      @@ -0,0 +1 @@
                      +x
                      \ No newline at end of file
                Plan: 2 to change, 1 known after apply, 0 unchanged.
                Of these 2 observed, 0 derived, 1 assumed.
                ");
            }
            let (result, events) = example.run(&mut fake, files);
            assert_eq!(
                result.expect("it ends well"),
                Summary { changed: 1, rebooting: true, ..Summary::default() }
            );
            assert_eq!(fake.performed.last(), Some(&Op::Reboot));
            assert!(fake.text("/etc/before").is_some() && fake.text("/etc/after").is_none());
            assert!(
                !events.iter().any(|event| matches!(event, Event::Committed { .. })),
                "not all is in place"
            );
            let told = events.iter().position(|event| matches!(event, Event::Rebooting { .. }));
            assert!(told.is_some_and(|at| at == events.len() - 2), "{events:?}");

            fake.boots();
            fake.apply(&Op::Remove { path: ASKED.into(), directory: false });
            let (result, _) = example.run(&mut fake, files);
            assert_eq!(
                result.expect("it converges"),
                Summary { changed: 1, unchanged: 2, ..Summary::default() }
            );
            assert!(fake.text("/etc/after").is_some());
        }
    }

    #[test]
    fn a_host_is_not_rebooted_for_ever() {
        let mut fake = asking();
        let example = Example::resources(RECIPE);
        assert!(example.converge(&mut fake).expect("it reboots").rebooting);
        // Before the boot has come, it is asked for again.
        assert!(example.converge(&mut fake).expect("it reboots").rebooting);
        fake.boots();
        insta::assert_snapshot!(example.fails(&mut fake), @"example: reboot if /run/reboot-required exists: the host was rebooted for this, and it asks for it still; find out why what asks for it is still there after a boot");
        // Once a run has come to its end, what asks for it is another reason.
        fake.apply(&Op::Remove { path: ASKED.into(), directory: false });
        example.converge(&mut fake).expect("it converges");
        fake.file(ASKED, "");
        assert!(example.converge(&mut fake).expect("it reboots").rebooting);
    }

    #[test]
    fn a_handler_reboots_once_and_those_behind_it_run_after_the_boot() {
        let example = Example::recipe(
            "
resources:
  - file: { path: /etc/before, content: x }
    notify: [reboot, tell]
handlers:
  reboot: { reboot: {} }
  tell: { command: { argv: [tell] } }
",
        );
        let mut fake = Fake::debian();
        assert!(example.converge(&mut fake).expect("it reboots").rebooting);
        assert_eq!(fake.pending_handlers().expect("read"), ["example/reboot", "example/tell"]);
        fake.boots();
        let summary = example.converge(&mut fake).expect("it converges");
        assert_eq!(summary, Summary { unchanged: 1, handlers: 1, ..Summary::default() });
        assert_eq!(fake.performed.iter().filter(|op| **op == Op::Reboot).count(), 1);
        assert_eq!(fake.pending_handlers().expect("read"), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_rebooted_is_an_error() {
        insta::assert_snapshot!(Example::resources("- reboot: {}").problems(), @"example/recipe.yaml:2:5: this is done every time, so it is for a handler; put it under `handlers:` and `notify` it from what it depends on");
        let mut fake = Fake::with_host(Host { systemd: false, ..Fake::debian().host().clone() });
        fake.file(ASKED, "");
        insta::assert_snapshot!(Example::resources(RECIPE).fails(&mut fake), @"example: reboot if /run/reboot-required exists: this host cannot be rebooted: systemd does not run it; write `when: facts.systemd`");
    }
}
