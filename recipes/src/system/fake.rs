//! A host in memory, for tests: of this crate, and of whatever is built on it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::simulated::Simulated;
use super::{
    Attributes, Entry, Facts, FactsError, Group, Host, Known, Machine, Mode, Os, PackageFile, PerformError,
    Reading, User,
};
use crate::op::{Before, Command, Content, Download, Op, Upgrades, WriteFile};

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
    /// What commands make when they run.
    makes: BTreeMap<Vec<String>, Vec<Op>>,
    /// Guards that succeed.
    succeeding: BTreeSet<Vec<String>>,
    pending: Vec<String>,
    fail_at: Option<usize>,
    unreadable: BTreeSet<String>,
}

impl Fake {
    /// A live Debian 12 host with systemd and nothing on it but root.
    pub fn debian() -> Self {
        Self::with_host(Host {
            os: Os {
                id: "debian".into(),
                family: "debian".into(),
                version: "12".into(),
                codename: "bookworm".into(),
            },
            arch: "x86_64".into(),
            container: false,
            systemd: true,
            mode: Mode::Live,
        })
    }

    /// The same host as the builder of an image.
    pub fn builder() -> Self {
        let host = Host { mode: Mode::Bake, container: true, ..Self::debian().host().clone() };
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
            makes: BTreeMap::new(),
            succeeding: BTreeSet::new(),
            pending: Vec::new(),
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

    /// Says what running a command does to the host.
    pub fn command_makes(&mut self, argv: &[&str], ops: Vec<Op>) {
        self.makes.insert(argv.iter().map(|&word| word.to_owned()).collect(), ops);
    }

    /// Makes a guard succeed.
    pub fn let_succeed(&mut self, argv: &[&str]) {
        self.succeeding.insert(argv.iter().map(|&word| word.to_owned()).collect());
    }

    /// Makes the operation with this number, from 0, fail.
    pub fn fail_at(&mut self, operation: usize) {
        self.fail_at = Some(operation);
    }

    /// Lets operations succeed again.
    pub fn heal(&mut self) {
        self.fail_at = None;
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

    fn succeeds(&self, command: &Command) -> Reading<bool> {
        Ok(Known::Yes(self.succeeding.contains(&command.argv)))
    }
}

impl Machine for Fake {
    fn begin(&mut self) -> Result<(), PerformError> {
        Ok(())
    }

    fn perform(&mut self, op: &Op, _output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        if self.fail_at == Some(self.performed.len()) {
            let what = "do what this test wants to fail".into();
            return Err(PerformError::Io { what, source: io::ErrorKind::StorageFull.into() });
        }
        match op {
            Op::Download(download) => self.state.apply(&self.fetched(download)?),
            Op::Checkout(checkout) => {
                self.changed.remove(&checkout.path);
                self.state.apply(op);
            }
            _ => self.state.apply(op),
        }
        if let Op::InstallPackages { packages } = op {
            for brought in packages.iter().filter_map(|package| self.brings.get(&package.name)).flatten() {
                self.state.apply(brought);
            }
        }
        if let Op::UpgradePackages { packages, .. } = op {
            self.upgradable.retain(|name, _| !packages.contains(name));
        }
        if let Op::Run(command) = op {
            for made in self.makes.get(&command.argv).into_iter().flatten() {
                self.state.apply(made);
            }
        }
        self.performed.push(op.clone());
        Ok(())
    }

    fn commit(&mut self, writes: &[Op], output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        if self
            .fail_at
            .is_some_and(|at| (self.performed.len()..self.performed.len() + writes.len()).contains(&at))
        {
            let what = "stage what this test wants to fail".into();
            return Err(PerformError::Io { what, source: io::ErrorKind::StorageFull.into() });
        }
        writes.iter().try_for_each(|op| self.perform(op, output))
    }

    fn pending_handlers(&self) -> Result<Vec<String>, PerformError> {
        Ok(self.pending.clone())
    }

    fn remember_handlers(&mut self, handlers: &[String]) -> Result<(), PerformError> {
        self.pending = handlers.to_vec();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), PerformError> {
        Ok(())
    }
}
