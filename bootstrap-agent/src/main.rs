//! Arguments and environment become a value; everything else is told.

use std::process::ExitCode;

use bootstrap_agent::cli::{World, main as run};

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads them")]
fn main() -> ExitCode {
    let proxies = ["http_proxy", "https_proxy", "no_proxy"];
    ExitCode::from(run(&World {
        arguments: std::env::args_os().collect(),
        is_in_journal: std::env::var_os("JOURNAL_STREAM").is_some(),
        metadata_endpoint: std::env::var("AWS_EC2_METADATA_SERVICE_ENDPOINT").ok(),
        proxies: proxies
            .iter()
            .filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?)))
            .collect(),
    }))
}
