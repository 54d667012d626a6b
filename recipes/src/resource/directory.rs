//! `directory`: a directory, or none.

use serde::Deserialize;

use super::contents::{missing_parents, owners_exist, plan_absent};
use super::fields::{AbsolutePath, Mode, State, attributes, is_needed};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Attributes, EntryKind, Facts, PlanError};

/// A directory. Directories above it that are missing are made too, as root's, with mode 0755.
///
/// ```yaml
/// - directory: { path: /srv/app/releases, owner: app, group: app, mode: "0750" }
/// - directory: { path: /var/cache/old, state: absent }   # with everything in it
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Directory {
    /// Where it is.
    path: AbsolutePath,
    /// Its owner; `root` if not said.
    owner: Option<String>,
    /// Its group; `root` if not said.
    group: Option<String>,
    /// Its permission bits; `"0755"` if not said.
    mode: Option<Mode>,
    /// `present`, or `absent` with everything in it.
    #[serde(default)]
    state: State,
}

#[derive(Debug)]
struct Resolved {
    path: AbsolutePath,
    attributes: Attributes,
    state: State,
}

impl Fields for Directory {
    const KIND: &'static str = "directory";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.state == State::Absent && is_needed(self.path.as_path()) {
            return Err(Problem::new(format!("`{}` cannot be removed: the host needs it", self.path)));
        }
        let attributes = attributes(self.owner, self.group, self.mode, 0o755);
        Ok(Box::new(Resolved { path: self.path, attributes, state: self.state }))
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
        if self.state == State::Absent {
            return plan_absent(facts, path);
        }
        owners_exist(facts, &self.attributes)?;
        match facts.entry(path)?.known()? {
            None => {
                let parent = Attributes { owner: "root".into(), group: "root".into(), mode: 0o755 };
                let mut ops: Vec<Op> = missing_parents(facts, path)?
                    .into_iter()
                    .map(|path| Op::CreateDirectory { path, attributes: parent.clone() })
                    .collect();
                ops.push(Op::CreateDirectory { path: path.to_owned(), attributes: self.attributes.clone() });
                Ok(ops)
            }
            Some(entry) if entry.kind != EntryKind::Directory => Err(PlanError::impossible(format!(
                "`{}` is {}, not a directory",
                self.path,
                entry.kind.noun()
            ))),
            Some(entry) if entry.attributes != self.attributes => Ok(vec![Op::SetAttributes {
                path: path.to_owned(),
                attributes: self.attributes.clone(),
                before: entry.attributes,
            }]),
            Some(_) => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn settles_with_its_parents_its_mode_and_to_absence() {
        let mut fake = Fake::debian();
        fake.group_with_id("app", 990);
        let example =
            Example::resources("- directory: { path: /srv/app/releases, group: app, mode: \"0750\" }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: directory /srv/app/releases
          + create the directory /srv/app (root:root 0755)
          + create the directory /srv/app/releases (root:app 0750)
        Plan: 1 to change, 0 unchanged.
        ");
        let example = Example::resources("- directory: { path: /srv/app/releases }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: directory /srv/app/releases
          ~ /srv/app/releases: root:app 0750 -> root:root 0755
        Plan: 1 to change, 0 unchanged.
        ");
        let example = Example::resources("- directory: { path: /srv/app, state: absent }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: directory /srv/app
          - remove /srv/app and everything in it
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let mut fake = Fake::debian();
        fake.file("/srv/app", "x");
        insta::assert_snapshot!(Example::resources("- directory: { path: /srv/app }").fails(&mut fake), @"example: directory /srv/app: `/srv/app` is a file, not a directory");
        insta::assert_snapshot!(Example::resources("- directory: { path: /etc/, state: absent }").problems(), @"example/recipe.yaml:2:16: `/etc` cannot be removed: the host needs it");
    }
}
