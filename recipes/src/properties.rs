//! What holds for every recipe, tried on generated ones of all kinds: plan, perform, and nothing is left.
//!
//! Each case has two recipes: the first makes the host that the second changes, so that drift, leftovers and
//! changes of what is there already come by themselves.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;

use crate::change::{Change, ChangeKind};
use crate::op::{Before, Content, Op, Upgrades, UserRequest, WriteFile};
use crate::plan::{Guards, Plan, plan};
use crate::resource::KINDS;
use crate::run::Files;
use crate::system::fake::Fake;
use crate::system::{Attributes, Facts, Machine};
use crate::testing::Example;

const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n";

/// A resource: when it comes, what it decides, and how it is written.
#[derive(Debug, Clone)]
struct Generated {
    phase: usize,
    decides: String,
    yaml: String,
}

/// Foundations come first and what stands on them later, so that most recipes can be had.
fn generated(phase: usize, decides: impl Into<String>, yaml: String) -> Generated {
    Generated { phase, decides: decides.into(), yaml }
}

/// Text as it may be in a file, without what starts a template's expressions.
fn text() -> impl Strategy<Value = String> {
    "[ -z|~\té☃\r\n]{0,24}"
}

/// A text in YAML: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

fn accounts_and_packages() -> impl Strategy<Value = Generated> {
    let state = select(vec!["present", "absent"]);
    prop_oneof![
        (0..2, any::<bool>(), state.clone()).prop_map(|(i, enabled, state)| {
            let more = format!("uris: [https://a.b], suites: [./], key: key.asc, enabled: {enabled}, ");
            let more = if state == "present" { more } else { String::new() };
            generated(
                0,
                format!("repository {i}"),
                format!("repository: {{ name: r{i}, {more}state: {state} }}"),
            )
        }),
        (
            0..3,
            select(vec!["", "version: '1', ", "version: '2', ", "version: '2*', "]),
            select(vec!["present", "absent", "purged"])
        )
            .prop_map(|(i, version, state)| {
                let version = if state == "present" { version } else { "" };
                generated(
                    0,
                    format!("package {i}"),
                    format!("package: {{ name: p{i}, {version}state: {state} }}"),
                )
            }),
        any::<bool>().prop_map(|security| {
            let yaml =
                format!("package_upgrade: {{ security: {security} }}\n    when: facts.mode == \"bake\"");
            generated(1, "upgrade", yaml)
        }),
        (0..3, any::<bool>()).prop_map(|(i, held)| {
            generated(1, format!("hold {i}"), format!("package_hold: {{ names: [q{i}], held: {held} }}"))
        }),
        (0..2, 1..3, state.clone()).prop_map(|(i, priority, state)| {
            let more = format!("packages: [a{i}], origin: a.b, priority: {priority}, ");
            let more = if state == "present" { more } else { String::new() };
            let yaml = format!("package_pin: {{ name: pin{i}, {more}state: {state} }}");
            generated(0, format!("pin {i}"), yaml)
        }),
        (0..2, select(vec!["", "gid: 700, ", "system: true, "]), state.clone()).prop_map(
            |(i, more, state)| {
                generated(0, format!("group {i}"), format!("group: {{ name: g{i}, {more}state: {state} }}"))
            }
        ),
        (0..2, select(vec!["", "uid: 800, ", "groups: [have], ", "shell: /bin/x, system: true, "]), state)
            .prop_map(|(i, more, state)| {
                generated(1, format!("user {i}"), format!("user: {{ name: u{i}, {more}state: {state} }}"))
            }),
    ]
}

fn paths() -> impl Strategy<Value = Generated> {
    let state = select(vec!["present", "absent"]);
    let mode = select(vec!["0644", "0600", "4755"]);
    let place = select(vec!["/etc/f0", "/etc/f1", "/srv/keep/f", "/etc/p0/own.conf", "/etc/p1/own.conf"]);
    prop_oneof![
        (place.clone(), text(), mode.clone()).prop_map(|(path, text, mode)| {
            let yaml = format!("file: {{ path: {path}, content: {}, mode: \"{mode}\" }}", quoted(&text));
            generated(2, path, yaml)
        }),
        place.clone().prop_map(|path| {
            generated(2, path, format!("file: {{ path: {path}, content: \"{{{{ secrets.password }}}}\" }}"))
        }),
        place.clone().prop_map(|path| generated(2, path, format!("file: {{ path: {path}, state: absent }}"))),
        (place, select(vec!["open.tera", "secret.tera"])).prop_map(|(path, source)| generated(
            2,
            path,
            format!("template: {{ path: {path}, source: {source} }}")
        )),
        (0..2, mode, state.clone()).prop_map(|(i, mode, state)| {
            let yaml = format!("directory: {{ path: /srv/d{i}/deep, mode: \"{mode}\", state: {state} }}");
            generated(1, format!("directory {i}"), yaml)
        }),
        (0..2, select(vec!["target: a", "target: /b", "state: absent"])).prop_map(|(i, what)| {
            generated(2, format!("link {i}"), format!("symlink: {{ path: /etc/s{i}, {what} }}"))
        }),
        (0..3, "[a-z]{0,3}", any::<bool>(), state).prop_map(|(i, value, matched, state)| {
            let matched = if matched { "match: '^k\\s*=', " } else { "" };
            let yaml = format!(
                "line: {{ path: /etc/l{i}, {matched}line: 'k = {value}', create: true, state: {state} }}"
            );
            generated(2, format!("line {i}"), yaml)
        }),
    ]
}

fn running() -> impl Strategy<Value = Generated> {
    let unit = select(vec![
        "masked: true, state: stopped",
        "masked: false, enabled: true, state: running",
        "masked: false, enabled: false, state: stopped",
        "masked: false, enabled: true",
    ]);
    prop_oneof![
        (0..2, unit).prop_map(|(i, what)| {
            generated(2, format!("service {i}"), format!("service: {{ name: svc{i}, {what} }}"))
        }),
        (0..2, 0..3).prop_map(|(i, value)| {
            let yaml = format!("sysctl: {{ name: s{i}, settings: {{ net.key{i}: {value} }} }}");
            generated(2, format!("sysctl {i}"), yaml)
        }),
        (0..2).prop_map(|i| {
            generated(
                2,
                format!("command {i}"),
                format!("command: {{ argv: [make, '{i}'], creates: /run/made{i} }}"),
            )
        }),
    ]
}

/// Of each of these kinds some variants that change each other.
const VARIANTS: &[(&str, &[&str])] = &[
    ("alternatives", &["name: editor, path: /bin/ed", "name: editor, path: /usr/bin/vim"]),
    ("assert", &["that: facts.os.family == \"debian\", message: not here"]),
    (
        "authorized_key",
        &[
            "user: have, key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV ci",
            "user: have, key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV ci, options: [restrict]",
            "user: have, key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV ci, state: absent",
        ],
    ),
    (
        "block",
        &[
            "path: /etc/l0, name: b, content: \"x\\ny\", create: true",
            "path: /etc/l0, name: b, content: z, insert_before: ^k, create: true",
            "path: /etc/l0, name: b, state: absent",
        ],
    ),
    (
        "cron",
        &[
            "name: job, schedule: '@daily', command: date +%F",
            "name: job, schedule: '*/5 * * * *', command: 'true', user: have",
            "name: job, state: absent",
        ],
    ),
    (
        "hosts_entry",
        &[
            "address: 10.0.0.5, names: [db, db.internal]",
            "address: 10.0.0.5, names: [db]",
            "address: 10.0.0.5, state: absent",
        ],
    ),
    (
        "ini",
        &[
            "path: /etc/x.ini, section: s, key: a, value: 1, create: true",
            "path: /etc/x.ini, section: s, key: a, value: 2, create: true",
            "path: /etc/x.ini, section: s, key: a, state: absent",
        ],
    ),
    (
        "json",
        &[
            "path: /etc/x.json, key: a.b, value: 1, create: true",
            "path: /etc/x.json, key: a.b, value: [x], create: true",
            "path: /etc/x.json, key: a.b, state: absent",
        ],
    ),
    ("kernel_module", &["name: floppy, state: blocked", "name: floppy, state: absent"]),
    ("locale", &["lang: C.UTF-8", "lang: C.UTF-8, variables: { LC_TIME: C.UTF-8 }"]),
    (
        "mount",
        &[
            "path: /srv/data, device: LABEL=data, fstype: ext4",
            "path: /srv/data, device: LABEL=data, fstype: ext4, options: [noatime]",
            "path: /srv/data, state: absent",
        ],
    ),
    (
        "sudo",
        &[
            "name: ops, groups: [have], commands: [ALL]",
            "name: ops, groups: [have], commands: [ALL], nopasswd: true",
            "name: ops, state: absent",
        ],
    ),
    (
        "systemd_unit",
        &[
            "name: app.service, sections: { Service: { ExecStart: /usr/bin/app } }",
            "name: app.service, sections: { Service: { ExecStart: [\"\", /usr/bin/app] } }",
            "name: app.service, state: absent",
        ],
    ),
    (
        "sysusers",
        &[
            "name: app, groups: [ { name: app } ]",
            "name: app, groups: [ { name: app, id: 991 } ]",
            "name: app, state: absent",
        ],
    ),
    ("timezone", &["name: UTC", "name: Europe/Berlin"]),
    (
        "tmpfiles",
        &[
            "name: app, entries: [ { type: d, path: /run/app } ]",
            "name: app, entries: [ { type: d, path: /run/app, mode: \"0750\" } ]",
            "name: app, state: absent",
        ],
    ),
];

fn variants() -> impl Strategy<Value = Generated> {
    let all: Vec<(&str, &str)> = VARIANTS
        .iter()
        .flat_map(|(kind, variants)| variants.iter().map(|variant| (*kind, *variant)))
        .collect();
    let settings =
        select(all).prop_map(|(kind, variant)| generated(3, kind, format!("{kind}: {{ {variant} }}")));
    let hostname = select(vec!["one", "two"]).prop_map(|name| {
        let yaml = format!("hostname: {{ name: {name} }}\n    when: facts.mode == \"live\"");
        generated(3, "hostname", yaml)
    });
    prop_oneof![6 => settings, 1 => hostname]
}

/// Resources that can be had together, each with whether it notifies a handler.
fn recipe() -> impl Strategy<Value = Vec<(Generated, bool)>> {
    let resource = prop_oneof![accounts_and_packages(), paths(), running(), variants()];
    proptest::collection::vec((resource, proptest::bool::weighted(0.3)), 0..12).prop_map(|mut resources| {
        let mut decided = BTreeSet::new();
        resources.retain(|(resource, _)| decided.insert(resource.decides.clone()));
        resources.sort_by_key(|(resource, _)| resource.phase);
        resources
    })
}

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
        "/etc/p0",
        "/etc/p1",
        "/etc/apt",
        "/etc/cron.d",
        "/etc/default",
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
    for zone in ["UTC", "Europe/Berlin"] {
        fake.file(&format!("/usr/share/zoneinfo/{zone}"), "TZif");
    }
    let have = UserRequest { name: "have".into(), create_home: true, ..UserRequest::default() };
    fake.apply(&Op::CreateUser(have));
    editors(&mut fake);
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
        let packages = vec![crate::op::PackageRequest { name, version: None, recommends: false }];
        fake.apply(&Op::InstallPackages { packages });
        fake.package_brings(&format!("p{i}"), vec![write(&format!("/etc/p{i}/own.conf"), "as packaged\n")]);
        fake.command_makes(&["make", &i.to_string()], vec![write(&format!("/run/made{i}"), "")]);
    }
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
