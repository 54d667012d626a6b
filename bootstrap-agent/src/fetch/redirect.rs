//! Where an answer sends who asked.

use recipes::url::{HttpsUrl, without_query};

/// The address that a `Location` means at an address (RFC 3986, 5.2). Only `https://` is gone to.
pub(super) fn target(base: &HttpsUrl, location: &str) -> Result<HttpsUrl, String> {
    let location = location.split('#').next().unwrap_or_default();
    let base = base.as_str();
    let scheme_end = base.find("//").map_or(0, |at| at + 2);
    let (authority, path) = match base[scheme_end..].find(['/', '?']) {
        Some(at) => base.split_at(scheme_end + at),
        None => (base, "/"),
    };
    let path = path.split('?').next().unwrap_or_default();
    let is_absolute = location.split(['/', '?']).next().is_some_and(|first| first.contains(':'));
    let address = if is_absolute {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("https:{location}")
    } else if location.starts_with('/') {
        format!("{authority}{}", without_dots(location))
    } else if location.starts_with('?') || location.is_empty() {
        format!("{authority}{path}{location}")
    } else {
        let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        format!("{authority}{}", without_dots(&format!("{folder}{location}")))
    };
    HttpsUrl::parse(&address).map_err(|why| {
        format!("it redirects to `{}`, where nothing is fetched from: {why}", without_query(&address))
    })
}

/// Takes `.` and `..` out of a path (RFC 3986, 5.2.4), not of a query behind it.
fn without_dots(path: &str) -> String {
    let (path, query) = path.find('?').map_or((path, ""), |at| path.split_at(at));
    let mut kept: Vec<&str> = Vec::new();
    let mut names = path.split('/').skip(1).peekable();
    while let Some(name) = names.next() {
        let is_last = names.peek().is_none();
        match name {
            "." if is_last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if is_last {
                    kept.push("");
                }
            }
            name => kept.push(name),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(base: &str, location: &str) -> String {
        let base = HttpsUrl::parse(base).expect("an address");
        target(&base, location).map_or_else(|why| why, |url| url.as_str().to_owned())
    }

    #[test]
    fn locations_are_read_at_the_address_that_answered() {
        let base = "https://a.b:8443/c/d?e=/f";
        for (location, expected) in [
            ("https://x.y/z?q#f", "https://x.y/z?q"),
            ("//x.y/z", "https://x.y/z"),
            ("/z", "https://a.b:8443/z"),
            ("z", "https://a.b:8443/c/z"),
            ("../z?q=../r", "https://a.b:8443/z?q=../r"),
            ("./../../z/.", "https://a.b:8443/z/"),
            ("..", "https://a.b:8443/"),
            ("?q", "https://a.b:8443/c/d?q"),
            ("", "https://a.b:8443/c/d"),
        ] {
            assert_eq!(to(base, location), expected, "{location}");
        }
        assert_eq!(to("https://a.b", "z"), "https://a.b/z");
        assert_eq!(to("https://a.b?q", "z"), "https://a.b/z");
    }

    #[test]
    fn nothing_leads_to_an_address_without_tls() {
        for location in ["http://a.b/c?d", "ftp://a.b/", "file:///etc/shadow", "https://u:p@a.b/", "//"] {
            assert!(to("https://a.b/", location).starts_with("it redirects to `"), "{location}");
        }
        assert!(!to("https://a.b/", "http://c.d/?token=x").contains("token"));
    }
}
