//! New values while a host is up: noticed by their versions, put in place as a boot does it, and taken back if the host
//! is not healthy with them.
//!
//! ```text
//! look ─▶ (nothing new) ──────────────────────────────────▶ current
//!   └───▶ fetch what is new ─▶ converge ─▶ health ────────▶ current
//!                    └────────────┴──────────┴─▶ converge with the good ones ─▶ rolled back
//!                                                              └──────────────▶ failed
//! ```
//!
//! Nobody is signalled: the host is up, and stays so.

pub(crate) mod kept;
mod run;
pub(crate) mod timer;

pub use self::run::{Settings, watch};
