//! The test bed: what a cloud is to a host, on one machine and with real parts.
//!
//! A [`world::World`] is a network of its own: nothing in it reaches the machine's own network or any other.
//! In it are the instance metadata service at 169.254.169.254 ([`metadata`]), a stand-in for AWS
//! ([`aws`], and [`front`] for what it lacks), and hosts that are booted from images ([`host`]); a [`cloud::Cloud`] is all of
//! them together. An [`ec2::Cloud`] is one that images are baked in.
//! A [`workspace::Workspace`] is a folder of image definitions that baker is run in.
//! [`applied`] is a recipe that such a host's agent applied, and how that ended.
//! [`app`] is a program that is configured at boot, and [`race`] another user who looks for its secret.
//! A [`person::Person`] logs in to hosts. A [`judge`] has scanners that we did not write look at an image. A [`machine::Machine`] boots one
//! with a kernel of its own.
//! [`vagrant`] is a virtual machine with a kernel of its own.
//! [`apt`] makes repositories of packages for their recipes, and [`https`] serves what recipes fetch.

pub mod app;
pub mod applied;
pub mod apt;
pub mod aws;
pub mod binaries;
pub mod cloud;
pub mod ec2;
pub mod front;
pub mod host;
pub mod http;
pub mod https;
pub mod judge;
pub mod machine;
pub mod metadata;
pub mod person;
pub mod race;
pub mod vagrant;
pub mod workspace;
pub mod world;
