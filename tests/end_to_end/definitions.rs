//! What is wrong with a definition is said before anything is launched, and every shipped one is right.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::process::Command;

use testbed::binaries;
use testbed::workspace::Workspace;

use crate::Outcome;

const IMAGE: &str = "source: { local: { suite: bookworm } }\nrecipes: [ site ]\n";

#[test]
fn every_shipped_image_is_valid() -> Outcome {
    let workspace = Workspace::new()?;
    let mut images = 0;
    for entry in fs::read_dir(binaries::project().join("images"))? {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        let path = path.display().to_string();
        let mut arguments = vec!["validate", path.as_str()];
        // What vendors publish is named when an image is baked.
        let digest = format!("sha256={}", "0".repeat(64));
        if fs::read_to_string(&path)?.contains("\n  sha256:") {
            arguments.extend(["--var", "url=https://example.com/archive", "--var", &digest]);
        }
        let ended = workspace.baker(&arguments)?;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains(": valid ("), "{}", ended.stdout);
        images += 1;
    }
    assert_ne!(images, 0);
    Ok(())
}

/// Those of other distributions are like `base`. What a boot would do by them is seen on baked images (`library/images.rs`).
#[test]
fn every_shipped_image_has_a_boot_configuration_that_is_valid() -> Outcome {
    let names = |folder: &str| -> Result<BTreeSet<String>, Box<dyn Error>> {
        let entries = fs::read_dir(binaries::project().join(folder))?.flatten();
        let names = entries
            .filter_map(|entry| entry.file_name().to_string_lossy().strip_suffix(".yaml").map(str::to_owned));
        Ok(names.filter(|name| !name.starts_with("base-")).collect())
    };
    let configurations = names("images/boot")?;
    assert_eq!(configurations, names("images")?);
    for name in configurations {
        let path = binaries::project().join("images/boot").join(format!("{name}.yaml"));
        let said = Command::new(binaries::agent()?).args(["user-data", "validate"]).arg(&path).output()?;
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
    }
    Ok(())
}

#[test]
fn every_mistake_is_named_with_its_file_line_and_column() -> Outcome {
    let cases = [
        (
            "{{ inputs.prot }}",
            "path: /etc/site",
            "recipes/site/recipe.yaml:4:43",
            "`inputs.prot` is not defined",
            "did you mean `port`?",
        ),
        (
            "x",
            "paht: /etc/site",
            "recipes/site/recipe.yaml:4:13",
            "unknown field `paht`",
            "did you mean `path`?",
        ),
        (
            "x",
            "path: etc/site",
            "recipes/site/recipe.yaml:4:11",
            "the path `etc/site`",
            "does not start with `/`",
        ),
    ];
    for (content, path, place, what, help) in cases {
        let recipe = format!(
            "inputs:\n  port: {{ type: integer, default: 80, description: x }}\nresources:\n  - file: {{ {path}, content: \"{content}\" }}\n"
        );
        let workspace =
            Workspace::new()?.with("images/web.yaml", IMAGE)?.with("recipes/site/recipe.yaml", &recipe)?;
        let ended = workspace.baker(&["validate", "images/web.yaml"])?;
        assert_eq!(ended.code, Some(1));
        for text in [place, what, help, "1 problem; nothing was changed"] {
            assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
        }
    }
    Ok(())
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_64() -> Outcome {
    let workspace = Workspace::new()?;
    for arguments in [&["bild"][..], &["build"], &["build", "--platfrom", "local"]] {
        assert_eq!(workspace.baker(arguments)?.code, Some(64), "{arguments:?}");
    }
    assert_eq!(workspace.baker(&["build", "--help"])?.code, Some(0));
    let missing = workspace.baker(&["build", "images/none.yaml"])?;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("images/none.yaml"), "{}", missing.stderr);
    Ok(())
}
