//! How far operations reach whose result is not known: packages whose archives are at hand, and services that are started.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::{Path, PathBuf};

use super::scripts::{Effects, Programs, Script, effects_of, last_of, names, names_path, paths_in};
use super::{Held, Node, Simulated};
use crate::op::{Command, Content, Input, Op, PackageRequest, UnitAction};
use crate::resource::{Claim, Resource};
use crate::system::units::{full_name, template_of, text_of};
use crate::system::{Entry, EntryKind, Facts, Known, PackageArchive, Why};

/// What may exist although it is absent now.
pub(crate) struct Possible {
    pub(super) extent: Extent,
    pub(super) why: Why,
}

/// What an operation may make, as far as it is not known what it makes.
pub(super) enum Extent {
    Anything,
    /// What these scripts of packages name. All that the packages have in them is known.
    Scripts(Vec<Script>),
    /// What a service writes while it runs, and what its unit names, which is so called and has this in its file.
    Service {
        name: String,
        text: String,
    },
    /// What a resource decides.
    Decided(Decided),
}

/// What a resource decides, where it is not known how.
#[derive(Default)]
pub(super) struct Decided {
    paths: BTreeSet<PathBuf>,
    accounts: BTreeSet<String>,
    /// Units, which may be started, with what is in their files, if that is known.
    units: BTreeMap<String, Option<String>>,
}

/// What a fact is about.
pub(super) enum Subject<'a> {
    Path(&'a Path),
    /// What is in a folder.
    Names(&'a Path),
    /// A user or a group.
    Account(&'a str),
    Package,
    /// Whether a unit is active.
    Unit(&'a str),
}

/// What is configured and installed, and what units there are: no service puts anything there, unless its unit says so (hier(7)).
const STATIC: &[&str] = &[
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib64",
    "/run/modprobe.d",
    "/run/modules-load.d",
    "/run/sysctl.d",
    "/run/systemd",
    "/run/sysusers.d",
    "/run/tmpfiles.d",
    "/sbin",
    "/usr",
];

/// Where the files of packages have a second name, since `/lib` is a link to `/usr/lib` (hier(7)).
const MERGED: &[&str] = &["/bin", "/lib", "/lib64", "/sbin"];

impl Extent {
    fn has(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Anything => true,
            Self::Scripts(scripts) => match subject {
                Subject::Path(path) | Subject::Names(path) => {
                    is_of_dpkg(path) || scripts.iter().any(|script| script.names_path(path))
                }
                Subject::Account(name) => scripts.iter().any(|script| script.names(name)),
                // The solver has told of all packages, and services are kept from starting while packages come.
                Subject::Package | Subject::Unit(_) => false,
            },
            Self::Service { name: unit, text } => match subject {
                Subject::Path(path) | Subject::Names(path) => !is_static(path) || names_path(text, path),
                Subject::Account(name) => names(text, name),
                Subject::Unit(name) => may_start(unit, text, name),
                Subject::Package => false,
            },
            Self::Decided(decided) => decided.has(subject),
        }
    }

    /// How far a command reaches: one that says when it is done says what it is for, and what it names may be part of that;
    /// any other may make anything.
    pub(super) fn of_command(command: &Command, of: Option<&dyn Resource>) -> Self {
        let Some(resource) = of.filter(|resource| !resource.runs_every_time()) else { return Self::Anything };
        let words = command.argv.iter().skip(1).map(String::as_str);
        let input = match &command.input {
            Input::Text(content) | Input::Script { text: content, .. } => {
                String::from_utf8_lossy(content.bytes())
            }
            Input::Nothing => "".into(),
        };
        let named = words.flat_map(paths_in).chain(paths_in(&input));
        let paths = named.chain(resource.creates().map(PathBuf::from)).collect();
        Self::Decided(Decided { paths, ..Decided::default() })
    }

    /// How far a resource reaches of which nothing is known but what it decides.
    pub(super) fn of_resource(resource: &dyn Resource, simulated: &Simulated<'_>) -> Self {
        if let Some(command) = resource.command() {
            return Self::of_command(command, Some(resource));
        }
        let mut decided = Decided::default();
        for claim in resource.claims() {
            match claim {
                Claim::Path(path)
                | Claim::Line { path, .. }
                | Claim::Block { path, .. }
                | Claim::Key { path, .. } => {
                    decided.paths.insert(path);
                }
                Claim::User(name) | Claim::Group(name) => drop(decided.accounts.insert(name)),
                Claim::Unit(name) => {
                    let text = simulated.text_of_unit(&name);
                    decided.units.insert(name, text);
                }
                // These make nothing that is not there, or files that are claimed as well, or what nobody asks for.
                Claim::Removed(_)
                | Claim::Purged { .. }
                | Claim::Permissions(_)
                | Claim::Sysctl(_)
                | Claim::KernelModule(_)
                | Claim::BootParameter(_)
                | Claim::Setting { .. }
                | Claim::PackageHold(_)
                | Claim::PackagePin { .. }
                | Claim::AuthorizedKeys(_)
                | Claim::AuthorizedKey { .. } => {}
                Claim::Package(_) | Claim::PackageUpgrade => return Self::Anything,
            }
        }
        if resource.claims().is_empty() { Self::Anything } else { Self::Decided(decided) }
    }
}

impl Decided {
    fn has(&self, subject: &Subject<'_>) -> bool {
        match subject {
            Subject::Path(path) => {
                let is_of_unit = !self.units.is_empty() && !is_static(path);
                self.paths.iter().any(|decided| path.starts_with(decided))
                    || self.units.contains_key(last_of(path))
                    || is_of_unit
            }
            Subject::Names(folder) => {
                let is_of_unit = !self.units.is_empty() && (!is_static(folder) || folder.ends_with("wants"));
                self.paths.iter().any(|decided| decided.starts_with(folder) || folder.starts_with(decided))
                    || is_of_unit
            }
            Subject::Account(name) => self.accounts.contains(*name),
            Subject::Package => false,
            // One may start others.
            Subject::Unit(name) => {
                let starts = |(unit, text): (&String, &Option<String>)| {
                    text.as_ref().is_none_or(|text| may_start(unit, text, name))
                };
                self.units.contains_key(*name) || self.units.iter().any(starts)
            }
        }
    }
}

/// What says in a unit's file which others are started with it (systemd.unit(5), systemd.timer(5)), or runs a program that might do so.
const STARTS: &[&str] = &[
    "BindsTo",
    "Exec",
    "OnFailure",
    "OnSuccess",
    "Requires",
    "Service",
    "Sockets",
    "Unit",
    "Upholds",
    "Wants",
];

/// Whether starting a unit may start another: its file says so, or it is there for one that is called alike, as a timer is.
fn may_start(unit: &str, text: &str, name: &str) -> bool {
    let stem = |name: &str| name.rsplit_once('.').map(|(stem, _)| stem.to_owned());
    let starts = |line: &&str| STARTS.iter().any(|start| line.starts_with(start));
    stem(unit) == stem(name) || text.lines().filter(starts).any(|line| names(line, name))
}

/// Whether dpkg and apt themselves write there.
fn is_of_dpkg(path: &Path) -> bool {
    let folders = [
        "/var/cache",
        "/var/lib/apt",
        "/var/lib/dpkg",
        "/var/log/alternatives.log",
        "/var/log/apt",
        "/var/log/dpkg.log",
    ];
    folders.iter().any(|folder| path.starts_with(folder))
}

fn is_static(path: &Path) -> bool {
    // Nothing is put beside the folders of the root (hier(7)).
    path.parent().is_none_or(|folder| folder == Path::new("/"))
        || STATIC.iter().any(|folder| path.starts_with(folder))
}

/// Whether a path is below `/usr`, by either of its names.
fn is_of_programs(path: &Path) -> bool {
    MERGED.iter().chain(&["/usr"]).any(|folder| path.starts_with(folder))
}

/// The packages that a plan installs, by name, with their versions and with what they bring, where their archives are at hand.
#[derive(Default)]
pub(crate) struct Archives(pub(crate) BTreeMap<String, (String, Option<PackageArchive>)>);

impl Archives {
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
        self.0
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

    /// Why something may be there that is not there now. Of all reasons the last is the likeliest: recipes configure what
    /// they have just installed.
    pub(super) fn why_possible(&self, subject: &Subject<'_>) -> Option<&Why> {
        let possible = self.possible.iter().rev().find(|possible| possible.extent.has(subject));
        possible.map(|possible| &possible.why)
    }

    /// Why it is not known what is at a path, although something is there: a resource decides it, and nobody knows how.
    pub(super) fn undecided(&self, path: &Path) -> Option<&Why> {
        let is_of = |possible: &&Possible| match &possible.extent {
            Extent::Decided(decided) => decided.paths.contains(path),
            _ => false,
        };
        self.possible.iter().rev().find(is_of).map(|possible| &possible.why)
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
            let rest = Script::from(programs.with(rest));
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

    /// Whether what a guard looks at is as it is now, although the plan changes other things: it names paths, which nothing
    /// before it has to do with, and its program is there.
    pub(super) fn is_untouched(&self, guard: &Command) -> bool {
        let accounts = ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"];
        let is_untouched = |path: &PathBuf| {
            let of_accounts = accounts.iter().any(|file| Path::new(file).starts_with(path));
            !self.paths.keys().any(|other| other.starts_with(path) || path.starts_with(other))
                && self.why_possible(&Subject::Path(path)).is_none()
                && self.why_possible(&Subject::Names(path)).is_none()
                && !(of_accounts && !(self.users.is_empty() && self.groups.is_empty()))
        };
        let paths: Vec<PathBuf> = guard.argv.iter().skip(1).flat_map(|word| paths_in(word)).collect();
        let program = guard.argv.first().map(String::as_str).unwrap_or_default();
        let is_program = |folder: &&str| {
            let path = Path::new(folder).join(program);
            matches!(self.base.map(|base| base.entry(&path)), Some(Ok(Known::Yes(Some(_)))))
        };
        let is_there = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(is_program);
        is_there && !paths.is_empty() && paths.iter().all(is_untouched)
    }

    /// What is in the file of a unit; of a package's, if it is not known whether there is another in its place. An init script
    /// is one as well.
    fn text_of_unit(&self, name: &str) -> Option<String> {
        let text = |path: PathBuf| match self.content(&path) {
            Ok(Known::Yes(Some(bytes))) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            _ => None,
        };
        let packaged = |name: &str| text(Path::new("/usr/lib/systemd/system").join(name));
        let of_template = || packaged(&template_of(name)?);
        let init_script = || text(Path::new("/etc/init.d").join(name.strip_suffix(".service")?));
        text_of(self, name).or_else(|| packaged(name)).or_else(of_template).or_else(init_script)
    }

    /// What starting a unit may make.
    pub(super) fn extent_of_start(&self, name: &str) -> Extent {
        // A file system that is mounted covers what was at its path.
        let name = full_name(name);
        match self.text_of_unit(&name) {
            Some(text) if Path::new(&name).extension().is_none_or(|suffix| suffix != "mount") => {
                Extent::Service { name, text }
            }
            _ => Extent::Anything,
        }
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
        Archives(coming.map(|(name, archive)| (name.to_owned(), ("1".to_owned(), archive))).into())
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
        if let Some((_, Some(site))) = archives.0.get_mut("site") {
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
        assert!(matches!(simulated.entry(Path::new("/var/lib/other")), Ok(Known::Unknown(_))));
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

    #[test]
    fn a_service_makes_what_it_works_with_and_what_its_unit_names() {
        let mut host = host();
        let text = "[Service]\nUser=worker\nExecStartPre=keygen /etc/site/key\n[Unit]\nWants=helper.service\nBefore=other.service\n[Install]\nRequiredBy=other.service\n";
        host.file("/usr/lib/systemd/system/site.service", text);
        host.file("/usr/lib/systemd/system/other.timer", "[Timer]\nOnBootSec=0\n");
        let mut simulated = Simulated::over(&host, Guards::Skip);
        simulated.foresee(&Op::Unit { name: "site.service".into(), action: UnitAction::Start }, None);
        let is_known = |path: &str| matches!(simulated.entry(Path::new(path)), Ok(Known::Yes(None)));
        assert!(is_known("/etc/site/conf") && is_known("/usr/lib/x"));
        assert!(!is_known("/etc/site/key") && !is_known("/var/lib/site") && !is_known("/srv/site"));
        assert!(matches!(simulated.user("worker"), Ok(Known::Unknown(_))));
        assert!(matches!(simulated.user("else"), Ok(Known::Yes(None))));
        assert!(matches!(simulated.active("helper.service"), Ok(Known::Unknown(_))));
        assert!(matches!(simulated.active("other.service"), Ok(Known::Yes(false))));
        assert!(is_known("/swapfile") && is_known("/run/sysctl.d/a.conf") && !is_known("/run/site"));
        simulated.foresee(&Op::Unit { name: "other.timer".into(), action: UnitAction::Start }, None);
        assert!(matches!(simulated.active("other.service"), Ok(Known::Unknown(_))));
    }
}
