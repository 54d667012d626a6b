//! Tera, strictly: what a template asks for must exist, and the error says where it asked.
//!
//! Values are given to templates, never fetched by them. What a template makes of secrets is found by
//! rendering twice, once with every secret replaced: where the two differ, a secret went in.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde_json::{Map, Value as Json};
use tera::{Context, Tera};

use crate::error::{Problem, did_you_mean};
use crate::node::{Node, Value};
use crate::source::{Location, Source};

/// What stands for a secret under the mask.
pub const MASK: &str = "(secret)";

/// The values that templates see: `inputs`, `facts`, and at boot the values of the environment.
#[derive(Debug, Clone)]
pub struct Scope {
    values: Map<String, Json>,
    context: Context,
    /// The same values with every secret replaced, if there are secrets among them.
    masked: Option<Box<Scope>>,
}

impl Scope {
    /// Values none of which is secret.
    pub fn new(values: Map<String, Json>) -> Self {
        let mut context = Context::new();
        for (name, value) in &values {
            context.insert(name.clone(), value);
        }
        Self { values, context, masked: None }
    }

    /// Adds values some of which are secret. `masked` has the same shape, with each secret replaced.
    #[must_use]
    pub fn with_secrets(mut self, values: &Map<String, Json>, masked: &Map<String, Json>) -> Self {
        let mut mask = Self { masked: None, ..self.clone() };
        for (name, value) in values {
            self = self.with(name, value.clone());
        }
        for (name, value) in masked {
            mask = mask.with(name, value.clone());
        }
        self.masked = Some(Box::new(mask));
        self
    }

    /// Adds one value that is not secret, or is the same under the mask.
    #[must_use]
    pub fn with(mut self, name: &str, value: Json) -> Self {
        self.context.insert(name.to_owned(), &value);
        self.masked = self.masked.map(|masked| Box::new(masked.with(name, value.clone())));
        self.values.insert(name.to_owned(), value);
        self
    }

    /// Adds one value that may hold secrets; `masked` is the same with each secret replaced.
    #[must_use]
    pub fn with_masked(mut self, name: &str, value: Json, masked: Json) -> Self {
        let mask = match self.masked.take() {
            None if value == masked => None,
            None => Some(Box::new(self.clone().with(name, masked))),
            Some(mask) => Some(Box::new(mask.with(name, masked))),
        };
        Self { masked: mask, ..self.with(name, value) }
    }

    /// The values with every secret replaced; none if nothing here is secret.
    pub fn masked(&self) -> Option<&Self> {
        self.masked.as_deref()
    }

    /// The value at a dotted path, such as `inputs.port`.
    fn lookup(&self, path: &str) -> Option<&Json> {
        let mut parts = path.split('.');
        let first = self.values.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }
}

/// The template files of one recipe. They may `{% include %}` each other.
#[derive(Debug, Default)]
pub struct Templates {
    tera: Tera,
    sources: BTreeMap<String, Arc<Source>>,
}

impl Templates {
    /// Parses template files, each under the name that recipes use for it.
    ///
    /// # Errors
    /// Says where a template is not valid Tera.
    pub fn parse(sources: BTreeMap<String, Arc<Source>>) -> Result<Self, Problem> {
        let mut tera = engine();
        tera.add_raw_templates(sources.iter().map(|(name, source)| (name.as_str(), source.text.as_str())))
            .map_err(|error| match named_file(&error, &sources) {
                Some(source) => explain(&error, &Place::File(source)),
                None => Problem::new(fragment(error.to_string().lines().next().unwrap_or_default())),
            })?;
        Ok(Self { tera, sources })
    }

    /// The names of all template files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// The texts of all template files.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.sources.values().map(|source| source.text.as_str())
    }

    /// Looks whether every input, variable and fact that a template asks for exists, which can be known before any
    /// other value is.
    ///
    /// # Errors
    /// Says where one asks for an input or a fact that does not exist.
    pub fn check(&self, scope: &Scope) -> Result<(), Problem> {
        self.sources.values().try_for_each(|source| check_file(source, scope))
    }

    /// All files that a template file includes, in the end.
    fn included(&self, source: &Arc<Source>) -> Vec<&Arc<Source>> {
        static INCLUDED: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r#"\{%-?\s*(?:include|extends|import)\s+["'`]([^"'`]+)["'`]"#)
                .expect("a valid pattern")
        });
        let mut names = Vec::new();
        let mut texts = vec![source.text.as_str()];
        while let Some(text) = texts.pop() {
            for name in INCLUDED.captures_iter(text).filter_map(|captures| captures.get(1)) {
                if let Some((name, source)) = self.sources.get_key_value(name.as_str())
                    && !names.contains(&name)
                {
                    names.push(name);
                    texts.push(&source.text);
                }
            }
        }
        names.into_iter().filter_map(|name| self.sources.get(name)).collect()
    }

    /// Renders a template file.
    ///
    /// # Errors
    /// Says where a template asks for something that does not exist, or fails otherwise.
    pub fn render(&self, name: &str, scope: &Scope) -> Result<String, Problem> {
        let Some(source) = self.sources.get(name) else {
            let names: Vec<&str> = self.names().collect();
            return Err(
                Problem::new(format!("there is no template `{name}`")).help(did_you_mean(name, &names))
            );
        };
        check_file(source, scope)?;
        self.included(source).into_iter().try_for_each(|source| check_file(source, scope))?;
        self.tera.render(name, &scope.context).map_err(|error| {
            explain(&error, &Place::File(named_file(&error, &self.sources).unwrap_or(source)))
        })
    }
}

fn check_file(source: &Arc<Source>, scope: &Scope) -> Result<(), Problem> {
    check_references(&source.text, scope).map_err(|unknown| unknown.problem(&Place::File(source)))
}

/// Looks whether every input, variable and fact that a string in a tree asks for exists.
///
/// # Errors
/// Says where one asks for an input or a fact that does not exist.
pub(crate) fn check(node: &Node, scope: &Scope) -> Result<(), Problem> {
    match &node.value {
        Value::String(text) => {
            check_references(text, scope).map_err(|unknown| unknown.problem(&Place::Node(node, text)))
        }
        Value::List(elements) => elements.iter().try_for_each(|element| check(element, scope)),
        Value::Map(entries) => entries.iter().try_for_each(|(_, value)| check(value, scope)),
        _ => Ok(()),
    }
}

/// Renders every string in a tree. A string that is one reference, `"{{ inputs.ports }}"`, becomes the
/// value itself, with its type; everything else becomes text.
///
/// # Errors
/// Says where a string asks for something that does not exist.
pub fn render(node: &Node, scope: &Scope) -> Result<Node, Problem> {
    let value = match &node.value {
        Value::String(text) if is_template(text) => {
            if let Some(path) = reference(text) {
                let Some(value) = scope.lookup(path) else {
                    return Err(Unknown::at_path(path, scope, text).problem(&Place::Node(node, text)));
                };
                return Ok(Node::from_json(value, &node.at));
            }
            Value::Rendered(render_text(text, node, scope)?)
        }
        Value::List(elements) => {
            Value::List(elements.iter().map(|element| render(element, scope)).collect::<Result<_, _>>()?)
        }
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, value)| Ok((key.clone(), render(value, scope)?)))
                .collect::<Result<_, Problem>>()?,
        ),
        other => other.clone(),
    };
    Ok(Node { value, at: node.at.clone() })
}

/// Decides a condition, such as the `facts.os.id == "debian"` of a `when`.
///
/// # Errors
/// Says what the condition asks for that does not exist.
pub fn condition(node: &Node, scope: &Scope) -> Result<bool, Problem> {
    match &node.value {
        Value::Boolean(value) => Ok(*value),
        Value::String(text) => {
            let template = format!("{{% if {text} %}}true{{% endif %}}");
            let rendered = render_text(&template, node, scope).map_err(|problem| {
                problem
                    .help("a condition is an expression without braces, such as `facts.os.id == \"debian\"`")
            })?;
            Ok(rendered == "true")
        }
        _ => Err(node.mismatch("a condition")),
    }
}

/// Whether text has anything for Tera in it.
pub(crate) fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|opening| text.contains(opening))
}

fn render_text(text: &str, node: &Node, scope: &Scope) -> Result<String, Problem> {
    let place = Place::Node(node, text);
    check_references(text, scope).map_err(|unknown| unknown.problem(&place))?;
    let mut tera = engine();
    tera.add_raw_template("text", text)
        .and_then(|()| tera.render("text", &scope.context))
        .map_err(|error| explain(&error, &place))
}

fn engine() -> Tera {
    let mut tera = Tera::new();
    // Configuration files are not HTML.
    tera.autoescape_on(Vec::<&str>::new());
    tera
}

/// The path of a string that is nothing but one reference.
fn reference(text: &str) -> Option<&str> {
    static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\s*\{\{-?\s*([A-Za-z_]\w*(?:\.\w+)*)\s*-?\}\}\s*$").expect("a valid pattern")
    });
    REFERENCE.captures(text).and_then(|captures| captures.get(1)).map(|path| path.as_str())
}

/// Where a template's text stands.
enum Place<'a> {
    File(&'a Arc<Source>),
    Node(&'a Node, &'a str),
}

impl Place<'_> {
    /// The place of some bytes of the template. Inside YAML they are found only where the scalar is
    /// written the way it reads; a quoted or folded one is pointed at as a whole.
    fn locate(&self, offset: usize, length: usize) -> Location {
        match self {
            Self::File(source) => Location::new(source, offset, length),
            Self::Node(node, text) => match node.at.text().find(text) {
                Some(start) => Location::new(&node.at.source, node.at.offset + start + offset, length),
                None => node.at.clone(),
            },
        }
    }
}

/// Tera's error in our form.
fn explain(error: &tera::Error, place: &Place<'_>) -> Problem {
    match error.kind() {
        tera::ErrorKind::SyntaxError(report) | tera::ErrorKind::RenderingError(report) => {
            let span = &report.span().range;
            Problem::new(fragment(report.message())).at(&place.locate(span.start, span.len()))
        }
        _ => {
            // Errors about unknown filters and templates come only as the report meant for a terminal.
            static REPORT: LazyLock<Regex> =
                LazyLock::new(|| Regex::new(r"--> .*?:(\d+):(\d+)\s").expect("a valid pattern"));
            let report = error.to_string();
            let number = |index| REPORT.captures(&report)?.get(index)?.as_str().parse::<usize>().ok();
            let problem = Problem::new(fragment(report.lines().next().unwrap_or_default()));
            match (number(1), number(2), place) {
                (Some(line), Some(column), Place::File(source)) => {
                    problem.at(&Location::at_line(source, line, column))
                }
                _ => problem.at(&place.locate(0, 0)),
            }
        }
    }
}

/// The file that an error is about; an error inside an included file names that file.
fn named_file<'a>(
    error: &tera::Error,
    sources: &'a BTreeMap<String, Arc<Source>>,
) -> Option<&'a Arc<Source>> {
    match error.kind() {
        tera::ErrorKind::SyntaxError(report) | tera::ErrorKind::RenderingError(report) => {
            sources.get(report.filename())
        }
        _ => {
            let report = error.to_string();
            sources
                .iter()
                .find(|(name, _)| report.contains(&format!("--> {name}:")))
                .map(|(_, source)| source)
        }
    }
}

/// A sentence of Tera's as a fragment like ours.
fn fragment(message: &str) -> String {
    let message = message.trim_start_matches("error: ").trim_end_matches('.');
    let mut characters = message.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// A reference to something that does not exist.
struct Unknown {
    offset: usize,
    path: String,
    part: String,
    valid: Vec<String>,
}

impl Unknown {
    fn at_path(path: &str, scope: &Scope, text: &str) -> Self {
        let mut valid: Vec<String> = scope.values.keys().cloned().collect();
        let mut value = None;
        let mut unknown = path;
        for part in path.split('.') {
            let next = match value {
                None => scope.values.get(part),
                Some(value) => Json::get(value, part),
            };
            if next.is_none() {
                unknown = part;
                break;
            }
            valid = next.and_then(Json::as_object).map_or_else(Vec::new, |map| map.keys().cloned().collect());
            value = next;
        }
        Self { offset: text.find(path).unwrap_or(0), path: path.into(), part: unknown.into(), valid }
    }

    fn problem(&self, place: &Place<'_>) -> Problem {
        if self.path.starts_with("facts.live") && self.part == "live" {
            // A builder could tell them, and an image would have them for good.
            return Problem::new(format!("`{}` is known only on a live host", self.path))
                .at(&place.locate(self.offset, self.path.len()))
                .help("hosts that boot from an image differ in it: use it in a boot recipe, for what the bake need not know");
        }
        let valid: Vec<&str> = self.valid.iter().map(String::as_str).collect();
        Problem::new(format!("`{}` is not defined", self.path))
            .at(&place.locate(self.offset, self.path.len()))
            .help(did_you_mean(&self.part, &valid))
    }
}

/// The parts of a text that Tera reads, each with where it begins.
pub(crate) fn blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    static BLOCK: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?s)\{\{.*?\}\}|\{%.*?%\}").expect("a valid pattern"));
    BLOCK.find_iter(text).map(|block| (block.start(), block.as_str()))
}

/// Inputs, variables and facts are closed sets, so asking for one that is not there is a mistake even where Tera
/// takes undefined for false (`{% if inputs.tpyo %}`).
fn check_references(text: &str, scope: &Scope) -> Result<(), Unknown> {
    static PATH: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#""[^"]*"|'[^']*'|`[^`]*`|[\w.]*\b(?:inputs|vars|facts)(?:\.[A-Za-z_]\w*)+"#)
            .expect("a valid pattern")
    });
    for (start, block) in blocks(text) {
        for found in PATH.find_iter(block) {
            let path = found.as_str();
            // What is inside an input or a variable is the recipe's own affair.
            let depth = match path.split('.').next() {
                Some("inputs" | "vars") => 2,
                Some("facts") => usize::MAX,
                _ => continue,
            };
            let path = path.split('.').take(depth).collect::<Vec<_>>().join(".");
            let namespace_given = scope.values.contains_key(path.split('.').next().unwrap_or_default());
            if namespace_given && scope.lookup(&path).is_none() {
                let mut unknown = Unknown::at_path(&path, scope, text);
                unknown.offset = start + found.start();
                return Err(unknown);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::load;

    fn source(name: &str, text: &str) -> Arc<Source> {
        Arc::new(Source { name: name.into(), text: text.into() })
    }

    fn scope() -> Scope {
        let Json::Object(values) = json!({
            "inputs": { "port": 22, "allow": [ "a", "b" ], "title": "Hi" },
            "facts": { "os": { "id": "debian", "version": "12" } },
        }) else {
            unreachable!("an object")
        };
        Scope::new(values)
    }

    fn node(text: &str) -> Node {
        load::parse(&source("t.yaml", text)).expect("valid YAML")
    }

    #[test]
    fn one_reference_keeps_its_type_and_everything_else_is_text() {
        let rendered = render(
            &node("{ a: '{{ inputs.port }}', b: '{{ inputs.allow }}', c: 'x{{ inputs.port }}', d: plain }"),
            &scope(),
        )
        .expect("valid");
        assert_eq!(rendered.to_json(), json!({ "a": 22, "b": ["a", "b"], "c": "x22", "d": "plain" }));
    }

    #[test]
    fn what_is_not_defined_is_named_at_its_place() {
        let problem_of = |text: &str| render(&node(text), &scope()).expect_err("not defined").located();
        insta::assert_snapshot!(problem_of("a: '{{ inputs.prot }}'"), @"t.yaml:1:8: `inputs.prot` is not defined; did you mean `port`? valid are `port`, `allow` and `title`");
        insta::assert_snapshot!(problem_of("a: '{{ input.port }}'"), @"t.yaml:1:8: `input.port` is not defined; did you mean `inputs`? valid are `inputs` and `facts`");
        insta::assert_snapshot!(problem_of("a: 'x {{ nothing }}'"), @"t.yaml:1:10: variable `nothing` is not defined. Available variables: facts, inputs");
        insta::assert_snapshot!(problem_of("a: '{% if inputs.prot %}x{% endif %}'"), @"t.yaml:1:11: `inputs.prot` is not defined; did you mean `port`? valid are `port`, `allow` and `title`");
        insta::assert_snapshot!(problem_of("a: 'x {{ facts.os.name }}'"), @"t.yaml:1:10: `facts.os.name` is not defined; valid are `id` and `version`");
        insta::assert_snapshot!(problem_of("a: 'x {{ inputs.port'"), @"t.yaml:1:17: unexpected end of input");
        insta::assert_snapshot!(problem_of("a: '{{ inputs.title | shuot }}'"), @"t.yaml:1:5: unknown filter `shuot`");
        insta::assert_snapshot!(problem_of("a: '{% if facts.live %}x{% endif %}'"), @"t.yaml:1:11: `facts.live` is known only on a live host; hosts that boot from an image differ in it: use it in a boot recipe, for what the bake need not know");
        assert!(render(&node("a: '{{ \"inputs.prot\" }}'"), &scope()).is_ok(), "text in quotes is text");
    }

    #[test]
    fn conditions_are_decided_or_explained() {
        let decide = |text: &str| condition(&node(text), &scope());
        assert_eq!(decide("facts.os.id == 'debian' and inputs.port == 22"), Ok(true));
        assert_eq!(decide("facts.os.version == '13'"), Ok(false));
        assert_eq!(decide("false"), Ok(false));
        insta::assert_snapshot!(decide("facts.os.nmae == 'x'").expect_err("not defined").located(), @"t.yaml:1:1: `facts.os.nmae` is not defined; valid are `id` and `version`");
        insta::assert_snapshot!(decide("facts.os.id = 'x'").expect_err("not valid").located(), @r#"t.yaml:1:1: found `=` but expected %}; a condition is an expression without braces, such as `facts.os.id == "debian"`"#);
        insta::assert_snapshot!(decide("[x]").expect_err("not valid").located(), @"t.yaml:1:1: expected a condition, found a list of 1");
    }

    #[test]
    fn template_files_point_into_themselves() {
        let files = |text: &str| {
            Templates::parse(BTreeMap::from([
                ("main.tera".to_owned(), source("templates/main.tera", text)),
                ("part.tera".to_owned(), source("templates/part.tera", "port={{ inputs.port }}\n{{ nope }}")),
            ]))
        };
        insta::assert_snapshot!(files("{{ inputs.port | nope }}").expect_err("unknown filter").located(), @"templates/main.tera:1:18: unknown filter `nope`");
        let problem_of = |text: &str| {
            files(text)
                .and_then(|files| files.render("main.tera", &scope()))
                .expect_err("a problem")
                .located()
        };
        insta::assert_snapshot!(problem_of("a\nlisten {{ inputs.prot }};"), @"templates/main.tera:2:11: `inputs.prot` is not defined; did you mean `port`? valid are `port`, `allow` and `title`");
        insta::assert_snapshot!(problem_of("a\n{% if x %}"), @"templates/main.tera:2:9: unexpected end of input");
        insta::assert_snapshot!(problem_of("{% include \"part.tera\" %}"), @"templates/part.tera:2:4: variable `nope` is not defined. Available variables: facts, inputs");
        insta::assert_snapshot!(problem_of("{% include \"other.tera\" %}"), @"templates/main.tera:1:12: unknown template `other.tera`");
        let rendered = files("<{{ inputs.title }}>\n").and_then(|files| files.render("main.tera", &scope()));
        assert_eq!(rendered, Ok("<Hi>\n".to_owned()), "nothing is escaped");
    }

    #[test]
    fn a_secret_shows_as_a_difference_under_the_mask() {
        let Json::Object(values) = json!({ "secrets": { "db": { "password": "hunter2" } } }) else {
            unreachable!("an object")
        };
        let Json::Object(masked) = json!({ "secrets": { "db": { "password": "(secret)" } } }) else {
            unreachable!("an object")
        };
        let scope = scope().with_secrets(&values, &masked);
        let mask = scope.masked().expect("there are secrets");
        let open = node("a: 'x{{ inputs.port }}'");
        assert_eq!(render(&open, &scope), render(&open, mask));
        let secret = node("a: 'x{{ secrets.db.password }}'");
        assert_ne!(render(&secret, &scope), render(&secret, mask));
    }
}
