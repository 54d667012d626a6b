//! What kinds have in common that decide one key of a file whose keys are nested.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::edited::EditedFile;
use super::fields::State;
use super::{Claim, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, PlanError};

/// The keys that lead to a value, the outermost first: a string with dots, or a list where keys have dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPath(pub(super) Vec<String>);

impl KeyPath {
    /// The keys of what the last one is in, and the last one.
    pub(super) fn split(&self) -> (&[String], &str) {
        self.0.split_last().map_or((&[], ""), |(last, above)| (above, last))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("."))
    }
}

impl<'de> Deserialize<'de> for KeyPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyPathVisitor;
        impl<'de> Visitor<'de> for KeyPathVisitor {
            type Value = KeyPath;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("keys with dots between them, such as `server.port`, or a list of keys")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeyPath, E> {
                if text.split('.').any(str::is_empty) {
                    return Err(E::custom(format!(
                        "`{text}` has an empty key in it; a key that has dots itself is written in a list"
                    )));
                }
                Ok(KeyPath(text.split('.').map(str::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<KeyPath, A::Error> {
                let mut keys: Vec<String> = Vec::new();
                while let Some(key) = access.next_element()? {
                    keys.push(key);
                }
                if keys.is_empty() || keys.iter().any(String::is_empty) {
                    return Err(de::Error::custom("a list of keys has at least one, and none is empty"));
                }
                Ok(KeyPath(keys))
            }
        }
        deserializer.deserialize_any(KeyPathVisitor)
    }
}

/// Reads a value that may be `null`, which is not the same as a field that is left out.
pub(super) fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// A key that shall be there has a value, and one that shall be absent has none.
pub(super) fn value_matches_state(kind: &str, state: State, value: Option<&Json>) -> Result<(), Problem> {
    match (state, value) {
        (State::Present, None) => Err(Problem::new(format!("a `{kind}` needs its `value`"))),
        (State::Absent, Some(_)) => Err(Problem::new("a key that shall be absent has no `value`")),
        _ => Ok(()),
    }
}

/// One key of a file whose keys are nested, with its value.
pub(super) struct NestedKey {
    pub(super) file: EditedFile,
    pub(super) key: KeyPath,
    /// None if the key shall be absent.
    pub(super) value: Option<Json>,
    /// What becomes of the text of the file.
    pub(super) edit: fn(&Self, &str) -> Result<String, PlanError>,
}

impl NestedKey {
    /// What the first keys lead to, none of them to the file as a whole, has no keys itself.
    pub(super) fn has_no_keys(&self, depth: usize, found: &str) -> PlanError {
        let what = format!("is {found}, which has no key to set");
        if depth == 0 {
            return self.file.impossible(&what);
        }
        PlanError::impossible(format!("`{}` in `{}` {what}", self.key.0[..depth].join("."), self.file.path))
    }

    /// The key behind the first ones is there more than once.
    pub(super) fn is_there_twice(&self, depth: usize) -> PlanError {
        self.file.impossible(&format!("has the key `{}` more than once", self.key.0[..=depth].join(".")))
    }
}

/// Two that are equal want the same.
impl fmt::Debug for NestedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, key, value, edit: _ } = self;
        formatter.debug_tuple("NestedKey").field(file).field(key).field(value).finish()
    }
}

impl Resource for NestedKey {
    fn subject(&self) -> String {
        format!("{}: {}", self.file.path, self.key)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Key { path: self.file.path.as_path().to_owned(), keys: self.key.0.clone() }]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        self.file.plan(facts, |before| (self.edit)(self, before))
    }
}
