//! `systemd_unit`: a unit file, or a drop-in of one.

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{PartName, State};
use super::part::Part;
use super::sections::{self, Sections};
use super::{Context, Fields, Resource};
use crate::error::Problem;
use crate::words::Words;

/// A unit file in `/etc/systemd/system`, or with `drop_in` a file that adds to a unit of somebody else.
///
/// Its text is given as `sections`, in place as `content`, or as a file of the recipe. A key with a list
/// is written once for each value; `""` resets what the unit had before. Sections that this type of unit
/// does not have are an error. Systemd reads its units again before the next one is started. Whether the
/// unit is enabled and runs is for a `service`; before a unit is removed, one should stop and disable it.
///
/// What `systemd-analyze verify` says can be asked for with `validate`. It looks for the unit's programs,
/// so put them in place before, and needs the unit's name after a colon, which systemd 250 brought.
///
/// ```yaml
/// - systemd_unit:
///     name: app.service
///     sections:
///       Unit: { Description: The application, After: network-online.target }
///       Service: { ExecStart: /usr/bin/app, User: app, Environment: ["A=1", "B=2"] }
///       Install: { WantedBy: multi-user.target }
///     validate: "systemd-analyze verify --recursive-errors=no {file}:app.service"
/// - systemd_unit:
///     name: nginx.service
///     drop_in: 10-limits
///     content: |
///       [Service]
///       LimitNOFILE=65536
/// - systemd_unit: { name: old.timer, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemdUnit {
    /// The unit's whole name. It ends in `.service`, `.timer`, `.socket`, `.path`, `.mount`, `.automount`,
    /// `.target` or `.slice`.
    name: String,
    /// The name of a drop-in, such as `10-limits`: letters, digits, `-` and `_`. Without it, this is the
    /// unit itself.
    drop_in: Option<PartName>,
    /// The text of the file.
    content: Option<String>,
    /// The file in the recipe's `files/` that it is a copy of.
    source: Option<String>,
    /// The text as data: sections, their keys, and for each key a value or a list of values.
    sections: Option<Sections>,
    /// A command that must accept the new file, as `{file}`, before it is put in place.
    // There is no default: all files of a boot are checked before any is in place, and a unit whose
    // program is one of them would be refused.
    validate: Option<Words>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

/// The types of units that are files, and the section that each has besides `Unit` and `Install`
/// (systemd.unit(5)); a target has none of its own (systemd.target(5)).
const TYPES: [(&str, Option<&str>); 8] = [
    ("service", Some("Service")),
    ("timer", Some("Timer")),
    ("socket", Some("Socket")),
    ("path", Some("Path")),
    ("mount", Some("Mount")),
    ("automount", Some("Automount")),
    ("target", None),
    ("slice", Some("Slice")),
];

const FOLDER: &str = "/etc/systemd/system";

impl Fields for SystemdUnit {
    const KIND: &'static str = "systemd_unit";

    fn build(self, context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let own_section = check_name(&self.name)?;
        let text = match (self.content, self.source, self.sections) {
            (None, None, None) => None,
            (Some(text), None, None) => Some(text),
            (None, Some(source), None) => {
                let content = context.file(&source)?;
                let text = std::str::from_utf8(content.bytes());
                Some(text.map_err(|_| Problem::new(format!("`files/{source}` is not text")))?.to_owned())
            }
            (None, None, Some(sections)) => Some(sections::text(&sections)?),
            _ => return Err(Problem::new("a `systemd_unit` has one of `content`, `source` and `sections`")),
        };
        match &text {
            Some(text) => {
                let known: Vec<&str> = ["Unit"].into_iter().chain(own_section).chain(["Install"]).collect();
                sections::check(text, &self.name, &known)?;
            }
            None if self.state == State::Present => {
                return Err(Problem::new("a `systemd_unit` needs `content`, `source` or `sections`"));
            }
            None => {}
        }
        let part = match self.drop_in {
            None => Part::new(FOLDER, &self.name),
            Some(drop_in) => Part::new(&format!("{FOLDER}/{}.d", self.name), &format!("{}.conf", drop_in.0)),
        };
        let validate = self.validate.map(|words| words.0);
        Ok(Box::new(Part { validate, ..part }.with(self.state, text)?))
    }
}

/// The section that units of this type have of their own.
fn check_name(name: &str) -> Result<Option<&'static str>, Problem> {
    // systemd.unit(5): letters, digits and these, 255 characters with the suffix.
    let valid = name.len() <= 255 && name.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c));
    let suffix = name.rsplit_once('.').filter(|(prefix, _)| valid && !prefix.is_empty());
    let suffix = suffix.map_or("", |(_, suffix)| suffix);
    TYPES.iter().find(|(known, _)| *known == suffix).map(|(_, section)| *section).ok_or_else(|| {
        let known: Vec<String> = TYPES.iter().map(|(suffix, _)| format!("`.{suffix}`")).collect();
        Problem::new(format!("`{name}` is not the whole name of a unit"))
            .help(format!("it is letters, digits, `:-_.\\@`, and ends in one of {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use crate::op::Op;
    use crate::system::Facts;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn debian() -> Fake {
        let mut fake = Fake::debian();
        fake.directory("/etc/systemd/system");
        fake
    }

    fn unit(fields: &str) -> Example {
        Example::resources(&format!("- systemd_unit: {{ name: app.service, {fields} }}"))
    }

    #[test]
    fn settles_from_sections_changed_and_gone() {
        let mut fake = debian();
        let sections = "sections: { Unit: { Description: App }, Service: { ExecStart: ['', /usr/bin/app], RemainAfterExit: true, TimeoutSec: 5 } }";
        insta::assert_snapshot!(unit(sections).settles(&mut fake), @"
        example: systemd_unit /etc/systemd/system/app.service
          + create /etc/systemd/system/app.service (root:root 0644, 101 bytes)
              --- /dev/null
              +++ /etc/systemd/system/app.service
              @@ -0,0 +1,8 @@
              +[Unit]
              +Description=App
              +
              +[Service]
              +ExecStart=
              +ExecStart=/usr/bin/app
              +RemainAfterExit=yes
              +TimeoutSec=5
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(unit("content: \"[Service]\\nExecStart=/usr/bin/app\\n\"").settles(&mut fake), @"
        example: systemd_unit /etc/systemd/system/app.service
          ~ change /etc/systemd/system/app.service
              --- /etc/systemd/system/app.service
              +++ /etc/systemd/system/app.service
              @@ -1,8 +1,2 @@
              -[Unit]
              -Description=App
              -
               [Service]
              -ExecStart=
               ExecStart=/usr/bin/app
              -RemainAfterExit=yes
              -TimeoutSec=5
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(unit("state: absent").settles(&mut fake), @"
        example: systemd_unit /etc/systemd/system/app.service
          - remove /etc/systemd/system/app.service
        Plan: 1 to change, 0 unchanged.
        ");
        unit("state: absent").settles(&mut fake);
    }

    #[test]
    fn settles_as_a_drop_in_of_a_unit_whose_folder_is_missing() {
        let mut fake = debian();
        insta::assert_snapshot!(unit("drop_in: 10-limits, sections: { Service: { LimitNOFILE: 65536 } }").settles(&mut fake), @"
        example: systemd_unit /etc/systemd/system/app.service.d/10-limits.conf
          + create the directory /etc/systemd/system/app.service.d (root:root 0755)
          + create /etc/systemd/system/app.service.d/10-limits.conf (root:root 0644, 28 bytes)
              --- /dev/null
              +++ /etc/systemd/system/app.service.d/10-limits.conf
              @@ -0,0 +1,2 @@
              +[Service]
              +LimitNOFILE=65536
        Plan: 1 to change, 0 unchanged.
        ");
        unit("drop_in: 10-limits, sections: { Service: { LimitNOFILE: 1024 } }").settles(&mut fake);
        assert_eq!(
            fake.text("/etc/systemd/system/app.service.d/10-limits.conf").expect("the file"),
            "[Service]\nLimitNOFILE=1024\n"
        );
        unit("drop_in: 10-limits, state: absent").settles(&mut fake);
        assert_eq!(fake.text("/etc/systemd/system/app.service.d/10-limits.conf"), None);
    }

    #[test]
    fn the_checker_gets_the_new_file() {
        let mut fake = debian();
        let example = Example::resources("- systemd_unit: { name: app.socket, source: app.socket, validate: 'systemd-analyze verify {file}:app.socket' }")
            .file("app.socket", "# a comment\n[Socket]\nListenStream=/run/a \\\n; another\n /run/b\n\n[X-Ours]\na=b");
        example.settles(&mut fake);
        let [Op::WriteFile(write)] = &fake.performed[..] else { panic!("{:?}", fake.performed) };
        assert_eq!(
            write.validate.as_deref().expect("a checker").join(" "),
            "systemd-analyze verify {file}:app.socket"
        );
    }

    #[test]
    fn a_unit_that_is_written_before_can_be_enabled() {
        let mut fake = debian();
        let resources = "
- systemd_unit: { name: app.service, sections: { Service: { ExecStart: /bin/app }, Install: { WantedBy: multi-user.target } } }
- service: { name: app, enabled: true, state: running }";
        Example::resources(resources).settles(&mut fake);
        assert_eq!(fake.performed.len(), 3);
    }

    #[test]
    fn a_unit_in_a_folder_that_a_package_may_bring_is_not_guessed() {
        let plan = Example::resources("- package: { name: app }\n- systemd_unit: { name: app.service, drop_in: a, sections: { Service: { Nice: 5 } } }")
            .plan(&Fake::debian())
            .expect("a plan");
        insta::assert_snapshot!(plan, @"
        example: package app
          + install app
        example: systemd_unit /etc/systemd/system/app.service.d/a.conf (assumed)
          ? create the directory /etc/systemd (root:root 0755), unless installing app brings it
          ? create the directory /etc/systemd/system (root:root 0755), unless installing app brings it
          ? create the directory /etc/systemd/system/app.service.d (root:root 0755), unless installing app brings it
          ? create /etc/systemd/system/app.service.d/a.conf (root:root 0644, 17 bytes), unless installing app brings it
              --- /dev/null
              +++ /etc/systemd/system/app.service.d/a.conf
              @@ -0,0 +1,2 @@
              +[Service]
              +Nice=5
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn what_contradicts_it_is_found() {
        let both = "- systemd_unit: { name: app.service, content: \"[Service]\\n\" }\n- service: { name: app, masked: true }";
        insta::assert_snapshot!(Example::resources(both).problems(), @"example/recipe.yaml:3:5: the path `/etc/systemd/system/app.service` is decided twice, differently (first here: example/recipe.yaml:2:5)");
        let twice = "- systemd_unit: { name: a.service, content: \"[Service]\\n\" }\n- file: { path: /etc/systemd/system/a.service, state: absent }";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"example/recipe.yaml:3:5: the path `/etc/systemd/system/a.service` is decided twice, differently (first here: example/recipe.yaml:2:5)");
        let one_unit = "- systemd_unit: { name: a.service, content: \"[Service]\\n\" }\n- systemd_unit: { name: a.service, drop_in: a, content: \"[Service]\\n\" }\n- service: { name: a, enabled: false }";
        Example::resources(one_unit).resolve(Fake::debian().host()).expect("no contradiction");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| unit(fields).problems();
        insta::assert_snapshot!(problems("drop_in: a"), @"example/recipe.yaml:2:19: a `systemd_unit` needs `content`, `source` or `sections`");
        insta::assert_snapshot!(problems("content: a, source: b"), @"example/recipe.yaml:2:19: a `systemd_unit` has one of `content`, `source` and `sections`");
        insta::assert_snapshot!(problems("content: \"[Service]\\n\", state: absent"), @"example/recipe.yaml:2:19: what shall be absent has only its `name` and `state: absent`");
        insta::assert_snapshot!(problems("content: \"[Sevice]\\n\""), @"example/recipe.yaml:2:19: `app.service` has no section `Sevice`; did you mean `Service`? valid are `Unit`, `Service` and `Install`");
        insta::assert_snapshot!(problems("sections: { Timer: { OnCalendar: daily } }"), @"example/recipe.yaml:2:19: `app.service` has no section `Timer`; valid are `Unit`, `Service` and `Install`");
        insta::assert_snapshot!(problems("content: \"ExecStart=/bin/app\\n\""), @"example/recipe.yaml:2:19: line 1 of `app.service` is in no section: `ExecStart=/bin/app`; a unit file starts with `[Unit]` or another section");
        insta::assert_snapshot!(problems("content: \"[Service]\\nExecStart\\n\""), @"example/recipe.yaml:2:19: line 2 of `app.service` is not a setting: `ExecStart`; settings are written `Key=value`");
        insta::assert_snapshot!(problems("content: \"# nothing\\n\""), @"example/recipe.yaml:2:19: `app.service` has no section");
        insta::assert_snapshot!(problems("sections: { Service: {} }"), @"example/recipe.yaml:2:19: the section `Service` has no settings");
        insta::assert_snapshot!(problems("sections: { Service: { 'Exec Start': a } }"), @"example/recipe.yaml:2:19: `Exec Start` is not the name of a setting; names of settings are letters and digits, such as `ExecStart`");
        insta::assert_snapshot!(problems("sections: { Service: { ExecStart: \"a\\nUser=root\" } }"), @"example/recipe.yaml:2:74: a value goes into one line; it has a line end or NUL in it");
        insta::assert_snapshot!(problems("sections: { Service: { ExecStart: 'a \\' } }"), @r#"example/recipe.yaml:2:74: a value ends in `\`, which would take in the line after it"#);
        insta::assert_snapshot!(problems("sections: { Service: { Environment: [] } }"), @r#"example/recipe.yaml:2:76: a setting has a value; to reset it write `""`"#);
        insta::assert_snapshot!(problems("sections: { Service: { CPUWeight: 1.5 } }"), @"example/recipe.yaml:2:74: expected a string, a whole number, `true` or `false`, or a list of them, found the number `1.5`");
        insta::assert_snapshot!(problems("sections: { Service: { Environment: [[a]] } }"), @"example/recipe.yaml:2:77: expected a string, a whole number, `true` or `false`, found a list");
        insta::assert_snapshot!(problems("drop_in: a.conf, content: \"[Service]\\n\""), @"example/recipe.yaml:2:19: `a.conf` is not a name for a file of settings: letters, digits, `-` and `_`, without a dot");
        insta::assert_snapshot!(Example::resources("- systemd_unit: { name: app, content: \"[Service]\\n\" }").problems(), @r#"example/recipe.yaml:2:19: `app` is not the whole name of a unit; it is letters, digits, `:-_.\@`, and ends in one of `.service`, `.timer`, `.socket`, `.path`, `.mount`, `.automount`, `.target`, `.slice`"#);
    }
}
