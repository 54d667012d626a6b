//! A host with a real sshd, planned over SSH as its user has set it up.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testbed::host::{Disk, Host};
use testbed::workspace::{Ended, Workspace};
use testbed::world::World;

use crate::Outcome;

/// An image with an SSH server and sudo, which the host needs to be of.
pub(crate) const BASE: &str = "source: { local: { suite: bookworm, include: [openssh-server, sudo] } }\n";

/// Prints every file with its checksum, every mount, package and unit, but what sshd writes of logins and the agent's cache.
pub(crate) const EVERYTHING: &str = "find / -xdev -path /var/log -prune -o -path '/home/*/.cache' -prune -o -path '/var/tmp/*' -prune \
     -o -type f -exec sha256sum {} + ; find / -xdev -path '/home/*/.cache' -prune -o \
     -path '/var/log/*' -prune -o -printf '%p %M %u %g\\n'; cat /proc/mounts; dpkg-query --show; \
     systemctl list-units --plain --no-legend --type=service,socket,timer --state=running,listening,waiting \
     | grep -v 'session-\\|user@\\|user-runtime-dir\\|ssh@' | cut -d' ' -f1; ls /run";

/// What it printed, but what a session of the user has.
pub(crate) fn everything_of(printed: &str) -> BTreeSet<String> {
    // What a login makes, and the end of a boot: a terminal is offered.
    let is_of_others = |line: &str| line.contains(" /run/user/") || line == "agetty.reload";
    printed.lines().filter(|line| !is_of_others(line)).map(str::to_owned).collect()
}

/// A host with a server, users, and somebody who may log in.
pub(crate) struct Site {
    world: World,
    pub(crate) host: Host,
    pub(crate) workspace: Workspace,
}

impl Site {
    /// A host of an image that is baked.
    pub(crate) fn of(workspace: Workspace, image: &str) -> Result<Self, Box<dyn Error>> {
        let image = workspace.bake(image)?;
        let world = World::new()?;
        let host = Host::boot(Disk::of_image(&image)?, world.place(2)?)?;
        let key = workspace.path("key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
        assert!(made.success());
        let public = fs::read_to_string(key.with_extension("pub"))?;
        // That of the image has no key yet, and is tried again and again.
        let users =
            "ssh-keygen -A >/dev/null; systemctl --quiet mask --now ssh; install -d /run/sshd; /usr/sbin/sshd
            for user in deploy guest; do useradd --create-home --shell /bin/sh $user
            install -d -m 700 -o $user -g $user /home/$user/.ssh
            echo \"$0\" >/home/$user/.ssh/authorized_keys; chown $user: /home/$user/.ssh/authorized_keys; done
            echo 'deploy ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/deploy";
        host.output(&["sh", "-ec", users, public.trim()])?;
        let known = host.output(&["cat", "/etc/ssh/ssh_host_ed25519_key.pub"])?;
        let site = Self { world, host, workspace };
        site.knows(&known)?;
        Ok(site)
    }

    /// Has this user's ssh know the host by a key. What a user has in `~/.ssh` comes by a program of the same name.
    pub(crate) fn knows(&self, key: &str) -> std::io::Result<()> {
        let (known, config) = (self.workspace.path("known_hosts"), self.workspace.path("ssh_config"));
        fs::write(&known, format!("{} {key}", World::address(2)))?;
        let text = format!(
            "Host jump\n  HostName {0}\n  User deploy\nHost behind\n  HostName {0}\n  ProxyJump jump\nHost *\n  IdentityFile {1}\n  IdentitiesOnly yes\n  UserKnownHostsFile {2}\n  GlobalKnownHostsFile /dev/null\n  ConnectTimeout 10\n",
            World::address(2),
            self.workspace.path("key").display(),
            known.display()
        );
        fs::write(&config, text)?;
        let program = format!(
            "#!/bin/sh\nif [ \"$1\" = -F ]; then exec /usr/bin/ssh \"$@\"; fi\nexec /usr/bin/ssh -F {} \"$@\"\n",
            config.display()
        );
        self.program("ssh", &program)
    }

    pub(crate) fn program(&self, name: &str, text: &str) -> std::io::Result<()> {
        let path = self.workspace.path("bin").join(name);
        fs::create_dir_all(self.workspace.path("bin"))?;
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    }

    fn command(&self, arguments: &[&str]) -> std::io::Result<Command> {
        let mut command = self.workspace.command(arguments)?;
        command
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.workspace.path("bin").display()));
        Ok(command)
    }

    pub(crate) fn baker(&self, arguments: &[&str]) -> std::io::Result<Ended> {
        let mut command = self.command(arguments)?;
        self.world.within(|| command.stdin(Stdio::null()).output()).map(Ended::from)
    }

    /// Starts baker, to do something to it.
    pub(crate) fn start(&self, arguments: &[&str]) -> std::io::Result<Child> {
        let mut command = self.command(arguments)?;
        self.world.spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Runs baker on a terminal, types an answer when it has asked, and returns its exit code and what was shown.
    pub(crate) fn on_terminal(
        &self,
        arguments: &[&str],
        question: &str,
        answer: &[u8],
    ) -> Result<(Option<i32>, String), Box<dyn Error>> {
        let baker = self.command(arguments)?;
        let words = std::iter::once(baker.get_program()).chain(baker.get_args());
        let words: Vec<&str> = words.filter_map(|word| word.to_str()).collect();
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command"]);
        command.arg(format!("exec {}", words.join(" "))).arg("/dev/null");
        command
            .current_dir(self.workspace.path(""))
            .envs(baker.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = self.world.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let (mut keys, mut screen) =
            (child.stdin.take().ok_or("no keys")?, child.stdout.take().ok_or("no screen")?);
        let (mut shown, mut part) = (String::new(), [0; 4096]);
        let mut is_asked = false;
        loop {
            let count = screen.read(&mut part)?;
            if count == 0 {
                break;
            }
            shown += &String::from_utf8_lossy(&part[..count]);
            if !is_asked && shown.contains(question) {
                is_asked = true;
                keys.write_all(answer)?;
            }
        }
        assert!(is_asked, "it did not ask `{question}`: {shown}");
        Ok((child.wait()?.code(), shown))
    }

    /// Waits until a script succeeds on the host.
    pub(crate) fn wait_for(&self, script: &str) -> Outcome {
        let until = Instant::now() + Duration::from_mins(1);
        while !self.host.run(&["sh", "-c", script])?.status.success() {
            assert!(Instant::now() < until, "{script}");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    pub(crate) fn everything(&self) -> Result<BTreeSet<String>, Box<dyn Error>> {
        Ok(everything_of(&self.host.output(&["sh", "-c", EVERYTHING])?))
    }

    pub(crate) fn agents(&self) -> Result<String, Box<dyn Error>> {
        let find = "find /home /root /var/tmp -name 'bootstrap-agent*' -printf '%h %M %u %T@\\n'";
        Ok(self.host.output(&["sh", "-c", find])?)
    }
}
