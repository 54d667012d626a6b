//! Commands as people write them.

use std::fmt;

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// A program and its arguments: a list, or one string split at spaces as a shell would, with quotes and
/// without anything else that shells do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordsVisitor;
        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = Words;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a command: a list of words, or a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
                match shlex::split(text) {
                    Some(words) if !words.is_empty() => Ok(Words(words)),
                    _ => Err(E::custom(format!("`{text}` is not a command: it is empty or a quote is open"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = access.next_element()? {
                    words.push(word);
                }
                if words.is_empty() {
                    return Err(de::Error::custom("a command has at least one word"));
                }
                Ok(Words(words))
            }
        }
        deserializer.deserialize_any(WordsVisitor)
    }
}
