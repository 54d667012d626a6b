//! A machine of Vagrant: a real virtual machine with a kernel of its own, and `vagrant` as its user runs it.
//!
//! libvirt, the machine and `vagrant` are in a network, with mounts and process numbers of their own. All of that ends with
//! one process, however that ends.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::binaries::{hash, project};
use crate::host::Group;
use crate::workspace::{Ended, shared};
use crate::world::done;

/// The programs that it takes, each for the package that brings it.
const PROGRAMS: [&str; 7] =
    ["vagrant", "libvirtd", "virtlogd", "virsh", "dnsmasq", "qemu-img", "qemu-system-x86_64"];

/// What is in the box: Debian with a kernel, somebody to log in, and what a network needs.
const SUITE: &str = "bookworm";
const PACKAGES: &str =
    "ca-certificates,dbus,kmod,linux-image-cloud-amd64,nftables,openssh-server,procps,sudo,systemd-sysv,udev";

/// Run in the tree: Vagrant logs in as `vagrant` with a key that everybody knows, and replaces it.
const CUSTOMIZE: [&str; 5] = [
    "echo debian > \"$1/etc/hostname\"; printf '127.0.0.1 localhost\\n127.0.1.1 debian\\n' > \"$1/etc/hosts\"",
    "chroot \"$1\" useradd --create-home --shell /bin/bash vagrant",
    "echo 'vagrant ALL=(ALL) NOPASSWD: ALL' > \"$1/etc/sudoers.d/vagrant\"",
    "printf '[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\n' > \"$1/etc/systemd/network/10-eth0.network\"; \
     chroot \"$1\" systemctl enable systemd-networkd",
    "chroot \"$1\" install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh; \
     chroot \"$1\" sh -c 'umask 077; cat > /home/vagrant/.ssh/authorized_keys; \
     chown vagrant: /home/vagrant/.ssh/authorized_keys' < \"$KEY\"",
];

/// A box is made anew after this long, for the sake of its packages.
const MAX_AGE: Duration = Duration::from_hours(7 * 24);

/// A Vagrantfile with one machine, and the world that the machine is in, for as long as this exists.
pub struct Vagrant {
    keeper: Child,
    /// The first process of the world, as this machine sees it.
    first: String,
    project: PathBuf,
    folder: TempDir,
    _group: Group,
}

impl Vagrant {
    /// Puts a Vagrantfile into a folder. Its machine is not up yet.
    ///
    /// # Errors
    /// When a program is missing, the box cannot be made, or libvirt does not come up.
    pub fn new(project: &Path) -> io::Result<Self> {
        let there = |name: &&str| {
            let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
            folders.iter().any(|folder| Path::new(folder).join(name).exists())
        };
        if let Some(missing) = PROGRAMS.iter().find(|name| !there(name)) {
            let why = format!("`{missing}` is not there: `make test-vagrant` installs what it needs");
            return Err(io::Error::other(why));
        }
        let files = self::project().join("tests/vagrant");
        let the_box = make_box()?;
        let vagrantfile = fs::read_to_string(files.join("Vagrantfile"))?;
        let vagrantfile = vagrantfile.replace("BOX", &the_box.display().to_string());
        fs::write(project.join("Vagrantfile"), vagrantfile)?;

        let folder = TempDir::with_prefix("vagrant-")?;
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let group = Group::create(&format!("testbed-{name}"))?;
        let mut keeper = group
            .command("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .args(["sh", "-eu"])
            .arg(files.join("world.sh"))
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.path().join("world.log"))?)
            .spawn()?;
        let mut said = [0; 6];
        let stdout = keeper.stdout.as_mut().ok_or_else(|| io::Error::other("it has no output"))?;
        if stdout.read_exact(&mut said).is_err() {
            let _ = keeper.wait();
            let log = fs::read_to_string(folder.path().join("world.log"))?;
            return Err(io::Error::other(format!("libvirt does not come up: {log}")));
        }
        let keeper_id = keeper.id();
        let first = fs::read_to_string(format!("/proc/{keeper_id}/task/{keeper_id}/children"))?;
        let first = first.trim().to_owned();
        let vagrant = Self { keeper, first, project: project.to_owned(), folder, _group: group };
        vagrant.output(&[
            "vagrant",
            "box",
            "add",
            "--name",
            "debian",
            &format!("{}/debian.box", the_box.display()),
        ])?;
        Ok(vagrant)
    }

    /// A command of this machine, to be run in the world.
    pub fn within(&self, command: &Command) -> Command {
        let mut within = Command::new("nsenter");
        within.args(["--target", &self.first, "--net", "--mount", "--pid", "--"]);
        // With other mounts, a process is at their root.
        within.args(["sh", "-c", "cd \"$0\" && exec \"$@\""]);
        within.arg(command.get_current_dir().unwrap_or(&self.project));
        within.arg(command.get_program()).args(command.get_args()).env("HOME", self.folder.path());
        within.env("VAGRANT_HOME", self.folder.path().join("home")).env("VAGRANT_CHECKPOINT_DISABLE", "1");
        within.stdin(Stdio::null());
        within
    }

    /// Runs a program in the world that must succeed, and returns what it printed.
    ///
    /// # Errors
    /// When it does not: what it said.
    pub fn output(&self, argv: &[&str]) -> io::Result<String> {
        let (program, arguments) =
            argv.split_first().ok_or_else(|| io::Error::other("there is no program"))?;
        let ended = Ended::from(self.within(Command::new(program).args(arguments)).output()?);
        if ended.code == Some(0) {
            return Ok(ended.stdout);
        }
        // Vagrant tells how far it is on standard output.
        let said = ended.stdout.rsplit('\r').next().unwrap_or_default();
        Err(io::Error::other(format!("`{}` failed: {said}{}", argv.join(" "), ended.stderr)))
    }

    /// Runs a script on the machine, as root.
    ///
    /// # Errors
    /// When it fails.
    pub fn script(&self, script: &str) -> io::Result<String> {
        let quoted = script.replace('\'', r"'\''");
        self.output(&["vagrant", "ssh", "--command", &format!("sudo sh -ec '{quoted}'")])
    }
}

impl Drop for Vagrant {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// The box, with the kernel that it is booted with beside it.
fn make_box() -> io::Result<PathBuf> {
    let texts = [&[SUITE, PACKAGES], &CUSTOMIZE[..]].concat();
    let folder = shared("vagrant")?.join(format!("box-{:016x}", hash(&texts)));
    let made = fs::metadata(folder.join("debian.box")).and_then(|file| file.modified());
    if made.ok().and_then(|made| made.elapsed().ok()).is_some_and(|age| age < MAX_AGE) {
        return Ok(folder);
    }
    let partial = folder.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial)?;
    let tree = partial.join("tree");
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", &format!("--include={PACKAGES}")]);
    command.args(CUSTOMIZE.map(|script| format!("--customize-hook={script}")));
    done(command.arg(SUITE).arg(&tree).env("KEY", insecure_key()?))?;
    for entry in fs::read_dir(tree.join("boot"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        for (start, as_name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
            if name.starts_with(start) {
                fs::copy(entry.path(), partial.join(as_name))?;
            }
        }
    }
    let in_partial = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(&partial);
        command
    };
    done(in_partial("truncate").args(["--size=3G", "disk"]))?;
    done(in_partial("mkfs.ext4").args(["-q", "-F", "-d", "tree", "disk"]))?;
    done(in_partial("qemu-img").args(["convert", "-O", "qcow2", "disk", "box.img"]))?;
    fs::write(partial.join("metadata.json"), r#"{"provider":"libvirt","format":"qcow2","virtual_size":3}"#)?;
    fs::write(partial.join("Vagrantfile"), "Vagrant.configure(\"2\") {}\n")?;
    done(in_partial("tar").args(["-czf", "debian.box", "metadata.json", "box.img", "Vagrantfile"]))?;
    for name in ["disk", "box.img"] {
        fs::remove_file(partial.join(name))?;
    }
    fs::remove_dir_all(tree)?;
    let _ = fs::remove_dir_all(&folder);
    fs::rename(partial, &folder)?;
    Ok(folder)
}

/// The public key that Vagrant logs in with first.
fn insecure_key() -> io::Result<PathBuf> {
    let find = ["-c", "ls /usr/share/rubygems-integration/all/gems/vagrant-*/keys/vagrant.pub"];
    let found = Command::new("sh").args(find).output()?;
    let found = String::from_utf8_lossy(&found.stdout).lines().next().map(PathBuf::from);
    found.ok_or_else(|| io::Error::other("the package vagrant has no key"))
}
