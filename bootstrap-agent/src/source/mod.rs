//! Where values come from: one file for each place.

pub mod aws;
pub mod declared;
pub mod effort;
pub mod fetched;
pub mod given;
#[cfg(test)]
mod herd;
pub mod instance;
pub mod parameters;
pub mod plan;
pub mod secrets;
pub mod unset;
pub mod versions;
