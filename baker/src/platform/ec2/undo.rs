//! Undoing: what has the tags of a run and is only for the bake goes, whatever became of the run.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use aws_sdk_ec2::types::{Filter, Tag, VolumeState};

use super::call::call;
use super::tags;
use super::wait::Look;
use super::{Ec2, Memory};
use crate::failure::Failure;

/// How long an instance may take to end.
const END_LIMIT: Duration = Duration::from_mins(10);

/// What was just made may not be seen by the next call, so nothing counts as gone that was looked for only once.
const SECOND_LOOK: Duration = Duration::from_secs(3);

/// What AWS says of something that something else holds on to.
const IN_USE: [&str; 4] =
    ["DependencyViolation", "InvalidSnapshot.InUse", "VolumeInUse", "InvalidGroup.InUse"];

/// What kind of thing is left, in the order in which they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Instance,
    Image,
    Snapshot,
    Volume,
    SecurityGroup,
}

/// Something in the account that only a bake needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    kind: Kind,
    id: String,
    region: String,
    /// The run that made it.
    pub run: String,
    /// Who made it.
    pub owner: String,
    /// Until when it may be needed, as RFC 3339.
    pub expires: String,
}

impl fmt::Display for Leftover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Instance => "the instance",
            Kind::Image => "the AMI",
            Kind::Snapshot => "the snapshot",
            Kind::Volume => "the volume",
            Kind::SecurityGroup => "the security group",
        };
        write!(formatter, "{kind} {} in {}", self.id, self.region)
    }
}

impl Leftover {
    /// Whether nothing can need it any more.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        humantime::parse_rfc3339(&self.expires).is_ok_and(|expires| expires < now)
    }
}

impl Ec2 {
    /// Everything that has the tags of a run, or of any, and is only for the bake.
    ///
    /// # Errors
    /// When AWS does not tell.
    pub async fn leftovers(&self, run: Option<&str>) -> Result<Vec<Leftover>, Failure> {
        let mut filters = vec![tags::tagged(tags::TEMPORARY, &[])];
        filters.extend(run.map(|run| tags::tagged(tags::RUN, &[run])));
        let filters = Some(filters);
        let about = format!("what bakes made in {}", self.region);
        let alive = Filter::builder()
            .name("instance-state-name")
            .set_values(Some(
                ["pending", "running", "shutting-down", "stopping", "stopped"].map(str::to_owned).into(),
            ))
            .build();
        let instances = self.ec2.describe_instances().set_filters(filters.clone()).filters(alive);
        let instances = instances.into_paginator().items().send().collect::<Result<Vec<_>, _>>();
        let images = self.ec2.describe_images().owners("self").set_filters(filters.clone());
        let snapshots = self.ec2.describe_snapshots().owner_ids("self").set_filters(filters.clone());
        let snapshots = snapshots.into_paginator().items().send().collect::<Result<Vec<_>, _>>();
        let volumes = self.ec2.describe_volumes().set_filters(filters.clone());
        let volumes = volumes.into_paginator().items().send().collect::<Result<Vec<_>, _>>();
        let groups = self.ec2.describe_security_groups().set_filters(filters);
        let groups = groups.into_paginator().items().send().collect::<Result<Vec<_>, _>>();
        let (instances, images, snapshots, volumes, groups) = tokio::try_join!(
            call("ec2:DescribeInstances", &about, instances),
            call("ec2:DescribeImages", &about, images.send()),
            call("ec2:DescribeSnapshots", &about, snapshots),
            call("ec2:DescribeVolumes", &about, volumes),
            call("ec2:DescribeSecurityGroups", &about, groups),
        )?;
        let mut found = Vec::new();
        let mut add = |kind, id: Option<&str>, tags: &[Tag]| {
            let Some(id) = id else { return };
            // Whatever a filter let through: only what says that it is of a bake, and only for it, may go.
            let (Some(of), Some(expires)) =
                (tags::value(tags, tags::RUN), tags::value(tags, tags::TEMPORARY))
            else {
                return;
            };
            if run.is_some_and(|run| run != of) {
                return;
            }
            found.push(Leftover {
                kind,
                id: id.to_owned(),
                region: self.region.clone(),
                run: of.to_owned(),
                owner: tags::value(tags, tags::OWNER).unwrap_or_default().to_owned(),
                expires: expires.to_owned(),
            });
        };
        for instance in instances.iter().flat_map(aws_sdk_ec2::types::Reservation::instances) {
            add(Kind::Instance, instance.instance_id(), instance.tags());
        }
        for image in images.images() {
            add(Kind::Image, image.image_id(), image.tags());
        }
        for snapshot in &snapshots {
            add(Kind::Snapshot, snapshot.snapshot_id(), snapshot.tags());
        }
        for volume in volumes.iter().filter(|volume| volume.state() != Some(&VolumeState::Deleting)) {
            add(Kind::Volume, volume.volume_id(), volume.tags());
        }
        for group in &groups {
            add(Kind::SecurityGroup, group.group_id(), group.tags());
        }
        let kept = self.memory.kept.borrow();
        found.retain(|leftover| !kept.contains(&leftover.id));
        found.sort();
        Ok(found)
    }

    /// Makes sure that nothing of a run is left that only the bake needs.
    pub(super) async fn undo_run(&self, run: &str) -> Result<(), Failure> {
        let mut seen = BTreeSet::new();
        let mut looked_twice = false;
        let left = loop {
            let mut found = self.leftovers(Some(run)).await;
            if found.is_err() {
                // One answer that went wrong is no reason to leave everything.
                tokio::time::sleep(SECOND_LOOK).await;
                found = self.leftovers(Some(run)).await;
            }
            let found = found?;
            seen.extend(found.iter().map(|one| one.id.clone()));
            if found.is_empty() {
                if looked_twice || self.has_seen_all(&seen) {
                    return Ok(());
                }
                looked_twice = true;
                tokio::time::sleep(SECOND_LOOK).await;
                continue;
            }
            let left = self.remove(found).await;
            if !left.is_empty() {
                break left;
            }
        };
        let left: Vec<String> = left.into_iter().map(|why| format!("\n  {why}")).collect();
        Err(Failure::new(format!("this is left of `{run}`:{}", left.concat())))
    }

    /// Whether everything that this process made, in whatever region, was seen or stays. A process that made nothing
    /// undoes what another one made, and does not know.
    fn has_seen_all(&self, seen: &BTreeSet<String>) -> bool {
        let Memory { made, kept, unanswered } = &*self.memory;
        let (made, kept) = (made.borrow(), kept.borrow());
        unanswered.get() == 0
            && !made.is_empty()
            && made.iter().all(|id| seen.contains(id) || kept.contains(id))
    }

    /// Removes what can be removed, one kind after the other, and returns what is left and why.
    pub async fn remove(&self, found: Vec<Leftover>) -> BTreeSet<String> {
        let mut left = BTreeSet::new();
        let instances: Vec<&Leftover> = found.iter().filter(|one| one.kind == Kind::Instance).collect();
        let ended = self.end(&instances).await;
        if let Err(failure) = &ended {
            left.extend(instances.iter().map(|one| format!("{one}: {failure}")));
        }
        for one in found.iter().filter(|one| one.kind != Kind::Instance) {
            if let Err(failure) = self.remove_one(one, ended.is_ok()).await {
                left.insert(format!("{one}: {failure}"));
            }
        }
        left
    }

    /// Has an instance end that is not needed any more, while the bake goes on. Undoing makes sure that it did.
    pub(super) async fn begin_to_end(&self, id: &str) {
        let about = format!("`{id}` in {}", self.region);
        let request = self.ec2.terminate_instances().instance_ids(id);
        if call("ec2:TerminateInstances", &about, request.send()).await.is_ok() {
            // It may be gone, and so not be seen, when everything is undone.
            self.memory.made.borrow_mut().remove(id);
        }
    }

    /// Ends instances, and waits until they are: their volumes go with them, and their security groups only then can.
    async fn end(&self, instances: &[&Leftover]) -> Result<(), Failure> {
        if instances.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = instances.iter().map(|one| one.id.clone()).collect();
        let about = format!("{} in {}", ids.join(", "), self.region);
        let request = self.ec2.terminate_instances().set_instance_ids(Some(ids.clone()));
        match call("ec2:TerminateInstances", &about, request.send()).await {
            Err(error) if !error.is_not_found() => return Err(self.explained(error).await),
            _ => {}
        }
        for id in &ids {
            self.until(&format!("ending `{id}`"), END_LIMIT, || async {
                match self.instance(id).await {
                    Err(error) if error.is_not_found() => Ok(Look::Done(())),
                    Err(error) => Err(error),
                    Ok(instance) => Ok(match super::launch::state(&instance) {
                        "terminated" => Look::Done(()),
                        other => Look::NotYet(format!("it is {other}")),
                    }),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Removes one thing that is not an instance. What something else holds on to is tried again, if that is to go.
    async fn remove_one(&self, leftover: &Leftover, patient: bool) -> Result<(), Failure> {
        let about = leftover.to_string();
        let id = &leftover.id;
        self.until(&format!("removing {about}"), Duration::from_mins(5), || async {
            let result = match leftover.kind {
                Kind::Instance => Ok(()),
                Kind::Image => {
                    let request = self.ec2.deregister_image().image_id(id);
                    call("ec2:DeregisterImage", &about, request.send()).await.map(drop)
                }
                Kind::Snapshot => {
                    let request = self.ec2.delete_snapshot().snapshot_id(id);
                    call("ec2:DeleteSnapshot", &about, request.send()).await.map(drop)
                }
                Kind::Volume => {
                    let request = self.ec2.delete_volume().volume_id(id);
                    call("ec2:DeleteVolume", &about, request.send()).await.map(drop)
                }
                Kind::SecurityGroup => {
                    let request = self.ec2.delete_security_group().group_id(id);
                    call("ec2:DeleteSecurityGroup", &about, request.send()).await.map(drop)
                }
            };
            match result {
                Ok(()) => Ok(Look::Done(())),
                Err(error) if error.is_not_found() => Ok(Look::Done(())),
                Err(error) if patient && IN_USE.iter().any(|code| error.is(code)) => {
                    Ok(Look::NotYet(error.message))
                }
                Err(error) if error.may_pass() => Err(error),
                Err(error) => Ok(Look::Refused(error)),
            }
        })
        .await
    }
}
