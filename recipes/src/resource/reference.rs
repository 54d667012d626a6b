//! The reference of every kind, made of its types: their documentation and their fields.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use super::checkers::Validate;
use super::fields::{AbsolutePath, AccountName, HostName, Mode, OneOrMore, PackageName, PartName, Sha256Sum};
use super::glob::{Glob, RelativeGlob};
use super::keys::KeyPath;
use super::nftables::Rate;
use super::schemas;
use super::sections::{Ordered, Values};
use super::swap::Size;
use crate::duration::Span;
use crate::system::Host;
use crate::url::HttpsUrl;
use crate::words::Words;

/// What there is to know of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The key that it is written under.
    pub kind: &'static str,
    /// What it is, in Markdown, with examples.
    pub doc: String,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// A field of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name; a field of a field has both, with a dot, and `[]` for the elements of a list.
    pub name: String,
    /// What may be written there, in words.
    pub takes: String,
    /// Whether it has to be written.
    pub required: bool,
    /// What it means.
    pub doc: String,
}

/// What may be written for types that read text in a way of their own.
macro_rules! written_as {
    ($($type:ty: $words:literal),* $(,)?) => {
        $(impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $words.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $words })
            }
        })*
    };
}

written_as! {
    AbsolutePath: "absolute path",
    AccountName: "name of an account",
    Glob: "absolute path with `*`, `?` and `**`",
    HostName: "name of a host",
    HttpsUrl: "`https://` address",
    KeyPath: "dotted path, or list of keys",
    Mode: "octal digits, such as `\"0644\"`",
    OneOrMore: "string or number, or a list of them",
    PackageName: "name of a package",
    PartName: "name of a file, without a dot",
    Rate: "rate, such as `60/minute`",
    RelativeGlob: "path below it with `*`, `?` and `**`",
    Sha256Sum: "64 hexadecimal digits",
    Size: "number with `M`, `G` or `T`",
    Span: "duration, such as `30s`",
    Validate: "words of a command, as a list or one string, or `false`",
    Values: "string, number, boolean, or a list of them",
    Words: "words of a command, as a list or one string",
}

impl<T: JsonSchema> JsonSchema for Ordered<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("mapping to {}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

/// The reference of every kind, in the order of the manual.
pub fn reference() -> Vec<Reference> {
    schemas()
        .into_iter()
        .map(|(kind, schema)| {
            let schema = schema.to_value();
            let mut fields = Vec::new();
            collect(&schema, &schema, "", &mut fields);
            Reference { kind, doc: text(&schema, "description"), fields }
        })
        .collect()
}

/// The reference of every fact, under the name that templates have for it.
pub fn facts_reference() -> Vec<Field> {
    let schema = schemars::schema_for!(Host).to_value();
    let mut fields = Vec::new();
    collect(&schema, &schema, "facts.", &mut fields);
    // What holds others is no fact itself.
    let is_holder =
        |field: &Field| fields.iter().any(|other| other.name.starts_with(&format!("{}.", field.name)));
    fields.iter().filter(|field| !is_holder(field)).cloned().collect()
}

/// Collects the fields of an object, and those of objects in it.
fn collect(root: &Json, schema: &Json, prefix: &str, fields: &mut Vec<Field>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, property) in properties {
        let resolved = resolve(root, property);
        let doc = match text(property, "description") {
            doc if doc.is_empty() => text(resolved, "description"),
            doc => doc,
        };
        fields.push(Field {
            name: format!("{prefix}{name}"),
            takes: takes(root, property),
            required: required.contains(&Json::from(name.as_str())),
            doc,
        });
        collect(root, resolved, &format!("{prefix}{name}."), fields);
        collect(root, resolve(root, &resolved["items"]), &format!("{prefix}{name}[]."), fields);
    }
}

/// What a schema stands for: the type it refers to, and that of an optional field without "or null".
fn resolve<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    if let Some(path) = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        return root.pointer(path).map_or(schema, |schema| resolve(root, schema));
    }
    match schema["anyOf"].as_array().map(Vec::as_slice) {
        Some([some, none]) if none["type"] == "null" => resolve(root, some),
        _ => schema,
    }
}

/// What may be written, in words.
fn takes(root: &Json, schema: &Json) -> String {
    let schema = resolve(root, schema);
    if let Some(format) = schema["format"].as_str().filter(|_| schema["type"] == "string") {
        return format.to_owned();
    }
    let choices = |key: &str| schema[key].as_array().into_iter().flatten();
    let constants: Vec<String> = choices("enum")
        .chain(choices("oneOf").flat_map(|choice| choice["enum"].as_array().into_iter().flatten()))
        .chain(choices("oneOf").map(|choice| &choice["const"]))
        .filter(|value| !value.is_null())
        .map(|value| format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    if !constants.is_empty() {
        return constants.join(", ");
    }
    let several: Vec<String> = choices("anyOf").map(|choice| takes(root, choice)).collect();
    if !several.is_empty() {
        return several.join(" or ");
    }
    let kind = match &schema["type"] {
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).find(|kind| *kind != "null"),
        kind => kind.as_str(),
    };
    match kind {
        Some("array") => format!("list of {}", takes(root, &schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => {
            format!("mapping to {}", takes(root, &schema["additionalProperties"]))
        }
        Some("object") => "mapping".into(),
        Some(kind) => kind.into(),
        None => "any value".into(),
    }
}

fn text(schema: &Json, key: &str) -> String {
    schema[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Facts;
    use crate::system::fake::Fake;

    #[test]
    fn every_kind_and_every_field_is_documented() {
        let all = reference();
        assert_eq!(all.len(), super::super::KINDS.len());
        for Reference { kind, doc, fields } in all {
            assert!(doc.contains("```yaml"), "{kind} has an example: {doc}");
            assert!(!fields.is_empty(), "{kind} has fields");
            for field in fields {
                assert!(!field.doc.is_empty(), "{kind}: {} is documented", field.name);
                // What a file of data may have as a value is for the program that reads it.
                let is_data = ["json", "toml", "yaml"].contains(&kind) && field.name == "value";
                assert_eq!(field.takes == "any value", is_data, "{kind}: {} says what it takes", field.name);
            }
        }
    }

    #[test]
    fn every_fact_is_documented() {
        let host = serde_json::to_value(Fake::debian().host()).expect("JSON");
        for Field { name, takes, doc, .. } in facts_reference() {
            assert!(!doc.is_empty(), "{name} is documented");
            assert_ne!(takes, "mapping", "{name} is a fact itself");
            let pointer = name.trim_start_matches("facts").replace('.', "/");
            assert!(host.pointer(&pointer).is_some(), "templates see {name}");
        }
        assert_eq!(
            Fake::debian().host().to_string().lines().count(),
            facts_reference().len(),
            "none is left out"
        );
    }

    #[test]
    fn fields_say_what_they_take() {
        let all = reference();
        let kind = |name: &str| all.iter().find(|reference| reference.kind == name).expect("a kind");
        let shown: Vec<String> = kind("service")
            .fields
            .iter()
            .map(|field| {
                format!("{} ({}{})", field.name, field.takes, if field.required { ", required" } else { "" })
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @"
        name (string, required)
        enabled (boolean)
        masked (boolean)
        state (`running`, `stopped`, `reloaded`, `restarted`)
        ");
    }
}
