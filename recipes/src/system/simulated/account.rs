//! The system accounts that scripts of packages make.

use std::collections::BTreeMap;

use crate::system::User;

/// What a line makes.
pub(super) enum Account {
    User(String, User),
    Group(String),
}

/// The system account that a line makes (adduser(8), addgroup(8), useradd(8), groupadd(8)), if its words say all of it.
pub(super) fn account(line: &str) -> Option<Account> {
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
