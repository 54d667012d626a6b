//! What the scripts of packages do, as far as helpers of Debian do it, and what they name besides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::system::{Group, User};

/// What scripts do for certain.
#[derive(Default)]
pub(super) struct Effects {
    /// Units that are enabled when the package is new.
    pub(super) enabled: Vec<String>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) groups: BTreeMap<String, Group>,
}

/// Reads what scripts do, and takes out of them what they say of it: the rest may do anything with what it names.
pub(super) fn effects_of(scripts: &str) -> (Effects, String) {
    let mut effects = Effects::default();
    let mut rest = String::new();
    let (mut enabled, mut enabled_again) = (Vec::new(), Vec::new());
    // A command may go on in the next line.
    let scripts = with_variables(&scripts.replace("\\\n", " "));
    for line in scripts.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let of_helper = |verb: &str| {
            let (_, said) = line.split_once("deb-systemd-helper")?;
            said.split_once(verb)?.1.split('\'').nth(1).map(str::to_owned)
        };
        enabled.extend(of_helper(" enable "));
        // Such a unit is only enabled again, if it was before (dh_installsystemd(1), `--no-enable`).
        enabled_again.extend(of_helper(" debian-installed "));
        // The last of these moves what older versions had (dpkg-maintscript-helper(1)).
        let helpers = ["deb-systemd-helper", "deb-systemd-invoke", "dpkg-maintscript-helper"];
        if helpers.iter().any(|helper| line.contains(helper)) {
            continue;
        }
        match account(line) {
            Some(Account::User(name, user)) => {
                if user.group == name {
                    effects.groups.insert(name.clone(), Group { gid: None });
                }
                effects.users.insert(name, user);
            }
            Some(Account::Group(name)) => drop(effects.groups.insert(name, Group { gid: None })),
            None => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    effects.enabled = enabled.into_iter().filter(|unit| !enabled_again.contains(unit)).collect();
    (effects, rest)
}

/// Puts the values of variables in their place that have only one, and that is said in so many words.
fn with_variables(scripts: &str) -> String {
    let mut values: BTreeMap<&str, Option<String>> = BTreeMap::new();
    for line in scripts.lines().map(str::trim) {
        let Some((name, value)) = line.split_once('=') else { continue };
        if name.is_empty()
            || !name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
        {
            continue;
        }
        let word = shlex::split(value).and_then(|words| <[String; 1]>::try_from(words).ok());
        let word = word.map(|[word]| word).filter(|word| !word.contains(['$', '`', '(', ';']));
        values.entry(name).and_modify(|known| *known = None).or_insert(word);
    }
    let mut text = scripts.to_owned();
    // `$NAME_OF` is not `$NAME`.
    for (name, value) in values.iter().rev() {
        if let Some(value) = value {
            text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
        }
    }
    text
}

impl Effects {
    /// Adds the accounts that systemd makes of a file (sysusers.d(5)).
    pub(super) fn add_sysusers(&mut self, text: &str) {
        for words in text.lines().filter_map(shlex::split) {
            let field = |at: usize, default: &str| match words.get(at).map(String::as_str) {
                None | Some("-" | "") => default.to_owned(),
                Some(word) => word.to_owned(),
            };
            let name = field(1, "");
            if matches!(words.first().map(String::as_str), Some("u" | "u!")) {
                let user = User {
                    uid: None,
                    group: name.clone(),
                    groups: Vec::new(),
                    home: field(4, "/").into(),
                    shell: field(5, "/usr/sbin/nologin").into(),
                    comment: field(3, ""),
                };
                self.users.insert(name.clone(), user);
            }
            if matches!(words.first().map(String::as_str), Some("u" | "u!" | "g")) {
                self.groups.insert(name, Group { gid: None });
            }
        }
    }
}

enum Account {
    User(String, User),
    Group(String),
}

/// The system account that a line makes (adduser(8), addgroup(8), useradd(8), groupadd(8)), if its words say all of it.
fn account(line: &str) -> Option<Account> {
    let at = |program: &str| {
        line.split_once(program).filter(|(before, after)| {
            !before.ends_with(|last: char| last.is_alphanumeric() || "-_/\"'".contains(last))
                && after.starts_with(' ')
        })
    };
    let (program, said) = ["adduser", "addgroup", "useradd", "groupadd"]
        .iter()
        .find_map(|program| at(program).map(|(_, said)| (*program, said)))?;
    let said = said.split(['|', '&', ';', '>']).next()?;
    let words = shlex::split(said)?;
    let (mut names, mut options) = (Vec::new(), BTreeMap::new());
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let takes_value = [
            "--home",
            "--home-dir",
            "-d",
            "--shell",
            "-s",
            "--gecos",
            "--comment",
            "-c",
            "--ingroup",
            "--gid",
            "-g",
            "--uid",
            "-u",
            "--groups",
            "-G",
        ];
        match word.split_once('=') {
            Some((option, value)) if option.starts_with('-') => drop(options.insert(option, value)),
            _ if takes_value.contains(&word) => drop(options.insert(word, words.next()?)),
            _ if word.starts_with('-') => drop(options.insert(word, "")),
            _ => names.push(word),
        }
    }
    // With two names it adds one to the other; one in a variable is not known.
    let [name] = names[..] else { return None };
    let is_known = |text: &str| !text.contains(['$', '`']);
    if !is_known(name) || !options.values().all(|value| is_known(value)) {
        return None;
    }
    let value =
        |of: &[&str]| of.iter().find_map(|option| options.get(option)).map(|value| (*value).to_owned());
    let has = |of: &[&str]| of.iter().any(|option| options.contains_key(option));
    let is_adduser = matches!(program, "adduser" | "addgroup");
    if !has(&["--system", "-r"]) || has(&["-G", "--groups"]) {
        return None;
    }
    if matches!(program, "addgroup" | "groupadd") {
        return Some(Account::Group(name.to_owned()));
    }
    let group = match value(&["--ingroup", "--gid", "-g"]) {
        Some(group) => group,
        None if has(&["--group"]) || !is_adduser => name.to_owned(),
        None => "nogroup".into(),
    };
    let (home, shell) = if is_adduser {
        ("/nonexistent".into(), "/usr/sbin/nologin")
    } else {
        (format!("/home/{name}"), "/bin/sh")
    };
    let user = User {
        uid: None,
        group,
        groups: Vec::new(),
        home: value(&["--home", "--home-dir", "-d"]).unwrap_or(home).into(),
        shell: value(&["--shell", "-s"]).unwrap_or_else(|| shell.into()).into(),
        comment: value(&["--gecos", "--comment", "-c"]).unwrap_or_default(),
    };
    Some(Account::User(name.to_owned(), user))
}

/// The last part of a path.
pub(super) fn last_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Whether a script names a path: whole, or in parts, as one that first changes into the folder.
pub(super) fn names_path(text: &str, path: &Path) -> bool {
    names(text, last_of(path)) && path.parent().is_none_or(|parent| names(text, last_of(parent)))
}

/// Whether a name is in a text, as a word.
pub(super) fn names(text: &str, name: &str) -> bool {
    let is_of_word = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_');
    text.match_indices(name).any(|(at, _)| {
        let (before, after) =
            (text.get(..at).unwrap_or_default(), text.get(at + name.len()..).unwrap_or_default());
        !before.ends_with(is_of_word) && !after.starts_with(is_of_word)
    })
}

/// The paths in the words of a command or in a script, from the root.
pub(super) fn paths_in(text: &str) -> impl Iterator<Item = PathBuf> + '_ {
    let words =
        text.split(|character: char| character.is_whitespace() || "'\"=;:,|&<>()`".contains(character));
    words.filter(|word| word.len() > 1 && word.starts_with('/')).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSTINST: &str = "#!/bin/sh
# Makes www-site in /etc/site/made.conf.
if deb-systemd-helper debian-installed 'extra.service'; then deb-systemd-helper enable 'extra.service' || true; fi
if deb-systemd-helper --quiet was-enabled 'site.service'; then
  deb-systemd-helper enable 'site.service' >/dev/null || true
fi
adduser --system --home /var/lib/site --quiet \\
        --group --gecos 'The site' site || true
OWNER=owner
addgroup --system --quiet readers
adduser --system --ingroup readers ${OWNER}
dpkg-maintscript-helper rm_conffile /etc/site/old.conf 1.0 -- a
useradd -r -d /srv/w worker
adduser site readers
adduser --system \"$OTHER\"
/usr/sbin/adduser --system elsewhere
touch /etc/site/site.conf
";

    #[test]
    fn units_and_accounts_that_helpers_make_are_known() {
        let (effects, rest) = effects_of(POSTINST);
        assert_eq!(effects.enabled, ["site.service"]);
        let users: Vec<String> = effects
            .users
            .iter()
            .map(|(name, user)| {
                format!(
                    "{name}:{} {} {} {}",
                    user.group,
                    user.home.display(),
                    user.shell.display(),
                    user.comment
                )
            })
            .collect();
        insta::assert_snapshot!(users.join("\n"), @"
        owner:readers /nonexistent /usr/sbin/nologin 
        site:site /var/lib/site /usr/sbin/nologin The site
        worker:worker /srv/w /bin/sh
        ");
        assert_eq!(effects.groups.into_keys().collect::<Vec<_>>(), ["readers", "site", "worker"]);
        insta::assert_snapshot!(rest, @r#"
        fi
        OWNER=owner
        adduser site readers
        adduser --system "$OTHER"
        /usr/sbin/adduser --system elsewhere
        touch /etc/site/site.conf
        "#);
    }

    #[test]
    fn systemd_makes_accounts_of_files() {
        let mut effects = Effects::default();
        effects.add_sysusers("# a\nu site 5:5 \"The site\" /srv\ng readers -\nm site readers\nu! x\n");
        assert_eq!(effects.users.keys().collect::<Vec<_>>(), ["site", "x"]);
        assert_eq!(effects.users["site"].home, Path::new("/srv"));
        assert_eq!(effects.groups.into_keys().collect::<Vec<_>>(), ["readers", "site", "x"]);
    }

    #[test]
    fn a_name_in_a_text_is_a_word() {
        assert!(names("touch /etc/site.conf;", "site.conf") && names("site", "site"));
        assert!(!names("site-common website _site site2", "site"));
        assert!(names_path("cd /etc/site && touch a", Path::new("/etc/site/a")));
        assert!(!names_path("touch a", Path::new("/etc/site/a")));
        let paths: Vec<PathBuf> = paths_in("grep -q '^x' /etc/a --to=/etc/b; (cat</c) / a/d").collect();
        assert_eq!(paths, [Path::new("/etc/a"), Path::new("/etc/b"), Path::new("/c")]);
    }
}
