//! `docs`: the reference of every kind of resource.

use std::fmt::Write as _;
use std::io::{self, Write};

use recipes::error::did_you_mean;
use recipes::resource::{Reference, reference};

use super::{DONE, fail};
use crate::failure::Failure;

/// Print the reference of every kind of resource, or of one
///
/// It is made of the program's own types, so it is that of this release. The text is Markdown.
#[derive(Debug, clap::Args)]
pub(super) struct Docs {
    /// The kind, such as `file`; all of them if left out
    kind: Option<String>,
}

impl Docs {
    pub(super) fn run(self) -> u8 {
        let all = reference();
        let Some(kind) = self.kind else {
            let _ = write!(io::stdout(), "{}", manual(&all));
            return DONE;
        };
        let Some(reference) = all.iter().find(|reference| reference.kind == kind) else {
            let names: Vec<&str> = all.iter().map(|reference| reference.kind).collect();
            let failure = Failure::new(format!("there is no kind `{kind}`"));
            return fail(&failure.help(did_you_mean(&kind, &names)));
        };
        let _ = write!(io::stdout(), "{}", page(reference));
        DONE
    }
}

/// The pages of all kinds behind a list of them.
fn manual(all: &[Reference]) -> String {
    let mut text = String::from(
        "# Kinds of resources\n\nThis page is what `baker docs` prints. What all resources have in common is in \
         [recipes.md](recipes.md).\n\n",
    );
    let links: Vec<String> = all.iter().map(|Reference { kind, .. }| format!("[{kind}](#{kind})")).collect();
    let _ = writeln!(text, "{}\n", links.join(" · "));
    let pages: Vec<String> = all.iter().map(page).collect();
    text + &pages.join("\n")
}

fn page(reference: &Reference) -> String {
    let mut text =
        format!("## {}\n\n{}\n\n| field | takes | meaning |\n|---|---|---|\n", reference.kind, reference.doc);
    for field in &reference.fields {
        let required = if field.required { "; required" } else { "" };
        let doc = field.doc.replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {}{required} | {doc} |", field.name, field.takes);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_what_is_printed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/resources.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == manual(&reference()),
            "write it again: cargo run -p baker -- docs > docs/resources.md"
        );
    }
}
