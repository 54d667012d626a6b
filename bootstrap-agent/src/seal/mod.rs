//! Making a host ready to become an image.

mod assigned;
pub mod blocks;
pub mod clean;
mod files;
pub mod gate;
mod inside;
mod leftovers;
pub mod owners;
mod packaged;
#[cfg(test)]
mod planted;
pub mod quiet;
pub mod scan;
mod search;
