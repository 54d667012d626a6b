//! `locale`: the language and formats of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::Contents;
use super::edit::default_attributes;
use super::locales::{missing, plan_generated, stored_name};
use super::{Claim, Context, Fields, Resource};
use crate::error::{Problem, did_you_mean};
use crate::op::{Command, Content, Op};
use crate::system::{EntryKind, Facts, PlanError, led_to};

/// The language and formats of the host: the variables that logins and services start with, see locale(7)
/// and locale.conf(5). They are in `/etc/default/locale` on Debian and its descendants, which decides the
/// whole file, and in `/etc/locale.conf` elsewhere.
///
/// The locales have to be there. On Debian those that are missing are entered in `/etc/locale.gen` and
/// made by `locale-gen`, which the package `locales` brings; elsewhere a package has to bring them. `C`,
/// `POSIX` and `C.UTF-8` are always there.
///
/// ```yaml
/// - locale: { lang: C.UTF-8, variables: { LC_TIME: en_GB.UTF-8 }, generate: [fr_FR.UTF-8] }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Locale {
    /// What everything is in that `variables` does not say otherwise: `LANG`.
    lang: String,
    /// Locales for one purpose, such as `LC_TIME`, and `LANGUAGE` with a list of languages; none if not
    /// said.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// More locales that shall be there for programs to choose; none if not said.
    #[serde(default)]
    generate: Vec<String>,
}

#[derive(Debug)]
struct Resolved {
    variables: Vec<(String, String)>,
    /// Every locale that has to be there.
    locales: BTreeSet<String>,
}

const DEBIAN: &str = "/etc/default/locale";
const ELSEWHERE: &str = "/etc/locale.conf";

/// What locale.conf(5) may set besides `LANG`. `LC_ALL` is not among it: it would leave programs no choice.
const VARIABLES: [&str; 13] = [
    "LANGUAGE",
    "LC_CTYPE",
    "LC_NUMERIC",
    "LC_TIME",
    "LC_COLLATE",
    "LC_MONETARY",
    "LC_MESSAGES",
    "LC_PAPER",
    "LC_NAME",
    "LC_ADDRESS",
    "LC_TELEPHONE",
    "LC_MEASUREMENT",
    "LC_IDENTIFICATION",
];

impl Fields for Locale {
    const KIND: &'static str = "locale";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let mut locales = BTreeSet::from([self.lang.clone()]);
        for (name, value) in &self.variables {
            if !VARIABLES.contains(&name.as_str()) {
                return Err(Problem::new(format!("`{name}` is not a variable of a locale"))
                    .help(did_you_mean(name, &VARIABLES)));
            }
            if name == "LANGUAGE" {
                value.split(':').try_for_each(check_name)?;
            } else {
                locales.insert(value.clone());
            }
        }
        locales.extend(self.generate);
        locales.iter().try_for_each(|locale| check_name(locale))?;
        let variables = [("LANG".to_owned(), self.lang)].into_iter().chain(self.variables).collect();
        Ok(Box::new(Resolved { variables, locales }))
    }
}

/// `language_TERRITORY.codeset@modifier`, all but the language optional (setlocale(3)).
fn check_name(name: &str) -> Result<(), Problem> {
    let valid = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.@-".contains(c));
    if valid {
        return Ok(());
    }
    Err(Problem::new(format!("`{}` is not the name of a locale", name.escape_debug()))
        .help("names are such as `en_GB.UTF-8` and `C.UTF-8`"))
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.variables[0].1.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        // Locales that are generated do not get in each other's way: nobody asks for one not to be.
        vec![Claim::Path(DEBIAN.into()), Claim::Path(ELSEWHERE.into())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let is_debian = facts.host().os.family == "debian";
        let needed: Vec<&str> =
            self.locales.iter().map(String::as_str).filter(|name| stored_name(name).is_some()).collect();
        let missing = missing(facts, needed.iter().copied())?;
        let mut ops = Vec::new();
        if is_debian && !needed.is_empty() {
            ops.extend(plan_generated(facts, &needed, &missing)?);
        }
        if !missing.is_empty() && !is_debian {
            return Err(PlanError::impossible_but(
                format!("the host does not have the locale `{}`", missing.join("`, `")),
                "put a `package` before it that brings it, such as `glibc-langpack-de`",
            ));
        }
        if !missing.is_empty() {
            // It makes all that are listed, at some seconds each.
            let timeout = Duration::from_mins(15);
            ops.push(Op::Run(Command { timeout, ..Command::new(["locale-gen"]) }));
        }
        let lines = self.variables.iter().map(|(name, value)| format!("{name}={value}\n"));
        let variables = Contents {
            path: if is_debian { debian_file(facts)? } else { ELSEWHERE.into() },
            content: Content::new(lines.collect::<String>()),
            attributes: default_attributes(),
            validate: None,
        };
        ops.extend(variables.plan(facts)?);
        Ok(ops)
    }
}

/// Debian 13 has the file as a link to `/etc/locale.conf`, which stays one.
fn debian_file(facts: &dyn Facts) -> Result<PathBuf, PlanError> {
    match facts.entry(Path::new(DEBIAN))?.known()?.map(|entry| entry.kind) {
        Some(EntryKind::Symlink { target }) => Ok(led_to(Path::new(DEBIAN), &target)),
        _ => Ok(DEBIAN.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;
    use crate::system::{Attributes, Host, Os};
    use crate::testing::Example;

    const GERMAN: &str = "- locale: { lang: C.UTF-8, variables: { LC_TIME: de_DE.UTF-8 } }";

    fn with_locales(mut fake: Fake) -> Fake {
        fake.directory("/etc/default");
        fake.file("/usr/share/i18n/SUPPORTED", "de_DE.UTF-8 UTF-8\nde_DE ISO-8859-1\nen_GB.UTF-8 UTF-8\n");
        fake.file(
            "/etc/locale.gen",
            "# All.\n\n# de_DE ISO-8859-1\r\n# de_DE.UTF-8  UTF-8\r\n#\ten_GB.UTF-8 UTF-8",
        );
        let folder = |name: &str| Op::CreateDirectory {
            path: Path::new("/usr/lib/locale").join(name),
            attributes: Attributes { mode: 0o755, ..default_attributes() },
        };
        fake.command_makes(
            &["locale-gen"],
            vec![folder("de_DE.utf8"), folder("de_DE"), folder("en_GB.utf8")],
        );
        fake
    }

    #[test]
    fn settles_with_locales_that_are_generated_and_leaves_the_rest() {
        let mut fake = with_locales(Fake::debian());
        insta::assert_snapshot!(Example::resources(GERMAN).settles(&mut fake), @r"
        example: locale C.UTF-8
          ~ change /etc/locale.gen
              --- /etc/locale.gen
              +++ /etc/locale.gen
              @@ -1,5 +1,5 @@
               # All.
               
               # de_DE ISO-8859-1
              -# de_DE.UTF-8  UTF-8
              +de_DE.UTF-8 UTF-8
               #	en_GB.UTF-8 UTF-8
              \ No newline at end of file
          > run locale-gen
          + create /etc/default/locale (root:root 0644, 33 bytes)
              --- /dev/null
              +++ /etc/default/locale
              @@ -0,0 +1,2 @@
              +LANG=C.UTF-8
              +LC_TIME=de_DE.UTF-8
        Plan: 1 to change, 0 unchanged.
        ");
        Example::resources("- locale: { lang: en_GB.UTF-8, generate: [de_DE] }").settles(&mut fake);
        assert_eq!(
            fake.text("/etc/locale.gen").as_deref(),
            Some("# All.\n\nde_DE ISO-8859-1\r\nde_DE.UTF-8 UTF-8\r\nen_GB.UTF-8 UTF-8")
        );
        assert_eq!(fake.text("/etc/default/locale").as_deref(), Some("LANG=en_GB.UTF-8\n"));
        let runs = fake.performed.iter().filter(|op| matches!(op, Op::Run(_))).count();
        assert_eq!(runs, 1, "those that are there are not generated again");
    }

    #[test]
    fn what_is_built_in_needs_nothing_generated() {
        let mut fake = Fake::debian();
        fake.directory("/etc/default");
        fake.symlink("/etc/default/locale", "../locale.conf");
        insta::assert_snapshot!(Example::resources("- locale: { lang: C.UTF-8 }").settles(&mut fake), @"
        example: locale C.UTF-8
          + create /etc/locale.conf (root:root 0644, 13 bytes)
              --- /dev/null
              +++ /etc/locale.conf
              @@ -0,0 +1 @@
              +LANG=C.UTF-8
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn locales_that_a_package_brought_made_need_nothing_generated() {
        let mut fake = Fake::debian();
        fake.directory("/etc/default");
        fake.directory("/usr/lib/locale/de_DE.utf8");
        Example::resources(GERMAN).settles(&mut fake);
        assert!(matches!(&fake.performed[..], [Op::WriteFile(_)]));
    }

    #[test]
    fn elsewhere_a_package_brings_the_locale() {
        let os = Os { id: "amzn".into(), family: "fedora".into(), ..Fake::debian().host().os.clone() };
        let mut fake = Fake::with_host(Host { os, ..Fake::debian().host().clone() });
        insta::assert_snapshot!(Example::resources(GERMAN).fails(&mut fake), @"example: locale C.UTF-8: the host does not have the locale `de_DE.UTF-8`; put a `package` before it that brings it, such as `glibc-langpack-de`");
        fake.directory("/usr/lib/locale/de_DE.utf8");
        Example::resources(GERMAN).settles(&mut fake);
        assert_eq!(fake.text("/etc/locale.conf").as_deref(), Some("LANG=C.UTF-8\nLC_TIME=de_DE.UTF-8\n"));
    }

    #[test]
    fn a_locale_that_cannot_be_had_is_named() {
        let locale = |name: &str| Example::resources(&format!("- locale: {{ lang: {name} }}"));
        insta::assert_snapshot!(locale("de_DE.UTF-8").fails(&mut Fake::debian()), @"example: locale de_DE.UTF-8: the host cannot generate the locale `de_DE.UTF-8`; put a `package: { name: locales }` before it");
        let mut fake = with_locales(Fake::debian());
        insta::assert_snapshot!(locale("de_DE.utf8").fails(&mut fake), @"example: locale de_DE.utf8: there is no locale `de_DE.utf8`; did you mean `de_DE.UTF-8`?");
        insta::assert_snapshot!(locale("tlh_QO.UTF-8").fails(&mut fake), @"example: locale tlh_QO.UTF-8: there is no locale `tlh_QO.UTF-8`; `/usr/share/i18n/SUPPORTED` has all names");
    }

    #[test]
    fn locales_that_a_package_will_bring_are_unknown() {
        let example = Example::resources(&format!("- package: {{ name: locales }}\n{GERMAN}"));
        insta::assert_snapshot!(example.plan(&Fake::debian()).expect("a plan"), @"
        example: package locales
          + install locales
        example: locale C.UTF-8 (assumed)
          ? known after apply: whether installing locales brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn wrong_fields_and_contradictions_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- locale: {fields}")).problems();
        insta::assert_snapshot!(problems("{ lang: \"C\\nX=1\" }"), @r"example/recipe.yaml:2:13: `C\nX=1` is not the name of a locale; names are such as `en_GB.UTF-8` and `C.UTF-8`");
        insta::assert_snapshot!(problems("{ lang: C, variables: { LC_ALL: C } }"), @"example/recipe.yaml:2:13: `LC_ALL` is not a variable of a locale; valid are `LANGUAGE`, `LC_CTYPE`, `LC_NUMERIC`, `LC_TIME`, `LC_COLLATE`, `LC_MONETARY`, `LC_MESSAGES`, `LC_PAPER`, `LC_NAME`, `LC_ADDRESS`, `LC_TELEPHONE`, `LC_MEASUREMENT` and `LC_IDENTIFICATION`");
        insta::assert_snapshot!(problems("{ lang: C, variables: { LANGUAGE: 'de:' } }"), @"example/recipe.yaml:2:13: `` is not the name of a locale; names are such as `en_GB.UTF-8` and `C.UTF-8`");
        insta::assert_snapshot!(problems("{ lang: C, generate: ['../x'] }"), @"example/recipe.yaml:2:13: `../x` is not the name of a locale; names are such as `en_GB.UTF-8` and `C.UTF-8`");
        let twice = "- locale: { lang: C }\n- locale: { lang: C.UTF-8 }\n- line: { path: /etc/default/locale, line: LANG=C }";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"
        example/recipe.yaml:3:5: the path `/etc/default/locale` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:3:5: the path `/etc/locale.conf` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:4:5: the line `LANG=C` of `/etc/default/locale` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:2:5); put it where the file is decided
        ");
    }
}
