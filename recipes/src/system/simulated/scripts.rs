//! What the scripts of packages do, as far as helpers of Debian do it, and what they name besides.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::account::{Account, account};
use crate::system::{Group, PackageArchive, User};

/// What scripts do for certain.
#[derive(Default)]
pub(super) struct Effects {
    /// Units that are enabled when the package is new.
    pub(super) enabled: Vec<String>,
    /// Init scripts that are.
    pub(super) init_scripts: Vec<String>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) groups: BTreeMap<String, Group>,
}

/// Reads what scripts do, and takes out of them what they say of it: the rest may do anything with what it names. Of a package that
/// is new they do nothing that is for older versions of it.
pub(super) fn effects_of(scripts: &str, is_new: bool) -> (Effects, String) {
    let mut effects = Effects::default();
    let mut rest = String::new();
    let (mut enabled, mut enabled_again) = (Vec::new(), Vec::new());
    // A command may go on in the next line.
    let mut scripts = with_variables(&scripts.replace("\\\n", " "));
    if is_new {
        scripts = without_upgrades(&scripts);
    }
    for line in scripts.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let of_helper = |verb: &str| {
            let (_, said) = line.split_once("deb-systemd-helper")?;
            said.split_once(verb)?.1.split('\'').nth(1).map(str::to_owned)
        };
        enabled.extend(of_helper(" enable "));
        // Such a unit is only enabled again, if it was before (dh_installsystemd(1), `--no-enable`).
        enabled_again.extend(of_helper(" debian-installed "));
        effects.init_scripts.extend(init_script(line));
        // Services are kept from starting. The last of these moves what older versions had (dpkg-maintscript-helper(1)).
        let helpers = [
            "deb-systemd-helper",
            "deb-systemd-invoke",
            "invoke-rc.d",
            "update-rc.d",
            "dpkg-maintscript-helper",
        ];
        if helpers.iter().any(|helper| line.contains(helper)) || only_looks(line) {
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

/// The init script that a line has started at boot (update-rc.d(8)).
fn init_script(line: &str) -> Option<String> {
    let mut words = line.split_once("update-rc.d ")?.1.split_whitespace();
    let (name, verb) = (words.next()?, words.next()?);
    (verb == "defaults" && !name.contains('$')).then(|| name.to_owned())
}

/// Whether a line makes nothing, since all that it does is to test something.
fn only_looks(line: &str) -> bool {
    let line = ["if ", "elif "].iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line);
    let line = line.trim_end().strip_suffix("then").unwrap_or(line).trim_end().trim_end_matches(';');
    let is_test = |part: &str| {
        let part = part.trim().trim_start_matches("! ");
        part.starts_with("[ ") && part.ends_with(" ]") || part.starts_with("test ")
    };
    !line.contains(['`', '>', ';', '|']) && !line.contains("$(") && line.split("&&").all(is_test)
}

/// Leaves out what is done if there was an older version: its number, which is a script's second argument, is empty otherwise
/// (deb-postinst(5)), and with `lt-nl` an empty one is later than any other (dpkg(1)).
fn without_upgrades(scripts: &str) -> String {
    let is_of_upgrade = |line: &str| {
        ["[ -n \"$2\" ]", "dpkg --compare-versions \"$2\" lt-nl "].iter().any(|asks| line.contains(asks))
            && !line.contains("||")
    };
    let mut kept = String::new();
    // How many conditions are open, the one of an upgrade among them.
    let mut open = 0;
    for line in scripts.lines().map(str::trim) {
        let is_kept = open == 0;
        match line.split([' ', '\t', ';']).next() {
            // A condition of one line is over at its end.
            Some("if") if line.ends_with("fi") && is_of_upgrade(line) => continue,
            Some("if") if !line.ends_with("fi") && (open > 0 || is_of_upgrade(line)) => open += 1,
            Some("else" | "elif") if open == 1 => open = 0,
            Some("fi") if open > 0 => open -= 1,
            _ => {}
        }
        if is_kept && open == 0 {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    // What is not closed is not understood.
    if open == 0 { kept } else { scripts.to_owned() }
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

/// What a package runs when it is installed, and what that may read: sourced functions, defaults, lists.
pub(super) struct Script {
    programs: Text,
    data: Text,
}

/// A text in which many names are looked for. It may be of megabytes.
struct Text {
    text: String,
    words: HashSet<String>,
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        // In a format of `printf` the letter behind a line's end is of the next word.
        let text = text.replace("\\n", "\n").replace("\\t", "\t");
        let words = text.split(|character| !is_of_word(character)).map(str::to_owned).collect();
        Self { text, words }
    }
}

impl Text {
    fn names(&self, name: &str) -> bool {
        self.has_words_of(name) && names(&self.text, name)
    }

    fn names_path(&self, path: &Path) -> bool {
        self.has_words_of(last_of(path)) && names_path(&self.text, path)
    }

    fn has_words_of(&self, name: &str) -> bool {
        name.split(|character| !is_of_word(character))
            .all(|word| word.is_empty() || self.words.contains(word))
    }
}

impl Script {
    pub(super) fn names_path(&self, path: &Path) -> bool {
        self.programs.names_path(path) || self.data.names_path(path)
    }

    /// Whether it may make an account of this name. Texts are full of words; functions that make one name what does it.
    pub(super) fn names_account(&self, name: &str) -> bool {
        let makers =
            ["adduser", "addgroup", "groupadd", "groupmod", "newusers", "sysusers", "useradd", "usermod"];
        let makes = || makers.iter().any(|maker| self.data.names(maker));
        self.programs.names(name) || self.data.names(name) && makes()
    }

    /// Whether it may make a line out of parts: it names what the line begins with, or reads that with something to be put in. A line
    /// that has no second part may be a variable.
    pub(super) fn may_compose(&self, line: &str) -> bool {
        let parts = line.split(|character: char| character.is_whitespace() || "=\"'".contains(character));
        let parts = parts.map(|part| part.trim_end_matches(':')).filter(|part| !part.is_empty());
        let mut parts = parts.skip_while(|part| part.len() <= 2);
        let is_put_in =
            |rest: &str| rest.lines().next().is_some_and(|rest| rest.contains(['$', '%', '{', '`', '@']));
        let is_read =
            |first| self.data.has_words_of(first) && occurrences(&self.data.text, first).any(is_put_in);
        parts
            .next()
            .is_none_or(|first| parts.next().is_none() || self.programs.names(first) || is_read(first))
    }
}

/// The last part of a path.
pub(super) fn last_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Whether a script names a path: whole, or its end, or its folder and its name, as one that first changes into the folder.
pub(super) fn names_path(text: &str, path: &Path) -> bool {
    let (folder, name) = (path.parent().map(last_of).unwrap_or_default(), last_of(path));
    let is_of_folder = || {
        occurrences(text, folder)
            .any(|after| !after.strip_prefix('/').is_some_and(|after| after.starts_with(is_of_word)))
    };
    names(text, name) && (folder.is_empty() || names(text, &format!("{folder}/{name}")) || is_of_folder())
}

/// Whether a name is in a text, as a word.
pub(super) fn names(text: &str, name: &str) -> bool {
    occurrences(text, name).next().is_some()
}

/// What comes behind a name in a text, wherever it is a word.
fn occurrences<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(name).filter_map(|(at, _)| {
        let (before, after) = (text.get(..at)?, text.get(at + name.len()..)?);
        (!before.ends_with(is_of_word) && !after.starts_with(is_of_word)).then_some(after)
    })
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '-' | '_')
}

/// What packages bring that their scripts may run or read: scripts as well, or what a script names with its whole path.
pub(super) struct Programs<'a>(BTreeMap<&'a str, Vec<&'a [u8]>>);

impl<'a> Programs<'a> {
    /// Those of these packages, by their names without folders. What is in `/etc` says how things are, and runs later.
    pub(super) fn of(archives: impl Iterator<Item = &'a PackageArchive>) -> Self {
        let mut programs = BTreeMap::<_, Vec<_>>::new();
        for archive in archives {
            for (path, (_, content)) in archive.entries.iter().filter(|(path, _)| !path.starts_with("/etc")) {
                let is_named = || path.to_str().is_some_and(|path| archive.scripts.contains(path));
                if let Some(text) = content.as_deref().filter(|text| text.starts_with(b"#!") || is_named()) {
                    programs.entry(last_of(path)).or_default().push(text);
                }
            }
        }
        Self(programs)
    }

    /// A script with all that it may run or read, and what that does.
    pub(super) fn with(&self, script: String) -> Script {
        let (mut programs, mut data) = (String::new(), String::new());
        let mut found = BTreeSet::new();
        let mut unread = vec![(true, script)];
        while let Some((is_program, text)) = unread.pop() {
            let words = text.split(|character: char| !(is_of_word(character) || "+.".contains(character)));
            for (name, brought) in words.filter_map(|word| self.0.get_key_value(word)) {
                if found.insert(*name) {
                    unread.extend(brought.iter().map(|bytes| {
                        let text = String::from_utf8_lossy(bytes).replace("\\\n", " ");
                        let said = text.lines().filter(|line| !line.trim_start().starts_with('#'));
                        (bytes.starts_with(b"#!"), said.collect::<Vec<_>>().join("\n"))
                    }));
                }
            }
            let whole = if is_program { &mut programs } else { &mut data };
            whole.push_str(&text);
            whole.push('\n');
        }
        Script { programs: programs.into(), data: data.into() }
    }
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
if [ -x /etc/init.d/site ] && ! test -e /etc/site/off ; then
  update-rc.d site defaults >/dev/null || exit 1
  invoke-rc.d site start
fi
[ -e /etc/site/mark ] && touch /etc/site/marked
if [ \"$1\" = configure ] && [ -n \"$2\" ]; then
  if true; then mv /etc/site/before /etc/site/after; fi
  if true
  then
    touch /etc/site/upgraded
  fi
else
  touch /etc/site/new
fi
if dpkg --compare-versions \"$2\" lt-nl 2~ && \\
   test -f /etc/site/old; then
  touch /etc/site/older
fi
if dpkg --compare-versions \"$2\" lt 2~; then touch /etc/site/oldest; fi
";

    #[test]
    fn units_and_accounts_that_helpers_make_are_known() {
        let (effects, rest) = effects_of(POSTINST, true);
        assert_eq!(effects.enabled, ["site.service"]);
        assert_eq!(effects.init_scripts, ["site"]);
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
        fi
        [ -e /etc/site/mark ] && touch /etc/site/marked
        touch /etc/site/new
        fi
        if dpkg --compare-versions "$2" lt 2~; then touch /etc/site/oldest; fi
        "#);
    }

    #[test]
    fn what_is_for_older_versions_counts_where_there_was_one_or_where_it_is_not_understood() {
        let named = |scripts: &str, is_new: bool| {
            names_path(&effects_of(scripts, is_new).1, Path::new("/etc/site/upgraded"))
        };
        assert!(named(POSTINST, false) && !named(POSTINST, true));
        assert!(named("if [ -n \"$2\" ]; then\n  touch /etc/site/upgraded\n", true));
    }

    #[test]
    fn a_path_is_named_whole_or_by_its_end_or_by_its_folder_and_its_name() {
        let named = |text: &str| names_path(text, Path::new("/run/site"));
        assert!(named("mkdir /run/site") && named("mkdir $DIR/run/site/") && named("cd /run; mkdir site"));
        assert!(named("for d in site other; do mkdir \"/run/$d\"; done") && named("cd /run/ && mkdir site"));
        assert!(!named("test -d /run/systemd && getent passwd site"));
        assert!(!named("mkdir /run/site-2") && !named("mkdir /run/other"));
        assert!(names_path("cp a b", Path::new("/a")));
        let script = Programs(BTreeMap::new()).with("mkdir /run/site.d; adduser a-b".to_owned());
        assert!(script.names_path(Path::new("/run/site.d")) && script.names_account("a-b"));
        assert!(!script.names_path(Path::new("/run/other")) && !script.names_account("a"));
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
