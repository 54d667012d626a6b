//! What applying recipes really made of a host, found by comparing it with a copy on which they were applied.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::ChangeKind;
use crate::plan::Plan;

/// A plan that was carried out on a copy of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExactPlan {
    /// What was done for each resource.
    pub plan: Plan,
    /// What that made of the copy.
    pub difference: Difference,
    /// What would have been done on the host and was not done in the copy.
    pub left_out: Vec<String>,
}

/// How a host differs from what it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Packages, by name, with their versions.
    pub packages: Vec<Differing>,
    /// Accounts, by name, as `/etc/passwd` has them.
    pub users: Vec<Differing>,
    /// Groups, by name, as `/etc/group` has them.
    pub groups: Vec<Differing>,
    /// Units that something starts: `nginx.service, wanted by multi-user.target`.
    pub units: Vec<Differing>,
    /// Paths, but for those of packages that differ.
    pub files: Vec<DifferingFile>,
    /// How many paths of packages, or of what package managers keep, differ.
    pub files_of_packages: usize,
}

/// Something with a name that is there on one side, or on both and is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Differing {
    /// Its name.
    pub name: String,
    /// What it was, if it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it is, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DifferingFile {
    /// The path.
    pub path: PathBuf,
    /// What became of it: created, updated or removed.
    pub kind: ChangeKind,
}

impl Differing {
    fn kind(&self) -> ChangeKind {
        match (&self.before, &self.after) {
            (None, _) => ChangeKind::Create,
            (_, None) => ChangeKind::Remove,
            _ => ChangeKind::Update,
        }
    }
}

impl fmt::Display for Differing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind().sign(), self.name)?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(formatter, " {before} -> {after}"),
            (Some(what), None) | (None, Some(what)) if !what.is_empty() => write!(formatter, " {what}"),
            _ => Ok(()),
        }
    }
}

impl Difference {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            ("Packages", &self.packages),
            ("Users", &self.users),
            ("Groups", &self.groups),
            ("Units", &self.units),
        ];
        for (title, differing) in named.into_iter().filter(|(_, differing)| !differing.is_empty()) {
            writeln!(formatter, "{title}")?;
            for one in differing {
                writeln!(formatter, "  {one}")?;
            }
        }
        if !self.files.is_empty() {
            writeln!(formatter, "Files")?;
            for DifferingFile { path, kind } in &self.files {
                writeln!(formatter, "  {} {}", kind.sign(), path.display())?;
            }
        }
        if self.files_of_packages > 0 {
            writeln!(formatter, "{} more files are of packages.", self.files_of_packages)?;
        }
        Ok(())
    }
}

impl ExactPlan {
    /// What the copy came to, without what was done for each resource.
    pub fn of_copy(&self) -> String {
        let mut text = if self.difference.is_empty() {
            "Applied to a copy of the host it makes no difference.\n".to_owned()
        } else {
            format!("Applied to a copy of the host it makes this difference:\n{}", self.difference)
        };
        if !self.left_out.is_empty() {
            text += "Not done in the copy, which only has the host's files:\n";
            text.extend(self.left_out.iter().map(|what| format!("  {what}\n")));
        }
        text
    }
}

impl fmt::Display for ExactPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\n{}", self.plan, self.of_copy().trim_end())
    }
}

/// What differs between two tables of names.
pub fn differing<'a, V: AsRef<str> + PartialEq + 'a>(
    before: &'a BTreeMap<String, V>,
    after: &'a BTreeMap<String, V>,
) -> Vec<Differing> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let text = |value: Option<&V>| value.map(|value| value.as_ref().to_owned());
    names
        .into_iter()
        .map(|name| Differing {
            name: name.clone(),
            before: text(before.get(name)),
            after: text(after.get(name)),
        })
        .filter(|one| one.before != one.after)
        .collect()
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn what_differs_is_shown_by_what_it_is() {
        let before =
            BTreeMap::from([("gone".to_owned(), "1"), ("kept".to_owned(), "1"), ("old".to_owned(), "1")]);
        let after =
            BTreeMap::from([("kept".to_owned(), "1"), ("new".to_owned(), "2"), ("old".to_owned(), "3")]);
        let file = |path: &str, kind| DifferingFile { path: path.into(), kind };
        let exact = ExactPlan {
            plan: Plan::default(),
            difference: Difference {
                packages: differing(&before, &after),
                units: differing(&BTreeMap::new(), &BTreeMap::from([("nginx.service".to_owned(), "")])),
                files: vec![file("/etc/a", ChangeKind::Create), file("/etc/b", ChangeKind::Remove)],
                files_of_packages: 7,
                ..Difference::default()
            },
            left_out: vec!["start nginx.service".into()],
        };
        insta::assert_snapshot!(exact, @"
        Plan: 0 to change, 0 unchanged.
        Applied to a copy of the host it makes this difference:
        Packages
          - gone 1
          + new 2
          ~ old 1 -> 3
        Units
          + nginx.service
        Files
          + /etc/a
          - /etc/b
        7 more files are of packages.
        Not done in the copy, which only has the host's files:
          start nginx.service
        ");
        let nothing = ExactPlan { difference: Difference::default(), left_out: Vec::new(), ..exact };
        insta::assert_snapshot!(nothing, @"
        Plan: 0 to change, 0 unchanged.
        Applied to a copy of the host it makes no difference.
        ");
    }
}
