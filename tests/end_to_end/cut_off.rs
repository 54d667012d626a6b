//! Runs that are killed at each of their system calls: every file is the old one or the new one, and one more
//! run finishes what was begun.

use std::collections::BTreeMap;
use std::error::Error;

use testbed::apt;
use testbed::host::Host;
use testbed::world::World;

use crate::hostile_hosts::{AGENT, host, shell, staged};
use crate::{NOTHING, Outcome};

/// Every call by which a run changes a host, tells of it, or starts a program.
const CALLS: [&str; 12] = [
    "write",
    "fchown",
    "fchmod",
    "renameat",
    "symlinkat",
    "unlinkat",
    "mkdirat",
    "fchownat",
    "chmod",
    "fsync",
    "syncfs",
    // The C library of the agent starts programs and threads with it.
    "clone",
];

/// What killed runs are looked at by. A directory is its mode, a link its target, a file its mode and content.
const LOOK: &str = "
for path in /srv/app /srv/app/file /srv/app/checked /srv/app/link /srv/app/lines /srv/app/block /srv/app/ini /srv/app/json \
  /srv/app/toml /srv/app/old /srv/app/new /srv/tree/a /srv/tree/b /etc/hosts /etc/systemd/system/other.service \
  /etc/systemd/system/multi-user.target.wants/probe.service; do
  echo \"$path $(stat -c '%F %U %G %a' $path 2>/dev/null) $(readlink $path) $(test -f $path && sha256sum < $path)\"
done
echo \"user $(getent passwd worker | wc -l)\"; echo \"group $(getent group workers | wc -l)\"
";

/// A directory is made as root's alone, and then gets its owner and mode.
const NEW_DIRECTORY: &str = "directory root root 700";

/// The recipe in one of two states, between which every resource has something to do.
fn recipe(word: &str, other: &str, mode: &str, state: &str, enabled: bool) -> String {
    let long = word.repeat(2000);
    format!(
        "resources:
  - directory: {{ path: /srv/app, mode: \"{mode}\" }}
    notify: told
  - file: {{ path: /srv/app/file, content: \"{long}\", mode: \"0640\", group: adm }}
    notify: told
  - file: {{ path: /srv/app/checked, content: {word}, validate: \"grep -q {word} {{file}}\" }}
  - symlink: {{ path: /srv/app/link, target: {word} }}
  - line: {{ path: /srv/app/lines, match: '^word ', line: word {word}, create: true }}
  - block: {{ path: /srv/app/block, name: words, content: {word}, create: true }}
  - ini: {{ path: /srv/app/ini, section: a, key: word, value: {word}, create: true }}
  - json: {{ path: /srv/app/json, key: a.word, value: {word}, create: true }}
  - toml: {{ path: /srv/app/toml, key: a.word, value: {word}, create: true }}
  - permissions: {{ path: /srv/tree, match: '**', file_mode: \"{mode}\" }}
  - directory: {{ path: /srv/app/{word} }}
  - absent: {{ path: /srv/app/{other}, recursive: true }}
  - group: {{ name: workers, state: {state} }}
  - user: {{ name: worker, system: true, state: {state} }}
  - hosts_entry: {{ address: 10.0.0.5, names: [{word}] }}
  - systemd_unit: {{ name: other.service, content: \"[Service]\\nExecStart=/bin/{word}\\n\" }}
  - service: {{ name: probe, enabled: {enabled} }}
handlers:
  told: {{ command: {{ argv: [cp, /srv/app/file, /srv/told] }} }}
"
    )
}

fn look(host: &Host) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let seen = shell(host, LOOK)?;
    let lines = seen.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.map(|(path, state)| (path.to_owned(), state.trim().to_owned())).collect())
}

/// Applies a bundle, and returns what is there then.
fn applied(host: &Host, bundle: &str, case: &str) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let applied = host.apply(&[], bundle)?;
    assert_eq!(applied.code, Some(0), "{case}: {}", applied.stderr);
    look(host)
}

#[test]
fn a_run_that_is_killed_at_any_call_leaves_old_or_new_files_and_the_next_finishes() -> Outcome {
    let world = World::new()?;
    let host = host(&world)?;
    let unit = "[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n";
    shell(
        &host,
        &format!(
            "mkdir /srv/tree; touch /srv/tree/a /srv/tree/b; printf '{unit}' > /etc/systemd/system/probe.service"
        ),
    )?;
    let old_bundle = host.put("old", &recipe("old", "new", "0750", "absent", false))?;
    let new_bundle = host.put("new", &recipe("new", "old", "0700", "present", true))?;
    let old = applied(&host, &old_bundle, "at first")?;
    let new = applied(&host, &new_bundle, "at first")?;
    for (path, state) in &old {
        assert_ne!(state, &new[path], "{path} is something else in the new state");
    }
    let mut killed = 0;
    for call in CALLS {
        // Most writes tell what happens; of three in a row one is enough.
        for number in (1..).step_by(if call == "write" { 3 } else { 1 }) {
            let case = format!("killed at {call} {number}");
            assert_eq!(applied(&host, &old_bundle, &case)?, old, "{case}: it was undone");
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
            let run = host.apply(&strace, &new_bundle)?;
            if run.code == Some(0) {
                assert!(number > 1, "there is no {call} in a run");
                break;
            }
            assert_eq!(run.failure(), None, "{case}: it was killed");
            killed += 1;
            for (path, state) in look(&host)? {
                let is_whole = state == old[&path] || state == new[&path];
                assert!(is_whole || state == NEW_DIRECTORY, "{case}: {path} is neither old nor new: {state}");
            }
            assert_eq!(applied(&host, &new_bundle, &case)?, new, "{case}");
            let left = host.run(&[AGENT, "plan", "--detailed-exitcode", &new_bundle])?;
            let left = (left.status.code(), String::from_utf8_lossy(&left.stdout).into_owned());
            assert_eq!(left.0, Some(0), "{case}: nothing is left: {}", left.1);
            assert_eq!(staged(&host)?, NOTHING, "{case}");
            shell(&host, "cmp /srv/told /srv/app/file")
                .map_err(|error| format!("{case}: the handler ran: {error}"))?;
        }
    }
    println!("{killed} kills");
    // Fewer would mean that the calls above are not those of a run any more.
    assert!(killed > 40, "{killed} runs were killed");
    Ok(())
}

/// The moments of a transaction at which something is killed: a script of a package, and the recipe that is applied.
const MOMENTS: [(&str, &str); 8] = [
    ("base-preinst", "installed"),
    ("main-preinst", "installed"),
    ("base-postinst", "installed"),
    ("main-postinst", "installed"),
    // It is only recommended, so the package of the recipe may be wholly there without it.
    ("extra-postinst", "installed"),
    ("main-prerm", "removed"),
    ("main-postrm", "removed"),
    ("base-prerm", "removed"),
];

/// What is killed: dpkg, the agent that waits for it, both, and all processes of the transaction with the agent.
const KILLS: [&str; 4] = [
    "kill -KILL $PPID",
    "kill -KILL $(cat /run/bootstrap-agent/apply.lock)",
    "kill -KILL $(cat /run/bootstrap-agent/apply.lock) $PPID",
    "kill -KILL $(cat /run/bootstrap-agent/apply.lock) 0",
];

const INSTALLED: &str = "resources:
  - package: { name: probe-main, recommends: true }
";
const REMOVED: &str = "resources:
  - package: { name: probe-main, state: purged }
  - package: { name: probe-extra, state: purged }
  - package: { name: probe-base, state: purged }
";

fn transaction_repository(host: &Host) -> Result<(), Box<dyn Error>> {
    let names = ["preinst", "postinst", "prerm", "postrm"];
    let script = |package: &str, script: &str| {
        format!(
            "#!/bin/sh -e
if test \"$(cat /run/moment 2>/dev/null)\" = {package}-{script}; then rm /run/moment; . /run/kill; fi
"
        )
    };
    let texts: Vec<Vec<(&str, String)>> = ["base", "main", "extra"]
        .iter()
        .map(|package| names.iter().map(|&name| (name, script(package, name))).collect())
        .collect();
    let scripts: Vec<Vec<(&str, &str)>> =
        texts.iter().map(|texts| texts.iter().map(|(name, text)| (*name, text.as_str())).collect()).collect();
    let package = |at: usize, name, fields| apt::Scripted { name, fields, scripts: &scripts[at] };
    let repository = host.disk().tree().join("srv/transaction");
    apt::repository_with_scripts(
        &repository,
        &[
            package(0, "probe-base", ""),
            package(1, "probe-main", "Depends: probe-base\nRecommends: probe-extra\n"),
            package(2, "probe-extra", ""),
        ],
    )?;
    std::fs::remove_file(repository.join("InRelease"))?;
    let list = "deb [trusted=yes] file:/srv/transaction ./";
    let sources = "/etc/apt/sources.list";
    shell(host, &format!("rm -rf {sources} {sources}.d/*; echo '{list}' > {sources}"))?;
    Ok(())
}

#[test]
fn a_transaction_of_packages_that_is_killed_is_finished_by_the_next_run() -> Outcome {
    let world = World::new()?;
    let host = host(&world)?;
    transaction_repository(&host)?;
    let bundles = [("installed", INSTALLED), ("removed", REMOVED)];
    let bundles: BTreeMap<&str, String> = bundles
        .into_iter()
        .map(|(name, recipe)| Ok((name, host.put(name, recipe)?)))
        .collect::<Result<_, Box<dyn Error>>>()?;
    let applied = |name: &str, case: &str| -> Result<(), Box<dyn Error>> {
        let run = host.apply(&[], &bundles[name])?;
        assert_eq!(run.code, Some(0), "{case}: {name}: {run:?}");
        // Nothing is half done, of these packages and of any other, and services may be started again.
        let count = if name == "installed" { 3 } else { 0 };
        let seen =
            "dpkg --audit; test ! -e /usr/sbin/policy-rc.d; dpkg-query --show 'probe-*' 2>/dev/null | wc -l";
        assert_eq!(shell(&host, seen)?.trim(), count.to_string(), "{case}: {name}");
        let left = host.run(&[AGENT, "plan", "--detailed-exitcode", &bundles[name]])?;
        assert_eq!(left.status.code(), Some(0), "{case}: {}", String::from_utf8_lossy(&left.stdout));
        Ok(())
    };
    for kill in KILLS {
        for (moment, name) in MOMENTS {
            let case = format!("`{kill}` in {moment}");
            applied(if name == "installed" { "removed" } else { "installed" }, &case)?;
            shell(&host, &format!("echo {moment} > /run/moment; echo '{kill}' > /run/kill"))?;
            let run = host.apply(&[], &bundles[name])?;
            assert_ne!(run.code, Some(0), "{case}: {run:?}");
            shell(&host, "test ! -e /run/moment").map_err(|error| format!("{case}: {error}"))?;
            applied(name, &case)?;
        }
    }
    Ok(())
}
