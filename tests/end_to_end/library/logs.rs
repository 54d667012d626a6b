//! Logs arrive where they are sent.

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use recipes::op::Content;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use testbed::apt::{Scripted, repository_with_scripts};
use testbed::aws::Aws;
use testbed::host::{Disk, Host};
use testbed::http::{Request, answer};
use testbed::https::Authority;
use testbed::metadata::{Instance, Metadata};
use testbed::workspace::Workspace;
use testbed::world::{GATEWAY, World};

use super::hosts::apply;
use super::vendors::at_loopback;
use crate::Outcome;

/// How long a line may be on its way.
const LIMIT: Duration = Duration::from_mins(1);

/// The number of the host in its world.
const NUMBER: u8 = 2;

const GROUP: &str = "/acme/hosts";

/// Debian has no fluent-bit. What stands in for it reads the configuration as it does, and knows no other.
const FLUENT_BIT: &str = include_str!("fluent-bit.py");

/// The vendor's package has the program at this path, and starts it so.
const UNIT: &str = "[Service]\nEnvironment=AWS_ENDPOINT_URL=URL-OF-AWS\nExecStart=/opt/fluent-bit/bin/fluent-bit -c /etc/fluent-bit/fluent-bit.conf\n[Install]\nWantedBy=multi-user.target\n";

const IMAGE: &str = "source: { local: { suite: bookworm } }
recipes:
  - packages: { install: [ca-certificates, python3] }
  - logs: { server: server }
";

#[test]
fn logs_arrive_where_they_are_sent() -> Outcome {
    let workspace = Workspace::new()?.with("images/one.yaml", IMAGE)?;
    let image = workspace.bake("one")?;
    let world = World::new()?;
    let host = Host::boot(Disk::of_image(&image)?, world.place(NUMBER)?)?;
    lines_reach_a_syslog_server_that_is_who_it_says(&host)?;
    lines_reach_cloudwatch_and_a_collector(&world, &host)
}

/// To `CloudWatch` Logs, Elasticsearch, and a collector that speaks OpenTelemetry.
fn lines_reach_cloudwatch_and_a_collector(world: &World, host: &Host) -> Outcome {
    let logs = TempDir::with_prefix("logs-")?;
    let aws = Aws::start(world, &logs.path().join("aws.log"))?;
    let _metadata = Metadata::start(world, Instance::new(&World::address(NUMBER), ""))?;
    let collected = collector(world)?;
    aws.logs(world, "CreateLogGroup", &json!({ "logGroupName": GROUP }))?;

    // There is no network, and so nothing that apt could ask.
    host.output(&["sh", "-ec", "rm -f /etc/apt/sources.list.d/*; : > /etc/apt/sources.list"])?;
    let digest = put_package(host)?;
    let include = format!(
        "  - include: {{ fluent-bit: {{ url: 'https://127.0.0.1:1/none.deb', sha256: '{digest}', opentelemetry: {GATEWAY}, elasticsearch: {GATEWAY}, tls: false, cloudwatch: {GROUP} }} }}\n"
    );
    apply(host, "fluent-bit", &include)?;
    host.output(&["logger", "--tag=probe", "a line for everybody"])?;
    let name = host.output(&["uname", "--nodename"])?;
    for path in ["/v1/logs", "/_bulk"] {
        until(&format!("{path} got no line"), || {
            let requests = collected.lock().unwrap_or_else(PoisonError::into_inner);
            let to_it = requests.iter().filter(|request| request.path == path);
            Ok(to_it
                .into_iter()
                .any(|request| String::from_utf8_lossy(&request.body).contains("a line for everybody")))
        })?;
    }
    // Each host is a stream, so that who reads knows whose line it is.
    let of = json!({ "logGroupName": GROUP, "logStreamName": name.trim(), "startFromHead": true });
    until("CloudWatch Logs has no line", || {
        // The stream is not there before its first line.
        let Ok(told) = aws.logs(world, "GetLogEvents", &of) else { return Ok(false) };
        let told: Json = serde_json::from_str(&told)?;
        let events = told["events"].as_array().cloned().unwrap_or_default();
        Ok(events.iter().any(|event| event["message"].to_string().contains("a line for everybody")))
    })
    .map_err(|why| {
        format!(
            "{why}: {}",
            host.output(&["journalctl", "--no-pager", "--unit=fluent-bit"]).unwrap_or_default()
        )
        .into()
    })
}

/// To a syslog server over TLS, which is believed by its name only.
fn lines_reach_a_syslog_server_that_is_who_it_says(host: &Host) -> Outcome {
    let authority = Authority::new()?;
    fs::write(host.disk().tree().join("etc/syslog.pem"), &authority.pem)?;
    host.output(&["sh", "-c", "echo 127.0.0.1 server impostor >> /etc/hosts"])?;
    let (address, lines) = at_loopback(host, || authority.collect())?;
    let send = |server: &str| {
        let include = format!(
            "  - include: {{ logs: {{ server: {server}, port: {}, ca_file: /etc/syslog.pem }} }}\n",
            address.port()
        );
        apply(host, server, &include)
    };
    let arrived = |text: &str| lines.lock().unwrap_or_else(PoisonError::into_inner).contains(text);
    // Its certificate is of another name.
    send("impostor")?;
    host.output(&["logger", "a line for the impostor"])?;
    let refused = "for n in $(seq 100); do journalctl --no-pager --boot --unit=rsyslog | grep -q 'not permitted to talk' && exit; sleep 0.2; done; journalctl --no-pager --boot --unit=rsyslog; exit 1";
    host.output(&["sh", "-c", refused])?;
    assert!(!arrived("a line"));
    send("server")?;
    host.output(&["logger", "a line for the server"])?;
    until("the server has no line", || Ok(arrived("a line for the server")))
}

fn until(why: &str, mut done: impl FnMut() -> Result<bool, Box<dyn Error>>) -> Outcome {
    let end = Instant::now() + LIMIT;
    while !done()? {
        if Instant::now() > end {
            return Err(why.into());
        }
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Puts the package where the recipe looks before it fetches, and returns its digest.
fn put_package(host: &Host) -> Result<String, Box<dyn Error>> {
    let folder = TempDir::with_prefix("vendor-")?;
    let unit = UNIT.replace("URL-OF-AWS", &Aws::url());
    let postinst = format!(
        "#!/bin/sh -e\nmkdir -p /opt/fluent-bit/bin /lib/systemd/system\ncat > /opt/fluent-bit/bin/fluent-bit << 'END'\n{FLUENT_BIT}END\nchmod 755 /opt/fluent-bit/bin/fluent-bit\ncat > /lib/systemd/system/fluent-bit.service << 'END'\n{unit}END\n"
    );
    let package = Scripted { name: "fluent-bit", fields: "", scripts: &[("postinst", &postinst)] };
    repository_with_scripts(folder.path(), &[package])?;
    let package = fs::read(folder.path().join("fluent-bit_1.0_all.deb"))?;
    let there = host.disk().tree().join("opt/vendor");
    fs::create_dir_all(&there)?;
    fs::write(there.join("fluent-bit.deb"), &package)?;
    Ok(Content::new(&package[..]).sha256())
}

/// What is sent to whoever speaks OTLP over HTTP, and to Elasticsearch.
fn collector(world: &World) -> Result<Arc<Mutex<Vec<Request>>>, Box<dyn Error>> {
    let requests = Arc::<Mutex<Vec<Request>>>::default();
    for port in [4318, 9200] {
        let listener = world.within(|| TcpListener::bind((GATEWAY, port)))?;
        let collected = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(Some(request)) = Request::read(&stream) else { continue };
                collected.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                let _ = answer(&stream, 200, b"{}");
            }
        });
    }
    Ok(requests)
}
