//! Systemd units as their files tell: whether one exists, and whether it is started at boot.
//!
//! Everything here is read through [`Facts`], so it is the same for a host, a tree that is not booted,
//! and a host that is only simulated, and it needs no process. See systemd.unit(5).

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{EntryKind, Facts, Known, Reading, led_to};

/// What is known of a unit from its files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// Whether there is a unit file.
    pub exists: bool,
    /// Whether it is started at boot.
    pub enablement: Enablement,
}

/// Whether a unit is started at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enablement {
    /// All links that its `[Install]` section asks for exist.
    Enabled,
    /// It has an `[Install]` section and is not, or not wholly, enabled.
    #[default]
    Disabled,
    /// It has no `[Install]` section: others pull it in, and it cannot be enabled.
    Static,
    /// It is linked to `/dev/null` and cannot be started at all.
    Masked,
}

/// Where units are looked for, first hit wins.
const SEARCH_PATH: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Where `systemctl enable` puts its links.
const LINKS: &str = "/etc/systemd/system";

/// The whole name of a unit: `nginx` is `nginx.service`.
pub fn full_name(name: &str) -> String {
    const SUFFIXES: [&str; 8] =
        ["service", "socket", "timer", "path", "mount", "target", "slice", "automount"];
    match name.rsplit_once('.') {
        Some((_, suffix)) if SUFFIXES.contains(&suffix) => name.to_owned(),
        _ => format!("{name}.service"),
    }
}

/// The name of the unit that is for a path, such as `srv-data.mount` for `/srv/data` (systemd.unit(5),
/// "String escaping").
pub fn unit_of_path(path: &Path, suffix: &str) -> String {
    let path = path.to_string_lossy();
    let inner = path.trim_matches('/');
    if inner.is_empty() {
        return format!("-.{suffix}");
    }
    let mut name = String::new();
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b':' | b'_' => name.push(byte.into()),
            b'.' if at > 0 => name.push('.'),
            _ if byte.is_ascii_alphanumeric() => name.push(byte.into()),
            _ => {
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    format!("{name}.{suffix}")
}

/// The template of an instance: `app@blue.service` is one of `app@.service`.
pub(crate) fn template_of(name: &str) -> Option<String> {
    let (prefix, instance) = name.split_once('@')?;
    let (_, suffix) = instance.rsplit_once('.')?;
    Some(format!("{prefix}@.{suffix}"))
}

/// Looks a unit up.
pub fn unit(facts: &dyn Facts, name: &str) -> Reading<Unit> {
    let (file, text) = match find(facts, name)? {
        Known::Unknown(why) => return Ok(Known::Unknown(why)),
        Known::Yes(Found::Nothing) => return Ok(Known::Yes(Unit::default())),
        Known::Yes(Found::Masked) => {
            return Ok(Known::Yes(Unit { exists: true, enablement: Enablement::Masked }));
        }
        Known::Yes(Found::InitScript { enabled }) => {
            let enablement = if enabled { Enablement::Enabled } else { Enablement::Disabled };
            return Ok(Known::Yes(Unit { exists: true, enablement }));
        }
        Known::Yes(Found::File { name, text }) => (name, text),
    };
    let links = links(&file, &text);
    let mut enablement = if links.is_empty() { Enablement::Static } else { Enablement::Enabled };
    for link in links {
        match facts.entry(&link)? {
            Known::Yes(Some(entry)) if matches!(entry.kind, EntryKind::Symlink { .. }) => {}
            Known::Yes(_) => enablement = Enablement::Disabled,
            Known::Unknown(why) => return Ok(Known::Unknown(why)),
        }
    }
    Ok(Known::Yes(Unit { exists: true, enablement }))
}

/// The links that `systemctl enable` makes for a unit that can be enabled; none for any other.
pub(crate) fn enable_links(facts: &dyn Facts, name: &str) -> Vec<PathBuf> {
    match find(facts, name) {
        Ok(Known::Yes(Found::File { name, text })) => links(&name, &text),
        _ => Vec::new(),
    }
}

/// What is in the file of a unit, if it has one.
pub(crate) fn text_of(facts: &dyn Facts, name: &str) -> Option<String> {
    match find(facts, name) {
        Ok(Known::Yes(Found::File { text, .. })) => Some(text),
        _ => None,
    }
}

enum Found {
    Nothing,
    Masked,
    /// An init script that systemd wraps into a unit.
    InitScript {
        enabled: bool,
    },
    /// A unit file; its name differs from what was looked for where that is an alias.
    File {
        name: String,
        text: String,
    },
}

fn find(facts: &dyn Facts, name: &str) -> Reading<Found> {
    for candidate in [Some(name.to_owned()), template_of(name)].into_iter().flatten() {
        for directory in SEARCH_PATH {
            let path = Path::new(directory).join(&candidate);
            let entry = match facts.entry(&path)? {
                Known::Unknown(why) => return Ok(Known::Unknown(why)),
                Known::Yes(None) => continue,
                Known::Yes(Some(entry)) => entry,
            };
            let (file, name) = match entry.kind {
                EntryKind::File => (path, name.to_owned()),
                EntryKind::Symlink { target } if target == Path::new("/dev/null") => {
                    return Ok(Known::Yes(Found::Masked));
                }
                EntryKind::Symlink { target } => {
                    let real = target.file_name().map_or(name, |name| name.to_str().unwrap_or_default());
                    // An alias links to the unit it stands for; a unit linked from elsewhere keeps its name.
                    let name = if candidate == name { real.to_owned() } else { name.to_owned() };
                    (led_to(&path, &target), name)
                }
                _ => continue,
            };
            return Ok(facts.content(&file)?.map(|content| match content {
                Some(bytes) => Found::File { name, text: String::from_utf8_lossy(&bytes).into_owned() },
                None => Found::Nothing,
            }));
        }
    }
    init_script(facts, name)
}

/// Debian's packages that still bring an init script and no unit.
fn init_script(facts: &dyn Facts, name: &str) -> Reading<Found> {
    let Some(script) = name.strip_suffix(".service") else { return Ok(Known::Yes(Found::Nothing)) };
    match facts.entry(&Path::new("/etc/init.d").join(script))? {
        Known::Unknown(why) => Ok(Known::Unknown(why)),
        Known::Yes(None) => Ok(Known::Yes(Found::Nothing)),
        Known::Yes(Some(_)) => Ok(facts.names(Path::new("/etc/rc2.d"))?.map(|names| {
            let is_start_link = |link: &str| link.starts_with('S') && link.get(3..) == Some(script);
            Found::InitScript { enabled: names.iter().any(|link| is_start_link(link)) }
        })),
    }
}

/// The links that the `[Install]` section of a unit file asks for.
fn links(name: &str, text: &str) -> Vec<PathBuf> {
    let mut links = Vec::new();
    let mut in_install = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_install = line == "[Install]";
        }
        let Some((key, values)) = line.split_once('=').filter(|_| in_install) else { continue };
        // A value with a specifier depends on the instance; systemctl knows, we need not.
        for value in values.split_whitespace().filter(|value| !value.contains('%')) {
            match key.trim() {
                "WantedBy" => links.push(format!("{LINKS}/{value}.wants/{name}")),
                "RequiredBy" => links.push(format!("{LINKS}/{value}.requires/{name}")),
                "UpheldBy" => links.push(format!("{LINKS}/{value}.upholds/{name}")),
                "Alias" if value != name => links.push(format!("{LINKS}/{value}")),
                _ => {}
            }
        }
    }
    links.into_iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;

    fn look(fake: &Fake, name: &str) -> Unit {
        unit(fake, name).expect("readable").known().expect("known")
    }

    const NGINX: &str = "[Unit]\nDescription=web\n[Install]\nWantedBy=multi-user.target\nAlias=web.service\n";

    #[test]
    fn a_unit_is_enabled_when_all_its_links_exist() {
        let mut fake = Fake::debian();
        fake.file("/lib/systemd/system/nginx.service", NGINX);
        assert_eq!(look(&fake, "nginx.service").enablement, Enablement::Disabled);
        fake.symlink(
            "/etc/systemd/system/multi-user.target.wants/nginx.service",
            "/lib/systemd/system/nginx.service",
        );
        assert_eq!(look(&fake, "nginx.service").enablement, Enablement::Disabled);
        fake.symlink("/etc/systemd/system/web.service", "/lib/systemd/system/nginx.service");
        assert_eq!(look(&fake, "nginx.service").enablement, Enablement::Enabled);
        assert_eq!(look(&fake, "web.service").enablement, Enablement::Enabled, "an alias is its unit");
    }

    #[test]
    fn units_that_are_masked_static_or_missing_say_so() {
        let mut fake = Fake::debian();
        fake.file("/lib/systemd/system/nginx.service", NGINX);
        fake.symlink("/etc/systemd/system/nginx.service", "/dev/null");
        assert_eq!(look(&fake, "nginx.service").enablement, Enablement::Masked);
        fake.file("/usr/lib/systemd/system/helper.service", "[Service]\nExecStart=true\n");
        assert_eq!(look(&fake, "helper.service").enablement, Enablement::Static);
        assert!(!look(&fake, "nothing.service").exists);
    }

    #[test]
    fn instances_and_init_scripts_are_units_too() {
        let mut fake = Fake::debian();
        fake.file("/etc/systemd/system/app@.service", "[Install]\nWantedBy=multi-user.target\n");
        fake.symlink("/etc/systemd/system/multi-user.target.wants/app@blue.service", "../app@.service");
        assert_eq!(look(&fake, "app@blue.service").enablement, Enablement::Enabled);
        assert_eq!(look(&fake, "app@green.service").enablement, Enablement::Disabled);
        fake.file("/etc/init.d/old", "#!/bin/sh\n");
        assert_eq!(look(&fake, "old.service").enablement, Enablement::Disabled);
        fake.symlink("/etc/rc2.d/S01old", "../init.d/old");
        assert_eq!(look(&fake, "old.service").enablement, Enablement::Enabled);
    }

    #[test]
    fn a_name_without_a_suffix_is_a_service() {
        assert_eq!(full_name("nginx"), "nginx.service");
        assert_eq!(full_name("apt-daily.timer"), "apt-daily.timer");
        assert_eq!(full_name("php8.2-fpm"), "php8.2-fpm.service");
    }

    #[test]
    fn units_are_named_as_systemd_names_them() {
        // As `systemd-escape --path --suffix=mount` prints them.
        for (path, name) in [
            ("/", "-.mount"),
            ("/srv/data", "srv-data.mount"),
            ("/.a/b c", "\\x2ea-b\\x20c.mount"),
            ("/a/.b", "a-.b.mount"),
        ] {
            assert_eq!(unit_of_path(Path::new(path), "mount"), name);
        }
    }
}
