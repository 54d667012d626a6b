//! The tags of everything that a bake makes. With no ledger at all they tell what is ours, and what may go.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification};

/// The run that made it.
pub(super) const RUN: &str = "baker:run";
/// The image that it is or is for.
pub(super) const IMAGE: &str = "baker:image";
/// The digest of everything that went into the image.
pub(super) const INPUT_DIGEST: &str = "baker:input-digest";
/// Only the bake needs it, and until when at most. An image loses this tag when it is published.
pub(super) const TEMPORARY: &str = "baker:temporary";
/// Who baked: the ARN of the caller.
pub(super) const OWNER: &str = "baker:owner";

/// What is written on everything that a run makes.
#[derive(Debug, Clone)]
pub(super) struct Tags(BTreeMap<String, String>);

impl Tags {
    /// The tags of what only a bake needs. `wanted` are those that the image definition asks for.
    pub(super) fn temporary(
        wanted: &BTreeMap<String, String>,
        run: &str,
        image: &str,
        owner: &str,
        lifetime: Duration,
    ) -> Self {
        let expires = humantime::format_rfc3339_seconds(SystemTime::now() + lifetime).to_string();
        let mut tags = wanted.clone();
        for (key, value) in [
            (RUN, run),
            (IMAGE, image),
            (OWNER, owner),
            (TEMPORARY, &expires),
            ("Name", &format!("baker {run}")),
        ] {
            tags.insert(key.to_owned(), value.to_owned());
        }
        Self(tags)
    }

    /// The same with others added.
    pub(super) fn with(&self, more: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut tags = self.0.clone();
        tags.extend(more);
        Self(tags)
    }

    /// As a call takes them that makes a resource.
    pub(super) fn on(&self, kind: ResourceType) -> TagSpecification {
        let tags = self.0.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        TagSpecification::builder().resource_type(kind).set_tags(Some(tags.collect())).build()
    }
}

/// What has a tag, with one of the values if there are any.
pub(super) fn tagged(key: &str, values: &[&str]) -> Filter {
    if values.is_empty() {
        return Filter::builder().name("tag-key").values(key).build();
    }
    let values = values.iter().map(|&value| value.to_owned()).collect();
    Filter::builder().name(format!("tag:{key}")).set_values(Some(values)).build()
}

/// The value of a tag.
pub(super) fn value<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value)
}
