//! User-data of several parts (RFC 2046; cloud-init, "MIME multi-part archive"), of which one is for this agent.

use aws_smithy_types::base64;

/// The part whose first line is this agent's, if the text has parts and one of them is.
pub(super) fn own_part(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?.replace("\r\n", "\n");
    let (headers, body) = text.split_once("\n\n")?;
    let boundary = format!("--{}", boundary(headers)?);
    let mut parts = body.split(boundary.as_str());
    // What is before the first boundary is for people.
    parts.next();
    parts.take_while(|part| !part.starts_with("--")).find_map(|part| {
        let (headers, content) = part.split_once("\n\n")?;
        let content = content.strip_suffix('\n').unwrap_or(content);
        let is_base64 = header(headers, "content-transfer-encoding").is_some_and(|value| value == "base64");
        let content = if is_base64 {
            base64::decode(content.split_ascii_whitespace().collect::<String>()).ok()?
        } else {
            content.as_bytes().to_vec()
        };
        let first = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let first = String::from_utf8_lossy(first);
        (first.starts_with("#!") && first.contains("bootstrap-agent")).then_some(content)
    })
}

/// The value of a header, in lower case, with lines that go on with it.
fn header(headers: &str, name: &str) -> Option<String> {
    let headers = headers.replace("\n ", " ").replace("\n\t", " ");
    headers.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
    })
}

/// What is between the parts. Its case matters, and header values are read in lower case, so it is looked for anew.
fn boundary(headers: &str) -> Option<String> {
    if !header(headers, "content-type")?.starts_with("multipart/") {
        return None;
    }
    let headers = headers.replace("\n ", " ").replace("\n\t", " ");
    let at = headers.to_ascii_lowercase().find("boundary=")? + "boundary=".len();
    let value = &headers[at..];
    let boundary = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => value.split([';', '\n', ' ']).next()?,
    };
    (!boundary.is_empty()).then(|| boundary.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "#!/usr/local/bin/bootstrap-agent run\nenvironment: prod\n";

    fn message(part: &str) -> String {
        format!(
            "Content-Type: multipart/mixed;\n boundary=\"==Of==\"\nMIME-Version: 1.0\n\nfor people\n--==Of==\n\
             Content-Type: text/cloud-config\n\n#cloud-config\n{{}}\n\n--==Of==\n{part}\n--==Of==--\n"
        )
    }

    #[test]
    fn the_part_for_this_agent_is_found() {
        let plain = message(&format!("Content-Type: text/x-shellscript\n\n{OWN}"));
        assert_eq!(own_part(plain.as_bytes()).as_deref(), Some(OWN.as_bytes()));
        assert_eq!(own_part(plain.replace('\n', "\r\n").as_bytes()).as_deref(), Some(OWN.as_bytes()));
        let encoded = base64::encode(OWN);
        let encoded = message(&format!("content-transfer-encoding: BASE64\n\n{encoded}\n"));
        assert_eq!(own_part(encoded.as_bytes()).as_deref(), Some(OWN.as_bytes()));
    }

    #[test]
    fn what_has_no_such_part_is_left_as_it_is() {
        assert_eq!(own_part(OWN.as_bytes()), None);
        assert_eq!(own_part(message("Content-Type: text/x-shellscript\n\n#!/bin/sh\n").as_bytes()), None);
        assert_eq!(own_part(b"Content-Type: multipart/mixed\n\n--\n\nx"), None);
        assert_eq!(own_part(&[0xff, 0xfe]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_end_it(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "(Content-Type: multipart/mixed; boundary=\"?b\"?\n|--b|\n\n|#!bootstrap-agent|é){0,12}") {
            let _ = own_part(&bytes);
            let _ = own_part(text.as_bytes());
        }
    }
}
