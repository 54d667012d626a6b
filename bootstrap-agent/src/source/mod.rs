//! Where values come from: one file for each place.

pub mod aws;
pub mod instance;
pub mod parameters;
pub mod secrets;
