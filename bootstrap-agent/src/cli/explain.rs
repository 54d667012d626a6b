//! `explain`: where everything that this host is told comes from.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use recipes::error::{Problem, Problems};
use recipes::node::{Node, Value};
use recipes::template::render;
use serde_json::json;

use super::{DONE, World, fail_with};
use crate::boot::error::chain;
use crate::config::Config;
use crate::config::encoded::decode;
use crate::config::layers::{Layer, Written};
use crate::report::Format;
use crate::source::declared::ParameterSource;
use crate::source::instance::Metadata;

/// How long the metadata service is waited for: a person waits, too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Show what this host is told to be, and where each value was written
///
/// With a FILE, that is the user-data, and tags are not asked for. Without one, user-data and tags are those of
/// this instance.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The user-data; the instance metadata service's if left out
    file: Option<PathBuf>,
    /// The root of the host, for the files of its image
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// How to show it
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// A value with its place.
struct Said {
    path: String,
    value: String,
    at: String,
}

impl Explain {
    pub(super) fn run(self, world: &World) -> u8 {
        match self.explain(world) {
            Ok(text) => {
                let _ = writeln!(io::stdout(), "{text}");
                DONE
            }
            Err(problems) => fail_with(&problems),
        }
    }

    fn explain(&self, world: &World) -> Result<String, Problems> {
        let failed = |why: String| Problems::from(Problem::new(why));
        let mut layers =
            Layer::of_image(&self.root).map_err(|error| failed(format!("failed to read {error}")))?;
        let metadata =
            self.file.is_none().then(|| Metadata::new(world.metadata_endpoint.as_deref(), PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(format!("failed to start: {error}")))?;
        let user_data = match (&self.file, &metadata) {
            (Some(path), _) => {
                let name = path.display().to_string();
                let bytes = std::fs::read(path);
                Some((
                    name.clone(),
                    bytes.map_err(|error| failed(format!("failed to read `{name}`: {error}")))?,
                ))
            }
            (None, Some(metadata)) => {
                let data = runtime.block_on(metadata.user_data()).map_err(|error| failed(chain(&error)))?;
                data.map(|bytes| ("user-data".into(), bytes))
            }
            (None, None) => None,
        };
        if let Some((name, bytes)) = user_data {
            let bytes = decode(bytes).map_err(|why| failed(format!("{name} cannot be read: {why}")))?;
            layers.push(Layer { name, bytes, is_user_data: true });
        }
        let mut written = Written::read(&layers)?;
        for (field, key) in written.tags_over(&layers) {
            let Some(metadata) = &metadata else { continue };
            let value = runtime.block_on(metadata.tag(&key)).map_err(|error| failed(chain(&error)))?;
            if let Some(value) = value {
                written.set(field, &value, &key);
            }
        }
        let config = Config::of(&written)?;
        let rendered = render(&written.root, &written.scope()?)?;
        let mut said = Vec::new();
        collect("", &rendered, &mut said);
        Ok(match self.format {
            Format::Human => human(&said, &config),
            Format::Json => json(&said, &config),
        })
    }
}

fn collect(path: &str, node: &Node, said: &mut Vec<Said>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            entries.iter().for_each(|(key, node)| collect(&below(&key.name), node, said));
        }
        Value::List(elements) if !elements.is_empty() => {
            elements
                .iter()
                .enumerate()
                .for_each(|(index, node)| collect(&below(&index.to_string()), node, said));
        }
        _ => {
            let value = match node.to_json() {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            said.push(Said { path: path.into(), value, at: node.at.to_string() });
        }
    }
}

/// What templates see, and which call brings it.
fn sources(config: &Config) -> Vec<(String, String)> {
    let parameters = config.parameters.iter().map(|source| match source {
        ParameterSource::Path { .. } => ("parameters.*".to_owned(), source.name()),
        ParameterSource::Name { key, .. } => (format!("parameters.{key}"), source.name()),
    });
    let secrets = config.secrets.iter().map(|(name, source)| (format!("secrets.{name}"), source.name()));
    parameters.chain(secrets).collect()
}

fn human(said: &[Said], config: &Config) -> String {
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0).min(48);
    let path = width(&mut said.iter().map(|said| said.path.len()));
    let value = width(&mut said.iter().map(|said| said.value.len()));
    let mut text = String::new();
    for line in said {
        let _ = writeln!(text, "{:path$}  {:value$}  {}", line.path, line.value, line.at);
    }
    let sources = sources(config);
    if !sources.is_empty() {
        text += "\nTemplates see:\n";
    }
    let name = width(&mut sources.iter().map(|(name, _)| name.len()));
    for (seen, from) in sources {
        let _ = writeln!(text, "{seen:name$}  {from}");
    }
    text.trim_end().to_owned()
}

fn json(said: &[Said], config: &Config) -> String {
    let values: Vec<_> =
        said.iter().map(|said| json!({ "path": said.path, "value": said.value, "at": said.at })).collect();
    let sources: Vec<_> =
        sources(config).into_iter().map(|(name, from)| json!({ "name": name, "from": from })).collect();
    json!({ "values": values, "sources": sources }).to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_value_has_its_place() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("etc/bootstrap-agent");
        fs::create_dir_all(&folder).expect("made");
        let image = "region: eu-west-1\nsignal: { instance_health: true }\nsecrets: { token: { ssm: /acme/token } }\n";
        fs::write(folder.join("10-image.yaml"), image).expect("written");
        let user_data = "#!/usr/local/bin/bootstrap-agent run\nenvironment: prod\nrole: web\nparameters: [ \"/acme/{{ environment }}/\", { name: /acme/shared/host, as: db.host } ]\nsignal: { tag: { key: bootstrap } }\n";
        let file = root.path().join("user-data");
        fs::write(&file, user_data).expect("written");
        let explain = |format| Explain { file: Some(file.clone()), root: root.path().into(), format };
        let text = explain(Format::Human).explain(&World::default()).expect("valid");
        let text = text.replace(&format!("{}/", root.path().display()), "");
        insta::assert_snapshot!(text, @r"
        region                  eu-west-1          /etc/bootstrap-agent/10-image.yaml:1:9
        signal.instance_health  true               /etc/bootstrap-agent/10-image.yaml:2:28
        signal.tag.key          bootstrap          user-data:5:23
        secrets.token.ssm       /acme/token        /etc/bootstrap-agent/10-image.yaml:3:26
        environment             prod               user-data:2:14
        role                    web                user-data:3:7
        parameters.0            /acme/prod/        user-data:4:15
        parameters.1.name       /acme/shared/host  user-data:4:51
        parameters.1.as         db.host            user-data:4:74

        Templates see:
        parameters.*        ssm:/acme/prod/
        parameters.db.host  ssm:/acme/shared/host
        secrets.token       ssm:/acme/token
        ");
        let json = explain(Format::Json).explain(&World::default()).expect("valid");
        assert!(
            json.contains(
                r#"{"path":"region","value":"eu-west-1","at":"/etc/bootstrap-agent/10-image.yaml:1:9"}"#
            ),
            "{json}"
        );
        fs::write(&file, "environment: prod\n").expect("written");
        assert!(explain(Format::Human).explain(&World::default()).is_err(), "the role is missing");
    }
}
