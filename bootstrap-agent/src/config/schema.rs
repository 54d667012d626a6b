//! The JSON Schema of user-data, for editors, of the types that read it.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value as Json, json};

use super::Config;
use crate::credentials;
use crate::s3::Place;
use crate::signal::declared::OnFailure;
use crate::source::declared::{Allowed, ParameterSource, Written};

/// What may be written as a text as well.
pub(crate) struct TextOr<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for TextOr<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("TextOr{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [ { "type": "string" }, generator.subschema_for::<T>() ] })
    }
}

impl JsonSchema for ParameterSource {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ParameterSource".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        TextOr::<Written>::json_schema(generator)
    }
}

/// Types that are read from a text, with what it has to look like and what it is.
macro_rules! texts {
    ($($type:ty, $name:literal, $pattern:literal, $about:literal;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $about })
            }
        }
    )*};
}

texts! {
    Place, "Object", "^s3://[a-z0-9.-]+/.+$", "An object of S3, or what the keys of objects begin with.";
    OnFailure, "OnFailure", "^(stay|poweroff|hold .+)$", "`stay`, `poweroff` or `hold TIME`.";
    credentials::Unit, "Service", "^[A-Za-z0-9_:@\\\\][A-Za-z0-9_:@.\\\\-]*$", "A service.";
    credentials::Name, "CredentialName", "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$", "The name of a credential.";
    credentials::Path, "ValuePath", "^(secrets|parameters)(\\.[A-Za-z0-9_-]+)+$", "Which value, such as `secrets.db.password`.";
}

impl JsonSchema for Allowed {
    fn schema_name() -> Cow<'static, str> {
        "Allowed".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [ { "type": "boolean" }, { "type": "array", "items": { "type": "string" } } ] })
    }
}

/// The schema as editors want it: image and tags may say what user-data leaves out, and what is not said is not null.
fn schema() -> String {
    let mut schema = Json::from(schemars::schema_for!(Config));
    schema["title"] = "User-data of bootstrap-agent".into();
    schema["description"] = "What a host is told to be.".into();
    if let Json::Object(entries) = &mut schema {
        entries.remove("required");
    }
    tidy(&mut schema);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

fn tidy(schema: &mut Json) {
    match schema {
        Json::Object(entries) => {
            entries.remove("default");
            // What the manual of resources has in words.
            let format = entries.remove("format");
            if format
                .as_ref()
                .and_then(Json::as_str)
                .is_some_and(|words| words.starts_with("words of a command"))
            {
                entries.remove("type");
                let list = json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
                entries.insert("anyOf".into(), json!([{ "type": "string" }, list]));
            }
            if let Some(Json::Array(types)) = entries.get_mut("type") {
                types.retain(|name| name != "null");
                if let [name] = &types[..] {
                    let name = name.clone();
                    entries.insert("type".into(), name);
                }
            }
            if let Some(Json::Array(any)) = entries.get_mut("anyOf") {
                any.retain(|one| one["type"] != "null");
                if let [Json::Object(one)] = &any[..] {
                    let one = one.clone();
                    entries.remove("anyOf");
                    entries.extend(one);
                }
            }
            entries.values_mut().for_each(tidy);
        }
        Json::Array(elements) => elements.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[test]
fn the_schema_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/user-data.schema.json");
    let (schema, documented) = (schema(), std::fs::read_to_string(&path).unwrap_or_default());
    if documented != schema {
        let _ = std::fs::write(path, schema);
        panic!("docs/user-data.schema.json was not that of the types; it is now: look at the change");
    }
}
