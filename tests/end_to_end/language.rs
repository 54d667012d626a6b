//! The language on a real builder: variables, included recipes, what commands print, tags, and errors.

use std::fs;

use testbed::host::Disk;
use testbed::workspace::Workspace;

use crate::Outcome;

const OUTER: &str = "
vars: { folder: /srv/sites, architecture: \"{{ facts.arch }}\" }
resources:
  - directory: { path: \"{{ vars.folder }}\" }
  - include: { site: { path: \"{{ vars.folder }}/{{ item }}\" } }
    for_each: [shop, blog]
    notify: count
    tags: sites
  - command: { argv: dpkg --print-architecture }
    register: dpkg
  - template: { path: /srv/told, source: told.tera }
handlers:
  count: { command: { argv: [sh, -c, \"ls /srv/sites | wc -l > /srv/count\"] } }
";

const SITE: &str = "
inputs: { path: { type: string } }
resources:
  - file: { path: \"{{ inputs.path }}\", content: \"a site\\n\" }
    notify: mark
handlers:
  mark: { command: { argv: [touch, \"{{ inputs.path }}.marked\"] } }
";

fn workspace() -> Result<Workspace, Box<dyn std::error::Error>> {
    Ok(Workspace::new()?
        .with("images/language.yaml", "source: { local: { suite: bookworm } }\nrecipes: [ outer ]\n")?
        .with("recipes/outer/recipe.yaml", OUTER)?
        .with("recipes/outer/templates/told.tera", "{{ vars.architecture }} {{ registered.dpkg.stdout }}\n")?
        .with("recipes/site/recipe.yaml", SITE)?)
}

#[test]
fn a_recipe_that_includes_others_and_asks_commands_is_baked_and_settles() -> Outcome {
    let workspace = workspace()?;
    let image = workspace.bake("language")?;
    let disk = Disk::of_image(&image)?;
    let read = |path: &str| fs::read_to_string(disk.tree().join(path));
    assert_eq!((read("srv/sites/shop")?, read("srv/sites/blog")?), ("a site\n".into(), "a site\n".into()));
    assert!(
        disk.tree().join("srv/sites/shop.marked").exists()
            && disk.tree().join("srv/sites/blog.marked").exists()
    );
    assert_eq!(
        read("srv/count")?,
        "4\n",
        "the handler of the outer recipe runs after those of the included ones"
    );
    let expected = if cfg!(target_arch = "x86_64") { "x86_64 amd64\n" } else { "aarch64 arm64\n" };
    assert_eq!(read("srv/told")?, expected);
    Ok(())
}

#[test]
fn a_plan_shows_what_has_a_tag() -> Outcome {
    let workspace = workspace()?;
    let plan = workspace.baker(&["plan", "images/language.yaml", "--tags", "sites"])?;
    assert_eq!(plan.code, Some(1), "its folder is not there yet: {}", plan.stdout);
    assert!(plan.stderr.contains("the directory `/srv/sites` does not exist"), "{}", plan.stderr);
    let plan = workspace.baker(&["plan", "images/language.yaml", "--skip-tags", "sites"])?;
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    assert!(
        plan.stdout.contains("outer: directory /srv/sites") && !plan.stdout.contains("shop"),
        "{}",
        plan.stdout
    );
    assert!(plan.stdout.contains("outer: template /srv/told"), "{}", plan.stdout);
    let plan = workspace.baker(&["plan", "images/language.yaml", "--tags", "site"])?;
    assert_eq!(plan.code, Some(1));
    for said in ["no resource has the tag `site`", "did you mean `sites`?"] {
        assert!(plan.stderr.contains(said), "{}", plan.stderr);
    }
    Ok(())
}

#[test]
fn what_a_recipe_wants_on_an_error_is_done_and_the_bake_fails_with_the_error() -> Outcome {
    let workspace = Workspace::new()?
        .with("images/language.yaml", "source: { local: { suite: bookworm } }\nrecipes: [ broken ]\n")?
        .with(
            "recipes/broken/recipe.yaml",
            "
resources:
  - command: { argv: [sh, -c, 'exit 7'], creates: /srv/never }
on_error:
  - command: { argv: [echo, looking into it] }
",
        )?;
    let build = workspace.baker(&["build", "images/language.yaml", "--verbose"])?;
    assert_eq!(build.code, Some(1));
    let said = format!("{}{}", build.stdout, build.stderr);
    assert!(said.contains("looking into it"), "{said}");
    assert!(said.contains("ended with 7"), "{said}");
    Ok(())
}
