//! Arguments and environment become a value; everything else is told.

use std::path::PathBuf;
use std::process::ExitCode;

use baker::cli::{World, main as run};
use baker::secrets::Secrets;

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads them")]
fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = variable("HOME").map(PathBuf::from);
    let state = variable("BAKER_STATE_DIR")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable("XDG_STATE_HOME")?).join("baker")))
        .or_else(|| Some(home?.join(".local/state/baker")));
    let given = |names: &[&str]| {
        names.iter().filter_map(|&name| Some((name.to_owned(), variable(name)?))).collect::<Vec<_>>()
    };
    ExitCode::from(run(&World {
        arguments: std::env::args_os().collect(),
        variables: std::env::vars()
            .filter_map(|(name, value)| Some((name.strip_prefix("BAKER_VAR_")?.to_owned(), value)))
            .collect(),
        state,
        program: std::env::current_exe().ok(),
        ca_bundle: variable("AWS_CA_BUNDLE").map(PathBuf::from),
        proxies: given(&["http_proxy", "https_proxy", "no_proxy"]),
        secrets: Secrets::among(std::env::vars()),
        git: given(&["HOME", "SSH_AUTH_SOCK"]),
    }))
}
