//! `hosts_entry`: an address and its names in `/etc/hosts`.

use std::net::IpAddr;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::edit::{Found, Lines, plan_edit};
use super::fields::{HostName, State};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, PlanError};

/// An address in `/etc/hosts` and all its names there, see hosts(5).
///
/// One line has the address and exactly these names; further lines with the address go. A name that
/// another address of the same family has there is taken from it, because the first line would win.
/// Comments and other lines stay, and so does a line that says the same in other spacing.
///
/// ```yaml
/// - hosts_entry: { address: 10.0.0.5, names: [db.internal, db] }
/// - hosts_entry: { address: 127.0.1.1, names: ["{{ facts.os.id }}-web"] }
/// - hosts_entry: { address: "2001:db8::5", state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HostsEntry {
    /// An IPv4 or IPv6 address.
    address: String,
    /// Its names: the canonical one first, then aliases.
    names: Option<Vec<HostName>>,
    /// `present`, or `absent`: no line has the address.
    #[serde(default)]
    state: State,
}

#[derive(Debug)]
struct Resolved {
    address: IpAddr,
    /// None if no line shall have the address.
    names: Option<Vec<String>>,
}

const HOSTS: &str = "/etc/hosts";

impl Fields for HostsEntry {
    const KIND: &'static str = "hosts_entry";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let address: IpAddr = self
            .address
            .parse()
            .map_err(|_| Problem::new(format!("`{}` is not an IP address", self.address)))?;
        // Programs expect these two to be `localhost`, and the name to be nothing else.
        let is_localhost = ["127.0.0.1", "::1"].contains(&address.to_string().as_str());
        let names: Option<Vec<String>> =
            self.names.map(|names| names.into_iter().map(|name| name.0).collect());
        let has_localhost = names.iter().flatten().any(|name| name == "localhost");
        match (self.state, &names) {
            (State::Present, None) => return Err(Problem::new("a `hosts_entry` needs `names`")),
            (State::Present, Some(names)) if names.is_empty() => {
                return Err(Problem::new("`names` is empty").help("to have no entry write `state: absent`"));
            }
            (State::Absent, Some(_)) => {
                return Err(Problem::new("a `hosts_entry` that shall be absent has no `names`"));
            }
            _ => {}
        }
        if is_localhost && !has_localhost {
            return Err(Problem::new(format!("`{address}` has to keep the name `localhost`")));
        }
        if has_localhost && !is_localhost {
            return Err(Problem::new(format!("`localhost` cannot be `{address}`"))
                .help("it is 127.0.0.1 and ::1 for every program"));
        }
        Ok(Box::new(Resolved { address, names }))
    }
}

/// What a line says, without its comment.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    address: IpAddr,
    names: Vec<&'a str>,
    /// From the `#` on, or empty.
    comment: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (entry, comment) = line.split_at(line.find('#').unwrap_or(line.len()));
        let mut words = entry.split_whitespace();
        let address = words.next()?.parse().ok()?;
        Some(Self { address, names: words.collect(), comment })
    }

    fn line(&self) -> String {
        let comment = if self.comment.is_empty() { String::new() } else { format!(" {}", self.comment) };
        format!("{} {}{comment}", self.address, self.names.join(" "))
    }
}

impl Resolved {
    fn edit(&self, before: &str) -> String {
        let names: Vec<&str> = self.names.iter().flatten().map(String::as_str).collect();
        let mut lines = Lines::of(before);
        lines.rewrite(|line| self.taken_from(line, &names));
        let first = before.lines().filter_map(Entry::parse).find(|entry| entry.address == self.address);
        let comment = first.map_or("", |entry| entry.comment);
        let wanted = Entry { address: self.address, names, comment };
        let text = self.names.is_some().then(|| wanted.line());
        let there = lines.keep_one(text.as_deref(), |line| match Entry::parse(line) {
            Some(entry) if entry.address != self.address => Found::Other,
            Some(entry) if entry.names == wanted.names => Found::AsWanted,
            Some(_) => Found::Differs,
            None => Found::Other,
        });
        if let Some(text) = text.filter(|_| !there) {
            lines.insert(None, &text);
        }
        lines.text()
    }

    /// What becomes of the line of another address: our names are not its. None if it stays as it is, and
    /// an empty line if it has no name left.
    fn taken_from(&self, line: &str, names: &[&str]) -> Option<String> {
        let mut entry = Entry::parse(line)?;
        let same_family = entry.address.is_ipv4() == self.address.is_ipv4();
        let has_ours = entry.names.iter().any(|name| names.contains(name));
        if !same_family || !has_ours || entry.address == self.address {
            return None;
        }
        entry.names.retain(|name| !names.contains(name));
        Some(if entry.names.is_empty() { String::new() } else { entry.line() })
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.address.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        let family = if self.address.is_ipv4() { "IPv4" } else { "IPv6" };
        let names = self.names.iter().flatten().map(|name| format!("{name} ({family})"));
        let claim = |line| Claim::Line { path: HOSTS.into(), line };
        names.chain([self.address.to_string()]).map(claim).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        plan_edit(facts, Path::new(HOSTS), |before| self.edit(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const FILE: &str = "# hosts\n127.0.0.1\tlocalhost\n::1 localhost  ip6-localhost\n10.0.0.5  old # ours\n";

    fn edited(text: &str, fields: &str) -> String {
        let mut fake = Fake::debian();
        fake.file(HOSTS, text);
        Example::resources(&format!("- hosts_entry: {fields}")).settles(&mut fake);
        fake.text(HOSTS).expect("the file")
    }

    #[test]
    fn settles_as_one_line_and_to_absence_and_leaves_the_rest() {
        let rest = "# hosts\n127.0.0.1\tlocalhost\n::1 localhost  ip6-localhost\n";
        assert_eq!(
            edited(FILE, "{ address: 10.0.0.5, names: [db.internal, db] }"),
            format!("{rest}10.0.0.5 db.internal db # ours\n")
        );
        assert_eq!(edited(FILE, "{ address: 10.0.0.5, names: [old] }"), FILE);
        assert_eq!(edited(FILE, "{ address: 10.0.0.5, state: absent }"), rest);
        assert_eq!(
            edited(FILE, "{ address: '2001:DB8:0::5', names: [db] }"),
            format!("{FILE}2001:db8::5 db\n")
        );
        assert_eq!(edited("", "{ address: 10.0.0.5, names: [db] }"), "10.0.0.5 db\n");
        assert_eq!(
            edited("10.0.0.5 a\r\n10.0.0.6 b", "{ address: 10.0.0.5, names: [db] }"),
            "10.0.0.5 db\r\n10.0.0.6 b"
        );
        assert_eq!(edited("10.0.0.6 b", "{ address: 10.0.0.5, names: [db] }"), "10.0.0.6 b\n10.0.0.5 db\n");
        assert_eq!(edited("10.0.0.5 a\n10.0.0.5 b\n", "{ address: 10.0.0.5, names: [b] }"), "10.0.0.5 b\n");
    }

    #[test]
    fn a_name_leads_to_one_address_of_a_family() {
        assert_eq!(
            edited(
                "10.0.0.9 db\n10.0.0.8 web db # two\r\n2001:db8::9 db\n",
                "{ address: 10.0.0.5, names: [db] }"
            ),
            "10.0.0.8 web # two\r\n2001:db8::9 db\n10.0.0.5 db\n"
        );
    }

    #[test]
    fn the_plan_shows_what_changes() {
        let mut fake = Fake::debian();
        let example = Example::resources("- hosts_entry: { address: 10.0.0.5, names: [db] }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: hosts_entry 10.0.0.5
          + create /etc/hosts (root:root 0644, 12 bytes)
              --- /dev/null
              +++ /etc/hosts
              @@ -0,0 +1 @@
              +10.0.0.5 db
        Plan: 1 to change, 0 unchanged.
        ");
        fake.symlink(HOSTS, "/run/hosts");
        insta::assert_snapshot!(example.fails(&mut fake), @"example: hosts_entry 10.0.0.5: `/etc/hosts` is a symbolic link, not a file");
    }

    #[test]
    fn contradictions_are_found() {
        let several = "
- hosts_entry: { address: 10.0.0.5, names: [db] }
- hosts_entry: { address: 10.0.0.5, state: absent }
- hosts_entry: { address: 10.0.0.6, names: [db] }
- hosts_entry: { address: '2001:db8::6', names: [db] }
";
        insta::assert_snapshot!(Example::resources(several).problems(), @"
        example/recipe.yaml:3:5: the line `10.0.0.5` of `/etc/hosts` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:4:5: the line `db (IPv4)` of `/etc/hosts` is decided twice, differently (first here: example/recipe.yaml:2:5)
        ");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- hosts_entry: {fields}")).problems();
        insta::assert_snapshot!(problems("{ address: 10.0.0.256, names: [a] }"), @"example/recipe.yaml:2:18: `10.0.0.256` is not an IP address");
        insta::assert_snapshot!(problems("{ address: 10.0.0.5 }"), @"example/recipe.yaml:2:18: a `hosts_entry` needs `names`");
        insta::assert_snapshot!(problems("{ address: 10.0.0.5, names: [] }"), @"example/recipe.yaml:2:18: `names` is empty; to have no entry write `state: absent`");
        insta::assert_snapshot!(problems("{ address: 10.0.0.5, names: ['a b'] }"), @"example/recipe.yaml:2:46: `a b` is not the name of a host: letters, digits and `-`, at most 63 between dots, not starting or ending with `-`");
        insta::assert_snapshot!(problems("{ address: 10.0.0.5, names: [a, '-b'] }"), @"example/recipe.yaml:2:46: `-b` is not the name of a host: letters, digits and `-`, at most 63 between dots, not starting or ending with `-`");
        insta::assert_snapshot!(problems("{ address: 10.0.0.5, names: [a], state: absent }"), @"example/recipe.yaml:2:18: a `hosts_entry` that shall be absent has no `names`");
        insta::assert_snapshot!(problems("{ address: 127.0.0.1, names: [a] }"), @"example/recipe.yaml:2:18: `127.0.0.1` has to keep the name `localhost`");
        insta::assert_snapshot!(problems("{ address: 10.0.0.5, names: [localhost] }"), @"example/recipe.yaml:2:18: `localhost` cannot be `10.0.0.5`; it is 127.0.0.1 and ::1 for every program");
    }
}
