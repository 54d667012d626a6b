//! Inputs: what a recipe can be told, with types, defaults and ranges, all checked before anything runs.

use std::fmt;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::error::{Problem, Problems, did_you_mean};
use crate::from_node::from_node;
use crate::node::{Key, Node};
use crate::source::Location;

/// One declared input.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name, as `inputs.NAME` in templates.
    pub name: String,
    /// What it means, for people.
    pub description: String,
    /// What values it takes.
    pub kind: Kind,
    /// The value when none is given; without it the input is required.
    pub default: Option<Node>,
    /// Whether its value is a secret, wherever it comes from.
    pub secret: bool,
    /// Where it is declared.
    pub at: Location,
}

/// What values an input takes.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Text.
    String {
        /// The values it may have; any if empty.
        one_of: Vec<String>,
        /// What it has to match as a whole.
        pattern: Option<Regex>,
    },
    /// A whole number.
    Integer {
        /// The least it may be.
        minimum: Option<i64>,
        /// The most it may be.
        maximum: Option<i64>,
    },
    /// `true` or `false`.
    Boolean,
    /// A list.
    List {
        /// What its elements are; anything if none.
        items: Option<Box<Input>>,
    },
    /// A mapping.
    Map {
        /// The entries it has; any if none.
        properties: Option<Vec<Input>>,
    },
}

/// The words after `type:`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TypeName {
    String,
    Integer,
    Boolean,
    List,
    Map,
}

const FIELDS: [&str; 10] = [
    "type",
    "description",
    "default",
    "enum",
    "pattern",
    "secret",
    "minimum",
    "maximum",
    "items",
    "properties",
];

impl Input {
    /// Reads the declarations under `inputs:`.
    pub fn list(node: &Node) -> Result<Vec<Self>, Problems> {
        let mut problems = Problems::new();
        let entries = node.as_map("a mapping of inputs")?;
        let inputs = entries.iter().filter_map(|(key, node)| problems.keep(Self::one(key, node))).collect();
        problems.unless_any(inputs)
    }

    fn one(key: &Key, node: &Node) -> Result<Self, Problems> {
        let entries = node.as_map("the declaration of an input, such as `{ type: string }`")?;
        let field = |name: &str| entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node);
        for (key, _) in entries {
            if !FIELDS.contains(&key.name.as_str()) {
                let problem = Problem::new(format!("unknown field `{}` in an input", key.name));
                return Err(problem.at(&key.at).help(did_you_mean(&key.name, &FIELDS)).into());
            }
        }
        let type_node = field("type").ok_or_else(|| {
            Problem::new(format!("the input `{}` has no `type`", key.name))
                .at(&key.at)
                .help("a type is `string`, `integer`, `boolean`, `list` or `map`")
        })?;
        let type_name: TypeName = from_node(type_node)?;
        for (key, _) in entries {
            if let Some(belongs) = belongs_to(&key.name)
                && belongs != type_name
            {
                let problem = Problem::new(format!("`{}` does not go with `type: {type_name}`", key.name));
                return Err(problem.at(&key.at).help(format!("it goes with `type: {belongs}`")).into());
            }
        }
        let input = Self {
            name: key.name.clone(),
            description: field("description").map(from_node).transpose()?.unwrap_or_default(),
            kind: match type_name {
                TypeName::String => Kind::String {
                    one_of: field("enum").map(from_node).transpose()?.unwrap_or_default(),
                    pattern: field("pattern").map(pattern).transpose()?,
                },
                TypeName::Integer => Kind::Integer {
                    minimum: field("minimum").map(from_node).transpose()?,
                    maximum: field("maximum").map(from_node).transpose()?,
                },
                TypeName::Boolean => Kind::Boolean,
                TypeName::List => Kind::List {
                    items: field("items")
                        .map(|node| Self::one(&Key { name: "items".into(), at: node.at.clone() }, node))
                        .transpose()?
                        .map(Box::new),
                },
                TypeName::Map => Kind::Map { properties: field("properties").map(Self::list).transpose()? },
            },
            default: field("default").cloned(),
            secret: field("secret").map(from_node).transpose()?.unwrap_or_default(),
            at: key.at.clone(),
        };
        if input.secret
            && let Some(default) = &input.default
        {
            return Err(Problem::new(format!(
                "the input `{}` is secret, so it has no `default`",
                input.name
            ))
            .at(&default.at)
            .help("what is written in a recipe is no secret; it is given by an `include` at boot")
            .into());
        }
        if let Some(default) = &input.default {
            input.check(default)?;
        }
        Ok(input)
    }

    /// The value that templates see for what was given.
    ///
    /// # Errors
    /// Says what is wrong with the value, at its place, in terms of this input.
    pub fn check(&self, given: &Node) -> Result<Json, Problems> {
        let name = &self.name;
        let out = |why: String| Problems::from(Problem::new(format!("`{name}` {why}")).at(&given.at));
        let typed = |problem: Problem| {
            Problems::from(Problem::new(format!("`{name}`: {}", problem.message())).at(&given.at))
        };
        match &self.kind {
            Kind::String { one_of, pattern } => {
                let text: String = from_node(given).map_err(typed)?;
                if !one_of.is_empty() && !one_of.contains(&text) {
                    if self.secret {
                        return Err(out("is none of the values it may have".into()));
                    }
                    let valid: Vec<&str> = one_of.iter().map(String::as_str).collect();
                    let problem = Problem::new(format!("`{name}` cannot be `{text}`")).at(&given.at);
                    return Err(problem.help(did_you_mean(&text, &valid)).into());
                }
                if let Some(pattern) = pattern
                    && !pattern.is_match(&text)
                {
                    if self.secret {
                        return Err(out("does not match its `pattern`".into()));
                    }
                    let pattern = pattern.as_str().trim_start_matches("^(?:").trim_end_matches(")$");
                    return Err(out(format!("is `{text}`, which does not match `{pattern}`")));
                }
                Ok(Json::String(text))
            }
            Kind::Integer { minimum, maximum } => {
                let number: i64 = from_node(given).map_err(typed)?;
                if minimum.is_some_and(|minimum| number < minimum)
                    || maximum.is_some_and(|maximum| number > maximum)
                {
                    if self.secret {
                        return Err(out("is out of range".into()));
                    }
                    return Err(out(format!("{number} is out of range ({})", range(*minimum, *maximum))));
                }
                Ok(Json::from(number))
            }
            Kind::Boolean => Ok(Json::Bool(from_node(given).map_err(typed)?)),
            Kind::List { items } => {
                let elements = given.as_list("a list").map_err(typed)?;
                let Some(items) = items else { return Ok(given.to_json()) };
                let mut problems = Problems::new();
                let values =
                    elements.iter().filter_map(|element| problems.keep(items.check(element))).collect();
                problems.unless_any(Json::Array(values))
            }
            Kind::Map { properties } => {
                let entries = given.as_map("a mapping").map_err(typed)?;
                match properties {
                    Some(properties) => resolve(properties, entries, &given.at, "entry").map(Json::Object),
                    None => Ok(given.to_json()),
                }
            }
        }
    }
}

/// Checks what was given against what is declared and fills in the defaults.
/// `noun` is what a declared thing is called in messages: an `input`, an `entry`, a `variable`.
///
/// # Errors
/// Every unknown, missing or wrong value, each at its place.
pub fn resolve(
    declared: &[Input],
    given: &[(Key, Node)],
    at: &Location,
    noun: &str,
) -> Result<Map<String, Json>, Problems> {
    let mut problems = Problems::new();
    let mut values = Map::new();
    for (key, _) in given {
        if !declared.iter().any(|input| input.name == key.name) {
            let names: Vec<&str> = declared.iter().map(|input| input.name.as_str()).collect();
            let problem = Problem::new(format!("there is no {noun} `{}`", key.name));
            problems.push(problem.at(&key.at).help(did_you_mean(&key.name, &names)));
        }
    }
    for input in declared {
        let node = given.iter().find(|(key, _)| key.name == input.name).map(|(_, node)| node);
        let Some(node) = node.or(input.default.as_ref()) else {
            let mut problem = Problem::new(format!("the {noun} `{}` is required", input.name)).at(at);
            if !input.description.is_empty() {
                problem = problem.help(format!("it is: {}", input.description));
            }
            problems.push(problem);
            continue;
        };
        if let Some(value) = problems.keep(input.check(node)) {
            values.insert(input.name.clone(), value);
        }
    }
    problems.unless_any(values)
}

fn belongs_to(field: &str) -> Option<TypeName> {
    match field {
        "enum" | "pattern" | "secret" => Some(TypeName::String),
        "minimum" | "maximum" => Some(TypeName::Integer),
        "items" => Some(TypeName::List),
        "properties" => Some(TypeName::Map),
        _ => None,
    }
}

fn pattern(node: &Node) -> Result<Regex, Problem> {
    let text: String = from_node(node)?;
    // The whole value has to match: half a match is how `22; rm -rf /` gets through.
    Regex::new(&format!("^(?:{text})$")).map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Problem::new(format!("`pattern` is not a valid regular expression: {why}")).at(&node.at)
    })
}

fn range(minimum: Option<i64>, maximum: Option<i64>) -> String {
    match (minimum, maximum) {
        (Some(minimum), Some(maximum)) => format!("{minimum}-{maximum}"),
        (Some(minimum), None) => format!("at least {minimum}"),
        (None, Some(maximum)) => format!("at most {maximum}"),
        (None, None) => "any".into(),
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::List => "list",
            Self::Map => "map",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::load;
    use crate::source::Source;

    const SPECS: &str = "
port: { type: integer, default: 22, minimum: 1, maximum: 65535 }
banner: { type: string, description: shown before login, pattern: '[a-z ]+' }
level: { type: string, default: INFO, enum: [INFO, VERBOSE] }
forwarding: { type: boolean, default: false }
allow: { type: list, default: [], items: { type: map, properties: {
  port: { type: integer, minimum: 1 }, protocol: { type: string, default: tcp, enum: [tcp, udp] } } } }
labels: { type: map, default: {} }
";

    fn parse(text: &str) -> Node {
        load::parse(&Arc::new(Source { name: "i.yaml".into(), text: text.into() })).expect("valid YAML")
    }

    fn values(given: &str) -> Result<Json, Problems> {
        let declared = Input::list(&parse(SPECS))?;
        let given = parse(given);
        resolve(&declared, given.as_map("a mapping")?, &given.at, "input").map(Json::Object)
    }

    fn problems_of(given: &str) -> String {
        values(given).expect_err("these values have a problem").to_string()
    }

    #[test]
    fn defaults_are_filled_in_at_every_level() {
        let values = values("{ banner: keep out, allow: [ { port: 80 } ] }").expect("valid");
        assert_eq!(
            values,
            serde_json::json!({
                "port": 22, "banner": "keep out", "level": "INFO", "forwarding": false,
                "allow": [ { "port": 80, "protocol": "tcp" } ], "labels": {}
            })
        );
    }

    #[test]
    fn every_wrong_value_is_named_at_its_place() {
        insta::assert_snapshot!(problems_of("{}"), @"i.yaml:1:1: the input `banner` is required; it is: shown before login");
        insta::assert_snapshot!(problems_of("{ banner: a, port: 70000, level: info, prot: 1 }"), @"
        i.yaml:1:40: there is no input `prot`; did you mean `port`? valid are `port`, `banner`, `level`, `forwarding`, `allow` and `labels`
        i.yaml:1:20: `port` 70000 is out of range (1-65535)
        i.yaml:1:34: `level` cannot be `info`; valid are `INFO` and `VERBOSE`
        ");
        insta::assert_snapshot!(problems_of("{ banner: 'a; b', forwarding: 'true', port: x }"), @"
        i.yaml:1:45: `port`: expected a whole number, found the string `x`
        i.yaml:1:11: `banner` is `a; b`, which does not match `[a-z ]+`
        i.yaml:1:31: `forwarding`: expected `true` or `false`, found the string `true`
        ");
        insta::assert_snapshot!(problems_of("{ banner: a, allow: [ { prot: 1 }, 80 ], labels: x }"), @"
        i.yaml:1:25: there is no entry `prot`; did you mean `port`? valid are `port` and `protocol`
        i.yaml:1:23: the entry `port` is required
        i.yaml:1:36: `items`: expected a mapping, found the number `80`
        i.yaml:1:50: `labels`: expected a mapping, found the string `x`
        ");
    }

    #[test]
    fn declarations_are_checked_too() {
        let problems_of = |text: &str| Input::list(&parse(text)).expect_err("not valid").to_string();
        insta::assert_snapshot!(problems_of("a: { type: int }"), @"i.yaml:1:12: `int` is not a valid value here; did you mean `integer`? valid are `string`, `integer`, `boolean`, `list` and `map`");
        insta::assert_snapshot!(problems_of("a: { default: 1 }"), @"i.yaml:1:1: the input `a` has no `type`; a type is `string`, `integer`, `boolean`, `list` or `map`");
        insta::assert_snapshot!(problems_of("a: { type: integer, default: 0, minimum: 1 }"), @"i.yaml:1:30: `a` 0 is out of range (at least 1)");
        insta::assert_snapshot!(problems_of("a: { type: string, minimum: 1 }"), @"i.yaml:1:20: `minimum` does not go with `type: string`; it goes with `type: integer`");
        insta::assert_snapshot!(problems_of("a: { type: string, pattern: '(' }"), @"i.yaml:1:29: `pattern` is not a valid regular expression: unclosed group");
        insta::assert_snapshot!(problems_of("a: { type: string, defualt: x }"), @"i.yaml:1:20: unknown field `defualt` in an input; did you mean `default`? valid are `type`, `description`, `default`, `enum`, `pattern`, `secret`, `minimum`, `maximum`, `items` and `properties`");
    }
}
