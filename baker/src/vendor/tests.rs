//! Repositories on this machine, fetched as others are.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::lock::LOCK;
use super::*;

/// A folder with a repository of somebody else, and a folder of recipes of ours.
struct World {
    folder: TempDir,
}

impl World {
    /// A repository with a recipe `ntp`, tagged `v1`, and the recipes that want it.
    fn new(declared: &str) -> Self {
        let world = Self { folder: TempDir::new().expect("a folder") };
        fs::create_dir_all(world.theirs()).expect("made");
        fs::create_dir_all(world.recipes()).expect("made");
        world.git(&["init", "--quiet", "--initial-branch=main"]);
        world.commit("ntp/recipe.yaml", "resources: []\n");
        world.git(&["tag", "v1"]);
        world.declare(declared);
        world
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn theirs(&self) -> PathBuf {
        self.path().join("theirs")
    }

    fn recipes(&self) -> PathBuf {
        self.path().join("recipes")
    }

    fn vendored(&self, path: &str) -> PathBuf {
        self.recipes().join(VENDOR).join(path)
    }

    /// Writes `vendor.yaml`; `URL` is the address of the repository.
    fn declare(&self, text: &str) {
        let url = format!("file://{}", self.theirs().display());
        fs::write(self.recipes().join(DECLARED), text.replace("URL", &url)).expect("written");
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "core.hooksPath=/dev/null"])
            .args(arguments)
            .current_dir(self.theirs())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("git is there: make setup");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Commits a file and returns the commit.
    fn commit(&self, path: &str, text: &str) -> String {
        let file = self.theirs().join(path);
        fs::create_dir_all(file.parent().expect("a parent")).expect("made");
        fs::write(file, text).expect("written");
        self.commit_all()
    }

    fn commit_all(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message=x"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn vendor_with(
        &self,
        refresh: &Refresh,
        environment: &[(String, String)],
    ) -> Result<Vec<Change>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let result = runtime.block_on(vendor(&self.recipes(), "recipes", refresh, environment));
        assert!(!self.recipes().join(".vendor.partial").exists(), "nothing is left");
        result.map_err(|error| {
            let text = match error {
                VendorError::Written(problems) => problems.to_string(),
                VendorError::Failed(failure) => failure.message,
            };
            // The folder is another one in every run.
            text.replace(&self.path().display().to_string(), "")
        })
    }

    fn vendor(&self) -> Result<Vec<Change>, String> {
        self.vendor_with(&Refresh::Needed, &[])
    }

    fn update(&self) -> Result<Vec<Change>, String> {
        self.vendor_with(&Refresh::All, &[])
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.vendor().expect("fetched").iter().map(|change| change.outcome).collect()
    }

    fn verify(&self) -> Result<BTreeMap<String, Vendored>, String> {
        verify(&self.recipes(), "recipes").map_err(|problems| problems.to_string())
    }
}

const TAG: &str = "acme: { git: 'URL', tag: v1 }";
const BRANCH: &str = "acme: { git: 'URL', branch: main }";

#[test]
fn what_is_fetched_is_what_is_found() {
    let world = World::new(TAG);
    let changes = world.vendor().expect("fetched");
    let commit = world.git(&["rev-parse", "v1"]);
    assert_eq!((&changes[0].commit, changes[0].outcome), (&Some(commit.clone()), Outcome::Fetched));
    let found = world.verify().expect("as it was fetched");
    let ntp = &found["ntp"];
    assert_eq!(ntp.shown, "recipes/vendor/acme/ntp");
    assert_eq!((&ntp.provenance.source, &ntp.provenance.commit), (&"acme".to_owned(), &Some(commit)));
    assert_eq!(fs::read_to_string(ntp.folder.join("recipe.yaml")).expect("there"), "resources: []\n");
    // What is locked and as it was needs nobody.
    fs::remove_dir_all(world.theirs()).expect("removed");
    assert_eq!(world.outcomes(), [Outcome::Unchanged]);
}

#[test]
fn a_recipe_at_the_root_has_the_name_of_its_source_and_a_folder_in_it_can_be_said() {
    let world = World::new("acme: { git: 'URL', branch: main, path: ntp }");
    world.commit("ntp/files/run", "#!/bin/sh\n");
    world.commit("ntp/files/data", "\0binary\n");
    world.git(&["update-index", "--chmod=+x", "ntp/files/run"]);
    world.git(&["commit", "--quiet", "--message=x"]);
    world.vendor().expect("fetched");
    let found = world.verify().expect("as it was fetched");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["acme"]);
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(world.vendored(path)).expect("there").permissions().mode() & 0o100
    };
    assert_eq!((mode("acme/acme/files/run"), mode("acme/acme/recipe.yaml")), (0o100, 0));
    assert_eq!(fs::read(world.vendored("acme/acme/files/data")).expect("there"), b"\0binary\n");
}

#[test]
fn a_commit_that_no_branch_has_any_more_can_be_fetched_while_it_is_there() {
    let world = World::new("");
    let old = world.commit("ntp/recipe.yaml", "resources: [] # old\n");
    world.commit("ntp/recipe.yaml", "resources: [] # new\n");
    world.declare(&format!("acme: {{ git: 'URL', commit: {old} }}"));
    world.vendor().expect("fetched");
    let text = fs::read_to_string(world.vendored("acme/ntp/recipe.yaml")).expect("there");
    assert_eq!(text, "resources: [] # old\n");
    let none = "0123456789012345678901234567890123456789";
    world.declare(&format!("acme: {{ git: 'URL', commit: {none} }}"));
    insta::assert_snapshot!(world.vendor().expect_err("there is none"), @"recipes/vendor.yaml:1:1: `acme`: `file:///theirs` does not have the commit 0123456789012345678901234567890123456789");
}

#[test]
fn what_was_changed_here_is_named_and_brought_back() {
    let world = World::new(BRANCH);
    world.commit("web/recipe.yaml", "resources: []\n");
    world.vendor().expect("fetched");
    // Their branch goes on, and what was locked stays.
    world.commit("ntp/recipe.yaml", "resources: [] # newer\n");
    fs::write(world.vendored("acme/ntp/recipe.yaml"), "resources: [] # edited\n").expect("written");
    fs::write(world.vendored("acme/ntp/more"), "").expect("written");
    fs::remove_dir_all(world.vendored("acme/web")).expect("removed");
    fs::create_dir(world.vendored("acme/own")).expect("made");
    insta::assert_snapshot!(world.verify().expect_err("changed"), @"
    `recipes/vendor/acme/ntp` is not what was fetched: `more` was added, `recipe.yaml` was changed; `baker vendor` brings back what was fetched; to change a recipe, copy it into a folder of your own and leave it out of `vendor.yaml`
    `recipes/vendor/acme/web` is missing; `baker vendor` brings back what was fetched; to change a recipe, copy it into a folder of your own and leave it out of `vendor.yaml`
    `recipes/vendor/acme/own` was not fetched; remove it: recipes of your own are beside `vendor`
    ");
    assert_eq!(world.outcomes(), [Outcome::Restored]);
    assert_eq!(world.verify().expect("as it was fetched").len(), 2);
    let text = fs::read_to_string(world.vendored("acme/ntp/recipe.yaml")).expect("there");
    assert_eq!(text, "resources: []\n");
}

#[test]
fn what_is_written_and_what_was_fetched_have_to_agree() {
    let world = World::new(TAG);
    insta::assert_snapshot!(world.verify().expect_err("not fetched"), @"what `recipes/vendor.yaml` names has not been fetched; run `baker vendor`, and commit `recipes/vendor`");
    world.vendor().expect("fetched");
    world.declare("acme: { git: 'URL', branch: main }\nother: { path: x }");
    insta::assert_snapshot!(world.verify().expect_err("changed"), @"
    recipes/vendor.yaml:1:1: `acme` was changed since it was fetched; run `baker vendor`
    recipes/vendor.yaml:2:1: `other` has not been fetched; run `baker vendor`
    ");
    world.declare("{}");
    insta::assert_snapshot!(world.verify().expect_err("removed"), @"`recipes/vendor/acme` is there, and `recipes/vendor.yaml` does not name it; run `baker vendor`");
    assert_eq!(world.vendor(), Ok(vec![]));
    assert!(world.verify().expect("nothing").is_empty() && !world.vendored("acme").exists());
    fs::remove_file(world.recipes().join(DECLARED)).expect("removed");
    insta::assert_snapshot!(world.verify().expect_err("nobody says"), @"`recipes/vendor` is there, and `recipes/vendor.yaml` is not; write `recipes/vendor.yaml`, or remove `recipes/vendor`");
}

#[test]
fn an_update_moves_to_the_newest_commit_of_a_branch_and_no_other_source() {
    let world =
        World::new("acme: { git: 'URL', branch: main }\nother: { git: 'URL', branch: main, path: ntp }");
    let first = world.git(&["rev-parse", "main"]);
    world.vendor().expect("fetched");
    let second = world.commit("ntp/recipe.yaml", "resources: [] # newer\n");
    assert_eq!(world.outcomes(), [Outcome::Unchanged, Outcome::Unchanged]);
    let changes = world.vendor_with(&Refresh::These(vec!["other".into()]), &[]).expect("fetched");
    assert_eq!(changes[0].commit.as_ref(), Some(&first));
    assert_eq!((changes[1].was.as_ref(), changes[1].commit.as_ref()), (Some(&first), Some(&second)));
    let changes = world.update().expect("fetched");
    assert!(changes.iter().all(|change| change.commit.as_ref() == Some(&second)), "{changes:?}");
    let error = world.vendor_with(&Refresh::These(vec!["acmee".into()]), &[]).expect_err("there is none");
    insta::assert_snapshot!(error, @"there is no source `acmee` in `recipes/vendor.yaml`; did you mean `acme`? valid are `acme` and `other`");
}

#[test]
fn a_tag_that_moved_is_not_followed() {
    let world = World::new(TAG);
    world.vendor().expect("fetched");
    let old = world.git(&["rev-parse", "v1"]);
    let new = world.commit("ntp/recipe.yaml", "resources: [] # other\n");
    world.git(&["tag", "--force", "v1"]);
    let error = world.update().expect_err("it moved").replace(&old, "OLD").replace(&new, "NEW");
    insta::assert_snapshot!(error, @"recipes/vendor.yaml:1:1: `acme`: the tag `v1` was moved from OLD to NEW; a tag stands for one commit; if its owner meant to move it, write `commit` in its place");
    assert_eq!(world.outcomes(), [Outcome::Unchanged]);
}

#[test]
fn a_run_that_fails_leaves_what_was_there() {
    let world = World::new(TAG);
    world.vendor().expect("fetched");
    let lock = fs::read(world.vendored(LOCK)).expect("there");
    world.declare("acme: { git: 'URL', tag: v1 }\nother: { git: 'URL', tag: v2 }");
    let error = world.vendor().expect_err("there is no such tag");
    assert!(error.contains("failed to fetch the tag `v2` of `file:///theirs`"), "{error}");
    assert_eq!(fs::read(world.vendored(LOCK)).expect("there"), lock);
    world.declare(TAG);
    assert_eq!(world.verify().expect("as it was fetched").len(), 1);
    // What a run that was killed left is removed by the next.
    fs::create_dir_all(world.recipes().join(".vendor.partial/vendor/x")).expect("made");
    assert_eq!(world.outcomes(), [Outcome::Unchanged]);
}

#[test]
fn links_and_submodules_are_refused() {
    let world = World::new(BRANCH);
    symlink("/etc/passwd", world.theirs().join("ntp/passwd")).expect("linked");
    world.commit_all();
    insta::assert_snapshot!(world.vendor().expect_err("a link"), @"recipes/vendor.yaml:1:1: `acme`: `acme/ntp/passwd` is not a regular file; links, devices and submodules are not taken: a recipe is sent to hosts as files");
    fs::remove_file(world.theirs().join("ntp/passwd")).expect("removed");
    let commit = world.commit_all();
    world.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},ntp/sub")]);
    world.git(&["commit", "--quiet", "--message=x"]);
    let error = world.vendor().expect_err("a submodule");
    assert!(error.contains("`acme/ntp/sub` is not a regular file"), "{error}");
    // What is no part of a recipe that is wanted does no harm.
    world.commit("web/recipe.yaml", "resources: []\n");
    world.declare("acme: { git: 'URL', branch: main, recipes: [web] }");
    assert_eq!(world.vendor().expect("fetched")[0].recipes, ["web"]);
}

#[test]
fn recipes_that_are_not_there_are_named() {
    let world = World::new("acme: { git: 'URL', tag: v1, recipes: [npt] }");
    insta::assert_snapshot!(world.vendor().expect_err("not there"), @"recipes/vendor.yaml:1:1: `acme`: `acme` has no recipe `npt`; did you mean `ntp`? valid is `ntp`");
    world.commit("docs/a", "");
    world.declare("acme: { git: 'URL', branch: main, path: docs }");
    insta::assert_snapshot!(world.vendor().expect_err("none"), @"recipes/vendor.yaml:1:1: `acme`: `acme` has no recipe; a recipe is a folder with `recipe.yaml`; `path` says where in the source they are");
    world.declare("acme: { git: 'URL', tag: v1, path: nowhere }");
    let error = world.vendor().expect_err("no folder");
    assert!(error.contains("`acme` has no folder `nowhere` in "), "{error}");
    world.declare("acme: { git: 'URL', tag: v1 }\nother: { git: 'URL', tag: v1 }");
    insta::assert_snapshot!(world.vendor().expect_err("twice"), @"`acme` and `other` both have a recipe `ntp`; say under `recipes` of one of them which ones are wanted, without `ntp`");
    fs::remove_file(world.recipes().join(DECLARED)).expect("removed");
    let error = world.vendor().expect_err("nothing to do");
    assert!(error.starts_with("there is no `recipes/vendor.yaml`; it says where"), "{error}");
}

#[test]
fn a_folder_of_this_machine_is_copied_and_stays_as_it_was_locked() {
    let world = World::new("mine: { path: ../theirs }");
    assert_eq!(world.outcomes(), [Outcome::Fetched]);
    fs::write(world.theirs().join("ntp/recipe.yaml"), "resources: [] # newer\n").expect("written");
    assert_eq!(world.outcomes(), [Outcome::Unchanged]);
    fs::remove_dir_all(world.vendored("mine")).expect("removed");
    insta::assert_snapshot!(world.vendor().expect_err("another"), @"recipes/vendor.yaml:1:1: `mine`: what is there now is not what the lock says; `baker vendor --update mine` takes it as it is now; review the difference");
    assert_eq!(world.update().expect("copied")[0].outcome, Outcome::Fetched);
    let found = world.verify().expect("as it was copied");
    assert_eq!(
        (&found["ntp"].provenance.commit, found["ntp"].provenance.from.as_str()),
        (&None, "../theirs")
    );
    world.declare("mine: { path: ../nowhere }");
    insta::assert_snapshot!(world.vendor().expect_err("no folder"), @"recipes/vendor.yaml:1:1: `mine`: failed to read the folder `../nowhere`: No such file or directory (os error 2)");
}

#[test]
fn the_configuration_of_whoever_runs_it_changes_nothing() {
    let world = World::new(TAG);
    let home = world.path().join("home");
    fs::create_dir(&home).expect("made");
    let config = "[url \"file:///nowhere/\"]\n\tinsteadOf = file:///\n[core]\n\thooksPath = /nowhere\n";
    fs::write(home.join(".gitconfig"), config).expect("written");
    let environment = [("HOME".to_owned(), home.display().to_string())];
    world.vendor_with(&Refresh::Needed, &environment).expect("fetched");
}

#[test]
fn two_runs_do_not_change_the_folder_at_once() {
    let world = World::new(TAG);
    let file = fs::File::open(world.recipes().join(DECLARED)).expect("there");
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock);
    let lock = lock.map_err(|(_, error)| error).expect("locked");
    insta::assert_snapshot!(world.vendor().expect_err("not alone"), @"another `baker vendor` is changing `recipes/vendor`");
    drop(lock);
    world.vendor().expect("fetched");
}

/// A server that accepts and never answers.
#[test]
fn a_run_that_is_told_to_stop_leaves_no_folder_and_no_process() {
    let world = World::new(TAG);
    world.vendor().expect("fetched");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (address, _connection) = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let declared = format!("{TAG}\nslow: {{ git: 'https://{address}/r', tag: v1 }}");
        world.declare(&declared);
        let recipes = world.recipes();
        let connection = tokio::select! {
            result = vendor(&recipes, "recipes", &Refresh::Needed, &[]) => panic!("it ended: {result:?}"),
            connection = listener.accept() => connection.expect("git has come").0,
        };
        (address.to_string(), connection)
    });
    assert!(!world.recipes().join(".vendor.partial").exists());
    let is_running = || {
        let processes = fs::read_dir("/proc").expect("readable").flatten();
        let commands =
            processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
        commands.into_iter().any(|command| command.contains(&address))
    };
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while is_running() {
        assert!(std::time::Instant::now() < until, "git is still there");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    world.declare(TAG);
    assert_eq!(world.verify().expect("as it was fetched").len(), 1);
}
