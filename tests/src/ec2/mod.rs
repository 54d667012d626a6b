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
//! On the disk of an instance with a body is what was synchronised there (`fsync`, `syncfs`), and what the kernel wrote by
//! itself. `StopInstances` shuts down in order, so everything is on it; with `SkipOsShutdown` the power is cut.
//! A snapshot has what is on the disk when it is created. That of an instance that runs is more than AWS promises: the file
//! system is frozen for it, which writes everything out, unless somebody inside has frozen it already.
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
pub(crate) use disks::{leave_mounts, make as make_disk, mount_disk};
pub use fault::{Condition, Effect, Hook, On};
pub use source::debian;
