//! Addresses that something is fetched from.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer};

/// An `https://` address. Shown without its query, because that of a presigned address lets in whoever has it.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpsUrl(String);

impl HttpsUrl {
    /// The whole address, for who asks the server.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads one.
    ///
    /// # Errors
    /// Says why it is not an address that something can be fetched from.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown = without_query(text).escape_debug().to_string();
        let not_https = || {
            format!(
                "`{shown}` is not an `https://` address; without TLS anybody on the way sees what this host fetches"
            )
        };
        let rest = text.strip_prefix("https://").ok_or_else(not_https)?;
        // RFC 3986, 2: everything else is written as `%` and two digits.
        let valid = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(c);
        if let Some(wrong) = text.chars().find(|&c| !valid(c)) {
            return Err(format!(
                "`{shown}` has the character `{}` in it, which an address has as `%` and two digits",
                wrong.escape_debug()
            ));
        }
        if rest.contains('#') {
            return Err(format!("`{shown}` has a `#` in it; no server is told what comes after that"));
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(
                "an address with a user or password in it is not fetched from: plans and logs would show it"
                    .into(),
            );
        }
        if !is_authority(authority) {
            return Err(format!("`{shown}` has no valid host in it"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A host, or an IPv6 address in brackets, and perhaps a port.
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
        Some(_) => return false,
        None => authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon)),
    };
    let is_host = host.starts_with(|first: char| first.is_ascii_alphanumeric())
        && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    let is_port = port.is_empty()
        || port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port > 0);
    is_host && is_port
}

/// An address as it may be shown.
pub fn without_query(address: &str) -> String {
    match address.split_once('?') {
        Some((before, _)) => format!("{before}?..."),
        None => address.to_owned(),
    }
}

/// A text of somebody's with the queries of all addresses in it covered, and everything in its place.
pub(crate) fn with_queries_covered(text: &str) -> Cow<'_, str> {
    let mut covered = Cow::Borrowed(text);
    for (scheme, _) in text.match_indices("://") {
        let address = &text[scheme..];
        let ends = |c: char| c.is_whitespace() || c == '"' || c == '\'';
        let address = &address[..address.find(ends).unwrap_or(address.len())];
        if let Some(query) = address.find('?') {
            let at = scheme + query + 1..scheme + address.len();
            let stars = "*".repeat(at.len());
            covered.to_mut().replace_range(at, &stars);
        }
    }
    covered
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&without_query(&self.0))
    }
}

impl fmt::Debug for HttpsUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl<'de> Deserialize<'de> for HttpsUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_covered_and_everything_stays_in_its_place() {
        let text = "- a: { url: https://a.b/c?X-Sig=1&é=2, b: \"http://d?e\" }\n# https://f/g h?i\n";
        let covered = with_queries_covered(text);
        assert_eq!(
            covered,
            "- a: { url: https://a.b/c?************* b: \"http://d?*\" }\n# https://f/g h?i\n"
        );
        assert_eq!(covered.len(), text.len());
        assert!(matches!(with_queries_covered("a?b: c"), Cow::Borrowed(_)));
    }
}
