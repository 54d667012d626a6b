//! Bakes golden images: applies recipes to a builder, proves that nothing is left to change, seals it, and
//! keeps the result.

pub mod agent;
pub mod bake;
pub mod cli;
pub mod failure;
pub mod family;
mod file;
pub mod files;
pub mod image;
pub mod ledger;
mod library;
pub mod manifest;
pub mod platform;
pub mod record;
pub mod report;
pub mod saved;
pub mod secrets;
pub mod session;
pub mod target;
pub mod vagrant;
pub mod vendor;
