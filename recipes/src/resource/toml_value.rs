//! Values of recipes as TOML has them.

use serde_json::Value as Json;
use toml_edit::{Array, InlineTable, Item, Value};

/// A value as TOML has it; none where there is `null` in it.
pub(super) fn to_toml(value: &Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::from(integer),
            None => Value::from(number.as_f64()?),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(elements) => Value::Array(
            elements.iter().map(to_toml).collect::<Option<Vec<Value>>>()?.into_iter().collect::<Array>(),
        ),
        Json::Object(members) => {
            let mut table = InlineTable::new();
            for (key, value) in members {
                table.insert(key, to_toml(value)?);
            }
            Value::InlineTable(table)
        }
    })
}

/// Whether what is in a document is the value that is wanted, however it is written.
pub(super) fn is_same(item: &Item, wanted: &Json) -> bool {
    match (item, wanted) {
        (Item::Value(value), wanted) => is_same_value(value, wanted),
        (Item::Table(table), Json::Object(members)) => {
            let has =
                |(key, wanted): (&String, &Json)| table.get(key).is_some_and(|item| is_same(item, wanted));
            table.len() == members.len() && members.iter().all(has)
        }
        (Item::ArrayOfTables(tables), Json::Array(elements)) => {
            let mut pairs = tables.iter().zip(elements);
            tables.len() == elements.len()
                && pairs.all(|(table, wanted)| is_same(&Item::Table(table.clone()), wanted))
        }
        _ => false,
    }
}

fn is_same_value(value: &Value, wanted: &Json) -> bool {
    match (value, wanted) {
        (Value::String(text), Json::String(wanted)) => text.value() == wanted,
        (Value::Integer(number), Json::Number(wanted)) => wanted.as_i64() == Some(*number.value()),
        (Value::Float(number), Json::Number(wanted)) => {
            wanted.is_f64() && wanted.as_f64() == Some(*number.value())
        }
        (Value::Boolean(value), Json::Bool(wanted)) => value.value() == wanted,
        (Value::Array(elements), Json::Array(wanted)) => {
            elements.len() == wanted.len()
                && elements.iter().zip(wanted).all(|(value, wanted)| is_same_value(value, wanted))
        }
        (Value::InlineTable(table), Json::Object(members)) => {
            let has = |(key, wanted): (&String, &Json)| {
                table.get(key).is_some_and(|value| is_same_value(value, wanted))
            };
            table.len() == members.len() && members.iter().all(has)
        }
        _ => false,
    }
}

/// What is in a document, in words for a message.
pub(super) fn noun(item: &Item) -> &'static str {
    match item {
        Item::ArrayOfTables(_) | Item::Value(Value::Array(_)) => "a list",
        Item::Value(Value::String(_)) => "a string",
        Item::Value(Value::Integer(_) | Value::Float(_)) => "a number",
        Item::Value(Value::Boolean(_)) => "a boolean",
        Item::Value(Value::Datetime(_)) => "a date",
        Item::None | Item::Table(_) | Item::Value(Value::InlineTable(_)) => "a table",
    }
}
