//! [`Node`]s to typed fields, through serde, with problems that say where and what is valid.

use std::fmt::Display;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use crate::error::{Problem, did_you_mean};
use crate::node::{Key, Node, Value};

/// Reads a typed value from a node.
///
/// # Errors
/// Unknown, missing or doubly given fields and wrong types, each at its place.
pub fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(Reader(node))
}

struct Reader<'a>(&'a Node);

impl Reader<'_> {
    /// Runs a visitor and puts what it complains about at this node.
    fn visit<T>(&self, visited: Result<T, Problem>) -> Result<T, Problem> {
        visited.map_err(|problem| problem.at(&self.0.at))
    }

    /// Text that a template made stands for whatever is wanted, if it reads as that.
    fn rendered_as<T: std::str::FromStr>(&self) -> Option<T> {
        match &self.0.value {
            Value::Rendered(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

macro_rules! whole_numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            match self.rendered_as::<i64>() {
                Some(number) => self.visit(visitor.visit_i64(number)),
                None => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let visited = match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(text) | Value::Rendered(text) => visitor.visit_str(text),
            Value::List(elements) => visitor.visit_seq(Elements(elements.iter())),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        };
        self.visit(visited)
    }

    whole_numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.rendered_as::<bool>() {
            Some(value) => self.visit(visitor.visit_bool(value)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.0.value {
            // `gid: 990` where text is wanted means "990"; `1.10` may have meant either, so it is refused.
            Value::Integer(number) => self.visit(visitor.visit_string(number.to_string())),
            Value::Float(_) | Value::Boolean(_) => {
                Err(self.0.mismatch("a string").help(format!("write \"{}\" in quotes", self.0.at.text())))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let visited = match &self.0.value {
            Value::String(text) | Value::Rendered(text) => {
                visitor.visit_enum(IntoDeserializer::<Problem>::into_deserializer(text.as_str()))
            }
            Value::Map(entries) => match entries.as_slice() {
                [(key, value)] => visitor.visit_enum(Variant { key, value }),
                _ => Err(self.0.mismatch("exactly one key")),
            },
            _ => Err(self.0.mismatch("a string or a mapping with one key")),
        };
        self.visit(visited)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.0.as_map("a mapping")?;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
        ignored_any
    }
}

struct Elements<'a>(std::slice::Iter<'a, Node>);

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        self.0.next().map(|node| seed.deserialize(Reader(node))).transpose()
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Key, Node)>,
    value: Option<&'a Node>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let name: de::value::StrDeserializer<'_, Problem> = key.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|problem| problem.at(&key.at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        match self.value.take() {
            Some(node) => seed.deserialize(Reader(node)),
            None => Err(de::Error::custom("a value was read before its key")),
        }
    }
}

/// `- kind: { ... }`: an enum variant whose name is the key and whose content is the value.
struct Variant<'a> {
    key: &'a Key,
    value: &'a Node,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Problem;
    type Variant = Content<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'a>), Problem> {
        let name: de::value::StrDeserializer<'_, Problem> = self.key.name.as_str().into_deserializer();
        let variant = seed.deserialize(name).map_err(|problem| problem.at(&self.key.at))?;
        Ok((variant, Content(self.value)))
    }
}

struct Content<'a>(&'a Node);

impl<'de> de::VariantAccess<'de> for Content<'_> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        match self.0.value {
            Value::Null => Ok(()),
            _ => Err(self.0.mismatch("nothing")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Problem> {
        seed.deserialize(Reader(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Problem> {
        de::Deserializer::deserialize_any(Reader(self.0), visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        de::Deserializer::deserialize_any(Reader(self.0), visitor)
    }
}

impl de::Error for Problem {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {}, found {}", in_words(&expected.to_string()), describe(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("`{variant}` is not a valid value here")).help(did_you_mean(variant, expected))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown field `{field}`")).help(did_you_mean(field, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the field `{field}` is missing"))
    }
}

/// serde names Rust's types; people know ranges.
fn in_words(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number from 0".into(),
        "i64" | "i32" => "a whole number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a sequence" => "a list".into(),
        "a map" => "a mapping".into(),
        _ if expected.starts_with("struct ") => "a mapping".into(),
        _ => expected.into(),
    }
}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("the boolean `{value}`"),
        Unexpected::Unsigned(value) => format!("the number `{value}`"),
        Unexpected::Signed(value) => format!("the number `{value}`"),
        Unexpected::Float(value) => format!("the number `{value}`"),
        Unexpected::Str(text) => format!("the string `{text}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a mapping".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::Deserialize;

    use super::*;
    use crate::load;
    use crate::source::Source;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Example {
        path: String,
        #[serde(default)]
        port: Option<u16>,
        #[serde(default)]
        state: State,
        #[serde(default)]
        tags: Vec<String>,
    }

    #[derive(Debug, Deserialize, PartialEq, Default)]
    #[serde(rename_all = "snake_case")]
    enum State {
        #[default]
        Present,
        Absent,
    }

    fn read(text: &str) -> Result<Example, Problem> {
        let source = Arc::new(Source { name: "e.yaml".into(), text: text.into() });
        from_node(&load::parse(&source)?)
    }

    fn problem_of(text: &str) -> String {
        read(text).expect_err("this text has a problem").located()
    }

    #[test]
    fn typed_fields_are_read() {
        let example = read("{ path: /a, port: 22, state: absent, tags: [x, 1] }").expect("valid");
        assert_eq!(
            example,
            Example {
                path: "/a".into(),
                port: Some(22),
                state: State::Absent,
                tags: vec!["x".into(), "1".into()]
            }
        );
    }

    #[test]
    fn problems_say_where_and_what_is_valid() {
        insta::assert_snapshot!(problem_of("path: /a\nprot: 22\n"), @"e.yaml:2:1: unknown field `prot`; did you mean `port`? valid are `path`, `port`, `state` and `tags`");
        insta::assert_snapshot!(problem_of("port: 22\n"), @"e.yaml:1:1: the field `path` is missing");
        insta::assert_snapshot!(problem_of("path: /a\nport: 70000\n"), @"e.yaml:2:7: expected a whole number from 0 to 65535, found the number `70000`");
        insta::assert_snapshot!(problem_of("path: /a\nport: \"22\"\n"), @"e.yaml:2:7: expected a whole number from 0 to 65535, found the string `22`");
        insta::assert_snapshot!(problem_of("path: /a\nstate: prsent\n"), @"e.yaml:2:8: `prsent` is not a valid value here; did you mean `present`? valid are `present` and `absent`");
        insta::assert_snapshot!(problem_of("path: 1.10\n"), @r#"e.yaml:1:7: expected a string, found the number `1.1`; write "1.10" in quotes"#);
        insta::assert_snapshot!(problem_of("path: true\n"), @r#"e.yaml:1:7: expected a string, found the boolean `true`; write "true" in quotes"#);
        insta::assert_snapshot!(problem_of("path: [x]\n"), @"e.yaml:1:7: expected a string, found a list");
        insta::assert_snapshot!(problem_of("path: /a\ntags: x\n"), @"e.yaml:2:7: expected a list, found the string `x`");
        insta::assert_snapshot!(problem_of("[x]"), @"e.yaml:1:1: expected a mapping, found a list of 1");
        insta::assert_snapshot!(problem_of("path:\n"), @"e.yaml:1:5: expected a string, found nothing");
    }

    #[test]
    fn what_a_template_made_stands_for_the_type_that_is_wanted() {
        let source = Arc::new(Source { name: "e.yaml".into(), text: "{ path: /a, port: x }".into() });
        let mut node = load::parse(&source).expect("valid");
        if let Value::Map(entries) = &mut node.value {
            entries[1].1.value = Value::Rendered("2222".into());
        }
        assert_eq!(from_node::<Example>(&node).expect("valid").port, Some(2222));
    }
}
