//! `repository`: where packages come from, and whose signature is believed.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::{Contents, plan_absent};
use super::fields::{AbsolutePath, State, attributes};
use super::package_manager::{needs, package_manager};
use super::{Claim, Context, Fields, Resource, apt_sources, dnf_repo};
use crate::error::Problem;
use crate::op::{Content, Op};
use crate::system::{Facts, PackageManager, PlanError};

/// A repository that packages come from: with `suites` one for apt, in `/etc/apt/sources.list.d/NAME.sources`,
/// and without them one for dnf, in `/etc/yum.repos.d/NAME.repo`.
///
/// Only the key that is named here signs for it: `key` is kept in the recipe's `files/` and written to
/// `/etc/apt/keyrings/NAME.asc` or `/etc/pki/rpm-gpg/RPM-GPG-KEY-NAME`. apt believes no other repository because of
/// that key; rpm knows one set of keys, for all. There is no way to trust a repository that nobody signs: for apt
/// it is the index that is signed, for dnf each package. When a repository changes, the package lists are refreshed
/// before the next `package` is installed. Names and passwords do not belong into addresses, because everybody can
/// read the file; for apt write them with a `file` below `/etc/apt/auth.conf.d`.
///
/// ```yaml
/// - repository:
///     name: vendor
///     uris: [https://packages.example.com/debian]
///     suites: [bookworm]
///     components: [main]
///     signed_by: /usr/share/keyrings/vendor.gpg
/// - repository:
///     name: vendor-rpm
///     uris: [https://packages.example.com/el/$releasever/$basearch]
///     signed_by: /etc/pki/rpm-gpg/vendor
///   when: facts.os.family == "fedora"
/// - repository: { name: old-vendor, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Repository {
    /// The name in the names of the files: letters, digits, `.`, `-` and `_`.
    name: String,
    /// Where it is: `https://`, `http://` or `file:/` addresses of the same repository. For dnf they may have
    /// `$releasever`, `$basearch` and other variables in them.
    #[serde(default)]
    pub(super) uris: Vec<String>,
    /// For apt: `deb` for packages, `deb-src` for their sources; `[deb]` if not said.
    pub(super) types: Option<Vec<Type>>,
    /// For apt: its suites, such as `bookworm`; or one path with a `/` at the end, in a repository that has no
    /// suites.
    #[serde(default)]
    pub(super) suites: Vec<String>,
    /// For apt: the parts of each suite, such as `main`; none where `suites` is a path.
    #[serde(default)]
    pub(super) components: Vec<String>,
    /// For apt: only these architectures, as dpkg calls them, such as `amd64`; all that the host has if not said.
    #[serde(default)]
    pub(super) architectures: Vec<String>,
    /// For dnf, instead of `uris`: the `https://` or `http://` address of a metalink, which lists mirrors with the
    /// checksums of their metadata.
    pub(super) metalink: Option<String>,
    /// For dnf, instead of `uris`: the `https://` or `http://` address of a list of mirrors.
    pub(super) mirrorlist: Option<String>,
    /// For dnf: which repository a package is taken from that several have, from 1, which is first, to 99; 99 if
    /// not said.
    pub(super) priority: Option<u32>,
    /// For dnf: the packages that are not taken from it; `*` and `?` stand for any characters in a name.
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    /// For dnf: whether its metadata must be signed as well, with the same key; `false` if not said.
    pub(super) repo_gpgcheck: Option<bool>,
    /// The key that signs it: a file in the recipe's `files/`, in ASCII armour.
    key: Option<String>,
    /// Instead of `key`: a keyring that is on the host, such as one that a package brings; for dnf in ASCII armour.
    signed_by: Option<AbsolutePath>,
    /// Whether it is used; `true` if not said.
    pub(super) enabled: Option<bool>,
    /// `present`, or `absent` with its key.
    #[serde(default)]
    state: State,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(super) enum Type {
    #[serde(rename = "deb")]
    Binary,
    #[serde(rename = "deb-src")]
    Source,
}

/// The files that make a repository known, and the keyring that has to be there.
#[derive(Debug)]
struct Present {
    name: String,
    manager: PackageManager,
    key: Option<Contents>,
    keyring: PathBuf,
    list: Contents,
}

#[derive(Debug)]
struct Absent {
    name: String,
}

/// What apt and rpm read as an ASCII-armoured keyring starts with this (RFC 9580, 6.2).
const ARMOUR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Where a package manager has the file of a repository, and where the key that comes with it.
fn paths(manager: PackageManager, name: &str) -> [PathBuf; 2] {
    match manager {
        PackageManager::Apt => [
            Path::new("/etc/apt/sources.list.d").join(format!("{name}.sources")),
            Path::new("/etc/apt/keyrings").join(format!("{name}.asc")),
        ],
        PackageManager::Dnf => [
            Path::new("/etc/yum.repos.d").join(format!("{name}.repo")),
            Path::new("/etc/pki/rpm-gpg").join(format!("RPM-GPG-KEY-{name}")),
        ],
    }
}

impl Fields for Repository {
    const KIND: &'static str = "repository";

    fn build(self, context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        // apt passes over files with other characters in their names (sources.list(5)).
        let valid = self.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !valid || self.name.is_empty() || self.name.starts_with('.') {
            return Err(Problem::new(format!("`{}` is not a name for a repository", self.name))
                .help("letters, digits, `.`, `-` and `_` are valid, and no `.` at the start"));
        }
        if self.state == State::Absent {
            return self.build_absent();
        }
        let manager = self.manager()?;
        match manager {
            PackageManager::Apt => apt_sources::check(&self)?,
            PackageManager::Dnf => dnf_repo::check(&self)?,
        }
        let [path, key_path] = paths(manager, &self.name);
        let root = |mode| attributes(None, None, None, mode);
        let (key, keyring) = match (&self.key, &self.signed_by) {
            (Some(file), None) => {
                let content = context.file(file)?;
                check_key(file, content.bytes())?;
                let attributes = root(0o644);
                (Some(Contents { path: key_path.clone(), content, attributes, validate: None }), key_path)
            }
            (None, Some(path)) => (None, path.as_path().to_owned()),
            (None, None) => {
                return Err(Problem::new("a `repository` needs the `key` that signs it").help(
                    "put the key into the recipe's `files/`, or name a keyring of the host with `signed_by`",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(Problem::new("a `repository` has either `key` or `signed_by`, not both"));
            }
        };
        if keyring.to_string_lossy().contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Problem::new("`signed_by` has a space or a line end in it"));
        }
        let text = match manager {
            PackageManager::Apt => apt_sources::text(&self, &keyring),
            PackageManager::Dnf => dnf_repo::text(&self, &keyring),
        };
        let list = Contents { path, content: Content::new(text), attributes: root(0o644), validate: None };
        Ok(Box::new(Present { name: self.name, manager, key, keyring, list }))
    }
}

impl Repository {
    /// The fields that only apt knows, and those that only dnf does.
    fn of_one(&self) -> [Vec<&'static str>; 2] {
        let said = |fields: &[(&'static str, bool)]| {
            fields.iter().filter(|(_, said)| *said).map(|(field, _)| *field).collect()
        };
        let apt = [
            ("types", self.types.is_some()),
            ("suites", !self.suites.is_empty()),
            ("components", !self.components.is_empty()),
            ("architectures", !self.architectures.is_empty()),
        ];
        let dnf = [
            ("metalink", self.metalink.is_some()),
            ("mirrorlist", self.mirrorlist.is_some()),
            ("priority", self.priority.is_some()),
            ("exclude", !self.exclude.is_empty()),
            ("repo_gpgcheck", self.repo_gpgcheck.is_some()),
        ];
        [said(&apt), said(&dnf)]
    }

    /// Which package manager it is for.
    fn manager(&self) -> Result<PackageManager, Problem> {
        match self.of_one() {
            [apt, dnf] if !apt.is_empty() && !dnf.is_empty() => Err(Problem::new(format!(
                "`{}` of a `repository` is for apt, and `{}` for dnf",
                apt[0], dnf[0]
            ))
            .help("write one `repository` for each, with `when`")),
            [apt, _] if apt.is_empty() => Ok(PackageManager::Dnf),
            _ => Ok(PackageManager::Apt),
        }
    }

    fn build_absent(self) -> Result<Box<dyn Resource>, Problem> {
        let says_more = self.of_one().iter().any(|fields| !fields.is_empty())
            || !self.uris.is_empty()
            || self.key.is_some()
            || self.signed_by.is_some()
            || self.enabled.is_some();
        if says_more {
            return Err(Problem::new("a repository that shall be absent has nothing but its `name`"));
        }
        Ok(Box::new(Absent { name: self.name }))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// An address goes into a line, and into a list with spaces between.
pub(super) fn check_uri(uri: &str) -> Result<(), Problem> {
    let shown = uri.escape_debug();
    let host = ["https://", "http://"].iter().find_map(|scheme| uri.strip_prefix(scheme));
    let host = host.map(|rest| rest.split('/').next().unwrap_or_default());
    if host.map_or(!uri.starts_with("file:/"), str::is_empty) {
        return Err(Problem::new(format!("`{shown}` is not the address of a repository"))
            .help("addresses start with `https://`, `http://` or `file:/`"));
    }
    if !uri.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Problem::new(format!("`{shown}` has a space or a line end in it, or is not ASCII")));
    }
    if host.is_some_and(|host| host.contains('@')) {
        return Err(Problem::new("an address in `uris` has a name or a password in it")
            .help("everybody can read it there; write a `file` below `/etc/apt/auth.conf.d`"));
    }
    Ok(())
}

fn check_key(file: &str, bytes: &[u8]) -> Result<(), Problem> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("PRIVATE KEY BLOCK") {
        return Err(Problem::new(format!("`files/{file}` is a private key"))
            .help("a host needs the public key only: `gpg --armor --export ID`"));
    }
    if !text.lines().any(|line| line.trim_end() == ARMOUR) {
        return Err(Problem::new(format!("`files/{file}` is not a public key in ASCII armour"))
            .help("`gpg --armor --export ID` writes one, with `--no-default-keyring --keyring ./FILE` from a binary keyring"));
    }
    Ok(())
}

impl Resource for Present {
    fn subject(&self) -> String {
        self.name.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        let key = self.key.as_ref().map(|key| Claim::Path(key.path.clone()));
        key.into_iter().chain([Claim::Path(self.list.path.clone())]).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let (what, instead) = match self.manager {
            PackageManager::Apt => (
                "a `repository` with `suites` or other fields of apt",
                "write `when: facts.os.family == \"debian\"`, and another without them for dnf",
            ),
            PackageManager::Dnf => (
                "a `repository` without `suites`",
                "name its `suites`, or write `when: facts.os.family != \"debian\"`",
            ),
        };
        needs(self.manager, facts, what, instead)?;
        if self.key.is_none() && facts.entry(&self.keyring)?.known()?.is_none() {
            return Err(PlanError::impossible_but(
                format!("there is no keyring `{}`", self.keyring.display()),
                "install the package that brings it before, or put the key into the recipe and name it as `key`",
            ));
        }
        // The key first: a run that is cut off in between leaves no repository that nobody can verify.
        let mut ops = Vec::new();
        for contents in self.key.iter().chain([&self.list]) {
            let more = contents.plan_with_parents(facts)?;
            ops.extend(more.into_iter().filter(|op| !ops.contains(op)).collect::<Vec<_>>());
        }
        Ok(ops)
    }
}

impl Resource for Absent {
    fn subject(&self) -> String {
        self.name.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        let of = |manager| paths(manager, &self.name).map(Claim::Path);
        of(PackageManager::Apt).into_iter().chain(of(PackageManager::Dnf)).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let mut ops = Vec::new();
        for path in paths(package_manager(facts, "a `repository`")?, &self.name) {
            ops.extend(plan_absent(facts, &path)?);
        }
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use crate::event::Event;
    use crate::op::Op;
    use crate::run::Files;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n";
    const VENDOR: &str = "name: vendor, uris: [https://deb.example.com/], suites: [stable], key: vendor.asc";

    fn example(fields: &str) -> Example {
        Example::resources(&format!("- repository: {{ {fields} }}")).file("vendor.asc", KEY)
    }

    #[test]
    fn settles_new_changed_and_gone() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(example(&format!("{VENDOR}, components: [main]")).settles(&mut fake), @"
        example: repository vendor
          + create the directory /etc/apt (root:root 0755)
          + create the directory /etc/apt/keyrings (root:root 0755)
          + create /etc/apt/keyrings/vendor.asc (root:root 0644, 78 bytes)
              --- /dev/null
              +++ /etc/apt/keyrings/vendor.asc
              @@ -0,0 +1,4 @@
              +-----BEGIN PGP PUBLIC KEY BLOCK-----
              +
              +mQ==
              +-----END PGP PUBLIC KEY BLOCK-----
          + create the directory /etc/apt/sources.list.d (root:root 0755)
          + create /etc/apt/sources.list.d/vendor.sources (root:root 0644, 114 bytes)
              --- /dev/null
              +++ /etc/apt/sources.list.d/vendor.sources
              @@ -0,0 +1,5 @@
              +Types: deb
              +URIs: https://deb.example.com/
              +Suites: stable
              +Components: main
              +Signed-By: /etc/apt/keyrings/vendor.asc
        Plan: 1 to change, 0 unchanged.
        ");
        fake.directory("/usr/share/keyrings");
        fake.file("/usr/share/keyrings/a.gpg", "");
        let changed = "name: vendor, types: [deb, deb-src], uris: ['http://a.b/c', 'file:/srv/d'], suites: [x/], architectures: [amd64, arm64], signed_by: /usr/share/keyrings/a.gpg, enabled: false";
        insta::assert_snapshot!(example(changed).settles(&mut fake), @"
        example: repository vendor
          ~ change /etc/apt/sources.list.d/vendor.sources
              --- /etc/apt/sources.list.d/vendor.sources
              +++ /etc/apt/sources.list.d/vendor.sources
              @@ -1,5 +1,6 @@
              -Types: deb
              -URIs: https://deb.example.com/
              -Suites: stable
              -Components: main
              -Signed-By: /etc/apt/keyrings/vendor.asc
              +Types: deb deb-src
              +URIs: http://a.b/c file:/srv/d
              +Suites: x/
              +Architectures: amd64 arm64
              +Signed-By: /usr/share/keyrings/a.gpg
              +Enabled: no
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(example("name: vendor, state: absent").settles(&mut fake), @"
        example: repository vendor
          - remove /etc/apt/sources.list.d/vendor.sources
          - remove /etc/apt/keyrings/vendor.asc
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn what_is_there_already_is_left_and_what_somebody_edited_is_put_right() {
        let mut fake = Fake::debian();
        let example = example(&format!("{VENDOR}, components: [main]"));
        example.settles(&mut fake);
        fake.file("/etc/apt/sources.list.d/vendor.sources", "Types: deb\r\nTrusted: yes");
        fake.file("/etc/apt/keyrings/vendor.asc", "");
        fake.performed.clear();
        example.settles(&mut fake);
        assert!(matches!(&fake.performed[..], [Op::WriteFile(_), Op::WriteFile(_)]), "{:?}", fake.performed);
    }

    /// Where files go together, packages are installed before them; the repository has to be there already.
    #[test]
    fn it_is_there_before_its_packages_in_every_kind_of_run() {
        for files in [Files::InTurn, Files::Together] {
            let mut fake = Fake::debian();
            let text = format!(
                "- repository: {{ {VENDOR}, components: [main] }}\n- package: {{ name: a }}\n- file: {{ path: /etc/a, content: a }}"
            );
            let (result, events) = Example::resources(&text).file("vendor.asc", KEY).run(&mut fake, files);
            result.expect("it converges");
            let at = |wanted: fn(&Op) -> bool| fake.performed.iter().position(wanted).expect("performed");
            let install = at(|op| matches!(op, Op::InstallPackages { .. }));
            assert!(
                at(|op| matches!(op, Op::WriteFile(write) if write.path.ends_with("vendor.sources")))
                    < install
            );
            assert!(at(|op| matches!(op, Op::WriteFile(write) if write.path.ends_with("a"))) > install);
            let committed = events.iter().find_map(|event| match event {
                Event::Committed { paths } => Some(*paths),
                _ => None,
            });
            assert_eq!(committed, (files == Files::Together).then_some(1));
        }
    }

    #[test]
    fn what_cannot_be_had_on_a_host_is_named() {
        let fields = "name: a, uris: [https://a.b], suites: [s], components: [main], signed_by: /usr/a.gpg";
        insta::assert_snapshot!(example(fields).fails(&mut Fake::debian()), @"example: repository a: there is no keyring `/usr/a.gpg`; install the package that brings it before, or put the key into the recipe and name it as `key`");
        let after =
            Example::resources(&format!("- package: {{ name: keyring }}\n- repository: {{ {fields} }}"));
        insta::assert_snapshot!(after.plan(&Fake::debian()).expect("a plan"), @"
        example: package keyring
          + install keyring
        example: repository a (assumed)
          ? known after apply: whether installing keyring brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn two_that_differ_contradict_each_other() {
        let two = format!(
            "- repository: {{ {VENDOR}, components: [main] }}\n- repository: {{ {VENDOR}, components: [other] }}\n- line: {{ path: /etc/apt/sources.list.d/vendor.sources, line: 'Trusted: yes' }}"
        );
        insta::assert_snapshot!(Example::resources(&two).file("vendor.asc", KEY).problems(), @"
        example/recipe.yaml:3:5: the path `/etc/apt/keyrings/vendor.asc` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:3:5: the path `/etc/apt/sources.list.d/vendor.sources` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:4:5: the line `Trusted: yes` of `/etc/apt/sources.list.d/vendor.sources` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:2:5); put it where the file is decided
        ");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| {
            example(fields)
                .file("private.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n")
                .file("binary.gpg", "\u{1}\u{2}")
                .problems()
        };
        let with =
            |fields: &str| problems(&format!("name: a, key: vendor.asc, components: [main], {fields}"));
        insta::assert_snapshot!(with("uris: [https://a.b], suites: [s], trusted: true"), @"example/recipe.yaml:2:99: unknown field `trusted` in `repository`; valid are `name`, `uris`, `types`, `suites`, `components`, `architectures`, `metalink`, `mirrorlist`, `priority`, `exclude`, `repo_gpgcheck`, `key`, `signed_by`, `enabled` and `state`");
        insta::assert_snapshot!(with("uris: [ftp://a.b], suites: [s]"), @"example/recipe.yaml:2:17: `ftp://a.b` is not the address of a repository; addresses start with `https://`, `http://` or `file:/`");
        insta::assert_snapshot!(with("uris: ['https://a.b c'], suites: [s]"), @"example/recipe.yaml:2:17: `https://a.b c` has a space or a line end in it, or is not ASCII");
        insta::assert_snapshot!(with("uris: [\"https://a.b\\nTrusted: yes\"], suites: [s]"), @r"example/recipe.yaml:2:17: `https://a.b\nTrusted: yes` has a space or a line end in it, or is not ASCII");
        insta::assert_snapshot!(with("uris: ['https://user:word@a.b/c'], suites: [s]"), @"example/recipe.yaml:2:17: an address in `uris` has a name or a password in it; everybody can read it there; write a `file` below `/etc/apt/auth.conf.d`");
        insta::assert_snapshot!(with("suites: [s]"), @"example/recipe.yaml:2:17: a `repository` needs at least one of `uris`");
        insta::assert_snapshot!(with("uris: [https://a.b]"), @"example/recipe.yaml:2:17: a `repository` needs at least one of `suites`");
        insta::assert_snapshot!(with("uris: [https://a.b], suites: [\"s\\nTrusted: yes\"]"), @r"example/recipe.yaml:2:17: `s\nTrusted: yes` is not valid in `suites` of a `repository`");
        insta::assert_snapshot!(with("uris: [https://a.b], suites: [./]"), @"example/recipe.yaml:2:17: a suite that ends with `/` is a path and has no `components`");
        insta::assert_snapshot!(with("uris: [https://a.b], suites: [s], architectures: [x86_64]"), @"example/recipe.yaml:2:17: `x86_64` is no architecture of dpkg; dpkg calls it `amd64`");
        insta::assert_snapshot!(with("uris: [https://a.b], suites: [s], types: [rpm]"), @"example/recipe.yaml:2:107: `rpm` is not a valid value here; valid are `deb` and `deb-src`");
        insta::assert_snapshot!(with("uris: [https://a.b], suites: [s], types: []"), @"example/recipe.yaml:2:17: `types` is empty; valid are `deb` and `deb-src`");
        insta::assert_snapshot!(with("uris: [https://a.b], suites: [s], signed_by: /a"), @"example/recipe.yaml:2:17: a `repository` has either `key` or `signed_by`, not both");
        insta::assert_snapshot!(problems("name: a, uris: [https://a.b], suites: [s], key: vendor.asc"), @"example/recipe.yaml:2:17: a `repository` needs at least one of `components`; only a suite that ends with `/`, which is a path, has none");
        let key = |fields: &str| problems(&format!("name: a, uris: [https://a.b], suites: [./]{fields}"));
        insta::assert_snapshot!(key(""), @"example/recipe.yaml:2:17: a `repository` needs the `key` that signs it; put the key into the recipe's `files/`, or name a keyring of the host with `signed_by`");
        insta::assert_snapshot!(key(", key: private.asc"), @"example/recipe.yaml:2:17: `files/private.asc` is a private key; a host needs the public key only: `gpg --armor --export ID`");
        insta::assert_snapshot!(key(", key: binary.gpg"), @"example/recipe.yaml:2:17: `files/binary.gpg` is not a public key in ASCII armour; `gpg --armor --export ID` writes one, with `--no-default-keyring --keyring ./FILE` from a binary keyring");
        insta::assert_snapshot!(key(", key: nope.asc"), @"example/recipe.yaml:2:17: the recipe has no `files/nope.asc`; valid are `binary.gpg`, `private.asc` and `vendor.asc`");
        insta::assert_snapshot!(key(", signed_by: '/a b'"), @"example/recipe.yaml:2:17: `signed_by` has a space or a line end in it");
        insta::assert_snapshot!(problems("name: a/b"), @"example/recipe.yaml:2:17: `a/b` is not a name for a repository; letters, digits, `.`, `-` and `_` are valid, and no `.` at the start");
        insta::assert_snapshot!(problems("name: a, uris: [https://a.b], state: absent"), @"example/recipe.yaml:2:17: a repository that shall be absent has nothing but its `name`");
    }
}
