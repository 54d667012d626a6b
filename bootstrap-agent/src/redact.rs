//! The last line of defence: whatever leaves the agent passes here, and secrets that were fetched do not.
//!
//! A secret is known as it is, as it is inside a JSON string, in a URL, and in base64, with whatever before and after
//! it: `user:password` in an `Authorization` header as well.

use aws_smithy_types::base64;
use zeroize::Zeroize;

/// Replaces every secret value in text.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret inside another does not leave the rest of it.
    secrets: Vec<String>,
}

/// A shorter value would be found in words that are no secret.
const SHORTEST: usize = 4;

/// A shorter piece of base64 would be found in what is none.
const SHORTEST_BASE64: usize = 8;

impl Redactor {
    /// Learns values that must not be seen. Lines of a longer value count each for itself.
    pub fn learn(&mut self, values: &[String]) {
        for value in values {
            for part in [value.as_str()].into_iter().chain(value.lines().map(str::trim)) {
                if part.len() < SHORTEST {
                    continue;
                }
                self.secrets.extend([part.to_owned(), escaped(part), in_url(part), in_form(part)]);
                self.secrets.extend(in_base64(part.as_bytes()));
            }
        }
        self.secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.secrets.dedup();
    }

    /// The text without them.
    pub fn clean(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret, crate::values::MASK) } else { text }
        })
    }
}

impl Drop for Redactor {
    fn drop(&mut self) {
        self.secrets.zeroize();
    }
}

/// As it is inside a JSON string.
fn escaped(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_default();
    json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// As it is in a path or the user part of a URL (RFC 3986).
fn in_url(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

/// As it is in a form or a query.
fn in_form(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// What does not depend on what is before and after it, for each of the three places at which it can begin.
fn in_base64(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for before in 0..3 {
        let mut padded = vec![0; before];
        padded.extend(bytes);
        let text = base64::encode(&padded);
        // Of each byte that is ours alone all of its bits.
        let start = (before * 8).div_ceil(6);
        let end = padded.len() * 8 / 6;
        let Some(part) = text.get(start..end).filter(|part| part.len() >= SHORTEST_BASE64) else { continue };
        found.push(part.replace('+', "-").replace('/', "_"));
        found.push(part.to_owned());
        padded.zeroize();
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(secrets: &[&str]) -> Redactor {
        let mut redactor = Redactor::default();
        redactor.learn(&secrets.iter().map(ToString::to_string).collect::<Vec<_>>());
        redactor
    }

    #[test]
    fn values_their_lines_and_their_json_form_are_replaced() {
        let redactor = of(&["hunter2", "line one\nline \"two\"", "abc", "hunter2-long"]);
        assert_eq!(redactor.clean("pw=hunter2-long, hunter2; abc"), "pw=(secret), (secret); abc");
        assert_eq!(redactor.clean("x line one y"), "x (secret) y");
        assert_eq!(redactor.clean(r#"{"v":"line one\nline \"two\""}"#), r#"{"v":"(secret)"}"#);
        assert_eq!(redactor.clean(r#"{"v":"line \"two\" alone"}"#), r#"{"v":"(secret) alone"}"#);
    }

    #[test]
    fn a_secret_is_known_in_urls_forms_and_base64() {
        let redactor = of(&["p@ss word/1+1"]);
        assert_eq!(redactor.clean("postgres://u:p%40ss%20word%2F1%2B1@db/"), "postgres://u:(secret)@db/");
        assert_eq!(redactor.clean("a=1&pw=p%40ss+word%2F1%2B1&b=2"), "a=1&pw=(secret)&b=2");
        for before in ["", "u", "us", "use", "user:"] {
            for after in ["", "\n", ":x"] {
                let text = base64::encode(format!("{before}p@ss word/1+1{after}"));
                let cleaned = redactor.clean(&format!("Authorization: Basic {text}"));
                assert!(cleaned.contains("(secret)"), "{before}|{after}: {cleaned}");
            }
        }
        assert_eq!(of(&["abcd"]).clean("YWJjZA=="), "YWJjZA==", "a piece this short is found anywhere");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is around it, of the bytes of a secret in base64 at most those are left that it shares with it.
        #[test]
        fn no_more_than_the_edges_of_a_secret_get_out(
            secret in prop::collection::vec(any::<u8>(), 9..40),
            before in prop::collection::vec(any::<u8>(), 0..5),
            after in prop::collection::vec(any::<u8>(), 0..5),
        ) {
            let text = base64::encode([&before[..], &secret, &after].concat());
            let parts = in_base64(&secret);
            let part = parts.iter().filter(|part| text.contains(part.as_str())).map(String::len).max();
            prop_assert!(part.is_some_and(|length| length * 6 + 10 > secret.len() * 8), "{text}");
        }
    }
}
