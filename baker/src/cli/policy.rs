//! `policy`: what a bake on EC2 needs to be allowed.

use std::io::{self, Write};

use super::{DONE, ImageArguments, State, World, fail, fail_with};
use crate::failure::Failure;
use crate::platform::policy;

/// Print the IAM policy with which an image can be baked on EC2
///
/// It allows what a bake of this image does, publishing and cleaning included, and no more: what it changes or
/// removes has to have the tags that baker gives to what it makes. Nothing is asked of AWS.
#[derive(Debug, clap::Args)]
pub(super) struct Policy {
    #[command(flatten)]
    image: ImageArguments,
}

impl Policy {
    pub(super) fn run(self, world: &World, state: &State) -> u8 {
        let chain = match self.image.load(world, state) {
            Ok(chain) => chain,
            Err(problems) => return fail_with(&problems),
        };
        let (Some(image), Some(ec2)) = (chain.image(), &chain.source.ec2) else {
            return fail(&Failure::new("the image has no source for EC2"));
        };
        let text = serde_json::to_string_pretty(&policy(image, &ec2.ami)).unwrap_or_default();
        let _ = writeln!(io::stdout(), "{text}");
        DONE
    }
}
