//! What an image starts from, on each platform.

use std::collections::BTreeMap;

use recipes::system::{Host, Mode, Os, PackageManager};
use serde::{Deserialize, Serialize};

/// Where an image comes from, for each platform that it can be baked on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// For the local platform.
    #[serde(default)]
    pub local: Option<LocalSource>,
    /// For EC2.
    #[serde(default)]
    pub ec2: Option<Ec2Source>,
}

/// A tree made of the packages of a distribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalSource {
    /// The release of Debian.
    pub suite: Suite,
    /// Packages in the tree besides those that every builder needs.
    #[serde(default)]
    pub include: Vec<String>,
}

/// The releases of Debian that are known to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Suite {
    /// The name of the release.
    pub fn codename(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

impl From<Suite> for Release {
    fn from(suite: Suite) -> Self {
        match suite {
            Suite::Bookworm => Self::Bookworm,
            Suite::Trixie => Self::Trixie,
        }
    }
}

/// An AMI, and what is in it as far as recipes may ask before it is launched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ec2Source {
    /// Which AMI.
    pub ami: AmiSource,
    /// The release of its distribution; that of `local` if not said.
    #[serde(default)]
    pub release: Option<Release>,
    /// Its processor.
    #[serde(default)]
    pub arch: Architecture,
}

/// Which AMI: by exactly one of `id`, `name` with its owner, and `parameter`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AmiSource {
    /// Its id, such as `ami-0abcdef1234567890`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// An SSM parameter that has its id, such as `/aws/service/debian/release/12/latest/amd64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// Its name, in which `*` and `?` stand for other characters. Anybody can give an AMI any name, so `owner` is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The account that owns it, `self`, or `amazon`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Tags that it has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Takes the newest if there are several; else that is an error.
    pub most_recent: bool,
}

/// A processor, by the name that EC2 has for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// 64-bit x86.
    #[default]
    X86_64,
    /// 64-bit Arm, such as Graviton.
    Arm64,
}

impl Architecture {
    /// That of this machine.
    pub fn here() -> Self {
        if std::env::consts::ARCH == "aarch64" { Self::Arm64 } else { Self::X86_64 }
    }

    /// By the name that EC2 has for it; none if no agent is built for it.
    pub fn from_ec2(name: &str) -> Option<Self> {
        [Self::X86_64, Self::Arm64].into_iter().find(|arch| arch.of_ec2() == name)
    }

    /// The name that EC2 has for it.
    pub fn of_ec2(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// The name that Linux has for it.
    pub fn of_linux(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }
}

/// A release of a distribution that recipes are checked for before a builder exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
    /// Ubuntu 24.04.
    Noble,
    /// Amazon Linux 2023.
    Al2023,
}

impl Release {
    /// As os-release(5) of the release has it.
    fn os(self) -> (Os, PackageManager) {
        let os = |name: &str, id: &str, family: &str, like: &[&str], version: &str, codename: &str| Os {
            name: name.into(),
            id: id.into(),
            family: family.into(),
            like: like.iter().map(|&like| like.into()).collect(),
            version: version.into(),
            codename: codename.into(),
        };
        match self {
            Self::Bookworm => (
                os("Debian GNU/Linux 12 (bookworm)", "debian", "debian", &[], "12", "bookworm"),
                PackageManager::Apt,
            ),
            Self::Trixie => (
                os("Debian GNU/Linux 13 (trixie)", "debian", "debian", &[], "13", "trixie"),
                PackageManager::Apt,
            ),
            Self::Noble => (
                os("Ubuntu 24.04 LTS", "ubuntu", "debian", &["debian"], "24.04", "noble"),
                PackageManager::Apt,
            ),
            Self::Al2023 => {
                (os("Amazon Linux 2023", "amzn", "fedora", &["fedora"], "2023", ""), PackageManager::Dnf)
            }
        }
    }
}

/// What the builder of a platform will be, as far as recipes may ask before it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builder {
    /// The release of its distribution.
    pub release: Release,
    /// The name that Linux has for its processor.
    pub arch: &'static str,
    /// Whether it is a container.
    pub container: bool,
}

impl Builder {
    /// Its facts.
    pub fn host(self, mode: Mode) -> Host {
        let (os, package_manager) = self.release.os();
        Host {
            os,
            arch: self.arch.into(),
            container: self.container,
            systemd: true,
            package_manager: Some(package_manager),
            mode,
            live: None,
        }
    }
}

impl Source {
    /// The builders of the platforms that there is a source for. The release of an EC2 source is that of
    /// the local one if it has none of its own; without either there is no telling.
    pub fn builders(&self) -> Vec<Builder> {
        let local = self.local.as_ref().map(|local| Builder {
            release: local.suite.into(),
            arch: std::env::consts::ARCH,
            container: true,
        });
        let ec2 = self.ec2.as_ref().and_then(|ec2| {
            let release = ec2.release.or(self.local.as_ref().map(|local| local.suite.into()))?;
            Some(Builder { release, arch: ec2.arch.of_linux(), container: false })
        });
        local.into_iter().chain(ec2).collect()
    }
}
