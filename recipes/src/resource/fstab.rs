//! Entries of `/etc/fstab`, see fstab(5).

use std::fmt::Write;

use crate::error::{Problem, did_you_mean};

/// The tags that mount(8) finds devices by.
const TAGS: [&str; 5] = ["UUID", "LABEL", "PARTUUID", "PARTLABEL", "ID"];

/// The six fields of an entry, as they are meant, not as they are escaped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) device: String,
    pub(super) path: String,
    pub(super) fstype: String,
    pub(super) options: String,
    pub(super) dump: u8,
    pub(super) pass: u8,
}

impl Entry {
    /// What a line says; none for comments and for what is not an entry.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split([' ', '\t', '\r']).filter(|field| !field.is_empty());
        let device = fields.next().filter(|device| !device.starts_with('#'))?;
        let path = unescape(fields.next()?);
        let number = |field: Option<&str>| field.and_then(|field| field.parse().ok()).unwrap_or(0);
        Some(Self {
            device: unescape(device),
            path: if path == "/" { path } else { path.trim_end_matches('/').to_owned() },
            fstype: unescape(fields.next()?),
            options: fields.next().map_or_else(|| "defaults".into(), unescape),
            dump: number(fields.next()),
            pass: number(fields.next()),
        })
    }

    pub(super) fn line(&self) -> String {
        let Self { device, path, fstype, options, dump, pass } = self;
        let fields = [device, path, fstype, options].map(|field| escape(field));
        format!("{} {dump} {pass}", fields.join(" "))
    }
}

/// fstab(5) ends fields at blanks and begins comments with `#`; these are written as octal numbers.
fn escape(field: &str) -> String {
    field.chars().enumerate().fold(String::new(), |mut text, (at, c)| {
        match c {
            ' ' | '\t' | '\\' => {
                let _ = write!(text, "\\{:03o}", u32::from(c));
            }
            '#' if at == 0 => text.push_str("\\043"),
            _ => text.push(c),
        }
        text
    })
}

fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[3..]);
            }
            None => bytes.extend([b"\\", part.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether something can be mounted that is called so.
pub(super) fn check_device(device: &str) -> Result<(), Problem> {
    one_line("device", device)?;
    if device.is_empty() {
        return Err(Problem::new("`device` is empty"));
    }
    if let Some((tag, value)) = device.split_once('=')
        && !tag.contains('/')
    {
        if !TAGS.contains(&tag) {
            let message = format!("`{tag}` is not a tag that devices are found by");
            return Err(Problem::new(message).help(did_you_mean(tag, &TAGS)));
        }
        if value.is_empty() {
            return Err(Problem::new(format!("`{device}` names no device: nothing is behind `=`")));
        }
    }
    Ok(())
}

/// Whether it is one element of a list of options.
pub(super) fn check_option(option: &str) -> Result<(), Problem> {
    one_line("options", option)?;
    // A comma separates options, but in quotes it belongs to the value, as in SELinux contexts (mount(8)).
    let separates = |(quoted, found): (bool, bool), c| match c {
        '"' => (!quoted, found),
        ',' => (quoted, found || !quoted),
        _ => (quoted, found),
    };
    let (open, separated) = option.chars().fold((false, false), separates);
    if option.is_empty() || open || separated {
        return Err(Problem::new(format!("`{option}` is not one mount option"))
            .help("write each as an element of the list: `options: [noatime, nofail]`"));
    }
    Ok(())
}

/// Whether a field stays on its line.
pub(super) fn one_line(field: &str, text: &str) -> Result<(), Problem> {
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return Err(Problem::new(format!("`{field}` has a line end or another control character in it")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let entry = Entry {
            device: "#a\\b c".into(),
            path: "/srv/my\tdata".into(),
            fstype: "none".into(),
            options: "bind,x=\"a,b\"".into(),
            dump: 1,
            pass: 2,
        };
        assert_eq!(entry.line(), "\\043a\\134b\\040c /srv/my\\011data none bind,x=\"a,b\" 1 2");
        assert_eq!(Entry::parse(&entry.line()), Some(entry));
    }

    #[test]
    fn fields_that_are_left_out_have_values_and_what_is_no_entry_is_none() {
        let entry = Entry::parse(" UUID=1 \t /srv/\text4").expect("an entry");
        assert_eq!(entry.line(), "UUID=1 /srv ext4 defaults 0 0");
        assert_eq!(Entry::parse("UUID=1 / ext4 ro 0 1\r").map(|entry| entry.pass), Some(1));
        for line in ["", "  # UUID=1 / ext4", "UUID=1", "UUID=1 /"] {
            assert_eq!(Entry::parse(line), None, "{line}");
        }
        assert_eq!(unescape("a\\04\\999\\"), "a\\04\\999\\");
    }
}
