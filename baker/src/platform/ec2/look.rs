//! What waits look at: instances, snapshots and images by id, in one call for all bakes of the process.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use aws_sdk_ec2::types::{Filter, Image, Instance, Reservation, Snapshot};
use tokio::time::Instant;

use super::Ec2;
use super::batch::Batch;
use super::call::{CallError, call};

/// The looks of one region.
#[derive(Debug, Default)]
pub(super) struct Looks {
    instances: Batch<Instance>,
    snapshots: Batch<Snapshot>,
    images: Batch<Image>,
}

/// What all bakes of a process share.
#[derive(Debug)]
pub(super) struct Shared {
    /// When waits look is counted from here.
    pub(super) began: Instant,
    /// The program that runs: it can be the way to a builder, too.
    pub(super) program: Option<PathBuf>,
    regions: RefCell<BTreeMap<String, Rc<Looks>>>,
}

impl Shared {
    /// Of a process that has looked at nothing yet.
    pub(super) fn new(program: Option<PathBuf>) -> Self {
        Self { began: Instant::now(), program, regions: RefCell::default() }
    }

    /// The looks of a region.
    pub(super) fn looks(&self, region: &str) -> Rc<Looks> {
        Rc::clone(self.regions.borrow_mut().entry(region.to_owned()).or_default())
    }
}

/// By id rather than with ids, so that one that is not seen yet does not fail the call for all (at most 200, EC2,
/// "Filter").
fn ids(name: &str, ids: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(ids)).build()
}

fn by_id<T>(found: impl IntoIterator<Item = T>, id: impl Fn(&T) -> Option<&str>) -> BTreeMap<String, T> {
    let pair = |one: T| Some((id(&one)?.to_owned(), one));
    found.into_iter().filter_map(pair).collect()
}

impl Ec2 {
    /// What an instance is now.
    pub(super) async fn instance(&self, id: &str) -> Result<Instance, CallError> {
        let about = format!("`{id}` in {}", self.region);
        let found = self.looks.instances.get(id, async |wanted| {
            let request = self.ec2.describe_instances().filters(ids("instance-id", wanted));
            let about = format!("instances in {}", self.region);
            let answer = call("ec2:DescribeInstances", &about, request.send()).await?;
            let reservations = answer.reservations.unwrap_or_default().into_iter();
            let instances =
                reservations.flat_map(|Reservation { instances, .. }| instances.unwrap_or_default());
            Ok(by_id(instances, Instance::instance_id))
        });
        found.await?.ok_or_else(|| CallError::not_there("ec2:DescribeInstances", about))
    }

    /// What a snapshot is now.
    pub(super) async fn snapshot(&self, id: &str) -> Result<Snapshot, CallError> {
        let about = format!("`{id}` in {}", self.region);
        let found = self.looks.snapshots.get(id, async |wanted| {
            let request = self.ec2.describe_snapshots().filters(ids("snapshot-id", wanted));
            let about = format!("snapshots in {}", self.region);
            let answer = call("ec2:DescribeSnapshots", &about, request.send()).await?;
            Ok(by_id(answer.snapshots.unwrap_or_default(), Snapshot::snapshot_id))
        });
        found.await?.ok_or_else(|| CallError::not_there("ec2:DescribeSnapshots", about))
    }

    /// What an AMI is now.
    pub(super) async fn image(&self, id: &str) -> Result<Image, CallError> {
        let about = format!("`{id}` in {}", self.region);
        let found = self.looks.images.get(id, async |wanted| {
            let found = self.images(&[], &[ids("image-id", wanted)], None).await?;
            Ok(by_id(found, Image::image_id))
        });
        found.await?.ok_or_else(|| CallError::not_there("ec2:DescribeImages", about))
    }
}
