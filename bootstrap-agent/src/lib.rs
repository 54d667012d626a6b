//! The on-host half: applies recipes, and on first boot pulls values, renders, starts, verifies, reports.

pub(crate) mod aws_call;
pub mod boot;
pub mod cache;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod doctor;
pub mod exact;
pub mod fetch;
pub(crate) mod fingerprint;
pub mod health;
pub mod http;
pub(crate) mod journal;
pub mod lock;
pub mod metrics;
pub mod policy;
pub mod redact;
pub mod report;
pub mod s3;
pub mod seal;
pub mod signal;
pub mod source;
pub mod status;
pub mod stop;
pub mod unpack;
pub mod values;
pub mod watch;

/// Read by `baker` in the binary it is about to upload: an agent that knows another version of bundles is
/// refused before anything is launched.
#[used]
pub static BUNDLE_SCHEMA: &str = "bootstrap-agent bundle schema 1;";
