//! A bake that goes well, and one after it.

use std::fs;

use super::{baker, left, with_bodies};
use crate::Outcome;

#[test]
fn an_instance_becomes_an_ami_that_works_and_nothing_else_is_left() -> Outcome {
    let (cloud, workspace) = with_bodies()?;
    let built = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    let ami = built.stdout.trim();
    assert!(ami.starts_with("ami-"), "{}", built.stdout);

    let mut kinds: Vec<_> =
        cloud.left()?.iter().map(|left| (left.region.clone(), left.kind.clone())).collect();
    kinds.sort();
    let expected = ["eu-west-1", "us-east-1"].into_iter().flat_map(|region| {
        ["image", "parameter", "snapshot"].map(|kind| (region.to_owned(), kind.to_owned()))
    });
    assert_eq!(kinds, expected.collect::<Vec<_>>(), "{:?}", left(&cloud)?);
    let image = cloud.left()?.into_iter().find(|left| left.id == ami).ok_or("the AMI is not there")?;
    assert!(!image.tags.contains_key("baker:temporary"), "{:?}", image.tags);
    assert_eq!(image.tags.get("team").map(String::as_str), Some("platform"));
    for channel in cloud.left()?.into_iter().filter(|left| left.kind == "parameter") {
        assert_eq!(channel.id, "/images/small/stable");
        assert!(channel.state.is_some_and(|value| value.starts_with("ami-")));
    }
    let manifest = fs::read_to_string(workspace.path("output/small.ec2.json"))?;
    assert!(manifest.contains(ami) && manifest.contains("eu-west-1"), "{manifest}");
    assert_eq!(workspace.runs()?, [""; 0], "the ledger is closed");

    let tree = cloud.image_tree(ami)?;
    assert_eq!(tree.read("/etc/small")?, "it is here\n");
    for gone in
        ["etc/ssh/ssh_host_ed25519_key", "root/.ssh/authorized_keys", "home/admin/.ssh/authorized_keys"]
    {
        assert!(!tree.path().join(gone).exists(), "{gone}");
    }
    assert_eq!(tree.read("/etc/machine-id")?, "");
    let journals = fs::read_dir(tree.path().join("var/log/journal")).map_or(0, Iterator::count);
    assert_eq!(journals, 0, "a journal of the builder is in the image");
    for log in ["var/log/wtmp", "var/log/cloud-init.log", "var/log/cloud-init-output.log"] {
        let length = fs::metadata(tree.path().join(log)).map_or(0, |metadata| metadata.len());
        assert_eq!(length, 0, "{log}");
    }
    drop(tree);

    let again = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!((again.code, again.stdout.trim()), (Some(0), ami), "{}", again.stderr);
    assert!(again.stderr.contains("up to date"), "{}", again.stderr);
    Ok(())
}
