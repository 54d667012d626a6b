//! `symlink`: a symbolic link, or none.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::{plan_absent, plan_link};
use super::fields::{AbsolutePath, State};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{EntryKind, Facts, Known, PlanError};

/// A symbolic link. It replaces a link or a file that is in its place, never a directory. What it points
/// to need not exist.
///
/// ```yaml
/// - symlink: { path: /etc/nginx/sites-enabled/site, target: ../sites-available/site }
/// - symlink: { path: /etc/nginx/sites-enabled/default, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Symlink {
    /// Where the link is.
    path: AbsolutePath,
    /// Where it points: a path from the root, or from the directory that the link is in.
    target: Option<PathBuf>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

#[derive(Debug)]
struct Resolved {
    path: AbsolutePath,
    /// None if there shall be no link.
    target: Option<PathBuf>,
}

impl Fields for Symlink {
    const KIND: &'static str = "symlink";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        match (self.state, &self.target) {
            (State::Present, None) => Err(Problem::new("a `symlink` needs a `target`")),
            (State::Absent, Some(_)) => Err(Problem::new("a link that shall be absent has no `target`")),
            _ => Ok(Box::new(Resolved { path: self.path, target: self.target })),
        }
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.path.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Path(self.path.as_path().to_owned())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let path = self.path.as_path();
        if let Some(target) = &self.target {
            return plan_link(facts, path, target);
        }
        match facts.entry(path)? {
            Known::Yes(Some(entry)) if !matches!(entry.kind, EntryKind::Symlink { .. }) => {
                Err(PlanError::impossible(format!("`{}` is {}, not a link", self.path, entry.kind.noun())))
            }
            _ => plan_absent(facts, path),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn settles_from_nothing_from_another_target_and_to_absence() {
        let mut fake = Fake::debian();
        let example =
            Example::resources("- symlink: { path: /etc/localtime, target: /usr/share/zoneinfo/UTC }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: symlink /etc/localtime
          + link /etc/localtime -> /usr/share/zoneinfo/UTC
        Plan: 1 to change, 0 unchanged.
        ");
        let example = Example::resources("- symlink: { path: /etc/localtime, target: ../else }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: symlink /etc/localtime
          ~ link /etc/localtime -> ../else (was /usr/share/zoneinfo/UTC)
        Plan: 1 to change, 0 unchanged.
        ");
        fake.file("/etc/localtime", "a file");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: symlink /etc/localtime
          + link /etc/localtime -> ../else
        Plan: 1 to change, 0 unchanged.
        ");
        let example = Example::resources("- symlink: { path: /etc/localtime, state: absent }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: symlink /etc/localtime
          - remove /etc/localtime
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let mut fake = Fake::debian();
        fake.file("/etc/motd", "x");
        insta::assert_snapshot!(Example::resources("- symlink: { path: /etc, target: /x }").fails(&mut fake), @"example: symlink /etc: `/etc` is a directory, which a link does not replace; remove it first");
        insta::assert_snapshot!(Example::resources("- symlink: { path: /etc/motd, state: absent }").fails(&mut fake), @"example: symlink /etc/motd: `/etc/motd` is a file, not a link");
        insta::assert_snapshot!(Example::resources("- symlink: { path: /etc/a }").problems(), @"example/recipe.yaml:2:14: a `symlink` needs a `target`");
        insta::assert_snapshot!(Example::resources("- symlink: { path: /a, target: /b, state: absent }").problems(), @"example/recipe.yaml:2:14: a link that shall be absent has no `target`");
    }
}
