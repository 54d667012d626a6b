//! `docs`: the reference of every kind of resource, and of the facts.

use std::fmt::Write as _;
use std::io::{self, Write};

use recipes::error::did_you_mean;
use recipes::resource::{Field, Reference, facts_reference, reference};

use super::{DONE, fail};
use crate::failure::Failure;

/// Print the reference of every kind of resource and of the facts, or of one kind
///
/// It is made of the program's own types, so it is that of this release. The text is Markdown.
#[derive(Debug, clap::Args)]
pub(super) struct Docs {
    /// The kind, such as `file`, or `facts`; all of them if left out
    kind: Option<String>,
}

impl Docs {
    pub(super) fn run(self) -> u8 {
        let all = reference();
        let Some(kind) = self.kind else {
            let _ = write!(io::stdout(), "{}", manual(&all));
            return DONE;
        };
        if kind == FACTS {
            let _ = write!(io::stdout(), "{}", facts());
            return DONE;
        }
        let Some(reference) = all.iter().find(|reference| reference.kind == kind) else {
            let names: Vec<&str> = all.iter().map(|reference| reference.kind).chain([FACTS]).collect();
            let failure = Failure::new(format!("there is no kind `{kind}`"));
            return fail(&failure.help(did_you_mean(&kind, &names)));
        };
        let _ = write!(io::stdout(), "{}", page(reference));
        DONE
    }
}

/// What the page of the facts is asked for by.
const FACTS: &str = "facts";

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
    fn the_page_in_the_repository_is_what_is_printed() {
        let page = std::fs::read_to_string("../docs/resources.md").unwrap_or_default();
        assert!(
            page == manual(&reference()),
            "write it again: cargo run -p baker -- docs > docs/resources.md"
        );
    }
}
