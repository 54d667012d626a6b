//! The last line of defence: whatever leaves the agent passes here, and secrets that were fetched do not.

/// Replaces every secret value in text.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret inside another does not leave the rest of it.
    secrets: Vec<String>,
}

/// A shorter value would be found in words that are no secret.
const SHORTEST: usize = 4;

impl Redactor {
    /// Learns values that must not be seen. Lines of a longer value count each for itself.
    pub fn learn(&mut self, values: &[String]) {
        for value in values {
            let parts = [value.as_str()].into_iter().chain(value.lines().map(str::trim));
            self.secrets.extend(parts.flat_map(|part| [part.to_owned(), escaped(part)]));
        }
        self.secrets.retain(|secret| secret.len() >= SHORTEST);
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self.secrets.dedup();
    }

    /// The text without them.
    pub fn clean(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, crate::values::MASK))
    }
}

/// As it is inside a JSON string.
fn escaped(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_default();
    json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_their_lines_and_their_json_form_are_replaced() {
        let mut redactor = Redactor::default();
        redactor.learn(&[
            "hunter2".into(),
            "line one\nline \"two\"".into(),
            "abc".into(),
            "hunter2-long".into(),
        ]);
        assert_eq!(redactor.clean("pw=hunter2-long, hunter2; abc"), "pw=(secret), (secret); abc");
        assert_eq!(redactor.clean("x line one y"), "x (secret) y");
        assert_eq!(redactor.clean(r#"{"v":"line one\nline \"two\""}"#), r#"{"v":"(secret)"}"#);
        assert_eq!(redactor.clean(r#"{"v":"line \"two\" alone"}"#), r#"{"v":"(secret) alone"}"#);
    }
}
