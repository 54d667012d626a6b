//! `command`: a program that is run until it need not be.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::AbsolutePath;
use super::{Claim, Context, Fields, Resource};
use crate::duration::Span;
use crate::error::Problem;
use crate::op::{Command, Op};
use crate::system::{Facts, PlanError};
use crate::words::Words;

/// A program to run, without a shell, with an empty environment but for `PATH`, `HOME` and `LC_ALL`.
///
/// It says how it knows that it is done: `creates` a path, `unless` another command succeeds, or `onlyif`
/// one does. Guards only look: they run where they cannot write, and one that tries gets `EROFS`. A command
/// without any of the three runs every time, and fails the proof of a bake.
///
/// ```yaml
/// - command: { argv: [update-ca-certificates], creates: /etc/ssl/certs/ca-certificates.crt }
/// - command: { argv: passwd --lock root, unless: "grep -q '^root:[!*]' /etc/shadow" }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandResource {
    /// The program and its arguments: a list, or a string that is split at spaces.
    argv: Words,
    /// It is done when this path exists.
    creates: Option<AbsolutePath>,
    /// It is done when this command succeeds.
    unless: Option<Words>,
    /// It is done unless this command succeeds.
    onlyif: Option<Words>,
    /// Variables that the program gets.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Who runs it; `root` if not said.
    user: Option<String>,
    /// Where it runs; `/` if not said.
    cwd: Option<AbsolutePath>,
    /// How long it may run; `5m` if not said.
    timeout: Option<Span>,
}

#[derive(Debug)]
struct Resolved {
    command: Command,
    creates: Option<AbsolutePath>,
    unless: Option<Command>,
    onlyif: Option<Command>,
}

impl Fields for CommandResource {
    const KIND: &'static str = "command";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let with = |words: Words| Command {
            argv: words.0,
            environment: self.environment.clone(),
            directory: self.cwd.as_ref().map(|directory| directory.as_path().to_owned()),
            user: self.user.clone(),
            timeout: self.timeout.map_or(Duration::from_mins(5), |span| span.0),
        };
        Ok(Box::new(Resolved {
            command: with(self.argv),
            creates: self.creates,
            unless: self.unless.map(&with),
            onlyif: self.onlyif.map(&with),
        }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.command.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        // Two equal commands are one thing twice; what they change is not known.
        Vec::new()
    }

    fn runs_every_time(&self) -> bool {
        self.creates.is_none() && self.unless.is_none() && self.onlyif.is_none()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if let Some(path) = &self.creates
            && facts.entry(path.as_path())?.known()?.is_some()
        {
            return Ok(Vec::new());
        }
        if let Some(guard) = &self.unless
            && facts.succeeds(guard)?.known()?
        {
            return Ok(Vec::new());
        }
        if let Some(guard) = &self.onlyif
            && !facts.succeeds(guard)?.known()?
        {
            return Ok(Vec::new());
        }
        Ok(vec![Op::Run(self.command.clone())])
    }
}

#[cfg(test)]
mod tests {
    use crate::op::{Command, Op};
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn settles_by_what_it_creates_or_by_its_guards() {
        let mut fake = Fake::debian();
        fake.file("/etc/made", "");
        Example::resources("- command: { argv: make, creates: /etc/made }").settles(&mut fake);
        fake.let_succeed(&["test", "-e", "/x"]);
        let example = Example::resources("- command: { argv: make, unless: test -e /x }");
        insta::assert_snapshot!(example.plan(&fake).expect("a plan"), @"
        example: command make
          ? known after apply: whether `test -e /x` succeeds
        Plan: 0 to change, 1 known after apply, 0 unchanged.
        ");
        example.converge(&mut fake).expect("it converges");
        Example::resources("- command: { argv: make, onlyif: [test, -e, /y] }")
            .converge(&mut fake)
            .expect("it converges");
        assert!(fake.performed.is_empty());
    }

    #[test]
    fn a_command_that_leaves_its_condition_false_did_not_settle() {
        let mut fake = Fake::debian();
        let example = Example::resources("- command: { argv: make it, creates: /etc/made }");
        insta::assert_snapshot!(example.fails(&mut fake), @"
        example: command make it: did not settle: after it was applied it still needs to change
          > run make it
        ");
    }

    #[test]
    fn without_a_condition_it_runs_every_time_and_fails_a_bake() {
        let example = Example::resources("- command: { argv: [date] }");
        let mut live = Fake::debian();
        example.converge(&mut live).expect("a live host may");
        example.converge(&mut live).expect("and again");
        assert_eq!(live.performed.len(), 2);
        insta::assert_snapshot!(example.fails(&mut Fake::builder()), @"
        example: command date: did not settle: after it was applied it still needs to change
          > run date; say how the command knows that it is done: `creates`, `unless` or `onlyif`
        ");
    }

    #[test]
    fn all_fields_reach_the_program() {
        let mut fake = Fake::debian();
        let example = Example::resources(
            "- command: { argv: \"a 'b c'\", environment: { X: y }, user: app, cwd: /srv, timeout: 90s }",
        );
        example.converge(&mut fake).expect("it converges");
        let [Op::Run(Command { argv, environment, directory, user, timeout })] = &fake.performed[..] else {
            panic!("one command")
        };
        assert_eq!((argv[1].as_str(), environment["X"].as_str(), user.as_deref()), ("b c", "y", Some("app")));
        assert_eq!((directory.as_deref(), timeout.as_secs()), (Some("/srv".as_ref()), 90));
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- command: {fields}")).problems();
        insta::assert_snapshot!(problems("{ argv: \"a 'b\" }"), @"example/recipe.yaml:2:22: `a 'b` is not a command: it is empty or a quote is open");
        insta::assert_snapshot!(problems("{ argv: [] }"), @"example/recipe.yaml:2:22: a command has at least one word");
        insta::assert_snapshot!(problems("{ argv: a, timeout: 90 }"), @"example/recipe.yaml:2:14: `90` is not a time; write one such as `90s` or `5m`");
        let leaky = Example::resources("- command: { argv: [mysql, \"-p{{ secrets.password }}\"] }")
            .secret("hunter2");
        insta::assert_snapshot!(leaky.problems(), @"example/recipe.yaml:2:22: a secret may not be used in `argv` of a `command`; it would be seen in plans and process lists; write it to a `file` or `template`");
    }
}
