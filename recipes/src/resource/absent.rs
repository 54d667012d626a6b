//! `absent`: nothing is at the paths that match a pattern.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::plan_absent;
use super::fields::is_needed;
use super::glob::Glob;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Entry, EntryKind, Facts, PlanError};

/// Nothing is at the paths that match a pattern, such as samples and caches that packages leave.
///
/// A symbolic link goes, never what it points to. A directory goes only with `recursive`; without it, one
/// that matches is an error. Directories that every host needs, such as `/etc` and `/usr/lib`, cannot be
/// removed or emptied. What another resource decides must not match.
///
/// ```yaml
/// - absent: { path: /etc/update-motd.d/* }
/// - absent: { path: "/usr/share/doc/**/*.gz" }
/// - absent: { path: /var/cache/old-*, recursive: true }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Absent {
    /// The paths: `*` is any characters of a name, `?` one, and `**` any number of folders.
    path: Glob,
    /// Whether directories go too, with everything in them; `false` if not said.
    #[serde(default)]
    recursive: bool,
}

#[derive(Debug)]
struct Resolved {
    path: Glob,
    recursive: bool,
}

impl Fields for Absent {
    const KIND: &'static str = "absent";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let prefix = self.path.prefix();
        let is_top_level = |path: &Path| path.parent().is_none_or(|parent| parent.parent().is_none());
        // With a wildcard in the first name a slip would reach everything.
        let literal = self.path.literal();
        if prefix.parent().is_none()
            || literal.as_deref().is_some_and(|path| is_top_level(path) || is_needed(path))
        {
            return Err(Problem::new(format!("`{}` cannot be removed: the host needs it", self.path))
                .help("name something inside of a folder, such as `/var/cache/app-*`"));
        }
        if is_needed(&prefix) && self.path.is_all_of(&prefix) {
            return Err(Problem::new(format!(
                "`{}` is everything in `{}`, which the host needs",
                self.path,
                prefix.display()
            )));
        }
        Ok(Box::new(Resolved { path: self.path, recursive: self.recursive }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.path.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Removed(self.path.clone())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let mut ops: Vec<Op> = Vec::new();
        let mut gone = None;
        for (path, entry) in self.path.find(facts)? {
            // It goes with the folder that it is in.
            if gone.as_ref().is_some_and(|gone| path.starts_with(gone)) {
                continue;
            }
            self.may_go(&path, &entry)?;
            ops.extend(plan_absent(facts, &path)?);
            gone = Some(path);
        }
        Ok(ops)
    }
}

impl Resolved {
    fn may_go(&self, path: &Path, entry: &Entry) -> Result<(), PlanError> {
        if is_needed(path) {
            let message = format!("`{}` cannot be removed: the host needs it", path.display());
            return Err(PlanError::impossible_but(message, "make the pattern narrower"));
        }
        if entry.kind == EntryKind::Directory && !self.recursive {
            return Err(PlanError::impossible_but(
                format!("`{}` is a directory", path.display()),
                "to remove it with all that is in it write `recursive: true`",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn tree() -> Fake {
        let mut fake = Fake::debian();
        for directory in ["/srv/a", "/srv/a/old-1", "/srv/a/old-1/b", "/usr/lib", "/usr/lib/x"] {
            fake.directory(directory);
        }
        for file in ["/srv/a/1.log", "/srv/a/old-1/2.log", "/srv/a/old-1/b/3.log", "/etc/keep.log"] {
            fake.file(file, "x");
        }
        fake.symlink("/srv/a/etc.log", "/etc");
        fake
    }

    #[test]
    fn settles_without_what_matches() {
        let mut fake = tree();
        insta::assert_snapshot!(Example::resources("- absent: { path: /srv/a/*.log }").settles(&mut fake), @"
        example: absent /srv/a/*.log
          - remove /srv/a/1.log
          - remove /srv/a/etc.log
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- absent: { path: \"/srv/**/2.log\" }").settles(&mut fake), @"
        example: absent /srv/**/2.log
          - remove /srv/a/old-1/2.log
        Plan: 1 to change, 0 unchanged.
        ");
        assert!(fake.text("/etc/keep.log").is_some(), "what a link points to stays");
        Example::resources("- absent: { path: /none/**/x }").settles(&mut fake);
        Example::resources("- absent: { path: /srv/a/none }").settles(&mut fake);
    }

    #[test]
    fn a_directory_goes_only_if_told_and_settles_with_all_that_is_in_it() {
        let mut fake = tree();
        insta::assert_snapshot!(Example::resources("- absent: { path: /srv/a/* }").fails(&mut fake), @"example: absent /srv/a/*: `/srv/a/old-1` is a directory; to remove it with all that is in it write `recursive: true`");
        assert!(fake.performed.is_empty());
        insta::assert_snapshot!(Example::resources("- absent: { path: \"/srv/a/**\", recursive: true }").settles(&mut fake), @"
        example: absent /srv/a/**
          - remove /srv/a/1.log
          - remove /srv/a/etc.log
          - remove /srv/a/old-1 and everything in it
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn what_a_package_may_bring_is_looked_for_when_it_is_there() {
        let fake = tree();
        let example = Example::resources("- package: { name: p }\n- absent: { path: /srv/a/*.log }");
        insta::assert_snapshot!(example.plan(&fake).expect("a plan"), @"
        example: package p
          + install p
        example: absent /srv/a/*.log (assumed)
          ? remove /srv/a/1.log, unless installing p brings it
          ? remove /srv/a/etc.log, unless installing p brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn what_the_host_needs_stays() {
        let problems = |path: &str| {
            Example::resources(&format!("- absent: {{ path: \"{path}\", recursive: true }}")).problems()
        };
        for path in ["/", "/*", "/**", "/**/x", "/et?", "/opt", "/new", "/etc", "/usr/lib"] {
            assert!(problems(path).contains("cannot be removed: the host needs it"), "{path}");
        }
        for path in ["/etc/*", "/usr/**", "/usr/lib/*", "/usr/**/*", "/home/*", "/var/lib/**/**"] {
            assert!(problems(path).contains("which the host needs"), "{path}");
        }
        insta::assert_snapshot!(problems("/et*"), @"example/recipe.yaml:2:13: `/et*` cannot be removed: the host needs it; name something inside of a folder, such as `/var/cache/app-*`");
        insta::assert_snapshot!(problems("/etc/*"), @"example/recipe.yaml:2:13: `/etc/*` is everything in `/etc`, which the host needs");
        insta::assert_snapshot!(problems("/etc/../*"), @"example/recipe.yaml:2:13: the path `/etc/../*` has `..` or NUL in it");
        insta::assert_snapshot!(problems("/etc/{a,b}"), @r"example/recipe.yaml:2:13: the pattern `/etc/{a,b}` has brackets or `\` in it; wildcards are `*`, `?` and `**`");
        insta::assert_snapshot!(Example::resources("- absent: { path: /usr/l*, recursive: true }").fails(&mut tree()), @"example: absent /usr/l*: `/usr/lib` cannot be removed: the host needs it; make the pattern narrower");
        insta::assert_snapshot!(Example::resources("- absent: { path: /usr/lib/x, recursive: true }").settles(&mut tree()), @"
        example: absent /usr/lib/x
          - remove /usr/lib/x and everything in it
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn contradictions_are_found() {
        let several = "
- absent: { path: /etc/conf.d/*.conf }
- file: { path: /etc/conf.d/a.conf, content: x }
- line: { path: /etc/conf.d/b.conf, line: x }
- file: { path: /etc/conf.d/c, content: x }
- absent: { path: /etc/conf.d/c }
- absent: { path: /etc/conf.d/*.conf, recursive: true }
- absent: { path: /srv/old, recursive: true }
- file: { path: /srv/old/a, content: x }
";
        insta::assert_snapshot!(Example::resources(several).problems(), @"
        example/recipe.yaml:7:5: the removal of `/etc/conf.d/*.conf` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:5:5: the path `/etc/conf.d/c` is set, but the removal of `/etc/conf.d/c` is decided elsewhere (here: example/recipe.yaml:6:5); narrow the pattern, or take one of the two away
        example/recipe.yaml:3:5: the path `/etc/conf.d/a.conf` is set, but the removal of `/etc/conf.d/*.conf` is decided elsewhere (here: example/recipe.yaml:2:5); narrow the pattern, or take one of the two away
        example/recipe.yaml:4:5: the line `x` of `/etc/conf.d/b.conf` is set, but the removal of `/etc/conf.d/*.conf` is decided elsewhere (here: example/recipe.yaml:2:5); narrow the pattern, or take one of the two away
        example/recipe.yaml:9:5: the path `/srv/old/a` is set, but the removal of `/srv/old` is decided elsewhere (here: example/recipe.yaml:8:5); narrow the pattern, or take one of the two away
        ");
    }
}
