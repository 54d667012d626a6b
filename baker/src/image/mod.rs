//! Image definitions: what was written, and what is resolved from it.

mod alone;
mod definition;
mod ec2;
mod leaks;
mod lock;
mod resolve;
mod source;

pub use alone::Named;
pub use definition::{Definition, Test};
pub use ec2::{
    Address, BuilderSettings, Ec2Builder, Ec2Publish, PublishSettings, Ssh, SubnetChoice, Volume, VolumeType,
};
pub use leaks::AllowedLeak;
pub use lock::Lock;
pub use resolve::{BakePlan, Chain, Lookup};
pub(crate) use resolve::{bundle_of, recorded};
pub use source::{AmiSource, Architecture, Builder, Ec2Source, LocalSource, Release, Source, Suite};
