//! What a boot and a look for new values have in common: the boot recipes are made true, and the host is healthy.

use std::collections::BTreeMap;
use std::path::Path;

use recipes::bundle::Bundle;
use recipes::event::Event;
use recipes::run::{Files, converge};
use recipes::system::linux::Linux;
use recipes::system::{Facts, Mode};

use super::error::{BootError, chain};
use crate::config::Config;
use crate::fetch::Https;
use crate::health::wait_for;
use crate::source::effort::Effort;
use crate::stop::Stop;
use crate::values::Values;

/// Makes the boot recipes true with values, all files together.
pub(crate) fn apply(
    bundle: &Bundle,
    values: &Values,
    proxies: &BTreeMap<String, String>,
    stop: &Stop,
    events: &mut dyn FnMut(Event),
) -> Result<(), BootError> {
    let mut machine = Linux::open(Path::new("/"), Mode::Live)
        .map_err(|error| BootError::new("converge", chain(&error)))?
        .with_environment(proxies.clone())
        .with_fetch(Box::new(Https::new(proxies)));
    let resolved = bundle
        .resolve(machine.host(), &values.scope())
        .map_err(|problems| BootError::new("render", problems.to_string()))?;
    stop.also(machine.interrupter());
    converge(&resolved, &mut machine, Files::Together, events)
        .map(drop)
        .map_err(|error| BootError::of_run(&error))
}

/// Waits for everything that must be seen before the host counts as up.
pub(crate) async fn healthy(config: &Config, effort: &Effort) -> Result<(), BootError> {
    for check in &config.health {
        let seen = wait_for(check, effort).await;
        seen.map_err(|error| BootError::new("health", error.to_string()))?;
    }
    Ok(())
}
