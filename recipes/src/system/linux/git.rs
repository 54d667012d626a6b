//! Checkouts of git repositories: made beside their place, and moved there when they are whole.

use std::path::Path;
use std::time::Duration;

use super::tree::Tree;
use super::{Linux, failed};
use crate::op::{Checkout, Command, staged_path};
use crate::system::PerformError;

/// A fetch that takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(30);

/// A command that reads no configuration but the repository's own, asks for nothing, and speaks HTTPS only (git(1)).
fn git(folder: &Path, arguments: &[&str]) -> Command {
    let folder = folder.display().to_string();
    let fixed = ["git", "-C", &folder, "--no-optional-locks", "-c", "core.hooksPath=/dev/null"];
    let fixed = fixed.into_iter().chain([
        "-c",
        "core.fsmonitor=false",
        "-c",
        "gc.auto=0",
        "-c",
        "maintenance.auto=false",
    ]);
    let mut command = Command::new(fixed.chain(arguments.iter().copied()));
    command.environment.extend(
        [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "/bin/false"),
            ("GIT_ALLOW_PROTOCOL", "https"),
            // There is no `.netrc` and no `.config`.
            ("HOME", "/nonexistent"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    command
}

/// What ends with 0 if every file of the commit is there as it is in it. The owner runs it: what git reads in a
/// checkout can make it run programs.
pub(super) fn unchanged(path: &Path, owner: &str) -> Command {
    let arguments = ["diff", "--quiet", "--no-ext-diff", "--no-textconv", "HEAD", "--"];
    Command { user: (owner != "root").then(|| owner.to_owned()), ..git(path, &arguments) }
}

/// Checks a commit out.
pub(super) fn check_out(
    linux: &Linux,
    checkout: &Checkout,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    let (tree, path) = (&linux.tree, &checkout.path);
    let staged = staged_path(path);
    let what = || failed(format!("put `{}` in place", path.display()));
    let (uid, gid) = linux.owners(&checkout.attributes)?;
    remove(tree, &staged)?;
    tree.create_directory(&staged, 0, 0, 0o700).map_err(what())?;
    let made = fetch(linux, checkout, &staged, output).and_then(|()| {
        tree.set_owner_of_all(&staged, uid, gid).map_err(what())?;
        tree.set_attributes(&staged, uid, gid, checkout.attributes.mode).map_err(what())?;
        if checkout.replaces { tree.exchange(&staged, path) } else { tree.rename(&staged, path) }
            .map_err(what())
    });
    // If it went well, this is what was there before.
    let removed = remove(tree, &staged);
    made.and(removed)
}

fn remove(tree: &Tree, staged: &Path) -> Result<(), PerformError> {
    let what = || failed(format!("remove `{}`", staged.display()));
    match tree.entry(staged).map_err(what())? {
        Some(found) => tree.remove(staged, &found.kind).map_err(what()),
        None => Ok(()),
    }
}

fn fetch(
    linux: &Linux,
    checkout: &Checkout,
    staged: &Path,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    let mut run = |arguments: &[&str]| {
        let mut command = Command { timeout: LIMIT, ..git(staged, arguments) };
        command.environment.extend(linux.environment.clone());
        if let Some(ca_file) = &checkout.ca_file {
            command.environment.insert("GIT_SSL_CAINFO".into(), ca_file.display().to_string());
        }
        linux.runner.run(&command, output)
    };
    // Without a template there are no hooks and nothing else of the host's.
    run(&["init", "--quiet", "--template="])?;
    let (url, commit) = (checkout.url.as_str(), checkout.commit.as_str());
    let fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
    let fetched = run(&[&fetch[..], &["--depth=1", url, commit]].concat());
    match (&checkout.reference, fetched) {
        (_, Ok(())) => {}
        (None, Err(error)) => return Err(error),
        // Servers that speak only the first version of the protocol may give out names only.
        (Some(name), Err(_)) => run(&[&fetch[..], &[url, name]].concat())?,
    }
    run(&["checkout", "--quiet", "--force", "--detach", commit])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command as Program;

    use nix::unistd::{getgid, getuid};
    use tempfile::TempDir;

    use super::*;
    use crate::op::Op;
    use crate::system::{Attributes, Facts, Known, Machine, Mode};
    use crate::url::HttpsUrl;

    /// A repository with two commits, and what makes git take it for `https://a.b/`.
    struct Repository {
        folder: TempDir,
        commits: [String; 2],
    }

    impl Repository {
        fn new() -> Self {
            let folder = TempDir::new().expect("a folder");
            let git = |arguments: &[&str]| {
                let mut program = Program::new("git");
                for who in ["AUTHOR", "COMMITTER"] {
                    program.env(format!("GIT_{who}_NAME"), "a").env(format!("GIT_{who}_EMAIL"), "a@b.c");
                }
                program.env("HOME", folder.path()).current_dir(folder.path());
                let output = program.args(arguments).output().expect("git is installed");
                assert!(output.status.success(), "{arguments:?}: {output:?}");
                String::from_utf8(output.stdout).expect("text").trim().to_owned()
            };
            git(&["init", "--quiet", "--initial-branch=main", "."]);
            let commit = |text: &str| {
                fs::write(folder.path().join("file"), text).expect("written");
                git(&["add", "file"]);
                git(&["commit", "--quiet", "--message", text]);
                git(&["rev-parse", "HEAD"])
            };
            let commits = [commit("one"), commit("two")];
            Self { folder, commits }
        }

        fn machine(&self) -> Linux {
            let config = format!("url.file://{}/.insteadOf", self.folder.path().display());
            let variables = [
                ("GIT_ALLOW_PROTOCOL", "file"),
                ("GIT_CONFIG_COUNT", "1"),
                ("GIT_CONFIG_KEY_0", &config),
                ("GIT_CONFIG_VALUE_0", "https://a.b/"),
            ];
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let machine = Linux::open(Path::new("/"), Mode::Live).expect("this host");
            machine.with_environment(BTreeMap::from(variables))
        }
    }

    fn checkout(path: &Path, commit: &str, reference: Option<&str>) -> Checkout {
        Checkout {
            url: HttpsUrl::parse("https://a.b/").expect("an address"),
            commit: commit.into(),
            reference: reference.map(str::to_owned),
            path: path.to_owned(),
            attributes: Attributes { owner: getuid().to_string(), group: getgid().to_string(), mode: 0o755 },
            ca_file: None,
            replaces: path.exists(),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_commit_takes_the_place_of_another_and_a_change_is_seen() {
        let (repository, here) = (Repository::new(), TempDir::new().expect("a folder"));
        let (mut machine, path) = (repository.machine(), here.path().join("site"));
        for (commit, text) in repository.commits.iter().zip(["one", "two"]) {
            machine.perform(&Op::Checkout(checkout(&path, commit, None)), &mut |_| {}).expect("checked out");
            assert_eq!(fs::read_to_string(path.join("file")).expect("there"), text);
            let head = fs::read_to_string(path.join(".git/HEAD")).expect("there");
            assert_eq!(head.trim_end(), commit, "it is of no branch");
        }
        assert_eq!(names(here.path()), ["site"]);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o755);
        assert!(!path.join(".git/hooks").exists());
        let unchanged = |machine: &Linux| machine.is_unchanged(&path, "root").expect("an answer");
        assert_eq!(unchanged(&machine), Known::Yes(true));
        fs::write(path.join("more"), "of nobody's").expect("written");
        assert_eq!(unchanged(&repository.machine()), Known::Yes(true));
        fs::write(path.join("file"), "changed").expect("written");
        assert_eq!(unchanged(&repository.machine()), Known::Yes(false));
        fs::remove_file(path.join("file")).expect("removed");
        assert_eq!(unchanged(&repository.machine()), Known::Yes(false));
    }

    #[test]
    fn what_cannot_be_fetched_leaves_what_was_there() {
        let (repository, here) = (Repository::new(), TempDir::new().expect("a folder"));
        let (mut machine, path) = (repository.machine(), here.path().join("site"));
        let mut check_out = |commit: &str, reference| {
            machine.perform(&Op::Checkout(checkout(&path, commit, reference)), &mut |_| {})
        };
        check_out(&repository.commits[0], Some("main")).expect("checked out");
        let none = "0123456789012345678901234567890123456789";
        let error = check_out(none, Some("main")).expect_err("there is no such commit").to_string();
        assert!(error.contains("checkout") && error.contains(none), "{error}");
        check_out(none, None).expect_err("there is no such commit");
        assert_eq!(fs::read_to_string(path.join("file")).expect("there"), "one");
        assert_eq!(names(here.path()), ["site"]);
    }
}
