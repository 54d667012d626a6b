//! Files that are fetched: into a private file beside their place, which is moved there when it is right.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::tree::Tree;
use super::{Linux, commit, failed, state};
use crate::op::{Download, hex};
use crate::system::fetch::{Fetch, FetchError, Fetched, Part, Request};
use crate::system::{EntryKind, Mode, PerformError};

/// Where a builder keeps what it fetched, by its SHA-256.
const CACHE: &str = "/var/cache/bootstrap-agent/downloads";

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// Fetches a file to a place beside its own, ready to be renamed. The certificates may be in another file than
/// the one that they will be in.
pub(super) fn stage(
    linux: &Linux,
    download: &Download,
    ca_file: Option<&Path>,
    output: &mut dyn FnMut(&str),
) -> Result<PathBuf, PerformError> {
    let path = &download.path;
    let (uid, gid) = linux.owners(&download.attributes)?;
    let staged = part_path(path);
    let writing = || failed(format!("write `{}`", staged.display()));
    let mut part = PrivatePart::open(&linux.tree, &staged, download.max_bytes).map_err(writing())?;
    let keeps = linux.host.mode == Mode::Bake;
    let is_kept = keeps && take_kept(linux, download, &mut part).map_err(writing())?;
    if !is_kept {
        let fetched = fetch(linux, download, ca_file.or(download.ca_file.as_deref()), &mut part, output);
        if fetched.is_err() && part.length == 0 {
            let _ = linux.tree.remove(&staged, &EntryKind::File);
        }
        fetched?;
        if keeps {
            keep(linux, download, &mut part)?;
        }
    }
    let finished = fchown(&part.file, Some(uid), Some(gid)).and_then(|()| {
        // After the owner: chown clears setuid and setgid.
        part.file.set_permissions(Permissions::from_mode(download.attributes.mode))
    });
    finished.map_err(writing())?;
    commit::validate(linux, download.validate.as_deref(), &staged, path, output)?;
    Ok(staged)
}

/// The name is fixed, so that the next run finds what this one could not finish.
fn part_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

/// Fetches what the part lacks, and finds that it is what it shall be.
fn fetch(
    linux: &Linux,
    download: &Download,
    ca_file: Option<&Path>,
    part: &mut PrivatePart,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    // Nothing is left to fetch if a run was cut off just before it was put in place.
    if part.length > 0 && part.sha256() == download.sha256 {
        return Ok(());
    }
    let Some(port) = linux.fetch.as_deref() else {
        return Err(PerformError::Unsupported("this program has nothing that reaches other hosts".into()));
    };
    let ca = ca_file.map(|path| certificates(linux, path)).transpose()?;
    let was_begun = part.length > 0;
    let interrupter = linux.runner.interrupter();
    let is_interrupted = || interrupter.is_interrupted();
    let request = Request { url: &download.url, ca: ca.as_deref(), is_interrupted: &is_interrupted };
    let how = ask(port, &request, part, output)?;
    if part.sha256() != download.sha256 && (was_begun || how == Fetched::InParts) {
        // The parts are perhaps of different files.
        output("what was fetched in parts does not fit together; it is fetched anew");
        part.restart().map_err(failed(format!("write `{}`", download.path.display())))?;
        ask(port, &request, part, output)?;
    }
    let (got, size) = (part.sha256(), part.length);
    if got == download.sha256 {
        return Ok(());
    }
    let _ = linux.tree.remove(&part_path(&download.path), &EntryKind::File);
    Err(PerformError::WrongDigest { url: download.url.clone(), expected: download.sha256.clone(), got, size })
}

fn ask(
    port: &dyn Fetch,
    request: &Request<'_>,
    part: &mut PrivatePart,
    output: &mut dyn FnMut(&str),
) -> Result<Fetched, PerformError> {
    port.fetch(request, part, output)
        .map_err(|source: FetchError| PerformError::Fetch { url: request.url.clone(), source })
}

fn certificates(linux: &Linux, path: &Path) -> Result<Vec<u8>, PerformError> {
    let what = || failed(format!("read the `ca_file` `{}`", path.display()));
    linux.tree.read(path).map_err(what())?.ok_or_else(|| what()(io::ErrorKind::NotFound.into()))
}

/// Takes what was fetched before. What is not what its name says is of no use, and goes.
fn take_kept(linux: &Linux, download: &Download, part: &mut PrivatePart) -> io::Result<bool> {
    let path = Path::new(CACHE).join(&download.sha256);
    let Some(mut kept) = linux.tree.open_file(&path)? else { return Ok(false) };
    if kept.metadata()?.len() > part.limit {
        return Ok(false);
    }
    part.restart()?;
    copy(&mut kept, part)?;
    if part.sha256() == download.sha256 {
        return Ok(true);
    }
    part.restart()?;
    linux.tree.remove(&path, &EntryKind::File)?;
    Ok(false)
}

/// Keeps what was fetched for whoever wants it next.
fn keep(linux: &Linux, download: &Download, part: &mut PrivatePart) -> Result<(), PerformError> {
    let path = Path::new(CACHE).join(&download.sha256);
    let staged = part_path(&path);
    state::make_parents(&linux.tree, &path)?;
    let kept = (|| {
        let mut kept = PrivatePart::open(&linux.tree, &staged, part.limit)?;
        kept.restart()?;
        part.file.seek(SeekFrom::Start(0))?;
        copy(&mut part.file, &mut kept)?;
        linux.tree.rename(&staged, &path)
    })();
    kept.map_err(failed(format!("keep `{}`", path.display())))
}

fn copy(from: &mut File, to: &mut PrivatePart) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(()),
            count => to.append(&chunk[..count])?,
        }
    }
}

/// The SHA-256 of a regular file, in hexadecimal; none if there is none.
pub(super) fn sha256(tree: &Tree, path: &Path) -> io::Result<Option<String>> {
    let Some(mut file) = tree.open_file(path)? else { return Ok(None) };
    let mut digest = Sha256::new();
    read_into(&mut file, &mut digest)?;
    Ok(Some(hex(&digest.finalize())))
}

/// Returns how many bytes there were.
fn read_into(file: &mut File, digest: &mut Sha256) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut length = 0;
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(length),
            count => {
                digest.update(&chunk[..count]);
                length += count as u64;
            }
        }
    }
}

/// A file that only this process's user can read, with the digest of what is in it so far.
struct PrivatePart {
    file: File,
    digest: Sha256,
    length: u64,
    limit: u64,
}

impl PrivatePart {
    fn open(tree: &Tree, path: &Path, limit: u64) -> io::Result<Self> {
        let mut file = tree.open_private(path)?;
        let mut digest = Sha256::new();
        let length = read_into(&mut file, &mut digest)?;
        let mut part = Self { file, digest, length, limit };
        if length > limit {
            part.restart()?;
        }
        Ok(part)
    }

    fn sha256(&self) -> String {
        hex(&self.digest.clone().finalize())
    }
}

impl Part for PrivatePart {
    fn length(&self) -> u64 {
        self.length
    }

    fn limit(&self) -> u64 {
        self.limit
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = self.length + bytes.len() as u64;
        if length > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("there are more than {} bytes; `max_bytes` can allow more", self.limit),
            ));
        }
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        self.length = length;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.digest, self.length) = (Sha256::new(), 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::{Arc, Mutex};

    use nix::unistd::{getgid, getuid};
    use tempfile::TempDir;

    use super::*;
    use crate::op::Op;
    use crate::system::{Attributes, Facts, Known, Machine};
    use crate::url::HttpsUrl;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    /// What the other host does: what it appends, whether it lets go then, and whether it begins anew before.
    #[derive(Clone, Copy)]
    enum Does {
        Gives(&'static str),
        GivesAnew(&'static str),
        IsCutOffAfter(&'static str),
    }

    use Does::{Gives, GivesAnew, IsCutOffAfter};

    /// Another host, and the length of the part at each time that it was asked.
    struct Scripted {
        script: Mutex<VecDeque<Does>>,
        asked: Arc<Mutex<Vec<u64>>>,
    }

    impl Fetch for Scripted {
        fn fetch(
            &self,
            request: &Request<'_>,
            part: &mut dyn Part,
            _output: &mut dyn FnMut(&str),
        ) -> Result<Fetched, FetchError> {
            assert_eq!(request.ca.is_some(), request.url.as_str().contains("private"));
            self.asked.lock().expect("free").push(part.length());
            let how = if part.length() > 0 { Fetched::InParts } else { Fetched::AtOnce };
            match self.script.lock().expect("free").pop_front() {
                Some(Gives(text)) => part.append(text.as_bytes())?,
                Some(GivesAnew(text)) => {
                    part.restart()?;
                    part.append(text.as_bytes())?;
                }
                Some(IsCutOffAfter(text)) => {
                    part.append(text.as_bytes())?;
                    return Err("the connection was cut off".into());
                }
                None => panic!("nobody should ask"),
            }
            Ok(how)
        }
    }

    struct Host {
        folder: TempDir,
        asked: Arc<Mutex<Vec<u64>>>,
    }

    impl Host {
        fn new() -> Self {
            let folder = TempDir::new().expect("a folder");
            for directory in ["etc", "srv", "usr/lib", "var/cache/bootstrap-agent/downloads"] {
                fs::create_dir_all(folder.path().join(directory)).expect("a folder");
            }
            Self { folder, asked: Arc::default() }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.folder.path().join(path.trim_start_matches('/'))
        }

        /// Downloads to `/srv/a` where the other host does as it is told; says how it ended.
        fn download(&self, mode: Mode, script: &[Does]) -> String {
            self.download_as(mode, script, &download())
        }

        fn download_as(&self, mode: Mode, script: &[Does], download: &Download) -> String {
            let scripted = Scripted {
                script: Mutex::new(script.iter().copied().collect()),
                asked: Arc::clone(&self.asked),
            };
            let mut machine =
                Linux::open(self.folder.path(), mode).expect("a host").with_fetch(Box::new(scripted));
            match machine.perform(&Op::Download(download.clone()), &mut |_| {}) {
                Ok(()) => "done".into(),
                Err(error) => crate::system::linux::tests::chain(&error),
            }
        }

        fn asked(&self) -> Vec<u64> {
            std::mem::take(&mut self.asked.lock().expect("free"))
        }

        fn in_srv(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(self.path("srv"))
                .expect("a folder")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        }
    }

    fn download() -> Download {
        Download {
            url: HttpsUrl::parse("https://a.b/c").expect("an address"),
            sha256: HELLO.into(),
            path: "/srv/a".into(),
            attributes: Attributes { owner: getuid().to_string(), group: getgid().to_string(), mode: 0o2755 },
            validate: None,
            ca_file: None,
            max_bytes: 5,
            replaces: false,
        }
    }

    #[test]
    fn a_file_is_fetched_with_its_mode_and_nothing_is_left_beside_it() {
        let host = Host::new();
        symlink("/etc/passwd", host.path("/srv/a")).expect("linked");
        assert_eq!(host.download(Mode::Live, &[Gives("hello")]), "done");
        assert_eq!(host.in_srv(), ["a"]);
        let metadata = fs::symlink_metadata(host.path("/srv/a")).expect("there");
        assert_eq!((metadata.is_file(), metadata.permissions().mode() & 0o7777), (true, 0o2755));
        let machine = Linux::open(host.folder.path(), Mode::Live).expect("a host");
        assert_eq!(machine.sha256(Path::new("/srv/a")).expect("read"), Known::Yes(Some(HELLO.into())));
        assert_eq!(machine.sha256(Path::new("/srv")).expect("read"), Known::Yes(None));
    }

    #[test]
    fn a_part_is_private_and_the_next_run_goes_on_from_it() {
        let host = Host::new();
        let cut = host.download(Mode::Live, &[IsCutOffAfter("he")]);
        assert_eq!(cut, "failed to fetch `https://a.b/c`: the connection was cut off");
        assert_eq!(host.in_srv(), [".a.part"]);
        let mode = fs::metadata(host.path("/srv/.a.part")).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(host.download(Mode::Live, &[Gives("llo")]), "done");
        assert_eq!(host.asked(), [0, 2]);
        assert_eq!(fs::read_to_string(host.path("/srv/a")).expect("there"), "hello");
        fs::rename(host.path("/srv/a"), host.path("/srv/.a.part")).expect("renamed");
        fs::set_permissions(host.path("/srv/.a.part"), Permissions::from_mode(0o600)).expect("set");
        assert_eq!(host.download(Mode::Live, &[]), "done", "all of it was there");
    }

    #[test]
    fn a_part_that_somebody_else_could_have_written_is_not_gone_on_from() {
        let host = Host::new();
        fs::write(host.path("/srv/.a.part"), "he").expect("written");
        fs::set_permissions(host.path("/srv/.a.part"), Permissions::from_mode(0o606)).expect("set");
        assert_eq!(host.download(Mode::Live, &[Gives("hello")]), "done");
        fs::write(host.path("/etc/kept"), "kept").expect("written");
        symlink("../etc/kept", host.path("/srv/.a.part")).expect("linked");
        assert_eq!(host.download(Mode::Live, &[Gives("hello")]), "done");
        fs::write(host.path("/srv/.a.part"), "he").expect("written");
        fs::set_permissions(host.path("/srv/.a.part"), Permissions::from_mode(0o600)).expect("set");
        fs::hard_link(host.path("/srv/.a.part"), host.path("/etc/theirs")).expect("linked");
        assert_eq!(host.download(Mode::Live, &[Gives("hello")]), "done");
        assert_eq!(host.asked(), [0, 0, 0]);
        assert_eq!(fs::read_to_string(host.path("/etc/kept")).expect("there"), "kept");
        assert_eq!(fs::read_to_string(host.path("/etc/theirs")).expect("there"), "he");
    }

    #[test]
    fn parts_that_do_not_fit_together_are_fetched_anew_once() {
        let host = Host::new();
        host.download(Mode::Live, &[IsCutOffAfter("HE")]);
        assert_eq!(host.download(Mode::Live, &[Gives("llo"), Gives("hello")]), "done");
        assert_eq!(host.asked(), [0, 2, 0]);
    }

    #[test]
    fn what_is_not_as_it_shall_be_is_gone_and_what_was_there_stays() {
        let host = Host::new();
        fs::write(host.path("/srv/a"), "old").expect("written");
        let wrong = host.download(Mode::Live, &[Gives("HELLO")]);
        assert!(wrong.starts_with("`https://a.b/c` is not what it shall be: 5 bytes with the sha256 3733cd977ff8eb18b987357e22ced99f46097f31ecb239e878ae63760e83e4d5, expected 2cf24dba"), "{wrong}");
        assert_eq!(host.in_srv(), ["a"]);
        assert_eq!(fs::read_to_string(host.path("/srv/a")).expect("there"), "old");
        host.download(Mode::Live, &[IsCutOffAfter("")]);
        assert_eq!(host.in_srv(), ["a"], "a part of which there is nothing is none");
        let long = host.download(Mode::Live, &[GivesAnew("hello, world")]);
        assert_eq!(
            long,
            "failed to fetch `https://a.b/c`: there are more than 5 bytes; `max_bytes` can allow more"
        );
    }

    #[test]
    fn a_builder_fetches_once_and_believes_what_it_kept_only_if_it_is_right() {
        let host = Host::new();
        let kept = host.path(CACHE).join(HELLO);
        assert_eq!(host.download(Mode::Bake, &[Gives("hello")]), "done");
        let elsewhere = Download { path: "/srv/b".into(), ..download() };
        assert_eq!(host.download_as(Mode::Bake, &[], &elsewhere), "done");
        fs::write(&kept, "HELLO").expect("written");
        assert_eq!(host.download_as(Mode::Bake, &[Gives("hello")], &elsewhere), "done");
        assert_eq!(fs::read_to_string(&kept).expect("there"), "hello");
        assert_eq!(fs::read_dir(host.path(CACHE)).expect("a folder").count(), 1);
        fs::remove_file(&kept).expect("removed");
        assert_eq!(host.download(Mode::Live, &[Gives("hello")]), "done");
        assert!(!kept.exists(), "a live host has the file itself");
    }

    #[test]
    fn files_that_go_together_are_fetched_before_any_is_in_place() {
        let host = Host::new();
        let script = Mutex::new([Gives("hello"), Gives("HELLO")].into_iter().collect());
        let scripted = Scripted { script, asked: Arc::default() };
        let machine = Linux::open(host.folder.path(), Mode::Live).expect("a host");
        let mut machine = machine.with_fetch(Box::new(scripted));
        let ca = Op::WriteFile(crate::op::WriteFile {
            path: "/srv/ca.pem".into(),
            content: crate::op::Content::new("certificate"),
            attributes: download().attributes,
            validate: None,
            before: crate::op::Before::Absent,
        });
        let private = |path: &str| {
            Op::Download(Download {
                url: HttpsUrl::parse("https://private.b/c").expect("an address"),
                ca_file: Some("/srv/ca.pem".into()),
                path: path.into(),
                ..download()
            })
        };
        let failed = machine.commit(&[ca.clone(), private("/srv/a"), private("/srv/b")], &mut |_| {});
        assert!(matches!(failed, Err(PerformError::WrongDigest { .. })), "{failed:?}");
        assert_eq!(host.in_srv(), Vec::<String>::new());
        let script = Mutex::new([Gives("hello")].into_iter().collect());
        let mut machine = machine.with_fetch(Box::new(Scripted { script, asked: Arc::default() }));
        machine.commit(&[ca, private("/srv/a")], &mut |_| {}).expect("committed");
        assert_eq!(host.in_srv(), ["a", "ca.pem"]);
    }
}
