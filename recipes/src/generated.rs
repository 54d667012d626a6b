//! Generated recipes with resources of all kinds, most of which can be had together.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;

/// A resource: when it comes, what it decides, and how it is written.
#[derive(Debug, Clone)]
pub(crate) struct Generated {
    phase: usize,
    decides: String,
    pub(crate) yaml: String,
}

/// Foundations come first and what stands on them later, so that most recipes can be had.
fn generated(phase: usize, decides: impl Into<String>, yaml: String) -> Generated {
    Generated { phase, decides: decides.into(), yaml }
}

/// Text as it may be in a file, without what starts a template's expressions.
pub(crate) fn text() -> impl Strategy<Value = String> {
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
        "firewall",
        &[
            "allow: [ { port: 22 } ]",
            "allow: [ { port: [22, 80], from: 10.0.0.0/8 } ], metadata_users: root",
            "name: other, path: /etc/other.nft",
        ],
    ),
    (
        "download",
        &[
            "path: /srv/fetched, url: https://a.b/one, sha256: 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
            "path: /srv/fetched, url: https://a.b/two, sha256: 3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
            "path: /srv/fetched, state: absent",
        ],
    ),
    (
        "git",
        &[
            "path: /srv/site, url: https://a.b/c, commit: 2b4c1a7de0f6e5a9c3d8b7061524334251607f8e",
            "path: /srv/site, url: https://a.b/c, commit: 3c5d2b8ef1a7f6bad4e9c8172635445362718a9f, owner: have",
        ],
    ),
    (
        "package",
        &[
            "name: local, source: /srv/keep/one.deb",
            "name: local, source: /srv/keep/two.deb",
            "name: local, state: absent",
            "name: local, state: purged",
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
    (
        "journald",
        &[
            "name: j, settings: { Storage: persistent }",
            "name: j, settings: { Storage: volatile }",
            "name: j, state: absent",
        ],
    ),
    (
        "kernel_parameter",
        &[
            "name: audit, parameters: [audit=1]",
            "name: audit, parameters: [audit=0]",
            "name: audit, parameters: [audit=1], state: absent",
        ],
    ),
    (
        "limits",
        &[
            "name: l, entries: [ { domain: '*', type: hard, item: core, value: 0 } ]",
            "name: l, entries: [ { domain: '*', type: soft, item: nofile, value: 1024 } ]",
            "name: l, state: absent",
        ],
    ),
    (
        "logrotate",
        &[
            "name: app, paths: [/var/log/app/*.log], rotate: 3",
            "name: app, paths: [/var/log/app/*.log], rotate: 4",
            "name: app, state: absent",
        ],
    ),
    (
        "toml",
        &[
            "path: /etc/x.toml, key: a.b, value: 1, create: true",
            "path: /etc/x.toml, key: a.b, value: [x], create: true",
            "path: /etc/x.toml, key: a.b, state: absent",
        ],
    ),
    (
        "archive",
        &[
            "path: /srv/unpacked, source: a.tar",
            "path: /srv/unpacked, source: a.tar, strip_components: 1, owner: have",
        ],
    ),
    (
        "yaml",
        &[
            "path: /etc/x.yaml, key: a.b, value: 1, create: true",
            "path: /etc/x.yaml, key: a.b, value: [x], create: true",
            "path: /etc/x.yaml, key: a.b, state: absent",
        ],
    ),
    (
        "pam",
        &[
            "file: svc, rules: [ { type: auth, module: pam_wheel.so, control: required, before: pam_unix.so } ]",
            "file: svc, rules: [ { type: auth, module: pam_wheel.so, control: requisite, arguments: [use_uid] } ]",
            "file: svc, rules: [ { type: auth, module: pam_wheel.so, state: absent } ]",
        ],
    ),
    ("pam_profile", &["names: [made]", "names: [made], enabled: false"]),
    (
        "password_policy",
        &[
            "faillock: { deny: 3, even_deny_root: true }",
            "faillock: { deny: 5, even_deny_root: false }, login_defs: { UMASK: \"027\" }",
        ],
    ),
    (
        "permissions",
        &["path: /srv/tree, file_mode: \"0640\"", "path: /srv/tree, file_mode: \"0600\", owner: have"],
    ),
    ("absent", &["path: /srv/old/*.log"]),
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
        "script",
        &[
            "content: \"#!/bin/sh\\nmake 0\", creates: /run/made0",
            "content: x, interpreter: make, creates: /etc",
        ],
    ),
    (
        "swap",
        &[
            "path: /srv/swap, size: 1M",
            "path: /srv/swap, size: 1M, priority: 1",
            "path: /srv/swap, state: absent",
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
    ("reboot", &["if_exists: /run/reboot-required"]),
    ("wait_for", &["path: /etc", "path: /nowhere, state: absent"]),
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
pub(crate) fn recipe() -> impl Strategy<Value = Vec<(Generated, bool)>> {
    let resource = prop_oneof![accounts_and_packages(), paths(), running(), variants()];
    proptest::collection::vec((resource, proptest::bool::weighted(0.3)), 0..12).prop_map(|mut resources| {
        let mut decided = BTreeSet::new();
        resources.retain(|(resource, _)| decided.insert(resource.decides.clone()));
        resources.sort_by_key(|(resource, _)| resource.phase);
        resources
    })
}
