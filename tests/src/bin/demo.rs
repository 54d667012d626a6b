//! The whole way, on one machine: bake an image, boot it as a new host, and fetch its page.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use serde_json::Value as Json;
use testbed::binaries;
use testbed::cloud::Cloud;
use testbed::host::{Disk, Host};
use testbed::world::World;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("\nThe demo failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<(), Box<dyn Error>> {
    if !nix::unistd::geteuid().is_root() {
        return Err("it makes containers and networks, which needs root: run it with sudo".into());
    }
    let project = binaries::project();
    let output = project.join("output");
    let demo = output.join("demo");
    fs::create_dir_all(&demo)?;

    heading("1. Bake: images/web.yaml, in a container");
    bake(&project, &output)?;

    heading("2. Boot: the image as a new host, with instance metadata and AWS in a network of its own");
    let cloud = Cloud::prod()?;
    let began = Instant::now();
    let host = cloud.boot(Disk::of_image(&output.join("web"))?)?;
    wait_until_up(&host)?;
    say(&format!(
        "The host is up after {:.1} s, unpacking its disk included.",
        began.elapsed().as_secs_f64()
    ));

    heading("3. Fetch: the page, from outside the host");
    let page = cloud.get("/")?;
    say(&format!("GET http://{}/ -> {}\n\n{}", World::address(2), page.status, page.body));
    let status = host.output(&["/usr/local/bin/bootstrap-agent", "status", "--format", "json"])?;
    fs::write(demo.join("status.json"), &status)?;
    fs::write(demo.join("page.html"), &page.body)?;
    fs::write(
        demo.join("journal.txt"),
        host.output(&["journalctl", "--no-pager", "--unit", "bootstrap-agent"])?,
    )?;
    let status: Json = serde_json::from_str(&status)?;
    where_it_came_from(&host, &cloud, &status)?;
    timelines(&output, &status)?;
    let disk = host.power_off()?;
    fs::write(demo.join("console.txt"), disk.console()?)?;
    drop(disk);

    heading("Files");
    for (path, what) in [
        ("web/rootfs.tar.zst", "the image: its root tree"),
        ("web/manifest.json", "what it is, what it was made of, its packages and timings"),
        ("demo/status.json", "what the boot came to"),
        ("demo/journal.txt", "what the agent said"),
        ("demo/console.txt", "the console of the host"),
        ("demo/page.html", "the page"),
    ] {
        say(&format!("  output/{path:<24} {what}"));
    }
    say("\nNothing is left running or mounted.");
    if page.status != 200 || !page.body.contains("Hello from prod") {
        return Err("the page is not the one that was configured".into());
    }
    Ok(())
}

fn bake(project: &Path, output: &Path) -> Result<(), Box<dyn Error>> {
    let status = Command::new(binaries::baker()?)
        .args(["build", "images/web.yaml", "--platform", "local", "--agent"])
        .arg(binaries::agent()?)
        .arg("--output")
        .arg(output)
        .current_dir(project)
        .stdout(std::process::Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("baker ended with {status}").into()) }
}

/// The host has booted; its agent may still be looking whether it is healthy.
fn wait_until_up(host: &Host) -> Result<(), Box<dyn Error>> {
    let agent = host.run(&["/usr/local/bin/bootstrap-agent", "run"])?;
    if agent.status.success() {
        return Ok(());
    }
    let journal = host.output(&["journalctl", "--no-pager", "--unit", "bootstrap-agent"])?;
    Err(format!("the host did not come up:\n{journal}").into())
}

fn where_it_came_from(host: &Host, cloud: &Cloud, status: &Json) -> Result<(), Box<dyn Error>> {
    heading("What came from where");
    let rows = [
        ("nginx, its hardening, the firewall", "baked into the image"),
        ("title, greeting, database host", status["fetched"][0].as_str().unwrap_or_default()),
        ("database user and password", status["fetched"][1].as_str().unwrap_or_default()),
        ("environment, role", "user-data"),
        ("instance id, type, zone", "instance metadata (IMDSv2)"),
    ];
    for (what, from) in rows {
        say(&format!("  {what:<36} {from}"));
    }
    let link = host.output(&["readlink", "/etc/web-site/database.env"])?;
    let kind = host.output(&["stat", "--file-system", "--format=%T", link.trim()])?;
    let mode = host.output(&["stat", "--format=%U:%G %a", link.trim()])?;
    say(&format!("\n  /etc/web-site/database.env -> {} ({}, {})", link.trim(), kind.trim(), mode.trim()));
    say(&format!("  requests to the metadata service: {}", cloud.metadata.asked().join(", ")));
    Ok(())
}

fn timelines(output: &Path, status: &Json) -> Result<(), Box<dyn Error>> {
    for name in ["base", "web"] {
        heading(&format!("Timeline of the bake of {name}"));
        let manifest: Json = serde_json::from_slice(&fs::read(output.join(name).join("manifest.json"))?)?;
        bars(&manifest["timings"], "step");
    }
    heading("Timeline of the agent's boot");
    bars(&status["steps"], "name");
    Ok(())
}

/// A bar for each step, as long as it took.
fn bars(steps: &Json, name: &str) {
    let steps = steps.as_array().cloned().unwrap_or_default();
    let of = |step: &Json| step["milliseconds"].as_u64().unwrap_or(0);
    let longest = steps.iter().map(of).max().unwrap_or(0).max(1);
    for step in &steps {
        let length = usize::try_from(of(step) * 40 / longest).unwrap_or(0);
        let label = step[name].as_str().unwrap_or_default();
        say(&format!("  {label:<10} {:>7} ms  {}", of(step), "#".repeat(length)));
    }
    say(&format!("  {:<10} {:>7} ms", "all", steps.iter().map(of).sum::<u64>()));
}

fn heading(text: &str) {
    say(&format!("\n== {text}"));
}

fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
