//! The whole way, on real containers with real systemd, apt, sshd and nftables, and against a stand-in for AWS.

mod bake;
mod boot;
mod boot_cache;
mod boot_canary;
mod boot_config;
mod boot_cost;
mod boot_credentials;
mod boot_cut_off;
mod boot_hostile;
mod boot_plan;
mod boot_race;
mod boot_signals;
mod boot_units;
mod boot_watch;
mod cloud_init;
mod cut_off;
mod definitions;
mod dnf;
mod dnf_5;
mod drift;
mod ec2;
mod exact;
mod facts;
mod fetch;
mod firewall;
mod hardened;
mod hostile_hosts;
mod interrupted;
mod invariants;
mod kinds;
mod language;
mod library;
mod machine;
mod on_host;
mod reboot;
mod seal;
mod site;
mod test_cloud;
mod vagrant;
mod vendor;

/// What a test comes to. It ends with the first thing that goes wrong.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What is left to do, in the words of an empty plan.
const NOTHING: &[String] = &[];
