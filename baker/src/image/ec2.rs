//! How an image is baked and published on EC2, as it is written.

use std::collections::BTreeMap;
use std::time::Duration;

use recipes::duration::Span;
use serde::Deserialize;

/// `builder`: what images are baked on, for each platform.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuilderSettings {
    /// On EC2.
    #[serde(default)]
    pub ec2: Ec2Builder,
}

/// The builder instance.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ec2Builder {
    /// Instance types. The next is tried where one has no capacity; all of `subnet` before that.
    pub instance_types: Vec<String>,
    /// Where it is launched; the default subnets of the default VPC if not said.
    pub subnet: Option<SubnetChoice>,
    /// Security groups that it gets. They have to admit this machine to [`Ssh::port`]. Without any, a temporary
    /// one is made.
    pub security_groups: Vec<String>,
    /// The name or ARN of the instance profile whose role it has; none if not said.
    pub instance_profile: Option<String>,
    /// Whether it gets a public address; as the subnet says, if not said.
    pub public_address: Option<bool>,
    /// The volume that becomes the image.
    pub volume: Volume,
    /// Further volumes that become a part of the image, by the names of their devices, such as `/dev/sdf`.
    pub volumes: BTreeMap<String, Volume>,
    /// Volumes that only the builder has, by the names of their devices.
    pub scratch_volumes: BTreeMap<String, Volume>,
    /// Whether Spot capacity is tried first, for every type in every subnet, and On-Demand where there is none. A builder
    /// on Spot capacity cannot be stopped, so its image is made as with `quiesce`.
    pub spot: bool,
    /// Whether the snapshot is made while the builder runs, with its file systems frozen, and not after it was
    /// stopped. That saves the time to stop.
    pub quiesce: bool,
    /// How it is reached.
    pub ssh: Ssh,
    /// Tags of everything that only the bake needs.
    pub tags: BTreeMap<String, String>,
    /// How long it may live. It ends itself after that, whatever became of baker.
    pub time_limit: Span,
}

/// Which subnets: by exactly one of `id` and `tags`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum SubnetChoice {
    /// The one with this id.
    Id(String),
    /// All that have these tags.
    Tags(BTreeMap<String, String>),
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Volume {
    /// Its size in GiB. That of a root volume is the source AMI's if not said; any other has to say it.
    pub size: Option<i32>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: VolumeType,
    /// I/O operations per second; the type's own if not said.
    pub iops: Option<i32>,
    /// Throughput in MiB/s; the type's own if not said.
    pub throughput: Option<i32>,
    /// Whether it is encrypted, and so the image.
    pub encrypted: bool,
    /// The id, alias or ARN of the KMS key; the account's key for EBS if not said. An image that is encrypted with that
    /// one cannot be shared.
    pub kms_key: Option<String>,
}

/// The types of volumes that can be a root and are worth having.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeType {
    /// General purpose SSD, third generation.
    #[default]
    Gp3,
    /// General purpose SSD, second generation.
    Gp2,
    /// Provisioned IOPS SSD, second generation.
    Io2,
}

impl VolumeType {
    /// The name that EC2 has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gp3 => "gp3",
            Self::Gp2 => "gp2",
            Self::Io2 => "io2",
        }
    }
}

/// How the builder is reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// The port of the bake's own SSH server. It is not the one that the image's server has, so recipes may
    /// do to that what they like.
    pub port: u16,
    /// Which of its addresses.
    pub address: Address,
    /// The networks, as CIDR, that the temporary security group admits; this machine's address if not said.
    pub admit: Vec<String>,
    /// A host to jump through, as ssh(1) `-J` has it.
    pub proxy_jump: Option<String>,
    /// A program whose input and output is the connection, as `ProxyCommand` in `ssh_config(5)`. `%i` is the
    /// instance's id, `%p` the port.
    pub proxy_command: Option<String>,
    /// Whether it is reached through Session Manager. It needs no inbound port then: a temporary security group admits
    /// nobody.
    pub session_manager: bool,
}

/// An address of an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// The public one if it has one, else the private one.
    #[default]
    Any,
    /// The public one.
    Public,
    /// The private one.
    Private,
}

impl Default for Ec2Builder {
    fn default() -> Self {
        Self {
            instance_types: Vec::new(),
            subnet: None,
            security_groups: Vec::new(),
            instance_profile: None,
            public_address: None,
            volume: Volume::default(),
            volumes: BTreeMap::new(),
            scratch_volumes: BTreeMap::new(),
            spot: false,
            quiesce: false,
            ssh: Ssh::default(),
            tags: BTreeMap::new(),
            time_limit: Span(Duration::from_hours(2)),
        }
    }
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            size: None,
            kind: VolumeType::Gp3,
            iops: None,
            throughput: None,
            encrypted: true,
            kms_key: None,
        }
    }
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            port: 22022,
            address: Address::Any,
            admit: Vec::new(),
            proxy_jump: None,
            proxy_command: None,
            session_manager: false,
        }
    }
}

/// `publish`: where an image goes, for each platform.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishSettings {
    /// On EC2.
    #[serde(default)]
    pub ec2: Ec2Publish,
}

/// The AMI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ec2Publish {
    /// Its name; the image's name and the time of the run if not said. No two AMIs of an account and a region have one name.
    pub name: Option<String>,
    /// The regions that it is copied to, besides that of the bake.
    pub regions: Vec<String>,
    /// The KMS key of the copy in a region; that of the bake's own region is the builder's. Keys are of one region, but for
    /// multi-region keys.
    pub kms_keys: BTreeMap<String, String>,
    /// The accounts that may launch it.
    pub share_with: Vec<String>,
    /// An SSM parameter that has the id of the newest image, of type `aws:ec2:image`, in each region.
    pub channel: Option<String>,
    /// Tags besides those that baker sets.
    pub tags: BTreeMap<String, String>,
}
