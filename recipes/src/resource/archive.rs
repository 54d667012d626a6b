//! `archive`: what is in a tar or zip, in a folder.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::archive_compare::compare;
use super::contents::{missing_parents, owners_exist};
use super::fields::AbsolutePath;
use super::glob::{Glob, RelativeGlob};
use super::{Claim, Context, Fields, Resource};
use crate::archive::{ArchiveError, ItemKind, ReadSeek, Stop, walk};
use crate::error::Problem;
use crate::op::{Archive, Content, Op, Unpack, hex};
use crate::system::{Attributes, EntryKind, Facts, FactsError, PlanError};

/// What is in an archive, in a folder: a tar (plain, or compressed with gzip, xz or zstd) or a zip.
///
/// Each file is compared with the archive at every run, and put back if it differs; what is in the folder
/// and not in the archive stays. The folder is made if it is missing. Owner and group are those said here,
/// not those in the archive. Modes are the archive's, without setuid, setgid and sticky bits and without
/// writing for group and others. Times are not kept. A hard link becomes a file of its own.
///
/// An archive is refused if a name in it starts with `/`, has `..` or control characters in it or is there
/// twice, if a symbolic link in it leads out of the folder, if it has devices or sockets, more than 200000
/// entries or more than 4 GiB unpacked. What `exclude` names may be a link or device of any kind.
///
/// ```yaml
/// - archive: { path: /opt/app, source: app-1.4.tar.gz, strip_components: 1, owner: app, group: app }
/// - archive:
///     path: /opt/tool
///     host_path: /var/cache/tool.zip   # a `download` before it brings it
///     sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
///     exclude: [ "*.md", "doc/**" ]
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ArchiveFields {
    /// The folder that it is unpacked into.
    path: AbsolutePath,
    /// The archive, in the recipe's `files/`.
    source: Option<String>,
    /// The archive, on the host; instead of `source`.
    host_path: Option<AbsolutePath>,
    /// The SHA-256 that the archive must have, as 64 hexadecimal digits; not checked if not said.
    sha256: Option<String>,
    /// How many names at the start of each path in the archive are left out; 0 if not said. What has no
    /// more names than that is not unpacked.
    #[serde(default)]
    strip_components: usize,
    /// What is not unpacked: paths in the folder with `*`, `?` and `**`, directories with everything in them.
    #[serde(default)]
    exclude: Vec<RelativeGlob>,
    /// The owner of everything in it; `root` if not said.
    owner: Option<String>,
    /// The group of everything in it; `root` if not said.
    group: Option<String>,
}

#[derive(Debug)]
struct Resolved {
    path: AbsolutePath,
    archive: Archive,
    sha256: Option<String>,
    strip_components: usize,
    exclude: Vec<Glob>,
    owner: String,
    group: String,
    /// The files and links in it, as far as that is known before it is on the host.
    files: Vec<PathBuf>,
}

impl Fields for ArchiveFields {
    const KIND: &'static str = "archive";

    fn build(self, context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.path.as_path() == Path::new("/") {
            return Err(Problem::new("an archive is not unpacked over the whole host")
                .help("name the folder that it belongs in, such as `/opt/app`"));
        }
        let archive = match (self.source, self.host_path) {
            (Some(name), None) => Archive::Content { content: context.file(&name)?, name },
            (None, Some(path)) => Archive::File(path.as_path().to_owned()),
            (None, None) => return Err(Problem::new("an `archive` needs `source` or `host_path`")),
            (Some(_), Some(_)) => {
                return Err(Problem::new("an `archive` has either `source` or `host_path`, not both"));
            }
        };
        let sha256 = self.sha256.map(|digest| digest.to_ascii_lowercase());
        if let Some(digest) = &sha256
            && (digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(Problem::new(format!("`{digest}` is not a SHA-256: it is 64 hexadecimal digits")));
        }
        let exclude = self.exclude.iter().map(|exclude| Glob::below(self.path.as_path(), exclude)).collect();
        let mut resolved = Resolved {
            path: self.path,
            archive,
            sha256,
            strip_components: self.strip_components,
            exclude,
            owner: self.owner.unwrap_or_else(|| "root".into()),
            group: self.group.unwrap_or_else(|| "root".into()),
            files: Vec::new(),
        };
        if let Archive::Content { content, .. } = &resolved.archive {
            resolved.files = resolved.files_in(content)?;
        }
        Ok(Box::new(resolved))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.path.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        self.files.iter().map(|file| Claim::Path(self.path.as_path().join(file))).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let attributes = |mode| Attributes { owner: self.owner.clone(), group: self.group.clone(), mode };
        owners_exist(facts, &attributes(0))?;
        let path = self.path.as_path();
        let is_there = match facts.entry(path)?.known()?.map(|entry| entry.kind) {
            None => false,
            Some(EntryKind::Directory | EntryKind::Symlink { .. }) => true,
            Some(other) => {
                let message = format!("`{}` is {}, not a directory", self.path, other.noun());
                return Err(PlanError::impossible(message));
            }
        };
        let file = self.checked(facts)?;
        let unpack = Unpack {
            archive: self.archive.clone(),
            path: path.to_owned(),
            strip_components: self.strip_components,
            owner: self.owner.clone(),
            group: self.group.clone(),
            changes: BTreeMap::new(),
            unchanged: 0,
        };
        let unpack = compare(facts, unpack, &|path| self.is_wanted(path), is_there, file)?;
        let mut ops = Vec::new();
        if !is_there {
            let root = Attributes { owner: "root".into(), group: "root".into(), mode: 0o755 };
            let parents = missing_parents(facts, path)?.into_iter();
            ops.extend(parents.map(|path| Op::CreateDirectory { path, attributes: root.clone() }));
            ops.push(Op::CreateDirectory { path: path.to_owned(), attributes: attributes(0o755) });
        }
        if !unpack.changes.is_empty() {
            ops.push(Op::Unpack(unpack));
        }
        Ok(ops)
    }
}

impl Resolved {
    fn is_wanted(&self, path: &Path) -> bool {
        let mut above = path.ancestors().filter(|path| !path.as_os_str().is_empty());
        !above.any(|path| {
            let path = self.path.as_path().join(path);
            self.exclude.iter().any(|exclude| exclude.matches(&path))
        })
    }

    /// What an archive in the recipe decides.
    fn files_in(&self, content: &Content) -> Result<Vec<PathBuf>, Problem> {
        if let Some(wanted) = &self.sha256
            && content.sha256() != *wanted
        {
            return Err(Problem::new(self.wrong_digest(&content.sha256(), wanted)));
        }
        let mut files = Vec::new();
        let file = Box::new(content.reader());
        let walked =
            walk::<io::Error>(file, self.strip_components, &|path| self.is_wanted(path), &mut |item| {
                match item.kind {
                    ItemKind::File(content) => {
                        io::copy(content, &mut io::sink())?;
                        files.push(item.path);
                    }
                    ItemKind::Symlink(_) | ItemKind::HardLink(_) => files.push(item.path),
                    ItemKind::Parent | ItemKind::Directory => {}
                }
                Ok(())
            });
        match walked {
            Ok(()) => Ok(files),
            Err(Stop::Archive(error)) => Err(self.refused(&error)),
            Err(Stop::Visitor(error)) => Err(self.refused(&error.into())),
        }
    }

    fn refused(&self, error: &ArchiveError) -> Problem {
        Problem::new(format!("`{}` {error}", self.archive)).help(error.help())
    }

    fn wrong_digest(&self, found: &str, wanted: &str) -> String {
        format!("`{}` has the SHA-256 {found}, not {wanted}", self.archive)
    }

    /// The archive, if it is the one that is meant.
    fn checked(&self, facts: &dyn Facts) -> Result<Box<dyn ReadSeek>, PlanError> {
        let path = match &self.archive {
            Archive::Content { content, .. } => return Ok(Box::new(content.reader())),
            Archive::File(path) => path,
        };
        let Some(mut file) = facts.open(path)?.known()? else {
            return Err(PlanError::impossible_but(
                format!("there is no archive `{}`", path.display()),
                "put what brings it before",
            ));
        };
        if let Some(wanted) = &self.sha256 {
            let found = digest(&mut file).and_then(|found| file.rewind().map(|()| found));
            let found = found.map_err(|source| FactsError { what: format!("`{}`", self.archive), source })?;
            if found != *wanted {
                return Err(PlanError::impossible_but(
                    self.wrong_digest(&found, wanted),
                    "if it is the right one, write its digest into the recipe",
                ));
            }
        }
        Ok(file)
    }
}

fn digest(file: &mut dyn Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use tar::EntryType::{Char, Directory, Link, Regular, Symlink};

    use crate::archive::samples;
    use crate::change::Change;
    use crate::op::{Before, Content, Op, WriteFile};
    use crate::run::Files;
    use crate::system::fake::Fake;
    use crate::system::{Attributes, Facts};
    use crate::testing::Example;

    fn app() -> Vec<u8> {
        samples::gzip(&samples::tar(&[
            (Directory, "app-1/", ""),
            (Directory, "app-1/bin/", ""),
            (Regular, "app-1/bin/app", "#!"),
            (Symlink, "app-1/app", "bin/app"),
            (Link, "app-1/bin/other", "app-1/bin/app"),
            (Regular, "app-1/README.md", "# App\n"),
            (Regular, "app-1/etc/app.conf", "a=1\n"),
        ]))
    }

    fn bytes(path: &str, bytes: &[u8]) -> Op {
        Op::WriteFile(WriteFile {
            path: path.into(),
            content: Content::new(bytes),
            attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
            validate: None,
            before: Before::Absent,
        })
    }

    const FIELDS: &str = "path: /opt/app, strip_components: 1, exclude: ['*.md'], group: app";

    fn packed() -> Example {
        Example::resources(&format!("- archive: {{ {FIELDS}, source: app.tgz }}")).bytes("app.tgz", &app())
    }

    fn debian() -> Fake {
        let mut fake = Fake::debian();
        fake.group_with_id("app", 990);
        fake
    }

    #[test]
    fn settles_from_nothing_and_puts_back_what_was_changed() {
        let mut fake = debian();
        insta::assert_snapshot!(packed().settles(&mut fake), @"
        example: archive /opt/app
          + create the directory /opt (root:root 0755)
          + create the directory /opt/app (root:app 0755)
          + unpack app.tgz into /opt/app (6 new)
              + app
              + bin
              + bin/app
              + bin/other
              + etc
              + etc/app.conf
        Plan: 1 to change, 0 unchanged.
        ");
        assert_eq!(fake.text("/opt/app/bin/other").as_deref(), Some("#!"));
        assert_eq!(fake.text("/opt/app/README.md"), None);
        fake.file("/opt/app/bin/app", "!!");
        fake.file("/opt/app/own", "stays");
        fake.symlink("/opt/app/app", "/bin/sh");
        fake.apply(&Op::Remove { path: "/opt/app/etc".into(), directory: true });
        insta::assert_snapshot!(packed().settles(&mut fake), @"
        example: archive /opt/app
          ~ unpack app.tgz into /opt/app (2 new, 3 changed, 1 unchanged)
              ~ app
              ~ bin/app
              ~ bin/other
              + etc
              + etc/app.conf
        Plan: 1 to change, 0 unchanged.
        ");
        assert_eq!(fake.text("/opt/app/bin/app").as_deref(), Some("#!"));
        assert_eq!(fake.text("/opt/app/own").as_deref(), Some("stays"));
        let owned = Example::resources("- archive: { path: /opt/app, strip_components: 1, source: app.tgz }")
            .bytes("app.tgz", &app());
        insta::assert_snapshot!(owned.settles(&mut fake), @"
        example: archive /opt/app
          ~ unpack app.tgz into /opt/app (1 new, 4 changed, 1 unchanged)
              + README.md
              ~ bin
              ~ bin/app
              ~ bin/other
              ~ etc/app.conf
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn settles_with_an_archive_of_the_host() {
        let mut fake = debian();
        fake.apply(&bytes("/var/app.tgz", &app()));
        let digest = Content::new(app()).sha256();
        let example = |digest: &str| {
            Example::resources(&format!(
                "- archive: {{ {FIELDS}, host_path: /var/app.tgz, sha256: {digest} }}"
            ))
        };
        let wrong = example(&"0".repeat(64)).fails(&mut fake).replace(&digest, "(digest)");
        insta::assert_snapshot!(wrong, @"example: archive /opt/app: `/var/app.tgz` has the SHA-256 (digest), not 0000000000000000000000000000000000000000000000000000000000000000; if it is the right one, write its digest into the recipe");
        example(&digest.to_uppercase()).settles(&mut fake);
        assert_eq!(fake.text("/opt/app/etc/app.conf").as_deref(), Some("a=1\n"));
        fake.apply(&Op::Remove { path: "/var/app.tgz".into(), directory: false });
        insta::assert_snapshot!(example(&digest).fails(&mut fake), @"example: archive /opt/app: there is no archive `/var/app.tgz`; put what brings it before");
        fake.file("/var/app.tgz", "no archive");
        insta::assert_snapshot!(Example::resources("- archive: { path: /opt/x, host_path: /var/app.tgz }").fails(&mut fake), @"example: archive /opt/x: `/var/app.tgz` is no tar (plain, gzip, xz or zstd) and no zip; see that it is whole, and what it is");
    }

    #[test]
    fn what_it_brings_is_unknown_until_it_is_unpacked() {
        let mut fake = debian();
        fake.command_makes(&["fetch"], vec![bytes("/var/app.tgz", &app())]);
        let example = Example::resources(&format!(
            "
- file: {{ path: /etc/before, content: a }}
- command: {{ argv: [fetch], creates: /var/app.tgz }}
- archive: {{ {FIELDS}, host_path: /var/app.tgz }}
- line: {{ path: /opt/app/etc/app.conf, line: b=2 }}
- file: {{ path: /etc/after, content: a }}
"
        ));
        insta::assert_snapshot!(example.plan(&fake).expect("a plan"), @r"
        example: file /etc/before
          + create /etc/before (root:root 0644, 1 bytes)
              --- /dev/null
              +++ /etc/before
              @@ -0,0 +1 @@
              +a
              \ No newline at end of file
        example: command fetch
          > run fetch
        example: archive /opt/app (assumed)
          ? known after apply: whether `fetch` makes it
        example: line /opt/app/etc/app.conf: b=2 (assumed)
          ? known after apply: whether `example: archive /opt/app` makes it
        example: file /etc/after (assumed)
          ? create /etc/after (root:root 0644, 1 bytes), unless `example: archive /opt/app` makes it
              --- /dev/null
              +++ /etc/after
              @@ -0,0 +1 @@
              +a
              \ No newline at end of file
        Plan: 2 to change, 3 known after apply, 0 unchanged.
        Of these 2 observed, 0 derived, 3 assumed.
        ");
        let from_recipe = Example::resources(&format!(
            "
- archive: {{ {FIELDS}, source: app.tgz }}
- line: {{ path: /opt/app/etc/other.conf, line: b=2, create: true }}
"
        ));
        insta::assert_snapshot!(from_recipe.bytes("app.tgz", &app()).plan(&fake).expect("a plan"), @"
        example: archive /opt/app
          + create the directory /opt (root:root 0755)
          + create the directory /opt/app (root:app 0755)
          + unpack app.tgz into /opt/app (6 new)
              + app
              + bin
              + bin/app
              + bin/other
              + etc
              + etc/app.conf
        example: line /opt/app/etc/other.conf: b=2 (assumed)
          ? known after apply: whether unpacking app.tgz brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
        let (result, _) = example.run(&mut fake, Files::Together);
        // The line changes what the archive has: the next run puts it back, so it has to be excluded.
        result.expect("it converges");
        let done: Vec<String> = fake.performed.iter().map(|op| Change::from(op).to_string()).collect();
        insta::assert_snapshot!(done.join("\n"), @"
        + create /etc/before (root:root 0644, 1 bytes)
        > run fetch
        + create the directory /opt (root:root 0755)
        + create the directory /opt/app (root:app 0755)
        + unpack /var/app.tgz into /opt/app (6 new)
        ~ change /opt/app/etc/app.conf
        + create /etc/after (root:root 0644, 1 bytes)
        ");
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let mut fake = debian();
        fake.directory("/opt");
        fake.file("/opt/app", "x");
        insta::assert_snapshot!(packed().fails(&mut fake), @"example: archive /opt/app: `/opt/app` is a file, not a directory");
        fake.directory("/opt/app");
        fake.symlink("/opt/app/bin", "/usr/bin");
        insta::assert_snapshot!(packed().fails(&mut fake), @"example: archive /opt/app: `/opt/app/bin` is a symbolic link, and `app.tgz` has a directory there; remove it before, or name it in `exclude`");
        fake.directory("/opt/app/bin");
        fake.directory("/opt/app/bin/app");
        insta::assert_snapshot!(packed().fails(&mut fake), @"example: archive /opt/app: `/opt/app/bin/app` is a directory, and `app.tgz` has a file there; remove it before, or name it in `exclude`");
        insta::assert_snapshot!(packed().fails(&mut Fake::debian()), @"example: archive /opt/app: the group `app` does not exist; put a `group: { name: app }` before it");
    }

    #[test]
    fn wrong_fields_archives_and_contradictions_are_explained() {
        let problems = |fields: &str, archive: &[u8]| {
            Example::resources(&format!("- archive: {{ {fields} }}")).bytes("a.tar", archive).problems()
        };
        insta::assert_snapshot!(problems("path: /a", b""), @"example/recipe.yaml:2:14: an `archive` needs `source` or `host_path`");
        insta::assert_snapshot!(problems("path: /a, source: a.tar, host_path: /b", b""), @"example/recipe.yaml:2:14: an `archive` has either `source` or `host_path`, not both");
        insta::assert_snapshot!(problems("path: /, source: a.tar", b""), @"example/recipe.yaml:2:14: an archive is not unpacked over the whole host; name the folder that it belongs in, such as `/opt/app`");
        insta::assert_snapshot!(problems("path: /a, host_path: /b, sha256: abc", b""), @"example/recipe.yaml:2:14: `abc` is not a SHA-256: it is 64 hexadecimal digits");
        insta::assert_snapshot!(problems("path: /a, source: b.tar", b""), @"example/recipe.yaml:2:14: the recipe has no `files/b.tar`; did you mean `a.tar`? valid is `a.tar`");
        insta::assert_snapshot!(problems("path: /a, source: a.tar", b"hello"), @"example/recipe.yaml:2:14: `a.tar` is no tar (plain, gzip, xz or zstd) and no zip; see that it is whole, and what it is");
        insta::assert_snapshot!(problems("path: /a, source: a.tar, sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9825", b"hello"), @"example/recipe.yaml:2:14: `a.tar` has the SHA-256 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824, not 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9825");
        let device = samples::tar(&[(Char, "dev/null", ""), (Symlink, "out", "/etc")]);
        insta::assert_snapshot!(problems("path: /a, source: a.tar", &device), @"example/recipe.yaml:2:14: `a.tar` has `dev/null` in it, which is no file, directory or link; pack it anew without it; a link or device can be named in `exclude`");
        let excluded = "- archive: { path: /a, source: a.tar, exclude: [dev, out] }";
        Example::resources(excluded).bytes("a.tar", &device).resolve(Fake::debian().host()).expect("valid");
        let twice = format!(
            "- archive: {{ {FIELDS}, source: app.tgz }}\n- file: {{ path: /opt/app/etc/app.conf, content: x }}"
        );
        insta::assert_snapshot!(Example::resources(&twice).bytes("app.tgz", &app()).problems(), @"example/recipe.yaml:3:5: the path `/opt/app/etc/app.conf` is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
