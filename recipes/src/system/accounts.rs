//! `/etc/passwd` and `/etc/group`, parsed (passwd(5), group(5)).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Group, User};

/// All accounts of a host, by name and by number.
#[derive(Debug, Default, Clone)]
pub struct Accounts {
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, Group>,
    user_names: BTreeMap<u32, String>,
    group_names: BTreeMap<u32, String>,
}

impl Accounts {
    /// Reads both files. Lines that are not entries are passed over, as the C library does; where a
    /// name or a number is there twice, the first counts.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let mut accounts = Self::default();
        let mut members: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for fields in entries(group, 4) {
            let [name, _, gid, list] = fields[..] else { continue };
            let Ok(gid) = gid.parse() else { continue };
            if accounts.groups.contains_key(name) {
                continue;
            }
            accounts.groups.insert(name.into(), Group { gid: Some(gid) });
            accounts.group_names.entry(gid).or_insert_with(|| name.into());
            for member in list.split(',').filter(|member| !member.is_empty()) {
                members.entry(member).or_default().push(name.into());
            }
        }
        for fields in entries(passwd, 7) {
            let [name, _, uid, gid, comment, home, shell] = fields[..] else { continue };
            let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse::<u32>()) else { continue };
            if accounts.users.contains_key(name) {
                continue;
            }
            let mut groups = members.remove(name).unwrap_or_default();
            groups.sort();
            groups.dedup();
            let user = User {
                uid: Some(uid),
                group: accounts.group_name(gid),
                groups,
                home: PathBuf::from(home),
                // passwd(5): an empty shell is /bin/sh.
                shell: PathBuf::from(if shell.is_empty() { "/bin/sh" } else { shell }),
                comment: comment.into(),
            };
            accounts.users.insert(name.into(), user);
            accounts.user_names.entry(uid).or_insert_with(|| name.into());
        }
        accounts
    }

    /// The account of a name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// The group of a name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    /// The name of a user number, or the number where nobody has it.
    pub fn user_name(&self, uid: u32) -> String {
        self.user_names.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    /// The name of a group number, or the number where no group has it.
    pub fn group_name(&self, gid: u32) -> String {
        self.group_names.get(&gid).cloned().unwrap_or_else(|| gid.to_string())
    }

    /// The user number of a name, or of a number written out.
    pub fn uid(&self, name: &str) -> Option<u32> {
        self.user(name).map_or_else(|| name.parse().ok(), |user| user.uid)
    }

    /// The group number of a name, or of a number written out.
    pub fn gid(&self, name: &str) -> Option<u32> {
        self.group(name).map_or_else(|| name.parse().ok(), |group| group.gid)
    }
}

fn entries(text: &str, fields: usize) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(move |line| line.len() == fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash
app:x:990:991:The app,,,:/srv/app:
broken line
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
app:x:1:1:again:/:/bin/sh
+::::::
";
    const GROUP: &str = "root:x:0:\napp:x:991:\nadm:x:4:syslog,app\nwww-data:x:33:app,app\n";

    #[test]
    fn users_have_the_names_of_their_groups() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        let app = accounts.user("app").expect("there is one");
        assert_eq!((app.uid, app.group.as_str(), app.shell.to_str()), (Some(990), "app", Some("/bin/sh")));
        assert_eq!(app.groups, ["adm", "www-data"]);
        assert_eq!(accounts.user("nobody").map(|user| user.group.as_str()), Some("65534"));
        assert_eq!(accounts.user("+"), None);
    }

    #[test]
    fn names_and_numbers_stand_for_each_other() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        assert_eq!(
            (accounts.uid("app"), accounts.uid("1234"), accounts.uid("nope")),
            (Some(990), Some(1234), None)
        );
        assert_eq!(
            (accounts.gid("www-data"), accounts.user_name(7), accounts.group_name(4)),
            (Some(33), "7".into(), "adm".into())
        );
    }
}
