//! The leak gate of a bake, and the free blocks of a disk.

use std::fs;
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

/// A disk that is sealed.
struct Sealed {
    /// Its file system, how that is mounted, and how many megabytes it has.
    kind: &'static str,
    options: &'static str,
    megabytes: u64,
    /// What the host has to look at its disk with.
    programs: &'static [&'static str],
    /// Whether all of it was written to once.
    full: bool,
}

/// A small system: the agent, and programs with their libraries.
fn system(tree: &Path, programs: &[&str]) -> std::io::Result<()> {
    for path in ["etc", "proc", "sys", "dev", "var/log", "usr/sbin"] {
        fs::create_dir_all(tree.join(path))?;
    }
    fs::copy(binaries::agent().map_err(std::io::Error::other)?, tree.join("agent"))?;
    for program in programs {
        fs::copy(program, tree.join(&program[1..]))?;
        let needed = Command::new("ldd").arg(program).output()?.stdout;
        for library in
            String::from_utf8_lossy(&needed).split_whitespace().filter(|word| word.starts_with('/'))
        {
            let place = tree.join(&library[1..]);
            fs::create_dir_all(place.parent().unwrap_or(Path::new("/")))?;
            fs::copy(library, place)?;
        }
    }
    Ok(())
}

/// Mounts the disk in a namespace of its own, where somebody writes a secret and removes it, and seals. With a network of its own there is a
/// /sys that may be written to.
const SEALS: &str = r#"
    mount --options "loop,$1" disk mnt
    cp --recursive tree/. mnt
    cp secret mnt/etc/secret
    [ "$2" = false ] || yes deleted1 > mnt/full 2> /dev/null || sync
    sync
    rm --force mnt/etc/secret mnt/full
    mount --types proc proc mnt/proc
    mount --types sysfs sysfs mnt/sys
    loop=$(findmnt --noheadings --output SOURCE mnt)
    cp --archive /dev/null "$loop" mnt/dev/
    chroot mnt /agent seal --root=/ --format=json
    umount --recursive mnt
"#;

impl Sealed {
    /// What sealing it told, and what is on it then.
    fn seal(&self) -> Result<(serde_json::Value, Vec<u8>), Box<dyn std::error::Error>> {
        let folder = tempfile::TempDir::with_prefix("disk-")?;
        let path = |name: &str| folder.path().join(name);
        system(&path("tree"), self.programs)?;
        // In btrfs a short file is no blocks, but part of a table.
        fs::write(path("secret"), key("deleted0").repeat(1024))?;
        fs::create_dir(path("mnt"))?;
        fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path("disk"))?
            .set_len(self.megabytes << 20)?;
        let made = Command::new(format!("mkfs.{}", self.kind)).arg("-q").arg(path("disk")).output()?;
        assert!(made.status.success(), "{made:?}");
        let sealed = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-euc", SEALS, "sh", self.options, &self.full.to_string()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&sealed.stderr);
        assert!(sealed.status.success(), "{} {}: {said}", self.kind, self.options);
        let report: serde_json::Value = serde_json::from_slice(&sealed.stdout)?;
        assert_eq!(report["findings"], serde_json::json!([]), "{report}");
        assert_eq!(report["erased"][0]["path"], "/", "{report}");
        Ok((report["erased"][0].clone(), fs::read(path("disk"))?))
    }
}

/// How many blocks have a text in them.
fn blocks_with(disk: &[u8], text: &str) -> usize {
    let has = |block: &[u8]| block.windows(text.len()).any(|window| window == text.as_bytes());
    disk.chunks(4096).filter(|block| has(block)).count()
}

#[test]
fn what_was_deleted_is_not_in_the_free_blocks() -> Outcome {
    const FILEFRAG: &str = "/usr/sbin/filefrag";
    let ext4 =
        Sealed { kind: "ext4", options: "defaults", megabytes: 96, programs: &[FILEFRAG], full: false };
    let xfs = Sealed { kind: "xfs", megabytes: 320, programs: &[FILEFRAG, "/usr/sbin/xfs_io"], ..ext4 };
    let btrfs = Sealed { kind: "btrfs", megabytes: 160, programs: &[], ..ext4 };
    for case in [
        Sealed { full: true, ..ext4 },
        Sealed { programs: &[], ..ext4 },
        ext4,
        Sealed { full: true, ..xfs },
        xfs,
        // Zeros that are compressed would fill it thirty times.
        Sealed { options: "compress=zstd", ..btrfs },
        btrfs,
    ] {
        let (erased, disk) = case.seal()?;
        let about = format!("{} {} {erased}", case.kind, case.full);
        let number = |name: &str| erased[name].as_u64().unwrap_or_default();
        assert!(number("free") > 40 << 20 && number("free") < case.megabytes << 20, "{about}");
        assert!(number("overwritten") > 0, "{about}");
        if !case.programs.is_empty() {
            assert_eq!(erased["found"][0]["what"], "a private key", "{about}");
            // What never held anything is left as it was.
            assert!(case.full || number("overwritten") < 8 << 20, "{about}");
        }
        assert!(blocks_with(&disk, "bootstrap-agent") > 0, "{about}");
        // The last blocks a file system keeps for its own tables, XFS more of them than others.
        let kept = match (case.kind, case.programs.is_empty(), case.full) {
            ("ext4", false, _) => 0,
            ("xfs", _, true) => 100,
            _ => 4,
        };
        let left = [blocks_with(&disk, "deleted0deleted0"), blocks_with(&disk, "deleted1\ndeleted1")];
        assert!(left.iter().all(|left| *left <= kept), "{left:?} {about}");
    }
    Ok(())
}
