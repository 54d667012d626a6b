//! `directory`: a directory, or none.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::{missing_parents, owners_exist, plan_absent};
use super::fields::{AbsolutePath, Mode, State, attributes, is_needed};
use super::glob::{Glob, RelativeGlob};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Attributes, EntryKind, Facts, PlanError};

/// A directory. Directories above it that are missing are made too, as root's, with mode 0755.
///
/// With `purge`, what is in it and does not match one of `keep` is removed, so that nothing is there that
/// nobody wrote down. What other resources put there has to be kept by name.
///
/// ```yaml
/// - directory: { path: /srv/app/releases, owner: app, group: app, mode: "0750" }
/// - directory: { path: /var/cache/old, state: absent }   # with everything in it
/// - directory: { path: /etc/nginx/sites-enabled, purge: true, keep: [ app, "app-*" ] }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
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
    /// Whether what is in it and not kept is removed, directories with everything in them; `false` if not
    /// said.
    #[serde(default)]
    purge: bool,
    /// With `purge`, what stays: paths in it with `*`, `?` and `**`, directories with everything in them.
    #[serde(default)]
    keep: Vec<RelativeGlob>,
    /// `present`, or `absent` with everything in it.
    #[serde(default)]
    state: State,
}

#[derive(Debug)]
struct Resolved {
    path: AbsolutePath,
    attributes: Attributes,
    /// What stays in it; none if all does.
    keep: Option<Vec<Glob>>,
    state: State,
}

impl Fields for Directory {
    const KIND: &'static str = "directory";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.state == State::Absent && is_needed(self.path.as_path()) {
            return Err(Problem::new(format!("`{}` cannot be removed: the host needs it", self.path)));
        }
        if !self.purge && !self.keep.is_empty() {
            return Err(Problem::new("`keep` is what `purge: true` leaves; without it everything stays"));
        }
        if self.purge && self.state == State::Absent {
            return Err(Problem::new(
                "a directory that shall be absent has no `purge`: all that is in it goes",
            ));
        }
        if self.purge && is_needed(self.path.as_path()) {
            return Err(Problem::new(format!("`{}` cannot be purged: the host needs it", self.path)));
        }
        let keep = self.keep.iter().map(|keep| Glob::below(self.path.as_path(), keep)).collect();
        let keep = self.purge.then_some(keep);
        let attributes = attributes(self.owner, self.group, self.mode, 0o755);
        Ok(Box::new(Resolved { path: self.path, attributes, keep, state: self.state }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.path.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        let path = self.path.as_path().to_owned();
        let purged = self.keep.clone().map(|keep| Claim::Purged { path: path.clone(), keep });
        [Claim::Path(path)].into_iter().chain(purged).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let path = self.path.as_path();
        if self.state == State::Absent {
            return plan_absent(facts, path);
        }
        let mut ops = plan_directory(facts, path, &self.attributes)?;
        if let Some(keep) = &self.keep
            && facts.entry(path)?.known()?.is_some()
        {
            purge(facts, path, keep, &mut ops)?;
        }
        Ok(ops)
    }
}

/// What is needed so that a directory is there, with those above it.
pub(super) fn plan_directory(
    facts: &dyn Facts,
    path: &Path,
    attributes: &Attributes,
) -> Result<Vec<Op>, PlanError> {
    owners_exist(facts, attributes)?;
    match facts.entry(path)?.known()? {
        None => {
            let parent = Attributes { owner: "root".into(), group: "root".into(), mode: 0o755 };
            let mut ops: Vec<Op> = missing_parents(facts, path)?
                .into_iter()
                .map(|path| Op::CreateDirectory { path, attributes: parent.clone() })
                .collect();
            ops.push(Op::CreateDirectory { path: path.to_owned(), attributes: attributes.clone() });
            Ok(ops)
        }
        Some(entry) if entry.kind != EntryKind::Directory => Err(PlanError::impossible(format!(
            "`{}` is {}, not a directory",
            path.display(),
            entry.kind.noun()
        ))),
        Some(entry) if entry.attributes != *attributes => Ok(vec![Op::SetAttributes {
            path: path.to_owned(),
            attributes: attributes.clone(),
            before: entry.attributes,
        }]),
        Some(_) => Ok(Vec::new()),
    }
}

/// What is needed so that nothing is in a folder but what is kept.
fn purge(facts: &dyn Facts, folder: &Path, keep: &[Glob], ops: &mut Vec<Op>) -> Result<(), PlanError> {
    for name in facts.names(folder)?.known()? {
        let path = folder.join(name);
        if keep.iter().any(|keep| keep.matches(&path)) {
            continue;
        }
        let kind = facts.entry(&path)?.known()?.map(|entry| entry.kind);
        if kind == Some(EntryKind::Directory) && keep.iter().any(|keep| keep.goes_below(&path)) {
            purge(facts, &path, keep, ops)?;
        } else {
            ops.extend(plan_absent(facts, &path)?);
        }
    }
    Ok(())
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
        insta::assert_snapshot!(Example::resources("- directory: { path: /srv/app/a/b }").fails(&mut fake), @"example: directory /srv/app/a/b: `/srv/app` is a file, not a directory");
        insta::assert_snapshot!(Example::resources("- directory: { path: /etc/, state: absent }").problems(), @"example/recipe.yaml:2:16: `/etc` cannot be removed: the host needs it");
    }

    #[test]
    fn settles_with_nothing_in_it_but_what_is_kept() {
        let mut fake = Fake::debian();
        for directory in ["/etc/d", "/etc/d/keep", "/etc/d/some", "/etc/d/old"] {
            fake.directory(directory);
        }
        for file in [
            "/etc/d/.hidden",
            "/etc/d/a.conf",
            "/etc/d/keep/x",
            "/etc/d/some/x",
            "/etc/d/some/y",
            "/etc/d/old/z",
        ] {
            fake.file(file, "x");
        }
        fake.symlink("/etc/d/link", "/etc");
        let fields = "path: /etc/d, purge: true, keep: [ '*.conf', keep, some/x ]";
        let example = Example::resources(&format!("- directory: {{ {fields}, mode: \"0700\" }}"));
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: directory /etc/d
          ~ /etc/d: root:root 0755 -> root:root 0700
          - remove /etc/d/.hidden
          - remove /etc/d/link
          - remove /etc/d/old and everything in it
          - remove /etc/d/some/y
        Plan: 1 to change, 0 unchanged.
        ");
        assert!(fake.text("/etc/d/keep/x").is_some() && fake.text("/etc/d/some/x").is_some());
        Example::resources("- directory: { path: /etc/new, purge: true }").settles(&mut fake);
    }

    #[test]
    fn a_purge_that_makes_no_sense_is_an_error() {
        let problems = |text: &str| Example::resources(text).problems();
        insta::assert_snapshot!(problems("- directory: { path: /etc/d, keep: [a] }"), @"example/recipe.yaml:2:16: `keep` is what `purge: true` leaves; without it everything stays");
        insta::assert_snapshot!(problems("- directory: { path: /etc/d, purge: true, state: absent }"), @"example/recipe.yaml:2:16: a directory that shall be absent has no `purge`: all that is in it goes");
        insta::assert_snapshot!(problems("- directory: { path: /etc, purge: true }"), @"example/recipe.yaml:2:16: `/etc` cannot be purged: the host needs it");
        let several = "
- directory: { path: /etc/d, purge: true, keep: [ a, b/c ] }
- file: { path: /etc/d/a, content: x }
- directory: { path: /etc/d/b }
- file: { path: /etc/d/b/c, content: x }
- file: { path: /etc/d/e, content: x }
- file: { path: /etc/f, content: x }
";
        insta::assert_snapshot!(problems(several), @"example/recipe.yaml:6:5: the path `/etc/d/e` is set, but the purge of `/etc/d` is decided elsewhere (here: example/recipe.yaml:2:5); add it to `keep` there");
    }
}
