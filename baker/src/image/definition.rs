//! `images/NAME.yaml`, as it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recipes::check::Check;
use recipes::declaration::Wanted;
use recipes::duration::Span;
use recipes::error::{Problem, Problems, did_you_mean};
use recipes::from_node::from_node;
use recipes::load;
use recipes::node::{Node, Value};
use recipes::source::Location;
use recipes::template::{Scope, render};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::ec2::{BuilderSettings, Ec2Builder, PublishSettings};
use super::leaks::{AllowedLeak, allowed_leaks};
use super::source::{AmiSource, Source};

/// An image that is older than this is baked again even if nothing was changed: its packages have aged.
const DEFAULT_MAX_AGE: Duration = Duration::from_hours(24);

/// An image definition with its variables in their places.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The name of the file, without its end.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What the image is for.
    pub description: String,
    /// What it starts from.
    pub start: Start,
    /// What is applied, in order.
    pub recipes: Vec<Wanted>,
    /// What is applied at first boot; none if the image has no boot of ours.
    pub boot: Option<Vec<Wanted>>,
    /// What must be seen on the builder.
    pub checks: Vec<Check>,
    /// Files that look like leaks and may be in it.
    pub allow_leaks: Vec<AllowedLeak>,
    /// How old the image may become before it is baked again.
    pub max_age: Duration,
    /// What it is baked on; what the image that it extends says, if it does not.
    pub builder: Option<BuilderSettings>,
    /// How it is tested when it is baked.
    pub test: Option<Test>,
    /// Where it goes.
    pub publish: PublishSettings,
    /// The values of its variables.
    pub variables: Map<String, Json>,
}

/// How a host that is booted from the image is tested, on platforms that boot one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The file with the user-data that it boots with, from the folder of the definition.
    pub user_data: PathBuf,
    /// The text of that file.
    #[serde(skip)]
    pub text: String,
    /// The name or ARN of the instance profile that it has; that of the builder if not said.
    #[serde(default)]
    pub instance_profile: Option<String>,
}

/// What an image starts from.
#[derive(Debug, Clone)]
pub enum Start {
    /// The image of another definition, by name.
    Extends(String, Location),
    /// A source for each platform that it can be baked on.
    Source(Source),
}

/// Declared and not given a value.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    #[serde(default)]
    description: String,
    #[serde(default)]
    default: Option<String>,
}

const FIELDS: [&str; 12] = [
    "description",
    "extends",
    "source",
    "variables",
    "builder",
    "recipes",
    "boot",
    "checks",
    "allow_leaks",
    "max_age",
    "test",
    "publish",
];

impl Definition {
    /// Reads an image definition. `given` are the values of variables.
    ///
    /// # Errors
    /// Everything that is wrong with it, each at its place.
    pub fn load(path: &Path, given: &BTreeMap<String, String>) -> Result<Self, Problems> {
        let shown = path.display().to_string();
        let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        {
            return Err(Problem::new(format!("`{shown}` is not the file of an image"))
                .help("the name of an image has lower-case letters, digits and `-`, and its file ends with `.yaml`")
                .into());
        }
        let root = load::parse(&load::read(path, &shown)?)?;
        let entries = root.as_map("an image definition, which is a mapping with `recipes`")?;
        let mut problems = Problems::new();
        for (key, _) in entries.iter().filter(|(key, _)| !FIELDS.contains(&key.name.as_str())) {
            let problem = Problem::new(format!("unknown field `{}` in an image definition", key.name));
            problems.push(problem.at(&key.at).help(did_you_mean(&key.name, &FIELDS)));
        }
        let variables = problems.keep(variables(&root, given)).unwrap_or_default();
        problems.clone().unless_any(())?;
        let rendered = render_all(&root, &variables)?;
        let field = |name: &str| field(&rendered, name);

        let definition = Self {
            name,
            path: path.to_owned(),
            description: problems
                .keep(field("description").map(from_node).transpose())
                .flatten()
                .unwrap_or_default(),
            start: match problems.keep(start(&rendered)) {
                Some(start) => start,
                None => return Err(problems),
            },
            recipes: field("recipes").and_then(|node| problems.keep(wanted_list(node))).unwrap_or_default(),
            boot: field("boot").and_then(|node| problems.keep(boot(node))),
            checks: problems.keep(field("checks").map(from_node).transpose()).flatten().unwrap_or_default(),
            allow_leaks: field("allow_leaks")
                .and_then(|node| problems.keep(allowed_leaks(node)))
                .unwrap_or_default(),
            max_age: problems
                .keep(field("max_age").map(from_node::<Span>).transpose())
                .flatten()
                .map_or(DEFAULT_MAX_AGE, |span| span.0),
            builder: field("builder").and_then(|node| problems.keep(builder(node))),
            test: field("test").and_then(|node| problems.keep(test(node, path))),
            publish: problems.keep(field("publish").map(from_node).transpose()).flatten().unwrap_or_default(),
            variables,
        };
        problems.unless_any(definition)
    }

    /// Where the definition that an image extends is: beside it.
    pub fn beside(path: &Path, name: &str) -> PathBuf {
        path.with_file_name(format!("{name}.yaml"))
    }
}

fn field<'a>(root: &'a Node, name: &str) -> Option<&'a Node> {
    match &root.value {
        Value::Map(entries) => entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node),
        _ => None,
    }
}

/// The values of the declared variables.
fn variables(root: &Node, given: &BTreeMap<String, String>) -> Result<Map<String, Json>, Problems> {
    let mut problems = Problems::new();
    let mut values = Map::new();
    let declared = match field(root, "variables") {
        Some(node) => node.as_map("a mapping of variables")?,
        None => &[],
    };
    for (key, node) in declared {
        let Some(variable) = problems.keep(from_node::<Variable>(node)) else { continue };
        if let Some(value) = given.get(&key.name).cloned().or(variable.default) {
            values.insert(key.name.clone(), Json::from(value));
        } else {
            let what = if variable.description.is_empty() {
                String::new()
            } else {
                format!(" ({})", variable.description)
            };
            problems.push(
                Problem::new(format!("the variable `{}`{what} has no value", key.name))
                    .at(&key.at)
                    .help(format!("give it one with `--var {0}=VALUE` or BAKER_VAR_{0}", key.name)),
            );
        }
    }
    problems.unless_any(values)
}

/// Everything but the declarations of the variables themselves.
fn render_all(root: &Node, variables: &Map<String, Json>) -> Result<Node, Problem> {
    let scope = Scope::new(variables.clone());
    let mut root = root.clone();
    if let Value::Map(entries) = &mut root.value {
        entries.retain(|(key, _)| key.name != "variables");
    }
    render(&root, &scope)
}

fn start(root: &Node) -> Result<Start, Problem> {
    match (field(root, "extends"), field(root, "source")) {
        (Some(extends), None) => {
            Ok(Start::Extends(extends.as_str("the name of an image")?.to_owned(), extends.at.clone()))
        }
        (None, Some(node)) => Ok(Start::Source(source(node)?)),
        (Some(_), Some(source)) => {
            Err(Problem::new("an image has `extends` or `source`, not both").at(&source.at))
        }
        (None, None) => Err(Problem::new("an image needs `extends` or `source`")
            .at(&root.at)
            .help("such as `source: { local: { suite: bookworm } }`")),
    }
}

fn source(node: &Node) -> Result<Source, Problem> {
    let source: Source = from_node(node)?;
    if source.local.is_none() && source.ec2.is_none() {
        return Err(Problem::new("an image has to start from something: `source` is empty")
            .at(&node.at)
            .help("such as `source: { local: { suite: bookworm } }`"));
    }
    let Some(ec2) = &source.ec2 else { return Ok(source) };
    let at = field(node, "ec2").unwrap_or(node);
    if ec2.release.is_none() && source.local.is_none() {
        return Err(Problem::new(
            "the release in the AMI has to be said, so that recipes can be checked for it",
        )
        .at(&at.at)
        .help("such as `release: bookworm`; `baker` looks whether it holds when the builder is up"));
    }
    one_ami(&ec2.ami).map_err(|why| Problem::new(why).at(&field(at, "ami").unwrap_or(at).at))?;
    Ok(source)
}

/// An AMI has to be named in exactly one way, and by a name only together with who owns it.
fn one_ami(ami: &AmiSource) -> Result<(), String> {
    let AmiSource { id, parameter, name, owner, tags, .. } = ami;
    let by_filter = name.is_some() || !tags.is_empty();
    match (id.is_some(), parameter.is_some(), by_filter, owner) {
        (true, false, false, None) | (false, true, false, None) | (false, false, true, Some(_)) => Ok(()),
        (false, false, true, None) => {
            Err("an AMI by name or tags needs its `owner`: anybody can give an AMI any name".into())
        }
        _ => Err("an AMI is named by `id`, by `parameter`, or by `owner` with `name` or `tags`".into()),
    }
}

fn builder(node: &Node) -> Result<BuilderSettings, Problem> {
    let settings: BuilderSettings = from_node(node)?;
    let ssh = &settings.ec2.ssh;
    let ways = [ssh.proxy_jump.is_some(), ssh.proxy_command.is_some(), ssh.session_manager];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        let one = "`ssh` has one of `proxy_jump`, `proxy_command` and `session_manager`";
        return Err(Problem::new(one).at(&node.at));
    }
    let Ec2Builder { volume, volumes, scratch_volumes, .. } = &settings.ec2;
    let further: Vec<_> = volumes.iter().chain(scratch_volumes).collect();
    if further
        .iter()
        .map(|(_, volume)| *volume)
        .chain([volume])
        .any(|one| one.kms_key.is_some() && !one.encrypted)
    {
        return Err(Problem::new("a volume with a `kms_key` is encrypted")
            .at(&node.at)
            .help("leave out `encrypted: false`"));
    }
    if let Some((device, _)) = further.iter().find(|(_, volume)| volume.size.is_none()) {
        return Err(Problem::new(format!("the volume `{device}` needs its `size`, in GiB")).at(&node.at));
    }
    if let Some(device) = volumes.keys().find(|device| scratch_volumes.contains_key(*device)) {
        let both = format!("the device `{device}` is in `volumes` and in `scratch_volumes`");
        return Err(Problem::new(both).at(&node.at));
    }
    Ok(settings)
}

fn test(node: &Node, definition: &Path) -> Result<Test, Problem> {
    let mut test: Test = from_node(node)?;
    let file = definition.parent().unwrap_or(Path::new("")).join(&test.user_data);
    test.text = std::fs::read_to_string(&file).map_err(|error| {
        Problem::new(format!("failed to read `{}`: {error}", file.display()))
            .at(&field(node, "user_data").unwrap_or(node).at)
    })?;
    Ok(test)
}

fn boot(node: &Node) -> Result<Vec<Wanted>, Problems> {
    for (key, _) in node.as_map("a mapping with `recipes`")? {
        if key.name != "recipes" {
            let problem = Problem::new(format!("unknown field `{}` in `boot`", key.name));
            return Err(problem.at(&key.at).help(did_you_mean(&key.name, &["recipes"])).into());
        }
    }
    field(node, "recipes").map_or_else(|| Ok(Vec::new()), wanted_list)
}

fn wanted_list(node: &Node) -> Result<Vec<Wanted>, Problems> {
    let mut problems = Problems::new();
    let elements = node.as_list("a list of recipes")?;
    let wanted = elements.iter().filter_map(|element| problems.keep(Wanted::read(element))).collect();
    problems.unless_any(wanted)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn load(text: &str, given: &[(&str, &str)]) -> Result<Definition, Problems> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("web.yaml");
        fs::write(&path, text).expect("written");
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Definition::load(&path, &given)
    }

    fn problems_of(text: &str) -> String {
        let problems = load(text, &[]).expect_err("not valid").to_string();
        // The folder is another one in every run.
        problems
            .lines()
            .map(|line| line.split("web.yaml:").last().unwrap_or_default().to_owned() + "\n")
            .collect()
    }

    const SOURCE: &str = "source: { local: { suite: bookworm } }\n";

    #[test]
    fn variables_are_put_in_their_places() {
        let text = format!(
            "{SOURCE}variables: {{ version: {{ description: release of the site }}, port: {{ default: '80' }} }}
recipes:
  - nginx
  - firewall: {{ allow: [ {{ port: \"{{{{ port }}}}\" }} ] }}
  - web-site: {{ version: \"{{{{ version }}}}\" }}
boot: {{ recipes: [ web-site ] }}
checks: [ {{ http: {{ url: 'http://127.0.0.1/' }} }} ]
max_age: 7d
"
        );
        let definition = load(&text, &[("version", "1.4")]).expect("valid");
        assert_eq!(definition.recipes.len(), 3);
        assert_eq!(definition.recipes[2].inputs[0].1.to_json(), Json::from("1.4"));
        assert_eq!(definition.max_age.as_secs(), 7 * 24 * 3600);
        assert_eq!(definition.boot.as_ref().map(Vec::len), Some(1));
        insta::assert_snapshot!(problems_of(&text), @"2:14: the variable `version` (release of the site) has no value; give it one with `--var version=VALUE` or BAKER_VAR_version");
    }

    #[test]
    fn what_is_not_valid_is_explained() {
        insta::assert_snapshot!(problems_of("recipes: []\n"), @"1:1: an image needs `extends` or `source`; such as `source: { local: { suite: bookworm } }`");
        insta::assert_snapshot!(problems_of(&format!("extends: base\n{SOURCE}")), @"2:9: an image has `extends` or `source`, not both");
        insta::assert_snapshot!(problems_of(&format!("{SOURCE}recpies: []\n")), @"2:1: unknown field `recpies` in an image definition; did you mean `recipes`? valid are `description`, `extends`, `source`, `variables`, `builder`, `recipes`, `boot`, `checks`, `allow_leaks`, `max_age`, `test` and `publish`");
        insta::assert_snapshot!(problems_of("source: { local: { suite: bullseye } }\n"), @"1:27: `bullseye` is not a valid value here; valid are `bookworm` and `trixie`");
        insta::assert_snapshot!(problems_of("source: { docker: x }\n"), @"1:11: unknown field `docker`; valid are `local` and `ec2`");
        insta::assert_snapshot!(problems_of(&format!("{SOURCE}recipes: [ {{ a: {{}}, b: {{}} }} ]\n")), @"2:12: one element is one recipe, `name: { input: value }`; start another with `-`");
        insta::assert_snapshot!(problems_of(&format!("{SOURCE}recipes: [ 3 ]\nboot: [ x ]\nchecks: [ {{ ping: x }} ]\n")), @"
        2:12: expected the name of a recipe, or `name: { input: value }`, found the number `3`
        3:7: expected a mapping with `recipes`, found a list of 1
        4:13: `ping` is not a valid value here; valid are `service`, `http`, `tcp` and `command`
        ");
        insta::assert_snapshot!(problems_of(&format!("{SOURCE}recipes: [ \"{{{{ verison }}}}\" ]\n")), @"2:16: `verison` is not defined; no name is valid here");
    }

    #[test]
    fn a_leak_is_allowed_by_its_path_its_content_and_a_reason() {
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let with = |entry: &str| format!("{SOURCE}allow_leaks:\n  - {entry}\n");
        let entry = format!("{{ path: /etc/test.key, sha256: {digest}, reason: a key of the test suite }}");
        let definition = load(&with(&entry), &[]).expect("valid");
        assert_eq!(definition.allow_leaks[0].path, "/etc/test.key");
        insta::assert_snapshot!(problems_of(&with("{ path: /etc/test.key }")), @"3:5: the field `sha256` is missing");
        insta::assert_snapshot!(problems_of(&with(&format!("{{ path: /etc/test.key, sha256: {digest} }}"))), @"3:5: the field `reason` is missing");
        insta::assert_snapshot!(problems_of(&with(&entry.replace("a key of the test suite", "''"))), @"3:5: why `/etc/test.key` may be there is not said; say it in `reason`");
        insta::assert_snapshot!(problems_of(&with(&entry.replace(digest, "9F86"))), @"3:5: `9F86` is no SHA-256 in lower-case hexadecimal; what `sha256sum` prints of the file; another content is not allowed");
        insta::assert_snapshot!(problems_of(&with(&entry.replace("/etc", "etc"))), @"3:5: `etc/test.key` is no path from the root; such as `/etc/app/test.key`");
    }

    #[test]
    fn what_is_not_valid_of_ec2_is_explained() {
        let ami =
            |ami: &str| problems_of(&format!("source: {{ ec2: {{ ami: {ami}, release: bookworm }} }}\n"));
        insta::assert_snapshot!(problems_of("source: { ec2: { ami: { id: ami-1 } } }\n"), @"1:16: the release in the AMI has to be said, so that recipes can be checked for it; such as `release: bookworm`; `baker` looks whether it holds when the builder is up");
        insta::assert_snapshot!(ami("{ name: debian-12-* }"), @"1:23: an AMI by name or tags needs its `owner`: anybody can give an AMI any name");
        insta::assert_snapshot!(ami("{ id: ami-1, parameter: /a/b }"), @"1:23: an AMI is named by `id`, by `parameter`, or by `owner` with `name` or `tags`");
        insta::assert_snapshot!(problems_of("source: {}\n"), @"1:9: an image has to start from something: `source` is empty; such as `source: { local: { suite: bookworm } }`");
        let builder = |builder: &str| problems_of(&format!("{SOURCE}builder: {{ ec2: {{ {builder} }} }}\n"));
        insta::assert_snapshot!(builder("ssh: { proxy_jump: a, proxy_command: b }"), @"2:10: `ssh` has one of `proxy_jump`, `proxy_command` and `session_manager`");
        insta::assert_snapshot!(builder("volume: { encrypted: false, kms_key: alias/x }"), @"2:10: a volume with a `kms_key` is encrypted; leave out `encrypted: false`");
        insta::assert_snapshot!(builder("volumes: { /dev/sdf: { type: gp2 } }"), @"2:10: the volume `/dev/sdf` needs its `size`, in GiB");
        insta::assert_snapshot!(builder("volumes: { /dev/sdf: { size: 1 } }, scratch_volumes: { /dev/sdf: { size: 1 } }"), @"2:10: the device `/dev/sdf` is in `volumes` and in `scratch_volumes`");
        insta::assert_snapshot!(builder("instance_type: t3.small"), @"2:19: unknown field `instance_type`; did you mean `instance_types`? valid are `instance_types`, `subnet`, `security_groups`, `instance_profile`, `public_address`, `volume`, `volumes`, `scratch_volumes`, `spot`, `quiesce`, `ssh`, `tags` and `time_limit`");
    }

    #[test]
    fn an_image_says_how_it_is_baked_and_published_on_ec2() {
        let text = "source:
  ec2: { ami: { owner: '136693071363', name: 'debian-12-arm64-*', most_recent: true }, release: bookworm, arch: arm64 }
variables: { version: { default: '1.4' } }
builder: { ec2: { instance_types: [ t4g.small ], subnet: { tags: { Name: build } }, volume: { size: 20, iops: 4000 } } }
publish: { ec2: { name: 'web-{{ version }}', regions: [ eu-west-1 ], channel: /images/web/stable } }
";
        let definition = load(text, &[]).expect("valid");
        let builder = definition.builder.expect("there is one").ec2;
        assert_eq!(
            (builder.volume.size, builder.volume.iops, builder.volume.encrypted),
            (Some(20), Some(4000), true)
        );
        assert_eq!(builder.time_limit.0.as_secs(), 2 * 3600);
        assert_eq!(definition.publish.ec2.name.as_deref(), Some("web-1.4"));
        let Start::Source(source) = definition.start else { panic!("it has a source") };
        let builders: Vec<_> =
            source.builders().iter().map(|builder| (builder.arch, builder.container)).collect();
        assert_eq!(builders, [("aarch64", false)]);
    }

    #[test]
    fn the_name_of_the_file_is_the_name_of_the_image() {
        let error =
            Definition::load(Path::new("images/My Image.yaml"), &BTreeMap::new()).expect_err("not a name");
        assert!(error.to_string().contains("is not the file of an image"));
    }
}
