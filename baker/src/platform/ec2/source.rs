//! The AMI that a builder is launched from.

use aws_sdk_ec2::types::{BootModeValues, Filter, Image, ImageState};
use serde::{Deserialize, Serialize};

use super::Ec2;
use super::call::{CallError, call};
use super::tags;
use crate::failure::Failure;
use crate::image::{AmiSource, Architecture};
use crate::manifest::SourceRecord;

/// An AMI as far as a bake needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ami {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its processor.
    pub architecture: String,
    /// How it boots; EC2's own choice if it does not say.
    pub boot_mode: Option<String>,
    /// Whether it has the driver of the Elastic Network Adapter.
    pub ena: bool,
    /// The name of its root device, such as `/dev/xvda`.
    pub root_device: String,
    /// The size of its root volume in GiB.
    pub root_size: i32,
}

impl Ec2 {
    /// Finds the AMI that is meant: exactly one, or none at all.
    pub(super) async fn resolve(&self, source: &AmiSource, arch: Architecture) -> Result<Ami, Failure> {
        read(&self.meant(source, arch).await?, arch)
    }

    /// The AMI that is meant. One that is named by its id may be for another processor.
    async fn meant(&self, source: &AmiSource, arch: Architecture) -> Result<Image, Failure> {
        let id = match (&source.id, &source.parameter) {
            (Some(id), _) => Some(id.clone()),
            (None, Some(name)) => Some(self.parameter(name).await?),
            (None, None) => None,
        };
        let shown = id.as_ref().map_or_else(|| described(source), |id| format!("the AMI `{id}`"));
        let image = if let Some(id) = &id {
            self.images(std::slice::from_ref(id), &[], None).await
        } else {
            let mut filters = vec![
                Filter::builder().name("state").values("available").build(),
                Filter::builder().name("architecture").values(arch.of_ec2()).build(),
            ];
            filters
                .extend(source.name.as_ref().map(|name| Filter::builder().name("name").values(name).build()));
            filters.extend(source.tags.iter().map(|(key, value)| tags::tagged(key, &[value.as_str()])));
            self.images(&[], &filters, source.owner.as_deref()).await
        };
        let images = match image {
            Ok(images) => images,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        newest(images, source.most_recent, &shown, &self.region)
    }

    /// An AMI by its id, with its processor.
    ///
    /// # Errors
    /// When it is not there, or nothing can be launched from it.
    pub async fn ami(&self, id: &str) -> Result<(Ami, SourceRecord, Architecture), Failure> {
        let source = AmiSource { id: Some(id.to_owned()), ..AmiSource::default() };
        self.as_start(&self.meant(&source, Architecture::default()).await?)
    }

    /// The newest AMI of an image that was baked in this account; none if there is none.
    ///
    /// # Errors
    /// When it cannot be looked for, or nothing can be launched from it.
    pub async fn newest(&self, image: &str) -> Result<Option<(Ami, SourceRecord, Architecture)>, Failure> {
        let newest = self.baked(image, Vec::new()).await?;
        newest.map(|image| self.as_start(&image)).transpose()
    }

    fn as_start(&self, image: &Image) -> Result<(Ami, SourceRecord, Architecture), Failure> {
        let name = image.architecture().map_or("unknown", |value| value.as_str());
        let arch = Architecture::from_ec2(name).ok_or_else(|| {
            let id = image.image_id().unwrap_or_default();
            Failure::new(format!("the AMI `{id}` is for {name}, and there is no agent for that processor"))
        })?;
        let ami = read(image, arch)?;
        let record = self.record(&ami);
        Ok((ami, record, arch))
    }

    /// The newest AMI of an image that was published, if there is one for which all of this holds, too.
    pub(super) async fn baked(&self, image: &str, more: Vec<Filter>) -> Result<Option<Image>, Failure> {
        let mut filters = more;
        filters.push(tags::tagged(tags::IMAGE, &[image]));
        filters.push(Filter::builder().name("state").values("available").build());
        let mut images = self.images(&[], &filters, Some("self")).await?;
        images.retain(|image| tags::value(image.tags(), tags::TEMPORARY).is_none());
        images.sort_by(|one, other| one.creation_date().cmp(&other.creation_date()));
        Ok(images.pop())
    }

    async fn parameter(&self, name: &str) -> Result<String, Failure> {
        let about = format!("the parameter `{name}` in {}", self.region);
        let answer = call("ssm:GetParameter", &about, self.ssm.get_parameter().name(name).send()).await?;
        let value = answer.parameter.and_then(|parameter| parameter.value).unwrap_or_default();
        if value.starts_with("ami-") {
            return Ok(value);
        }
        Err(Failure::new(format!("{about} is not the id of an AMI: `{value}`")))
    }

    /// Every AMI that fits.
    pub(super) async fn images(
        &self,
        ids: &[String],
        filters: &[Filter],
        owner: Option<&str>,
    ) -> Result<Vec<Image>, CallError> {
        let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let request = self
            .ec2
            .describe_images()
            .set_image_ids(some(ids))
            .set_filters((!filters.is_empty()).then(|| filters.to_vec()))
            .set_owners(owner.map(|owner| vec![owner.to_owned()]));
        let about = format!("AMIs in {}", self.region);
        Ok(call("ec2:DescribeImages", &about, request.send()).await?.images.unwrap_or_default())
    }
}

/// The snapshots that an AMI is made of, that of its root volume first.
pub(super) fn snapshots_of(image: &Image) -> Vec<String> {
    let (root, others): (Vec<_>, Vec<_>) = image
        .block_device_mappings()
        .iter()
        .partition(|device| device.device_name() == image.root_device_name());
    let snapshots = root.into_iter().chain(others).filter_map(|device| device.ebs()?.snapshot_id());
    snapshots.map(str::to_owned).collect()
}

fn described(source: &AmiSource) -> String {
    let owner = source.owner.as_deref().unwrap_or_default();
    let mut text = format!("an AMI of `{owner}`");
    if let Some(name) = &source.name {
        text += &format!(" with a name like `{name}`");
    }
    for (key, value) in &source.tags {
        text += &format!(" with the tag `{key}` = `{value}`");
    }
    text
}

/// The one that is meant. Two that fit by accident are as wrong as none.
fn newest(mut images: Vec<Image>, most_recent: bool, shown: &str, region: &str) -> Result<Image, Failure> {
    images.sort_by(|one, other| one.creation_date().cmp(&other.creation_date()));
    match (images.len(), most_recent) {
        (0, _) => Err(Failure::new(format!("{shown} is not in {region}, or not to be seen by this account"))),
        (count, false) if count > 1 => {
            let names: Vec<String> =
                images.iter().filter_map(|image| image.image_id().map(str::to_owned)).collect();
            Err(Failure::new(format!("{shown} is not one but {count} in {region}: {}", names.join(", ")))
                .help("say more of its name, or `most_recent: true` for the newest"))
        }
        _ => images.pop().ok_or_else(|| Failure::new(format!("{shown} is not in {region}"))),
    }
}

fn read(image: &Image, arch: Architecture) -> Result<Ami, Failure> {
    let id = image.image_id().unwrap_or_default().to_owned();
    if image.state() != Some(&ImageState::Available) {
        let state = image.state().map_or("unknown", ImageState::as_str);
        return Err(Failure::new(format!("the AMI `{id}` is `{state}`, not available")));
    }
    let architecture = image.architecture().map_or("unknown", |value| value.as_str());
    if architecture != arch.of_ec2() {
        return Err(Failure::new(format!(
            "the AMI `{id}` is for {architecture}, and `{}` is wanted",
            arch.of_ec2()
        ))
        .help(format!("say `arch: {architecture}` under `source: ec2:`, with instance types that have it")));
    }
    let root_device = image.root_device_name().unwrap_or_default().to_owned();
    let root = image.block_device_mappings().iter().find(|device| device.device_name() == Some(&root_device));
    let root_size = root
        .and_then(|device| device.ebs())
        .and_then(aws_sdk_ec2::types::EbsBlockDevice::volume_size)
        .unwrap_or(8);
    if root_device.is_empty() {
        return Err(Failure::new(format!(
            "the AMI `{id}` has no root volume of EBS, so nothing could be kept of it"
        )));
    }
    Ok(Ami {
        id,
        name: image.name().unwrap_or_default().to_owned(),
        architecture: architecture.to_owned(),
        boot_mode: image.boot_mode().map(BootModeValues::as_str).map(str::to_owned),
        ena: image.ena_support().unwrap_or(true),
        root_device,
        root_size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, created: &str) -> Image {
        Image::builder().image_id(id).creation_date(created).build()
    }

    #[test]
    fn two_that_fit_are_an_error_unless_the_newest_is_wanted() {
        let images = || vec![image("ami-2", "2026-02-01T00:00:00Z"), image("ami-1", "2026-01-01T00:00:00Z")];
        let newest_of = |images, most_recent| newest(images, most_recent, "an AMI of `self`", "eu-west-1");
        let error = newest_of(images(), false).expect_err("two");
        assert_eq!(error.message, "an AMI of `self` is not one but 2 in eu-west-1: ami-1, ami-2");
        assert_eq!(newest_of(images(), true).expect("one").image_id(), Some("ami-2"));
        let error = newest_of(Vec::new(), true).expect_err("none");
        assert_eq!(error.message, "an AMI of `self` is not in eu-west-1, or not to be seen by this account");
    }
}
