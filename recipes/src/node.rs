//! A YAML document as a tree in which every value knows where it was written.

use serde_json::Value as Json;

use crate::error::Problem;
use crate::source::Location;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it was written.
    pub at: Location,
}

/// What can be written in YAML.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`; `yes` and `on` are strings, as YAML 1.2 has it.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text as it was written.
    String(String),
    /// Text that a template made; unlike written text it may stand for a number or a boolean.
    Rendered(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order in which it was written. Keys are unique.
    Map(Vec<(Key, Node)>),
}

/// The name of an entry in a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The name.
    pub name: String,
    /// Where it was written.
    pub at: Location,
}

impl Node {
    /// The entries of a mapping, or a problem that says what is there instead.
    pub fn as_map(&self, expected: &str) -> Result<&[(Key, Self)], Problem> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.mismatch(expected)),
        }
    }

    /// The elements of a list, or a problem that says what is there instead.
    pub fn as_list(&self, expected: &str) -> Result<&[Self], Problem> {
        match &self.value {
            Value::List(elements) => Ok(elements),
            _ => Err(self.mismatch(expected)),
        }
    }

    /// The text of a string, or a problem that says what is there instead.
    pub fn as_str(&self, expected: &str) -> Result<&str, Problem> {
        match &self.value {
            Value::String(text) | Value::Rendered(text) => Ok(text),
            _ => Err(self.mismatch(expected)),
        }
    }

    /// The problem that something else was expected here.
    pub fn mismatch(&self, expected: &str) -> Problem {
        Problem::new(format!("expected {expected}, found {}", self.describe())).at(&self.at)
    }

    /// What this is, in words for a message.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Boolean(value) => format!("the boolean `{value}`"),
            Value::Integer(value) => format!("the number `{value}`"),
            Value::Float(value) => format!("the number `{value}`"),
            Value::String(text) => format!("the string `{}`", shorten(text)),
            // What a template came to may be a secret, of which a part would be one too.
            Value::Rendered(_) => "a string that was rendered".into(),
            Value::List(elements) => format!("a list of {}", elements.len()),
            Value::Map(entries) => format!("a mapping of {}", entries.len()),
        }
    }

    /// The value without its places, as templates take it.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Boolean(value) => Json::Bool(*value),
            Value::Integer(value) => Json::from(*value),
            Value::Float(value) => Json::from(*value),
            Value::String(text) | Value::Rendered(text) => Json::String(text.clone()),
            Value::List(elements) => elements.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|(key, value)| (key.name.clone(), value.to_json())).collect()
            }
        }
    }

    /// A value that came from elsewhere, put at a place.
    pub fn from_json(value: &Json, at: &Location) -> Self {
        let value = match value {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Boolean(*value),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Value::Integer(integer),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Rendered(text.clone()),
            Json::Array(elements) => {
                Value::List(elements.iter().map(|element| Self::from_json(element, at)).collect())
            }
            Json::Object(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(name, value)| {
                        (Key { name: name.clone(), at: at.clone() }, Self::from_json(value, at))
                    })
                    .collect(),
            ),
        };
        Self { value, at: at.clone() }
    }
}

/// Long text is cut in messages; where it stands is shown beside it.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(LONGEST).collect::<String>())
}
