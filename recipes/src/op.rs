//! Operations: everything that can be done to a host, as data.
//!
//! A plan is a list of these. One place performs them ([`crate::system::Machine`]), so a dry run has
//! no second code path and redaction, atomic writes and the root path exist once.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::system::Attributes;
use crate::system::condition::Condition;
use crate::url::HttpsUrl;

/// One change to a host.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Puts a file in place, whole or not at all.
    WriteFile(WriteFile),
    /// Makes a directory. Its parent must exist.
    CreateDirectory {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        attributes: Attributes,
    },
    /// Makes a symbolic link, replacing a file or link that is there.
    CreateSymlink {
        /// Where.
        path: PathBuf,
        /// Where it points.
        target: PathBuf,
        /// Where it pointed before, if it was a link.
        before: Option<PathBuf>,
    },
    /// Sets owner, group and mode of what exists.
    SetAttributes {
        /// Of what.
        path: PathBuf,
        /// As they shall be.
        attributes: Attributes,
        /// As they are.
        before: Attributes,
    },
    /// Removes a file or link, or a directory with all that is in it.
    Remove {
        /// What.
        path: PathBuf,
        /// Whether it is a directory.
        directory: bool,
    },
    /// Fetches a file and puts it in place, if it is what it shall be.
    Download(Download),
    /// Puts the files of a commit of a git repository in place, all at once.
    Checkout(Checkout),
    /// Unpacks what an archive has and the host has not, each file whole or not at all.
    Unpack(Unpack),
    /// Installs packages in one transaction.
    InstallPackages {
        /// Which.
        packages: Vec<PackageRequest>,
    },
    /// Removes packages in one transaction.
    RemovePackages {
        /// Which.
        packages: Vec<String>,
        /// Whether their configuration goes too.
        purge: bool,
    },
    /// Upgrades packages to the newest version there is, in one transaction.
    UpgradePackages {
        /// Which will change, as far as is known.
        packages: Vec<String>,
        /// Which are meant.
        which: Upgrades,
    },
    /// Keeps packages at the version they have, or lets upgrades change them again.
    HoldPackages {
        /// Which.
        packages: Vec<String>,
        /// Whether they are held.
        held: bool,
    },
    /// Makes a group.
    CreateGroup {
        /// Its name.
        name: String,
        /// Its number; the system chooses if none is given.
        gid: Option<u32>,
        /// Whether it is a system group, with a low number.
        system: bool,
    },
    /// Gives a group another number.
    ModifyGroup {
        /// Its name.
        name: String,
        /// The number it shall have.
        gid: u32,
    },
    /// Removes a group.
    RemoveGroup {
        /// Its name.
        name: String,
    },
    /// Makes an account.
    CreateUser(UserRequest),
    /// Changes an account; only what is given changes.
    ModifyUser(UserRequest),
    /// Removes an account. Its home stays.
    RemoveUser {
        /// Its name.
        name: String,
    },
    /// Does something to a systemd unit.
    Unit {
        /// Its whole name.
        name: String,
        /// What is done.
        action: UnitAction,
    },
    /// Sets a sysctl in the running kernel.
    SetKernelParameter {
        /// The key, with dots.
        key: String,
        /// The value it shall have.
        value: String,
        /// The value it has.
        before: Option<String>,
    },
    /// Boots the host anew.
    Reboot,
    /// Loads the rules of a table of nftables, and takes them back unless they prove themselves.
    LoadFirewall(LoadFirewall),
    /// Runs a program.
    Run(Command),
    /// Waits until something holds that other programs bring about.
    WaitFor {
        /// What.
        condition: Condition,
        /// How long it may take.
        within: Duration,
    },
}

/// A file as it shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteFile {
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
    /// Whose it is.
    pub attributes: Attributes,
    /// A program that must accept the new file before it is put in place; `{file}` is its path.
    pub validate: Option<Vec<String>>,
    /// What is there now.
    pub before: Before,
}

/// A file as it shall be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// From where.
    pub url: HttpsUrl,
    /// The SHA-256 of what shall be there, in hexadecimal.
    pub sha256: String,
    /// Where it is put.
    pub path: PathBuf,
    /// Whose it is.
    pub attributes: Attributes,
    /// A program that must accept the new file before it is put in place; `{file}` is its path.
    pub validate: Option<Vec<String>>,
    /// The certificates that the server is believed by, in PEM, instead of those that the host trusts.
    pub ca_file: Option<PathBuf>,
    /// More bytes than this are not fetched.
    pub max_bytes: u64,
    /// Whether it takes the place of something.
    pub replaces: bool,
}

/// The files of a commit as they shall be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// Where the repository is.
    pub url: HttpsUrl,
    /// The whole id of the commit, in hexadecimal.
    pub commit: String,
    /// A tag or branch that has it in its history.
    pub reference: Option<String>,
    /// The directory that its files are put into.
    pub path: PathBuf,
    /// Whose all of it is; the mode is that of the directory.
    pub attributes: Attributes,
    /// The certificates that the server is believed by, in PEM, instead of those that the host trusts.
    pub ca_file: Option<PathBuf>,
    /// Whether there is a directory already, whose place it takes.
    pub replaces: bool,
}

/// Where something is made that takes the place of a path when it is whole. The name is fixed, so that what an
/// interrupted run left is replaced by the next and never piles up.
pub(crate) fn staged_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.staged"))
}

/// An archive as it shall be unpacked. What is in it is read when the operation is performed, so that it is
/// never in memory as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Unpack {
    /// What is unpacked.
    pub archive: Archive,
    /// The folder that it is unpacked into.
    pub path: PathBuf,
    /// How many names at the start of each path in the archive are left out.
    pub strip_components: usize,
    /// The owner of all that is in it.
    pub owner: String,
    /// The group of all that is in it.
    pub group: String,
    /// What is done at each path below the folder that is not as in the archive.
    pub changes: BTreeMap<PathBuf, Unpacking>,
    /// How many paths are as in the archive already.
    pub unchanged: usize,
}

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Archive {
    /// In the recipe.
    Content {
        /// What it is called there.
        name: String,
        /// Its bytes.
        content: Content,
    },
    /// On the host.
    File(PathBuf),
}

impl fmt::Display for Archive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content { name, .. } => formatter.write_str(name),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

/// What is done at a path that an archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpacking {
    /// It is made.
    Create,
    /// It takes the place of what is there.
    Replace,
    /// It gets owner, group and mode.
    SetAttributes,
}

/// What a write replaces.
#[derive(Debug, Clone, PartialEq)]
pub enum Before {
    /// Nothing.
    Absent,
    /// A file with this content, and these attributes if they change too.
    File {
        /// What is in it.
        content: Content,
        /// Whose it is, if that changes.
        attributes: Option<Attributes>,
    },
    /// A symbolic link.
    Symlink(PathBuf),
}

/// A table of nftables as it shall be in the kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadFirewall {
    /// The name of the table, of the family `inet`.
    pub table: String,
    /// The commands for `nft` that make it what it shall be, in one transaction.
    pub ruleset: Content,
    /// Whether they change other tables as well.
    pub flushes: bool,
    /// What must still work with it.
    pub confirm: Confirm,
}

/// What proves that a firewall does not lock anybody out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// How long it may take.
    pub within: Duration,
    /// Whether the connection that the run came in by, if it came in by one, must still carry packets.
    pub session: bool,
    /// What must be reachable from the host: names or addresses, each with a port.
    pub tcp: Vec<(String, u16)>,
    /// A program that must succeed.
    pub command: Option<Command>,
}

/// The bytes of a file. Secret ones are never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Content {
    bytes: Arc<[u8]>,
    secret: bool,
}

impl Content {
    /// Bytes that may be shown.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: Arc::from(bytes.into()), secret: false }
    }

    /// Bytes that may be shown only if they are not secret.
    #[must_use]
    pub fn secret_if(mut self, secret: bool) -> Self {
        self.secret = self.secret || secret;
        self
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be read in pieces; they are not copied.
    pub(crate) fn reader(&self) -> Cursor<Arc<[u8]>> {
        Cursor::new(Arc::clone(&self.bytes))
    }

    /// Whether they must never be shown.
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    /// Their SHA-256 in hexadecimal.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.secret, std::str::from_utf8(&self.bytes)) {
            (true, _) => write!(formatter, "(secret, {} bytes)", self.bytes.len()),
            (false, Ok(text)) => fmt::Debug::fmt(text, formatter),
            (false, Err(_)) => write!(formatter, "({} bytes)", self.bytes.len()),
        }
    }
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A package to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRequest {
    /// Its name.
    pub name: String,
    /// Exactly this version; the newest if none is given.
    pub version: Option<String>,
    /// Whether packages that it recommends come too.
    pub recommends: bool,
    /// The file on the host that it is installed from; the repositories if none is given.
    pub source: Option<PathBuf>,
}

/// Which packages an upgrade is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrades {
    /// All that are installed.
    All,
    /// Those whose newest version is from a repository of security updates.
    Security,
}

/// An account as it shall be. What is `None` is left to the system or as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserRequest {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: Option<u32>,
    /// Its primary group.
    pub group: Option<String>,
    /// All its other groups; `None` leaves them.
    pub groups: Option<Vec<String>>,
    /// Its home directory.
    pub home: Option<PathBuf>,
    /// Its login shell.
    pub shell: Option<PathBuf>,
    /// Its comment field.
    pub comment: Option<String>,
    /// Whether it is a system account, with a low number (only when it is made).
    pub system: bool,
    /// Whether its home is made (only when it is made).
    pub create_home: bool,
}

/// What can be done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitAction {
    /// Started at boot from now on.
    Enable,
    /// Not started at boot any more.
    Disable,
    /// Cannot be started at all.
    Mask,
    /// Can be started again.
    Unmask,
    /// Started now.
    Start,
    /// Stopped now.
    Stop,
    /// Stopped, then started, if it runs.
    Restart,
    /// Told to read its configuration again, if it runs.
    Reload,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Command {
    /// The program and its arguments. No shell reads them.
    pub argv: Vec<String>,
    /// Variables it gets besides `PATH`, `HOME` and `LC_ALL`.
    pub environment: BTreeMap<String, String>,
    /// Where it runs; `/` if not said.
    pub directory: Option<PathBuf>,
    /// Who runs it; root if not said.
    pub user: Option<String>,
    /// How long it may run.
    pub timeout: Duration,
    /// What it reads.
    pub input: Input,
    /// The exit codes that count as success.
    pub success_codes: Vec<u8>,
    /// Whether what it prints is kept out of events, logs and errors.
    pub sensitive: bool,
}

/// What a program reads on its standard input. It is in memory only, under no name in a file system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// Nothing.
    Nothing,
    /// This text.
    Text(Content),
    /// Nothing; but who opens `/dev/stdin`, the last argument, finds a script.
    Script {
        /// What it is called in plans and errors.
        name: String,
        /// The script.
        text: Content,
    },
}

impl Command {
    /// A program with arguments, as root, in `/`, with five minutes and no input.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            directory: None,
            user: None,
            timeout: Duration::from_mins(5),
            input: Input::Nothing,
            success_codes: vec![0],
            sensitive: false,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.input {
            Input::Script { name, .. } => write!(formatter, "script {name}"),
            Input::Nothing | Input::Text(_) => formatter.write_str(&self.argv.join(" ")),
        }
    }
}

impl Op {
    /// What it puts in place, changes or removes, if that is a path.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::WriteFile(write) => Some(&write.path),
            Self::Download(download) => Some(&download.path),
            Self::Checkout(checkout) => Some(&checkout.path),
            Self::CreateDirectory { path, .. }
            | Self::CreateSymlink { path, .. }
            | Self::SetAttributes { path, .. }
            | Self::Remove { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The files that are of whoever asks for this. A directory that is so with all in it ends with `/`; of a unit they are the links and
    /// drop-ins that its name leads to.
    pub fn makes(&self) -> Vec<String> {
        let whole = |path: &Path| vec![format!("{}/", path.display())];
        match self {
            Self::Checkout(checkout) => whole(&checkout.path),
            Self::Unpack(unpack) => whole(&unpack.path),
            Self::CreateUser(UserRequest { create_home: true, home, name, .. }) => {
                whole(home.as_deref().unwrap_or(&Path::new("/home").join(name)))
            }
            Self::Unit { name, action: UnitAction::Enable | UnitAction::Mask } => vec![name.clone()],
            Self::Remove { .. } | Self::SetAttributes { .. } | Self::CreateDirectory { .. } => Vec::new(),
            other => other.path().map(|path| path.display().to_string()).into_iter().collect(),
        }
    }

    /// Takes another operation into this one if one transaction can do both; gives it back if not.
    pub fn merge(&mut self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::InstallPackages { packages }, Self::InstallPackages { packages: more }) => {
                packages.extend(more);
                None
            }
            (
                Self::RemovePackages { packages, purge },
                Self::RemovePackages { packages: more, purge: same },
            ) if *purge == same => {
                packages.extend(more);
                None
            }
            (_, other) => Some(other),
        }
    }
}
