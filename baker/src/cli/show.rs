//! `show`: what an image is, and where its files come from.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use super::{DONE, Format, fail};
use crate::failure::{Failure, failed};
use crate::files::{Files, beside};
use crate::manifest::Manifest;

/// Show what a baked image is made of
///
/// With `--files` each file is shown with the package or the resource that it comes from. What neither brought is
/// nobody's: scripts of packages and programs that ran wrote it.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The name of the image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The folder that images and their manifests are kept in
    #[arg(long, value_name = "DIR", default_value = "output")]
    output: PathBuf,
    /// Show whose each file is
    #[arg(long)]
    files: bool,
    /// Show only what is nobody's
    #[arg(long, requires = "files")]
    nobody: bool,
    /// How to show it
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Show {
    pub(super) fn run(self) -> u8 {
        match self.text() {
            Ok(text) => {
                let _ = writeln!(io::stdout(), "{text}");
                DONE
            }
            Err(failure) => fail(&failure),
        }
    }

    fn text(&self) -> Result<String, Failure> {
        let manifest = self.manifest();
        let human = self.format == Format::Human;
        if !self.files {
            let what = format!("read `{}`", manifest.display());
            let text = std::fs::read(&manifest).map_err(failed(what.clone()))?;
            let manifest: Manifest = serde_json::from_slice(&text).map_err(failed(what))?;
            let text = if human { Ok(summary(&manifest)) } else { serde_json::to_string_pretty(&manifest) };
            return text.map_err(failed("show the manifest"));
        }
        let files = beside(&manifest);
        let read = Files::read(&files).map_err(failed(format!("read `{}`", files.display())))?;
        let mut read = read.ok_or_else(|| {
            Failure::new(format!("there is no `{}`", files.display()))
                .help("it is made when the image is baked; bake it again with `--force`")
        })?;
        if self.nobody {
            read = Files { nobody: read.nobody, version: read.version, ..Files::default() };
        }
        if human {
            Ok(table(&read))
        } else {
            serde_json::to_string_pretty(&read).map_err(failed("show the files"))
        }
    }

    /// The manifest: that of an archive, else that of AMIs.
    fn manifest(&self) -> PathBuf {
        let place = |platform| Manifest::place(&self.output, &self.image, platform);
        Some(place("local")).filter(|path| path.is_file()).unwrap_or_else(|| place("ec2"))
    }
}

fn summary(manifest: &Manifest) -> String {
    let mut lines = vec![format!("{}: {}", manifest.name, manifest.description)];
    lines.push(format!("baked {} ({}) in the run {}", manifest.created, manifest.platform, manifest.run));
    lines.extend(manifest.digest.iter().map(|digest| format!("archive {digest}")));
    lines.extend(manifest.amis.iter().map(|ami| format!("{} in {}", ami.id, ami.region)));
    let recipes =
        manifest.recipes.as_array().into_iter().flatten().filter_map(|used| used["recipe"].as_str());
    lines.push(format!("recipes: {}", recipes.collect::<Vec<_>>().join(", ")));
    let resources = manifest.resources.changed + manifest.resources.unchanged;
    lines.push(format!(
        "{resources} resources, {} packages, {} checks",
        manifest.packages.len(),
        manifest.checks.len()
    ));
    lines.join("\n")
}

/// A line for each file, in the order of their paths, and one that counts.
fn table(files: &Files) -> String {
    let of = |kind: &'static str, owners: &BTreeMap<String, Vec<String>>| -> Vec<(String, String)> {
        let each = owners.iter().flat_map(|(owner, paths)| {
            paths.iter().map(move |path| (path.clone(), format!("{kind}{owner}")))
        });
        each.collect()
    };
    let (packages, resources) = (of("package ", &files.packages), of("", &files.resources));
    let count = format!(
        "{} of packages, {} of resources, {} of nobody",
        packages.len(),
        resources.len(),
        files.nobody.len()
    );
    let nobody = files.nobody.iter().map(|path| (path.clone(), "nobody".to_owned()));
    let mut all: Vec<_> = packages.into_iter().chain(resources).chain(nobody).collect();
    all.sort();
    all.into_iter().map(|(path, owner)| format!("{path}\t{owner}\n")).collect::<String>() + &count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_shown_with_whose_they_are() {
        let paths = |path: &str| vec![path.to_owned()];
        let files = Files {
            packages: [("nginx".into(), paths("/usr/sbin/nginx"))].into(),
            resources: [("site: file /etc/site".into(), paths("/etc/site"))].into(),
            nobody: paths("/etc/ld.so.cache"),
            ..Files::default()
        };
        assert_eq!(
            table(&files),
            "/etc/ld.so.cache\tnobody\n/etc/site\tsite: file /etc/site\n/usr/sbin/nginx\tpackage nginx\n1 of packages, 1 of resources, 1 of nobody"
        );
    }
}
