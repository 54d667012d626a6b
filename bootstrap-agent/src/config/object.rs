//! A configuration that is too large for user-data: an object of S3, named with its digest.
//!
//! What it says is over the image and below the user-data. Where user-data is signed, so is the digest in it, and with that
//! every byte of the object.

use recipes::error::{Problem, Problems};
use recipes::from_node::from_node;
use recipes::template::render;
use serde::{Deserialize, Deserializer, de};
use sha2::{Digest, Sha256};

use super::encoded::decode;
use super::layers::{Layer, Written};
use crate::s3::Place;

/// Where the rest of the configuration is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Object {
    /// The object.
    pub s3: Place,
    /// The SHA-256 of its bytes, in hexadecimal.
    #[serde(deserialize_with = "digest")]
    pub sha256: String,
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(de::Error::custom(format!("`{text}` is not a SHA-256: it has 64 hexadecimal digits")))
}

impl Object {
    /// The one that a configuration names, if it names one.
    ///
    /// # Errors
    /// What is wrong with what it says.
    pub fn of(written: &Written) -> Result<Option<Self>, Problems> {
        let Some(node) = written.field("config") else { return Ok(None) };
        Ok(Some(from_node(&render(node, &written.scope()?)?)?))
    }

    /// The layer that its bytes are, if they are the right ones.
    ///
    /// # Errors
    /// Why they are not.
    pub fn layer(&self, bytes: &[u8]) -> Result<Layer, Problem> {
        let found = recipes::op::hex(&Sha256::digest(bytes));
        if found != self.sha256 {
            let why = format!("{} is not what the user-data names: its SHA-256 is {found}", self.s3);
            return Err(
                Problem::new(why).help("write the new digest into the user-data, or put the old object back")
            );
        }
        let name = self.s3.to_string();
        let bytes =
            decode(bytes.to_vec()).map_err(|why| Problem::new(format!("{name} cannot be read: {why}")))?;
        let layer = Layer { name, bytes, is_user_data: false };
        if Written::read(std::slice::from_ref(&layer)).is_ok_and(|written| written.field("config").is_some())
        {
            return Err(Problem::new(format!("{} names another object in `config`", layer.name)));
        }
        Ok(layer)
    }
}

/// Puts a layer over those of the image and below the user-data.
pub fn insert(layers: &mut Vec<Layer>, layer: Layer) {
    let at = layers.iter().position(|layer| layer.is_user_data).unwrap_or(layers.len());
    layers.insert(at, layer);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"parameters: [ /acme/ ]\n";

    fn named(text: &str) -> Result<Option<Object>, Problems> {
        let text = format!("environment: prod\nrole: web\n{text}");
        Object::of(&Written::read(&[Layer::user_data("user-data", text.as_bytes())])?)
    }

    #[test]
    fn only_the_object_that_is_meant_counts() {
        let digest = recipes::op::hex(&Sha256::digest(TEXT));
        let object =
            named(&format!("config: {{ s3: \"s3://acme/{{{{ environment }}}}.yaml\", sha256: {digest} }}"));
        let object = object.expect("valid").expect("named");
        assert_eq!(object.s3.to_string(), "s3://acme/prod.yaml");
        let layer = object.layer(TEXT).expect("it is");
        assert_eq!((layer.name.as_str(), layer.is_user_data), ("s3://acme/prod.yaml", false));
        let error = object.layer(b"parameters: [ /evil/ ]\n").expect_err("another");
        assert!(
            error
                .to_string()
                .starts_with("s3://acme/prod.yaml is not what the user-data names: its SHA-256 is ")
        );
        let mut layers =
            vec![Layer { name: "image".into(), ..layer.clone() }, Layer::user_data("user-data", b"")];
        insert(&mut layers, layer);
        let names: Vec<_> = layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["image", "s3://acme/prod.yaml", "user-data"]);
    }

    #[test]
    fn what_is_not_an_object_with_a_digest_is_explained() {
        assert_eq!(named("").expect("valid"), None);
        let error = |text: &str| named(text).expect_err(text).to_string();
        insta::assert_snapshot!(error("config: { s3: \"s3://acme/a\" }"), @"user-data:3:9: the field `sha256` is missing");
        insta::assert_snapshot!(error("config: { s3: \"s3://acme/a\", sha256: abc }"), @"user-data:3:9: `abc` is not a SHA-256: it has 64 hexadecimal digits");
        insta::assert_snapshot!(error("config: { s3: acme, sha256: abc }"), @"user-data:3:9: `acme` is not an object of S3; write one such as `s3://BUCKET/KEY`");
    }
}
