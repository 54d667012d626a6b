//! A host in memory, for tests: of this crate, and of whatever is built on it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use super::live::{Live, Virtualization};
use super::simulated::Simulated;
use super::{
    Attributes, Entry, Facts, FactsError, Group, Host, Known, Mode, Os, PackageArchive, PackageChange,
    PackageFile, PackageManager, PerformError, Reading, User, Why,
};
use crate::archive::{ItemKind, walk};
use crate::op::{
    Archive, Before, Command, Content, Download, Op, PackageRequest, Unpack, Upgrades, WriteFile,
};

mod machine;

/// A machine without a machine: operations change maps, and can be made to fail.
pub struct Fake {
    state: Simulated<'static>,
    /// Every operation performed, in order.
    pub performed: Vec<Op>,
    /// What packages bring when they are installed.
    brings: BTreeMap<String, Vec<Op>>,
    /// Packages that have a newer version, and of which kind that is.
    upgradable: BTreeMap<String, Upgrades>,
    /// What can be fetched, by its whole address.
    served: BTreeMap<String, Vec<u8>>,
    /// Checkouts in which somebody changed a file.
    changed: BTreeSet<PathBuf>,
    /// What the package manager says that an installation comes to, if it can tell.
    transaction: Option<Vec<PackageChange>>,
    archives: BTreeMap<String, PackageArchive>,
    /// How often it was asked.
    asked: Cell<usize>,
    /// What commands make when they run.
    makes: BTreeMap<Vec<String>, Vec<Op>>,
    /// Guards that succeed.
    succeeding: BTreeSet<Vec<String>>,
    printing: BTreeMap<Vec<String>, String>,
    /// Addresses that accept connections.
    accepting: BTreeSet<String>,
    /// What happens to the host while a run waits.
    later: Vec<Op>,
    pending: Vec<String>,
    /// What it is to be booted anew for, each with whether it was.
    reboots: BTreeMap<String, bool>,
    fail_at: Option<usize>,
    unreadable: BTreeSet<String>,
}

impl Fake {
    /// A live Debian 12 host with systemd and nothing on it but root.
    pub fn debian() -> Self {
        Self::with_host(Host {
            os: Os {
                name: "Debian GNU/Linux 12 (bookworm)".into(),
                id: "debian".into(),
                family: "debian".into(),
                like: Vec::new(),
                version: "12".into(),
                codename: "bookworm".into(),
            },
            arch: "x86_64".into(),
            container: false,
            systemd: true,
            package_manager: Some(PackageManager::Apt),
            mode: Mode::Live,
            live: Some(Live {
                hostname: "host".into(),
                kernel: "6.1.0-37-amd64".into(),
                cpus: 2,
                memory: 4096,
                virtualization: Virtualization::Kvm,
                ..Live::default()
            }),
        })
    }

    /// A live Amazon Linux 2023, which has dnf.
    pub fn amazon() -> Self {
        let os = Os {
            id: "amzn".into(),
            like: vec!["fedora".into()],
            name: "Amazon Linux 2023".into(),
            family: "fedora".into(),
            version: "2023".into(),
            codename: String::new(),
        };
        Self::with_host(Host { package_manager: os.package_manager(), os, ..Self::debian().host().clone() })
    }

    /// The Debian host as the builder of an image.
    pub fn builder() -> Self {
        let host = Host { mode: Mode::Bake, container: true, live: None, ..Self::debian().host().clone() };
        Self::with_host(host)
    }

    /// An empty host with these facts, directories that every host has, and root.
    pub fn with_host(host: Host) -> Self {
        let mut fake = Self {
            state: Simulated::alone(host),
            performed: Vec::new(),
            brings: BTreeMap::new(),
            upgradable: BTreeMap::new(),
            served: BTreeMap::new(),
            changed: BTreeSet::new(),
            transaction: None,
            archives: BTreeMap::new(),
            asked: Cell::new(0),
            makes: BTreeMap::new(),
            succeeding: BTreeSet::new(),
            printing: BTreeMap::new(),
            accepting: BTreeSet::new(),
            later: Vec::new(),
            pending: Vec::new(),
            reboots: BTreeMap::new(),
            fail_at: None,
            unreadable: BTreeSet::new(),
        };
        for directory in ["/", "/etc", "/usr", "/var", "/run", "/srv", "/home", "/etc/sysctl.d"] {
            fake.directory(directory);
        }
        fake.group_with_id("root", 0);
        fake.state.apply(&Op::CreateUser(crate::op::UserRequest {
            name: "root".into(),
            uid: Some(0),
            group: Some("root".into()),
            home: Some("/root".into()),
            shell: Some("/bin/bash".into()),
            ..Default::default()
        }));
        fake
    }

    /// Puts a file of root's there.
    pub fn file(&mut self, path: &str, text: &str) {
        self.state.apply(&Op::WriteFile(WriteFile {
            path: path.into(),
            content: Content::new(text),
            attributes: root(0o644),
            validate: None,
            before: Before::Absent,
        }));
    }

    /// Puts a directory of root's there.
    pub fn directory(&mut self, path: &str) {
        self.state.apply(&Op::CreateDirectory { path: path.into(), attributes: root(0o755) });
    }

    /// Puts a symbolic link there.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.state.apply(&Op::CreateSymlink { path: path.into(), target: target.into(), before: None });
    }

    /// Puts a group there.
    pub fn group_with_id(&mut self, name: &str, gid: u32) {
        self.state.apply(&Op::CreateGroup { name: name.into(), gid: Some(gid), system: true });
    }

    /// Does something to the host that is not counted as performed.
    pub fn apply(&mut self, op: &Op) {
        self.state.apply(op);
    }

    /// Says what installing a package brings besides itself.
    pub fn package_brings(&mut self, package: &str, ops: Vec<Op>) {
        self.brings.insert(package.into(), ops);
    }

    /// Says that there is a newer version of a package.
    pub fn can_upgrade(&mut self, package: &str, which: Upgrades) {
        self.upgradable.insert(package.into(), which);
    }

    /// Says what is behind an address.
    pub fn serves(&mut self, url: &str, bytes: impl Into<Vec<u8>>) {
        self.served.insert(url.into(), bytes.into());
    }

    /// Changes a file of a checkout.
    pub fn change_checkout(&mut self, path: &str) {
        self.changed.insert(path.into());
    }

    /// Says what any installation comes to; a package without a version goes.
    pub fn solve_to(&mut self, packages: &[(&str, Option<&str>)]) {
        let change = |&(name, version): &(&str, Option<&str>)| PackageChange {
            name: name.to_owned(),
            version: version.map(str::to_owned),
            download: version.map(|_| 600_000),
        };
        self.transaction = Some(packages.iter().map(change).collect());
    }

    /// Says what a package brings, as if its archive were at hand.
    pub fn has_archive(&mut self, package: &str, archive: PackageArchive) {
        self.archives.insert(package.to_owned(), archive);
    }

    /// How often the package manager was asked what an installation comes to.
    pub fn times_asked(&self) -> usize {
        self.asked.get()
    }

    /// Says what running a command does to the host.
    pub fn command_makes(&mut self, argv: &[&str], ops: Vec<Op>) {
        self.makes.insert(argv.iter().map(|&word| word.to_owned()).collect(), ops);
    }

    /// Makes a guard succeed.
    pub fn let_succeed(&mut self, argv: &[&str]) {
        self.succeeding.insert(argv.iter().map(|&word| word.to_owned()).collect());
    }

    /// Makes a command print something.
    pub fn let_print(&mut self, argv: &[&str], text: &str) {
        self.printing.insert(argv.iter().map(|&word| word.to_owned()).collect(), text.to_owned());
    }

    /// Has an address accept connections.
    pub fn let_accept(&mut self, address: &str) {
        self.accepting.insert(address.into());
    }

    /// Says what happens to the host while a run waits for something.
    pub fn comes_later(&mut self, op: Op) {
        self.later.push(op);
    }

    /// Makes the operation with this number, from 0, fail.
    pub fn fail_at(&mut self, operation: usize) {
        self.fail_at = Some(operation);
    }

    /// Lets operations succeed again.
    pub fn heal(&mut self) {
        self.fail_at = None;
    }

    /// Boots it anew.
    pub fn boots(&mut self) {
        self.reboots.values_mut().for_each(|was| *was = true);
    }

    /// Makes reading a path fail.
    pub fn make_unreadable(&mut self, path: &str) {
        self.unreadable.insert(path.into());
    }

    /// The text of a file, for assertions.
    pub fn text(&self, path: &str) -> Option<String> {
        match self.state.content(Path::new(path)) {
            Ok(Known::Yes(Some(bytes))) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            _ => None,
        }
    }

    /// A download as the file that comes of it.
    fn fetched(&self, download: &Download) -> Result<Op, PerformError> {
        let url = download.url.clone();
        let Some(bytes) = self.served.get(url.as_str()) else {
            return Err(PerformError::Fetch { url, source: "the server answered 404 Not Found".into() });
        };
        let content = Content::new(bytes.as_slice());
        let (got, size) = (content.sha256(), bytes.len() as u64);
        if got != download.sha256 {
            return Err(PerformError::WrongDigest { url, expected: download.sha256.clone(), got, size });
        }
        Ok(Op::WriteFile(WriteFile {
            path: download.path.clone(),
            content,
            attributes: download.attributes.clone(),
            validate: download.validate.clone(),
            before: Before::Absent,
        }))
    }

    fn unpack(&mut self, unpack: &Unpack) -> Result<(), PerformError> {
        let file = match &unpack.archive {
            Archive::Content { content, .. } => Some(content.bytes().to_vec()),
            Archive::File(path) => match self.content(path)? {
                Known::Yes(bytes) => bytes,
                Known::Unknown(_) => None,
            },
        };
        let file = Box::new(Cursor::new(file.unwrap_or_default()));
        let is_wanted = |path: &Path| unpack.changes.contains_key(path);
        let state = &mut self.state;
        let walked = walk(file, unpack.strip_components, &is_wanted, &mut |item| {
            let path = unpack.path.join(&item.path);
            let (owner, group) = (unpack.owner.clone(), unpack.group.clone());
            let attributes = Attributes { owner, group, mode: item.mode };
            let write = |bytes: Vec<u8>| {
                Op::WriteFile(WriteFile {
                    path: path.clone(),
                    content: Content::new(bytes),
                    attributes: attributes.clone(),
                    validate: None,
                    before: Before::Absent,
                })
            };
            match item.kind {
                ItemKind::File(content) => {
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes)?;
                    state.apply(&write(bytes));
                }
                ItemKind::HardLink(target) => {
                    if let Ok(Known::Yes(Some(bytes))) = state.content(&unpack.path.join(target)) {
                        state.apply(&write(bytes));
                    }
                }
                ItemKind::Symlink(target) => state.apply(&Op::CreateSymlink { path, target, before: None }),
                ItemKind::Parent | ItemKind::Directory => {
                    state.apply(&Op::CreateDirectory { path, attributes });
                }
            }
            Ok::<_, io::Error>(())
        });
        walked.map_err(|stop| PerformError::Unsupported(format!("failed to unpack: {stop:?}")))
    }

    fn readable(&self, path: &Path) -> Result<(), FactsError> {
        if self.unreadable.contains(path.to_string_lossy().as_ref()) {
            let what = format!("`{}`", path.display());
            return Err(FactsError { what, source: io::ErrorKind::PermissionDenied.into() });
        }
        Ok(())
    }
}

fn root(mode: u32) -> Attributes {
    Attributes { owner: "root".into(), group: "root".into(), mode }
}

impl Facts for Fake {
    fn host(&self) -> &Host {
        self.state.host()
    }

    fn entry(&self, path: &Path) -> Reading<Option<Entry>> {
        self.readable(path)?;
        self.state.entry(path)
    }

    fn content(&self, path: &Path) -> Reading<Option<Vec<u8>>> {
        self.readable(path)?;
        self.state.content(path)
    }

    fn sha256(&self, path: &Path) -> Reading<Option<String>> {
        self.readable(path)?;
        self.state.sha256(path)
    }

    fn is_unchanged(&self, checkout: &Path, _owner: &str) -> Reading<bool> {
        Ok(Known::Yes(!self.changed.contains(checkout)))
    }

    fn is_residual(&self, package: &str) -> Reading<bool> {
        self.state.is_residual(package)
    }

    /// Of a package's file only what it says of itself is there.
    fn package_file(&self, path: &Path) -> Reading<Option<PackageFile>> {
        let field = |text: &str, name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
        };
        Ok(self.content(path)?.map(|bytes| {
            let text = String::from_utf8_lossy(&bytes?).into_owned();
            Some(PackageFile { name: field(&text, "Package: "), version: field(&text, "Version: ") })
        }))
    }

    fn names(&self, path: &Path) -> Reading<Vec<String>> {
        self.state.names(path)
    }

    fn package(&self, name: &str) -> Reading<Option<String>> {
        self.state.package(name)
    }

    fn held(&self, package: &str) -> Reading<bool> {
        self.state.held(package)
    }

    fn upgradable(&self, which: Upgrades) -> Reading<Vec<String>> {
        let is_meant = |of: Upgrades| which == Upgrades::All || of == which;
        let names = self.upgradable.iter().filter(|(_, of)| is_meant(**of));
        Ok(Known::Yes(names.map(|(name, _)| name.clone()).collect()))
    }

    fn transaction(&self, _packages: &[PackageRequest]) -> Reading<Vec<PackageChange>> {
        self.asked.set(self.asked.get() + 1);
        let unknown = || Known::Unknown(Why("the package lists can tell it".into()));
        Ok(self.transaction.clone().map_or_else(unknown, Known::Yes))
    }

    fn package_archives(
        &self,
        packages: &[(&PackageChange, Option<&Path>)],
        texts: &BTreeSet<String>,
    ) -> Reading<Vec<Option<PackageArchive>>> {
        let archive = |(package, _): &(&PackageChange, Option<&Path>)| {
            let archive = self.archives.get(&package.name)?;
            let contents = archive.entries.values().filter_map(|(_, content)| content.as_deref());
            let whole = contents.chain([archive.scripts.as_bytes()]).map(String::from_utf8_lossy);
            let whole = whole.collect::<Vec<_>>().join("\n");
            let texts = texts.iter().filter(|text| whole.contains(text.as_str())).cloned().collect();
            Some(PackageArchive { texts, ..archive.clone() })
        };
        Ok(Known::Yes(packages.iter().map(archive).collect()))
    }

    fn user(&self, name: &str) -> Reading<Option<User>> {
        self.state.user(name)
    }

    fn group(&self, name: &str) -> Reading<Option<Group>> {
        self.state.group(name)
    }

    fn active(&self, unit: &str) -> Reading<bool> {
        self.state.active(unit)
    }

    fn kernel_parameter(&self, key: &str) -> Reading<Option<String>> {
        self.state.kernel_parameter(key)
    }

    fn accepts(&self, address: &str) -> Reading<bool> {
        Ok(Known::Yes(self.accepting.contains(address)))
    }

    fn firewall_loaded(&self, rules: &Path, table: &str) -> Reading<bool> {
        self.state.firewall_loaded(rules, table)
    }

    fn succeeds(&self, command: &Command) -> Reading<bool> {
        Ok(Known::Yes(self.succeeding.contains(&command.argv)))
    }

    fn output(&self, command: &Command) -> Reading<String> {
        let failed = || FactsError {
            what: format!("what `{command}` prints"),
            source: io::Error::other("it ended with 1"),
        };
        self.printing.get(&command.argv).cloned().map(Known::Yes).ok_or_else(failed)
    }
}
