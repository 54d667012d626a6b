//! What a boot costs a host.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use testbed::app;

use crate::Outcome;
use crate::boot_watch::of_app;
use crate::hostile_hosts::{AGENT, host};

/// The most memory that the agent's process of a host had, in kilobytes, for as long as it is looked at.
fn most_memory(leader: u32, stop: &AtomicBool) -> u64 {
    let mut most = 0;
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
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    most
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
    let stop = Arc::new(AtomicBool::new(false));
    let (leader, told) = (host.leader(), Arc::clone(&stop));
    let watch = thread::spawn(move || most_memory(leader, &told));
    let run = host.output(&[AGENT, "run"]);
    stop.store(true, Ordering::SeqCst);
    let kilobytes = watch.join().map_err(|_| "the watch panicked")?;
    run?;
    println!("{kilobytes} kB at the most");
    assert!((1000..20_000).contains(&kilobytes), "{kilobytes} kB");
    Ok(())
}
