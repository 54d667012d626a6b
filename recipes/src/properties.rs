//! What holds for every recipe, tried on generated ones of all kinds: plan, perform, and nothing is left.
//!
//! Each case has two recipes: the first makes the host that the second changes, so that drift, leftovers and
//! changes of what is there already come by themselves.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use tar::EntryType::{Regular, Symlink};

use crate::archive::samples;
use crate::change::{Change, ChangeKind};
use crate::generated::{Generated, recipe, text};
use crate::op::{Before, Content, Op, Upgrades, UserRequest, WriteFile};
use crate::plan::{Guards, Plan, plan};
use crate::resource::KINDS;
use crate::run::Files;
use crate::system::fake::Fake;
use crate::system::{Attributes, Facts, Machine};
use crate::testing::Example;

const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n";

fn example(resources: &[(Generated, bool)]) -> Example {
    let mut text = "inputs: { word: { type: string, default: hi } }\nresources:\n".to_owned();
    for (resource, notifies) in resources {
        text += &format!("  - {}\n", resource.yaml);
        text += if *notifies { "    notify: reload\n" } else { "" };
    }
    text += if resources.is_empty() { "    []\n" } else { "" };
    text += "handlers:\n  reload: { service: { name: handled, state: reloaded } }\n";
    Example::recipe(&text)
        .file("key.asc", KEY)
        .bytes("a.tar", &samples::tar(&[(Regular, "a/b", "x"), (Symlink, "a/c", "b")]))
        .template("open.tera", "{{ inputs.word }} {{ facts.arch }}\n")
        .template("secret.tera", "p={{ secrets.password }}\n")
        .secret("hunter2")
}

fn write(path: &str, text: &str) -> Op {
    Op::WriteFile(WriteFile {
        path: path.into(),
        content: Content::new(text),
        attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
        validate: None,
        before: Before::Absent,
    })
}

/// A host that has what the generated recipes take for granted, and lines that somebody wrote.
fn host(bakes: bool, lines: &[String]) -> Fake {
    let mut fake = if bakes { Fake::builder() } else { Fake::debian() };
    for directory in [
        "/srv/keep",
        "/srv/data",
        "/srv/old",
        "/srv/tree",
        "/etc/p0",
        "/etc/p1",
        "/etc/apt",
        "/etc/cron.d",
        "/etc/default",
        "/etc/default/grub.d",
        "/etc/logrotate.d",
        "/etc/security",
        "/etc/security/limits.d",
        "/etc/modprobe.d",
        "/etc/modules-load.d",
        "/etc/sudoers.d",
        "/etc/systemd/system",
        "/etc/sysusers.d",
        "/etc/tmpfiles.d",
        "/usr/share",
        "/usr/share/zoneinfo",
        "/usr/share/zoneinfo/Europe",
    ] {
        fake.directory(directory);
    }
    for path in [
        "/srv/old/a.log",
        "/srv/old/b.txt",
        "/srv/tree/a",
        "/srv/tree/b",
        "/usr/sbin/update-grub",
        "/usr/sbin/nft",
    ] {
        fake.file(path, "");
    }
    for zone in ["UTC", "Europe/Berlin"] {
        fake.file(&format!("/usr/share/zoneinfo/{zone}"), "TZif");
    }
    let have = UserRequest { name: "have".into(), create_home: true, ..UserRequest::default() };
    fake.apply(&Op::CreateUser(have));
    editors(&mut fake);
    pam(&mut fake);
    for (i, text) in lines.iter().enumerate() {
        fake.file(&format!("/etc/l{i}"), text);
    }
    for name in ["svc0", "svc1", "handled"] {
        let path = format!("/usr/lib/systemd/system/{name}.service");
        fake.file(&path, "[Install]\nWantedBy=multi-user.target\n");
    }
    fake.apply(&Op::Unit { name: "handled.service".into(), action: crate::op::UnitAction::Start });
    for i in 0..3 {
        let name = format!("q{i}");
        let packages =
            vec![crate::op::PackageRequest { name, version: None, recommends: false, source: None }];
        fake.apply(&Op::InstallPackages { packages });
        fake.package_brings(&format!("p{i}"), vec![write(&format!("/etc/p{i}/own.conf"), "as packaged\n")]);
        fake.command_makes(&["make", &i.to_string()], vec![write(&format!("/run/made{i}"), "")]);
    }
    fake.directory("/usr/bin");
    fake.file("/usr/bin/git", "");
    for (name, version) in [("one", 1), ("two", 2)] {
        fake.file(&format!("/srv/keep/{name}.deb"), &format!("Package: local\nVersion: {version}\n"));
        fake.serves(&format!("https://a.b/{name}"), name);
    }
    fake.command_makes(&["/bin/sh", "/dev/stdin"], vec![write("/run/made0", "")]);
    let page = format!("{}SWAPSPACE2", "\0".repeat(4086));
    let mut swap = write("/srv/swap", &(page + &"\0".repeat((1 << 20) - 4096)));
    if let Op::WriteFile(write) = &mut swap {
        write.attributes.mode = 0o600;
    }
    fake.command_makes(&["mkswap", "/srv/swap"], vec![swap]);
    fake.can_upgrade("q0", Upgrades::Security);
    fake.can_upgrade("q1", Upgrades::All);
    fake.apply(&Op::SetKernelParameter { key: "net.key0".into(), value: "1".into(), before: None });
    fake
}

/// A group of alternatives, as dpkg keeps it.
fn editors(fake: &mut Fake) {
    let group = "/usr/bin/editor\n\n/bin/ed\n-100\n/usr/bin/vim\n30\n\n";
    fake.file("/var/lib/dpkg/alternatives/editor", &format!("auto\n{group}"));
    fake.symlink("/usr/bin/editor", "/etc/alternatives/editor");
    fake.symlink("/etc/alternatives/editor", "/usr/bin/vim");
    for path in ["/bin/ed", "/usr/bin/vim"] {
        fake.file(path, "");
        let chosen =
            Op::CreateSymlink { path: "/etc/alternatives/editor".into(), target: path.into(), before: None };
        let manual = write("/var/lib/dpkg/alternatives/editor", &format!("manual\n{group}"));
        fake.command_makes(&["update-alternatives", "--set", "editor", path], vec![manual, chosen]);
    }
}

/// A service, what checks passwords, and a profile of pam-auth-update.
fn pam(fake: &mut Fake) {
    for directory in ["/etc/pam.d", "/usr/lib/security", "/usr/share/pam-configs", "/var/lib/pam"] {
        fake.directory(directory);
    }
    fake.file("/etc/pam.d/svc", "auth required pam_unix.so\n");
    for module in ["pam_unix.so", "pam_wheel.so"] {
        fake.file(&format!("/usr/lib/security/{module}"), "");
    }
    fake.file("/etc/security/faillock.conf", "# deny = 3\n");
    fake.file("/etc/login.defs", "UMASK\t022\n");
    let marks = "# here are the per-package modules (the \"Primary\" block)\n# here's the fallback if no module succeeds
# and here are more per-package modules (the \"Additional\" block)\n# end of pam-auth-update config\n";
    for stack in ["auth", "account", "password", "session", "session-noninteractive"] {
        fake.file(&format!("/etc/pam.d/common-{stack}"), marks);
    }
    fake.file("/usr/share/pam-configs/made", "Auth-Type: Additional\nAuth:\n\toptional pam_wheel.so\n");
    for (option, text) in [("--enable", "Module: made\noptional pam_wheel.so\n"), ("--disable", "")] {
        fake.command_makes(
            &["pam-auth-update", "--package", option, "made"],
            vec![write("/var/lib/pam/auth", text)],
        );
    }
}

/// What is left to do, as the proof of a bake finds it.
fn proof(example: &Example, fake: &Fake) -> Plan {
    plan(&example.resolve(fake.host()).expect("a valid recipe"), fake, Guards::Run).expect("a plan")
}

fn files() -> impl Strategy<Value = Files> {
    select(vec![Files::InTurn, Files::Together])
}

/// Changes as they compare: one for each package, since those of several resources are done at once.
fn each(ops: &[Op]) -> (Vec<Change>, BTreeSet<String>) {
    let mut others = Vec::new();
    let mut packages = BTreeSet::new();
    for op in ops {
        match op {
            Op::InstallPackages { packages: several } => packages.extend(several.iter().map(|package| {
                let alone = Op::InstallPackages { packages: vec![package.clone()] };
                Change::from(&alone).to_string()
            })),
            Op::RemovePackages { packages: several, purge } => packages.extend(several.iter().map(|name| {
                let alone = Op::RemovePackages { packages: vec![name.clone()], purge: *purge };
                Change::from(&alone).to_string()
            })),
            other => others.push(Change::from(other)),
        }
    }
    (others, packages)
}

fn config(cases: u32) -> ProptestConfig {
    // A failure prints the smallest recipe that has it; nothing is written beside the sources.
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(80))]

    #[test]
    fn plan_perform_and_a_second_plan_is_empty(
        before in recipe(), after in recipe(), lines in proptest::collection::vec(text(), 0..3),
        bakes: bool, files in files(),
    ) {
        let mut fake = host(bakes, &lines);
        for resources in [&before, &after] {
            let example = example(resources);
            let (result, _) = example.run(&mut fake, files);
            result.expect("it converges");
            let plan = proof(&example, &fake);
            prop_assert!(plan.is_empty(), "{plan}");
            prop_assert!(fake.pending_handlers().expect("read").is_empty());
            let performed = fake.performed.len();
            example.run(&mut fake, files).0.expect("it converges again");
            prop_assert_eq!(&fake.performed[performed..], &[][..]);
        }
    }

    #[test]
    fn what_is_performed_is_what_was_planned(
        before in recipe(), after in recipe(), lines in proptest::collection::vec(text(), 0..3), bakes: bool,
    ) {
        let mut fake = host(bakes, &lines);
        example(&before).converge(&mut fake).expect("it converges");
        fake.performed.clear();
        let example = example(&after);
        let planned: Vec<Change> =
            example.plan(&fake).expect("a plan").items.into_iter().flat_map(|item| item.changes).collect();
        example.converge(&mut fake).expect("it converges");
        let is_package = |change: &Change| {
            ["install ", "remove p", "purge "].iter().any(|verb| change.summary.starts_with(verb))
        };
        let (packages, others): (Vec<Change>, Vec<Change>) = planned.into_iter().partition(is_package);
        let (performed, performed_packages) = each(&fake.performed);
        prop_assert_eq!(packages.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), performed_packages);
        if others.iter().any(|change| change.kind == ChangeKind::Unknown) {
            return Ok(());
        }
        prop_assert_eq!(others, performed);
    }
}

proptest! {
    #![proptest_config(config(80))]

    /// In an order in which some of it cannot be had, the plan says so before anything is done.
    #[test]
    fn a_plan_fails_where_the_run_would_and_only_there(
        before in recipe(), after in recipe().prop_shuffle(), bakes: bool,
    ) {
        let mut fake = host(bakes, &[]);
        example(&before).converge(&mut fake).expect("it converges");
        let example = example(&after);
        let plan = example.plan(&fake);
        let run = example.converge(&mut fake);
        match plan {
            Err(planned) => {
                let failed = run.expect_err("the run fails as its plan did");
                prop_assert_eq!(planned.to_string(), failed.to_string());
            }
            Ok(plan) if plan.counts().1 == 0 => prop_assert!(run.is_ok(), "{}", run.expect_err("it fails")),
            Ok(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn a_failure_at_any_operation_is_finished_by_the_next_run(
        before in recipe(), after in recipe(), bakes: bool, files in files(),
    ) {
        let made = || {
            let mut fake = host(bakes, &[]);
            example(&before).converge(&mut fake).expect("it converges");
            fake.performed.clear();
            fake
        };
        let example = example(&after);
        let mut whole = made();
        example.run(&mut whole, files).0.expect("it converges");
        for operation in 0..whole.performed.len() {
            let mut fake = made();
            fake.fail_at(operation);
            let (result, _) = example.run(&mut fake, files);
            prop_assert!(result.is_err(), "operation {operation} fails");
            prop_assert!(fake.performed.len() <= operation, "nothing after it is tried");
            fake.heal();
            example.run(&mut fake, files).0.expect("the next run finishes");
            prop_assert!(proof(&example, &fake).is_empty());
            prop_assert!(fake.pending_handlers().expect("read").is_empty());
            let reloads = |fake: &Fake| fake.performed.iter().any(|op| matches!(op, Op::Unit { name, .. } if name == "handled.service"));
            prop_assert_eq!(reloads(&fake), reloads(&whole), "what was notified is reloaded");
            for path in ["/etc/f0", "/etc/f1", "/srv/keep/f", "/etc/p0/own.conf", "/etc/l0", "/etc/l1"] {
                prop_assert_eq!(fake.text(path), whole.text(path), "{}", path);
            }
        }
    }
}

/// A kind that is added is added to the generators, too.
#[test]
fn every_kind_is_generated() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut missing: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
    for _ in 0..500 {
        let tree = recipe().new_tree(&mut runner).expect("a recipe");
        for (resource, _) in tree.current() {
            missing.remove(resource.yaml.split(':').next().unwrap_or_default());
        }
    }
    assert!(missing.is_empty(), "never generated: {missing:?}");
}
