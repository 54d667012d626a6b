//! Images that are baked together: each after the one that it extends, and each once.

use crate::failure::Failure;
use crate::image::{BakePlan, Chain, Source};

/// An image among others.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// The image.
    pub image: &'a BakePlan,
    /// Those that it extends, the first one first.
    pub extends: &'a [BakePlan],
    /// Which of them it extends; none if it starts from its source.
    pub parent: Option<usize>,
    /// What the first one that it comes from starts from.
    pub source: &'a Source,
    /// Whether it was asked for, and is not only there for others.
    pub wanted: bool,
}

/// Every image of some chains, those that others extend before these.
///
/// # Errors
/// When two images have one name: they would be kept in one place.
pub fn family(chains: &[Chain]) -> Result<Vec<Member<'_>>, Failure> {
    let mut members: Vec<Member<'_>> = Vec::new();
    for chain in chains {
        let mut parent = None;
        for (number, image) in chain.images.iter().enumerate() {
            let wanted = number + 1 == chain.images.len();
            let at = members.iter().position(|member| member.image.name == image.name);
            let at = at.unwrap_or_else(|| {
                let extends = &chain.images[..number];
                members.push(Member { image, extends, parent, source: &chain.source, wanted: false });
                members.len() - 1
            });
            let member = &mut members[at];
            if member.image.path != image.path {
                let (one, other) = (member.image.path.display(), image.path.display());
                return Err(Failure::new(format!("`{one}` and `{other}` are two images of one name"))
                    .help("bake them one after the other, with another `--output`"));
            }
            member.wanted |= wanted;
            parent = Some(at);
        }
    }
    Ok(members)
}

/// How many images one is away from its source.
pub fn level(members: &[Member<'_>], at: usize) -> usize {
    members[at].parent.map_or(0, |parent| 1 + level(members, parent))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn chain(folder: &Path, name: &str) -> Chain {
        let path = folder.join(format!("{name}.yaml"));
        Chain::load(&path, &BTreeMap::new(), &[], &folder.join("cache")).expect("valid")
    }

    #[test]
    fn each_image_is_there_once_behind_the_one_it_extends() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("base.yaml", "source: { local: { suite: bookworm } }\n");
        write("web.yaml", "extends: base\n");
        write("shop.yaml", "extends: web\n");
        write("other/web.yaml", "source: { local: { suite: bookworm } }\n");
        let chains = ["shop", "web"].map(|name| chain(folder.path(), name));
        let members = family(&chains).expect("a family");
        let shown: Vec<_> = members
            .iter()
            .enumerate()
            .map(|(at, member)| {
                (member.image.name.as_str(), member.parent, member.wanted, level(&members, at))
            })
            .collect();
        assert_eq!(shown, [("base", None, false, 0), ("web", Some(0), true, 1), ("shop", Some(1), true, 2)]);
        let chains = [chain(folder.path(), "web"), chain(&folder.path().join("other"), "web")];
        let error = family(&chains).expect_err("one name");
        assert!(error.message.ends_with("other/web.yaml` are two images of one name"), "{}", error.message);
    }
}
