//! The leak gate of a bake, and the free blocks of a disk.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use testbed::binaries;
use testbed::workspace::Workspace;

use crate::Outcome;

/// A key that is none, made here so that scanners of this repository find none.
fn key(line: &str) -> String {
    let kind = "OPENSSH PRIVATE KEY";
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", line.repeat(16))
}

/// A bake whose recipe writes a key of a test suite and a value of the environment, both meant.
#[test]
fn the_gate_knows_what_the_bake_used_and_what_the_image_allows() -> Outcome {
    let key = key("test");
    let image = "source: { local: { suite: bookworm } }\nrecipes: [ small ]\n";
    let workspace = Workspace::new()?.with("recipes/small/files/test.key", &key)?;
    let summed = Command::new("sha256sum").arg(workspace.path("recipes/small/files/test.key")).output()?;
    let digest = String::from_utf8(summed.stdout)?.split(' ').next().unwrap_or_default().to_owned();
    let allow = format!(
        "allow_leaks:\n  - {{ path: /srv/test.key, sha256: {digest}, reason: a key of the test suite }}\n"
    );
    let recipe = "resources:\n  - file: { path: /srv/test.key, source: test.key }\n  - file: { path: /srv/url, content: 'token=any%20t%C3%A9xt\\n' }\n";
    let workspace = workspace
        .with("images/small.yaml", &format!("{image}{allow}"))?
        .with("recipes/small/recipe.yaml", recipe)?;

    let build = ["build", "images/small.yaml"];
    let ended = workspace.command(&build)?.env("BAKER_SECRET_TOKEN", "any téxt").output()?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success(), "{said}");
    assert!(said.contains("BAKER_SECRET_TOKEN, a secret of the bake, in /srv/url:1"), "{said}");
    assert!(!said.contains("any t") && !said.contains("test.key"), "{said}");

    let ended = workspace.baker(&build)?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("no leak found but 1 that the image allows"), "{}", ended.stderr);

    // The same key with one more line is not what somebody looked at.
    let workspace = workspace.with("recipes/small/files/test.key", &format!("{key}\n"))?;
    let ended = workspace.baker(&build)?;
    let other = "a private key (the file is another than the one that is allowed) in /srv/test.key:1";
    assert!(ended.code == Some(1) && ended.stderr.contains(other), "{}", ended.stderr);
    Ok(())
}

/// A disk with a small system on it: the agent, and `filefrag` with its libraries if it is to have one.
fn disk(folder: &Path, has_filefrag: bool) -> std::io::Result<()> {
    let tree = folder.join("tree");
    for path in ["etc", "proc", "sys", "dev", "var/log", "usr/sbin"] {
        fs::create_dir_all(tree.join(path))?;
    }
    fs::copy(binaries::agent().map_err(std::io::Error::other)?, tree.join("agent"))?;
    if has_filefrag {
        fs::copy("/usr/sbin/filefrag", tree.join("usr/sbin/filefrag"))?;
        let needed = Command::new("ldd").arg("/usr/sbin/filefrag").output()?.stdout;
        for library in
            String::from_utf8_lossy(&needed).split_whitespace().filter(|word| word.starts_with('/'))
        {
            let place = tree.join(&library[1..]);
            fs::create_dir_all(place.parent().unwrap_or(Path::new("/")))?;
            fs::copy(library, place)?;
        }
    }
    let disk = folder.join("disk");
    fs::File::options().write(true).create_new(true).mode(0o600).open(&disk)?.set_len(96 << 20)?;
    let made = Command::new("mkfs.ext4").args(["-q", "-d"]).arg(&tree).arg(&disk).status()?;
    assert!(made.success());
    Ok(())
}

/// Mounts the disk in a namespace of its own, where somebody writes a secret and removes it, and seals. With a network of its own there is a
/// /sys that may be written to.
const SEALS: &str = r#"
    mount --options loop disk mnt
    cp secret mnt/etc/secret
    sync
    rm mnt/etc/secret
    mount --types proc proc mnt/proc
    mount --types sysfs sysfs mnt/sys
    loop=$(findmnt --noheadings --output SOURCE mnt)
    cp --archive /dev/null "$loop" mnt/dev/
    chroot mnt /agent seal --root=/ --format=json
    umount --recursive mnt
"#;

#[test]
fn what_was_deleted_is_not_in_the_free_blocks() -> Outcome {
    for has_filefrag in [true, false] {
        let folder = tempfile::TempDir::with_prefix("disk-")?;
        disk(folder.path(), has_filefrag)?;
        let secret = key("deleted0");
        fs::File::create(folder.path().join("secret"))?.write_all(secret.as_bytes())?;
        fs::create_dir(folder.path().join("mnt"))?;
        let sealed = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-euc", SEALS])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&sealed.stderr);
        assert!(sealed.status.success(), "{said}");
        let report: serde_json::Value = serde_json::from_slice(&sealed.stdout)?;
        assert_eq!(report["findings"], serde_json::json!([]), "{report}");
        let erased = &report["erased"][0];
        let number = |name: &str| erased[name].as_u64().unwrap_or_default();
        assert_eq!(erased["path"], "/");
        assert!(number("free") > 40 << 20 && number("overwritten") > 0, "{report}");
        if has_filefrag {
            // What never held anything is left as it was.
            assert!(number("overwritten") < 8 << 20, "{report}");
            assert_eq!(erased["found"][0]["what"], "a private key", "{report}");
        }
        let mut bytes = Vec::new();
        let mut disk = fs::File::open(folder.path().join("disk"))?;
        disk.seek(SeekFrom::Start(0))?;
        disk.read_to_end(&mut bytes)?;
        let is_there = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(is_there("bootstrap-agent") && !is_there("deleted0deleted0"), "{report}");
    }
    Ok(())
}
