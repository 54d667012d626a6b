//! What several files say together: those in the image, over them the instance's tags, over those the user-data.
//!
//! A later layer's field takes the place of an earlier one's; `secrets`, `credentials`, `signal` and `tags` are
//! mappings of which each entry is a field of its own. Every value keeps the place where it was written.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use recipes::error::{Problem, Problems};
use recipes::load;
use recipes::node::{Key, Node, Value};
use recipes::source::{Location, Source};
use recipes::template::Scope;
use serde_json::{Map, Value as Json};

/// Where an image has its own layers.
pub const FOLDER: &str = "etc/bootstrap-agent";

/// The fields whose entries are fields of their own.
const MAPPINGS: &[&str] = &["secrets", "credentials", "signal", "tags"];

/// The fields that templates in the others see, and that tags may name.
pub const NAMES: [&str; 2] = ["environment", "role"];

/// A text of which a configuration is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name in messages.
    pub name: String,
    /// What is written.
    pub bytes: Vec<u8>,
    /// Whether it is the user-data, which has to say that it is for this agent.
    pub is_user_data: bool,
}

/// Layers, one over the other.
#[derive(Debug, Clone)]
pub struct Written {
    /// What they say together.
    pub root: Node,
}

impl Layer {
    /// User-data.
    pub fn user_data(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.into(), bytes: bytes.to_vec(), is_user_data: true }
    }

    /// The layers that an image brings, in the order of their names.
    ///
    /// # Errors
    /// When one cannot be read, or is not only its owner's to write.
    pub fn of_image(root: &Path) -> io::Result<Vec<Self>> {
        let folder = root.join(FOLDER);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        let layer = |path: &std::path::PathBuf| {
            let name = Path::new("/").join(path.strip_prefix(root).unwrap_or(path)).display().to_string();
            let named = |error: io::Error| io::Error::other(format!("`{name}`: {error}"));
            if !is_private(path).map_err(named)? {
                return Err(named(io::Error::other("others than root can write it")));
            }
            Ok(Self { bytes: fs::read(path).map_err(named)?, name, is_user_data: false })
        };
        paths.iter().map(layer).collect()
    }

    fn parse(&self) -> Result<Node, Problems> {
        let name = &self.name;
        let text = match std::str::from_utf8(&self.bytes) {
            Ok(text) => text.to_owned(),
            Err(error) => {
                let why = format!("{name} is not text: byte {} is not UTF-8", error.valid_up_to());
                return Err(Problem::new(why).into());
            }
        };
        if self.is_user_data {
            is_for_us(name, &text)?;
        }
        Ok(load::parse(&Arc::new(Source { name: name.clone(), text }))?)
    }
}

/// Whether a file is only root's to write, or only ours.
pub(super) fn is_private(path: &Path) -> io::Result<bool> {
    let attributes = fs::metadata(path)?;
    let is_ours = attributes.uid() == nix::unistd::geteuid().as_raw() || attributes.uid() == 0;
    Ok(is_ours && attributes.mode() & 0o022 == 0)
}

fn is_for_us(name: &str, text: &str) -> Result<(), Problem> {
    let first = text.lines().next().unwrap_or_default();
    let foreign = ["#cloud-config", "Content-Type:", "MIME-Version:", "#include", "#cloud-boothook"];
    if foreign.iter().any(|start| first.starts_with(start))
        || first.starts_with("#!") && !first.contains("bootstrap-agent")
    {
        return Err(Problem::new(format!("{name} is not for this agent: its first line is `{first}`"))
            .help("its first line has to be `#!/usr/local/bin/bootstrap-agent run`"));
    }
    Ok(())
}

impl Written {
    /// What layers say together, the last one on top.
    ///
    /// # Errors
    /// What is wrong with one of them, and where.
    pub fn read(layers: &[Layer]) -> Result<Self, Problems> {
        let mut root: Option<Node> = None;
        for layer in layers {
            let node = layer.parse()?;
            root = Some(match root {
                // A layer with comments only says nothing.
                Some(below) if node.value == Value::Null => below,
                Some(below) if below.value != Value::Null => over(below, node)?,
                _ => node,
            });
        }
        let nothing = || {
            let source = Arc::new(Source { name: "user-data".into(), text: String::new() });
            Node { value: Value::Null, at: Location::new(&source, 0, 0) }
        };
        let root = root.unwrap_or_else(nothing);
        root.as_map("a mapping with `environment` and `role`")?;
        Ok(Self { root })
    }

    /// What those layers say together that can be read.
    pub fn readable(layers: &[Layer]) -> Option<Self> {
        let readable: Vec<Layer> = layers.iter().filter(|layer| layer.parse().is_ok()).cloned().collect();
        Self::read(&readable).ok()
    }

    /// A field, if it is said.
    pub fn field(&self, name: &str) -> Option<&Node> {
        entry(&self.root, name)
    }

    /// The tags that have to be asked for: the field that each names, and its key. What the user-data among the
    /// layers says itself needs no tag.
    pub fn tags_over(&self, layers: &[Layer]) -> Vec<(&'static str, String)> {
        let by_user = layers.last().filter(|layer| layer.is_user_data).map(std::slice::from_ref);
        let by_user = by_user.and_then(|layer| Self::read(layer).ok());
        let is_said = |name: &str| by_user.as_ref().is_some_and(|written| written.field(name).is_some());
        self.tags().into_iter().filter(|(name, _)| !is_said(name)).collect()
    }

    fn tags(&self) -> Vec<(&'static str, String)> {
        let key = |name: &'static str| {
            let key = entry(self.field("tags")?, name)?.as_str("a key").ok()?;
            Some((name, key.to_owned()))
        };
        NAMES.into_iter().filter_map(key).collect()
    }

    /// Adds what a tag says to a field, over the layers of the image and below the user-data.
    pub fn set(&mut self, name: &str, value: &str, tag: &str) {
        let source = Arc::new(Source { name: format!("tag {tag}"), text: value.into() });
        let at = Location::new(&source, 0, value.len());
        let node = Node { value: Value::String(value.into()), at: at.clone() };
        if let Value::Map(entries) = &mut self.root.value {
            match entries.iter_mut().find(|(key, _)| key.name == name) {
                Some((_, there)) => *there = node,
                None => entries.push((Key { name: name.into(), at }, node)),
            }
        }
    }

    /// What templates in it see.
    ///
    /// # Errors
    /// When the environment or the role is not a word.
    pub fn scope(&self) -> Result<Scope, Problem> {
        let mut scope = Scope::new(Map::new());
        for name in NAMES {
            if let Some(node) = self.field(name) {
                scope = scope.with(name, Json::from(word(name, node)?));
            }
        }
        Ok(scope)
    }
}

fn entry<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
}

/// One layer over another.
fn over(below: Node, above: Node) -> Result<Node, Problem> {
    above.as_map("a mapping")?;
    let at = above.at.clone();
    let (Value::Map(mut entries), Value::Map(upper)) = (below.value, above.value) else {
        return Err(Problem::new(""));
    };
    for (key, node) in upper {
        match entries.iter_mut().find(|(there, _)| there.name == key.name) {
            Some(place) => {
                let are_mappings = matches!((&place.1.value, &node.value), (Value::Map(_), Value::Map(_)));
                let node = if are_mappings && MAPPINGS.contains(&key.name.as_str()) {
                    over_entries(&place.1, node)
                } else {
                    node
                };
                *place = (key, node);
            }
            None => entries.push((key, node)),
        }
    }
    Ok(Node { value: Value::Map(entries), at })
}

/// The entries of one mapping over those of another.
fn over_entries(below: &Node, above: Node) -> Node {
    let (Value::Map(lower), Value::Map(upper)) = (&below.value, above.value) else { return below.clone() };
    let is_replaced = |key: &Key| upper.iter().any(|(upper, _)| upper.name == key.name);
    let mut entries: Vec<_> = lower.iter().filter(|(key, _)| !is_replaced(key)).cloned().collect();
    entries.extend(upper);
    Node { value: Value::Map(entries), at: above.at }
}

/// The environment and the role become parts of paths, so they are single words.
fn word<'a>(name: &str, node: &'a Node) -> Result<&'a str, Problem> {
    let text = node.as_str("a word")?;
    let valid = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !valid || text.starts_with('.') {
        return Err(Problem::new(format!("`{name}` is `{text}`, which is not a word"))
            .at(&node.at)
            .help("use letters, digits, `-`, `_` and `.`: it becomes part of paths"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn layer(name: &str, text: &str) -> Layer {
        Layer { name: name.into(), bytes: text.into(), is_user_data: name == "user-data" }
    }

    fn said(written: &Written) -> String {
        serde_json::to_string(&written.root.to_json()).expect("JSON")
    }

    #[test]
    fn a_later_layer_is_over_an_earlier_one_field_by_field() {
        let written = Written::read(&[
            layer("/etc/bootstrap-agent/10.yaml", "environment: dev\nparameters: [ /a/ ]\nsecrets: { a: { ssm: /a }, b: { ssm: /b } }\n"),
            layer("/etc/bootstrap-agent/20.yaml", "# nothing\n"),
            layer("user-data", "#!/usr/local/bin/bootstrap-agent run\nenvironment: prod\nparameters: [ /b/ ]\nsecrets: { b: { ssm: /c } }\n"),
        ])
        .expect("valid");
        assert_eq!(
            said(&written),
            r#"{"environment":"prod","parameters":["/b/"],"secrets":{"a":{"ssm":"/a"},"b":{"ssm":"/c"}}}"#
        );
        assert_eq!(written.field("environment").expect("said").at.to_string(), "user-data:2:14");
    }

    #[test]
    fn tags_are_asked_for_where_they_are_named() {
        let mut written =
            Written::read(&[layer("a", "environment: dev\ntags: { environment: Stage }\n")]).expect("valid");
        assert_eq!(written.tags_over(&[]), [("environment", "Stage".to_owned())]);
        assert_eq!(written.tags_over(&[layer("user-data", "environment: prod")]), []);
        written.set("environment", "prod", "Stage");
        written.set("role", "web/..", "Role");
        assert_eq!(written.field("environment").expect("said").at.to_string(), "tag Stage:1:1");
        let problem = written.scope().expect_err("not a word");
        assert_eq!(
            problem.located(),
            "tag Role:1:1: `role` is `web/..`, which is not a word; use letters, digits, `-`, `_` and `.`: it becomes part of paths"
        );
    }

    #[test]
    fn what_can_be_read_counts_for_whom_to_tell() {
        let layers = [layer("a", "signal: { instance_health: true }"), layer("user-data", "#cloud-config\n")];
        assert!(Written::read(&layers).expect_err("foreign").to_string().contains("is not for this agent"));
        assert_eq!(
            said(&Written::readable(&layers).expect("the image's")),
            r#"{"signal":{"instance_health":true}}"#
        );
        assert!(Written::readable(&[]).is_none());
        let list = Written::read(&[layer("a", "a: 1"), layer("b", "[ 1 ]")]).expect_err("not a mapping");
        assert_eq!(list.to_string(), "b:1:1: expected a mapping, found a list of 1");
    }

    #[test]
    fn only_what_root_alone_can_write_is_believed() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(Layer::of_image(root.path()).expect("none"), []);
        let folder = root.path().join(FOLDER);
        fs::create_dir_all(&folder).expect("made");
        for name in ["20-b.yaml", "10-a.yaml", "notes.txt"] {
            fs::write(folder.join(name), "a: 1\n").expect("written");
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644)).expect("set");
        }
        let names: Vec<_> =
            Layer::of_image(root.path()).expect("read").into_iter().map(|layer| layer.name).collect();
        assert_eq!(names, ["/etc/bootstrap-agent/10-a.yaml", "/etc/bootstrap-agent/20-b.yaml"]);
        fs::set_permissions(folder.join("10-a.yaml"), fs::Permissions::from_mode(0o666)).expect("set");
        let error = Layer::of_image(root.path()).expect_err("anybody's");
        assert_eq!(error.to_string(), "`/etc/bootstrap-agent/10-a.yaml`: others than root can write it");
    }
}
