//! `validate`: is an image definition right, with everything it names?

use std::io::{self, Write};

use super::{DONE, Format, ImageArguments, State, World, fail_with};

/// Check an image definition, those it extends, and every recipe, without a builder
#[derive(Debug, clap::Args)]
pub(super) struct Validate {
    #[command(flatten)]
    image: ImageArguments,
    /// How to tell what is found
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Validate {
    pub(super) fn run(self, world: &World, state: &State) -> u8 {
        let chain = match self.image.load(world, state) {
            Ok(chain) => chain,
            Err(problems) => return fail_with(&problems),
        };
        for image in &chain.images {
            let boot = image.boot.as_ref().map_or(0, Vec::len);
            let text = match self.format {
                Format::Human => format!(
                    "{}: valid ({} recipes, {boot} at boot, {} checks)",
                    image.name,
                    image.recipes.len(),
                    image.checks.len()
                ),
                Format::Json => serde_json::json!({
                    "image": image.name, "recipes": image.recipes.len(), "boot": boot, "checks": image.checks.len(),
                })
                .to_string(),
            };
            let _ = writeln!(io::stdout(), "{text}");
        }
        DONE
    }
}
