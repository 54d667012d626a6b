//! The two ports to a host: [`Facts`] reads it, [`Machine`] changes it.
//!
//! A resource sees only [`Facts`], so it cannot write. Facts may be of a real host
//! ([`linux::Linux`]), of a host as the operations planned so far will leave it
//! ([`simulated::Simulated`]), or of one that exists only in memory ([`fake::Fake`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Cursor;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::archive::ReadSeek;
use crate::op::{Command, Op, PackageRequest, Upgrades};

pub mod accounts;
pub mod condition;
pub mod copy;
mod error;
pub mod fake;
pub mod fetch;
pub mod linux;
pub mod live;
pub mod simulated;
pub mod units;

pub use error::{FactsError, PerformError, PlanError};

/// What is true on a host now.
pub trait Facts {
    /// What does not change during a run.
    fn host(&self) -> &Host;
    /// What is at a path, without following a symbolic link there.
    fn entry(&self, path: &Path) -> Reading<Option<Entry>>;
    /// The bytes of a regular file; `None` if there is none.
    fn content(&self, path: &Path) -> Reading<Option<Vec<u8>>>;
    /// A regular file, to be read in pieces; `None` if there is none.
    fn open(&self, path: &Path) -> Reading<Option<Box<dyn ReadSeek>>> {
        let in_memory = |bytes| Box::new(Cursor::new(bytes)) as Box<dyn ReadSeek>;
        Ok(self.content(path)?.map(|content| content.map(in_memory)))
    }
    /// The SHA-256 of a regular file, in hexadecimal; `None` if there is none. The file may be larger than what
    /// fits into memory.
    fn sha256(&self, path: &Path) -> Reading<Option<String>>;
    /// Whether all files of the commit that a git checkout is at are there as they are in it. Its owner looks.
    fn is_unchanged(&self, checkout: &Path, owner: &str) -> Reading<bool>;
    /// The names in a directory, sorted; empty if there is none.
    fn names(&self, path: &Path) -> Reading<Vec<String>>;
    /// The same for who looks for contradictions there: nothing follows for a plan from not knowing it.
    ///
    /// # Errors
    /// When it cannot be read.
    fn names_if_known(&self, path: &Path) -> Result<Option<Vec<String>>, FactsError> {
        Ok(match self.names(path)? {
            Known::Yes(names) => Some(names),
            Known::Unknown(_) => None,
        })
    }
    /// The installed version of a package; `None` if it is not installed.
    fn package(&self, name: &str) -> Reading<Option<String>>;
    /// Whether a package that is not installed has left its configuration.
    fn is_residual(&self, package: &str) -> Reading<bool>;
    /// Whether a package is neither wholly there nor wholly gone, because a transaction was cut off.
    fn is_half_there(&self, _package: &str) -> Reading<bool> {
        Ok(Known::Yes(false))
    }
    /// What a package's file says of itself; `None` if there is no such file.
    fn package_file(&self, path: &Path) -> Reading<Option<PackageFile>>;
    /// Whether a package is held, so that no upgrade changes it; `false` if it is not installed.
    fn held(&self, package: &str) -> Reading<bool>;
    /// The packages that an upgrade would change or newly install, sorted. It is of the package lists as the
    /// repositories have them in a run that changes the host, and of those at hand in any other.
    fn upgradable(&self, which: Upgrades) -> Reading<Vec<String>>;
    /// All that installing packages would come to: these, what comes with them, and what goes. It is of the
    /// package lists at hand, and not known if they do not have a package.
    fn transaction(&self, packages: &[PackageRequest]) -> Reading<Vec<PackageChange>>;
    /// What packages of such a transaction bring, in their order; `None` where the archive is not at hand. With each comes the
    /// file that it is installed from, where it does not come from a repository. `texts` are looked for in what they have in them.
    fn package_archives(
        &self,
        packages: &[(&PackageChange, Option<&Path>)],
        _texts: &BTreeSet<String>,
    ) -> Reading<Vec<Option<PackageArchive>>> {
        Ok(Known::Yes(vec![None; packages.len()]))
    }
    /// An account.
    fn user(&self, name: &str) -> Reading<Option<User>>;
    /// A group.
    fn group(&self, name: &str) -> Reading<Option<Group>>;
    /// Whether a systemd unit, by its whole name such as `nginx.service`, is active. What is known of a
    /// unit from its files is [`units::unit`].
    fn active(&self, unit: &str) -> Reading<bool>;
    /// The value that the running kernel has for a sysctl key; `None` if it does not know the key.
    fn kernel_parameter(&self, key: &str) -> Reading<Option<String>>;
    /// Whether something accepts TCP connections at an address, `HOST:PORT`.
    fn accepts(&self, address: &str) -> Reading<bool>;
    /// Whether the kernel has a table of nftables, of the family `inet`, just as the rules in a file make it.
    fn firewall_loaded(&self, rules: &Path, table: &str) -> Reading<bool>;
    /// Whether a command that only looks ends with 0.
    fn succeeds(&self, command: &Command) -> Reading<bool>;
    /// What a command that only looks prints on its standard output. It fails if the command does.
    fn output(&self, command: &Command) -> Reading<String>;
}

/// A host that operations can be performed on. Nothing else in the engine writes or executes.
pub trait Machine: Facts {
    /// Makes this the only run that changes the host, and finishes what a run that was cut off began.
    ///
    /// # Errors
    /// When another run is under way.
    fn begin(&mut self) -> Result<(), PerformError>;

    /// Performs one operation. `output` gets the lines that programs print meanwhile.
    ///
    /// # Errors
    /// Says what could not be done; the host may then be in between, and the next run goes on from there.
    fn perform(&mut self, op: &Op, output: &mut dyn FnMut(&str)) -> Result<(), PerformError>;

    /// Performs writes of files so that either all of them are in place or none is.
    ///
    /// # Errors
    /// Says which file could not be staged or is not valid; nothing is in place then.
    fn commit(&mut self, writes: &[Op], output: &mut dyn FnMut(&str)) -> Result<(), PerformError>;

    /// The handlers that were notified on this host and have not run yet.
    ///
    /// # Errors
    /// When what an earlier run left cannot be read.
    fn pending_handlers(&self) -> Result<Vec<String>, PerformError>;

    /// Remembers on the host which handlers have yet to run.
    ///
    /// # Errors
    /// When they cannot be written down.
    fn remember_handlers(&mut self, handlers: &[String]) -> Result<(), PerformError>;

    /// Whether this host was booted anew for a resource since a run last came to its end.
    ///
    /// # Errors
    /// When what an earlier run left cannot be read.
    fn rebooted_for(&self, resource: &str) -> Result<bool, PerformError>;

    /// Remembers on the host that it is about to be booted anew for a resource.
    ///
    /// # Errors
    /// When it cannot be written down.
    fn remember_reboot(&mut self, resource: &str) -> Result<(), PerformError>;

    /// Forgets what the host was booted anew for, because a run came to its end.
    ///
    /// # Errors
    /// When that cannot be written down.
    fn forget_reboots(&mut self) -> Result<(), PerformError>;

    /// Makes everything performed so far survive a power cut.
    ///
    /// # Errors
    /// When the file system cannot be synchronised.
    fn sync(&mut self) -> Result<(), PerformError>;
}

/// A fact, or why it could not be read.
pub type Reading<T> = Result<Known<T>, FactsError>;

/// A fact that is known, or that nobody can know before the plan is performed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known<T> {
    /// It is this.
    Yes(T),
    /// It depends on an operation whose result cannot be foreseen.
    Unknown(Why),
}

/// Why something cannot be known yet, as what comes after "unless": "installing nginx brings it".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why(pub String);

impl<T> Known<T> {
    /// The fact, for a resource that cannot plan without it.
    ///
    /// # Errors
    /// [`PlanError::Unknown`], which the planner shows as "known after apply".
    pub fn known(self) -> Result<T, PlanError> {
        match self {
            Self::Yes(value) => Ok(value),
            Self::Unknown(why) => Err(PlanError::Unknown(why)),
        }
    }

    /// The fact turned into another.
    pub fn map<U>(self, into: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Yes(value) => Known::Yes(into(value)),
            Self::Unknown(why) => Known::Unknown(why),
        }
    }
}

/// What does not change during a run; `facts` in templates. What each field is there for is said in the manual,
/// `baker docs facts`, which is made of these comments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The operating system.
    pub os: Os,
    /// The processor: `x86_64` or `aarch64`.
    pub arch: String,
    /// Whether this is a container, which shares its kernel with others. At a bake it is of the builder.
    pub container: bool,
    /// Whether systemd runs the host, so that units can be started.
    pub systemd: bool,
    /// What packages are installed with, by the family of the distribution; null if it is neither `apt` nor `dnf`.
    pub package_manager: Option<PackageManager>,
    /// Whether an image is baked or a live host is configured.
    pub mode: Mode,
    /// What a live host alone can tell; nothing at a bake, and nothing of a tree that is not booted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<live::Live>,
}

impl Host {
    /// Whether the running kernel is the host's own and is meant to serve, so that sysctls and the like
    /// are loaded into it and not only written down.
    pub fn owns_kernel(&self) -> bool {
        self.mode == Mode::Live && !self.container
    }
}

/// Processors, and what dpkg calls them.
pub(crate) const DPKG_ARCHITECTURES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

/// Each fact in a line, under the name that templates have for it.
impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        flatten("facts", &serde_json::to_value(self).unwrap_or_default(), &mut lines);
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<String> =
            lines.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
        formatter.write_str(&lines.join("\n"))
    }
}

fn flatten(name: &str, value: &Json, lines: &mut Vec<(String, String)>) {
    match value {
        Json::Object(entries) => {
            entries.iter().for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, lines));
        }
        value => lines.push((name.to_owned(), value.to_string())),
    }
}

/// Facts from `/etc/os-release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Os {
    /// The name for people, such as `Debian GNU/Linux 12 (bookworm)`.
    pub name: String,
    /// `debian`, `ubuntu`, `amzn`, ...
    pub id: String,
    /// `debian` for Debian and what descends from it, else the first of `like`, else the id.
    pub family: String,
    /// The ids of the distributions that it descends from, the nearest first.
    pub like: Vec<String>,
    /// Such as `12` or `24.04`; empty where the distribution rolls.
    pub version: String,
    /// Such as `bookworm`; empty where the distribution names no release.
    pub codename: String,
}

impl Os {
    /// The package manager of a distribution, if the engine can work with it.
    pub fn package_manager(&self) -> Option<PackageManager> {
        match self.family.as_str() {
            "debian" => Some(PackageManager::Apt),
            // Rocky Linux is like "rhel centos fedora", Amazon Linux like "fedora".
            "fedora" | "rhel" | "centos" => Some(PackageManager::Dnf),
            _ => None,
        }
    }
}

/// A package manager, with the database of packages beneath it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PackageManager {
    /// apt and dpkg.
    Apt,
    /// dnf and rpm.
    Dnf,
}

impl fmt::Display for PackageManager {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Apt => "apt",
            Self::Dnf => "dnf",
        })
    }
}

/// What becomes of a package in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// The version that it will have; none if it goes.
    pub version: Option<String>,
    /// How many bytes are fetched for it, if the package manager tells.
    pub download: Option<u64>,
}

/// What a package brings, as its archive has it.
#[derive(Debug, Clone, Default)]
pub struct PackageArchive {
    /// What it depends on: the names of packages of each of which one is enough, the first one first.
    pub depends: Vec<Vec<String>>,
    /// What it recommends, alike.
    pub recommends: Vec<Vec<String>>,
    /// The names besides its own under which others depend on it.
    pub provides: BTreeSet<String>,
    /// What it puts at each path, with its content where that is something to be read.
    pub entries: BTreeMap<PathBuf, (Entry, Option<Vec<u8>>)>,
    /// Files that stay as they are if they are there.
    pub conffiles: BTreeSet<PathBuf>,
    /// The scripts that run when it is installed.
    pub scripts: String,
    /// Those of the texts looked for that are in its scripts, or in a text that it brings.
    pub texts: BTreeSet<String>,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The host becomes an image: files are written and units enabled, the kernel is left alone.
    Bake,
    /// The host is to serve as it is.
    Live,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bake => "bake",
            Self::Live => "live",
        })
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What kind of thing it is.
    pub kind: EntryKind,
    /// Whose it is and who may use it.
    pub attributes: Attributes,
}

/// The kinds of things in a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as it is written.
        target: PathBuf,
    },
    /// A device, socket or pipe.
    Other,
}

impl EntryKind {
    /// The kind in words.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Symlink { .. } => "a symbolic link",
            Self::Other => "a device or socket",
        }
    }
}

/// Owner, group and permission bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// The owner's name, or the number where nobody has it.
    pub owner: String,
    /// The group's name, or the number where no group has it.
    pub group: String,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
}

impl fmt::Display for Attributes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{} {:04o}", self.owner, self.group, self.mode)
    }
}

/// A package that is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// An account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The number, if it is decided.
    pub uid: Option<u32>,
    /// The name of the primary group.
    pub group: String,
    /// The names of the other groups it is a member of, sorted.
    pub groups: Vec<String>,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
    /// The comment field.
    pub comment: String,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The number, if it is decided.
    pub gid: Option<u32>,
}

/// Where a link leads: its target as seen from the directory it is in, without `..`.
pub(crate) fn led_to(link: &Path, target: &Path) -> PathBuf {
    let mut path = PathBuf::from("/");
    for part in link.parent().unwrap_or(link).join(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path
}
