//! `power-off`: what systemd runs when the outbox's unit has ended, which may not turn the host off itself.

use std::path::Path;

use super::{DONE, FAILED, complain};
use crate::boot::boot_id;
use crate::boot::telling::power_off;
use crate::signal::message::Recipient;
use crate::signal::outbox::Outbox;

/// Turn this host off, if its boot failed and its time is over
///
/// The outbox's unit runs this when it has ended, because it has no such power itself.
#[derive(Debug, clap::Args)]
pub(super) struct PowerOff {}

impl PowerOff {
    pub(super) fn run(self) -> u8 {
        let Self {} = self;
        let told = Outbox::below(Path::new("/")).told().and_then(|told| {
            let of_this_boot = |to: &Recipient, boot: &str| *to == Recipient::PowerOff && boot == boot_id();
            if told.iter().any(|message| of_this_boot(&message.to, &message.boot_id)) {
                power_off()
            } else {
                Ok(())
            }
        });
        match told {
            Ok(()) => DONE,
            Err(error) => {
                complain(&format!("error: failed to power off: {error}"));
                FAILED
            }
        }
    }
}
