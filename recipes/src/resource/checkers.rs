//! The checkers of well-known files: what `validate` is where a recipe does not say.
//!
//! A checker is here only if it judges a file by itself. `logrotate --debug` wants every log to be there,
//! `systemd-analyze verify` every program of a unit, and `nginx -t` every file of the site and every name that it
//! resolves: on a builder, or among files that are put in place together, they would refuse what is valid. Of what
//! `findmnt --verify` finds only the lines count that it cannot read: it wants the devices to be there as well.

use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use crate::system::{Facts, Known, PlanError};
use crate::words::Words;

/// A command that must accept a new file. An empty one accepts every file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validate(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Validate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValidateVisitor;
        impl<'de> Visitor<'de> for ValidateVisitor {
            type Value = Validate;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a command: a list of words, or a string; or `false` for none")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Validate, E> {
                if value {
                    Err(E::invalid_type(de::Unexpected::Bool(value), &self))
                } else {
                    Ok(Validate(Vec::new()))
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Validate, E> {
                let words = Words::deserialize(de::value::StrDeserializer::new(text))?;
                Ok(Validate(words.0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Validate, A::Error> {
                let words = Words::deserialize(de::value::SeqAccessDeserializer::new(access))?;
                Ok(Validate(words.0))
            }
        }
        deserializer.deserialize_any(ValidateVisitor)
    }
}

/// A program that knows whether some files are valid.
struct Checker {
    /// Files; `*` stands for any beginning of a name.
    files: &'static [&'static str],
    /// The program and its arguments.
    argv: &'static [&'static str],
    /// What it needs besides; without it, it refuses every file.
    needs: &'static [&'static str],
}

const CHECKERS: &[Checker] = &[
    Checker {
        files: &["/etc/sudoers", "/etc/sudoers.d/*"],
        argv: &["/usr/sbin/visudo", "-cf", "{file}"],
        needs: &[],
    },
    Checker {
        files: &["/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/*.conf"],
        argv: &["/usr/sbin/sshd", "-t", "-f", "{file}"],
        // The folder is there once sshd has run; the key is there on every host, and in no image.
        needs: &["/run/sshd", "/etc/ssh/ssh_host_ed25519_key"],
    },
    Checker {
        files: &["/etc/fstab"],
        argv: &[
            "/bin/sh",
            "-c",
            "! findmnt --verify --tab-file \"$1\" 2>&1 | grep \"parse error at line\"",
            "findmnt",
            "{file}",
        ],
        needs: &["/usr/bin/findmnt"],
    },
    Checker { files: &["/etc/nftables.conf"], argv: &["/usr/sbin/nft", "-c", "-f", "{file}"], needs: &[] },
    Checker {
        files: &["/etc/profile", "/etc/profile.d/*.sh", "/etc/default/grub"],
        argv: &["/bin/sh", "-n", "{file}"],
        needs: &[],
    },
];

/// The command that must accept a new file, as a recipe says it or, if it says nothing, as the path tells.
/// The latter is run only where the program is known to be there, on a host that is booted.
pub(super) fn checker(
    facts: &dyn Facts,
    path: &Path,
    said: Option<&Vec<String>>,
) -> Result<Option<Vec<String>>, PlanError> {
    if let Some(words) = said {
        return Ok(Some(words.clone()).filter(|words| !words.is_empty()));
    }
    let is_about = |checker: &&Checker| checker.files.iter().any(|files| is_of(path, files));
    let Some(checker) = CHECKERS.iter().find(is_about).filter(|_| facts.host().systemd) else {
        return Ok(None);
    };
    for needed in checker.argv[..1].iter().chain(checker.needs) {
        if !matches!(facts.entry(Path::new(needed))?, Known::Yes(Some(_))) {
            return Ok(None);
        }
    }
    Ok(Some(checker.argv.iter().map(|&word| word.to_owned()).collect()))
}

fn is_of(path: &Path, files: &str) -> bool {
    let Some((folder, end)) = files.split_once("/*") else { return path == Path::new(files) };
    path.parent() == Some(Path::new(folder)) && path.to_string_lossy().ends_with(end)
}

#[cfg(test)]
mod tests {
    use crate::op::Op;
    use crate::system::fake::Fake;
    use crate::system::{Facts, Host};
    use crate::testing::Example;

    fn with_programs(mut fake: Fake) -> Fake {
        let folders = ["/etc/sudoers.d", "/etc/ssh", "/etc/ssh/sshd_config.d", "/etc/profile.d"];
        for folder in folders.into_iter().chain(["/usr/sbin", "/usr/bin", "/bin"]) {
            fake.directory(folder);
        }
        let programs = ["/usr/sbin/visudo", "/usr/sbin/sshd", "/usr/sbin/nft", "/bin/sh", "/usr/bin/findmnt"];
        for program in programs {
            fake.file(program, "");
        }
        fake
    }

    /// What checks the file that a resource writes.
    fn checked(fake: &mut Fake, resource: &str) -> Option<String> {
        Example::resources(resource).settles(fake);
        let Some(Op::WriteFile(write)) = fake.performed.last() else { panic!("a file is written") };
        write.validate.as_ref().map(|words| words.join(" "))
    }

    #[test]
    fn well_known_files_are_checked_by_those_who_read_them() {
        let mut fake = with_programs(Fake::debian());
        fake.file("/etc/sudoers", "a\n");
        let file = |path: &str| format!("- file: {{ path: {path}, content: x }}");
        let is = |words: &str| Some(words.to_owned());
        assert_eq!(checked(&mut fake, &file("/etc/sudoers.d/a")), is("/usr/sbin/visudo -cf {file}"));
        assert_eq!(
            checked(&mut fake, "- line: { path: /etc/sudoers, line: b }"),
            is("/usr/sbin/visudo -cf {file}")
        );
        assert_eq!(checked(&mut fake, &file("/etc/nftables.conf")), is("/usr/sbin/nft -c -f {file}"));
        assert_eq!(checked(&mut fake, &file("/etc/profile.d/a.sh")), is("/bin/sh -n {file}"));
        let findmnt = "/bin/sh -c ! findmnt --verify --tab-file \"$1\" 2>&1 | grep \"parse error at line\" findmnt {file}";
        assert_eq!(checked(&mut fake, &file("/etc/fstab")), is(findmnt));
        assert_eq!(
            checked(&mut fake, "- yaml: { path: /etc/profile.d/b.sh, key: a, value: b, create: true }"),
            is("/bin/sh -n {file}")
        );
        assert_eq!(checked(&mut fake, &file("/etc/sudoers.conf")), None);
        assert_eq!(checked(&mut fake, &file("/etc/profile.d/a.csh")), None);
    }

    #[test]
    fn a_checker_that_would_refuse_everything_is_not_run() {
        let mut fake = with_programs(Fake::debian());
        let resource = "- file: { path: /etc/ssh/sshd_config.d/a.conf, content: x }";
        assert_eq!(checked(&mut fake, resource), None, "it has no key");
        fake.file("/etc/ssh/ssh_host_ed25519_key", "");
        fake.directory("/run/sshd");
        let resource = resource.replace("content: x", "content: y");
        assert_eq!(checked(&mut fake, &resource).as_deref(), Some("/usr/sbin/sshd -t -f {file}"));
        let sudo = "- file: { path: /etc/sudoers.d/a, content: x }";
        let mut without = Fake::debian();
        without.directory("/etc/sudoers.d");
        assert_eq!(checked(&mut without, sudo), None, "there is no visudo");
        let host = Host { systemd: false, ..Fake::debian().host().clone() };
        assert_eq!(checked(&mut with_programs(Fake::with_host(host)), sudo), None, "nothing runs in a tree");
    }

    #[test]
    fn what_is_fetched_is_checked_as_well() {
        let mut fake = with_programs(Fake::debian());
        fake.serves("https://a.b/c", "x");
        let mut checked = |more: &str| {
            let sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
            let path = "/etc/sudoers.d/a";
            let example =
                format!("- download: {{ path: {path}, url: https://a.b/c, sha256: {sha256}{more} }}");
            Example::resources(&format!("- file: {{ path: {path}, state: absent }}")).settles(&mut fake);
            Example::resources(&example).settles(&mut fake);
            let Some(Op::Download(download)) = fake.performed.last() else { panic!("it is fetched") };
            download.validate.as_ref().map(|words| words.join(" "))
        };
        assert_eq!(checked("").as_deref(), Some("/usr/sbin/visudo -cf {file}"));
        assert_eq!(checked(", validate: 'a {file}'").as_deref(), Some("a {file}"));
        assert_eq!(checked(", validate: false"), None);
    }

    #[test]
    fn what_a_recipe_says_holds() {
        let mut fake = with_programs(Fake::debian());
        let with = |validate: &str, content: &str| {
            format!("- file: {{ path: /etc/sudoers.d/a, content: {content}, validate: {validate} }}")
        };
        assert_eq!(checked(&mut fake, &with("'true {file}'", "a")).as_deref(), Some("true {file}"));
        assert_eq!(checked(&mut fake, &with("[a, b]", "b")).as_deref(), Some("a b"));
        assert_eq!(checked(&mut fake, &with("false", "c")), None);
        let yaml = "- yaml: { path: /etc/profile.d/b.sh, key: a, value: b, create: true, validate: false }";
        assert_eq!(checked(&mut fake, yaml), None);
        let problems = |validate: &str| Example::resources(&with(validate, "a")).problems();
        insta::assert_snapshot!(problems("true"), @"example/recipe.yaml:2:59: expected a command: a list of words, or a string; or `false` for none, found the boolean `true`");
        insta::assert_snapshot!(problems("[]"), @"example/recipe.yaml:2:59: a command has at least one word");
    }
}
