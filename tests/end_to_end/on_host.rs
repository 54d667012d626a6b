//! Plans of a host that is there, over SSH as its user has set it up: they change nothing, and applying does what they say.

use std::error::Error;
use std::fs;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::host::Disk;
use testbed::workspace::{Ended, Workspace};
use testbed::world::World;

use crate::site::{BASE, Site};
use crate::{NOTHING, Outcome};

/// What is planned there.
const SITE: &str = "extends: base\nrecipes: [ site ]\n";
const RECIPE: &str = "resources:
  - group: { name: site }
  - file: { path: /etc/site, group: site, mode: \"0640\", content: \"it is here\\n\" }
  - line: { path: /etc/hosts, line: 192.0.2.1 site }
    tags: [ hosts ]
";

/// What takes its time, and how it is seen on the host that it runs.
const SLOW: &str =
    "resources:\n  - command: { argv: [ sh, -c, \"sleep 5.4321; touch /etc/slow\" ], creates: /etc/slow }\n";
const SLOW_RUNS: &str =
    "for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' <$p/cmdline)\" = 'sleep 5.4321 ' ] && exit; done; false";

/// A host of the base, with what is planned there in its folder.
fn site() -> Result<Site, Box<dyn Error>> {
    let workspace = Workspace::new()?
        .with("images/base.yaml", BASE)?
        .with("images/site.yaml", SITE)?
        .with("recipes/site/recipe.yaml", RECIPE)?;
    Site::of(workspace, "base")
}

#[test]
fn a_plan_over_ssh_changes_nothing_and_applying_it_does_what_it_says() -> Outcome {
    let site = site()?;
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
    let site = site()?;
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
    let ended = plan("web.1")?;
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("a target is `ssh://[USER@]HOST[:PORT]`, `vagrant[:NAME]` or `root:PATH`, or `local`, `ec2`, `ami:ID` or the name of an image"),
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

    a_machine_of_vagrant_is_started_if_somebody_wants_that(&site)?;

    let other = fs::read_to_string(site.workspace.path("key.pub"))?;
    site.knows(&other)?;
    let ended = plan(&format!("ssh://deploy@{address}"))?;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("the key of `deploy@10.200.0.2` is not the known one"), "{}", ended.stderr);
    Ok(())
}

/// With a stand-in for Vagrant. A machine is reached as Vagrant says; one that does not run is offered to be started.
fn a_machine_of_vagrant_is_started_if_somebody_wants_that(site: &Site) -> Outcome {
    let config = format!(
        "Host default\n  HostName {}\n  User deploy\n  IdentityFile {}\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n",
        World::address(2),
        site.workspace.path("key").display()
    );
    let vagrant = format!(
        r#"#!/bin/sh
case "$*" in
ssh-config) [ -e up ] || {{ echo "not yet ready for SSH" >&2; exit 1; }}; cat <<'END'
{config}END
;;
"status --machine-readable") [ -e up ] && state=running || state=shutoff; echo "1764167000,default,state,$state" ;;
up) echo "Bringing machine 'default' up"; touch up ;;
*) echo "no machine of this name" >&2; exit 1 ;;
esac
"#
    );
    site.program("vagrant", &vagrant)?;
    let plan = ["plan", "images/site.yaml", "--on=vagrant"];
    let ended = site.baker(&plan)?;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("the machine of `vagrant` is not running"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("`vagrant up`, in the folder of the Vagrantfile, starts it"),
        "{}",
        ended.stderr
    );
    let question = "Start it with `vagrant up`? (y/N) ";
    let (code, said) = site.on_terminal(&plan, question, b"\n")?;
    assert!(code == Some(1) && !said.contains("Bringing machine"), "{said}");
    assert!(!site.workspace.path("up").exists());
    let (code, said) = site.on_terminal(&plan, question, b"y\n")?;
    assert!(code == Some(0) && said.contains("Bringing machine 'default' up"), "{said}");
    assert!(said.contains("Plan: 3 to change"), "{said}");
    let ended = site.baker(&plan)?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("Plan: 3 to change"), "{}", ended.stdout);
    let ended = site.baker(&["plan", "images/site.yaml", "--on=vagrant:other"])?;
    assert!(
        ended.stderr.contains("`vagrant ssh-config` failed: no machine of this name"),
        "{}",
        ended.stderr
    );
    Ok(())
}

/// The agent cannot be removed from a cache that became read-only; what went wrong before that is told first.
#[test]
fn why_a_plan_failed_is_told_before_what_could_not_be_removed() -> Outcome {
    let site = site()?;
    let target = format!("--on=ssh://deploy@{}", World::address(2));
    assert_eq!(site.baker(&["plan", "images/site.yaml", &target])?.code, Some(0));
    let read_only = "cd /home/deploy; mount --bind .cache .cache; mount -o remount,bind,ro .cache";
    site.host.output(&["sh", "-ec", read_only])?;
    let blocked = "resources:\n  - file: { path: /etc/hostname/site, content: x }\n";
    fs::write(site.workspace.path("recipes/site/recipe.yaml"), blocked)?;
    for verb in [&["plan"][..], &["apply", "--yes"]] {
        let ended = site.baker(&[verb, &["recipes/site", &target, "--leave-nothing"]].concat())?;
        assert_eq!(ended.code, Some(1), "{}", ended.stdout);
        let at = |text: &str| {
            ended.stderr.find(text).ok_or_else(|| format!("`{text}` is not in: {}", ended.stderr))
        };
        assert!(at("/etc/hostname")? < at("Read-only file system")?, "{}", ended.stderr);
    }
    Ok(())
}

/// Ctrl-C says what is true of the host at that moment, and no bundle stays there.
#[test]
fn an_interrupted_apply_says_what_becomes_of_the_host() -> Outcome {
    let site = site()?;
    let target = format!("--on=ssh://deploy@{}", World::address(2));
    // While it asks.
    let asked = ["apply", "images/site.yaml", &target];
    let (code, said) = site.on_terminal(&asked, "Only `yes` is taken for it: ", b"\x03")?;
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("interrupted: nothing was changed on the host"), "{said}");
    site.host.output(&["sh", "-c", "test ! -e /etc/site && ! ls -d /run/baker-plan.*"])?;

    // While it applies.
    fs::write(site.workspace.path("recipes/site/recipe.yaml"), SLOW)?;
    let child = site.start(&["apply", "recipes/site", &target, "--yes"])?;
    site.wait_for(SLOW_RUNS)?;
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    let ended = Ended::from(child.wait_with_output()?);
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("interrupted: the run on the host goes on to its end; plan again"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("undoing"), "{}", ended.stderr);
    site.wait_for("test -e /etc/slow && ! ls -d /run/baker-plan.*")?;

    // While it plans: a guard is asked.
    let guard = "resources:\n  - command: { argv: [ touch, /etc/never ], unless: sleep 5.4321 }\n";
    fs::write(site.workspace.path("recipes/site/recipe.yaml"), guard)?;
    let child = site.start(&["plan", "recipes/site", &target])?;
    site.wait_for(SLOW_RUNS)?;
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    let ended = Ended::from(child.wait_with_output()?);
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stderr.contains("interrupted: nothing was changed on the host"), "{}", ended.stderr);
    site.wait_for("! ls -d /run/baker-plan.* && test ! -e /etc/never")?;
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

    // A recipe alone, by its folder with inputs from both places, or by its name.
    let welcome = "inputs: { text: { type: string }, times: { type: integer } }\nresources:\n  - file: { path: /etc/welcome, content: \"{{ inputs.text }}, {{ inputs.times }}\\n\" }\n";
    let workspace = workspace
        .with("recipes/welcome/recipe.yaml", welcome)?
        .with("inputs.yaml", "{ text: hello, times: 1 }\n")?;
    let apply = ["apply", "recipes/welcome", "--inputs=inputs.yaml", "--input=times=2", &target, "--yes"];
    let applied = workspace.baker(&apply)?;
    assert_eq!(applied.code, Some(0), "{}{}", applied.stdout, applied.stderr);
    assert_eq!(fs::read_to_string(tree.join("etc/welcome"))?, "hello, 2\n");
    let named = workspace.baker(&["plan", "welcome", "--input=text=1.10", "--input=times=2", &target])?;
    assert!(named.stdout.contains("+1.10, 2"), "{}{}", named.stdout, named.stderr);
    for (wrong, why) in [
        (&["plan", "recipes/welcome", &target][..], "the input of `welcome` `text` is required"),
        (
            &["plan", "images/site.yaml", "--input=text=x", &target],
            "an image definition, which has no inputs",
        ),
        (&["plan", "inputs.yaml", &target], "`inputs.yaml` is neither an image definition nor a recipe"),
        (&["plan", "welcom", &target], "did you mean `welcome`?"),
    ] {
        let ended = workspace.baker(wrong)?;
        assert_eq!(ended.code, Some(1), "{wrong:?}: {}", ended.stdout);
        assert!(ended.stderr.contains(why), "{wrong:?}: {}", ended.stderr);
    }
    // On an image that was baked, and, where no place is named, on Debian 12.
    for on in [&["--on=base"][..], &[]] {
        let planned =
            workspace.baker(&[&["plan", "welcome", "--input=text=x", "--input=times=2"], on].concat())?;
        assert!(planned.stdout.contains("Plan: 1 to change"), "{on:?}: {}{}", planned.stdout, planned.stderr);
        assert_eq!(workspace.left(&[])?, NOTHING, "{on:?}");
    }
    let exact = workspace.baker(&["plan", "images/site.yaml", &target, "--exact"])?;
    assert!(exact.stderr.contains("nothing is executed in a tree"), "{}", exact.stderr);
    Ok(())
}

#[test]
fn a_host_whose_connection_is_lost_goes_on_to_the_end() -> Outcome {
    let site = site()?;
    fs::write(site.workspace.path("recipes/site/recipe.yaml"), SLOW)?;
    let target = format!("--on=ssh://deploy@{}", World::address(2));
    let ended = thread::scope(|scope| {
        let apply = scope.spawn(|| site.baker(&["apply", "images/site.yaml", &target, "--yes"]));
        site.wait_for(SLOW_RUNS)?;
        // Whoever serves the user, and nobody who works for him.
        site.host.output(&["sh", "-c", "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline) in 'sshd: deploy'*) kill -9 ${p#/proc/};; esac; done"])?;
        apply.join().map_err(|_| "it panicked")?.map_err(Box::<dyn Error>::from)
    })?;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    site.wait_for("test -e /etc/slow && ! ls -d /run/baker-plan.*")?;
    let again = site.baker(&["plan", "images/site.yaml", &target, "--detailed-exitcode"])?;
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    Ok(())
}
