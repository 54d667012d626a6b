//! Resources: things that must be true on a host.
//!
//! Adding a kind is one file here and one line in [`KINDS`]. A resource cannot write: it reads facts and
//! returns operations.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, schema_for};
use serde::de::DeserializeOwned;

use crate::error::Problem;
use crate::from_node::from_node;
use crate::node::Node;
use crate::op::{Command, Content, Op};
use crate::recipe::Recipe;
use crate::source::Location;
use crate::system::{Facts, PlanError};
use crate::template::Scope;

mod absent;
mod alternatives;
mod apt_sources;
mod archive;
mod archive_compare;
mod assert;
mod authorized_key;
mod block;
mod checkers;
mod command;
mod contents;
mod cron;
mod directory;
mod dnf_repo;
mod download;
mod drop_ins;
mod edit;
mod edited;
mod fields;
mod file;
mod firewall;
mod fstab;
mod git;
mod glob;
mod group;
mod grub;
mod hostname;
mod hosts_entry;
mod ini;
mod ini_text;
mod journald;
mod json;
mod json_text;
mod kernel_module;
mod kernel_parameter;
mod keys;
mod limits;
mod line;
mod locale;
mod locales;
mod logrotate;
mod modules;
mod mount;
mod near;
mod nftables;
mod package;
mod package_hold;
mod package_manager;
mod package_pin;
mod package_upgrade;
mod pam;
mod pam_control;
mod pam_files;
mod pam_modules;
mod pam_profile;
mod pam_profile_text;
mod pam_rule;
mod pam_stack;
mod pam_text;
mod part;
mod password_policy;
mod password_settings;
mod permissions;
mod program;
mod public_key;
mod reboot;
mod reference;
mod repository;
mod script;
mod sections;
mod service;
mod sudo;
mod swap;
mod symlink;
mod sysctl;
mod systemd_unit;
mod sysusers;
mod template;
mod timezone;
mod tmpfiles;
mod toml;
mod toml_value;
mod user;
mod wait_for;
mod yaml;
#[cfg(test)]
mod yaml_properties;
mod yaml_text;
mod yaml_tree;
mod yaml_value;

pub use contents::SECRET_FILES;
pub use glob::Glob;
pub use reference::{Field, Reference, facts_reference, reference};

/// The list of kinds, from which everything that is said of all of them is made.
macro_rules! kinds {
    ($($kind:ty),* $(,)?) => {
        /// Every kind of resource, in the order in which the manual lists them.
        pub const KINDS: &[Kind] = &[$(Kind::of::<$kind>()),*];

        /// The name of every kind with the schema of its fields.
        fn schemas() -> Vec<(&'static str, Schema)> {
            vec![$((<$kind>::KIND, schema_for!($kind))),*]
        }
    };
}

kinds![
    package::Package,
    package_hold::PackageHold,
    package_pin::PackagePin,
    package_upgrade::PackageUpgrade,
    repository::Repository,
    file::File,
    template::Template,
    download::Download,
    git::Git,
    directory::Directory,
    archive::ArchiveFields,
    symlink::Symlink,
    line::Line,
    block::Block,
    ini::Ini,
    json::JsonKey,
    toml::TomlKey,
    yaml::YamlKey,
    permissions::Permissions,
    absent::Absent,
    user::User,
    group::Group,
    authorized_key::AuthorizedKey,
    sudo::Sudo,
    limits::Limits,
    pam::Pam,
    pam_profile::PamProfile,
    password_policy::PasswordPolicy,
    service::Service,
    systemd_unit::SystemdUnit,
    cron::Cron,
    tmpfiles::Tmpfiles,
    sysusers::Sysusers,
    sysctl::Sysctl,
    kernel_module::KernelModule,
    kernel_parameter::KernelParameter,
    mount::Mount,
    swap::Swap,
    hostname::Hostname,
    hosts_entry::HostsEntry,
    timezone::Timezone,
    locale::Locale,
    alternatives::Alternatives,
    firewall::Firewall,
    journald::Journald,
    logrotate::Logrotate,
    command::CommandResource,
    script::Script,
    wait_for::WaitFor,
    reboot::Reboot,
    assert::Assert,
];

/// One thing that must be true on a host, with all its fields decided.
pub trait Resource: fmt::Debug {
    /// What it is about, such as `/etc/motd` or `nginx.service`.
    fn subject(&self) -> String;

    /// What it alone may decide. Two resources that claim the same and are not equal contradict each
    /// other.
    fn claims(&self) -> Vec<Claim>;

    /// The operations that are still needed to make it true; none if it is.
    ///
    /// # Errors
    /// When it depends on what only performing can tell, or cannot be had on this host.
    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError>;

    /// The resource with something else in the place of what is not known before commands have run, if it depends on that.
    fn foreseen(&self) -> Option<&dyn Resource> {
        None
    }

    /// Whether it is true only of a file that has its text in it, letter for letter, not of one that says the same in other words.
    fn is_verbatim(&self) -> bool {
        false
    }

    /// Whether it is a thing to do rather than a thing to be, so that it makes sense as a handler only.
    fn is_reaction(&self) -> bool {
        false
    }

    /// The program it runs, if that is all it does: what it prints can be registered.
    fn command(&self) -> Option<&Command> {
        None
    }

    /// What is there when its program has run, if it says so.
    fn creates(&self) -> Option<&Path> {
        None
    }

    /// Whether it says nothing about when it is done, so that planning it again never comes out empty.
    fn runs_every_time(&self) -> bool {
        false
    }
}

/// Something that only one resource may decide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// What is at a path.
    Path(PathBuf),
    /// One line of a file that something else made.
    Line {
        /// The file.
        path: PathBuf,
        /// What finds the line.
        line: String,
    },
    /// A block of lines of a file that something else made.
    Block {
        /// The file.
        path: PathBuf,
        /// Its name.
        name: String,
    },
    /// A key of a file that something else made, with all that is below it.
    Key {
        /// The file.
        path: PathBuf,
        /// The keys that lead to it, the outermost first.
        keys: Vec<String>,
    },
    /// That nothing is at the paths that match.
    Removed(Glob),
    /// That nothing is in a directory but what is kept.
    Purged {
        /// The directory.
        path: PathBuf,
        /// What is kept.
        keep: Vec<Glob>,
    },
    /// Owner, group and mode of the paths that match.
    Permissions(Glob),
    /// A package.
    Package(String),
    /// Whether a package is held.
    PackageHold(String),
    /// The priority of some versions of a package.
    PackagePin {
        /// The package, or a pattern of names.
        package: String,
        /// Which versions.
        versions: String,
    },
    /// Which packages are upgraded.
    PackageUpgrade,
    /// An account.
    User(String),
    /// A group.
    Group(String),
    /// A systemd unit.
    Unit(String),
    /// A kernel parameter.
    Sysctl(String),
    /// A kernel module, by its name with `_`.
    KernelModule(String),
    /// A parameter that the kernel is booted with.
    BootParameter(String),
    /// A setting of a program, in whichever of its files.
    Setting {
        /// The program, such as `journald`.
        of: &'static str,
        /// Its name for the setting.
        key: String,
    },
    /// All keys that let in as a user.
    AuthorizedKeys(String),
    /// One key that lets in as a user.
    AuthorizedKey {
        /// Who is let in.
        user: String,
        /// What tells the key from others.
        key: String,
    },
}

impl Claim {
    /// The claims that have this one in them: who decides a whole file decides its lines.
    pub fn within(&self) -> Vec<Self> {
        match self {
            Self::Line { path, .. } | Self::Block { path, .. } => vec![Self::Path(path.clone())],
            Self::Key { path, keys } => {
                let above = |depth| Self::Key { path: path.clone(), keys: keys[..depth].to_vec() };
                [Self::Path(path.clone())].into_iter().chain((1..keys.len()).map(above)).collect()
            }
            Self::AuthorizedKey { user, .. } => vec![Self::AuthorizedKeys(user.clone())],
            _ => Vec::new(),
        }
    }

    /// Whether this is about many paths, and another claim about one of them. What is removed goes with all
    /// that is in it, and what is kept stays with all that is in it.
    pub fn reaches(&self, other: &Self) -> bool {
        let (path, is_whole) = match other {
            Self::Path(path) => (path, true),
            Self::Line { path, .. } | Self::Block { path, .. } | Self::Key { path, .. } => (path, false),
            _ => return false,
        };
        match self {
            Self::Removed(glob) => path.ancestors().any(|path| glob.matches(path)),
            Self::Purged { path: folder, keep } => {
                let kept =
                    |keep: &Glob| keep.goes_below(path) || path.ancestors().any(|path| keep.matches(path));
                path != folder && path.starts_with(folder) && !keep.iter().any(kept)
            }
            Self::Permissions(glob) => is_whole && glob.matches(path),
            _ => false,
        }
    }

    /// Whether this is about many paths.
    pub fn is_of_many(&self) -> bool {
        matches!(self, Self::Removed(_) | Self::Purged { .. } | Self::Permissions(_))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(formatter, "the path `{}`", path.display()),
            Self::Line { path, line } => write!(formatter, "the line `{line}` of `{}`", path.display()),
            Self::Block { path, name } => write!(formatter, "the block `{name}` of `{}`", path.display()),
            Self::Key { path, keys } => {
                write!(formatter, "the key `{}` of `{}`", keys.join("."), path.display())
            }
            Self::Removed(glob) => write!(formatter, "the removal of `{glob}`"),
            Self::Purged { path, .. } => write!(formatter, "the purge of `{}`", path.display()),
            Self::Permissions(glob) => write!(formatter, "the access to `{glob}`"),
            Self::Package(name) => write!(formatter, "the package `{name}`"),
            Self::PackageHold(name) => write!(formatter, "whether the package `{name}` is held"),
            Self::PackagePin { package, versions } => {
                write!(formatter, "the priority of the package `{package}` at `{versions}`")
            }
            Self::PackageUpgrade => formatter.write_str("which packages are upgraded"),
            Self::User(name) => write!(formatter, "the user `{name}`"),
            Self::Group(name) => write!(formatter, "the group `{name}`"),
            Self::Unit(name) => write!(formatter, "the unit `{name}`"),
            Self::Sysctl(key) => write!(formatter, "the sysctl `{key}`"),
            Self::KernelModule(name) => write!(formatter, "the kernel module `{name}`"),
            Self::Setting { of, key } => write!(formatter, "`{key}` of {of}"),
            Self::AuthorizedKeys(user) => write!(formatter, "the set of keys of `{user}`"),
            Self::AuthorizedKey { user, key } => write!(formatter, "the key `{key}` of `{user}`"),
            Self::BootParameter(name) => write!(formatter, "the boot parameter `{name}`"),
        }
    }
}

/// What the fields of a kind are, and how a resource is made of them.
trait Fields: DeserializeOwned + JsonSchema {
    /// The key that the kind is written under.
    const KIND: &'static str;
    /// The fields that may hold secrets.
    const SECRET_FIELDS: &'static [&'static str] = &[];

    /// The resource, with files read and templates rendered.
    fn build(self, context: &Context<'_>) -> Result<Box<dyn Resource>, Problem>;
}

/// What a resource is built with.
pub struct Context<'a> {
    /// The recipe it is in, whose files and templates it may use.
    pub recipe: &'a Recipe,
    /// The values that templates see.
    pub scope: &'a Scope,
    /// Where it is written.
    pub at: &'a Location,
    /// Whether one of its fields holds a secret.
    pub secret: bool,
}

impl Context<'_> {
    /// A file of the recipe's `files/`.
    fn file(&self, name: &str) -> Result<Content, Problem> {
        Ok(Content::new(self.recipe.file(name)?).secret_if(self.secret))
    }

    /// A template of the recipe's `templates/`, rendered; secret if a secret went into it.
    fn template(&self, name: &str) -> Result<Content, Problem> {
        let templates = self.recipe.templates();
        let text = templates.render(name, self.scope)?;
        // What renders differently without the secrets has a secret in it; so has what does not render.
        let secret = self
            .scope
            .masked()
            .is_some_and(|masked| templates.render(name, masked).as_deref().ok() != Some(text.as_str()));
        Ok(Content::new(text).secret_if(secret || self.secret))
    }
}

/// A kind of resource.
pub struct Kind {
    /// The key that it is written under.
    pub name: &'static str,
    /// The fields that may hold secrets.
    pub secret_fields: &'static [&'static str],
    build: Build,
}

/// Makes a resource of its rendered fields.
type Build = fn(&Node, &Context<'_>) -> Result<Box<dyn Resource>, Problem>;

impl Kind {
    const fn of<F: Fields>() -> Self {
        Self {
            name: F::KIND,
            secret_fields: F::SECRET_FIELDS,
            build: |node, context| {
                let fields: F = from_node(node).map_err(|problem| of_kind(problem, F::KIND))?;
                fields.build(context).map_err(|problem| problem.at(&node.at))
            },
        }
    }

    /// The kind of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Makes a resource of its rendered fields.
    ///
    /// # Errors
    /// Says which field is wrong, where, and what is valid.
    pub fn build(&self, fields: &Node, context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        (self.build)(fields, context)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Names the kind in problems about its fields.
fn of_kind(problem: Problem, kind: &str) -> Problem {
    if problem.message().starts_with("unknown field") || problem.message().starts_with("the field") {
        let message = format!("{} in `{kind}`", problem.message());
        return problem.with_message(message);
    }
    problem
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::testing::Example;

    /// The module doc of each kind is its manual page, and its test names say what it does.
    #[test]
    fn every_kind_has_a_name_of_its_own_a_doc_with_an_example_and_tests() {
        let names: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        for name in names {
            let path = format!("src/resource/{name}.rs");
            let text = fs::read_to_string(&path).expect("a file of the kind's name");
            let example = text.split("/// ```yaml\n").nth(1).and_then(|rest| rest.split("/// ```").next());
            let example = example.unwrap_or_else(|| panic!("{name} has no example")).replace("/// ", "");
            let (resources, handlers) = example.split_once("handlers:").unwrap_or((&example, ""));
            Example::resources(resources).load().unwrap_or_else(|problems| panic!("{name}: {problems}"));
            assert!(handlers.is_empty() || handlers.contains("service"), "{name}");
            assert!(text.contains("settles"), "{name} has no test that it settles");
        }
    }
}
