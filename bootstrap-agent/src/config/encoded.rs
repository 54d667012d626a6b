//! User-data as launch templates have it: text, or gzip where 16 KB are not enough, or base64 of either where a tool
//! has encoded once too often, or a message of several parts of which one is this agent's.

use std::io::Read;

use aws_smithy_types::base64;
use flate2::read::MultiGzDecoder;

use super::multipart::own_part;

/// Far more than user-data that is 16 KB when packed should ever be.
const LONGEST: u64 = 1024 * 1024;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The text, whatever it is wrapped in.
///
/// # Errors
/// When it is gzip and damaged, or unreasonably long.
pub fn decode(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let bytes = of_base64(&bytes).unwrap_or(bytes);
    let text = if bytes.starts_with(&GZIP) { unpacked(&bytes)? } else { bytes };
    Ok(own_part(&text).unwrap_or(text))
}

fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let mut unpacked = MultiGzDecoder::new(bytes).take(LONGEST + 1);
    unpacked.read_to_end(&mut text).map_err(|error| format!("it is gzip and cannot be unpacked: {error}"))?;
    if text.len() as u64 > LONGEST {
        return Err(format!("it is gzip of more than {LONGEST} bytes"));
    }
    Ok(text)
}

/// What the text is base64 of. A mapping in YAML has a colon in it, which base64 has not.
fn of_base64(bytes: &[u8]) -> Option<Vec<u8>> {
    let text: String = std::str::from_utf8(bytes).ok()?.split_ascii_whitespace().collect();
    let is_base64 = text.len() >= 8 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    if is_base64 { base64::decode(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"#!/usr/local/bin/bootstrap-agent run\nenvironment: prod\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn lines(bytes: &[u8]) -> Vec<u8> {
        let text = base64::encode(bytes);
        text.as_bytes().chunks(20).flat_map(|line| [line, b"\n"].concat()).collect()
    }

    #[test]
    fn text_is_found_in_whatever_it_is_wrapped() {
        for wrapped in [TEXT.to_vec(), gzip(TEXT), base64::encode(TEXT).into_bytes(), lines(&gzip(TEXT))] {
            assert_eq!(decode(wrapped).expect("text"), TEXT);
        }
        assert_eq!(decode(b"a: b".to_vec()).expect("text"), b"a: b");
        assert_eq!(decode(Vec::new()).expect("nothing"), b"");
    }

    #[test]
    fn a_bomb_and_a_stump_are_refused() {
        let bomb = gzip(&vec![b'a'; 2 * 1024 * 1024]);
        assert_eq!(decode(bomb), Err("it is gzip of more than 1048576 bytes".into()));
        let packed = gzip(TEXT);
        let error = decode(packed[..packed.len() - 9].to_vec()).expect_err("cut off");
        assert!(error.starts_with("it is gzip and cannot be unpacked: "), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), gzip in any::<bool>()) {
            let _ = decode(if gzip { [&GZIP[..], &bytes].concat() } else { bytes });
        }
    }
}
