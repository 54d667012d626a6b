//! Recipes of others: fetched once, locked, and from then on looked at only where they are.

use std::fs;
use std::process::Command;

use baker::manifest::Manifest;
use testbed::workspace::Workspace;

use crate::Outcome;

const IMAGE: &str = "source: { local: { suite: bookworm } }\nrecipes: [ ntp ]\n";

/// A workspace whose image wants the recipe `ntp` of a repository beside it, and the commit that has it.
fn workspace() -> Result<(Workspace, String), Box<dyn std::error::Error>> {
    let workspace = Workspace::new()?
        .with("images/small.yaml", IMAGE)?
        .with("theirs/ntp/recipe.yaml", "resources:\n  - file: { path: /etc/ntp, source: ntp }\n")?
        .with("theirs/ntp/files/ntp", "theirs\n")?;
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        let folder = workspace.path("theirs");
        Command::new("git").args(identity).args(arguments).current_dir(folder).output()
    };
    for arguments in
        [&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "--message=x"], &["tag", "v1"]]
    {
        let output = git(arguments)?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let commit = String::from_utf8(git(&["rev-parse", "HEAD"])?.stdout)?.trim().to_owned();
    let declared = format!("acme: {{ git: 'file://{}', tag: v1 }}\n", workspace.path("theirs").display());
    Ok((workspace.with("recipes/vendor.yaml", &declared)?, commit))
}

/// Looks for texts in what is shown to people, which is broken into lines wherever their terminal ends.
fn assert_says(shown: &str, texts: &[&str]) {
    let flat = |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != '│').collect::<String>();
    for text in texts {
        assert!(flat(shown).contains(&flat(text)), "{text}: {shown}");
    }
}

#[test]
fn a_recipe_of_others_is_fetched_locked_and_checked_without_a_network() -> Outcome {
    let (workspace, commit) = workspace()?;
    let early = workspace.baker(&["validate", "images/small.yaml"])?;
    assert_eq!(early.code, Some(1));
    assert_says(&early.stderr, &["has not been fetched", "run `baker vendor`"]);
    let fetched = workspace.baker(&["vendor"])?;
    assert_eq!(fetched.code, Some(0), "{}", fetched.stderr);
    assert_eq!(fetched.stdout, format!("acme: {} fetched (ntp)\n", &commit[..12]));
    // Nobody is asked from now on.
    fs::rename(workspace.path("theirs"), workspace.path("gone"))?;
    for arguments in [&["vendor", "--check"][..], &["validate", "images/small.yaml"], &["vendor"]] {
        let ended = workspace.baker(arguments)?;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
    }
    fs::write(workspace.path("recipes/vendor/acme/ntp/files/ntp"), "edited\n")?;
    for arguments in
        [&["vendor", "--check"][..], &["validate", "images/small.yaml"], &["build", "images/small.yaml"]]
    {
        let ended = workspace.baker(arguments)?;
        assert_eq!(ended.code, Some(1), "{arguments:?}");
        assert_says(
            &ended.stderr,
            &["recipes/vendor/acme/ntp", "`files/ntp` was changed", "brings back what was fetched"],
        );
    }
    // It cannot be brought back now, and says so; what is there stays as it is.
    let failed = workspace.baker(&["vendor"])?;
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("acme"), "{}", failed.stderr);
    assert_eq!(fs::read_to_string(workspace.path("recipes/vendor/acme/ntp/files/ntp"))?, "edited\n");
    fs::rename(workspace.path("gone"), workspace.path("theirs"))?;
    assert_eq!(workspace.baker(&["vendor"])?.stdout, format!("acme: {} restored (ntp)\n", &commit[..12]));
    assert_eq!(workspace.baker(&["vendor", "--check"])?.code, Some(0));
    let misspelt = workspace.baker(&["vendor", "--check", "--recipes", "recipse"])?;
    assert_eq!(misspelt.code, Some(1));
    assert!(misspelt.stderr.contains("there is no `recipse/vendor.yaml`"), "{}", misspelt.stderr);
    Ok(())
}

#[test]
fn a_name_that_is_there_twice_is_not_guessed_at() -> Outcome {
    let (workspace, _) = workspace()?;
    assert_eq!(workspace.baker(&["vendor"])?.code, Some(0));
    let workspace = workspace
        .with("recipes/ntp/recipe.yaml", "resources: []\n")?
        .with("mine/ntp/recipe.yaml", "resources: []\n")?;
    let twice = workspace.baker(&["validate", "images/small.yaml"])?;
    assert_eq!(twice.code, Some(1));
    assert_says(
        &twice.stderr,
        &["images/small.yaml:2:12", "there twice: `recipes/ntp` and `recipes/vendor/acme/ntp`"],
    );
    let said = workspace.baker(&["validate", "images/small.yaml", "--recipes", "mine"])?;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    Ok(())
}

#[test]
fn the_manifest_says_where_a_recipe_came_from() -> Outcome {
    let (workspace, commit) = workspace()?;
    assert_eq!(workspace.baker(&["vendor"])?.code, Some(0));
    let folder = workspace.bake("small")?;
    let manifest = Manifest::read(&folder)?.ok_or("there is no manifest")?;
    let recipe = &manifest.recipes[0];
    assert_eq!(recipe["origin"], "recipes/vendor/acme/ntp");
    assert_eq!(
        (&recipe["vendored"]["source"], &recipe["vendored"]["commit"]),
        (&"acme".into(), &commit.into())
    );
    assert!(recipe["vendored"]["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")));
    Ok(())
}
