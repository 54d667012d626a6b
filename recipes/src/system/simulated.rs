//! A host as the operations planned so far will leave it.
//!
//! What operations do for certain is laid over what is true now. What they may do besides (the files of
//! a package, whatever a command makes) is not guessed: from then on what is absent is unknown.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::{Path, PathBuf};

use super::condition::Condition;
use super::units::enable_links;
use super::{Attributes, Entry, EntryKind, Facts, Group, Host, Known, PackageManager, Reading, User, Why};
use crate::op::{Checkout, Content, Op, UnitAction, UserRequest};
use crate::plan::{Basis, Guards};
use crate::resource::Resource;

mod account;
mod brought;
mod extent;
mod facts;
mod scripts;

pub(crate) use brought::Archives;
pub(crate) use extent::Possible;
use extent::{Extent, Subject};

/// The version of a package that will be the newest there is then.
pub(super) const NEWEST: &str = "(newest)";

/// What is taken for what nobody knows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Pretence {
    Nothing,
    /// What is absent stays absent, and what may change is as it is.
    Absent,
    /// At this path is a file in which nothing is, and every folder and account is there.
    EmptyFile(PathBuf),
}

/// Facts with the effects of operations laid over them.
pub struct Simulated<'a> {
    host: Host,
    /// The host underneath; none if the host exists only here.
    base: Option<&'a dyn Facts>,
    paths: BTreeMap<PathBuf, Option<Node>>,
    packages: BTreeMap<String, Option<String>>,
    held: BTreeMap<String, bool>,
    /// Packages that will have left their configuration, or not.
    residual: BTreeMap<String, bool>,
    /// Directories in which nobody knows yet what will be, nor stays what was.
    checkouts: BTreeSet<PathBuf>,
    users: BTreeMap<String, Option<User>>,
    groups: BTreeMap<String, Option<Group>>,
    active: BTreeMap<String, bool>,
    kernel: BTreeMap<String, String>,
    /// The rules that each table of nftables was loaded with.
    firewalls: BTreeMap<String, Content>,
    /// What may exist by then although it is absent.
    possible: Vec<Possible>,
    /// What packages bring that will be installed, and those of them that are.
    archives: Archives,
    brought: BTreeSet<String>,
    /// The folders that archives are unpacked into: what is in them is not known any more.
    unpacked: Vec<(PathBuf, Why)>,
    /// What is taken for what nobody knows.
    pretence: Pretence,
    /// The texts of which it was asked whether packages have them.
    looked_for: RefCell<BTreeSet<String>>,
    guards: Guards,
    /// Whether anything was foreseen at all.
    changed: bool,
    /// What was read since [`Self::read_anew`]; the weakest that it rests on.
    read: Cell<Option<Basis>>,
}

#[derive(Clone)]
struct Node {
    entry: Entry,
    content: Held,
}

/// What a path holds.
#[derive(Clone)]
enum Held {
    Bytes(Content),
    /// What will be fetched: only its SHA-256 is known.
    Fetched(String),
    /// What a package has in it that is not read.
    Packed(Why),
}

/// What operations made of a path.
enum LaidOver<'a> {
    Node(&'a Node),
    Nothing,
}

impl<'a> Simulated<'a> {
    /// The host as it is, before any operation.
    pub fn over(base: &'a dyn Facts, guards: Guards) -> Self {
        Self { base: Some(base), guards, ..Self::alone(base.host().clone()) }
    }

    /// An empty host that exists only here.
    pub fn alone(host: Host) -> Self {
        Self {
            host,
            base: None,
            paths: BTreeMap::new(),
            packages: BTreeMap::new(),
            held: BTreeMap::new(),
            residual: BTreeMap::new(),
            checkouts: BTreeSet::new(),
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            active: BTreeMap::new(),
            kernel: BTreeMap::new(),
            firewalls: BTreeMap::new(),
            possible: Vec::new(),
            archives: Archives::default(),
            brought: BTreeSet::new(),
            unpacked: Vec::new(),
            pretence: Pretence::Nothing,
            looked_for: RefCell::default(),
            guards: Guards::Skip,
            changed: false,
            read: Cell::new(None),
        }
    }

    /// Forgets what was read so far.
    pub(crate) fn read_anew(&self) {
        self.read.set(None);
    }

    /// What the facts rest on that were read since [`Self::read_anew`]; none if none was.
    pub(crate) fn read(&self) -> Option<Basis> {
        self.read.get()
    }

    /// Notes what a fact rests on that is being read.
    fn rests_on(&self, basis: Basis) {
        self.read.set(self.read.get().max(Some(basis)));
    }

    /// Notes what a fact rests on: known of the host as it is, or not known.
    fn noted<T>(&self, reading: Reading<T>) -> Reading<T> {
        self.rests_on(if let Ok(Known::Unknown(_)) = reading { Basis::Assumed } else { Basis::Observed });
        reading
    }

    /// Takes an operation as done, with what it may do besides. Of a command, `of` says when it is done.
    pub fn foresee(&mut self, op: &Op, of: Option<&dyn Resource>) {
        self.changed = true;
        self.apply(op);
        let (extent, why) = match op {
            Op::InstallPackages { packages } => {
                let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
                (self.bring(packages), format!("installing {} brings it", names.join(", ")))
            }
            Op::UpgradePackages { .. } => (Extent::Anything, "upgrading packages brings it".into()),
            Op::Run(command) => (Extent::of_command(command, of), format!("`{command}` makes it")),
            Op::Reboot => (Extent::Anything, "the boot brings it".into()),
            Op::WaitFor { condition, .. } => {
                (Extent::Anything, format!("it comes while the run waits until {condition}"))
            }
            Op::Checkout(Checkout { path, .. }) => {
                self.checkouts.insert(path.clone());
                return;
            }
            Op::Unit { name, action: UnitAction::Start | UnitAction::Restart } => {
                (self.extent_of_start(name), format!("starting {name} makes it"))
            }
            _ => return,
        };
        self.possible.push(Possible { extent, why: Why(why) });
    }

    /// Takes a resource as done of which it is not known what it does, but for what it decides, and maybe for the text that it
    /// adds to a file.
    pub(crate) fn foresee_unknown(&mut self, what: &str, resource: &dyn Resource, adds: Option<String>) {
        self.changed = true;
        let extent = Extent::of_resource(resource, self).adding(adds);
        self.possible.push(Possible { extent, why: Why(format!("{what} makes it")) });
    }

    /// What comes out while something is taken for what nobody knows.
    pub(crate) fn pretending<T>(&mut self, pretence: Pretence, read: impl FnOnce(&Self) -> T) -> T {
        let is_absent = pretence == Pretence::Absent;
        let possible = if is_absent { mem::take(&mut self.possible) } else { Vec::new() };
        self.pretence = pretence;
        let result = read(self);
        self.pretence = Pretence::Nothing;
        if is_absent {
            self.possible = possible;
        }
        result
    }

    /// Takes an operation as done, with only its certain effects.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::WriteFile(write) => {
                let entry = Entry { kind: EntryKind::File, attributes: write.attributes.clone() };
                let content = Held::Bytes(write.content.clone());
                self.paths.insert(write.path.clone(), Some(Node { entry, content }));
            }
            Op::Download(download) => {
                let entry = Entry { kind: EntryKind::File, attributes: download.attributes.clone() };
                let content = Held::Fetched(download.sha256.clone());
                self.paths.insert(download.path.clone(), Some(Node { entry, content }));
            }
            Op::Checkout(Checkout { path, commit, attributes, .. }) => {
                self.remove(path);
                self.put(path, EntryKind::Directory, attributes.clone());
                let entry = Entry { kind: EntryKind::File, attributes: attributes.clone() };
                let content = Held::Bytes(Content::new(format!("{commit}\n")));
                self.paths.insert(path.join(".git/HEAD"), Some(Node { entry, content }));
            }
            Op::CreateDirectory { path, attributes } => {
                self.put(path, EntryKind::Directory, attributes.clone());
            }
            Op::CreateSymlink { path, target, .. } => self.link(path, target),
            Op::SetAttributes { path, attributes, .. } => {
                if let Ok(Known::Yes(Some(entry))) = self.entry(path) {
                    let content = match (self.laid_over(path), self.content(path)) {
                        (Some(LaidOver::Node(node)), _) => node.content.clone(),
                        (_, Ok(Known::Yes(Some(bytes)))) => Held::Bytes(Content::new(bytes)),
                        _ => Held::Bytes(Content::new("")),
                    };
                    let entry = Entry { attributes: attributes.clone(), ..entry };
                    self.paths.insert(path.clone(), Some(Node { entry, content }));
                }
            }
            Op::Remove { path, .. } => self.remove(path),
            Op::InstallPackages { packages } => {
                for package in packages {
                    let version = package.version.clone().unwrap_or_else(|| NEWEST.into());
                    self.packages.insert(package.name.clone(), Some(version));
                    self.residual.insert(package.name.clone(), false);
                }
            }
            Op::RemovePackages { packages, purge } => {
                // Only dpkg knows of a package of which nothing but its configuration is left.
                let leaves = !purge && self.host.package_manager == Some(PackageManager::Apt);
                self.residual.extend(packages.iter().map(|name| (name.clone(), leaves)));
                self.packages.extend(packages.iter().map(|name| (name.clone(), None)));
                self.held.extend(packages.iter().map(|name| (name.clone(), false)));
            }
            Op::UpgradePackages { packages, .. } => {
                let newest = packages.iter().map(|name| (name.clone(), Some(NEWEST.into())));
                self.packages.extend(newest);
            }
            Op::HoldPackages { packages, held } => {
                self.held.extend(packages.iter().map(|name| (name.clone(), *held)));
            }
            Op::CreateGroup { name, gid, .. } => {
                self.groups.insert(name.clone(), Some(Group { gid: *gid }));
            }
            Op::ModifyGroup { name, gid } => {
                self.groups.insert(name.clone(), Some(Group { gid: Some(*gid) }));
            }
            Op::RemoveGroup { name } => {
                self.groups.insert(name.clone(), None);
            }
            Op::CreateUser(request) => self.create_user(request),
            Op::ModifyUser(request) => self.modify_user(request),
            Op::RemoveUser { name } => {
                self.users.insert(name.clone(), None);
            }
            Op::Unit { name, action } => self.act_on_unit(name, *action),
            Op::SetKernelParameter { key, value, .. } => {
                self.kernel.insert(key.clone(), value.clone());
            }
            Op::LoadFirewall(firewall) => {
                self.firewalls.insert(firewall.table.clone(), firewall.ruleset.clone());
            }
            Op::Unpack(unpack) => {
                let is_in = |path: &Path| path.starts_with(&unpack.path) && path != unpack.path;
                self.paths.retain(|path, _| !is_in(path));
                let why = Why(format!("unpacking {} brings it", unpack.archive));
                self.unpacked.push((unpack.path.clone(), why));
            }
            Op::WaitFor { condition, .. } => match condition {
                Condition::Absent(path) => self.remove(path),
                Condition::Running(unit) => drop(self.active.insert(unit.clone(), true)),
                Condition::Stopped(unit) => drop(self.active.insert(unit.clone(), false)),
                // Of what comes to be at a path, its kind and owner are not known.
                Condition::Exists(_) | Condition::Tcp { .. } | Condition::Succeeds(_) => {}
            },
            Op::Run(_) | Op::Reboot => {}
        }
    }

    fn put(&mut self, path: &Path, kind: EntryKind, attributes: Attributes) {
        let entry = Entry { kind, attributes };
        let content = Held::Bytes(Content::new(""));
        self.paths.insert(path.to_owned(), Some(Node { entry, content }));
    }

    fn link(&mut self, path: &Path, target: &Path) {
        let attributes = Attributes { owner: "root".into(), group: "root".into(), mode: 0o777 };
        self.put(path, EntryKind::Symlink { target: target.to_owned() }, attributes);
    }

    fn remove(&mut self, path: &Path) {
        self.paths.retain(|other, _| !other.starts_with(path));
        self.paths.insert(path.to_owned(), None);
    }

    fn create_user(&mut self, request: &UserRequest) {
        let group = request.group.clone().unwrap_or_else(|| {
            // useradd makes a group of the user's name (USERGROUPS_ENAB).
            self.groups.insert(request.name.clone(), Some(Group { gid: None }));
            request.name.clone()
        });
        let mut groups = request.groups.clone().unwrap_or_default();
        groups.sort();
        let home = request.home.clone().unwrap_or_else(|| Path::new("/home").join(&request.name));
        if request.create_home {
            let attributes = Attributes { owner: request.name.clone(), group: group.clone(), mode: 0o700 };
            self.put(&home, EntryKind::Directory, attributes);
        }
        let user = User {
            uid: request.uid,
            group,
            groups,
            home,
            shell: request.shell.clone().unwrap_or_else(|| "/bin/sh".into()),
            comment: request.comment.clone().unwrap_or_default(),
        };
        self.users.insert(request.name.clone(), Some(user));
    }

    fn modify_user(&mut self, request: &UserRequest) {
        let Ok(Known::Yes(Some(before))) = self.user(&request.name) else { return };
        let mut groups = request.groups.clone().unwrap_or(before.groups);
        groups.sort();
        let user = User {
            uid: request.uid.or(before.uid),
            group: request.group.clone().unwrap_or(before.group),
            groups,
            home: request.home.clone().unwrap_or(before.home),
            shell: request.shell.clone().unwrap_or(before.shell),
            comment: request.comment.clone().unwrap_or(before.comment),
        };
        self.users.insert(request.name.clone(), Some(user));
    }

    fn act_on_unit(&mut self, name: &str, action: UnitAction) {
        let masking = Path::new("/etc/systemd/system").join(name);
        match action {
            UnitAction::Enable => {
                let target = Path::new("/usr/lib/systemd/system").join(name);
                for link in enable_links(self, name) {
                    self.link(&link, &target);
                }
            }
            UnitAction::Disable => {
                for link in enable_links(self, name) {
                    self.remove(&link);
                }
            }
            UnitAction::Mask => self.link(&masking, Path::new("/dev/null")),
            UnitAction::Unmask => self.remove(&masking),
            UnitAction::Start | UnitAction::Restart => {
                self.active.insert(name.to_owned(), true);
            }
            UnitAction::Stop => {
                self.active.insert(name.to_owned(), false);
            }
            UnitAction::Reload => {}
        }
    }

    /// A fact that operations of the plan made.
    fn derived<T>(&self, fact: T) -> Known<T> {
        self.rests_on(Basis::Derived);
        Known::Yes(fact)
    }

    /// A fact that nobody knows.
    fn unknown<T>(&self, why: Why) -> Known<T> {
        self.rests_on(Basis::Assumed);
        Known::Unknown(why)
    }

    /// A fact, or what is taken for it where nobody knows it and [`Pretence::EmptyFile`] is made.
    fn or_pretended<T>(
        &self,
        fact: Known<Option<T>>,
        pretended: impl FnOnce(&Path) -> T,
    ) -> Known<Option<T>> {
        match (fact, &self.pretence) {
            (Known::Unknown(_), Pretence::EmptyFile(path)) => Known::Yes(Some(pretended(path))),
            (fact, _) => fact,
        }
    }

    /// The texts of which it was asked whether packages have them.
    pub(crate) fn looked_for(&self) -> BTreeSet<String> {
        self.looked_for.borrow().clone()
    }

    /// What is at a path underneath, where nothing was unpacked over it and no checkout takes its place.
    fn at_path<T>(
        &self,
        path: &Path,
        read: impl FnOnce(&dyn Facts) -> Reading<Option<T>>,
    ) -> Reading<Option<T>> {
        match self.checked_out(path).as_ref().or_else(|| self.unpacked(path)).or_else(|| self.undecided(path))
        {
            Some(why) => self.noted(Ok(Known::Unknown(why.clone()))),
            None => self.beneath(&Subject::Path(path), read),
        }
    }

    /// A fact from underneath, where absence may no longer be certain.
    fn beneath<T>(
        &self,
        subject: &Subject<'_>,
        read: impl FnOnce(&dyn Facts) -> Reading<Option<T>>,
    ) -> Reading<Option<T>> {
        let reading = self.base.map_or(Ok(Known::Yes(None)), read)?;
        if self.possible.is_empty() || !matches!(reading, Known::Yes(None)) {
            return self.noted(Ok(reading));
        }
        Ok(match self.why_possible(subject) {
            Some(why) => self.unknown(why.clone()),
            // That nothing brings it follows from what the plan does.
            None => self.derived(None),
        })
    }

    /// Why what is at a path is not known, although the host underneath knows it.
    fn unpacked(&self, path: &Path) -> Option<&Why> {
        let above = |(folder, _): &&(PathBuf, Why)| path.starts_with(folder) && path != folder;
        self.unpacked
            .iter()
            .rev()
            .find(above)
            .map(|(_, why)| why)
            .filter(|_| self.pretence != Pretence::Absent)
    }

    /// The same of a path in a checkout, or of the checkout itself.
    fn checked_out(&self, path: &Path) -> Option<Why> {
        let checkout = path.ancestors().find(|parent| self.checkouts.contains(*parent))?;
        Some(Why(format!("the checkout `{}` has it", checkout.display())))
    }

    /// What the operations made of a path, if they touched it or removed what it is in.
    fn laid_over(&self, path: &Path) -> Option<LaidOver<'_>> {
        if let Some(node) = self.paths.get(path) {
            self.rests_on(Basis::Derived);
            return Some(node.as_ref().map_or(LaidOver::Nothing, LaidOver::Node));
        }
        if self.checked_out(path).is_some() {
            return None;
        }
        let removed =
            path.ancestors().skip(1).find_map(|parent| self.paths.get(parent)).is_some_and(Option::is_none);
        removed.then(|| {
            self.rests_on(Basis::Derived);
            LaidOver::Nothing
        })
    }
}

/// Why what is in a file is not known yet.
fn fetched(path: &Path) -> Why {
    Why(format!("what is put at `{}` has it", path.display()))
}

#[cfg(test)]
mod tests;
