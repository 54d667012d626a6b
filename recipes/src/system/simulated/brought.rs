//! What packages bring whose archives are at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::Path;

use super::extent::Extent;
use super::scripts::{Effects, Programs, effects_of};
use super::{Held, Node, Simulated};
use crate::op::{Content, Op, PackageRequest, UnitAction};
use crate::system::{Entry, EntryKind, Facts, Known, PackageArchive, Why};

/// Where the files of packages have a second name, since `/lib` is a link to `/usr/lib` (hier(7)).
const MERGED: &[&str] = &["/bin", "/lib", "/lib64", "/sbin"];

/// Whether a path is below `/usr`, by either of its names.
fn is_of_programs(path: &Path) -> bool {
    MERGED.iter().chain(&["/usr"]).any(|folder| path.starts_with(folder))
}

/// The packages that a plan installs, by name, with their versions and with what they bring, where their archives are at hand.
#[derive(Default)]
pub(crate) struct Archives {
    pub(crate) packages: BTreeMap<String, (String, Option<PackageArchive>)>,
    /// The texts that were looked for in them.
    pub(crate) looked_for: BTreeSet<String>,
}

impl Archives {
    /// Whether a text is in none of them, as far as it was looked for.
    pub(super) fn lack(&self, text: &str) -> bool {
        let archives = self.packages.values().filter_map(|(_, archive)| archive.as_ref());
        self.looked_for.contains(text) && !archives.into_iter().any(|archive| archive.texts.contains(text))
    }

    /// What comes with some packages: these, what they depend on, and what that does. None if an archive is missing.
    fn with<'a>(
        &'a self,
        packages: &'a [PackageRequest],
        is_there: &dyn Fn(&str) -> bool,
    ) -> Option<BTreeMap<&'a str, (&'a str, &'a PackageArchive)>> {
        let recommends = packages.iter().any(|package| package.recommends);
        let mut found = BTreeMap::new();
        let mut wanted: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        while let Some(name) = wanted.pop() {
            for (name, (version, archive)) in self.named(name) {
                let archive = archive.as_ref()?;
                if found.insert(name, (version.as_str(), archive)).is_some() {
                    continue;
                }
                let more = archive.recommends.iter().filter(|_| recommends);
                for either in archive.depends.iter().chain(more) {
                    // The solver takes the first of them, unless another is there.
                    if !either.iter().any(|name| is_there(name)) {
                        wanted.extend(
                            either.iter().find(|name| self.named(name).next().is_some()).map(String::as_str),
                        );
                    }
                }
            }
        }
        packages.iter().all(|package| found.contains_key(package.name.as_str())).then_some(found)
    }

    /// The packages of a name, and those that stand for it.
    fn named<'a>(
        &'a self,
        name: &str,
    ) -> impl Iterator<Item = (&'a str, &'a (String, Option<PackageArchive>))> {
        self.packages
            .iter()
            .filter(move |(other, (_, archive))| {
                *other == name || archive.as_ref().is_some_and(|archive| archive.provides.contains(name))
            })
            .map(|(name, package)| (name.as_str(), package))
    }
}

impl Simulated<'_> {
    /// Says what the packages bring that will be installed.
    pub(crate) fn with_archives(mut self, archives: Archives) -> Self {
        self.archives = archives;
        self
    }

    /// Lays over what packages have in them, if that is known, and says what else they may make.
    pub(super) fn bring(&mut self, packages: &[PackageRequest]) -> Extent {
        let archives = mem::take(&mut self.archives);
        let is_there = |name: &str| matches!(self.package(name), Ok(Known::Yes(Some(_))));
        let Some(coming) = archives.with(packages, &is_there) else {
            self.archives = archives;
            return Extent::Anything;
        };
        let programs = Programs::of(coming.values().map(|(_, archive)| *archive));
        let mut scripts = Vec::new();
        for (name, (version, archive)) in coming {
            if !self.brought.insert(name.to_owned()) {
                continue;
            }
            let was_there = matches!(self.base.map(|base| base.package(name)), Some(Ok(Known::Yes(Some(_)))));
            let is_new = !was_there && matches!(self.is_residual(name), Ok(Known::Yes(false)));
            self.packages.insert(name.to_owned(), Some(version.to_owned()));
            self.residual.insert(name.to_owned(), false);
            let (mut effects, rest) = effects_of(&archive.scripts, is_new);
            let rest = programs.with(rest);
            for (path, (entry, content)) in &archive.entries {
                // What is not in `/usr` its scripts may change, if they name it; that a folder is there is certain.
                let is_fixed = is_of_programs(path);
                if is_fixed || entry.kind == EntryKind::Directory || !rest.names_path(path) {
                    let is_conffile = archive.conffiles.contains(path);
                    self.put_packed(name, path, entry, content.as_deref(), is_conffile, was_there);
                }
                if path.starts_with("/usr/lib/sysusers.d") {
                    effects
                        .add_sysusers(&content.as_deref().map(String::from_utf8_lossy).unwrap_or_default());
                }
            }
            scripts.push(rest);
            self.take(effects, was_there);
        }
        self.archives = archives;
        Extent::Scripts(scripts)
    }

    /// Takes what scripts do for certain as done.
    fn take(&mut self, effects: Effects, was_there: bool) {
        for unit in effects.enabled.iter().filter(|_| !was_there) {
            self.act_on_unit(unit, UnitAction::Enable);
        }
        for script in effects.init_scripts.iter().filter(|_| !was_there) {
            let target = Path::new("../init.d").join(script);
            for level in 2..=5 {
                let path = format!("/etc/rc{level}.d/S01{script}").into();
                self.apply(&Op::CreateSymlink { path, target: target.clone(), before: None });
            }
        }
        for (name, user) in effects.users {
            if matches!(self.user(&name), Ok(Known::Yes(None) | Known::Unknown(_))) {
                self.users.insert(name, Some(user));
            }
        }
        for (name, group) in effects.groups {
            if matches!(self.group(&name), Ok(Known::Yes(None) | Known::Unknown(_))) {
                self.groups.insert(name, Some(group));
            }
        }
    }

    fn put_packed(
        &mut self,
        package: &str,
        path: &Path,
        entry: &Entry,
        content: Option<&[u8]>,
        is_conffile: bool,
        was_there: bool,
    ) {
        let is_kept = |old: &Entry| {
            // What is in the way of a folder stays if it is one, or a link to one, as `/lib` is; of a file, if it is one that the
            // administrator may have changed.
            let leads_in = matches!(old.kind, EntryKind::Directory | EntryKind::Symlink { .. });
            leads_in && entry.kind == EntryKind::Directory || is_conffile && !was_there
        };
        let mut places = vec![path.to_owned()];
        let merged = MERGED.iter().find(|folder| path.starts_with(folder) && path != Path::new(folder));
        if merged.is_some_and(|folder| self.is_link(Path::new(folder))) {
            places.push(Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path)));
        }
        for place in places {
            if matches!(self.entry(&place), Ok(Known::Yes(Some(old))) if is_kept(&old)) {
                continue;
            }
            let content = match content {
                Some(bytes) if !(is_conffile && was_there) => Held::Bytes(Content::new(bytes)),
                _ => Held::Packed(Why(format!("installing {package} brings it"))),
            };
            self.paths.insert(place, Some(Node { entry: entry.clone(), content }));
        }
    }

    fn is_link(&self, path: &Path) -> bool {
        matches!(self.entry(path), Ok(Known::Yes(Some(Entry { kind: EntryKind::Symlink { .. }, .. }))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Guards;
    use crate::system::Attributes;
    use crate::system::fake::Fake;
    use crate::system::units::{Enablement, unit};

    const UNIT: &str = "[Service]\nExecStart=/usr/sbin/site\n[Install]\nWantedBy=multi-user.target\n";
    const SCRIPTS: &str = "make_account www-site\n\
                           touch /etc/site/made.conf\n\
                           make-key --new\n\
                           if deb-systemd-helper debian-installed 'extra.service'; then deb-systemd-helper enable 'extra.service'; fi\n\
                           deb-systemd-helper enable 'site.service' >/dev/null || true\n";

    fn entry(kind: EntryKind) -> Entry {
        Entry { kind, attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 } }
    }

    /// The package `site`, which wants `web`, which `lib` provides.
    fn archives() -> Archives {
        let file = |text: Option<&str>| (entry(EntryKind::File), text.map(|text| text.as_bytes().to_vec()));
        let site = PackageArchive {
            depends: vec![vec!["there".into()], vec!["absent".into(), "web".into(), "other".into()]],
            recommends: vec![vec!["other".into()]],
            entries: [
                ("/etc/site/site.conf".into(), file(Some("a = 1\n"))),
                ("/etc/kept".into(), file(Some("theirs\n"))),
                ("/usr/sbin/site".into(), file(None)),
                ("/lib".into(), (entry(EntryKind::Directory), None)),
                ("/lib/systemd/system/site.service".into(), file(Some(UNIT))),
                ("/lib/systemd/system/extra.service".into(), file(Some(UNIT))),
            ]
            .into(),
            conffiles: ["/etc/kept".into()].into(),
            scripts: SCRIPTS.into(),
            ..PackageArchive::default()
        };
        let program = "#!/bin/sh\n# Not in /etc/site/noted.\n. /usr/share/lib/functions\n";
        let lib = PackageArchive {
            provides: ["web".into()].into(),
            entries: [
                ("/usr/bin/make-key".into(), file(Some(program))),
                ("/usr/bin/other".into(), file(Some("#!/bin/sh\ntouch /etc/site/other.conf\n"))),
                ("/usr/share/lib/functions".into(), file(Some("touch /etc/site/key\n"))),
            ]
            .into(),
            scripts: "test -e /usr/share/lib/functions\n".into(),
            ..PackageArchive::default()
        };
        let other = PackageArchive { depends: vec![vec!["missing".into()]], ..PackageArchive::default() };
        let coming = [("site", Some(site)), ("lib", Some(lib)), ("other", Some(other)), ("missing", None)];
        let packages = coming.map(|(name, archive)| (name.to_owned(), ("1".to_owned(), archive))).into();
        Archives { packages, looked_for: BTreeSet::new() }
    }

    fn install(simulated: &mut Simulated<'_>, name: &str) {
        let package = PackageRequest { name: name.into(), version: None, recommends: false, source: None };
        simulated.foresee(&Op::InstallPackages { packages: vec![package] }, None);
    }

    fn host() -> Fake {
        let mut fake = Fake::debian();
        fake.symlink("/lib", "usr/lib");
        fake.file("/etc/kept", "ours\n");
        fake
    }

    #[test]
    fn what_an_archive_has_is_known_and_what_its_scripts_name_is_not() {
        let host = host();
        let mut simulated = Simulated::over(&host, Guards::Skip).with_archives(archives());
        install(&mut simulated, "site");
        let content = |path: &str| simulated.content(Path::new(path)).expect("read");
        assert_eq!(content("/etc/site/site.conf"), Known::Yes(Some(b"a = 1\n".to_vec())));
        assert_eq!(content("/etc/kept"), Known::Yes(Some(b"ours\n".to_vec())), "a changed conffile stays");
        assert!(matches!(content("/usr/sbin/site"), Known::Unknown(_)));
        assert!(matches!(simulated.entry(Path::new("/usr/sbin/site")), Ok(Known::Yes(Some(_)))));
        assert!(matches!(content("/var/log/dpkg.log"), Known::Unknown(_)));
        assert_eq!(content("/etc/site/other.conf"), Known::Yes(None));
        let why = Why("installing site brings it".into());
        assert_eq!(content("/etc/site/made.conf"), Known::Unknown(why.clone()));
        assert_eq!(
            content("/etc/site/key"),
            Known::Unknown(why.clone()),
            "a program makes it that the script runs"
        );
        assert_eq!(content("/etc/site/noted"), Known::Yes(None));
        let are_known = |path: &str| matches!(simulated.names(Path::new(path)), Ok(Known::Yes(_)));
        assert!(!are_known("/etc/site") && are_known("/run/site"));
        assert_eq!(simulated.user("www-site").expect("read"), Known::Unknown(why));
        assert_eq!(simulated.user("other").expect("read"), Known::Yes(None));
        let version = |name: &str| simulated.package(name).expect("read");
        assert_eq!((version("lib"), version("other")), (Known::Yes(Some("1".into())), Known::Yes(None)));
        let enablement = |name: &str| match unit(&simulated, name) {
            Ok(Known::Yes(unit)) => unit.enablement,
            other => panic!("{other:?}"),
        };
        assert_eq!(enablement("site.service"), Enablement::Enabled);
        assert_eq!(enablement("extra.service"), Enablement::Disabled);
    }

    #[test]
    fn a_service_whose_unit_may_have_another_in_its_place_makes_no_more_than_a_service() {
        let host = host();
        let mut archives = archives();
        if let Some((_, Some(site))) = archives.packages.get_mut("site") {
            site.scripts +=
                "test -d /run/systemd/system && systemctl disable site.service worker@one.service\n";
            let template = (entry(EntryKind::File), Some(UNIT.into()));
            site.entries.insert("/lib/systemd/system/worker@.service".into(), template);
        }
        let mut simulated = Simulated::over(&host, Guards::Skip).with_archives(archives);
        install(&mut simulated, "site");
        assert!(matches!(
            simulated.entry(Path::new("/etc/systemd/system/site.service")),
            Ok(Known::Unknown(_))
        ));
        simulated.foresee(&Op::Unit { name: "site.service".into(), action: UnitAction::Start }, None);
        assert!(matches!(simulated.entry(Path::new("/etc/other")), Ok(Known::Yes(None))));
        assert!(matches!(simulated.entry(Path::new("/var/tmp/other")), Ok(Known::Unknown(_))));
        let of_instance = |name: &str| simulated.text_of_unit(name).as_deref() == Some(UNIT);
        assert!(of_instance("worker@one.service") && !of_instance("worker.service"));
    }

    #[test]
    fn without_one_archive_nothing_is_known() {
        let host = host();
        let mut simulated = Simulated::over(&host, Guards::Skip).with_archives(archives());
        install(&mut simulated, "other");
        assert!(matches!(simulated.entry(Path::new("/etc/site/other.conf")), Ok(Known::Unknown(_))));
        assert!(matches!(simulated.package("site"), Ok(Known::Unknown(_))));
    }
}
