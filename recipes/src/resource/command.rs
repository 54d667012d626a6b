//! `command`: a program that is run until it need not be.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::AbsolutePath;
use super::program::{Program, Surroundings, success_codes};
use super::{Context, Fields, Resource};
use crate::duration::Span;
use crate::error::Problem;
use crate::op::{Command, Content, Input};
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
    /// What it reads on its standard input, which is empty if not said; it may hold secrets, which arguments
    /// and variables may not.
    stdin: Option<String>,
    /// The exit codes that count as success; `[0]` if not said.
    success_codes: Option<Vec<u8>>,
    /// Whether what it prints is kept out of events, logs and errors; `true` if not said and a secret is in
    /// `stdin`.
    sensitive: Option<bool>,
}

impl Fields for CommandResource {
    const KIND: &'static str = "command";
    const SECRET_FIELDS: &'static [&'static str] = &["stdin"];

    fn build(self, context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let surroundings = Surroundings {
            environment: self.environment,
            user: self.user,
            cwd: self.cwd,
            timeout: self.timeout,
        };
        let text = |text: String| Input::Text(Content::new(text).secret_if(context.secret));
        let command = Command {
            input: self.stdin.map_or(Input::Nothing, text),
            success_codes: success_codes(self.success_codes)?,
            sensitive: self.sensitive.unwrap_or(context.secret),
            ..surroundings.command(self.argv.0)?
        };
        let conditions = surroundings.conditions(self.creates, self.unless, self.onlyif)?;
        Ok(Box::new(Program { command, conditions }))
    }
}

#[cfg(test)]
mod tests {
    use crate::op::{Command, Input, Op};
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
        example: command make (assumed)
          ? known after apply: whether `test -e /x` succeeds
        Plan: 0 to change, 1 known after apply, 0 unchanged.
        Of these 0 observed, 0 derived, 1 assumed.
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
        let [Op::Run(command)] = &fake.performed[..] else { panic!("one command") };
        let Command { argv, environment, directory, user, timeout, input, success_codes, sensitive } =
            command;
        assert_eq!((input, &success_codes[..], sensitive), (&Input::Nothing, &[0][..], &false));
        assert_eq!((argv[1].as_str(), environment["X"].as_str(), user.as_deref()), ("b c", "y", Some("app")));
        assert_eq!((directory.as_deref(), timeout.as_secs()), (Some("/srv".as_ref()), 90));
    }

    #[test]
    fn a_secret_goes_in_by_standard_input_and_nothing_of_it_comes_out() {
        let mut fake = Fake::debian();
        let example =
            Example::resources("- command: { argv: chpasswd, stdin: \"root:{{ secrets.password }}\\n\" }")
                .secret("hunter2");
        example.converge(&mut fake).expect("it converges");
        insta::assert_snapshot!(format!("{:?}", fake.performed), @r#"[Run(Command { argv: ["chpasswd"], environment: {}, directory: None, user: None, timeout: 300s, input: Text((secret, 13 bytes)), success_codes: [0], sensitive: true })]"#);
        let said = "- command: { argv: a, stdin: x, success_codes: [0, 3], sensitive: true }";
        Example::resources(said).converge(&mut fake).expect("it converges");
        let Some(Op::Run(command)) = fake.performed.last() else { panic!("a command") };
        assert_eq!((&command.success_codes[..], command.sensitive), (&[0, 3][..], true));
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- command: {fields}")).problems();
        insta::assert_snapshot!(problems("{ argv: \"a 'b\" }"), @"example/recipe.yaml:2:22: `a 'b` is not a command: it is empty or a quote is open");
        insta::assert_snapshot!(problems("{ argv: [] }"), @"example/recipe.yaml:2:22: a command has at least one word");
        insta::assert_snapshot!(problems("{ argv: a, timeout: 90 }"), @"example/recipe.yaml:2:14: `90` is not a time; write one such as `90s` or `5m`");
        insta::assert_snapshot!(problems("{ argv: a, success_codes: [] }"), @"example/recipe.yaml:2:14: `success_codes` is empty: no exit code would be a success");
        insta::assert_snapshot!(problems("{ argv: a, environment: { A=B: c } }"), @"example/recipe.yaml:2:14: `A=B` is not the name of a variable: it is empty or has `=` or NUL in it");
        insta::assert_snapshot!(problems(r#"{ argv: [a], unless: ["b\0"] }"#), @"example/recipe.yaml:2:14: a word of a command has NUL in it, which no program can be given");
        let leaky = Example::resources("- command: { argv: [mysql, \"-p{{ secrets.password }}\"] }")
            .secret("hunter2");
        insta::assert_snapshot!(leaky.problems(), @"example/recipe.yaml:2:22: a secret may not be used in `argv` of a `command`; it would be seen in plans and process lists; write it to a `file` or `template`");
    }
}
