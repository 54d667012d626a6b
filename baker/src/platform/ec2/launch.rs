//! Launching a builder, or a host that tests an image, and waiting until it answers.

use std::time::Duration;

use aws_sdk_ec2::operation::create_security_group::CreateSecurityGroupOutput;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification, Instance,
    InstanceInterruptionBehavior, InstanceLifecycleType, InstanceMarketOptionsRequest,
    InstanceMetadataEndpointState, InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification,
    InstanceStateName, InstanceType, IpPermission, IpRange, Ipv6Range, MarketType, ResourceType,
    ShutdownBehavior, SpotInstanceType, SpotMarketOptions, VolumeType,
};
use aws_smithy_types::base64;
use aws_smithy_types::retry::RetryConfig;

use super::call::{CallError, call};
use super::place::{Candidate, Placement};
use super::source::Ami;
use super::tags::Tags;
use super::wait::Look;
use super::{Ec2, address};
use crate::failure::{Failure, failed};
use crate::image::{Address, Ec2Builder, Ssh, Volume};
use crate::session::{Keys, Proxy, Reach, SshSession};

/// From the answer of `RunInstances` to a program on the builder; longer means that something keeps it from booting.
const BOOT_LIMIT: Duration = Duration::from_mins(10);

/// How long a launch is tried that AWS neither allows nor refuses.
const LAUNCH_LIMIT: Duration = Duration::from_mins(3);

/// Everything that is decided about a launch.
#[derive(Debug, Clone)]
pub(super) struct Launch<'a> {
    /// What is launched.
    pub(super) ami: &'a Ami,
    /// Where it can be.
    pub(super) placement: &'a Placement,
    /// How it is wanted.
    pub(super) settings: &'a Ec2Builder,
    /// Its security groups.
    pub(super) groups: &'a [String],
    /// What it is told at boot.
    pub(super) user_data: &'a str,
    /// What is written on it.
    pub(super) tags: &'a Tags,
    /// Makes the call one that can be repeated.
    pub(super) token: &'a str,
}

/// An instance that answers.
#[derive(Debug)]
pub(super) struct Running {
    /// Its id.
    pub(super) id: String,
    /// How it is reached.
    reach: Reach,
    /// The volumes that become the image, that it runs from first, each with its device.
    pub(super) volumes: Vec<(String, String)>,
    /// Whether it can be stopped; what is on Spot capacity cannot.
    pub(super) stops: bool,
}

impl Running {
    /// Its address, as it is reached.
    pub(super) fn address(&self) -> &str {
        &self.reach.address
    }
}

impl Ec2 {
    /// Makes a security group that admits `from`, and nobody else, to the bake's SSH server. Its name is that of the
    /// run, so making it twice is making it once.
    pub(super) async fn admit(
        &self,
        run: &str,
        vpc: &str,
        settings: &Ec2Builder,
        tags: &Tags,
    ) -> Result<String, Failure> {
        let about = format!("the security group `{run}` in {}", self.region);
        // Who is reached through Session Manager admits nobody.
        let from =
            if settings.ssh.session_manager { Vec::new() } else { self.admitted(settings, vpc).await? };
        let request = self
            .ec2
            .create_security_group()
            .group_name(run)
            .description("Admits baker to a builder")
            .vpc_id(vpc)
            .tag_specifications(tags.on(ResourceType::SecurityGroup));
        let made = call("ec2:CreateSecurityGroup", &about, request.send());
        let group = match self.making(made, CreateSecurityGroupOutput::group_id).await {
            Ok(made) => made.group_id.unwrap_or_default(),
            Err(error) if error.is("InvalidGroup.Duplicate") => {
                let named = aws_sdk_ec2::types::Filter::builder().name("group-name").values(run).build();
                let request = self.ec2.describe_security_groups().filters(named);
                let answer = call("ec2:DescribeSecurityGroups", &about, request.send()).await?;
                let group = answer.security_groups().first().and_then(|group| group.group_id());
                group.map(str::to_owned).ok_or_else(|| Failure::from(error))?
            }
            Err(error) => return Err(self.explained(error).await),
        };
        if from.is_empty() {
            return Ok(group);
        }
        let mut permission = IpPermission::builder()
            .ip_protocol("tcp")
            .from_port(settings.ssh.port.into())
            .to_port(settings.ssh.port.into());
        for network in &from {
            permission = if network.contains(':') {
                permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(network).build())
            } else {
                permission.ip_ranges(IpRange::builder().cidr_ip(network).build())
            };
        }
        let permission = permission.build();
        // A group that was just made may not be seen by the call that fills it.
        self.until(&format!("opening {about}"), Duration::from_mins(1), || async {
            let request = self
                .ec2
                .authorize_security_group_ingress()
                .group_id(&group)
                .ip_permissions(permission.clone());
            match call("ec2:AuthorizeSecurityGroupIngress", &about, request.send()).await {
                Ok(_) => Ok(Look::Done(())),
                Err(error) if error.is("InvalidPermission.Duplicate") => Ok(Look::Done(())),
                Err(error) => Err(error),
            }
        })
        .await?;
        Ok(group)
    }

    /// The networks that the security group admits.
    async fn admitted(&self, settings: &Ec2Builder, vpc: &str) -> Result<Vec<String>, Failure> {
        if !settings.ssh.admit.is_empty() {
            return Ok(settings.ssh.admit.clone());
        }
        if settings.ssh.address == Address::Private {
            let about = format!("the VPC `{vpc}` in {}", self.region);
            let answer =
                call("ec2:DescribeVpcs", &about, self.ec2.describe_vpcs().vpc_ids(vpc).send()).await?;
            let network = answer.vpcs().first().and_then(|vpc| vpc.cidr_block()).unwrap_or_default();
            return Ok(vec![address::towards(network).map_err(|error| {
                Failure::because(format!("failed to find this machine's address towards {about}"), &error)
                    .help("name the networks that are admitted with `admit` under `builder: ec2: ssh:`")
            })?]);
        }
        Ok(vec![address::seen_from_outside().await?])
    }

    /// Launches an instance where there is room for it.
    pub(super) async fn launch_anywhere(&self, launch: &Launch<'_>) -> Result<(String, Candidate), Failure> {
        let mut refused: Vec<String> = Vec::new();
        for (number, candidate) in launch.placement.candidates.iter().enumerate() {
            let token = format!("{}-{number}", launch.token);
            let what = format!("launching {candidate}");
            let made = self.until(&what, LAUNCH_LIMIT, || async {
                let made = self.run_instances(launch, candidate, &token, false);
                match self.making(made, |id| Some(id)).await {
                    Ok(id) => Ok(Look::Done(Ok(id))),
                    Err(error) if error.may_pass() => Err(error),
                    Err(error) => Ok(Look::Done(Err(error))),
                }
            });
            match made.await? {
                Ok(id) => return Ok((id, candidate.clone())),
                Err(error) if error.is_no_capacity() => {
                    let code = error.code.as_deref().unwrap_or_default();
                    refused.push(format!("\n  {candidate}: {} ({code})", error.message.trim()));
                }
                Err(error) => return Err(self.explained(error).await),
            }
        }
        Err(Failure::new(format!("there is no room for the builder:{}", refused.concat()))
            .help("list more `instance_types`, or subnets in more zones, under `builder: ec2:`"))
    }

    /// One call of `RunInstances`. As a dry run it always fails; with the code `DryRunOperation` it would have worked.
    pub(super) async fn run_instances(
        &self,
        launch: &Launch<'_>,
        candidate: &Candidate,
        token: &str,
        dry_run: bool,
    ) -> Result<String, CallError> {
        let Launch { ami, settings, groups, user_data, tags, .. } = launch;
        let Ec2Builder { volume: root, volumes, scratch_volumes, .. } = settings;
        let root = Volume { size: root.size.or(Some(ami.root_size)), ..root.clone() };
        let volumes = volumes.iter().chain(scratch_volumes).chain([(&ami.root_device, &root)]);
        let devices = volumes.map(|(device, volume)| {
            BlockDeviceMapping::builder().device_name(device).ebs(new_volume(volume)).build()
        });
        let market = candidate.spot.then(|| {
            // Of a Spot request that is not repeated nothing stays when its instance has ended.
            let once = SpotMarketOptions::builder()
                .spot_instance_type(SpotInstanceType::OneTime)
                .instance_interruption_behavior(InstanceInterruptionBehavior::Terminate)
                .build();
            InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).spot_options(once).build()
        });
        let interface = InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .subnet_id(&candidate.subnet)
            .set_groups((!groups.is_empty()).then(|| groups.to_vec()))
            .set_associate_public_ip_address(settings.public_address)
            .delete_on_termination(true)
            .build();
        let metadata = InstanceMetadataOptionsRequest::builder()
            .http_endpoint(InstanceMetadataEndpointState::Enabled)
            .http_tokens(HttpTokensState::Required)
            .http_put_response_hop_limit(1)
            .build();
        let profile = settings.instance_profile.as_ref().map(|profile| {
            let builder = IamInstanceProfileSpecification::builder();
            if profile.starts_with("arn:") { builder.arn(profile) } else { builder.name(profile) }.build()
        });
        let request = self
            .ec2
            .run_instances()
            .image_id(&ami.id)
            .instance_type(InstanceType::from(candidate.instance_type.as_str()))
            .min_count(1)
            .max_count(1)
            .client_token(token)
            .set_block_device_mappings(Some(devices.collect()))
            .set_instance_market_options(market)
            .network_interfaces(interface)
            .metadata_options(metadata)
            .set_iam_instance_profile(profile)
            .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
            .user_data(base64::encode(user_data))
            .tag_specifications(tags.on(ResourceType::Instance))
            .tag_specifications(tags.on(ResourceType::Volume))
            .tag_specifications(tags.on(ResourceType::NetworkInterface));
        let request = if candidate.spot {
            request.tag_specifications(tags.on(ResourceType::SpotInstancesRequest))
        } else {
            request
        };
        let request = if dry_run { request.dry_run(true) } else { request };
        // Where there is no room the answer has the status 500, and the SDK would ask again for two minutes.
        let once = aws_sdk_ec2::config::Config::builder().retry_config(RetryConfig::disabled());
        let request = request.customize().config_override(once);
        let answer = call("ec2:RunInstances", &candidate.to_string(), request.send()).await?;
        let id = answer.instances().first().and_then(Instance::instance_id);
        Ok(id.unwrap_or_default().to_owned())
    }

    /// Waits until a program can be run on an instance.
    pub(super) async fn until_it_answers(
        &self,
        id: &str,
        settings: &Ec2Builder,
        keys: &Keys,
    ) -> Result<(Running, SshSession), Failure> {
        let what = format!("an address for `{id}`");
        let instance = self.until(&what, BOOT_LIMIT, || async {
            let instance = self.instance(id).await?;
            Ok(match (gone(&instance), reachable(&instance, settings.ssh.address)) {
                (Some(why), _) => Look::Never(why),
                (None, Some(address)) => Look::Done((address, instance)),
                (None, None) => Look::NotYet(format!("it is {}", state(&instance))),
            })
        });
        let (address, instance) = instance.await?;
        let reach = Reach {
            address,
            port: settings.ssh.port,
            proxy: match &settings.ssh {
                Ssh { session_manager: true, .. } => {
                    self.through_session_manager(id).map(Proxy::SessionManager)
                }
                Ssh { proxy_jump: Some(host), .. } => Some(Proxy::Jump(host.clone())),
                Ssh { proxy_command, .. } => {
                    proxy_command.as_ref().map(|command| Proxy::Command(command.replace("%i", id)))
                }
            },
        };
        let session =
            SshSession::new(id, &reach, keys).map_err(failed("write how the builder is reached"))?;
        let what = format!("the SSH server on `{id}` at {}:{}", reach.address, reach.port);
        self.until(&what, BOOT_LIMIT, || async {
            let why = match session.greet().await {
                Ok(Ok(())) => return Ok(Look::Done(())),
                Err(error) => return Ok(Look::Never(Failure::because("failed to connect", &error))),
                Ok(Err(why)) => why,
            };
            let instance = self.instance(id).await?;
            Ok(gone(&instance).map_or(Look::NotYet(why), Look::Never))
        })
        .await
        .map_err(|failure| {
            let help = "look whether the security groups and the network let this machine in, and whether \
                        cloud-init runs in the source AMI: `aws ec2 get-console-output` shows its boot";
            if failure.help.is_some() { failure } else { failure.help(help) }
        })?;
        let mut devices = vec![instance.root_device_name().unwrap_or_default()];
        devices.extend(settings.volumes.keys().map(String::as_str));
        let volumes = match attached(&instance, &devices) {
            Some(volumes) => volumes,
            // They may not have been attached when the address was seen.
            None => attached(&self.instance(id).await?, &devices).unwrap_or_default(),
        };
        let stops = instance.instance_lifecycle() != Some(&InstanceLifecycleType::Spot);
        Ok((Running { id: id.to_owned(), reach, volumes, stops }, session))
    }

    /// Makes the keys of a run, in a folder that goes with it.
    pub(super) async fn keys(folder: &std::path::Path) -> Result<Keys, Failure> {
        Keys::generate(&folder.join("ssh")).await.map_err(failed("make the keys of the run"))
    }
}

/// Its state, by the name that EC2 has for it.
pub(super) fn state(instance: &Instance) -> &str {
    instance.state().and_then(|state| state.name()).map_or("unknown", InstanceStateName::as_str)
}

/// Why an instance will not run any more; nothing if it does or will.
fn gone(instance: &Instance) -> Option<Failure> {
    let name = instance.state().and_then(|state| state.name())?;
    if !matches!(
        name,
        InstanceStateName::ShuttingDown
            | InstanceStateName::Terminated
            | InstanceStateName::Stopping
            | InstanceStateName::Stopped
    ) {
        return None;
    }
    let reason = instance.state_reason().and_then(|reason| reason.message());
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let id = instance.instance_id().unwrap_or_default();
    Some(Failure::new(format!("the instance `{id}` is {name} before it could be used{reason}")))
}

fn reachable(instance: &Instance, wanted: Address) -> Option<String> {
    let some = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let (public, private) = (some(instance.public_ip_address()), some(instance.private_ip_address()));
    match wanted {
        Address::Public => public,
        Address::Private => private,
        // It gets the public address, if any, when it runs.
        Address::Any if state(instance) == "pending" => public,
        Address::Any => public.or(private),
    }
}

/// The volumes of devices, in their order; nothing unless all are attached.
fn attached(instance: &Instance, devices: &[&str]) -> Option<Vec<(String, String)>> {
    let mappings = instance.block_device_mappings();
    let volume = |device: &&str| {
        let mapping = mappings.iter().find(|mapping| mapping.device_name() == Some(device))?;
        Some(((*device).to_owned(), mapping.ebs()?.volume_id()?.to_owned()))
    };
    devices.iter().map(volume).collect()
}

fn new_volume(volume: &Volume) -> EbsBlockDevice {
    EbsBlockDevice::builder()
        .set_volume_size(volume.size)
        .volume_type(VolumeType::from(volume.kind.name()))
        .set_iops(volume.iops)
        .set_throughput(volume.throughput)
        .set_encrypted(volume.encrypted.then_some(true))
        .set_kms_key_id(volume.kms_key.clone())
        .delete_on_termination(true)
        .build()
}
