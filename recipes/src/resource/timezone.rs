//! `timezone`: the local time of the host.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::{Contents, plan_link};
use super::edit::default_attributes;
use super::near::near;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Content, Op};
use crate::system::{EntryKind, Facts, Known, PlanError, led_to};

/// The time zone of the host: the link `/etc/localtime`, see localtime(5), and on Debian and its
/// descendants the name in `/etc/timezone`.
///
/// The zone must be there: the package `tzdata` brings them. Programs that run keep the zone they were
/// started with; `notify` a handler that restarts those that matter.
///
/// ```yaml
/// - timezone: { name: Europe/Berlin }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Timezone {
    /// The name of the zone: a path below `/usr/share/zoneinfo`, such as `Etc/UTC`.
    name: String,
}

#[derive(Debug)]
struct Resolved {
    name: String,
}

const LINK: &str = "/etc/localtime";
const NAME: &str = "/etc/timezone";
const ZONES: &str = "/usr/share/zoneinfo";

impl Fields for Timezone {
    const KIND: &'static str = "timezone";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        // The characters that systemd takes (timezone_is_valid in src/basic/time-util.c).
        let is_part = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_+".contains(c))
        };
        if !self.name.split('/').all(is_part) {
            return Err(Problem::new(format!(
                "`{}` is not the name of a time zone",
                self.name.escape_debug()
            ))
            .help("names are such as `Europe/Berlin` and `Etc/UTC`; `timedatectl list-timezones` has all"));
        }
        Ok(Box::new(Resolved { name: self.name }))
    }
}

impl Resolved {
    /// A link to a zone that is not there would silently be UTC.
    fn exists(&self, facts: &dyn Facts) -> Result<(), PlanError> {
        let path = Path::new(ZONES).join(&self.name);
        match facts.entry(&path)?.known()?.map(|entry| entry.kind) {
            Some(EntryKind::File | EntryKind::Symlink { .. }) => return Ok(()),
            Some(EntryKind::Directory) => {
                let message = format!("`{}` is a folder of time zones", self.name);
                return Err(PlanError::impossible_but(message, advice(&self.name, &zones(facts)?)));
            }
            _ => {}
        }
        let zones = zones(facts)?;
        if zones.is_empty() {
            return Err(PlanError::impossible_but(
                format!("there are no time zones in `{ZONES}`"),
                "put a `package: { name: tzdata }` before it",
            ));
        }
        let message = format!("there is no time zone `{}`", self.name);
        Err(PlanError::impossible_but(message, advice(&self.name, &zones)))
    }

    /// The link as it is if it leads to the zone already, from the root or not, else as timedatectl makes it.
    fn target(&self, facts: &dyn Facts) -> Result<PathBuf, PlanError> {
        let zone = Path::new(ZONES).join(&self.name);
        if let Some(entry) = facts.entry(Path::new(LINK))?.known()?
            && let EntryKind::Symlink { target } = entry.kind
            && led_to(Path::new(LINK), &target) == zone
        {
            return Ok(target);
        }
        Ok(Path::new("..").join(zone.strip_prefix("/").unwrap_or(&zone)))
    }
}

/// The names of all zones. The folders whose names are lower-case have them again, with leap seconds.
fn zones(facts: &dyn Facts) -> Result<Vec<String>, PlanError> {
    let mut zones = Vec::new();
    let mut folders = vec![PathBuf::from(ZONES)];
    while let Some(folder) = folders.pop() {
        let Known::Yes(names) = facts.names(&folder)? else { continue };
        for name in names.iter().filter(|name| name.starts_with(|first: char| first.is_ascii_uppercase())) {
            let path = folder.join(name);
            match facts.entry(&path)? {
                Known::Yes(Some(entry)) if entry.kind == EntryKind::Directory => folders.push(path),
                _ => zones
                    .extend(path.strip_prefix(ZONES).ok().map(|path| path.to_string_lossy().into_owned())),
            }
        }
    }
    Ok(zones)
}

/// The zones that may be meant.
fn advice(name: &str, zones: &[String]) -> String {
    near(name, zones.iter().map(String::as_str))
        .unwrap_or_else(|| "`timedatectl list-timezones` has all names".into())
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.name.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Path(LINK.into()), Claim::Path(NAME.into())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        self.exists(facts)?;
        let mut ops = plan_link(facts, Path::new(LINK), &self.target(facts)?)?;
        if facts.host().os.family == "debian" {
            let name = Contents {
                path: NAME.into(),
                content: Content::new(format!("{}\n", self.name)),
                attributes: default_attributes(),
                validate: None,
            };
            ops.extend(name.plan(facts)?);
        }
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;
    use crate::system::{Host, Os};
    use crate::testing::Example;

    fn with_zones(mut fake: Fake) -> Fake {
        fake.directory("/usr/share");
        for folder in ["", "/Etc", "/Europe", "/America", "/America/Argentina", "/right"] {
            fake.directory(&format!("{ZONES}{folder}"));
        }
        for zone in ["UTC", "Etc/UTC", "Europe/Berlin", "Europe/Bern", "America/Argentina/Salta", "right/UTC"]
        {
            fake.file(&format!("{ZONES}/{zone}"), "TZif");
        }
        fake.file(&format!("{ZONES}/tzdata.zi"), "");
        fake
    }

    fn zone(name: &str) -> Example {
        Example::resources(&format!("- timezone: {{ name: {name} }}"))
    }

    #[test]
    fn settles_from_nothing_and_from_another_zone() {
        let mut fake = with_zones(Fake::debian());
        insta::assert_snapshot!(zone("Europe/Berlin").settles(&mut fake), @"
        example: timezone Europe/Berlin
          + link /etc/localtime -> ../usr/share/zoneinfo/Europe/Berlin
          + create /etc/timezone (root:root 0644, 14 bytes)
              --- /dev/null
              +++ /etc/timezone
              @@ -0,0 +1 @@
              +Europe/Berlin
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(zone("Etc/UTC").settles(&mut fake), @"
        example: timezone Etc/UTC
          ~ link /etc/localtime -> ../usr/share/zoneinfo/Etc/UTC (was ../usr/share/zoneinfo/Europe/Berlin)
          ~ change /etc/timezone
              --- /etc/timezone
              +++ /etc/timezone
              @@ -1 +1 @@
              -Europe/Berlin
              +Etc/UTC
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn a_link_that_leads_there_stays_however_it_is_written() {
        let mut fake = with_zones(Fake::debian());
        fake.symlink(LINK, "/usr/share/zoneinfo/Etc/UTC");
        fake.file(NAME, "Etc/UTC\n");
        zone("Etc/UTC").settles(&mut fake);
        assert!(fake.performed.is_empty());
    }

    #[test]
    fn only_debian_has_the_name_in_a_file() {
        let os = Os { id: "amzn".into(), family: "fedora".into(), ..Fake::debian().host().os.clone() };
        let mut fake = with_zones(Fake::with_host(Host { os, ..Fake::debian().host().clone() }));
        zone("America/Argentina/Salta").settles(&mut fake);
        assert!(matches!(&fake.performed[..], [Op::CreateSymlink { .. }]));
    }

    #[test]
    fn a_zone_that_is_not_there_has_neighbours() {
        let mut fake = with_zones(Fake::debian());
        insta::assert_snapshot!(zone("Europe/Berlim").fails(&mut fake), @"example: timezone Europe/Berlim: there is no time zone `Europe/Berlim`; did you mean `Europe/Berlin` or `Europe/Bern`?");
        insta::assert_snapshot!(zone("berlin").fails(&mut fake), @"example: timezone berlin: there is no time zone `berlin`; did you mean `Europe/Berlin` or `Europe/Bern`?");
        insta::assert_snapshot!(zone("utc").fails(&mut fake), @"example: timezone utc: there is no time zone `utc`; did you mean `Etc/UTC` or `UTC`?");
        insta::assert_snapshot!(zone("America/Argentina").fails(&mut fake), @"example: timezone America/Argentina: `America/Argentina` is a folder of time zones; did you mean `America/Argentina/Salta`?");
        insta::assert_snapshot!(zone("Atlantis").fails(&mut fake), @"example: timezone Atlantis: there is no time zone `Atlantis`; `timedatectl list-timezones` has all names");
        insta::assert_snapshot!(zone("Etc/UTC").fails(&mut Fake::debian()), @"example: timezone Etc/UTC: there are no time zones in `/usr/share/zoneinfo`; put a `package: { name: tzdata }` before it");
    }

    #[test]
    fn zones_that_a_package_will_bring_are_unknown() {
        let mut fake = Fake::debian();
        let bring = ["/usr/share", ZONES].map(|path| Op::CreateDirectory {
            path: path.into(),
            attributes: crate::system::Attributes { mode: 0o755, ..default_attributes() },
        });
        let file = crate::op::WriteFile {
            path: Path::new(ZONES).join("UTC"),
            content: Content::new("TZif"),
            attributes: default_attributes(),
            validate: None,
            before: crate::op::Before::Absent,
        };
        fake.package_brings("tzdata", bring.into_iter().chain([Op::WriteFile(file)]).collect());
        let example = Example::resources("- package: { name: tzdata }\n- timezone: { name: UTC }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: package tzdata
          + install tzdata
        example: timezone UTC (assumed)
          ? known after apply: whether installing tzdata brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn wrong_names_and_contradictions_are_explained() {
        insta::assert_snapshot!(zone("/usr/share/zoneinfo/UTC").problems(), @"example/recipe.yaml:2:15: `/usr/share/zoneinfo/UTC` is not the name of a time zone; names are such as `Europe/Berlin` and `Etc/UTC`; `timedatectl list-timezones` has all");
        insta::assert_snapshot!(zone("../UTC").problems(), @"example/recipe.yaml:2:15: `../UTC` is not the name of a time zone; names are such as `Europe/Berlin` and `Etc/UTC`; `timedatectl list-timezones` has all");
        let twice = "- timezone: { name: UTC }\n- symlink: { path: /etc/localtime, target: /x }";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"example/recipe.yaml:3:5: the path `/etc/localtime` is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
