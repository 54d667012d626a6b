//! What is true of a simulated host.

use std::io::Cursor;
use std::path::Path;

use super::extent::Subject;
use super::{Held, LaidOver, Pretence, Simulated, fetched};
use crate::archive::ReadSeek;
use crate::op::{Command, PackageRequest, Upgrades};
use crate::plan::{Basis, Guards};
use crate::system::{
    Attributes, Entry, EntryKind, Facts, FactsError, Group, Host, Known, PackageChange, PackageFile, Reading,
    User, Why,
};

impl Facts for Simulated<'_> {
    fn host(&self) -> &Host {
        &self.host
    }

    fn entry(&self, path: &Path) -> Reading<Option<Entry>> {
        match self.laid_over(path) {
            Some(LaidOver::Node(node)) => Ok(Known::Yes(Some(node.entry.clone()))),
            Some(LaidOver::Nothing) => Ok(Known::Yes(None)),
            None => {
                let entry = self.at_path(path, |base| base.entry(path))?;
                let pretended = |file: &Path| Entry {
                    kind: if file == path { EntryKind::File } else { EntryKind::Directory },
                    attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
                };
                Ok(match (&entry, &self.pretence) {
                    // Where a file may come its folder may come.
                    (Known::Yes(None), Pretence::EmptyFile(file))
                        if file != path && file.starts_with(path) =>
                    {
                        Known::Yes(Some(pretended(file)))
                    }
                    _ => self.or_pretended(entry, pretended),
                })
            }
        }
    }

    fn content(&self, path: &Path) -> Reading<Option<Vec<u8>>> {
        let content = match self.laid_over(path) {
            Some(LaidOver::Node(node)) if node.entry.kind == EntryKind::File => match &node.content {
                Held::Bytes(content) => Known::Yes(Some(content.bytes().to_vec())),
                Held::Fetched(_) => self.unknown(fetched(path)),
                Held::Packed(why) => self.unknown(why.clone()),
            },
            Some(_) => Known::Yes(None),
            None => self.at_path(path, |base| base.content(path))?,
        };
        Ok(self.or_pretended(content, |_| Vec::new()))
    }

    fn sha256(&self, path: &Path) -> Reading<Option<String>> {
        match self.laid_over(path) {
            Some(LaidOver::Node(node)) if node.entry.kind == EntryKind::File => Ok(match &node.content {
                Held::Bytes(content) => Known::Yes(Some(content.sha256())),
                Held::Fetched(sha256) => Known::Yes(Some(sha256.clone())),
                Held::Packed(why) => self.unknown(why.clone()),
            }),
            Some(_) => Ok(Known::Yes(None)),
            None => self.at_path(path, |base| base.sha256(path)),
        }
    }

    fn is_unchanged(&self, checkout: &Path, owner: &str) -> Reading<bool> {
        match self.base {
            Some(base) if !self.checkouts.contains(checkout) => {
                self.noted(base.is_unchanged(checkout, owner))
            }
            _ => Ok(self.derived(true)),
        }
    }

    fn open(&self, path: &Path) -> Reading<Option<Box<dyn ReadSeek>>> {
        match self.laid_over(path) {
            Some(LaidOver::Node(node)) if node.entry.kind == EntryKind::File => Ok(match &node.content {
                Held::Bytes(content) => Known::Yes(Some(Box::new(Cursor::new(content.bytes().to_vec())))),
                Held::Fetched(_) => self.unknown(fetched(path)),
                Held::Packed(why) => self.unknown(why.clone()),
            }),
            Some(_) => Ok(Known::Yes(None)),
            None => self.at_path(path, |base| base.open(path)),
        }
    }

    fn names(&self, path: &Path) -> Reading<Vec<String>> {
        if let Some(why) = self.checked_out(path) {
            return Ok(self.unknown(why));
        }
        if let Some(why) = self.unpacked(&path.join("any")) {
            return Ok(self.unknown(why.clone()));
        }
        if let Some(why) = self.why_possible(&Subject::Names(path)) {
            return Ok(self.unknown(why.clone()));
        }
        let mut names = match self.base.map_or(Ok(Known::Yes(Vec::new())), |base| base.names(path)) {
            Ok(Known::Yes(names)) => self.noted(Ok(Known::Yes(names)))?.known().unwrap_or_default(),
            other => return self.noted(other),
        };
        for (child, node) in self.paths.iter().filter(|(child, _)| child.parent() == Some(path)) {
            self.rests_on(Basis::Derived);
            let name = child.file_name().unwrap_or_default().to_string_lossy().into_owned();
            names.retain(|other| *other != name);
            if node.is_some() {
                names.push(name);
            }
        }
        names.sort();
        Ok(Known::Yes(names))
    }

    fn names_if_known(&self, path: &Path) -> Result<Option<Vec<String>>, FactsError> {
        let read = self.read();
        match self.names(path)? {
            Known::Yes(names) => Ok(Some(names)),
            Known::Unknown(_) => {
                self.read.set(read);
                Ok(None)
            }
        }
    }

    fn package(&self, name: &str) -> Reading<Option<String>> {
        match self.packages.get(name) {
            Some(version) => Ok(self.derived(version.clone())),
            // A package that is not wanted by name may come as a dependency.
            None => self.beneath(&Subject::Package, |base| base.package(name)),
        }
    }

    fn is_residual(&self, package: &str) -> Reading<bool> {
        match (self.residual.get(package), self.base) {
            (Some(residual), _) => Ok(self.derived(*residual)),
            (None, Some(base)) => self.noted(base.is_residual(package)),
            (None, None) => Ok(Known::Yes(false)),
        }
    }

    fn is_half_there(&self, package: &str) -> Reading<bool> {
        match self.base {
            Some(base) if !self.packages.contains_key(package) => self.noted(base.is_half_there(package)),
            _ => Ok(self.derived(false)),
        }
    }

    fn package_file(&self, path: &Path) -> Reading<Option<PackageFile>> {
        match self.laid_over(path) {
            Some(LaidOver::Node(_)) => Ok(self.unknown(fetched(path))),
            Some(LaidOver::Nothing) => Ok(Known::Yes(None)),
            None => self.at_path(path, |base| base.package_file(path)),
        }
    }

    fn held(&self, package: &str) -> Reading<bool> {
        match (self.held.get(package), self.base) {
            (Some(held), _) => Ok(self.derived(*held)),
            (None, Some(base)) => self.noted(base.held(package)),
            (None, None) => Ok(Known::Yes(false)),
        }
    }

    fn upgradable(&self, which: Upgrades) -> Reading<Vec<String>> {
        match self.base {
            Some(base) if self.guards == Guards::Run && !self.changed => self.noted(base.upgradable(which)),
            _ => Ok(self.unknown(Why("the repositories have newer packages".into()))),
        }
    }

    fn transaction(&self, packages: &[PackageRequest]) -> Reading<Vec<PackageChange>> {
        match self.base {
            Some(base) if !self.changed => self.noted(base.transaction(packages)),
            _ => Ok(self.unknown(Why("the package lists can tell it".into()))),
        }
    }

    fn user(&self, name: &str) -> Reading<Option<User>> {
        if let Some(user) = self.users.get(name) {
            return Ok(self.derived(user.clone()));
        }
        let user = self.beneath(&Subject::Account(name), |base| base.user(name))?;
        Ok(self.or_pretended(user, |_| User::default()))
    }

    fn group(&self, name: &str) -> Reading<Option<Group>> {
        if let Some(group) = self.groups.get(name) {
            return Ok(self.derived(group.clone()));
        }
        let group = self.beneath(&Subject::Account(name), |base| base.group(name))?;
        Ok(self.or_pretended(group, |_| Group { gid: None }))
    }

    fn active(&self, unit: &str) -> Reading<bool> {
        if let Some(active) = self.active.get(unit) {
            return Ok(self.derived(*active));
        }
        let is_active = |base: &dyn Facts| Ok(base.active(unit)?.map(|active| active.then_some(())));
        let reading = self.beneath(&Subject::Unit(unit), is_active)?;
        // What runs without being told to was started by something else; it is not running now.
        Ok(reading.map(|active| active.is_some()))
    }

    fn kernel_parameter(&self, key: &str) -> Reading<Option<String>> {
        match self.kernel.get(key) {
            Some(value) => Ok(self.derived(Some(value.clone()))),
            None => self.noted(self.base.map_or(Ok(Known::Yes(None)), |base| base.kernel_parameter(key))),
        }
    }

    fn accepts(&self, address: &str) -> Reading<bool> {
        match self.base {
            Some(base) if self.guards == Guards::Run && !self.changed => self.noted(base.accepts(address)),
            _ => Ok(self.unknown(Why(format!("{address} accepts connections")))),
        }
    }

    fn firewall_loaded(&self, rules: &Path, table: &str) -> Reading<bool> {
        match (self.firewalls.get(table), self.base) {
            (Some(loaded), _) => {
                self.rests_on(Basis::Derived);
                Ok(self.content(rules)?.map(|rules| rules.as_deref() == Some(loaded.bytes())))
            }
            (None, Some(base)) => self.noted(base.firewall_loaded(rules, table)),
            (None, None) => Ok(Known::Yes(false)),
        }
    }

    fn succeeds(&self, command: &Command) -> Reading<bool> {
        match self.base {
            Some(base) if self.guards == Guards::Run && !self.changed => self.noted(base.succeeds(command)),
            Some(base) if self.guards == Guards::Run && self.is_untouched(command) => {
                self.rests_on(Basis::Derived);
                base.succeeds(command)
            }
            _ => Ok(self.unknown(Why(format!("`{command}` succeeds")))),
        }
    }

    fn output(&self, command: &Command) -> Reading<String> {
        match self.base {
            Some(base) if self.guards == Guards::Run && !self.changed => self.noted(base.output(command)),
            _ => Ok(self.unknown(Why(format!("`{command}` then prints the same")))),
        }
    }
}
