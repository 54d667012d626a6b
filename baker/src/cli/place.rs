//! Where a plan is made: on a builder that is launched for it, or on a host that is there.

use std::path::Path;

use clap::ValueEnum;

use super::{On, PlatformName, World};
use crate::failure::Failure;
use crate::image::{Architecture, Chain};
use crate::manifest::SourceRecord;
use crate::platform::{Ec2, Existing, Local, LocalOrigin, Platform};
use crate::target::Target;

/// Where a plan is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A builder of the image's source.
    Builder(PlatformName),
    /// An instance of an AMI.
    Ami(String),
    /// A builder that starts from an image that was baked.
    Image(String),
    /// A host that is there.
    Host(Target),
}

/// Reads a place from the command line.
pub(super) fn place(text: &str) -> Result<Place, String> {
    if let Ok(platform) = PlatformName::from_str(text, false) {
        return Ok(Place::Builder(platform));
    }
    if let Some(id) = text.strip_prefix("ami:") {
        let is_id = id
            .strip_prefix("ami-")
            .is_some_and(|id| id.chars().all(|c| c.is_ascii_hexdigit()) && !id.is_empty());
        let why = || format!("`{id}` is not the id of an AMI, such as `ami-0abcdef1234567890`");
        return if is_id { Ok(Place::Ami(id.to_owned())) } else { Err(why()) };
    }
    match text.parse() {
        Ok(target) => Ok(Place::Host(target)),
        Err(_) if is_name(text) => Ok(Place::Image(text.to_owned())),
        Err(why) => Err(format!("{why}, or `local`, `ec2`, `ami:ID` or the name of an image that was baked")),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// What a builder starts from.
pub(super) struct Start<O> {
    pub(super) origin: O,
    pub(super) source: SourceRecord,
    pub(super) arch: Architecture,
}

/// The source of an image.
pub(super) async fn of_source<P: Platform>(
    on: &On,
    platform: &P,
    chain: &Chain,
) -> Result<Start<P::Origin>, Failure> {
    let image = chain.images.first().ok_or_else(|| Failure::new("there is no image"))?;
    let (origin, source) = on.start(platform, &image.path, &chain.source).await?;
    Ok(Start { origin, source, arch: on.platform.arch(&chain.source) })
}

/// Images as they are launched from an AMI that is there, which brings its volumes itself.
pub(super) fn without_volumes(chain: &Chain) -> Chain {
    let mut chain = chain.clone();
    for image in &mut chain.images {
        let ec2 = &mut image.builder.ec2;
        ec2.volume.size = None;
        ec2.volumes.clear();
        ec2.scratch_volumes.clear();
    }
    chain
}

/// An image that was baked, where it was found.
pub(super) enum Baked {
    /// On this machine.
    Local(Start<LocalOrigin>),
    /// As an AMI.
    Ec2(Box<Ec2>, Start<<Ec2 as Platform>::Origin>),
}

/// Finds an image that was baked: its archive below the folder of images, unless a region is named, or its newest AMI.
pub(super) async fn baked(name: &str, output: &Path, on: &On, world: &World) -> Result<Baked, Failure> {
    if on.region.is_none()
        && let Some(Existing { origin, record: source, .. }) = Local::image(output, name)?
    {
        return Ok(Baked::Local(Start { origin, source, arch: Architecture::here() }));
    }
    let looked = format!("there is no image `{name}` in `{}`", output.display());
    let ec2 = on.ec2(world).await.map_err(|failure| Failure {
        message: format!("{looked}, and EC2 cannot be asked: {}", failure.message),
        ..failure
    })?;
    let Some((origin, source, arch)) = ec2.newest(name).await? else {
        let region = ec2.region().unwrap_or_default();
        return Err(Failure::new(format!("{looked}, and this account has no AMI of that name in {region}"))
            .help("`baker build` bakes it; `--output` names the folder of images"));
    };
    Ok(Baked::Ec2(Box::new(ec2), Start { origin, source, arch }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_builder_or_a_host() {
        assert_eq!(place("ec2"), Ok(Place::Builder(PlatformName::Ec2)));
        assert_eq!(place("ami:ami-0abc"), Ok(Place::Ami("ami-0abc".into())));
        assert_eq!(place("web-2"), Ok(Place::Image("web-2".into())));
        assert_eq!(place("vagrant"), Ok(Place::Host(Target::Vagrant(None))));
        for wrong in ["ami:", "ami:web", "ami:ami-", "ami-0abc:", "Web", "web.yaml", "ssh://"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
        insta::assert_snapshot!(place("web.yaml").expect_err("wrong"), @"a target is `ssh://[USER@]HOST[:PORT]`, `vagrant[:NAME]` or `root:PATH`, or `local`, `ec2`, `ami:ID` or the name of an image that was baked");
    }
}
