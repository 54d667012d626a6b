//! Events for machines: one JSON object a line, on standard output.

use std::io::{self, Write};

use super::{Event, Report};

/// Writes events as JSON.
#[derive(Debug)]
pub struct Json;

impl Report for Json {
    fn event(&mut self, event: &Event) {
        // That nobody reads any more does not stop a bake.
        let _ = serde_json::to_writer(io::stdout(), event)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(io::stdout()))
            .and_then(|()| io::stdout().flush());
    }
}
