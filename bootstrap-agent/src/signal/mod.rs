//! Whom the result of a boot is told, and how it gets there whatever happens.
//!
//! ```text
//! declared ─▶ message ─▶ outbox (on the disk) ─▶ post ─▶ recipients ─▶ query ─▶ AWS
//! ```
//!
//! A message is on the disk before the first try and leaves the outbox when its recipient has it, so it
//! outlives the process, the network and a reboot. It may arrive twice, which no recipient minds.

mod brake;
pub mod declared;
pub mod heartbeat;
pub mod message;
pub mod outbox;
pub mod post;
pub mod query;
mod recipients;
