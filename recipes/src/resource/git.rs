//! `git`: the files of one commit of a repository.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::{owners_exist, parent_exists};
use super::download::ca_file_exists;
use super::fields::{AbsolutePath, AccountName, attributes, is_needed};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Checkout, Op, staged_path};
use crate::system::{EntryKind, Facts, PlanError};
use crate::url::HttpsUrl;

/// The files of one commit of a git repository, in a directory of their own.
///
/// The commit is named by its full id, so that two hosts cannot differ; only it is fetched, without its history. It is
/// checked out beside the directory and put in place at once: a reader sees all files of one commit or of the other.
/// Files that were changed or removed since are put right by checking all of it out again. Whatever else is in the
/// directory stays as long as the commit does, and goes with it: what a service writes belongs elsewhere.
///
/// `git` has to be on the host, and it has to trust who signed the server's certificate, as with `download`. It asks
/// for no password, runs no hooks, and reads no configuration of the host or of a user; `https_proxy` and `no_proxy`
/// are those that package managers get. Submodules and LFS are left out.
///
/// ```yaml
/// - package: { name: git }
/// - git:
///     url: https://git.example.com/site.git
///     commit: 2b4c1a7de0f6e5a9c3d8b7061524334251607f8e
///     path: /srv/site
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Git {
    /// Where the repository is.
    url: HttpsUrl,
    /// The commit: all 40 hexadecimal digits of its id.
    commit: String,
    /// A tag or branch that has the commit in its history. It is fetched, with its history, from a server that
    /// gives out no commit by its id.
    #[serde(rename = "ref")]
    reference: Option<String>,
    /// Where its files are put.
    path: AbsolutePath,
    /// The owner of all files; `root` if not said.
    owner: Option<AccountName>,
    /// Their group; `root` if not said.
    group: Option<AccountName>,
    /// A file of the host with the certificates, in PEM, that the server is believed by, instead of those that the
    /// host trusts.
    ca_file: Option<AbsolutePath>,
}

/// Where every distribution has it.
const GIT: &str = "/usr/bin/git";

#[derive(Debug)]
struct Resolved(Checkout);

impl Fields for Git {
    const KIND: &'static str = "git";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let shown = self.commit.escape_debug();
        if self.commit.len() != 40 || !self.commit.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(Problem::new(format!(
                "`{shown}` is not the id of a commit: that is 40 hexadecimal digits"
            ))
            .help(
                "`git rev-parse NAME^{commit}` prints that of a tag or branch; what those mean may change",
            ));
        }
        if self.url.as_str().contains('?') {
            return Err(Problem::new(format!(
                "`{}` has a query, which the address of a repository has not",
                self.url
            )));
        }
        if let Some(name) = self.reference.as_deref().filter(|name| !is_reference(name)) {
            return Err(Problem::new(format!(
                "`{}` is not the name of a tag or branch",
                name.escape_debug()
            )));
        }
        if is_needed(self.path.as_path()) {
            return Err(Problem::new(format!("`{}` cannot be a checkout: the host needs it", self.path)));
        }
        Ok(Box::new(Resolved(Checkout {
            url: self.url,
            commit: self.commit.to_ascii_lowercase(),
            reference: self.reference,
            path: self.path.as_path().to_owned(),
            attributes: attributes(self.owner.map(|name| name.0), self.group.map(|name| name.0), None, 0o755),
            ca_file: self.ca_file.map(|path| path.as_path().to_owned()),
            replaces: false,
        })))
    }
}

/// Less than what git-check-ref-format(1) allows: nothing that means something in a refspec or a command line.
fn is_reference(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._/+-".contains(c))
        && !["..", "//", "/."].iter().any(|wrong| name.contains(wrong))
        && ![".", "/", ".lock"].iter().any(|end| name.ends_with(end))
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.0.path.display().to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Path(self.0.path.clone())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let Checkout { path, commit, attributes, .. } = &self.0;
        owners_exist(facts, attributes)?;
        if facts.entry(Path::new(GIT))?.known()?.is_none() {
            let message = "`git` is not installed";
            return Err(PlanError::impossible_but(message, "put a `package: { name: git }` before it"));
        }
        let Some(entry) = facts.entry(path)?.known()? else {
            parent_exists(facts, path)?;
            return self.check_out(facts, false);
        };
        if entry.kind != EntryKind::Directory {
            let message = format!("`{}` is {}, not a directory", path.display(), entry.kind.noun());
            return Err(PlanError::impossible(message));
        }
        let Some(head) = facts.content(&path.join(".git/HEAD"))?.known()? else {
            if facts.names(path)?.known()?.is_empty() {
                return self.check_out(facts, true);
            }
            let path = path.display();
            return Err(PlanError::impossible_but(
                format!("`{path}` has files in it, and is no checkout"),
                format!("to remove them: `directory: {{ path: {path}, state: absent }}` in an earlier run"),
            ));
        };
        let is_right = head.trim_ascii_end() == commit.as_bytes()
            && (&entry.attributes.owner, &entry.attributes.group) == (&attributes.owner, &attributes.group)
            && facts.is_unchanged(path, &attributes.owner)?.known()?;
        if !is_right {
            return self.check_out(facts, true);
        }
        // What a run left that was cut off when the new files were in place.
        let left = staged_path(path);
        let is_left = facts.entry(&left)?.known()?.is_some();
        Ok(if is_left { vec![Op::Remove { path: left, directory: true }] } else { Vec::new() })
    }
}

impl Resolved {
    fn check_out(&self, facts: &dyn Facts, replaces: bool) -> Result<Vec<Op>, PlanError> {
        if let Some(ca_file) = &self.0.ca_file {
            ca_file_exists(facts, ca_file)?;
        }
        Ok(vec![Op::Checkout(Checkout { replaces, ..self.0.clone() })])
    }
}

#[cfg(test)]
mod tests {
    use crate::system::Facts;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const ONE: &str = "2b4c1a7de0f6e5a9c3d8b7061524334251607f8e";
    const TWO: &str = "3c5d2b8ef1a7f6bad4e9c8172635445362718a9f";

    fn with_git() -> Fake {
        let mut fake = Fake::debian();
        fake.directory("/usr/bin");
        fake.file("/usr/bin/git", "");
        fake
    }

    fn example(commit: &str, more: &str) -> Example {
        Example::resources(&format!(
            "- git: {{ url: \"https://a.b/c\", commit: {commit}, path: /srv/site{more} }}"
        ))
    }

    #[test]
    fn settles_at_a_commit_at_another_and_when_somebody_changed_a_file() {
        let mut fake = with_git();
        insta::assert_snapshot!(example(ONE, "").settles(&mut fake), @"
        example: git /srv/site
          + check out https://a.b/c at 2b4c1a7de0f6 in /srv/site (root:root)
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(example(TWO, "").settles(&mut fake), @"
        example: git /srv/site
          ~ check out https://a.b/c at 3c5d2b8ef1a7 in /srv/site (root:root) in the place of what is there
        Plan: 1 to change, 0 unchanged.
        ");
        fake.change_checkout("/srv/site");
        insta::assert_snapshot!(example(TWO, "").settles(&mut fake), @"
        example: git /srv/site
          ~ check out https://a.b/c at 3c5d2b8ef1a7 in /srv/site (root:root) in the place of what is there
        Plan: 1 to change, 0 unchanged.
        ");
        fake.directory("/srv/.site.staged");
        insta::assert_snapshot!(example(TWO, "").settles(&mut fake), @"
        example: git /srv/site
          - remove /srv/.site.staged and everything in it
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn without_git_it_is_an_error_and_with_it_coming_it_is_unknown() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(example(ONE, "").fails(&mut fake), @"example: git /srv/site: `git` is not installed; put a `package: { name: git }` before it");
        let recipe = format!(
            "- package: {{ name: git }}\n- git: {{ url: \"https://a.b/c\", commit: {ONE}, path: /srv/site }}"
        );
        insta::assert_snapshot!(Example::resources(&recipe).plan(&fake).expect("a plan"), @"
        example: package git
          + install git
        example: git /srv/site (assumed)
          ? known after apply: whether installing git brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn what_is_in_a_checkout_is_not_known_before_it_is_there() {
        let mut fake = with_git();
        example(ONE, "").settles(&mut fake);
        fake.file("/srv/site/kept", "x");
        let recipe = format!(
            "
- git: {{ url: \"https://a.b/c\", commit: {TWO}, path: /srv/site }}
- line: {{ path: /srv/site/kept, line: y }}
- file: {{ path: /srv/site/new, content: y }}
"
        );
        insta::assert_snapshot!(Example::resources(&recipe).plan(&fake).expect("a plan"), @"
        example: git /srv/site
          ~ check out https://a.b/c at 3c5d2b8ef1a7 in /srv/site (root:root) in the place of what is there
        example: line /srv/site/kept: y (assumed)
          ? known after apply: whether the checkout `/srv/site` has it
        example: file /srv/site/new (assumed)
          ? known after apply: whether the checkout `/srv/site` has it
        Plan: 1 to change, 2 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 2 assumed.
        ");
        assert!(fake.is_unchanged("/srv/site".as_ref(), "root").is_ok());
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let mut fake = with_git();
        fake.directory("/srv/site");
        fake.file("/srv/site/upload", "x");
        insta::assert_snapshot!(example(ONE, "").fails(&mut fake), @"example: git /srv/site: `/srv/site` has files in it, and is no checkout; to remove them: `directory: { path: /srv/site, state: absent }` in an earlier run");
        insta::assert_snapshot!(example(ONE, "/upload").fails(&mut fake), @"example: git /srv/site/upload: `/srv/site/upload` is a file, not a directory");
        insta::assert_snapshot!(example(ONE, "/a/b").fails(&mut fake), @"example: git /srv/site/a/b: the directory `/srv/site/a` does not exist; put a `directory: { path: /srv/site/a }` before it");
        insta::assert_snapshot!(example(ONE, "/a, owner: app").fails(&mut fake), @"example: git /srv/site/a: the user `app` does not exist; put a `user: { name: app }` before it");
        insta::assert_snapshot!(example(ONE, "/a, ca_file: /etc/none.pem").fails(&mut fake), @"example: git /srv/site/a: the `ca_file` `/etc/none.pem` does not exist; put a `file: { path: /etc/none.pem }` before it");
    }

    #[test]
    fn wrong_fields_are_explained() {
        insta::assert_snapshot!(example("v1.0", "").problems(), @"example/recipe.yaml:2:10: `v1.0` is not the id of a commit: that is 40 hexadecimal digits; `git rev-parse NAME^{commit}` prints that of a tag or branch; what those mean may change");
        insta::assert_snapshot!(example(ONE, ", ref: \"-x\"").problems(), @"example/recipe.yaml:2:10: `-x` is not the name of a tag or branch");
        for reference in ["-x", "a b", "a:b", "a..b", "a/", "a.lock", "+a", "a/.b", "a^"] {
            let problems = example(ONE, &format!(", ref: \"{reference}\"")).problems();
            assert!(problems.ends_with("is not the name of a tag or branch"), "{problems}");
        }
        assert!(example(ONE, ", ref: release/v1.0+2").resolve(Fake::debian().host()).is_ok());
        let ssh = "- git: { url: \"git@a.b:c\", commit: x, path: /srv/site }";
        insta::assert_snapshot!(Example::resources(ssh).problems(), @"example/recipe.yaml:2:10: `git@a.b:c` is not an `https://` address; without TLS anybody on the way sees what this host fetches");
        let query = format!("- git: {{ url: \"https://a.b/c?token=x\", commit: {ONE}, path: /srv/site }}");
        insta::assert_snapshot!(Example::resources(&query).problems(), @"example/recipe.yaml:2:10: `https://a.b/c?...` has a query, which the address of a repository has not");
        let needed = format!("- git: {{ url: \"https://a.b/c\", commit: {ONE}, path: /usr/lib }}");
        insta::assert_snapshot!(Example::resources(&needed).problems(), @"example/recipe.yaml:2:10: `/usr/lib` cannot be a checkout: the host needs it");
    }
}
