//! Making a host ready to become an image.

pub mod clean;
pub mod quiet;
pub mod scan;
