//! Image definitions: what was written, and what is resolved from it.

mod definition;
mod resolve;

pub use definition::{Definition, LocalSource};
pub(crate) use resolve::recorded;
pub use resolve::{BakePlan, Chain, Lookup};
