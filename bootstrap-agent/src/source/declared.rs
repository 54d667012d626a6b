//! Where values are, as user-data says it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Parameters of SSM Parameter Store: everything below a path, or one by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterSource {
    /// Everything below a path.
    Path {
        /// The path, which starts with `/`.
        path: String,
        /// Which of them may be empty, or look as if nobody had set them.
        allow_empty: Allowed,
    },
    /// One by its name or ARN, which `:VERSION` or `:LABEL` may follow.
    Name {
        /// The name.
        name: String,
        /// What templates know it by, with dots: `db.host`.
        key: String,
        /// Whether it may be empty, or look as if nobody had set it.
        allow_empty: Allowed,
    },
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum SecretSource {
    /// In Secrets Manager.
    #[cfg_attr(test, schemars(with = "crate::config::schema::TextOr<Secret>"))]
    Secretsmanager(#[serde(deserialize_with = "text_or_map")] Secret),
    /// In SSM Parameter Store. Whatever its type is, it is a secret.
    #[cfg_attr(test, schemars(with = "crate::config::schema::TextOr<SecretParameter>"))]
    Ssm(#[serde(deserialize_with = "text_or_map")] SecretParameter),
}

/// A secret of Secrets Manager.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Secret {
    /// Its name or ARN.
    pub id: String,
    /// Its stage; `AWSCURRENT` if neither stage nor version is said.
    #[serde(default)]
    pub stage: Option<String>,
    /// The id of its version.
    #[serde(default)]
    pub version: Option<String>,
    /// What a binary secret is in templates.
    #[serde(default)]
    pub binary: Binary,
    /// Which of its keys may be empty, or look as if nobody had set them.
    #[serde(default)]
    pub allow_empty: Allowed,
}

/// A secret that is a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SecretParameter {
    /// Its name or ARN, which `:VERSION` or `:LABEL` may follow.
    pub name: String,
    /// Whether it may be empty, or look as if nobody had set it.
    #[serde(default)]
    pub allow_empty: Allowed,
}

/// What a binary secret is in templates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Binary {
    /// Its bytes in base64.
    #[default]
    Base64,
    /// The text that its bytes are in UTF-8.
    Text,
}

/// What may be empty, or look as if nobody had set it: nothing, everything, or some keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Allowed {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything.
    Everything,
    /// These keys, with dots.
    Keys(Vec<String>),
}

impl Allowed {
    /// Whether the value of a key may be empty.
    pub fn has(&self, key: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Keys(keys) => keys.iter().any(|allowed| allowed == key),
        }
    }
}

impl From<String> for Secret {
    fn from(id: String) -> Self {
        Self { id, stage: None, version: None, binary: Binary::Base64, allow_empty: Allowed::Nothing }
    }
}

impl From<String> for SecretParameter {
    fn from(name: String) -> Self {
        Self { name, allow_empty: Allowed::Nothing }
    }
}

impl SecretSource {
    /// What is asked for, as the status names it.
    pub fn name(&self) -> String {
        match self {
            Self::Secretsmanager(secret) => {
                let version = secret.stage.as_ref().or(secret.version.as_ref());
                let version = version.map_or_else(String::new, |version| format!("@{version}"));
                format!("secretsmanager:{}{version}", secret.id)
            }
            Self::Ssm(parameter) => format!("ssm:{}", parameter.name),
        }
    }
}

impl ParameterSource {
    /// What is asked for, as the status names it.
    pub fn name(&self) -> String {
        match self {
            Self::Path { path: name, .. } | Self::Name { name, .. } => format!("ssm:{name}"),
        }
    }
}

/// A parameter source as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Written {
    /// A path: everything below it.
    #[serde(default)]
    path: Option<String>,
    /// One parameter: its name or ARN, which `:VERSION` or `:LABEL` may follow.
    #[serde(default)]
    name: Option<String>,
    /// What templates know the one by, with dots.
    #[serde(default, rename = "as")]
    key: Option<String>,
    /// What may be empty, or look as if nobody had set it.
    #[serde(default)]
    allow_empty: Allowed,
}

/// One that is whole.
#[derive(Deserialize)]
#[serde(try_from = "Written")]
struct Checked(ParameterSource);

impl TryFrom<String> for Checked {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        Written { path: Some(path), name: None, key: None, allow_empty: Allowed::Nothing }.try_into()
    }
}

impl TryFrom<Written> for Checked {
    type Error = String;

    fn try_from(Written { path, name, key, allow_empty }: Written) -> Result<Self, String> {
        match (path, name) {
            (Some(path), None) if !path.starts_with('/') => Err(format!(
                "the path `{path}` does not start with `/`; write `{{ name: {path} }}` for one parameter"
            )),
            (Some(path), None) if key.is_none() => Ok(Self(ParameterSource::Path { path, allow_empty })),
            (Some(_), None) => Err("`as` is for one parameter with a `name`".into()),
            (None, Some(name)) if name.starts_with("arn:") && key.is_none() => {
                Err("a parameter named by its ARN needs an `as`".into())
            }
            (None, Some(name)) => {
                let of_name =
                    || name.split(':').next().unwrap_or_default().trim_matches('/').replace('/', ".");
                let key = key.unwrap_or_else(of_name);
                Ok(Self(ParameterSource::Name { name, key, allow_empty }))
            }
            (Some(_), Some(_)) | (None, None) => {
                Err("write either a `path`, for everything below it, or the `name` of one parameter".into())
            }
        }
    }
}

impl<'de> Deserialize<'de> for ParameterSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(deserializer).map(|Checked(source)| source)
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Allowed;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("`true`, or a list of keys")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Allowed, E> {
                Ok(if value { Allowed::Everything } else { Allowed::Nothing })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Allowed, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = access.next_element()? {
                    keys.push(key);
                }
                Ok(Allowed::Keys(keys))
            }
        }

        deserializer.deserialize_any(Keys)
    }
}

/// What is most often all that is said can be said without a mapping around it.
fn text_or_map<'de, D: Deserializer<'de>, T: TextOrMap<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Either<T>(PhantomData<T>);

    impl<'de, T: TextOrMap<'de>> Visitor<'de> for Either<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a name, or a mapping")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            T::try_from(text.to_owned()).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(access))
        }
    }

    deserializer.deserialize_any(Either(PhantomData))
}

/// What can be read from either.
trait TextOrMap<'de>: Deserialize<'de> + TryFrom<String, Error: fmt::Display> {}

impl<'de, T: Deserialize<'de> + TryFrom<String, Error: fmt::Display>> TextOrMap<'de> for T {}
