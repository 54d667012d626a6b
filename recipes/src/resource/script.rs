//! `script`: a text that an interpreter runs until it need not be run.

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

/// Where a program finds the file that is its standard input.
const STANDARD_INPUT: &str = "/dev/stdin";

/// A script to run, with an empty environment but for `PATH`, `HOME` and `LC_ALL`.
///
/// Its interpreter is that of its `#!` line, or `interpreter`. It gets the script as `/dev/stdin`, behind its
/// other arguments: the script is in memory only, under no name in a file system, and its own standard input
/// is empty. How it knows that it is done is said as for a `command`.
///
/// ```yaml
/// - script:
///     content: |
///       #!/bin/sh -eu
///       openssl dhparam -out /etc/ssl/dhparam.pem.new 2048
///       mv /etc/ssl/dhparam.pem.new /etc/ssl/dhparam.pem
///     creates: /etc/ssl/dhparam.pem
///     timeout: 15m
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    /// The script; it may hold secrets.
    content: Option<String>,
    /// The file in the recipe's `files/` that it is.
    source: Option<String>,
    /// The template in the recipe's `templates/` that it is rendered from; it may hold secrets.
    template: Option<String>,
    /// What runs it, in the place of the program that its `#!` line names.
    interpreter: Option<Words>,
    /// It is done when this path exists.
    creates: Option<AbsolutePath>,
    /// It is done when this command succeeds.
    unless: Option<Words>,
    /// It is done unless this command succeeds.
    onlyif: Option<Words>,
    /// Variables that the script gets.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Who runs it; `root` if not said.
    user: Option<String>,
    /// Where it runs; `/` if not said.
    cwd: Option<AbsolutePath>,
    /// How long it may run; `5m` if not said.
    timeout: Option<Span>,
    /// The exit codes that count as success; `[0]` if not said.
    success_codes: Option<Vec<u8>>,
    /// Whether what it prints is kept out of events, logs and errors; `true` if not said and a secret is in
    /// the script.
    sensitive: Option<bool>,
}

impl Fields for Script {
    const KIND: &'static str = "script";
    const SECRET_FIELDS: &'static [&'static str] = &["content"];

    fn build(self, context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let (name, text) = match (self.content, self.source, self.template) {
            (Some(text), None, None) => {
                let text = Content::new(text).secret_if(context.secret);
                (first_line(&text), text)
            }
            (None, Some(name), None) => (name.clone(), context.file(&name)?),
            (None, None, Some(name)) => (name.clone(), context.template(&name)?),
            _ => return Err(Problem::new("a `script` has one of `content`, `source` and `template`")),
        };
        let mut words = match self.interpreter {
            Some(words) => words.0,
            None => interpreter(text.bytes())?,
        };
        words.push(STANDARD_INPUT.into());
        let surroundings = Surroundings {
            environment: self.environment,
            user: self.user,
            cwd: self.cwd,
            timeout: self.timeout,
        };
        let command = Command {
            sensitive: self.sensitive.unwrap_or(text.is_secret()),
            success_codes: success_codes(self.success_codes)?,
            input: Input::Script { name, text },
            ..surroundings.command(words)?
        };
        let conditions = surroundings.conditions(self.creates, self.unless, self.onlyif)?;
        Ok(Box::new(Program { command, conditions }))
    }
}

/// What a script without a name is called by: the first line that does something, if that is no secret.
fn first_line(text: &Content) -> String {
    const LONGEST: usize = 40;
    if text.is_secret() {
        return "(secret)".into();
    }
    let text = String::from_utf8_lossy(text.bytes());
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let line = line.unwrap_or("(nothing)");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

/// The program that the first line names, with what is behind it as one argument, as the kernel reads it
/// (execve(2), "Interpreter scripts").
fn interpreter(script: &[u8]) -> Result<Vec<String>, Problem> {
    let line = script.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let Some(line) = line.strip_prefix(b"#!") else {
        return Err(Problem::new("it is not said what runs the script")
            .help("begin it with a line such as `#!/bin/sh -eu`, or name an `interpreter`"));
    };
    let line = String::from_utf8_lossy(line);
    if line.ends_with('\r') {
        return Err(Problem::new("the `#!` line of the script ends with a carriage return")
            .help("save it with the line ends of Unix"));
    }
    let line = line.trim_matches([' ', '\t']);
    let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if !program.starts_with('/') {
        return Err(Problem::new(format!(
            "the `#!` line of the script names `{program}`, which does not start with `/`"
        ))
        .help("to have it looked for write `#!/usr/bin/env NAME`"));
    }
    let argument = argument.trim_start_matches([' ', '\t']);
    Ok([program, argument].into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use crate::op::{Input, Op};
    use crate::system::Attributes;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const MAKES: &str = "
- script:
    content: |
      #!/bin/sh -eu
      # makes it
      touch /srv/made
    creates: /srv/made
";

    #[test]
    fn settles_by_what_it_creates() {
        let mut fake = Fake::debian();
        let attributes = Attributes { owner: "root".into(), group: "root".into(), mode: 0o755 };
        let made = Op::CreateDirectory { path: "/srv/made".into(), attributes };
        fake.command_makes(&["/bin/sh", "-eu", "/dev/stdin"], vec![made]);
        insta::assert_snapshot!(Example::resources(MAKES).settles(&mut fake), @"
        example: script touch /srv/made
          > run script touch /srv/made (/bin/sh -eu, 41 bytes)
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn a_source_is_as_it_is_and_a_template_is_rendered() {
        let text = |fields: &str| {
            let mut fake = Fake::debian();
            let example = Example::resources(&format!("- script: {{ {fields} }}"))
                .file("a.sh", "#!/usr/bin/env -S python3 -u\n{{ x }}\n")
                .template("a.tera", "#! /bin/bash\n{{ facts.os.id }}\n");
            example.converge(&mut fake).expect("it converges");
            let [Op::Run(command)] = &fake.performed[..] else { panic!("one script") };
            let Input::Script { text, .. } = &command.input else { panic!("a script") };
            format!("{:?} {text:?}", command.argv)
        };
        insta::assert_snapshot!(text("source: a.sh"), @r##"["/usr/bin/env", "-S python3 -u", "/dev/stdin"] "#!/usr/bin/env -S python3 -u\n{{ x }}\n""##);
        insta::assert_snapshot!(text("template: a.tera"), @r##"["/bin/bash", "/dev/stdin"] "#! /bin/bash\ndebian\n""##);
        insta::assert_snapshot!(text("content: print(1), interpreter: python3 -I"), @r#"["python3", "-I", "/dev/stdin"] "print(1)""#);
    }

    #[test]
    fn a_secret_in_it_is_not_shown_and_its_output_is_kept() {
        let mut fake = Fake::debian();
        let secret = |fields: &str| {
            Example::resources(&format!("- script: {{ {fields} }}"))
                .template("a.tera", "#!/bin/sh\n{{ secrets.password }}\n")
                .secret("hunter2")
        };
        let example = secret("content: \"#!/bin/sh\\n{{ secrets.password }}\"");
        insta::assert_snapshot!(example.plan(&fake).expect("a plan"), @"
        example: script (secret) (assumed)
          > run script (secret) (/bin/sh, secret, 17 bytes)
        Plan: 1 to change, 0 unchanged.
        Of these 0 observed, 0 derived, 1 assumed.
        ");
        example.converge(&mut fake).expect("it converges");
        secret("template: a.tera").converge(&mut fake).expect("it converges");
        let sensitive = fake.performed.iter().map(|op| matches!(op, Op::Run(command) if command.sensitive));
        assert_eq!(sensitive.collect::<Vec<_>>(), [true, true]);
        assert!(!format!("{:?}", fake.performed).contains("hunter2"));
        insta::assert_snapshot!(secret("content: x, interpreter: sh, environment: { P: \"{{ secrets.password }}\" }").problems(), @"example/recipe.yaml:2:57: a secret may not be used in `environment` of a `script`; it would be seen in plans and process lists; write it to a `file` or `template`");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| {
            Example::resources(&format!("- script: {{ {fields} }}")).file("a.sh", "echo\n").problems()
        };
        insta::assert_snapshot!(problems("creates: /x"), @"example/recipe.yaml:2:13: a `script` has one of `content`, `source` and `template`");
        insta::assert_snapshot!(problems("content: x, source: a.sh"), @"example/recipe.yaml:2:13: a `script` has one of `content`, `source` and `template`");
        insta::assert_snapshot!(problems("source: a.sh"), @"example/recipe.yaml:2:13: it is not said what runs the script; begin it with a line such as `#!/bin/sh -eu`, or name an `interpreter`");
        insta::assert_snapshot!(problems("source: b.sh"), @"example/recipe.yaml:2:13: the recipe has no `files/b.sh`; did you mean `a.sh`? valid is `a.sh`");
        insta::assert_snapshot!(problems("content: \"#!python3\\n\""), @"example/recipe.yaml:2:13: the `#!` line of the script names `python3`, which does not start with `/`; to have it looked for write `#!/usr/bin/env NAME`");
        insta::assert_snapshot!(problems("content: \"#!/bin/sh\\r\\n\""), @"example/recipe.yaml:2:13: the `#!` line of the script ends with a carriage return; save it with the line ends of Unix");
    }
}
