//! `alternatives`: which of several programs has a common name.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::AbsolutePath;
use super::near::near;
use super::{Claim, Context, Fields, Resource};
use crate::error::{Problem, did_you_mean};
use crate::op::{Command, Op};
use crate::system::{EntryKind, Facts, Known, PlanError};

/// Which alternative a common name leads to, such as the `editor` or `java` of a host, see
/// update-alternatives(1) of Debian. The choice is made by hand: packages that come later do not change it.
///
/// The alternative must be registered, which packages do when they are installed.
///
/// ```yaml
/// - alternatives: { name: editor, path: /usr/bin/vim.basic }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Alternatives {
    /// The name of the link group, as `update-alternatives --get-selections` lists them.
    name: String,
    /// What it leads to: one of those that `update-alternatives --list NAME` lists.
    path: AbsolutePath,
}

#[derive(Debug)]
struct Resolved {
    name: String,
    path: AbsolutePath,
}

/// What dpkg knows about each link group, and where the links in between are.
const ADMIN: &str = "/var/lib/dpkg/alternatives";
const LINKS: &str = "/etc/alternatives";

impl Fields for Alternatives {
    const KIND: &'static str = "alternatives";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        // update-alternatives(1) refuses slashes and blanks; the name is also that of a file.
        let is_bad = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        if self.name.is_empty() || self.name.starts_with(['-', '.']) || self.name.contains(is_bad) {
            let message = format!("`{}` is not the name of a link group", self.name.escape_debug());
            return Err(Problem::new(message).help("names are such as `editor` and `java`"));
        }
        Ok(Box::new(Resolved { name: self.name, path: self.path }))
    }
}

/// A link group as dpkg keeps it.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    /// Whether somebody chose, rather than the priorities.
    is_manual: bool,
    /// The common name, such as `/usr/bin/editor`.
    link: PathBuf,
    choices: Vec<String>,
}

impl Group {
    /// The format of `alternative_parse` in dpkg's `utils/update-alternatives.c`: `auto` or `manual`; the
    /// link; name and link of each slave, and an empty line; then for each alternative its path, its
    /// priority and a line for each slave, and at last an empty line.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let is_manual = match lines.next()? {
            "manual" => true,
            "auto" => false,
            _ => return None,
        };
        let link = PathBuf::from(lines.next()?);
        let mut slaves = 0;
        while !lines.next()?.is_empty() {
            lines.next()?;
            slaves += 1;
        }
        let mut choices = Vec::new();
        while let Some(path) = lines.next().filter(|path| !path.is_empty()) {
            choices.push(path.to_owned());
            (0..=slaves).try_for_each(|_| lines.next().map(|_| ()))?;
        }
        Some(Self { is_manual, link, choices })
    }
}

impl Resolved {
    fn group(&self, facts: &dyn Facts) -> Result<Group, PlanError> {
        let path = Path::new(ADMIN).join(&self.name);
        if let Some(bytes) = facts.content(&path)?.known()? {
            return Group::parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| {
                PlanError::impossible(format!("`{}` is not what dpkg writes there", path.display()))
            });
        }
        let names = match facts.names(Path::new(ADMIN))? {
            Known::Yes(names) => names,
            Known::Unknown(_) => Vec::new(),
        };
        let advice = near(&self.name, names.iter().map(String::as_str))
            .unwrap_or_else(|| "install a package that registers one before".into());
        Err(PlanError::impossible_but(format!("there are no alternatives for `{}`", self.name), advice))
    }

    /// Where a link points; none if nothing is there.
    fn target(facts: &dyn Facts, link: &Path) -> Result<Option<PathBuf>, PlanError> {
        match facts.entry(link)?.known()?.map(|entry| entry.kind) {
            None => Ok(None),
            Some(EntryKind::Symlink { target }) => Ok(Some(target)),
            Some(other) => {
                let message = format!("`{}` is {}, not a symbolic link", link.display(), other.noun());
                Err(PlanError::impossible_but(message, "update-alternatives leaves what it did not make"))
            }
        }
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.name.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Path(Path::new(LINKS).join(&self.name))]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let group = self.group(facts)?;
        let path = self.path.to_string();
        if !group.choices.contains(&path) {
            let choices: Vec<&str> = group.choices.iter().map(String::as_str).collect();
            return Err(PlanError::impossible_but(
                format!("`{path}` is not an alternative for `{}`", self.name),
                did_you_mean(&path, &choices),
            ));
        }
        let between = Path::new(LINKS).join(&self.name);
        let leads_there = Self::target(facts, &group.link)?.is_some_and(|target| target == between)
            && Self::target(facts, &between)?.is_some_and(|target| target == self.path.as_path());
        if group.is_manual && leads_there {
            return Ok(Vec::new());
        }
        Ok(vec![Op::Run(Command::new(["update-alternatives", "--set", &self.name, &path]))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    /// With a slave, as `editor` has its manual page.
    const GROUP: &str = "/usr/bin/editor\neditor.1.gz\n/usr/share/man/man1/editor.1.gz\n\n/bin/ed\n-100\n\n/usr/bin/vim.basic\n30\n/usr/share/man/man1/vim.1.gz\n\n";

    fn with_editors() -> Fake {
        let mut fake = Fake::debian();
        fake.file("/var/lib/dpkg/alternatives/editor", &format!("auto\n{GROUP}"));
        fake.symlink("/usr/bin/editor", "/etc/alternatives/editor");
        fake.symlink("/etc/alternatives/editor", "/usr/bin/vim.basic");
        for path in ["/bin/ed", "/usr/bin/vim.basic"] {
            let mut after = Vec::new();
            let file = crate::op::WriteFile {
                path: "/var/lib/dpkg/alternatives/editor".into(),
                content: crate::op::Content::new(format!("manual\n{GROUP}")),
                attributes: super::super::edit::default_attributes(),
                validate: None,
                before: crate::op::Before::Absent,
            };
            after.push(Op::WriteFile(file));
            let link = "/etc/alternatives/editor".into();
            after.push(Op::CreateSymlink { path: link, target: path.into(), before: None });
            fake.command_makes(&["update-alternatives", "--set", "editor", path], after);
        }
        fake
    }

    fn editor(path: &str) -> Example {
        Example::resources(&format!("- alternatives: {{ name: editor, path: {path} }}"))
    }

    #[test]
    fn settles_on_another_and_on_what_only_the_priorities_chose() {
        let mut fake = with_editors();
        insta::assert_snapshot!(editor("/bin/ed").settles(&mut fake), @"
        example: alternatives editor
          > run update-alternatives --set editor /bin/ed
        Plan: 1 to change, 0 unchanged.
        ");
        editor("/usr/bin/vim.basic").settles(&mut fake);
        editor("/usr/bin/vim.basic").settles(&mut with_editors());
    }

    #[test]
    fn what_is_not_registered_is_named() {
        let mut fake = with_editors();
        insta::assert_snapshot!(editor("/usr/bin/vim.tiny").fails(&mut fake), @"example: alternatives editor: `/usr/bin/vim.tiny` is not an alternative for `editor`; did you mean `/usr/bin/vim.basic`? valid are `/bin/ed` and `/usr/bin/vim.basic`");
        let edtor = Example::resources("- alternatives: { name: edtor, path: /bin/ed }");
        insta::assert_snapshot!(edtor.fails(&mut fake), @"example: alternatives edtor: there are no alternatives for `edtor`; did you mean `editor`?");
        insta::assert_snapshot!(edtor.fails(&mut Fake::debian()), @"example: alternatives edtor: there are no alternatives for `edtor`; install a package that registers one before");
        fake.file("/usr/bin/editor", "#!/bin/sh");
        insta::assert_snapshot!(editor("/bin/ed").fails(&mut fake), @"example: alternatives editor: `/usr/bin/editor` is a file, not a symbolic link; update-alternatives leaves what it did not make");
        fake.file("/var/lib/dpkg/alternatives/editor", "manual\n/usr/bin/editor\n\n/bin/ed");
        insta::assert_snapshot!(editor("/bin/ed").fails(&mut fake), @"example: alternatives editor: `/var/lib/dpkg/alternatives/editor` is not what dpkg writes there");
    }

    #[test]
    fn alternatives_that_a_package_will_register_are_unknown() {
        let example = Example::resources(
            "- package: { name: vim }\n- alternatives: { name: editor, path: /usr/bin/vim.basic }",
        );
        insta::assert_snapshot!(example.plan(&Fake::debian()).expect("a plan"), @"
        example: package vim
          + install vim
        example: alternatives editor (assumed)
          ? known after apply: whether installing vim brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn wrong_names_and_contradictions_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- alternatives: {fields}")).problems();
        insta::assert_snapshot!(problems("{ name: --all, path: /bin/ed }"), @"example/recipe.yaml:2:19: `--all` is not the name of a link group; names are such as `editor` and `java`");
        insta::assert_snapshot!(problems("{ name: a/b, path: /bin/ed }"), @"example/recipe.yaml:2:19: `a/b` is not the name of a link group; names are such as `editor` and `java`");
        insta::assert_snapshot!(problems("{ name: editor, path: ed }"), @"example/recipe.yaml:2:19: the path `ed` does not start with `/`");
        let twice = "- alternatives: { name: a, path: /a }\n- alternatives: { name: a, path: /b }";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"example/recipe.yaml:3:5: the path `/etc/alternatives/a` is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
