//! `docs`: the reference of every kind of resource, of the facts, and of the library.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use recipes::drift::Drift;
use recipes::error::did_you_mean;
use recipes::resource::{Field, Reference, facts_reference, reference};
use schemars::schema_for;

use super::library_page::library_page;
use super::plan::Planned;
use super::{DONE, fail};
use crate::failure::Failure;
use crate::library;

/// Print the reference of the kinds of resources, of the facts, or of the library
///
/// It is made of the program's own types and recipes, so it is that of this release. The text is Markdown.
#[derive(Debug, clap::Args)]
pub(super) struct Docs {
    /// The kind, such as `file`, or `facts`; all of them if left out. `library` for the recipes that ship with baker,
    /// `plan` and `drift` for the JSON Schemas of what these verbs print
    kind: Option<String>,
}

impl Docs {
    pub(super) fn run(self, cache: &Path) -> u8 {
        let all = reference();
        let Some(kind) = self.kind else {
            let _ = write!(io::stdout(), "{}", manual(&all));
            return DONE;
        };
        if kind == FACTS {
            let _ = write!(io::stdout(), "{}", facts());
            return DONE;
        }
        if kind == PLAN {
            let _ = writeln!(io::stdout(), "{}", plan_schema());
            return DONE;
        }
        if kind == DRIFT {
            let _ = writeln!(io::stdout(), "{}", drift_schema());
            return DONE;
        }
        if kind == LIBRARY {
            return match library::recipes(cache) {
                Ok(recipes) => {
                    let _ = write!(io::stdout(), "{}", library_page(recipes.iter().map(AsRef::as_ref)));
                    DONE
                }
                Err(failure) => fail(&failure),
            };
        }
        let Some(reference) = all.iter().find(|reference| reference.kind == kind) else {
            let names: Vec<&str> =
                all.iter().map(|reference| reference.kind).chain([DRIFT, FACTS, LIBRARY, PLAN]).collect();
            let failure = Failure::new(format!("there is no kind `{kind}`"));
            return fail(&failure.help(did_you_mean(&kind, &names)));
        };
        let _ = write!(io::stdout(), "{}", page(reference));
        DONE
    }
}

/// What the page of the facts is asked for by.
const FACTS: &str = "facts";

/// What the page of the library is asked for by.
const LIBRARY: &str = "library";

/// What the schema of plans is asked for by.
const PLAN: &str = "plan";

/// What the schema of drift is asked for by.
const DRIFT: &str = "drift";

/// The JSON Schema of what `baker drift --format json` prints.
fn drift_schema() -> String {
    serde_json::to_string_pretty(&schema_for!(Drift)).unwrap_or_default()
}

/// The JSON Schema of what `baker plan --format json` prints.
fn plan_schema() -> String {
    serde_json::to_string_pretty(&schema_for!(Planned)).unwrap_or_default()
}

/// The pages of all kinds behind a list of them, and that of the facts.
fn manual(all: &[Reference]) -> String {
    let mut text = String::from(
        "# Kinds of resources\n\nThis page is what `baker docs` prints. What all resources have in common is in \
         [recipes.md](recipes.md); the [facts](#facts) are at the end.\n\n",
    );
    let links: Vec<String> = all.iter().map(|Reference { kind, .. }| format!("[{kind}](#{kind})")).collect();
    let _ = writeln!(text, "{}\n", links.join(" · "));
    let pages: Vec<String> = all.iter().map(page).collect();
    text + &pages.join("\n") + "\n" + &facts()
}

fn facts() -> String {
    let mut text = String::from(
        "## facts\n\nWhat recipes can ask of a host, in templates and in `when`. Facts are read from files when a run \
         begins; no program is run. `baker facts` prints those of a host.\n\n`facts.live` is there on a live host only: \
         hosts that boot from one image differ in it, and an image would have for good what its builder was. In a recipe \
         that is baked it is an error; a boot recipe may use it. To bake for one cloud, give the recipe an input.\n\n\
         | fact | is | meaning |\n|---|---|---|\n",
    );
    for field in facts_reference() {
        let _ = writeln!(text, "{}", row(&field, ""));
    }
    text
}

fn page(reference: &Reference) -> String {
    let mut text =
        format!("## {}\n\n{}\n\n| field | takes | meaning |\n|---|---|---|\n", reference.kind, reference.doc);
    for field in &reference.fields {
        let _ = writeln!(text, "{}", row(field, if field.required { "; required" } else { "" }));
    }
    text
}

fn row(field: &Field, required: &str) -> String {
    let doc = field.doc.replace('\n', " ").replace('|', "\\|");
    format!("| `{}` | {}{required} | {doc} |", field.name, field.takes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_library_is_what_is_printed() {
        let folder = tempfile::tempdir().expect("a folder");
        let recipes = library::recipes(folder.path()).unwrap_or_else(|failure| panic!("{}", failure.message));
        for recipe in &recipes {
            assert!(!recipe.description.is_empty(), "{} has no description", recipe.name);
            let silent = recipe.inputs.iter().find(|input| input.description.is_empty());
            assert!(silent.is_none(), "an input of {} has no description: {silent:?}", recipe.name);
        }
        let page = std::fs::read_to_string("../docs/library.md").unwrap_or_default();
        assert!(
            page == library_page(recipes.iter().map(AsRef::as_ref)),
            "write it again: cargo run -p baker -- docs library > docs/library.md"
        );
    }

    #[test]
    fn the_schema_of_plans_in_the_repository_is_what_is_printed() {
        let schema = std::fs::read_to_string("../docs/plan.schema.json").unwrap_or_default();
        assert!(
            schema.trim_end() == plan_schema(),
            "write it again: cargo run -p baker -- docs plan > docs/plan.schema.json"
        );
    }

    #[test]
    fn the_schema_of_drift_in_the_repository_is_what_is_printed() {
        let schema = std::fs::read_to_string("../docs/drift.schema.json").unwrap_or_default();
        assert!(
            schema.trim_end() == drift_schema(),
            "write it again: cargo run -p baker -- docs drift > docs/drift.schema.json"
        );
    }

    #[test]
    fn the_page_in_the_repository_is_what_is_printed() {
        let page = std::fs::read_to_string("../docs/resources.md").unwrap_or_default();
        assert!(
            page == manual(&reference()),
            "write it again: cargo run -p baker -- docs > docs/resources.md"
        );
    }
}
