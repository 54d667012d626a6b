//! The same bake on EC2 by Packer and by baker, in the test cloud: which calls they make, how long it takes, and what is
//! left. Prints `docs/packer-comparison.md`. Whatever baker `make build` made is run, if it bakes on EC2.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use testbed::binaries;
use testbed::ec2::{self, Call, Cloud, Options, Times};
use testbed::workspace::Workspace;
use testbed::world::GATEWAY;

/// How long things take on EC2, about.
const TIMES: Times = Times {
    running: Duration::from_secs(10),
    status: Duration::from_secs(0),
    stopped: Duration::from_secs(15),
    terminated: Duration::from_secs(15),
    snapshot: Duration::from_secs(25),
    image: Duration::from_secs(5),
    copy: Duration::from_secs(0),
};

/// What was to be done, by whoever did it.
const SMALL: &str = "it is here\n";

/// How a bake went.
struct Baked {
    version: String,
    calls: Vec<Call>,
    took: Duration,
    left: Vec<String>,
    /// Whether the image has the file.
    good: bool,
}

fn main() -> ExitCode {
    match compare() {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<String, Box<dyn Error>> {
    if !nix::unistd::geteuid().is_root() {
        return Err("it makes containers and networks, which needs root: run it with sudo".into());
    }
    let disk = ec2::debian()?;
    let packer = packer(&disk)?;
    let baker = if bakes_on_ec2() { Some(baker(&disk)?) } else { None };
    Ok(page(&packer, baker.as_ref()))
}

/// Packer's amazon-ebs, with nothing said that it has a default for but where the cloud is.
fn packer(disk: &Path) -> Result<Baked, Box<dyn Error>> {
    let version = Command::new("packer").arg("--version").output();
    let version = version.map_err(|error| format!("packer: {error}: run `apt-get install packer`"))?;
    let (cloud, source) = cloud(disk)?;
    let template = json!({
        "builders": [{
            "type": "amazon-ebs", "region": "us-east-1", "custom_endpoint_ec2": cloud.url(),
            "skip_credential_validation": true, "skip_metadata_api_check": true, "skip_region_validation": true,
            "source_ami": source, "instance_type": "t3.small", "ssh_username": "admin", "ami_name": "small",
        }],
        "provisioners": [{
            "type": "shell", "inline": [format!("printf '{}\\n' | sudo tee /etc/small", SMALL.trim())],
        }],
    });
    let folder = tempfile::TempDir::new()?;
    fs::write(folder.path().join("small.json"), template.to_string())?;
    let mut command = Command::new("packer");
    command.args(["build", "-color=false", "small.json"]).current_dir(folder.path());
    command.env("CHECKPOINT_DISABLE", "1").env("HOME", folder.path());
    bake(&cloud, String::from_utf8(version.stdout)?.trim(), command)
}

/// The same by baker, which boots what it baked before it is done.
fn baker(disk: &Path) -> Result<Baked, Box<dyn Error>> {
    let (cloud, source) = cloud(disk)?;
    let image = format!(
        "description: a small image
source: {{ ec2: {{ ami: {{ id: {source} }}, release: bookworm }} }}
builder: {{ ec2: {{ ssh: {{ address: private, admit: [ {GATEWAY}/32 ] }} }} }}
recipes: [ small ]
"
    );
    let recipe = format!("resources: [ {{ file: {{ path: /etc/small, content: {} }} }} ]\n", json!(SMALL));
    let workspace =
        Workspace::new()?.with("images/small.yaml", &image)?.with("recipes/small/recipe.yaml", &recipe)?;
    let version = Command::new(binaries::baker()?).arg("--version").output()?;
    let command = workspace.command(&["build", "images/small.yaml", "--platform=ec2"])?;
    let version = String::from_utf8(version.stdout)?;
    bake(&cloud, version.trim().trim_start_matches("baker "), command)
}

fn bakes_on_ec2() -> bool {
    let help = binaries::baker().and_then(|baker| Command::new(baker).args(["build", "--help"]).output());
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("ec2"))
}

fn cloud(disk: &Path) -> io::Result<(Cloud, String)> {
    let cloud = Cloud::start(&Options { bodies: true, times: TIMES, ..Options::default() })?;
    let source = cloud.source_ami("debian-12-amd64-20261101", Some(disk))?;
    cloud.remember()?;
    Ok((cloud, source))
}

fn bake(cloud: &Cloud, version: &str, mut command: Command) -> Result<Baked, Box<dyn Error>> {
    let began = Instant::now();
    let Output { status, stdout, stderr } = cloud.output(command.stdin(Stdio::null()))?;
    let took = began.elapsed();
    let said = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    if !status.success() {
        return Err(format!("{status}\n{said}\n{:#?}", counted(&cloud.calls())).into());
    }
    let calls = cloud.calls();
    let left = cloud.left()?;
    let image = left.iter().find(|left| left.kind == "image").ok_or("there is no image")?;
    let good = cloud.image_tree(&image.id)?.read("/etc/small")? == SMALL;
    let left = left.iter().map(|left| left.kind.clone()).collect();
    Ok(Baked { version: version.to_owned(), calls, took, left, good })
}

/// The calls in order, those that follow one another and are the same as one, with how often they were made.
fn counted(calls: &[Call]) -> Vec<String> {
    let mut counted: Vec<(String, usize)> = Vec::new();
    for call in calls.iter().filter(|call| call.instance.is_none()) {
        let dry_run = if call.dry_run { " (dry run)" } else { "" };
        let error = call.error().filter(|_| !call.dry_run).map(|code| format!(" → `{code}`"));
        let name = format!("`{}`{dry_run}{}", call.action, error.unwrap_or_default());
        match counted.last_mut() {
            Some((last, count)) if *last == name => *count += 1,
            _ => counted.push((name, 1)),
        }
    }
    let text = |(name, count): (String, usize)| if count == 1 { name } else { format!("{name} × {count}") };
    counted.into_iter().map(text).collect()
}

fn page(packer: &Baked, baker: Option<&Baked>) -> String {
    const OPEN: &str = "to be filled by running the same program with baker";
    let calls = |baked: &Baked| baked.calls.iter().filter(|call| call.instance.is_none()).count().to_string();
    let looks = |baked: &Baked| {
        baked.calls.iter().filter(|call| call.action.starts_with("Describe")).count().to_string()
    };
    let took = |baked: &Baked| format!("{:.1} s", baked.took.as_secs_f64());
    let left = |baked: &Baked| baked.left.join(", ");
    let good = |baked: &Baked| if baked.good { "yes" } else { "no" }.to_owned();
    let parameters = |baked: &Baked, action: &str, name: &str| {
        let calls = baked.calls.iter().filter(|call| call.action == action && !call.dry_run);
        let given =
            calls.map(|call| call.parameter(name)).map(|text| if text.is_empty() { "-" } else { text });
        given.map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ")
    };
    let admitted = |baked: &Baked| {
        parameters(baked, "AuthorizeSecurityGroupIngress", "IpPermissions.1.IpRanges.1.CidrIp")
    };
    let tokens = |baked: &Baked| parameters(baked, "RunInstances", "MetadataOptions.HttpTokens");
    let mut page = format!(
        "# The same bake by Packer and by baker

The smallest bake that there is: Debian 12, and the file `/etc/small`. Both run against the test cloud
([tests/src/ec2/](../tests/src/ec2/mod.rs)): real HTTP, and instances that are containers with a systemd, cloud-init and an SSH server.
In it an instance takes {} s to be running, {} s to stop and {} s to terminate, a snapshot {} s, and an image of it {} s more.

This page is printed by `cargo run --package testbed --bin packer`, as root, with Debian's `packer` installed and after `make build`.
Packer has one `shell` provisioner, which writes the file with sudo, and default settings. baker has a recipe of one resource, and is told
which address to admit and which to connect to, since there is nobody in the test cloud to ask for one's public address.

baker does more: it looks at what could go wrong before it begins, plans again to see that nothing is left to change, searches the disk for keys, and boots the
AMI and checks it there before it is done. What is not waiting depends on the machine.

",
        TIMES.running.as_secs(),
        TIMES.stopped.as_secs(),
        TIMES.terminated.as_secs(),
        TIMES.snapshot.as_secs(),
        TIMES.image.as_secs(),
    );
    let version = baker.map_or_else(String::new, |baker| baker.version.clone());
    page += &format!("| | Packer {} | baker {version} |\n|---|---|---|\n", packer.version);
    let mut row = |name: &str, text: &dyn Fn(&Baked) -> String| {
        page += &format!("| {name} | {} | {} |\n", text(packer), baker.map_or_else(|| OPEN.to_owned(), text));
    };
    row("time, from start to exit", &took);
    row("calls", &calls);
    row("of these `Describe...`", &looks);
    row("left in the account", &left);
    row("the image has the file", &good);
    row("who may reach the builder's SSH port", &admitted);
    row("the builder's metadata service asks for a token", &tokens);
    page += "\nThe calls, in order:\n\n| | Packer | baker |\n|---|---|---|\n";
    let left = counted(&packer.calls);
    let right = baker.map_or_else(|| vec![OPEN.to_owned()], |baker| counted(&baker.calls));
    for row in 0..left.len().max(right.len()) {
        let cell = |column: &[String]| column.get(row).cloned().unwrap_or_default();
        page += &format!("| {} | {} | {} |\n", row + 1, cell(&left), cell(&right));
    }
    page
}
