//! `files.json`: where each file of an image comes from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use recipes::event::Event as AgentEvent;
use serde::{Deserialize, Serialize};

use crate::file::write_whole;
use crate::manifest::MANIFEST;
use crate::report::{Event, Report};

/// The version of the format.
const VERSION: u32 = 1;

/// The end of the file's name, beside the manifest.
const FILES: &str = "files.json";

/// Where the files of an image are told, from where its manifest is.
pub fn beside(manifest: &Path) -> PathBuf {
    match manifest.file_name() {
        Some(name) if name == MANIFEST => manifest.with_file_name(FILES),
        _ => manifest.with_extension(FILES),
    }
}

/// Whose what is that is of no recipe and no package: the agent, and what an image has of its boot recipes.
const OF_BAKER: [(&str, &str); 2] = [
    ("/usr/local/bin/bootstrap-agent", "baker: the agent"),
    ("/usr/lib/bootstrap-agent/boot/", "baker: the boot recipes"),
];

/// Files and links of an image, from its root, by whose they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// [`VERSION`]; the agent says none.
    #[serde(default)]
    pub version: u32,
    /// By the package that brought them.
    pub packages: BTreeMap<String, Vec<String>>,
    /// By the id of the resource that made them, in whole or in part.
    pub resources: BTreeMap<String, Vec<String>>,
    /// Those of which neither is known.
    pub nobody: Vec<String>,
    /// The directories that are resources' with all in them, for images that extend this one.
    #[serde(default)]
    pub whole: BTreeMap<String, String>,
}

impl Files {
    /// Reads the file; nothing if it is not there, or of another version.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let files: Self = serde_json::from_slice(&bytes)?;
        Ok(Some(files).filter(|files| files.version == VERSION))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_whole(path, self)
    }
}

/// What resources made, as the events of applying them tell: a path, and the id of the last that made it.
#[derive(Debug, Clone, Default)]
pub struct Made(BTreeMap<String, String>);

impl Made {
    /// What was made of the image that this one starts from.
    pub fn starting_from(parent: Option<&Files>) -> Self {
        let mut made: BTreeMap<String, String> =
            OF_BAKER.map(|(path, id)| (path.to_owned(), id.to_owned())).into_iter().collect();
        for (id, paths) in parent.iter().flat_map(|files| &files.resources) {
            made.extend(paths.iter().map(|path| (path.clone(), id.clone())));
        }
        made.extend(parent.iter().flat_map(|files| files.whole.clone()));
        Self(made)
    }

    /// A report that passes on what it hears, and remembers what is made.
    pub fn hearing<'a>(&'a mut self, report: &'a mut dyn Report) -> impl Report + 'a {
        Hearing { made: self, report }
    }

    /// What the agent is told of it.
    pub fn by_path(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The files of the image, as the agent found them.
    pub fn found(&self, mut files: Files) -> Files {
        files.version = VERSION;
        let whole = self.0.iter().filter(|(path, _)| path.ends_with('/'));
        files.whole = whole.map(|(path, id)| (path.clone(), id.clone())).collect();
        files
    }
}

struct Hearing<'a> {
    made: &'a mut Made,
    report: &'a mut dyn Report,
}

impl Report for Hearing<'_> {
    fn event(&mut self, event: &Event) {
        if let Event::Agent { agent: AgentEvent::ResourceStarted { resource, makes, .. } } = event {
            self.made.0.extend(makes.iter().map(|path| (path.clone(), resource.clone())));
        }
        self.report.event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_beside_the_manifest() {
        assert_eq!(beside(Path::new("output/web/manifest.json")), Path::new("output/web/files.json"));
        assert_eq!(beside(Path::new("output/web.ec2.json")), Path::new("output/web.ec2.files.json"));
    }

    #[test]
    fn what_an_image_starts_from_is_remembered_until_it_is_made_anew() {
        struct Nobody;
        impl Report for Nobody {
            fn event(&mut self, _: &Event) {}
        }
        let paths = |path: &str| vec![path.to_owned()];
        let parent = Files {
            resources: [
                ("a: file /etc/a".into(), paths("/etc/a")),
                ("a: file /etc/b".into(), paths("/etc/b")),
            ]
            .into(),
            whole: [("/opt/a/".into(), "a: archive /opt/a".into())].into(),
            ..Files::default()
        };
        let mut made = Made::starting_from(Some(&parent));
        let agent = AgentEvent::ResourceStarted {
            resource: "b: file /etc/b".into(),
            changes: Vec::new(),
            makes: paths("/etc/b"),
        };
        made.hearing(&mut Nobody).event(&Event::Agent { agent });
        let by = |path: &str| made.by_path()[path].as_str();
        assert_eq!(
            (by("/etc/a"), by("/etc/b"), by("/opt/a/")),
            ("a: file /etc/a", "b: file /etc/b", "a: archive /opt/a")
        );
        assert_eq!(by("/usr/local/bin/bootstrap-agent"), "baker: the agent");
        assert_eq!(made.found(Files::default()).whole.len(), 2);
    }
}
