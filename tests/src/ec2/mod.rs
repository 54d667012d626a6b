//! A cloud for bakes: EC2, SSM and STS over real HTTP, for any client, with instances that are hosts.
//!
//! ```text
//! client ──HTTP──▶ proxy ──Unix socket──▶ moto, with `moto/` on top: states that take time, client tokens,
//!                    │                    attributes of images
//!                    ├─ remembers every call             [`Cloud::calls`]
//!                    ├─ does what a script says          [`Cloud::fault`], [`On`], [`Effect`]
//!                    └─ gives instances bodies           a container on a disk image, in a world,
//!                                                        with instance metadata at 169.254.169.254
//! ```
//!
//! Without bodies ([`Options::default`]) it listens on the machine's loopback, needs no root, and an instance is what
//! moto says that it is. With bodies it is in a [`crate::world::World`], and needs root.
//!
//! What it is not: only the root volume of an instance is a disk, security groups let everything through, instances
//! do not reach one another, and signatures are not checked.

mod answers;
mod bodies;
mod body;
mod call;
mod cloud;
mod disks;
mod fault;
mod proxy;
mod server;
mod source;

pub use call::{Call, Outcome};
pub use cloud::{Cloud, Left, Options, Times};
pub use disks::Tree;
pub use fault::{Condition, Effect, Hook, On};
pub use source::debian;
