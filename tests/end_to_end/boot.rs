//! A new host, from its image and its user-data to a page, with nobody logging in.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value as Json;
use testbed::cloud::{Cloud, PASSWORD, SECRET};
use testbed::host::{Disk, Host};
use testbed::workspace::image;
use testbed::world::World;

use crate::{NOTHING, Outcome};

pub(crate) const AGENT: &str = "/usr/local/bin/bootstrap-agent";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn disk() -> Result<Disk> {
    Ok(Disk::of_image(&image("web")?)?)
}

/// Waits for the agent's run, whoever started it, and returns its status.
pub(crate) fn status_of(host: &Host) -> Result<Json> {
    host.run(&[AGENT, "run"])?;
    let output = host.run(&[AGENT, "status", "--format", "json"])?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The resources that another run changes.
fn changed_by_another_run(host: &Host) -> Result<Vec<String>> {
    let events = host.output(&[AGENT, "run", "--force", "--format", "json"])?;
    let events = events.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let changed =
        events.filter(|event| event["event"] == "resource_finished" && event["outcome"] == "changed");
    Ok(changed.map(|event| event["resource"].to_string()).collect())
}

#[test]
fn a_host_comes_up_with_nobody_logging_in() -> Outcome {
    let cloud = Cloud::prod()?;
    let watch = ProcessWatch::start();
    let host = cloud.boot(disk()?)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "done", "{status:#}");
    assert_eq!(status["environment"], "prod");
    assert_eq!(status["role"], "web");
    assert_eq!(status["instance_id"], "i-0123456789abcdef0");

    let page = cloud.get("/")?;
    assert_eq!(page.status, 200);
    for text in [
        "Hello from prod",
        "<dt>database</dt><dd>db.prod.internal</dd>",
        "i-0123456789abcdef0 (m7i.large, us-east-1a)",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    assert_ne!(cloud.get("/healthz")?.body, "ok\n", "the health page is for the host itself");
    assert_ne!(cloud.get_as("localhost", "/healthz")?.body, "ok\n", "whatever name is asked for");

    // As few requests as can be: a token, the user-data, the document, the role and its credentials.
    assert_eq!(status["requests"]["metadata"], 5, "{:?}", cloud.metadata.asked());
    assert_eq!(status["requests"]["aws"], 2);
    the_steps_say_what_they_cost(&host, &status)?;
    assert_eq!(host.output(&["systemctl", "is-system-running"])?.trim(), "running");
    assert_eq!(changed_by_another_run(&host)?, NOTHING, "a second run finds nothing to change");

    the_secret_is_where_it_belongs(&host)?;
    assert_eq!(watch.end(), NOTHING, "the secret is in no argument and no environment");
    let journal = host.output(&["journalctl", "--all", "--output=export", "--no-pager"])?;
    let says = host.output(&["journalctl", "--unit=bootstrap-agent", "--no-pager"])?;
    assert!(journal.contains("prod/web is up after"), "the agent tells the journal how it went: {says}");
    assert!(!journal.contains(PASSWORD));
    let asked = [
        "journalctl",
        "--output=cat",
        "--no-pager",
        "BOOTSTRAP_AGENT_STATE=done",
        "BOOTSTRAP_AGENT_ROLE=web",
    ];
    let said = host.output(&asked)?;
    assert!(
        said.starts_with("bootstrap-agent: prod/web is up after ") && said.lines().count() == 1,
        "{said}"
    );
    let disk = host.power_off()?;
    let console = disk.console()?;
    assert!(console.contains("bootstrap-agent: prod/web is up after"), "{console}");
    assert!(!console.contains(PASSWORD));
    nothing_secret_on(&disk)
}

fn the_steps_say_what_they_cost(host: &Host, status: &Json) -> Outcome {
    let cost = |name: &str| {
        let step = status["steps"].as_array()?.iter().find(|step| step["name"] == name)?;
        Some((step["calls"].as_u64()?, step["attempts"].as_u64()?))
    };
    // A token and the user-data; then the role, its credentials, and the calls of AWS.
    assert_eq!(
        (cost("user-data"), cost("identify"), cost("converge")),
        (Some((2, 2)), Some((1, 1)), Some((0, 0)))
    );
    let (calls, attempts) = cost("fetch").ok_or("there is no step `fetch`")?;
    assert!(calls == 4 && attempts >= calls, "{status:#}");
    let (checks, tries) = cost("health").ok_or("there is no step `health`")?;
    assert!(checks == 1 && tries >= 1, "{status:#}");
    let said = host.output(&["journalctl", "--unit=bootstrap-agent", "--output=cat", "--no-pager"])?;
    assert!(
        said.lines().any(|line| line.starts_with("fetch: ") && line.contains(" ms, 4 calls in ")),
        "{said}"
    );
    let fetched =
        host.output(&["journalctl", "--output=cat", "--no-pager", "BOOTSTRAP_AGENT_FETCH_CALLS=4"])?;
    assert_eq!(fetched.lines().count(), 1, "{fetched}");
    Ok(())
}

/// It is on tmpfs, for those who may read it, and linked to from where it is wanted.
fn the_secret_is_where_it_belongs(host: &Host) -> Outcome {
    let path = "/etc/web-site/database.env";
    let kept = host.output(&["readlink", path])?;
    assert_eq!(kept.trim(), "/run/bootstrap-agent/files/etc/web-site/database.env");
    assert_eq!(host.output(&["stat", "--format=%U:%G %a", kept.trim()])?.trim(), "root:www-data 440");
    assert_eq!(host.output(&["stat", "--file-system", "--format=%T", kept.trim()])?.trim(), "tmpfs");
    assert!(host.output(&["cat", path])?.contains(&format!("DATABASE_PASSWORD={PASSWORD}\n")));
    let reads = |user: &str| {
        Ok::<_, std::io::Error>(
            host.run(&["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "cat", path])?
                .status
                .success(),
        )
    };
    assert!(reads("www-data")?);
    assert!(!reads("nobody")?);
    let status = host.output(&["cat", "/var/lib/bootstrap-agent/status.json"])?;
    assert!(!status.contains(PASSWORD));
    Ok(())
}

fn nothing_secret_on(disk: &Disk) -> Outcome {
    let found = Command::new("grep")
        .args(["--recursive", "--files-with-matches", "--fixed-strings", "--", PASSWORD])
        .arg(disk.tree())
        .output()?;
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    Ok(())
}

/// Looks at the arguments and the environment of every process, all the time.
pub(crate) struct ProcessWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl ProcessWatch {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut found = Vec::new();
            while !told.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    for file in ["cmdline", "environ"] {
                        let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
                        if bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()) {
                            found.push(format!("{file} of {}", String::from_utf8_lossy(&bytes)));
                        }
                    }
                }
                thread::sleep(Duration::from_millis(2));
            }
            found
        });
        Self { stop, thread }
    }

    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("no panic")
    }
}

#[test]
fn only_what_the_firewall_allows_can_be_reached() -> Outcome {
    let cloud = Cloud::prod()?;
    let host = cloud.boot(disk()?)?;
    status_of(&host)?;
    // Something that listens where nothing is allowed.
    let probe = "echo 'server { listen 8080; return 204; }' > /etc/nginx/conf.d/probe.conf; nginx -s reload";
    host.output(&["sh", "-ec", probe])?;
    // `nginx -s reload` does not wait for it.
    let answers =
        "for try in {1..100}; do (exec 3<>/dev/tcp/127.0.0.1/8080) && exit; sleep 0.1; done; exit 1";
    host.output(&["bash", "-c", answers])?;
    let reaches = |port: u16| {
        let address: SocketAddr = format!("{}:{port}", World::address(2)).parse().expect("an address");
        cloud.world.within(move || {
            TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(|error| error.kind())
        })
    };
    assert!(reaches(80).is_ok());
    assert!(reaches(22).is_ok());
    // Dropped, not refused.
    assert_eq!(reaches(8080).err(), Some(std::io::ErrorKind::TimedOut));
    let metadata = |user: &str| {
        let probe = "exec 3<>/dev/tcp/169.254.169.254/80";
        host.run(&["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "bash", "-c", probe])
    };
    assert!(metadata("root")?.status.success());
    assert!(!metadata("www-data")?.status.success(), "the metadata service is for root alone");
    // All of that is the host's own.
    let ours = Command::new("nft").args(["list", "ruleset"]).output();
    assert!(ours.map_or(true, |output| output.stdout.is_empty()), "this machine has no rules");
    Ok(())
}

#[test]
fn without_its_secret_a_host_does_not_serve_and_says_why() -> Outcome {
    let cloud = Cloud::prod()?;
    cloud.aws.delete_secret(&cloud.world, SECRET)?;
    let host = cloud.boot(disk()?)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "failed");
    assert_eq!(status["error"]["step"], "fetch");
    let message = status["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("the secret `acme/prod/db`") && message.contains("ResourceNotFoundException"),
        "{message}"
    );
    assert!(status["error"]["help"].as_str().is_some_and(|help| help.contains("create it")), "{status:#}");
    assert!(!host.is_active("nginx.service")?);
    assert!(host.run(&["systemctl", "is-failed", "bootstrap-agent.service"])?.status.success());
    assert!(!host.run(&[AGENT, "status"])?.status.success());
    assert!(cloud.get("/").is_err(), "nothing serves");
    for path in
        ["/srv/www/index.html", "/etc/web-site", "/etc/nginx/conf.d/site.conf", "/run/bootstrap-agent/files"]
    {
        assert!(!host.run(&["test", "-e", path])?.status.success(), "{path}");
    }
    let staged = host.output(&["find", "/etc", "/srv", "/run", "-name", "*.staged"])?;
    assert_eq!(staged, "", "no partial file");

    // Once it is there, the host can be brought up without a reboot.
    cloud.aws.put_secret(
        &cloud.world,
        SECRET,
        &serde_json::json!({ "username": "web", "password": PASSWORD }),
    )?;
    host.output(&["systemctl", "restart", "bootstrap-agent.service"])?;
    host.output(&["systemctl", "start", "nginx.service"])?;
    assert_eq!(status_of(&host)?["state"], "done");
    assert_eq!(cloud.get("/")?.status, 200);
    let console = host.power_off()?.console()?;
    assert!(console.contains("bootstrap-agent: prod/web failed at fetch"), "{console}");
    Ok(())
}

#[test]
fn what_is_wrong_with_the_user_data_is_said_and_nothing_serves() -> Outcome {
    let cloud = Cloud::prod()?;
    let mut previous: Option<Disk> = None;
    let cases = [
        (None, "user-data", "launched without user-data"),
        (Some("#cloud-config\nusers: []\n"), "configure", "its first line is `#cloud-config`"),
        (
            Some("environment: prod\nrole: web\nparamters: []\n"),
            "configure",
            "user-data:3:1: unknown field `paramters`; did you mean `parameters`?",
        ),
        (
            Some(
                "environment: prod\nrole: web\nparameters: [ /acme/staging/ ]\nendpoint_url: http://10.200.0.1:5000\n",
            ),
            "fetch",
            "the parameters below `/acme/staging/`: there are none",
        ),
        (
            Some("environment: prod\nrole: web\nendpoint_url: http://10.200.0.1:5000\n"),
            "render",
            "index.html.tera:3:50: field `title` is not defined",
        ),
    ];
    for (user_data, step, reason) in cases {
        cloud.metadata.change(|instance| instance.user_data = user_data.map(str::to_owned));
        // Each boot is on the disk that the last one left: an earlier failure does not stand in the way.
        let host = cloud.boot(match previous.take() {
            Some(disk) => disk,
            None => disk()?,
        })?;
        let status = status_of(&host)?;
        assert_eq!(status["state"], "failed", "{reason}");
        assert_eq!(status["error"]["step"], step, "{status:#}");
        let message = status["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(reason), "{reason}: {message}");
        assert!(!host.is_active("nginx.service")?, "{reason}");
        previous = Some(host.power_off()?);
    }
    Ok(())
}

#[test]
fn a_metadata_service_that_is_not_ready_is_waited_for() -> Outcome {
    let cloud = Cloud::prod()?;
    cloud.metadata.answer_early(&[503, 500, 401, 404, 429]);
    let host = cloud.boot(disk()?)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "done", "{status:#}");
    assert_eq!(cloud.get("/")?.status, 200);
    Ok(())
}

#[test]
fn a_reboot_configures_the_host_anew() -> Outcome {
    let cloud = Cloud::prod()?;
    let host = cloud.boot(disk()?)?;
    assert_eq!(status_of(&host)?["state"], "done");
    let disk = host.power_off()?;
    assert!(!disk.tree().join("run/bootstrap-agent/files").exists(), "secrets are gone with the boot");
    cloud.aws.put_parameter(&cloud.world, "/acme/prod/web/title", "String", "Hello again")?;
    let host = cloud.boot(disk)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "done", "{status:#}");
    assert!(cloud.get("/")?.body.contains("Hello again"));
    the_secret_is_where_it_belongs(&host)
}

/// Killed at any time, a run leaves all files as they were or all as they shall be, and the next finishes it.
#[test]
fn a_killed_run_leaves_the_old_files_or_the_new_and_the_next_finishes() -> Outcome {
    let cloud = Cloud::prod()?;
    let host = cloud.boot(disk()?)?;
    assert_eq!(status_of(&host)?["state"], "done");
    let read = |path: &str| host.output(&["cat", path]);
    let (mut killed, mut number) = (0, 0);
    for milliseconds in (0..400).step_by(10) {
        number += 1;
        cloud.aws.put_parameter(
            &cloud.world,
            "/acme/prod/web/title",
            "String",
            &format!("Title {number}"),
        )?;
        cloud.aws.put_parameter(
            &cloud.world,
            "/acme/prod/web/db/host",
            "String",
            &format!("db{number}.internal"),
        )?;
        let (old_page, old_env) = (read("/srv/www/index.html")?, read("/etc/web-site/database.env")?);
        let limit = format!("{:.3}", f64::from(milliseconds) / 1000.0 + 0.001);
        let run = host.run(&["timeout", "--signal=KILL", &limit, AGENT, "run", "--force"])?;
        let (page, env) = (read("/srv/www/index.html")?, read("/etc/web-site/database.env")?);
        let is_new =
            [page.contains(&format!("Title {number}<")), env.contains(&format!("db{number}.internal"))];
        if !run.status.success() {
            killed += 1;
            for (is_new, now, old) in [(is_new[0], &page, &old_page), (is_new[1], &env, &old_env)] {
                assert!(is_new || now == old, "killed after {milliseconds} ms, a file is neither: {now}");
            }
        }
        assert_eq!(cloud.get("/")?.status, 200, "it serves on");
        assert_eq!(changed_by_another_run(&host).map(drop).map_err(|error| error.to_string()), Ok(()));
        assert!(read("/srv/www/index.html")?.contains(&format!("Title {number}<")), "the next run finishes");
        assert!(read("/etc/web-site/database.env")?.contains(&format!("db{number}.internal")));
    }
    println!("{killed} of {number} runs were killed");
    assert!(killed >= 3, "{killed} of {number} runs were killed");
    Ok(())
}

/// An image without its agent's success: what needs the agent does not start when the agent is killed.
#[test]
fn a_host_whose_agent_is_killed_does_not_serve() -> Outcome {
    let cloud = Cloud::prod()?;
    // Nobody answers: the agent waits.
    cloud.aws.pause()?;
    let disk = disk()?;
    let (agent, group) = (PathBuf::from(AGENT), disk.group());
    let killer = thread::spawn(move || {
        // Other tests have agents, too.
        for _ in 0..6000 {
            thread::sleep(Duration::from_millis(20));
            for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let is_agent = cmdline == format!("{}\0run\0", agent.display()).into_bytes();
                let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
                if is_agent && groups.contains(&group) && groups.contains("bootstrap-agent.service") {
                    thread::sleep(Duration::from_millis(300));
                    let id = entry.file_name().to_string_lossy().into_owned();
                    return Command::new("kill")
                        .args(["-KILL", &id])
                        .status()
                        .is_ok_and(|status| status.success());
                }
            }
        }
        false
    });
    let host = cloud.boot(disk)?;
    assert!(killer.join().expect("no panic"), "there was an agent to kill");
    assert!(!host.is_active("nginx.service")?);
    assert!(host.run(&["systemctl", "is-failed", "bootstrap-agent.service"])?.status.success());
    assert!(cloud.get("/").is_err());
    cloud.aws.resume()?;
    host.output(&["systemctl", "restart", "bootstrap-agent.service"])?;
    assert_eq!(status_of(&host)?["state"], "done");
    Ok(())
}

/// A health check that the host never passes keeps the run going after its services have started.
#[test]
fn a_host_whose_agent_is_killed_half_way_stops_serving() -> Outcome {
    let cloud = Cloud::prod()?;
    cloud.metadata.change(|instance| {
        let never = "health: [ { tcp: { address: \"127.0.0.1:9\", within: 300s } } ]";
        let user_data = instance.user_data.take().unwrap_or_default();
        let lines = user_data.lines().map(|line| if line.starts_with("health:") { never } else { line });
        instance.user_data = Some(lines.collect::<Vec<_>>().join("\n"));
    });
    let host = cloud.boot(disk()?)?;
    host.output(&[
        "timeout",
        "20",
        "sh",
        "-c",
        "until systemctl is-active --quiet nginx; do sleep 0.1; done",
    ])?;
    assert_eq!(cloud.get("/")?.status, 200);
    host.output(&["systemctl", "kill", "--signal=KILL", "bootstrap-agent.service"])?;
    host.output(&[
        "timeout",
        "20",
        "sh",
        "-c",
        "while systemctl is-active --quiet nginx; do sleep 0.1; done",
    ])?;
    assert!(cloud.get("/").is_err(), "nothing serves");
    let status = host.run(&[AGENT, "status", "--format", "json"])?;
    assert_eq!(status.status.code(), Some(1));
    let status: Json = serde_json::from_slice(&status.stdout)?;
    assert_eq!(status["state"], "failed");
    assert_eq!(status["error"]["message"], "the run was cut off");
    Ok(())
}
