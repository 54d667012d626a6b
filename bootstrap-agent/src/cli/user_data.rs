//! `user-data`: everything for those who write it: whether it is right, what it costs, what it may do, how it is packed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aws_smithy_types::base64;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{DONE, FAILED, complain, fail_with};
use crate::config::Config;
use crate::config::encoded::decode;
use crate::policy::{Place, policy};
use crate::source::plan::FetchPlan;

/// The most that EC2 takes, before it is encoded (EC2 user guide, user data).
const MOST: usize = 16 * 1024;

/// Made of the types by a test, so that the program need not have what makes it.
const SCHEMA: &str = include_str!("../../../docs/user-data.schema.json");

const FIRST_LINE: &[u8] = b"#!/usr/local/bin/bootstrap-agent run\n";

/// Check user-data, pack it, or print its schema or the IAM policy that it needs
#[derive(Debug, clap::Args)]
pub(super) struct UserData {
    /// What to do
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say whether it is right, and what a boot with it costs
    Validate {
        /// The user-data
        file: PathBuf,
    },
    /// Write it as a launch template takes it: with its first line, and packed if it is too long
    Pack {
        /// The user-data
        file: PathBuf,
        /// Pack it even if it is not too long
        #[arg(long)]
        gzip: bool,
        /// Encode it, as the API takes it; the console and the CLI do that themselves
        #[arg(long)]
        base64: bool,
    },
    /// Print the JSON Schema of user-data, for editors
    Schema,
    /// Print the least IAM policy for the role of a host with it
    Policy {
        /// The user-data
        file: PathBuf,
        /// The partition
        #[arg(long, default_value = "aws")]
        partition: String,
        /// The region; that of the user-data, or any, if left out
        #[arg(long)]
        region: Option<String>,
        /// The account; any if left out
        #[arg(long, default_value = "*")]
        account: String,
        /// The ARN of a customer-managed key that values are encrypted with
        #[arg(long, value_name = "ARN")]
        kms_key: Vec<String>,
    },
}

impl UserData {
    pub(super) fn run(self) -> u8 {
        let (What::Validate { file } | What::Pack { file, .. } | What::Policy { file, .. }) = &self.what
        else {
            let _ = write!(io::stdout(), "{SCHEMA}");
            return DONE;
        };
        let (bytes, config) = match read(file) {
            Ok(read) => read,
            Err(code) => return code,
        };
        match self.what {
            What::Schema => DONE,
            What::Validate { .. } => {
                let _ = writeln!(io::stdout(), "{}", validated(&config, &bytes));
                DONE
            }
            What::Pack { gzip, base64, .. } => match packed(&bytes, gzip, base64) {
                Ok((packed, said)) => {
                    complain(&said);
                    let _ = io::stdout().write_all(&packed);
                    DONE
                }
                Err(why) => {
                    complain(&format!("error: {why}"));
                    FAILED
                }
            },
            What::Policy { partition, region, account, kms_key: keys, .. } => {
                let region = region.or(config.region.clone()).unwrap_or_else(|| "*".into());
                let policy = policy(&config, &Place { partition, region, account, keys });
                let _ =
                    writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&policy).unwrap_or_default());
                DONE
            }
        }
    }
}

fn read(path: &Path) -> Result<(Vec<u8>, Config), u8> {
    let name = path.display().to_string();
    let said = |why: String| {
        complain(&format!("error: {why}"));
        FAILED
    };
    let bytes = fs::read(path).map_err(|error| said(format!("failed to read `{name}`: {error}")))?;
    let bytes = decode(bytes).map_err(|why| said(format!("{name} cannot be read: {why}")))?;
    let config = Config::parse(&name, &bytes).map_err(|problems| fail_with(&problems))?;
    Ok((bytes, config))
}

fn validated(config: &Config, bytes: &[u8]) -> String {
    let plan = FetchPlan::of(config);
    let length = if bytes.len() <= MOST {
        format!("{} of {MOST} bytes", bytes.len())
    } else {
        format!(
            "{} bytes, more than the {MOST} that EC2 takes: `bootstrap-agent user-data pack` packs it",
            bytes.len()
        )
    };
    let (environment, role) = (&config.environment, &config.role);
    format!("valid: {environment}/{role}, {length}\n{plan}")
}

/// The user-data as a launch template takes it, and what there is to say about it.
fn packed(text: &[u8], gzip: bool, encode: bool) -> Result<(Vec<u8>, String), String> {
    let mut bytes = if text.starts_with(b"#!") { text.to_vec() } else { [FIRST_LINE, text].concat() };
    let plain = bytes.len();
    if gzip || plain > MOST {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let packed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
        bytes = packed.map_err(|error| format!("failed to pack it: {error}"))?;
    }
    let length = bytes.len();
    if length > MOST {
        return Err(format!(
            "it is {length} bytes even when it is packed, and EC2 takes {MOST}; move values to SSM, or fields to the image"
        ));
    }
    let said = if length == plain {
        format!("{plain} of {MOST} bytes")
    } else {
        format!("{plain} bytes, packed {length} of {MOST}")
    };
    Ok((if encode { base64::encode(bytes).into_bytes() } else { bytes }, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "environment: prod\nrole: web\nsecrets: { db: { secretsmanager: acme/db } }\n";

    #[test]
    fn its_length_and_its_calls_are_told() {
        let config = Config::parse("user-data", TEXT.as_bytes()).expect("valid");
        insta::assert_snapshot!(validated(&config, TEXT.as_bytes()), @"
        valid: prod/web, 73 of 16384 bytes
          secretsmanager:GetSecretValue    acme/db
        1 API calls for each boot
        ");
        let long = validated(&config, &vec![b'#'; 20_000]);
        assert!(long.contains("20000 bytes, more than the 16384 that EC2 takes"), "{long}");
    }

    #[test]
    fn what_is_packed_is_read_again() {
        let (bytes, said) = packed(TEXT.as_bytes(), false, false).expect("short");
        assert_eq!(bytes, [FIRST_LINE, TEXT.as_bytes()].concat());
        assert_eq!(said, "110 of 16384 bytes");
        let long = format!("{TEXT}# {}\n", "a comment ".repeat(2000));
        for encode in [false, true] {
            let (bytes, said) = packed(long.as_bytes(), false, encode).expect("packed");
            assert!(said.starts_with("20113 bytes, packed ") && bytes.len() < 1000, "{said}");
            assert_eq!(decode(bytes).expect("text"), [FIRST_LINE, long.as_bytes()].concat());
        }
        let noise: String = (0_u64..20_000)
            .map(|number| format!("{:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        let error = packed(noise.as_bytes(), false, false).expect_err("too long");
        assert!(error.contains("even when it is packed"), "{error}");
        let signed = b"#!/usr/local/bin/bootstrap-agent run\nenvironment: prod\n";
        assert_eq!(packed(signed, false, false).expect("short").0, signed, "what is signed stays as it is");
    }
}
