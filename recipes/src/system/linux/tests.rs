//! The real machine on folders that look like small hosts. None of these needs root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::{getgid, getuid};
use tar::EntryType::{self, Directory, Link, Regular, Symlink};
use tempfile::TempDir;

use super::*;
use crate::archive::samples;
use crate::op::{Archive, Before, Content, Download, Unpack, Unpacking, UserRequest, WriteFile};
use crate::system::{Attributes, EntryKind};
use crate::url::HttpsUrl;

/// A folder that looks like a small host, and the machine on it.
struct Small {
    folder: TempDir,
}

impl Small {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        for directory in ["etc", "run", "var/lib", "usr/lib"] {
            fs::create_dir_all(folder.path().join(directory)).expect("a folder");
        }
        fs::write(folder.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n").expect("written");
        fs::write(folder.path().join("etc/group"), "root:x:0:\n").expect("written");
        fs::write(folder.path().join("usr/lib/os-release"), "ID=debian\nVERSION_ID=\"12\"\n")
            .expect("written");
        Self { folder }
    }

    fn machine(&self) -> Linux {
        Linux::open(self.folder.path(), Mode::Live).expect("a host")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// Everything in a directory, to find what was left behind.
    fn names(&self, path: &str) -> Vec<String> {
        self.machine().tree.names(Path::new(path)).expect("readable")
    }
}

/// Ours, so that the tests need not be root.
fn mine(mode: u32) -> Attributes {
    Attributes { owner: getuid().to_string(), group: getgid().to_string(), mode }
}

fn write(path: &str, text: &str, mode: u32) -> Op {
    Op::WriteFile(WriteFile {
        path: path.into(),
        content: Content::new(text),
        attributes: mine(mode),
        validate: None,
        before: Before::Absent,
    })
}

fn link(path: &str, target: &str) -> Op {
    Op::CreateSymlink { path: path.into(), target: target.into(), before: None }
}

fn perform(machine: &mut Linux, op: &Op) -> Result<(), String> {
    machine.perform(op, &mut |_| {}).map_err(|error| chain(&error))
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[test]
fn this_host_tells_what_differs_between_hosts_unless_it_becomes_an_image() {
    let live = Linux::open(Path::new("/"), Mode::Live).expect("readable").host().live.clone().expect("live");
    assert!(live.cpus > 0 && live.memory > 0, "{live:?}");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("readable");
    assert_eq!(live.kernel, kernel.trim());
    assert_eq!(Linux::open(Path::new("/"), Mode::Bake).expect("readable").host().live, None);
    let tree = tempfile::tempdir().expect("a folder");
    assert_eq!(Linux::open(tree.path(), Mode::Live).expect("readable").host().live, None);
}

#[test]
fn a_file_is_written_with_its_mode_and_nothing_is_left_beside_it() {
    let host = Small::new();
    let mut machine = host.machine();
    perform(&mut machine, &write("/etc/a", "one", 0o640)).expect("written");
    perform(&mut machine, &write("/etc/a", "two", 0o2755)).expect("written again");
    assert_eq!(host.text("/etc/a").as_deref(), Some("two"));
    assert_eq!(fs::metadata(host.path("/etc/a")).expect("there").permissions().mode() & 0o7777, 0o2755);
    assert_eq!(host.names("/etc"), ["a", "group", "passwd"]);
    let entry = machine.entry(Path::new("/etc/a")).expect("read");
    let Known::Yes(Some(entry)) = entry else { panic!("there is a file") };
    assert_eq!((entry.kind, entry.attributes.mode), (EntryKind::File, 0o2755));
}

#[test]
fn what_an_interrupted_run_left_is_replaced() {
    let host = Small::new();
    fs::write(host.path("/etc/.a.staged"), "half").expect("written");
    symlink("/etc/passwd", host.path("/etc/.b.staged")).expect("linked");
    let mut machine = host.machine();
    perform(&mut machine, &write("/etc/a", "whole", 0o644)).expect("written");
    perform(&mut machine, &write("/etc/b", "whole", 0o644)).expect("written");
    assert_eq!(host.names("/etc"), ["a", "b", "group", "passwd"]);
    assert_eq!(host.text("/etc/a").as_deref(), Some("whole"));
}

#[test]
fn links_cannot_lead_out_of_the_root() {
    let outside = TempDir::new().expect("a folder");
    fs::write(outside.path().join("secret"), "outside").expect("written");
    let host = Small::new();
    symlink(outside.path(), host.path("/etc/out")).expect("linked");
    symlink("../../../../../../../../..", host.path("/etc/up")).expect("linked");
    let mut machine = host.machine();
    assert_eq!(machine.content(Path::new("/etc/out/secret")).expect("read"), Known::Yes(None));
    assert!(perform(&mut machine, &write("/etc/out/new", "x", 0o644)).is_err());
    perform(&mut machine, &write("/etc/up/new", "x", 0o644)).expect("inside the root");
    assert_eq!(host.text("/new").as_deref(), Some("x"), "`..` stops at the root");
    assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 1);
}

#[test]
fn removing_a_directory_does_not_follow_links() {
    let host = Small::new();
    fs::create_dir_all(host.path("/srv/app/deep/er")).expect("made");
    fs::write(host.path("/srv/app/deep/file"), "x").expect("written");
    symlink("/etc", host.path("/srv/app/etc")).expect("linked");
    let mut machine = host.machine();
    perform(&mut machine, &Op::Remove { path: "/srv/app".into(), directory: true }).expect("removed");
    assert_eq!(host.names("/srv"), Vec::<String>::new());
    assert!(host.text("/etc/passwd").is_some());
}

#[test]
fn package_lists_are_fresh_until_something_of_the_package_manager_changes() {
    let host = Small::new();
    fs::create_dir_all(host.path("/etc/apt/sources.list.d")).expect("made");
    fs::create_dir_all(host.path("/etc/yum.repos.d")).expect("made");
    let mut machine = host.machine();
    let mut is_fresh_after = |op: &Op| {
        machine.lists_are_fresh.set(true);
        perform(&mut machine, op).expect("performed");
        machine.lists_are_fresh.get()
    };
    assert!(is_fresh_after(&write("/etc/motd", "x", 0o644)));
    assert!(!is_fresh_after(&write("/etc/apt/sources.list.d/a.sources", "x", 0o644)));
    assert!(!is_fresh_after(&write("/etc/yum.repos.d/a.repo", "x", 0o644)));
    let remove = Op::Remove { path: "/etc/apt/sources.list.d/a.sources".into(), directory: false };
    assert!(!is_fresh_after(&remove));
}

/// The manifest of an image tells of a tree in which nothing can be run.
#[test]
fn what_rpm_has_is_read_from_a_tree_too() {
    let host = Small::new();
    fs::create_dir_all(host.path("/usr/lib/sysimage/rpm")).expect("made");
    symlink("../../usr/lib/sysimage/rpm", host.path("/var/lib/rpm")).expect("linked");
    fs::write(host.path("/usr/lib/os-release"), "ID=amzn\nID_LIKE=fedora\n").expect("written");
    assert_eq!(host.machine().installed_packages().expect("read"), BTreeMap::new());
    let database = host.path("/usr/lib/sysimage/rpm/rpmdb.sqlite");
    fs::write(&database, package::hostile::RPM_DATABASE).expect("written");
    let packages = host.machine().installed_packages().expect("read");
    let packages: Vec<String> = packages.iter().map(|(name, version)| format!("{name} {version}")).collect();
    assert_eq!(packages, ["app 1.0-1", "lib 3:1.0-1", "probe 2.0-1"]);
    let problem = |host: &Small| {
        let error = host.machine().installed_packages().expect_err("it cannot be told");
        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
    };
    fs::write(host.path("/usr/lib/sysimage/rpm/rpmdb.sqlite-wal"), "x").expect("written");
    insta::assert_snapshot!(problem(&host), @"`/usr/lib/sysimage/rpm` has changes that rpm has not written into its database");
    fs::remove_file(&database).expect("removed");
    fs::write(host.path("/usr/lib/sysimage/rpm/Packages"), "").expect("written");
    insta::assert_snapshot!(problem(&host), @"`/usr/lib/sysimage/rpm` is not SQLite's, and only rpm itself reads other kinds");
}

#[test]
fn errors_name_the_path_and_the_reason() {
    let host = Small::new();
    let mut machine = host.machine();
    insta::assert_snapshot!(perform(&mut machine, &write("/etc/no/a", "x", 0o644)).expect_err("no folder"), @"failed to write `/etc/no/a`: No such file or directory (os error 2)");
    insta::assert_snapshot!(perform(&mut machine, &write("/etc/passwd/a", "x", 0o644)).expect_err("a file"), @"failed to write `/etc/passwd/a`: Not a directory (os error 20)");
    let Op::WriteFile(mut file) = write("/etc/a", "x", 0o644) else { unreachable!("a file") };
    file.attributes.owner = "nobody-here".into();
    insta::assert_snapshot!(perform(&mut machine, &Op::WriteFile(file)).expect_err("no owner"), @"the user `nobody-here` does not exist");
    let run = Op::Run(Command::new(["true"]));
    assert!(perform(&mut machine, &run).expect_err("not a host").starts_with("cannot run a command in "));
    assert_eq!(host.names("/etc"), ["group", "passwd"]);
}

#[test]
fn what_cannot_be_put_in_place_is_not_left_beside_it() {
    let host = Small::new();
    fs::create_dir(host.path("/etc/a")).expect("made");
    let mut machine = host.machine();
    insta::assert_snapshot!(perform(&mut machine, &write("/etc/a", "x", 0o644)).expect_err("a directory"), @"failed to write `/etc/a`: Is a directory (os error 21)");
    insta::assert_snapshot!(perform(&mut machine, &link("/etc/a", "b")).expect_err("a directory"), @"failed to link `/etc/a`: Is a directory (os error 21)");
    assert_eq!(host.names("/etc"), ["a", "group", "passwd"]);
}

#[test]
fn a_pipe_in_place_of_a_file_does_not_hang_the_run() {
    let host = Small::new();
    nix::unistd::mkfifo(&host.path("/etc/pipe"), nix::sys::stat::Mode::S_IRUSR).expect("made");
    let machine = host.machine();
    assert_eq!(machine.content(Path::new("/etc/pipe")).expect("read"), Known::Yes(None));
    let Known::Yes(Some(entry)) = machine.entry(Path::new("/etc/pipe")).expect("read") else {
        panic!("a pipe")
    };
    assert_eq!(entry.kind, EntryKind::Other);
}

#[test]
fn a_commit_puts_everything_in_place() {
    let host = Small::new();
    let mut machine = host.machine();
    let directory = Op::CreateDirectory { path: "/etc/app".into(), attributes: mine(0o711) };
    let ops =
        [write("/etc/a", "a", 0o600), directory, write("/etc/app/b", "b", 0o640), link("/etc/l", "app/b")];
    machine.commit(&ops, &mut |_| {}).expect("committed");
    assert_eq!((host.text("/etc/a").as_deref(), host.text("/etc/l").as_deref()), (Some("a"), Some("b")));
    assert_eq!(host.names("/etc"), ["a", "app", "group", "l", "passwd"]);
    assert_eq!(host.names("/var/lib/bootstrap-agent"), Vec::<String>::new(), "the journal is gone");
}

#[test]
fn a_commit_in_which_one_file_fails_puts_nothing_in_place() {
    let host = Small::new();
    fs::write(host.path("/etc/a"), "old").expect("written");
    let mut machine = host.machine();
    let ops = [write("/etc/a", "new", 0o644), link("/etc/l", "a"), write("/etc/no/b", "b", 0o644)];
    machine.commit(&ops, &mut |_| {}).expect_err("no such folder");
    assert_eq!(host.text("/etc/a").as_deref(), Some("old"));
    assert_eq!(host.names("/etc"), ["a", "group", "passwd"]);
}

#[test]
fn a_path_that_is_written_twice_gets_what_was_written_last() {
    let host = Small::new();
    let mut machine = host.machine();
    machine
        .commit(&[write("/etc/a", "1", 0o644), write("/etc/a", "2", 0o644)], &mut |_| {})
        .expect("committed");
    assert_eq!(host.text("/etc/a").as_deref(), Some("2"));
}

/// The journal as a run that was cut off right after writing it leaves it, and the staged files that it
/// had not moved yet.
#[test]
fn a_commit_that_was_cut_off_is_rolled_forward_by_the_next_run() {
    let journal = r#"{"version":1,"moves":[{"from":"/etc/.a.staged","to":"/etc/a"},{"from":"/etc/.b.staged","to":"/etc/b"},{"from":"/run/.c.staged","to":"/run/c"}]}"#;
    for moved_already in [0, 1] {
        let host = Small::new();
        fs::create_dir_all(host.path("/var/lib/bootstrap-agent")).expect("made");
        fs::write(host.path("/var/lib/bootstrap-agent/commit.json"), journal).expect("written");
        fs::write(host.path(["/etc/.a.staged", "/etc/a"][moved_already]), "new a").expect("written");
        fs::write(host.path("/etc/.b.staged"), "new b").expect("written");
        host.machine().begin().expect("rolled forward");
        assert_eq!(
            (host.text("/etc/a").as_deref(), host.text("/etc/b").as_deref()),
            (Some("new a"), Some("new b"))
        );
        assert_eq!(host.names("/etc"), ["a", "b", "group", "passwd"]);
        assert_eq!(host.names("/var/lib/bootstrap-agent"), Vec::<String>::new());
    }
}

#[test]
fn a_journal_of_another_version_is_not_guessed_at() {
    let host = Small::new();
    fs::create_dir_all(host.path("/var/lib/bootstrap-agent")).expect("made");
    fs::write(host.path("/var/lib/bootstrap-agent/commit.json"), r#"{"version":2,"moves":[]}"#)
        .expect("written");
    let error = host.machine().begin().expect_err("unknown");
    insta::assert_snapshot!(chain(&error), @"`/var/lib/bootstrap-agent/commit.json` was left by a version of this program that wrote it differently; finish its moves by hand and remove it");
}

#[test]
fn two_runs_do_not_change_a_host_at_once() {
    let host = Small::new();
    let mut first = host.machine();
    first.begin().expect("alone");
    let error = host.machine().begin().expect_err("not alone");
    assert_eq!(
        error.to_string(),
        format!("another run is changing this host (process {}); wait for it to end", std::process::id())
    );
    drop(first);
    host.machine().begin().expect("alone again");
}

#[test]
fn pending_handlers_are_remembered_until_they_ran() {
    let host = Small::new();
    host.machine().remember_handlers(&["a/reload".into()]).expect("remembered");
    assert_eq!(host.machine().pending_handlers().expect("read"), ["a/reload"]);
    let file = fs::metadata(host.path("/var/lib/bootstrap-agent/handlers.json")).expect("there");
    assert_eq!((file.mode() & 0o777, file.uid()), (0o600, getuid().as_raw()));
    host.machine().remember_handlers(&[]).expect("forgotten");
    host.machine().remember_handlers(&[]).expect("forgotten twice");
    assert_eq!(host.machine().pending_handlers().expect("read"), Vec::<String>::new());
}

#[test]
fn accounts_of_a_tree_are_made_in_the_tree() {
    if !getuid().is_root() {
        eprintln!("skipped: useradd --prefix needs root");
        return;
    }
    let host = Small::new();
    for (path, text) in
        [("/etc/shadow", "root:*:1:0:99999:7:::\n"), ("/etc/gshadow", "root:*::\n"), ("/etc/login.defs", "")]
    {
        fs::write(host.path(path), text).expect("written");
    }
    let mut machine = host.machine();
    let user = UserRequest { name: "app".into(), uid: Some(4242), system: true, ..UserRequest::default() };
    perform(&mut machine, &Op::CreateUser(user)).expect("made");
    let Known::Yes(Some(user)) = machine.user("app").expect("read") else { panic!("there is an account") };
    assert_eq!((user.uid, user.group.as_str()), (Some(4242), "app"));
    perform(&mut machine, &Op::RemoveUser { name: "app".into() }).expect("removed");
    assert_eq!(machine.user("app").expect("read"), Known::Yes(None));
}

mod looking;

mod process;

#[test]
fn the_answer_of_a_guard_is_that_of_its_folder() {
    let folder = TempDir::new().expect("a folder");
    fs::create_dir_all(folder.path().join("with/.venv")).expect("made");
    fs::create_dir_all(folder.path().join("without")).expect("made");
    // As a builder, so that it is answered wherever this test runs.
    let machine = Linux::open(Path::new("/"), Mode::Bake).expect("this host");
    let answers = ["with", "without", "with"].map(|name| {
        let guard =
            Command { directory: Some(folder.path().join(name)), ..Command::new(["test", "-e", ".venv"]) };
        machine.succeeds(&guard).expect("it runs")
    });
    assert_eq!(answers, [Known::Yes(true), Known::Yes(false), Known::Yes(true)]);
}

/// Where a host refuses the namespace, such as to somebody who is not root, a plan does not run guards.
#[test]
fn a_guard_cannot_write_and_one_that_tries_does_not_succeed() {
    let folder = TempDir::new().expect("a folder");
    let machine = Linux::open(Path::new("/"), Mode::Live).expect("this host");
    let answer = |script: String| machine.succeeds(&Command::new(["sh", "-c", &script])).expect("it runs");
    let path = folder.path().join("written");
    let writes = answer(format!("echo x > {}", path.display()));
    assert!(!path.exists());
    let reads = answer(format!("test -d {} && echo gone > /dev/null", folder.path().display()));
    let is_held = machine.runner.succeeds_held(&Command::new(["true"])).expect("it runs").is_some();
    if is_held {
        assert_eq!([writes, reads], [Known::Yes(false), Known::Yes(true)]);
    } else {
        assert!(matches!([writes, reads], [Known::Unknown(_), Known::Unknown(_)]));
    }
    fs::write(&path, "x").expect("this process can write as before");
}

#[test]
fn the_mode_of_what_a_link_leads_to_is_not_changed() {
    let small = Small::new();
    fs::write(small.path("etc/target"), "x").expect("written");
    fs::set_permissions(small.path("etc/target"), fs::Permissions::from_mode(0o600)).expect("set");
    symlink("target", small.path("etc/link")).expect("linked");
    let machine = small.machine();
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    machine.tree.set_attributes(Path::new("/etc/link"), uid, gid, 0o666).expect("nothing to do");
    assert_eq!(fs::metadata(small.path("etc/target")).expect("there").mode() & 0o7777, 0o600);
    machine.tree.set_attributes(Path::new("/etc/target"), uid, gid, 0o4750).expect("set");
    assert_eq!(fs::metadata(small.path("etc/target")).expect("there").mode() & 0o7777, 0o4750);
}

#[test]
fn a_policy_that_a_run_left_is_removed_and_one_of_somebody_else_stays() {
    let small = Small::new();
    fs::create_dir_all(small.path("usr/sbin")).expect("made");
    let policy = small.path("usr/sbin/policy-rc.d");
    for (text, stays) in [
        ("#!/bin/sh\n# Made by recipes while packages are installed.\nexit 101\n", false),
        ("#!/bin/sh\nexit 101\n", true),
    ] {
        fs::write(&policy, text).expect("written");
        small.machine().begin().expect("begun");
        assert_eq!(policy.exists(), stays, "{text}");
    }
}

/// Files of which some are there already, unpacked as the plan found.
fn unpack(entries: &[(EntryType, &str, &str)], changes: &[(&str, Unpacking)]) -> Op {
    let content = Content::new(samples::tar(entries));
    Op::Unpack(Unpack {
        archive: Archive::Content { name: "a.tar".into(), content },
        path: "/srv/app".into(),
        strip_components: 0,
        owner: mine(0).owner,
        group: mine(0).group,
        changes: changes.iter().map(|(path, what)| ((*path).into(), *what)).collect(),
        unchanged: 0,
    })
}

#[test]
fn an_archive_is_unpacked_and_only_what_differs_is_touched() {
    let small = Small::new();
    fs::create_dir_all(small.path("srv/app")).expect("a folder");
    fs::write(small.path("srv/app/same"), "mine").expect("written");
    fs::write(small.path("srv/app/mode"), "mine").expect("written");
    let entries = [
        (Regular, "bin/app", "#!"),
        (Directory, "bin", ""),
        (Regular, "same", "x"),
        (Regular, "mode", "x"),
        (Symlink, "link", "bin/app"),
        (Link, "bin/copy", "bin/app"),
    ];
    let changes = [
        ("bin", Unpacking::Create),
        ("bin/app", Unpacking::Create),
        ("bin/copy", Unpacking::Create),
        ("link", Unpacking::Create),
        ("mode", Unpacking::SetAttributes),
    ];
    let op = unpack(&entries, &changes);
    small.machine().perform(&op, &mut |_| {}).expect("unpacked");
    assert_eq!(small.text("/srv/app/bin/app").as_deref(), Some("#!"));
    assert_eq!(small.text("/srv/app/bin/copy").as_deref(), Some("#!"));
    assert_eq!(fs::read_link(small.path("srv/app/link")).expect("a link"), Path::new("bin/app"));
    assert_eq!(small.text("/srv/app/same").as_deref(), Some("mine"), "it was not to be changed");
    assert_eq!(small.text("/srv/app/mode").as_deref(), Some("mine"));
    assert_eq!(fs::metadata(small.path("srv/app/mode")).expect("there").permissions().mode() & 0o7777, 0o644);
    assert_eq!(small.names("/srv/app"), ["bin", "link", "mode", "same"], "nothing staged is left");
    assert_eq!(small.names("/srv/app/bin"), ["app", "copy"]);
}

#[test]
fn what_is_unpacked_follows_no_link_in_its_folder() {
    let small = Small::new();
    fs::create_dir_all(small.path("srv/app")).expect("a folder");
    for (link, target) in [("out", "../../etc"), ("in", "/etc")] {
        symlink(target, small.path("srv/app").join(link)).expect("a link");
        let entries = [(Regular, format!("{link}/passwd"))];
        let entries = entries.each_ref().map(|(kind, name)| (*kind, name.as_str(), "x"));
        let op = unpack(&entries, &[(entries[0].1, Unpacking::Replace)]);
        small.machine().perform(&op, &mut |_| {}).expect_err("refused");
        assert!(small.text("/etc/passwd").expect("there").starts_with("root:"));
    }
}

#[test]
fn nothing_is_fetched_by_a_program_that_reaches_no_other_host() {
    let host = Small::new();
    let download = Op::Download(Download {
        url: HttpsUrl::parse("https://a.b/c").expect("an address"),
        sha256: "0".repeat(64),
        path: "/etc/c".into(),
        attributes: mine(0o644),
        validate: None,
        ca_file: None,
        max_bytes: 1,
        replaces: false,
    });
    let error = perform(&mut host.machine(), &download).expect_err("it cannot");
    assert_eq!(error, "this program has nothing that reaches other hosts");
    assert_eq!(host.text("/etc/c"), None);
}
