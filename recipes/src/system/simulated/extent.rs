//! How far operations reach whose result is not known: it is not known what is there within their reach, and nowhere else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::scripts::{Script, last_of, names, names_path, paths_in};
use super::{Held, LaidOver, Node, Simulated};
use crate::op::{Command, Input};
use crate::resource::{Claim, Resource};
use crate::system::units::{full_name, template_of, text_of};
use crate::system::{Facts, Known, Why};

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
    /// Those of them that are folders in which it makes nothing.
    folders: BTreeSet<PathBuf>,
    accounts: BTreeSet<String>,
    /// Units, which may be started, with what is in their files, if that is known.
    units: BTreeMap<String, Option<String>>,
    /// What it adds to what is at its path, if that is all that it does.
    adds: Option<String>,
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

impl Extent {
    fn has(&self, subject: &Subject<'_>, simulated: &Simulated<'_>) -> bool {
        match self {
            Self::Anything => true,
            Self::Scripts(scripts) => match subject {
                Subject::Path(path) | Subject::Names(path) => {
                    is_of_dpkg(path) || scripts.iter().any(|script| script.names_path(path))
                }
                Subject::Account(name) => scripts.iter().any(|script| script.names_account(name)),
                // The solver has told of all packages, and services are kept from starting while packages come.
                Subject::Package | Subject::Unit(_) => false,
            },
            Self::Service { name: unit, text } => match subject {
                Subject::Path(path) => {
                    let is_kept_off =
                        is_static(path) || is_of_root(path) || simulated.is_of_other(path, unit, text);
                    !is_kept_off || names_path(text, path)
                }
                Subject::Names(folder) => !is_static(folder) || names_path(text, folder),
                Subject::Account(name) => names(text, name),
                Subject::Unit(name) => may_start(unit, text, name),
                Subject::Package => false,
            },
            Self::Decided(decided) => decided.has(subject, simulated),
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

    /// The same, where all that a resource does is to add a text.
    pub(super) fn adding(self, adds: Option<String>) -> Self {
        match self {
            Self::Decided(decided) => Self::Decided(Decided { adds, ..decided }),
            other => other,
        }
    }

    /// How far a resource reaches of which nothing is known but what it decides.
    pub(super) fn of_resource(resource: &dyn Resource, simulated: &Simulated<'_>) -> Self {
        if let Some(command) = resource.command() {
            return Self::of_command(command, Some(resource));
        }
        let mut decided = Decided::default();
        for claim in resource.claims() {
            match claim {
                Claim::Purged { path, .. } => drop(decided.folders.insert(path)),
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
    fn has(&self, subject: &Subject<'_>, simulated: &Simulated<'_>) -> bool {
        match subject {
            Subject::Path(path) => {
                let is_kept_off = is_static(path) || is_of_root(path);
                let is_of = |(unit, text): (&String, &Option<String>)| {
                    !text.as_ref().is_some_and(|text| simulated.is_of_other(path, unit, text))
                };
                let is_of_unit = !is_kept_off && self.units.iter().any(is_of);
                let has = |decided: &PathBuf| {
                    path == decided || path.starts_with(decided) && !self.folders.contains(decided)
                };
                self.paths.iter().any(has) || self.units.contains_key(last_of(path)) || is_of_unit
            }
            Subject::Names(folder) => {
                let is_of_unit = !self.units.is_empty() && (!is_static(folder) || folder.ends_with("wants"));
                // With what is deeper comes the folder that it is in, if that is not there.
                let is_in = |decided: &PathBuf| {
                    let below = decided.strip_prefix(folder).ok().and_then(|below| below.iter().next());
                    below.is_some_and(|name| {
                        let child = folder.join(name);
                        child == *decided && !self.folders.contains(decided) || !simulated.is_there(&child)
                    })
                };
                let has = |decided: &PathBuf| is_in(decided) || folder.starts_with(decided);
                self.paths.iter().any(has) || is_of_unit
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
    STATIC.iter().any(|folder| path.starts_with(folder))
}

/// Whether a path is beside the folders of the root, where nothing is put (hier(7)). What is in such a folder is another matter.
fn is_of_root(path: &Path) -> bool {
    path.parent().is_none_or(|folder| folder == Path::new("/"))
}

impl Simulated<'_> {
    /// Why something may be there that is not there now. Of all reasons the last is the likeliest: recipes configure what
    /// they have just installed.
    pub(super) fn why_possible(&self, subject: &Subject<'_>) -> Option<&Why> {
        let has = |possible: &&Possible| possible.extent.has(subject, self);
        self.possible.iter().rev().find(has).map(|possible| &possible.why)
    }

    /// Whether a path is beside the folders in which each program of a package keeps its own, with a name that neither its unit nor a
    /// file of the plan has in it (Filesystem Hierarchy Standard 3.0, 5.5 and 5.8; Debian Policy 9.1).
    fn is_of_other(&self, path: &Path, unit: &str, text: &str) -> bool {
        let is_shared =
            |folder: &Path| ["/var/cache", "/var/lib"].iter().any(|shared| folder == Path::new(shared));
        let packaged = |unit: &str| self.is_there(&Path::new("/usr/lib/systemd/system").join(unit));
        let is_packaged = || packaged(unit) || template_of(unit).is_some_and(|template| packaged(&template));
        let is_configured = || {
            let written = self.paths.values().flatten().filter_map(|node| match &node.content {
                Held::Bytes(content) => Some(String::from_utf8_lossy(content.bytes())),
                _ => None,
            });
            path.to_str().is_none_or(|path| written.into_iter().any(|text| text.contains(path)))
        };
        let is_called = || unit.split(['.', '-', '@']).chain([text]).any(|part| names(part, last_of(path)));
        path.parent().is_some_and(is_shared)
            // What a timer or a socket starts has a unit of its own.
            && unit.ends_with(".service")
            && is_packaged()
            && !is_called()
            && !is_configured()
    }

    /// Whether something is at a path, although it may not be known what.
    fn is_there(&self, path: &Path) -> bool {
        match self.laid_over(path) {
            Some(over) => matches!(over, LaidOver::Node(_)),
            None => matches!(self.base.map(|base| base.entry(path)), Some(Ok(Known::Yes(Some(_))))),
        }
    }

    /// Why it is not known what is at a path, although something is there: a resource decides it, and nobody knows how.
    pub(super) fn undecided(&self, path: &Path) -> Option<&Why> {
        let is_of = |possible: &&Possible| match &possible.extent {
            Extent::Decided(decided) => decided.paths.contains(path),
            _ => false,
        };
        self.possible.iter().rev().find(is_of).map(|possible| &possible.why)
    }

    /// Whether a text is not in what is at a path, nor in anything that may have been put there, since one of its lines is not.
    pub(crate) fn is_new(&self, path: &Path, text: &str) -> bool {
        // Shorter ones are anywhere, and one that is new is enough.
        let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.len() >= 8).collect();
        lines.sort_by_key(|line| Reverse(line.len()));
        lines.truncate(16);
        self.looked_for.borrow_mut().extend(lines.iter().map(|line| (*line).to_owned()));
        let is_decided_elsewhere = match self.laid_over(path) {
            None | Some(LaidOver::Node(Node { content: Held::Packed(_), .. })) => {
                self.checked_out(path).is_some() || self.unpacked(path).is_some()
            }
            Some(_) => true,
        };
        let now = match self.base.map(|base| base.content(path)) {
            None | Some(Ok(Known::Yes(None))) => String::new(),
            Some(Ok(Known::Yes(Some(bytes)))) => String::from_utf8_lossy(&bytes).into_owned(),
            Some(_) => return false,
        };
        lines.retain(|line| !now.contains(line) && self.archives.lack(line));
        if is_decided_elsewhere || lines.is_empty() {
            return false;
        }
        // Scripts may be of megabytes: they are read for what nothing else rules out.
        let subject = Subject::Path(path);
        let extents = self.possible.iter().map(|possible| &possible.extent);
        let possible: Vec<&Extent> = extents.filter(|extent| extent.has(&subject, self)).collect();
        let is_new_in = |extent: &&Extent, line: &str| match extent {
            Extent::Scripts(scripts) => !scripts.iter().any(|script| script.may_compose(line)),
            Extent::Decided(Decided { adds: Some(text), .. }) => !text.contains(line),
            _ => false,
        };
        lines.iter().any(|line| possible.iter().all(|extent| is_new_in(extent, line)))
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
    pub(super) fn text_of_unit(&self, name: &str) -> Option<String> {
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
        let name = full_name(name);
        match self.text_of_unit(&name) {
            Some(text) if Path::new(&name).extension().is_none_or(|suffix| suffix != "mount") => {
                Extent::Service { name, text }
            }
            // A file system that is mounted covers what was at its path.
            _ => Extent::Anything,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Op, UnitAction};
    use crate::plan::Guards;
    use crate::system::fake::Fake;

    #[test]
    fn a_service_makes_what_it_works_with_and_what_its_unit_names() {
        let mut host = Fake::debian();
        let text = "[Service]\nUser=worker\nExecStartPre=keygen /etc/site/key\n[Unit]\nWants=helper.service\nBefore=other.service\n[Install]\nRequiredBy=other.service\n";
        host.file("/usr/lib/systemd/system/site.service", text);
        host.file("/usr/lib/systemd/system/other.timer", "[Timer]\nOnBootSec=0\n");
        let mut simulated = Simulated::over(&host, Guards::Skip);
        simulated.foresee(&Op::Unit { name: "site.service".into(), action: UnitAction::Start }, None);
        let is_known = |path: &str| matches!(simulated.entry(Path::new(path)), Ok(Known::Yes(None)));
        assert!(is_known("/etc/site/conf") && is_known("/usr/lib/x"));
        assert!(is_known("/var/lib/else") && is_known("/var/cache/else") && !is_known("/var/lib/else/a"));
        assert!(!is_known("/etc/site/key") && !is_known("/var/lib/site") && !is_known("/srv/site"));
        assert!(matches!(simulated.user("worker"), Ok(Known::Unknown(_))));
        assert!(matches!(simulated.user("else"), Ok(Known::Yes(None))));
        assert!(matches!(simulated.active("helper.service"), Ok(Known::Unknown(_))));
        assert!(matches!(simulated.active("other.service"), Ok(Known::Yes(false))));
        assert!(matches!(simulated.names(Path::new("/srv")), Ok(Known::Unknown(_))));
        assert!(is_known("/swapfile") && is_known("/run/sysctl.d/a.conf") && !is_known("/run/site"));
        simulated.foresee(&Op::Unit { name: "other.timer".into(), action: UnitAction::Start }, None);
        assert!(matches!(simulated.active("other.service"), Ok(Known::Unknown(_))));
    }
}
