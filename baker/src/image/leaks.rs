//! What looks like a leak in an image and is none, or is meant: `allow_leaks` of an image definition.

use recipes::error::{Problem, Problems};
use recipes::from_node::from_node;
use recipes::node::Node;
use serde::{Deserialize, Serialize};

/// A file that may be in the image as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedLeak {
    /// Where it is.
    pub path: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Why it is no leak.
    pub reason: String,
}

/// Reads the list.
///
/// # Errors
/// Each entry that does not say which file, with which content, and why.
pub(super) fn allowed_leaks(node: &Node) -> Result<Vec<AllowedLeak>, Problems> {
    let mut problems = Problems::new();
    let entries = node.as_list("a list of files, each with `path`, `sha256` and `reason`")?;
    let read = entries.iter().filter_map(|entry| problems.keep(allowed_leak(entry))).collect();
    problems.unless_any(read)
}

fn allowed_leak(node: &Node) -> Result<AllowedLeak, Problem> {
    let allowed: AllowedLeak = from_node(node)?;
    let wrong = |message: String, help: &str| Err(Problem::new(message).at(&node.at).help(help));
    if !allowed.path.starts_with('/') {
        return wrong(format!("`{}` is no path from the root", allowed.path), "such as `/etc/app/test.key`");
    }
    let is_digest = allowed.sha256.len() == 64
        && allowed.sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !is_digest {
        return wrong(
            format!("`{}` is no SHA-256 in lower-case hexadecimal", allowed.sha256),
            "what `sha256sum` prints of the file; another content is not allowed",
        );
    }
    if allowed.reason.trim().is_empty() {
        return wrong(format!("why `{}` may be there is not said", allowed.path), "say it in `reason`");
    }
    Ok(allowed)
}
