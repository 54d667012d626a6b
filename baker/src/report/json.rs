//! Events for machines: one JSON object a line, on standard output.

use std::io::{self, Write};

use serde_json::Value;

use super::{Event, Report};

/// Writes events of the bake of an image as JSON. Each has the `image`.
#[derive(Debug)]
pub struct Json {
    image: Value,
}

impl Json {
    /// Writes the events of this image's bake.
    pub fn of(image: &str) -> Self {
        Self { image: image.into() }
    }
}

impl Report for Json {
    fn event(&mut self, event: &Event) {
        let mut event = serde_json::to_value(event).unwrap_or_default();
        if let Value::Object(fields) = &mut event {
            fields.entry("image").or_insert_with(|| self.image.clone());
        }
        // That nobody reads any more does not stop a bake.
        let _ = writeln!(io::stdout(), "{event}").and_then(|()| io::stdout().flush());
    }
}
