//! A repository as apt reads it, in `/etc/apt/sources.list.d` (sources.list(5)).

use std::path::Path;

use super::repository::{Repository, Type, check_uri};
use crate::error::Problem;
use crate::system::DPKG_ARCHITECTURES;

/// Checks each word: a space or a line end in one would become other words and fields of the file.
pub(super) fn check(repository: &Repository) -> Result<(), Problem> {
    if repository.types.as_ref().is_some_and(Vec::is_empty) {
        return Err(Problem::new("`types` is empty; valid are `deb` and `deb-src`"));
    }
    for (field, list) in [("uris", &repository.uris), ("suites", &repository.suites)] {
        if list.is_empty() {
            return Err(Problem::new(format!("a `repository` needs at least one of `{field}`")));
        }
    }
    repository.uris.iter().try_for_each(|uri| check_uri(uri))?;
    let word = |field: &str, text: &str, extra: &str| {
        let valid = text.starts_with(|first: char| first.is_ascii_alphanumeric() || "./".contains(first))
            && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
        if valid {
            return Ok(());
        }
        Err(Problem::new(format!("`{}` is not valid in `{field}` of a `repository`", text.escape_debug())))
    };
    repository.suites.iter().try_for_each(|text| word("suites", text, "-_.+~/"))?;
    repository.components.iter().try_for_each(|text| word("components", text, "-_.+/"))?;
    for text in &repository.architectures {
        word("architectures", text, "-_").map_err(|problem| problem.help("an example is `amd64`"))?;
        if let Some((_, ours)) = DPKG_ARCHITECTURES.iter().find(|(c, _)| c == text) {
            let message = format!("`{text}` is no architecture of dpkg");
            return Err(Problem::new(message).help(format!("dpkg calls it `{ours}`")));
        }
    }
    // sources.list(5): a suite that is an exact path has no components, every other has.
    match (repository.suites.iter().any(|suite| suite.ends_with('/')), repository.components.is_empty()) {
        (true, false) => Err(Problem::new("a suite that ends with `/` is a path and has no `components`")),
        (false, true) => Err(Problem::new("a `repository` needs at least one of `components`")
            .help("only a suite that ends with `/`, which is a path, has none")),
        _ => Ok(()),
    }
}

/// The file, as deb822(5) and sources.list(5) say.
pub(super) fn text(repository: &Repository, keyring: &Path) -> String {
    let types = repository.types.as_deref().unwrap_or(&[Type::Binary]).iter().map(|kind| match kind {
        Type::Binary => "deb",
        Type::Source => "deb-src",
    });
    let mut text = format!("Types: {}\n", types.collect::<Vec<_>>().join(" "));
    let lists = [
        ("URIs", &repository.uris),
        ("Suites", &repository.suites),
        ("Components", &repository.components),
        ("Architectures", &repository.architectures),
    ];
    for (field, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        text += &format!("{field}: {}\n", list.join(" "));
    }
    text += &format!("Signed-By: {}\n", keyring.display());
    if repository.enabled == Some(false) {
        text += "Enabled: no\n";
    }
    text
}
