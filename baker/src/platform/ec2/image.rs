//! From a builder to an AMI that nobody can find yet.

use std::time::Duration;

use aws_sdk_ec2::operation::create_snapshot::CreateSnapshotOutput;
use aws_sdk_ec2::operation::register_image::RegisterImageOutput;
use aws_sdk_ec2::types::{
    ArchitectureValues, BlockDeviceMapping, BootModeValues, EbsBlockDevice, Filter, Image, ImageState,
    ImdsSupportValues, InstanceStateName, ResourceType, Snapshot, SnapshotState, VolumeType,
};

use aws_smithy_types::retry::RetryConfig;

use super::call::{CallError, call};
use super::source::{Ami, snapshots_of};
use super::tags::{self, Tags};
use super::wait::Look;
use super::{Ec2, launch};
use crate::failure::Failure;
use crate::image::Volume;

/// How long a snapshot may take. AWS: "can take several hours" for large volumes that changed much.
const SNAPSHOT_LIMIT: Duration = Duration::from_hours(4);

/// How long an AMI of a complete snapshot may take.
const IMAGE_LIMIT: Duration = Duration::from_hours(1);

/// How long an instance may take to stop.
const STOP_LIMIT: Duration = Duration::from_mins(10);

impl Ec2 {
    /// Stops a builder as it is: what is on its disk was synchronised, and nothing may be written any more.
    pub(super) async fn stop(&self, id: &str) -> Result<(), Failure> {
        let about = format!("`{id}` in {}", self.region);
        self.until(&format!("stopping {about}"), STOP_LIMIT, || async {
            let request = self.ec2.stop_instances().instance_ids(id).skip_os_shutdown(true);
            match call("ec2:StopInstances", &about, request.send()).await {
                Ok(_) => Ok(Look::Done(())),
                // It answers before it counts as running.
                Err(error) if error.is("IncorrectInstanceState") => Ok(Look::NotYet(error.message)),
                Err(error) if error.may_pass() => Err(error),
                Err(error) => Ok(Look::Refused(error)),
            }
        })
        .await?;
        self.until(&format!("stopping {about}"), STOP_LIMIT, || async {
            let instance = self.instance(id).await?;
            Ok(match instance.state().and_then(|state| state.name()) {
                Some(InstanceStateName::Stopped) => Look::Done(()),
                Some(InstanceStateName::Terminated | InstanceStateName::ShuttingDown) => {
                    Look::Never(Failure::new(format!("{about} ended before its volume could be kept")))
                }
                _ => Look::NotYet(format!("it is {}", launch::state(&instance))),
            })
        })
        .await
    }

    /// Begins a snapshot of a volume, which has what is on the volume now.
    pub(super) async fn begin_snapshot(
        &self,
        volume: &str,
        run: &str,
        tags: &Tags,
    ) -> Result<String, Failure> {
        let about = format!("the volume `{volume}` in {}", self.region);
        self.create_snapshot(volume, &about, run, tags).await
    }

    /// Waits until a snapshot is complete.
    pub(super) async fn until_complete(&self, id: &str) -> Result<(), Failure> {
        let about = format!("the snapshot `{id}` in {}", self.region);
        self.until(&about, SNAPSHOT_LIMIT, || async {
            let snapshot = self.snapshot(id).await?;
            Ok(match snapshot.state() {
                Some(SnapshotState::Completed) => Look::Done(()),
                Some(SnapshotState::Error) => {
                    let why = snapshot.state_message().unwrap_or("AWS does not say why");
                    Look::Never(Failure::new(format!("{about} failed: {why}")))
                }
                _ => Look::NotYet(format!("it is at {}", snapshot.progress().unwrap_or("0%"))),
            })
        })
        .await
    }

    /// The call has no token that makes it one, so when its answer is lost the snapshot is looked for.
    async fn create_snapshot(
        &self,
        volume: &str,
        about: &str,
        run: &str,
        tags: &Tags,
    ) -> Result<String, Failure> {
        let once = aws_sdk_ec2::config::Config::builder().retry_config(RetryConfig::disabled());
        self.until(&format!("beginning a snapshot of {about}"), Duration::from_mins(5), || async {
            let request = self
                .ec2
                .create_snapshot()
                .volume_id(volume)
                .description(format!("baker {run}"))
                .tag_specifications(tags.on(ResourceType::Snapshot));
            let request = request.customize().config_override(once.clone());
            let made = call("ec2:CreateSnapshot", about, request.send());
            match self.making(made, CreateSnapshotOutput::snapshot_id).await {
                Ok(snapshot) => Ok(Look::Done(snapshot.snapshot_id.unwrap_or_default())),
                Err(error) if error.is_unknown() => match self.begun_snapshot(volume, about, run).await? {
                    Some(id) => Ok(Look::Done(id)),
                    None => Ok(Look::NotYet(error.message)),
                },
                Err(error) if error.is_throttled() => Ok(Look::NotYet(error.message)),
                Err(error) => Ok(Look::Refused(error)),
            }
        })
        .await
    }

    /// A snapshot that a call without an answer began. It may not be seen at once.
    async fn begun_snapshot(
        &self,
        volume: &str,
        about: &str,
        run: &str,
    ) -> Result<Option<String>, CallError> {
        const LOOKS: usize = 5;
        for _ in 0..LOOKS {
            let volume = Filter::builder().name("volume-id").values(volume).build();
            let request =
                self.ec2.describe_snapshots().filters(volume).filters(tags::tagged(tags::RUN, &[run]));
            let answer = match call("ec2:DescribeSnapshots", about, request.send()).await {
                Err(error) if error.is_not_found() => Vec::new(),
                answer => answer?.snapshots.unwrap_or_default(),
            };
            if let Some(id) = answer.first().and_then(Snapshot::snapshot_id) {
                return Ok(Some(id.to_owned()));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(None)
    }

    /// Makes an AMI of snapshots, that of the root volume first, each with its device and what volumes of it are. It
    /// has everything that it will ever be at its birth.
    pub(super) async fn register(
        &self,
        name: &str,
        description: &str,
        source: &Ami,
        parts: &[(String, &Volume, String)],
        tags: &Tags,
    ) -> Result<String, Failure> {
        let about = format!("the AMI `{name}` in {}", self.region);
        let devices = parts.iter().map(|(device, volume, snapshot)| {
            let volume = EbsBlockDevice::builder()
                .snapshot_id(snapshot)
                .volume_type(VolumeType::from(volume.kind.name()))
                .set_iops(volume.iops)
                .set_throughput(volume.throughput)
                .delete_on_termination(true)
                .build();
            BlockDeviceMapping::builder().device_name(device).ebs(volume).build()
        });
        let request = self
            .ec2
            .register_image()
            .name(name)
            .description(description)
            .architecture(ArchitectureValues::from(source.architecture.as_str()))
            .root_device_name(&source.root_device)
            .set_block_device_mappings(Some(devices.collect()))
            .virtualization_type("hvm")
            .ena_support(source.ena)
            .sriov_net_support("simple")
            .imds_support(ImdsSupportValues::V20)
            .set_boot_mode(source.boot_mode.as_deref().map(BootModeValues::from))
            .tag_specifications(tags.on(ResourceType::Image));
        let made = self
            .making(call("ec2:RegisterImage", &about, request.send()), RegisterImageOutput::image_id)
            .await;
        let id = match made {
            Ok(made) => made.image_id.unwrap_or_default(),
            // The first answer may have been lost: it is ours if it has the snapshots.
            Err(error) if error.is("InvalidAMIName.Duplicate") => {
                let named = Filter::builder().name("name").values(name).build();
                let images = self.images(&[], &[named], Some("self")).await?;
                let ours = |image: &&Image| {
                    let has = snapshots_of(image);
                    parts.iter().all(|(_, _, snapshot)| has.contains(snapshot))
                };
                let image = images.iter().find(ours);
                let id = image.and_then(Image::image_id).map(str::to_owned);
                id.ok_or_else(|| {
                    Failure::from(error).help("give it another name with `publish: { ec2: { name: ... } }`")
                })?
            }
            Err(error) => return Err(self.explained(error).await),
        };
        self.until_available(&id).await?;
        Ok(id)
    }

    /// Waits until an AMI can be launched, and returns what it is then.
    pub(super) async fn until_available(&self, id: &str) -> Result<Image, Failure> {
        let about = format!("the AMI `{id}` in {}", self.region);
        self.until(&about, IMAGE_LIMIT, || async {
            let image = self.image(id).await?;
            Ok(match image.state() {
                Some(ImageState::Available) => Look::Done(image.clone()),
                Some(
                    ImageState::Failed | ImageState::Error | ImageState::Invalid | ImageState::Deregistered,
                ) => {
                    let why = image.state_reason().and_then(|reason| reason.message());
                    let why = why.unwrap_or("AWS does not say why");
                    Look::Never(Failure::new(format!("{about} failed: {why}")))
                }
                other => Look::NotYet(format!("it is {}", other.map_or("unknown", ImageState::as_str))),
            })
        })
        .await
    }
}
