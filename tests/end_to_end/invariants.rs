//! What must never be so, looked for in the code and in what was built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::binaries;
use testbed::cloud::USER_DATA;

use crate::Outcome;

/// Every Rust file below a folder of the project.
fn files(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![binaries::project().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{below}");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(binaries::project()).unwrap_or(path).display().to_string()
}

/// What a file is without its tests, which may do more.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

#[test]
fn the_engine_has_no_network_no_runtime_and_no_arguments() -> Outcome {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", "recipes", "--edges", "normal", "--prefix", "none", "--offline"])
        .current_dir(binaries::project())
        .output()?;
    let tree = String::from_utf8(tree.stdout)?;
    assert!(tree.starts_with("recipes "), "{tree}");
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let unwanted =
            ["tokio", "hyper", "clap", "reqwest", "mio"].contains(&name) || name.starts_with("aws-");
        assert!(!unwanted, "the engine depends on {name}");
    }
    Ok(())
}

#[test]
fn only_the_linux_machine_writes_or_executes() {
    let writes = [
        "std::process",
        "Command::new(\"",
        "fs::write",
        "fs::remove",
        "fs::rename",
        "File::create",
        "OpenOptions",
        "fs::create_dir",
    ];
    let lib = fs::read_to_string(binaries::project().join("recipes/src/lib.rs")).unwrap_or_default();
    let only_tests = lib.split("#[cfg(test)]\nmod ").skip(1).filter_map(|rest| rest.split(';').next());
    let tests: Vec<String> = only_tests.map(|name| format!("recipes/src/{name}.rs")).collect();
    for path in files("recipes/src") {
        let name = shown(&path);
        if name.starts_with("recipes/src/system/linux/") || tests.contains(&name) {
            continue;
        }
        let code = code(&path);
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let found = writes.iter().find(|write| line.contains(**write));
            assert!(found.is_none(), "{name}: {line}");
        }
    }
}

/// Files that may be longer, each with its reason.
const LONG: &[(&str, &str)] = &[
    ("recipes/src/op.rs", "every operation is one closed list"),
    ("tests/end_to_end/kinds/cases.rs", "one recipe, with a case for each kind"),
    ("recipes/src/run.rs", "the run and the tests of every way it can be cut off"),
    ("baker/src/bake.rs", "the life of a bake is one file, top to bottom"),
];

#[test]
fn files_stay_short() {
    for folder in ["recipes/src", "baker/src", "bootstrap-agent/src", "tests"] {
        for path in files(folder) {
            let (name, lines) = (shown(&path), fs::read_to_string(&path).unwrap_or_default().lines().count());
            let allowed = LONG.iter().any(|(long, _)| *long == name);
            assert!(lines <= 500 || allowed, "{name} has {lines} lines");
            assert!(lines > 500 || !allowed, "{name} has only {lines} lines: take it off the list");
        }
    }
}

#[test]
fn the_agent_is_one_static_file() -> Outcome {
    let agent = binaries::agent()?;
    let dynamic = Command::new("readelf").args(["--dynamic", "--wide"]).arg(&agent).output()?;
    assert!(!String::from_utf8_lossy(&dynamic.stdout).contains("NEEDED"), "it needs no library");
    Ok(())
}

/// What the README shows is what is there.
#[test]
fn the_readme_tells_the_truth() -> Outcome {
    let project = binaries::project();
    let readme = fs::read_to_string(project.join("README.md"))?;
    let makefile = fs::read_to_string(project.join("Makefile"))?;
    let mut targets = 0;
    for target in readme
        .split("make ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next())
    {
        if readme.contains(&format!("`make {target}`")) || readme.contains(&format!("\nmake {target}")) {
            assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
            targets += 1;
        }
    }
    assert!(targets >= 2);
    let definition = fs::read_to_string(project.join("images/web.yaml"))?;
    assert!(readme.contains(&definition), "images/web.yaml is as the README shows it");
    let user_data = USER_DATA.lines().filter(|line| !line.starts_with("# "));
    assert!(readme.contains(&user_data.collect::<Vec<_>>().join("\n")), "so is the user-data that is tested");
    for (program, path) in [("baker", binaries::baker()?), ("bootstrap-agent", binaries::agent()?)] {
        let help = Command::new(&path).arg("--help").output()?;
        let help = String::from_utf8(help.stdout)?;
        let verbs =
            help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        for verb in verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help") {
            assert!(
                readme.contains(&format!("`{program} {verb}")),
                "the README does not tell of `{program} {verb}`"
            );
        }
    }
    for path in readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|path| !path.contains("://"))
    {
        assert!(project.join(path.split('#').next().unwrap_or_default()).exists(), "{path}");
    }
    Ok(())
}
