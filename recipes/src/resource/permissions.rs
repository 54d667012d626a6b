//! `permissions`: owner, group and mode of many paths.

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::owners_exist;
use super::fields::{AbsolutePath, Mode};
use super::glob::{Glob, RelativeGlob};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Attributes, Entry, EntryKind, Facts, PlanError};

/// Owner, group and mode of everything below a folder that matches a pattern, such as what a package or an
/// archive brought. What is not said stays as it is.
///
/// The folder itself is a `directory`. Symbolic links are neither followed nor changed, and devices and
/// sockets stay as they are. What another resource decides must not match.
///
/// ```yaml
/// - permissions: { path: /etc/apt, owner: root, group: root }
/// - permissions: { path: /srv, match: "**", file_mode: "0640", directory_mode: "0750" }
/// - permissions: { path: /etc/ssh, match: ssh_host_*_key, file_mode: "0600" }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Permissions {
    /// The folder.
    path: AbsolutePath,
    /// Which paths below it, with `*`, `?` and `**`; everything (`**`) if not said.
    r#match: Option<RelativeGlob>,
    /// Their owner.
    owner: Option<String>,
    /// Their group.
    group: Option<String>,
    /// The permission bits of files, such as `"0640"`.
    file_mode: Option<Mode>,
    /// The permission bits of directories, such as `"0750"`.
    directory_mode: Option<Mode>,
}

#[derive(Debug)]
struct Resolved {
    path: AbsolutePath,
    glob: Glob,
    owner: Option<String>,
    group: Option<String>,
    file_mode: Option<Mode>,
    directory_mode: Option<Mode>,
}

impl Fields for Permissions {
    const KIND: &'static str = "permissions";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        // The kernel decides these, and `/` has everything in it.
        const REFUSED: [&str; 4] = ["/", "/dev", "/proc", "/sys"];
        let path = self.path.as_path();
        if path.parent().is_none() || REFUSED[1..].iter().any(|refused| path.starts_with(refused)) {
            return Err(Problem::new(format!("the permissions below `{}` are not for a recipe", self.path))
                .help("name a folder that is not `/` and not below `/dev`, `/proc` or `/sys`"));
        }
        if self.owner.is_none()
            && self.group.is_none()
            && self.file_mode.is_none()
            && self.directory_mode.is_none()
        {
            return Err(Problem::new(
                "`permissions` need at least one of `owner`, `group`, `file_mode` and `directory_mode`",
            ));
        }
        let pattern = self.r#match.unwrap_or_else(RelativeGlob::everything);
        Ok(Box::new(Resolved {
            glob: Glob::below(path, &pattern),
            path: self.path,
            owner: self.owner,
            group: self.group,
            file_mode: self.file_mode,
            directory_mode: self.directory_mode,
        }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.glob.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Permissions(self.glob.clone())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        match facts.entry(self.path.as_path())?.known()?.map(|entry| entry.kind) {
            Some(EntryKind::Directory) => {}
            Some(other) => {
                let message = format!("`{}` is {}, not a directory", self.path, other.noun());
                return Err(PlanError::impossible(message));
            }
            None => {
                return Err(PlanError::impossible_but(
                    format!("the directory `{}` does not exist", self.path),
                    format!("put a `directory: {{ path: {} }}` or what brings it before it", self.path),
                ));
            }
        }
        // Found even if nothing matches yet, so that a name that is misspelt shows at once.
        let root = || "root".to_owned();
        let wanted = Attributes {
            owner: self.owner.clone().unwrap_or_else(root),
            group: self.group.clone().unwrap_or_else(root),
            mode: 0,
        };
        owners_exist(facts, &wanted)?;
        let found = self.glob.find(facts)?;
        Ok(found
            .into_iter()
            .filter_map(|(path, entry)| {
                let attributes = self.wanted(&entry)?;
                let before = entry.attributes;
                (attributes != before).then_some(Op::SetAttributes { path, attributes, before })
            })
            .collect())
    }
}

impl Resolved {
    /// As an entry shall be; none if it is none of ours.
    fn wanted(&self, entry: &Entry) -> Option<Attributes> {
        let mode = match entry.kind {
            EntryKind::File => self.file_mode,
            EntryKind::Directory => self.directory_mode,
            EntryKind::Symlink { .. } | EntryKind::Other => return None,
        };
        let before = &entry.attributes;
        Some(Attributes {
            owner: self.owner.clone().unwrap_or_else(|| before.owner.clone()),
            group: self.group.clone().unwrap_or_else(|| before.group.clone()),
            mode: mode.map_or(before.mode, |mode| mode.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn tree() -> Fake {
        let mut fake = Fake::debian();
        for directory in ["/srv/app", "/srv/app/keys", "/srv/app/keys/old"] {
            fake.directory(directory);
        }
        for file in ["/srv/app/run", "/srv/app/keys/a.key", "/srv/app/keys/old/.b.key", "/srv/other"] {
            fake.file(file, "x");
        }
        fake.symlink("/srv/app/keys/link", "/etc");
        fake.file("/etc/shadow", "x");
        fake.group_with_id("app", 990);
        fake
    }

    #[test]
    fn settles_for_files_and_directories_and_leaves_links() {
        let mut fake = tree();
        let example = Example::resources(
            "- permissions: { path: /srv/app, group: app, file_mode: \"0640\", directory_mode: \"0750\" }",
        );
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: permissions /srv/app/**
          ~ /srv/app/keys: root:root 0755 -> root:app 0750
          ~ /srv/app/keys/a.key: root:root 0644 -> root:app 0640
          ~ /srv/app/keys/old: root:root 0755 -> root:app 0750
          ~ /srv/app/keys/old/.b.key: root:root 0644 -> root:app 0640
          ~ /srv/app/run: root:root 0644 -> root:app 0640
        Plan: 1 to change, 0 unchanged.
        ");
        let example =
            Example::resources("- permissions: { path: /srv/app, match: \"**/*.key\", file_mode: \"0600\" }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: permissions /srv/app/**/*.key
          ~ /srv/app/keys/a.key: root:app 0640 -> root:app 0600
          ~ /srv/app/keys/old/.b.key: root:app 0640 -> root:app 0600
        Plan: 1 to change, 0 unchanged.
        ");
        let none = Example::resources("- permissions: { path: /srv/app, match: \"*.none\", owner: root }");
        none.settles(&mut fake);
    }

    #[test]
    fn what_a_package_may_bring_is_looked_for_when_it_is_there() {
        let fake = tree();
        let example = Example::resources(
            "- package: { name: p }\n- permissions: { path: /srv/app, match: run, file_mode: \"0755\" }\n- permissions: { path: /srv/app, match: \"r*\", group: app }",
        );
        insta::assert_snapshot!(example.plan(&fake).expect("a plan"), @"
        example: package p
          + install p
        example: permissions /srv/app/run
          ~ /srv/app/run: root:root 0644 -> root:root 0755
        example: permissions /srv/app/r* (assumed)
          ? /srv/app/run: root:root 0755 -> root:app 0755, unless installing p brings it
        Plan: 2 to change, 1 known after apply, 0 unchanged.
        Of these 2 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let fails =
            |fields: &str| Example::resources(&format!("- permissions: {{ {fields} }}")).fails(&mut tree());
        insta::assert_snapshot!(fails("path: /srv/none, owner: root"), @"example: permissions /srv/none/**: the directory `/srv/none` does not exist; put a `directory: { path: /srv/none }` or what brings it before it");
        insta::assert_snapshot!(fails("path: /srv/other, owner: root"), @"example: permissions /srv/other/**: `/srv/other` is a file, not a directory");
        insta::assert_snapshot!(fails("path: /srv/app/keys/link, owner: root"), @"example: permissions /srv/app/keys/link/**: `/srv/app/keys/link` is a symbolic link, not a directory");
        insta::assert_snapshot!(fails("path: /srv/app, owner: nobody"), @"example: permissions /srv/app/**: the user `nobody` does not exist; put a `user: { name: nobody }` before it");
        insta::assert_snapshot!(fails("path: /srv/app, match: keys/link/*, owner: root"), @"example: permissions /srv/app/keys/link/*: `/srv/app/keys/link` is a link to `/etc`, which is not followed; write the path without the link");
    }

    #[test]
    fn wrong_fields_and_contradictions_are_explained() {
        let problems =
            |fields: &str| Example::resources(&format!("- permissions: {{ {fields} }}")).problems();
        insta::assert_snapshot!(problems("path: /srv"), @"example/recipe.yaml:2:18: `permissions` need at least one of `owner`, `group`, `file_mode` and `directory_mode`");
        insta::assert_snapshot!(problems("path: /, owner: root"), @"example/recipe.yaml:2:18: the permissions below `/` are not for a recipe; name a folder that is not `/` and not below `/dev`, `/proc` or `/sys`");
        insta::assert_snapshot!(problems("path: /proc/1, owner: root"), @"example/recipe.yaml:2:18: the permissions below `/proc/1` are not for a recipe; name a folder that is not `/` and not below `/dev`, `/proc` or `/sys`");
        insta::assert_snapshot!(problems("path: /srv, match: \"[ab]\", owner: root"), @r"example/recipe.yaml:2:18: the pattern `[ab]` has brackets or `\` in it; wildcards are `*`, `?` and `**`");
        insta::assert_snapshot!(problems("path: /srv, match: \"a**\", owner: root"), @"example/recipe.yaml:2:18: `a**` has `**` in it, which stands alone between slashes");
        insta::assert_snapshot!(problems("path: /srv, match: \"../a\", owner: root"), @"example/recipe.yaml:2:18: the pattern `../a` has an empty name, `.` or `..` in it");
        insta::assert_snapshot!(problems("path: /srv, match: \"/a\", owner: root"), @"example/recipe.yaml:2:18: the pattern `/a` is below the path, without `/`");
        let several = "
- permissions: { path: /srv/app, group: app }
- file: { path: /srv/app/a, content: x }
- file: { path: /srv/b, content: x }
- permissions: { path: /srv/app, match: \"**\", group: root }
";
        insta::assert_snapshot!(Example::resources(several).problems(), @"
        example/recipe.yaml:5:5: the access to `/srv/app/**` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:3:5: the path `/srv/app/a` is set, but the access to `/srv/app/**` is decided elsewhere (here: example/recipe.yaml:2:5); narrow the pattern, or take one of the two away
        ");
    }
}
