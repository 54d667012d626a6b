//! The page of the library: what each of its recipes is for, and what it can be told.

use std::fmt::Write as _;

use recipes::input::{Input, Kind};
use recipes::recipe::Recipe;

/// What stands before the recipes.
const HEAD: &str = "# The library\n\nThis page is what `baker docs library` prints: the recipes that ship with baker, and what they \
    can be told. Why a setting is as it is, and who says so, is in the recipe itself, in `recipes/library/`. How recipes are \
    written is in [recipes.md](recipes.md). Debian 12 is what they are tested on.\n\nAn input with `required` has no default.\n\n";

/// The page.
pub(super) fn library_page<'a>(recipes: impl Iterator<Item = &'a Recipe> + Clone) -> String {
    let links: Vec<String> =
        recipes.clone().map(|Recipe { name, .. }| format!("[{name}](#{name})")).collect();
    let sections: Vec<String> = recipes.map(section).collect();
    format!("{HEAD}{}\n\n{}", links.join(" · "), sections.join("\n"))
}

fn section(recipe: &Recipe) -> String {
    let mut text = format!("## {}\n\n{}\n", recipe.name, recipe.description.trim());
    if !recipe.inputs.is_empty() {
        text += "\n| input | takes | default | meaning |\n|---|---|---|---|\n";
        rows(&mut text, "", &recipe.inputs);
    }
    text
}

/// A row for each input, and below it one for each entry of its own.
fn rows(text: &mut String, above: &str, inputs: &[Input]) {
    for input in inputs {
        let name = format!("{above}{}", input.name);
        let default = match &input.default {
            Some(default) => format!("`{}`", default.to_json()),
            None if input.secret => "required, a secret".into(),
            None => "required".into(),
        };
        let meaning = [&input.description, &default].map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(
            text,
            "| `{name}` | {} | {} | {} |",
            takes(&input.kind).replace('|', "\\|"),
            meaning[1],
            meaning[0]
        );
        match &input.kind {
            Kind::List { items: Some(items) } => {
                if let Kind::Map { properties: Some(properties) } = &items.kind {
                    rows(text, &format!("{name}[]."), properties);
                }
            }
            Kind::Map { properties: Some(properties) } => rows(text, &format!("{name}."), properties),
            _ => {}
        }
    }
}

fn takes(kind: &Kind) -> String {
    match kind {
        Kind::String { one_of, .. } if !one_of.is_empty() => {
            one_of.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        Kind::String { pattern: Some(pattern), .. } => format!("string like `{}`", shown(pattern.as_str())),
        Kind::String { .. } => "string".into(),
        Kind::Integer { minimum, maximum } => match (minimum, maximum) {
            (Some(minimum), Some(maximum)) => format!("integer, {minimum} to {maximum}"),
            (Some(minimum), None) => format!("integer from {minimum}"),
            (None, Some(maximum)) => format!("integer to {maximum}"),
            (None, None) => "integer".into(),
        },
        Kind::Boolean => "boolean".into(),
        Kind::List { items } => match items {
            Some(items) => format!("list of {}", takes(&items.kind)),
            None => "list".into(),
        },
        Kind::Map { .. } => "mapping".into(),
    }
}

/// A pattern as it was written: it is kept as one that has to match as a whole.
fn shown(pattern: &str) -> &str {
    pattern.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(pattern)
}
