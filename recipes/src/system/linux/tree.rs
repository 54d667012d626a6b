//! A file system below a root. No path leads out of it, whatever symbolic links are in it.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, syncfs, unlinkat};

use rustix::fs::{RenameFlags, renameat_with};

use crate::system::EntryKind;

/// The root and everything below it.
pub(super) struct Tree {
    root: PathBuf,
    directory: OwnedFd,
    /// Whether links are followed inside of it, or end the way.
    follows_links: bool,
}

/// What is at a path, with numbers for owner and group.
pub(super) struct Found {
    pub(super) kind: EntryKind,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

/// A directory and a name in it: what every change is made through.
struct Place<'a> {
    directory: OwnedFd,
    name: &'a OsStr,
}

impl Tree {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(root, flags, Mode::empty())?;
        Ok(Self { root: root.to_owned(), directory, follows_links: true })
    }

    /// A folder as a tree of its own, in which no link is followed.
    pub(super) fn folder(&self, path: &Path) -> io::Result<Self> {
        let directory = self.open_path(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        Ok(Self { root: self.outside(path), directory, follows_links: false })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is the host that this process runs on.
    pub(super) fn is_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The root, for programs that have to be told; none where it is `/`.
    pub(super) fn prefix(&self) -> Option<&Path> {
        (!self.is_host()).then_some(self.root.as_path())
    }

    pub(super) fn entry(&self, path: &Path) -> io::Result<Option<Found>> {
        let Some(fd) = found(self.open_path(path, OFlag::O_PATH | OFlag::O_NOFOLLOW))? else {
            return Ok(None);
        };
        let stat = fstat(&fd)?;
        let kind = match stat.st_mode & 0o170_000 {
            0o100_000 => EntryKind::File,
            0o040_000 => EntryKind::Directory,
            0o120_000 => EntryKind::Symlink { target: readlinkat(&fd, "")?.into() },
            _ => EntryKind::Other,
        };
        Ok(Some(Found { kind, uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 }))
    }

    /// The bytes of a regular file; none if there is none.
    pub(super) fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_file(path)? else { return Ok(None) };
        let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0));
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// A regular file, to be read; none if there is none.
    pub(super) fn open_file(&self, path: &Path) -> io::Result<Option<File>> {
        // O_NONBLOCK: a pipe in place of a file must not hang the run.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let fd = match self.open_path(path, flags) {
            Err(Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            other => found(other)?,
        };
        let Some(fd) = fd else { return Ok(None) };
        let file = File::from(fd);
        let is_file = file.metadata()?.is_file();
        Ok(is_file.then_some(file))
    }

    /// Opens a private file of this process's user to go on with it, making it if there is none. One that somebody
    /// else could write to, or read, is replaced.
    pub(super) fn open_private(&self, path: &Path) -> io::Result<File> {
        let place = self.place(path)?;
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(&place.directory, place.name, flags, Mode::empty()) {
            Ok(fd) => {
                let stat = fstat(&fd)?;
                let is_ours = stat.st_uid == Uid::effective().as_raw() && stat.st_nlink == 1;
                if is_ours && stat.st_mode == 0o100_600 {
                    return Ok(File::from(fd));
                }
                unlinkat(&place.directory, place.name, UnlinkatFlags::NoRemoveDir)?;
            }
            Err(Errno::ENOENT) => {}
            // A link, or a socket.
            Err(Errno::ELOOP | Errno::ENXIO) => {
                unlinkat(&place.directory, place.name, UnlinkatFlags::NoRemoveDir)?;
            }
            Err(error) => return Err(error.into()),
        }
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(File::from(openat(&place.directory, place.name, flags | OFlag::O_CREAT | OFlag::O_EXCL, private)?))
    }

    /// The names in a directory, sorted; nothing if there is none.
    pub(super) fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let Some(fd) = found(self.open_path(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY))? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in Dir::from_fd(fd)?.iter() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes a new file that only its owner-to-be can read, with owner and mode set before the content.
    /// Something that an interrupted run left at the path is replaced.
    pub(super) fn create(
        &self,
        path: &Path,
        mut content: impl Read,
        uid: u32,
        gid: u32,
        mode: u32,
    ) -> io::Result<File> {
        let place = self.place(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        let fd = match openat(&place.directory, place.name, flags, private) {
            Err(Errno::EEXIST) => {
                unlinkat(&place.directory, place.name, UnlinkatFlags::NoRemoveDir)?;
                openat(&place.directory, place.name, flags, private)?
            }
            other => other?,
        };
        let mut file = File::from(fd);
        let written = (|| {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            // After the owner: chown clears setuid and setgid.
            fchmod(&file, Mode::from_bits_truncate(mode))?;
            io::copy(&mut content, &mut file).map(drop)
        })();
        if let Err(error) = written {
            let _ = unlinkat(&place.directory, place.name, UnlinkatFlags::NoRemoveDir);
            return Err(error);
        }
        Ok(file)
    }

    pub(super) fn create_directory(&self, path: &Path, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
        let place = self.place(path)?;
        mkdirat(&place.directory, place.name, Mode::S_IRWXU)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(&place.directory, place.name, flags, Mode::empty())?;
        fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        fchmod(&made, Mode::from_bits_truncate(mode))?;
        Ok(())
    }

    /// Makes a symbolic link. Something that an interrupted run left at the path is replaced.
    pub(super) fn create_symlink(&self, path: &Path, target: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        match symlinkat(target, &place.directory, place.name) {
            Err(Errno::EEXIST) => {
                unlinkat(&place.directory, place.name, UnlinkatFlags::NoRemoveDir)?;
                Ok(symlinkat(target, &place.directory, place.name)?)
            }
            other => Ok(other?),
        }
    }

    pub(super) fn set_attributes(&self, path: &Path, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
        let place = self.place(path)?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        // One open for all: what is there now is what is changed, even if somebody puts a link in its place.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(&place.directory, place.name, flags, Mode::empty())?;
        fchownat(&opened, c"", uid, gid, AtFlags::AT_EMPTY_PATH)?;
        if fstat(&opened)?.st_mode & 0o170_000 == 0o120_000 {
            return Ok(());
        }
        // fchmod(2) refuses an O_PATH descriptor; its name in /proc is followed to just this file (proc(5)).
        let name = format!("/proc/self/fd/{}", opened.as_raw_fd());
        std::fs::set_permissions(name, std::fs::Permissions::from_mode(mode))
    }

    /// Puts one path in place of another, at once. Both are on the same file system.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        Ok(renameat(&from.directory, from.name, &to.directory, to.name)?)
    }

    /// Lets two paths of one file system change places, at once.
    pub(super) fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        let (one, other) = (self.place(one)?, self.place(other)?);
        let flags = RenameFlags::EXCHANGE;
        Ok(renameat_with(&one.directory, one.name, &other.directory, other.name, flags)?)
    }

    /// Gives everything in a directory another owner and group, links themselves and not what they lead to.
    pub(super) fn set_owner_of_all(&self, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
        let place = self.place(path)?;
        set_owner_in(&place.directory, place.name, (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
    }

    pub(super) fn remove(&self, path: &Path, kind: &EntryKind) -> io::Result<()> {
        let place = self.place(path)?;
        if *kind != EntryKind::Directory {
            return Ok(unlinkat(&place.directory, place.name, UnlinkatFlags::NoRemoveDir)?);
        }
        remove_directory(&place.directory, place.name)
    }

    /// Opens a file that runs lock against each other, making it if need be.
    pub(super) fn open_lock(&self, path: &Path) -> io::Result<File> {
        let place = self.place(path)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&place.directory, place.name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }

    /// Makes a file's content survive a power cut.
    pub(super) fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::from(self.open_path(path, OFlag::O_RDONLY | OFlag::O_NOFOLLOW)?).sync_all()
    }

    /// Makes the directory that a path is in survive a power cut, with the names in it.
    pub(super) fn sync_directory_of(&self, path: &Path) -> io::Result<()> {
        File::from(self.place(path)?.directory).sync_all()
    }

    /// Makes everything on the root's file system survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(syncfs(&self.directory)?)
    }

    /// Where a path really is for programs of this host, with every link followed inside the root.
    pub(super) fn outside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn place<'a>(&self, path: &'a Path) -> io::Result<Place<'a>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root itself cannot be changed"));
        };
        Ok(Place { directory: self.open_path(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?, name })
    }

    fn open_path(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        if self.is_host() {
            // Nothing leads out of `/`, and openat2 is not to be had everywhere (Linux 5.6, some seccomp filters).
            return open(path, flags | OFlag::O_CLOEXEC, Mode::empty());
        }
        if !self.follows_links {
            return self.open_without_links(path, flags | OFlag::O_CLOEXEC);
        }
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        openat2(&self.directory, path, how)
    }

    /// Opens step by step, where openat2 may not be to be had, such as in a container.
    fn open_without_links(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::EXDEV),
            }
        }
        let Some((last, parents)) = names.split_last() else {
            return openat(&self.directory, ".", flags, Mode::empty());
        };
        let mut directory: Option<OwnedFd> = None;
        for name in parents {
            let step = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let opened = openat(directory.as_ref().unwrap_or(&self.directory), *name, step, Mode::empty())?;
            if fstat(&opened)?.st_mode & 0o170_000 == 0o120_000 {
                return Err(Errno::ELOOP);
            }
            directory = Some(opened);
        }
        openat(directory.as_ref().unwrap_or(&self.directory), *last, flags | OFlag::O_NOFOLLOW, Mode::empty())
    }
}

/// An answer in which "nothing there" is not an error.
fn found(opened: nix::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn set_owner_in(parent: &OwnedFd, name: &OsStr, to: (Option<Uid>, Option<Gid>)) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::from_fd(directory.as_fd().try_clone_to_owned()?)?.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        fchownat(&directory, name, to.0, to.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if entry.file_type() == Some(Type::Directory) {
            set_owner_in(&directory, name, to)?;
        }
    }
    Ok(())
}

/// Removes a directory with everything in it, without following links and without leaving its file system.
fn remove_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    // A mount point is busy, which is found before anything below it is removed. That of a bind mount is on
    // the same device and cannot be told by its number.
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
        other => return Ok(other?),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    if fstat(&directory)?.st_dev != fstat(parent)?.st_dev {
        return Err(Errno::EBUSY.into());
    }
    let names: Vec<CString> = {
        let mut listing = Dir::from_fd(directory.as_fd().try_clone_to_owned()?)?;
        listing
            .iter()
            .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
            .collect::<Result<_, _>>()?
    };
    for name in names.iter().map(|name| OsStr::from_bytes(name.as_bytes())) {
        if name == "." || name == ".." {
            continue;
        }
        match unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) => remove_directory(&directory, name)?,
            other => other?,
        }
    }
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}
