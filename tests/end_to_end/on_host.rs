//! Plans of a host that is there, over SSH as its user has set it up: they change nothing, and applying does what they say.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testbed::host::{Disk, Host};
use testbed::workspace::{Ended, Workspace};
use testbed::world::World;

use crate::Outcome;

/// What is on the host: an SSH server and sudo.
const BASE: &str = "source: { local: { suite: bookworm, include: [openssh-server, sudo] } }\n";

/// What is planned there.
const SITE: &str = "extends: base\nrecipes: [ site ]\n";
const RECIPE: &str = "resources:
  - group: { name: site }
  - file: { path: /etc/site, group: site, mode: \"0640\", content: \"it is here\\n\" }
  - line: { path: /etc/hosts, line: 192.0.2.1 site }
    tags: [ hosts ]
";

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
struct Site {
    world: World,
    host: Host,
    workspace: Workspace,
}

impl Site {
    fn new() -> Result<Self, Box<dyn Error>> {
        let workspace = Workspace::new()?
            .with("images/base.yaml", BASE)?
            .with("images/site.yaml", SITE)?
            .with("recipes/site/recipe.yaml", RECIPE)?;
        let image = workspace.bake("base")?;
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
    fn knows(&self, key: &str) -> std::io::Result<()> {
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

    fn program(&self, name: &str, text: &str) -> std::io::Result<()> {
        let path = self.workspace.path("bin").join(name);
        fs::create_dir_all(self.workspace.path("bin"))?;
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    }

    fn baker(&self, arguments: &[&str]) -> std::io::Result<Ended> {
        let mut command = self.workspace.command(arguments)?;
        command
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.workspace.path("bin").display()));
        self.world.within(|| command.stdin(Stdio::null()).output()).map(Ended::from)
    }

    fn everything(&self) -> Result<BTreeSet<String>, Box<dyn Error>> {
        Ok(everything_of(&self.host.output(&["sh", "-c", EVERYTHING])?))
    }

    fn agents(&self) -> Result<String, Box<dyn Error>> {
        let find = "find /home /root /var/tmp -name 'bootstrap-agent*' -printf '%h %M %u %T@\\n'";
        Ok(self.host.output(&["sh", "-c", find])?)
    }
}

#[test]
fn a_plan_over_ssh_changes_nothing_and_applying_it_does_what_it_says() -> Outcome {
    let site = Site::new()?;
    let target = format!("--on=ssh://deploy@{}", World::address(2));
    let plan = ["plan", "images/site.yaml", &target, "--detailed-exitcode"];
    // The first login makes what a session has.
    assert_eq!(site.baker(&plan)?.code, Some(2));
    let (before, agent) = (site.everything()?, site.agents()?);
    assert!(agent.starts_with("/home/deploy/.cache/baker -rwx------ deploy "), "{agent}");

    let planned = site.baker(&plan)?;
    assert_eq!(planned.code, Some(2), "{}", planned.stderr);
    for line in ["group site", "+it is here", "+192.0.2.1 site", "Plan: 3 to change"] {
        assert!(planned.stdout.contains(line), "`{line}` is not in:\n{}", planned.stdout);
    }
    let after = site.everything()?;
    let changed: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(changed.is_empty(), "{changed:#?}");
    assert_eq!(site.agents()?, agent, "the agent was there already");
    let some = site.baker(&["plan", "images/site.yaml", &target, "--tags=hosts"])?;
    assert!(some.stdout.contains("Plan: 1 to change"), "{}", some.stdout);

    let apply = ["apply", "images/site.yaml", &target];
    let kept = site.baker(&["plan", "images/site.yaml", &target, "--save=site.plan"])?;
    assert_eq!(kept.code, Some(0), "{}", kept.stderr);
    site.host.output(&["sh", "-c", "echo moved >/etc/site"])?;
    let moved = site.baker(&["apply", "site.plan"])?;
    assert_eq!(moved.code, Some(1), "{}", moved.stdout);
    assert!(moved.stderr.contains("is not as it was when the plan was saved"), "{}", moved.stderr);
    assert_eq!(site.host.output(&["cat", "/etc/site"])?, "moved\n");
    site.host.output(&["rm", "/etc/site"])?;
    let other = site.baker(&["apply", "site.plan", &target])?;
    assert!(other.stderr.contains("leave out `--on`"), "{}", other.stderr);

    let asked = site.baker(&apply)?;
    assert_eq!(asked.code, Some(1), "{}", asked.stdout);
    assert!(asked.stderr.contains("say `--yes`"), "{}", asked.stderr);
    assert_eq!(site.everything()?, before);
    let applied = site.baker(&["apply", "site.plan"])?;
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    assert!(applied.stdout.ends_with("3 changed, 0 unchanged\n"), "{}", applied.stdout);
    assert_eq!(site.host.output(&["stat", "--format=%G %a", "/etc/site"])?, "site 640\n");
    let again =
        site.baker(&["plan", "images/site.yaml", &target, "--detailed-exitcode", "--leave-nothing"])?;
    assert_eq!((again.code, site.agents()?), (Some(0), String::new()), "{}{}", again.stdout, again.stderr);
    Ok(())
}

#[test]
fn what_keeps_a_host_from_being_planned_is_told() -> Outcome {
    let site = Site::new()?;
    let address = World::address(2);
    let plan = |target: &str| site.baker(&["plan", "images/site.yaml", &format!("--on={target}")]);
    let ended = plan(&format!("ssh://guest@{address}"))?;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("sudo refuses on `guest@10.200.0.2`: sudo: a password is required"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("NOPASSWD"), "{}", ended.stderr);
    let ended = plan(&format!("ssh://deploy@{address}:23"))?;
    assert!(ended.stderr.contains("failed to connect to `deploy@10.200.0.2`"), "{}", ended.stderr);
    let ended = plan("web-1")?;
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("a target is `ssh://[USER@]HOST[:PORT]`, `vagrant[:NAME]` or `root:PATH`"),
        "{}",
        ended.stderr
    );

    // What sudo complains of without refusing keeps nobody.
    let name = site.host.output(&["hostname"])?;
    let complains = "hostname unresolvable; sudo --non-interactive true 2>&1 | grep 'unable to resolve host'";
    site.host.output(&["sh", "-ec", complains])?;
    let ended = plan(&format!("ssh://deploy@{address}"))?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    site.host.output(&["hostname", name.trim()])?;

    // By way of another host, and with no room for a temporary file.
    site.host.output(&[
        "sh",
        "-c",
        "mount -t tmpfs -o size=4k none /tmp; echo full >/tmp/full; ! echo more >/tmp/more",
    ])?;
    let ended = plan("ssh://deploy@behind")?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    site.host.output(&["umount", "/tmp"])?;

    // Programs cannot be run from the cache, so the agent is somewhere else.
    let noexec = "install -d -o deploy -g deploy /home/deploy/.cache
                  mount -t tmpfs -o noexec,mode=777 none /home/deploy/.cache";
    site.host.output(&["sh", "-ec", noexec])?;
    let ended = plan(&format!("ssh://deploy@{address}"))?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(site.agents()?.starts_with("/var/tmp/baker-"), "{}", site.agents()?);

    // A machine of Vagrant is reached as Vagrant says.
    let config = format!(
        "Host default\n  HostName {address}\n  User deploy\n  IdentityFile {}\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n",
        site.workspace.path("key").display()
    );
    site.program(
        "vagrant",
        &format!("#!/bin/sh\n[ \"$1\" = ssh-config ] && [ -z \"$2\" ] && cat <<'END'\n{config}END\n"),
    )?;
    let ended = plan("vagrant")?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("Plan: 3 to change"), "{}", ended.stdout);
    let ended = plan("vagrant:other")?;
    assert!(ended.stderr.contains("`vagrant up`"), "{}", ended.stderr);

    let other = fs::read_to_string(site.workspace.path("key.pub"))?;
    site.knows(&other)?;
    let ended = plan(&format!("ssh://deploy@{address}"))?;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("the key of `deploy@10.200.0.2` is not the known one"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_tree_is_planned_and_changed_with_nothing_executed_in_it() -> Outcome {
    let workspace = Workspace::new()?
        .with("images/base.yaml", BASE)?
        .with("images/site.yaml", SITE)?
        .with("recipes/site/recipe.yaml", RECIPE)?;
    let disk = Disk::of_image(&workspace.bake("base")?)?;
    let tree = disk.tree();
    // Whoever ran a program of the tree would be told by this one.
    fs::write(tree.join("usr/sbin/groupadd"), "#!/bin/sh\ntouch /executed\nexit 1\n")?;
    let target = format!("--on=root:{}", tree.display());
    let plan = ["plan", "images/site.yaml", &target, "--detailed-exitcode"];
    let planned = workspace.baker(&plan)?;
    assert_eq!(planned.code, Some(2), "{}", planned.stderr);
    assert!(planned.stdout.contains("Plan: 3 to change"), "{}", planned.stdout);
    assert!(!tree.join("etc/site").exists());
    let applied = workspace.baker(&["apply", "images/site.yaml", &target, "--yes"])?;
    assert_eq!(applied.code, Some(0), "{}{}", applied.stdout, applied.stderr);
    assert_eq!(fs::read_to_string(tree.join("etc/site"))?, "it is here\n");
    assert!(fs::read_to_string(tree.join("etc/group"))?.contains("\nsite:"));
    assert!(!tree.join("executed").exists());
    assert_eq!(workspace.baker(&plan)?.code, Some(0));
    let exact = workspace.baker(&["plan", "images/site.yaml", &target, "--exact"])?;
    assert!(exact.stderr.contains("nothing is executed in a tree"), "{}", exact.stderr);
    Ok(())
}

#[test]
fn a_host_whose_connection_is_lost_goes_on_to_the_end() -> Outcome {
    const SLOW: &str = "resources:\n  - command: { argv: [ sh, -c, \"sleep 5.4321; touch /etc/slow\" ], creates: /etc/slow }\n";
    let site = Site::new()?;
    fs::write(site.workspace.path("recipes/site/recipe.yaml"), SLOW)?;
    let target = format!("--on=ssh://deploy@{}", World::address(2));
    let until = Instant::now() + Duration::from_mins(1);
    let wait_for = |what: &str| -> Outcome {
        while !site.host.run(&["sh", "-c", what])?.status.success() {
            assert!(Instant::now() < until, "{what}");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    };
    let ended = thread::scope(|scope| {
        let apply = scope.spawn(|| site.baker(&["apply", "images/site.yaml", &target, "--yes"]));
        wait_for(
            "for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' <$p/cmdline)\" = 'sleep 5.4321 ' ] && exit; done; false",
        )?;
        // Whoever serves the user, and nobody who works for him.
        site.host.output(&["sh", "-c", "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline) in 'sshd: deploy'*) kill -9 ${p#/proc/};; esac; done"])?;
        apply.join().map_err(|_| "it panicked")?.map_err(Box::<dyn Error>::from)
    })?;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    wait_for("test -e /etc/slow && ! ls -d /run/baker-plan.*")?;
    let again = site.baker(&["plan", "images/site.yaml", &target, "--detailed-exitcode"])?;
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    Ok(())
}
