//! What a boot costs a host.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use testbed::app;
use testbed::host::Host;

use crate::Outcome;
use crate::boot_watch::of_app;
use crate::hostile_hosts::{AGENT, host};

/// The most memory that the agent's process of a host had, in kilobytes, for as long as it is looked at, and how much time
/// of a processor it took itself.
fn cost(leader: u32, stop: &AtomicBool) -> (u64, Duration) {
    let (mut most, mut longest) = (0, 0);
    // Of the processes of this machine, those in the namespace of the host's.
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    let of_host = namespace(&leader.to_string());
    while !stop.load(Ordering::SeqCst) {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_agent = fs::read(entry.path().join("cmdline"))
                .is_ok_and(|cmdline| cmdline == format!("{AGENT}\0run\0").into_bytes());
            if is_agent && namespace(&name) == of_host {
                let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
                let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
                most = most.max(peak.unwrap_or_default());
                longest = longest.max(nanoseconds(&entry.path().join("task")));
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    (most, Duration::from_nanos(longest))
}

/// How long the threads of a process ran.
fn nanoseconds(threads: &Path) -> u64 {
    let threads = fs::read_dir(threads).into_iter().flatten().flatten();
    let ran = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    ran.filter_map(|ran| ran.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

/// Runs the agent on a host, and returns what that took.
fn cost_of_run(host: &Host) -> Result<(u64, Duration), Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (leader, told) = (host.leader(), Arc::clone(&stop));
    let watch = thread::spawn(move || cost(leader, &told));
    let run = host.output(&[AGENT, "run"]);
    stop.store(true, Ordering::SeqCst);
    let cost = watch.join().map_err(|_| "the watch panicked")?;
    run?;
    Ok(cost)
}

/// How long a boot takes is up to what it waits for; this is what the agent adds of its own.
#[test]
fn a_boot_costs_little_besides_what_it_waits_for() -> Outcome {
    let cloud = of_app("")?;
    let host = host(&cloud.world)?;
    app::put(host.disk())?;
    let (kilobytes, ran) = cost_of_run(&host)?;
    println!("3 values: {kilobytes} kB at the most, {} ms of a processor", ran.as_millis());
    assert!(kilobytes > 1000 && !ran.is_zero(), "{kilobytes} kB, {ran:?}");
    Ok(())
}

#[test]
fn two_hundred_secrets_take_less_than_twenty_megabytes() -> Outcome {
    let secrets: Vec<String> =
        (0..200).map(|number| format!("s{number}: {{ secretsmanager: acme/prod/s{number} }}")).collect();
    let cloud = of_app(&format!("secrets: {{ {} }}", secrets.join(", ")))?;
    for number in 0..200 {
        let value = json!({ "password": format!("{number:0>1000}") });
        cloud.aws.put_secret(&cloud.world, &format!("acme/prod/s{number}"), &value)?;
    }
    let host = host(&cloud.world)?;
    app::put(host.disk())?;
    let (kilobytes, ran) = cost_of_run(&host)?;
    println!("200 secrets: {kilobytes} kB at the most, {} ms of a processor", ran.as_millis());
    assert!((1000..20_000).contains(&kilobytes), "{kilobytes} kB");
    Ok(())
}
