//! What has changed on a host since its image was baked: what a bake keeps for that, and what comes of comparing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::ChangeKind;
use crate::difference::Differing;
use crate::plan::Plan;
use crate::system::{Attributes, EntryKind, Facts, FactsError, Known};

/// The version of a record.
pub const VERSION: u32 = 1;

/// The name of the record, beside the files of the bundle that the image was made of.
pub const RECORD: &str = "record.json";

/// What a bake keeps of an image to find out later what has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// The image.
    pub image: String,
    /// The run that baked it.
    pub run: String,
    /// The installed packages, by name, with their versions.
    pub packages: BTreeMap<String, String>,
    /// What resources made, by path.
    pub files: BTreeMap<String, Seen>,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// Says why it is none that this release reads.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            version: u32,
        }
        let Format { version } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("it has the version {version}, and this program knows {VERSION}"));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

/// What was at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The resource that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// What it is.
    pub what: What,
    /// Whose it is, and who may use it.
    pub attributes: Attributes,
}

/// A kind of thing in a file system, with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A regular file, with its SHA-256 if everybody may read it: a digest of what is short and private could be guessed from.
    File(Option<String>),
    /// A symbolic link, with where it points.
    Link(PathBuf),
    /// Anything else.
    Other,
}

impl What {
    fn noun(&self) -> &'static str {
        match self {
            Self::File(_) => "a file",
            Self::Link(_) => "a symbolic link",
            Self::Other => "no file",
        }
    }
}

/// What has changed on a host since its image was baked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// Packages that were removed, installed, or have another version.
    pub packages: Vec<Differing>,
    /// What resources made, and is not as it was.
    pub files: Vec<DriftedFile>,
    /// What the recipes of the image would change back.
    pub plan: Plan,
}

/// A path that a resource made, and that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriftedFile {
    /// The path.
    pub path: PathBuf,
    /// The resource that made it.
    pub resource: String,
    /// What became of it: updated or removed.
    pub kind: ChangeKind,
    /// In what it differs; nothing if it is gone.
    pub differs: Vec<String>,
}

impl Drift {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.files.is_empty() && self.plan.is_empty()
    }

    /// What differs from the record, without what the recipes would change back.
    pub fn of_record(&self) -> String {
        let mut text = String::new();
        if !self.packages.is_empty() {
            text += "Packages\n";
            text.extend(self.packages.iter().map(|package| format!("  {package}\n")));
        }
        if !self.files.is_empty() {
            text += "Files\n";
            text.extend(self.files.iter().map(|file| format!("  {file}\n")));
        }
        text
    }

    /// The last line.
    pub fn counts(&self) -> String {
        let changed = self.plan.items.iter().filter(|item| !item.changes.is_empty()).count();
        let count =
            |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        format!(
            "Drift: {}, {}; {changed} of {} resources are to be changed back.",
            count(self.packages.len(), "package"),
            count(self.files.len(), "file"),
            self.plan.items.len()
        )
    }
}

impl fmt::Display for DriftedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, resource, kind, differs } = self;
        write!(formatter, "{} {}", kind.sign(), path.display())?;
        if !differs.is_empty() {
            write!(formatter, ": {}", differs.join(", "))?;
        }
        write!(formatter, " ({resource})")
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.of_record())?;
        if !self.plan.is_empty() {
            write!(formatter, "The recipes of the image would change this back:\n{}\n", self.plan)?;
        }
        formatter.write_str(&self.counts())
    }
}

/// What is at the paths that resources made, for a record; `made` has the resource of each. What is not there is left out.
///
/// # Errors
/// When the host cannot be read.
pub fn seen(
    facts: &dyn Facts,
    made: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Seen>, FactsError> {
    let mut all = BTreeMap::new();
    for (path, resource) in made {
        if let Some(mut seen) = look(facts, Path::new(path), false)? {
            seen.resource.clone_from(resource);
            all.insert(path.clone(), seen);
        }
    }
    Ok(all)
}

/// What resources made, and is not as it was.
///
/// # Errors
/// When the host cannot be read.
pub fn drifted(facts: &dyn Facts, record: &Record) -> Result<Vec<DriftedFile>, FactsError> {
    let mut all = Vec::new();
    for (path, before) in &record.files {
        let now = look(facts, Path::new(path), matches!(before.what, What::File(Some(_))))?;
        let differs = now.as_ref().map(|now| differs(before, now)).unwrap_or_default();
        if now.is_some() && differs.is_empty() {
            continue;
        }
        let kind = if now.is_some() { ChangeKind::Update } else { ChangeKind::Remove };
        all.push(DriftedFile { path: path.into(), resource: before.resource.clone(), kind, differs });
    }
    Ok(all)
}

/// What is at a path. The digest is that of a file that everybody may read, or of any.
fn look(facts: &dyn Facts, path: &Path, any: bool) -> Result<Option<Seen>, FactsError> {
    /// Whoever is neither the owner nor in the group may read it (`S_IROTH`, inode(7)).
    const OTHERS_READ: u32 = 0o004;
    let Known::Yes(Some(entry)) = facts.entry(path)? else { return Ok(None) };
    let what = match entry.kind {
        EntryKind::File if any || entry.attributes.mode & OTHERS_READ != 0 => match facts.sha256(path)? {
            Known::Yes(digest) => What::File(digest),
            Known::Unknown(_) => What::File(None),
        },
        EntryKind::File => What::File(None),
        EntryKind::Symlink { target } => What::Link(target),
        EntryKind::Directory | EntryKind::Other => What::Other,
    };
    Ok(Some(Seen { resource: String::new(), what, attributes: entry.attributes }))
}

/// In what something differs from what it was.
fn differs(before: &Seen, now: &Seen) -> Vec<String> {
    let mut differs = Vec::new();
    match (&before.what, &now.what) {
        (What::File(Some(old)), What::File(Some(new))) if old != new => differs.push("content".to_owned()),
        (What::Link(old), What::Link(new)) if old != new => {
            differs.push(format!("points to {} -> {}", old.display(), new.display()));
        }
        (old, new) if std::mem::discriminant(old) != std::mem::discriminant(new) => {
            return vec![format!("it was {} and is {}", old.noun(), new.noun())];
        }
        _ => {}
    }
    // Of a link nobody looks at its mode (symlink(7)).
    if before.attributes != now.attributes {
        differs.push(format!("{} -> {}", before.attributes, now.attributes));
    }
    differs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;

    fn fake(conf: &str) -> Fake {
        let mut fake = Fake::debian();
        fake.directory("/etc/site");
        fake.file("/etc/site/a.conf", conf);
        fake.file("/etc/site/b.conf", "b\n");
        fake.symlink("/etc/site/link", "a.conf");
        fake
    }

    fn record() -> Record {
        let paths = ["/etc/site/a.conf", "/etc/site/b.conf", "/etc/site/link", "/etc/site/never"];
        let made = paths.map(|path| (path.to_owned(), "site: a thing".to_owned())).into_iter().collect();
        let files = seen(&fake("a\n"), &made).expect("readable");
        assert_eq!(files.len(), 3, "what is not there is left out");
        Record { version: VERSION, image: "web".into(), files, ..Record::default() }
    }

    #[test]
    fn what_is_as_it_was_is_no_drift() {
        assert_eq!(drifted(&fake("a\n"), &record()).expect("readable"), []);
    }

    #[test]
    fn a_record_of_this_release_is_read_again() {
        let text = serde_json::to_string(&record()).expect("JSON");
        assert_eq!(Record::read(text.as_bytes()), Ok(record()));
        let newer = Record::read(br#"{"version":2,"more":1}"#).expect_err("of another release");
        assert_eq!(newer, "it has the version 2, and this program knows 1");
        // As the first release wrote it.
        let first = r#"{"version":1,"image":"web","run":"r","packages":{"nginx":"1"},"files":{"/dev/c":{"what":"other","attributes":{"owner":"root","group":"root","mode":384}},"/etc/a":{"resource":"site: file /etc/a","what":{"file":null},"attributes":{"owner":"root","group":"root","mode":384}},"/etc/b":{"what":{"link":"a"},"attributes":{"owner":"root","group":"root","mode":511}}}}"#;
        let read = Record::read(first.as_bytes()).expect("a record");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), first);
    }

    #[test]
    fn what_changed_is_told_by_what_it_is() {
        let mut host = Fake::debian();
        host.directory("/etc/site");
        host.file("/etc/site/a.conf", "other\n");
        host.file("/etc/site/link", "a file\n");
        let packages = vec![Differing { name: "nginx".into(), before: Some("1.22".into()), after: None }];
        let files = drifted(&host, &record()).expect("readable");
        let drift = Drift { packages, files, plan: Plan::default() };
        assert!(!drift.is_empty());
        insta::assert_snapshot!(drift, @"
        Packages
          - nginx 1.22
        Files
          ~ /etc/site/a.conf: content (site: a thing)
          - /etc/site/b.conf (site: a thing)
          ~ /etc/site/link: it was a symbolic link and is a file (site: a thing)
        Drift: 1 package, 3 files; 0 of 0 resources are to be changed back.
        ");
    }

    #[test]
    fn only_what_everybody_may_read_has_a_digest() {
        let seen = |mode| Seen {
            resource: String::new(),
            what: What::File(None),
            attributes: Attributes { owner: "root".into(), group: "root".into(), mode },
        };
        assert_eq!(differs(&seen(0o600), &seen(0o600)), [""; 0]);
        assert_eq!(differs(&seen(0o600), &seen(0o644)), ["root:root 0600 -> root:root 0644"]);
        let mut before = seen(0o644);
        before.what = What::File(Some("a".into()));
        let mut now = before.clone();
        now.what = What::File(Some("b".into()));
        assert_eq!(differs(&before, &now), ["content"]);
    }
}
