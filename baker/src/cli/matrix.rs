//! `matrix`: images as jobs of a CI engine.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::json;

use super::{DONE, Reading, State, World, fail, fail_with};
use crate::family::{family, level};

/// Print images as a matrix for a CI engine, a job for each
///
/// As JSON that GitHub Actions takes for `strategy: matrix:`. An image's `level` is 0 if it starts from its source, and one
/// more than that of the image it extends otherwise: jobs of one level can run at once, when those of the level below
/// have ended.
#[derive(Debug, clap::Args)]
pub(super) struct Matrix {
    /// The image definitions
    #[arg(value_name = "IMAGE.yaml", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// Only images of this level
    #[arg(long, value_name = "N")]
    level: Option<usize>,
}

impl Matrix {
    pub(super) fn run(self, world: &World, state: &State) -> u8 {
        let chains = match self.reading.load_all(&self.images, world, state) {
            Ok(chains) => chains,
            Err(problems) => return fail_with(&problems),
        };
        let members = match family(&chains) {
            Ok(members) => members,
            Err(failure) => return fail(&failure),
        };
        let jobs = members.iter().enumerate().filter_map(|(at, member)| {
            let level = level(&members, at);
            let is_wanted = self.level.is_none_or(|wanted| wanted == level);
            let extends = member.parent.map(|parent| members[parent].image.name.as_str());
            is_wanted.then(|| {
                json!({ "name": member.image.name, "image": member.image.path, "extends": extends, "level": level })
            })
        });
        let matrix = json!({ "include": jobs.collect::<Vec<_>>() });
        let _ = writeln!(io::stdout(), "{matrix}");
        DONE
    }
}
