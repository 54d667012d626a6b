//! `ini`: one key of a file with sections that something else owns.

use schemars::JsonSchema;
use serde::Deserialize;

use super::checkers::Validate;
use super::edited::{EditedFile, comments_above, insert_at, line_end, lines_of, one_line};
use super::fields::{AbsolutePath, State};
use super::ini_text::{Entry, indent, read, separator_of};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, PlanError};

/// One key in one section of an INI file that something else owns.
///
/// Lines are `[section]`, `key = value`, or a comment that starts with `#` or `;`. Only the line of the
/// key changes, and it keeps its indent and the spaces around `=`; a new one has those of its neighbours.
/// All that follows `=` is the value, so a comment behind it goes when the value changes. Names are
/// matched exactly. A key that is there more than once, as systemd has them, is an error, unless it shall
/// be absent.
///
/// ```yaml
/// - ini: { path: /etc/mysql/my.cnf, section: mysqld, key: bind-address, value: 127.0.0.1 }
/// - ini: { path: /etc/pip.conf, section: global, key: timeout, value: 60, create: true }
/// - ini: { path: /etc/gitconfig, section: 'remote "origin"', key: fetch, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ini {
    /// The file.
    path: AbsolutePath,
    /// The section, without brackets; what is above the first section if not said.
    section: Option<String>,
    /// The key.
    key: String,
    /// Its value, as it is written in the file; required, unless `absent`.
    value: Option<String>,
    /// Whether a file that is not there is made, as root's, with mode 0644; `false` if not said.
    #[serde(default)]
    create: bool,
    /// A command that must accept the new file, as `{file}`, before it is put in place; `false` for none. If
    /// not said, a file that is well known is checked by the program that reads it.
    validate: Option<Validate>,
    /// `present` or `absent`. A section stays when its last key goes.
    #[serde(default)]
    state: State,
}

#[derive(Debug)]
struct Resolved {
    file: EditedFile,
    section: Option<String>,
    key: String,
    /// None if the key shall be absent.
    value: Option<String>,
}

impl Fields for Ini {
    const KIND: &'static str = "ini";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        one_line("key", &self.key)?;
        if self.key.is_empty() || self.key.starts_with(['[', '#', ';']) || self.key.contains('=') {
            return Err(Problem::new(format!("`{}` is not a key of an INI file", self.key))
                .help("a key has no `=` in it and does not start with `[`, `#` or `;`"));
        }
        if let Some(section) = &self.section {
            one_line("section", section)?;
            if section.is_empty() || section.contains(['[', ']']) {
                return Err(Problem::new(format!("`{section}` is not the name of a section")).help(
                    "it is written without brackets; leave it out for what is above the first section",
                ));
            }
        }
        match (self.state, &self.value) {
            (State::Present, None) => return Err(Problem::new("an `ini` needs its `value`")),
            (State::Absent, Some(_)) => {
                return Err(Problem::new("a key that shall be absent has no `value`"));
            }
            (State::Absent, None) => {}
            (State::Present, Some(value)) => {
                one_line("value", value)?;
                if value.ends_with('\\') {
                    return Err(Problem::new("`value` ends with `\\`: the next line would be part of it"));
                }
            }
        }
        let file = EditedFile {
            path: self.path,
            create: self.create,
            validate: self.validate.map(|validate| validate.0),
            state: self.state,
        };
        Ok(Box::new(Resolved { file, section: self.section, key: self.key, value: self.value }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        match &self.section {
            Some(section) => format!("{}: [{section}] {}", self.file.path, self.key),
            None => format!("{}: {}", self.file.path, self.key),
        }
    }

    fn claims(&self) -> Vec<Claim> {
        // A key above all sections is told from a section by the brackets.
        let section = self.section.as_ref().map(|section| format!("[{section}]"));
        let keys = section.into_iter().chain([self.key.clone()]).collect();
        vec![Claim::Key { path: self.file.path.as_path().to_owned(), keys }]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        self.file.plan(facts, |before| self.edit(before))
    }
}

impl Resolved {
    fn edit(&self, before: &str) -> Result<String, PlanError> {
        let mut lines = lines_of(before);
        let (entries, headers) = read(&lines);
        let is_ours = |entry: &&Entry| entry.section == self.section && entry.key == self.key;
        let ours: Vec<&Entry> = entries.iter().filter(is_ours).collect();
        let Some(value) = &self.value else {
            for entry in ours.into_iter().rev() {
                lines.drain(entry.lines.clone());
            }
            return Ok(lines.concat());
        };
        match ours[..] {
            [] => self.add(&mut lines, &entries, &headers, value, line_end(before))?,
            [entry] if entry.separator.is_some() && entry.value == *value && entry.lines.len() == 1 => {}
            [entry] => {
                let separator = entry
                    .separator
                    .clone()
                    .unwrap_or_else(|| separator_of(&entries, entry.section.as_deref()));
                let line = format!("{}{}", indent(&lines[entry.lines.start]), self.line(&separator, value));
                let last = &lines[entry.lines.end - 1];
                let end = &last[last.trim_end_matches(['\n', '\r']).len()..];
                lines.splice(entry.lines.clone(), [format!("{line}{end}")]);
            }
            [first, second, ..] => {
                return Err(PlanError::impossible_but(
                    format!(
                        "`{}` is in `{}` more than once, in the lines {} and {}",
                        self.key,
                        self.file.path,
                        first.lines.start + 1,
                        second.lines.start + 1
                    ),
                    "an `ini` decides a key that is there once; use a `file` or a `block` for a list",
                ));
            }
        }
        Ok(lines.concat())
    }

    /// A new key goes behind the last one of its section, and a new section to the end.
    fn add(
        &self,
        lines: &mut Vec<String>,
        entries: &[Entry],
        headers: &[(String, usize)],
        value: &str,
        end: &str,
    ) -> Result<(), PlanError> {
        let section = self.section.as_deref();
        let neighbour = entries.iter().rfind(|entry| entry.section.as_deref() == section);
        let header = headers.iter().rfind(|(name, _)| Some(name.as_str()) == section);
        let place = match (neighbour, header, section) {
            (Some(entry), _, _) => Some(entry.lines.end),
            (None, Some((_, at)), _) => Some(at + 1),
            (None, None, None) => headers.first().map(|&(_, at)| comments_above(lines, at)),
            (None, None, Some(_)) => None,
        };
        // A header that is deeper than the key above it would be more of its value.
        let header_below = place.filter(|place| headers.iter().any(|(_, at)| at == place));
        let like = neighbour.map(|entry| entry.lines.start).or(header_below);
        let indent = like.map(|at| indent(&lines[at])).unwrap_or_default();
        let line = format!("{indent}{}{end}", self.line(&separator_of(entries, section), value));
        let at = place.unwrap_or(lines.len());
        let before = at.checked_sub(1).and_then(|before| lines.get(before));
        if entries.iter().any(|entry| entry.lines.end == at)
            && before.is_some_and(|before| before.trim_end().ends_with('\\'))
        {
            let what =
                format!("ends with `\\` in line {at}, so a line behind it would be part of that value");
            return Err(self.file.impossible(&what));
        }
        match (place, section) {
            (Some(place), _) => insert_at(lines, place, line),
            (None, None) => insert_at(lines, lines.len(), line),
            (None, Some(section)) => {
                let is_blank = lines.last().is_none_or(|last| last.trim().is_empty());
                let gap = if is_blank { "" } else { end };
                insert_at(lines, lines.len(), format!("{gap}[{section}]{end}{line}"));
            }
        }
        Ok(())
    }

    fn line(&self, separator: &str, value: &str) -> String {
        format!("{}{separator}{value}", self.key).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::system::fake::Fake;
    use crate::testing::{self, Example};

    const CNF: &str = "# The server.\n[mysqld]\nport = 3306\n; where it listens\nbind-address=0.0.0.0 # all\nskip-networking\n\n# Clients.\n[client]\n\tport=1";

    fn edited(text: &str, fields: &str) -> String {
        testing::edited("ini", text, fields)
    }

    #[test]
    fn settles_with_one_line_changed_and_the_rest_as_it_was() {
        let mut fake = Fake::debian();
        fake.file("/etc/my.cnf", CNF);
        let example = Example::resources(
            "- ini: { path: /etc/my.cnf, section: mysqld, key: bind-address, value: 127.0.0.1 }",
        );
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: ini /etc/my.cnf: [mysqld] bind-address
          ~ change /etc/my.cnf
              --- /etc/my.cnf
              +++ /etc/my.cnf
              @@ -2,7 +2,7 @@
               [mysqld]
               port = 3306
               ; where it listens
              -bind-address=0.0.0.0 # all
              +bind-address=127.0.0.1
               skip-networking
               
               # Clients.
        Plan: 1 to change, 0 unchanged.
        ");
        let with = |from: &str, to: &str| CNF.replace(from, to);
        assert_eq!(edited(CNF, "section: client, key: port, value: 2"), with("\tport=1", "\tport=2"));
        assert_eq!(edited(CNF, "section: mysqld, key: port, value: 3306"), CNF, "it is true already");
        assert_eq!(
            edited(CNF, "section: mysqld, key: skip-networking, value: '0'"),
            with("skip-networking", "skip-networking=0")
        );
        assert_eq!(edited(CNF, "section: mysqld, key: port, value: ''"), with("port = 3306", "port ="));
        assert_eq!(edited("a =\n", "key: a, value: b"), "a = b\n");
        assert_eq!(edited(CNF, "section: mysqld, key: port, state: absent"), with("port = 3306\n", ""));
        assert_eq!(edited(CNF, "section: none, key: port, state: absent"), CNF);
    }

    #[test]
    fn a_new_key_is_written_as_its_neighbours_are() {
        assert_eq!(
            edited(CNF, "section: client, key: x, value: y"),
            format!("{CNF}\n\tx=y\n"),
            "behind a line without an end"
        );
        assert_eq!(
            edited("[a]\nb = c\n\n[d]\n", "section: a, key: e, value: f"),
            "[a]\nb = c\ne = f\n\n[d]\n"
        );
        assert_eq!(edited("[a]\n\n[d]\ne=f\n", "section: a, key: b, value: c"), "[a]\nb=c\n\n[d]\ne=f\n");
        assert_eq!(
            edited("[d]\r\ne=f\r\n", "section: a, key: b, value: c"),
            "[d]\r\ne=f\r\n\r\n[a]\r\nb=c\r\n"
        );
        assert_eq!(edited("", "section: a, key: b, value: c"), "[a]\nb = c\n");
        assert_eq!(
            edited("[a]\nx=1\n[b]\n[a]\ny=1\n", "section: a, key: z, value: 1"),
            "[a]\nx=1\n[b]\n[a]\ny=1\nz=1\n"
        );
    }

    #[test]
    fn what_is_above_the_first_section_has_no_name() {
        assert_eq!(edited("", "key: b, value: c"), "b = c\n");
        assert_eq!(edited("b=1\n[a]\nb=2\n", "key: b, value: 3"), "b=3\n[a]\nb=2\n");
        assert_eq!(
            edited("# File.\n\n# About a.\n[a]\nb=2\n", "key: c, value: 3"),
            "# File.\n\nc=3\n# About a.\n[a]\nb=2\n"
        );
        assert_eq!(edited("\u{feff}[a]\nb=2\n", "section: a, key: b, value: 3"), "\u{feff}[a]\nb=3\n");
    }

    #[test]
    fn a_value_that_goes_on_in_further_lines_is_replaced_whole() {
        let python = "[a]\nb = 1\n    2\n    3\nc = 4\n";
        assert_eq!(edited(python, "section: a, key: b, value: 5"), "[a]\nb = 5\nc = 4\n");
        assert_eq!(edited(python, "section: a, key: b, state: absent"), "[a]\nc = 4\n");
        let systemd = "[a]\nb=1 \\\nc=2\nd=3\n";
        assert_eq!(edited(systemd, "section: a, key: b, value: 1"), "[a]\nb=1\nd=3\n");
        assert_eq!(edited(systemd, "section: a, key: c, value: 4"), format!("{systemd}c=4\n"));
        let mut fake = Fake::debian();
        fake.file("/etc/a", "[a]\nb=1 \\\n");
        insta::assert_snapshot!(Example::resources("- ini: { path: /etc/a, key: c, section: d, value: 1 }").fails(&mut fake), @r"example: ini /etc/a: [d] c: `/etc/a` ends with `\` in line 2, so a line behind it would be part of that value");
    }

    #[test]
    fn a_key_that_is_there_twice_is_an_error_unless_it_goes() {
        let mut fake = Fake::debian();
        let twice = "[a]\nb=1\nb=2\nc=3\n";
        fake.file("/etc/a", twice);
        insta::assert_snapshot!(Example::resources("- ini: { path: /etc/a, section: a, key: b, value: 1 }").fails(&mut fake), @"example: ini /etc/a: [a] b: `b` is in `/etc/a` more than once, in the lines 2 and 3; an `ini` decides a key that is there once; use a `file` or a `block` for a list");
        assert_eq!(edited(twice, "section: a, key: b, state: absent"), "[a]\nc=3\n");
    }

    #[test]
    fn what_is_not_there_is_made_only_if_told_and_what_is_unknown_is_not_guessed() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(Example::resources("- ini: { path: /etc/new, key: b, value: 1 }").fails(&mut fake), @"example: ini /etc/new: b: `/etc/new` does not exist; install what brings it before, or write `create: true`");
        let brought =
            Example::resources("- package: { name: p }\n- ini: { path: /etc/new, key: b, value: 1 }");
        insta::assert_snapshot!(brought.plan(&fake).expect("a plan"), @"
        example: package p
          + install p
        example: ini /etc/new: b (assumed)
          ? known after apply: whether installing p brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
        Example::resources("- ini: { path: /etc/new, key: b, state: absent }").settles(&mut fake);
        Example::resources("- ini: { path: /etc/new, key: b, value: 1, create: true }").settles(&mut fake);
        assert_eq!(fake.text("/etc/new").as_deref(), Some("b = 1\n"));
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems =
            |fields: &str| Example::resources(&format!("- ini: {{ path: /etc/a, {fields} }}")).problems();
        insta::assert_snapshot!(problems("key: a"), @"example/recipe.yaml:2:10: an `ini` needs its `value`");
        insta::assert_snapshot!(problems("key: a, value: b, state: absent"), @"example/recipe.yaml:2:10: a key that shall be absent has no `value`");
        insta::assert_snapshot!(problems("key: a=b, value: c"), @"example/recipe.yaml:2:10: `a=b` is not a key of an INI file; a key has no `=` in it and does not start with `[`, `#` or `;`");
        insta::assert_snapshot!(problems("section: '[a]', key: b, value: c"), @"example/recipe.yaml:2:10: `[a]` is not the name of a section; it is written without brackets; leave it out for what is above the first section");
        insta::assert_snapshot!(problems("key: a, value: \"b\\n[c]\""), @"example/recipe.yaml:2:10: `value` is one line; it has a line end or NUL in it");
        insta::assert_snapshot!(problems("key: a, value: ' b'"), @"example/recipe.yaml:2:10: `value` (` b`) starts or ends with a space");
        insta::assert_snapshot!(problems("key: a, value: 'b\\'"), @r"example/recipe.yaml:2:10: `value` ends with `\`: the next line would be part of it");
        insta::assert_snapshot!(problems("key: a, value: true"), @r#"example/recipe.yaml:2:41: expected a string, found the boolean `true`; write "true" in quotes"#);
    }

    /// It was taken for more of the value before it, and replaced at every run.
    #[test]
    fn a_blank_line_with_spaces_in_it_is_no_part_of_a_value() {
        let fields = "section: a, key: b, value: c";
        assert_eq!(edited("[a]\n\t", fields), "[a]\nb = c\n\t");
        assert_eq!(edited("[a]\nb = d\n  \ne = f\n", fields), "[a]\nb = c\n  \ne = f\n");
    }

    #[test]
    fn a_header_that_is_indented_is_no_part_of_a_value_above_it() {
        assert_eq!(edited("[a]\n [c]\nd=e\n", "section: a, key: b, value: c"), "[a]\n b=c\n [c]\nd=e\n");
        assert_eq!(edited(" [c]\nd=e\n", "key: b, value: c"), " b=c\n [c]\nd=e\n");
    }

    #[test]
    fn contradictions_are_found() {
        let several = "
- ini: { path: /etc/a, section: s, key: b, value: 1 }
- ini: { path: /etc/a, section: s, key: b, value: 2 }
- ini: { path: /etc/a, key: s, value: 1 }
- file: { path: /etc/a, state: absent }
";
        insta::assert_snapshot!(Example::resources(several).problems(), @"
        example/recipe.yaml:3:5: the key `[s].b` of `/etc/a` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:2:5: the key `[s].b` of `/etc/a` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:5:5); put it where the file is decided
        example/recipe.yaml:4:5: the key `s` of `/etc/a` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:5:5); put it where the file is decided
        ");
    }

    proptest! {
        /// Whatever the file is: the key has the value, or is gone, and every other line is as it was.
        #[test]
        fn other_lines_stay_and_the_value_is_read_back(
            parts in prop::collection::vec(
                prop::sample::select(vec!["[a]", "[b] ; b", "k=1", "k = 2", "\tk=3", "x:y", "z=\\", "  on", "# k=4", ";", ""]),
                0..10,
            ),
            section in prop::option::of(prop::sample::select(vec!["a", "b", "c"])),
            value in prop::option::of(prop::sample::select(vec!["1", "2 ; x", ""])),
            crlf in any::<bool>(),
            ends in any::<bool>(),
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let before = parts.join(end) + if ends { end } else { "" };
            let resolved = Resolved {
                file: EditedFile {
                    path: serde_json::from_str("\"/etc/a\"").expect("a path"),
                    create: false,
                    validate: None,
                    state: State::Present,
                },
                section: section.map(str::to_owned),
                key: "k".into(),
                value: value.map(str::to_owned),
            };
            let is_ours = |entry: &&Entry| entry.section == resolved.section && entry.key == "k";
            let lines = lines_of(&before);
            let (entries, _) = read(&lines);
            let ours: Vec<usize> = entries.iter().filter(is_ours).flat_map(|entry| entry.lines.clone()).collect();
            let Ok(after) = resolved.edit(&before) else {
                let is_open = before.trim_end_matches(['\r', '\n']).ends_with('\\');
                prop_assert!(is_open || entries.iter().filter(is_ours).count() > 1);
                return Ok(());
            };
            let lines_after = lines_of(&after);
            let (entries_after, _) = read(&lines_after);
            let values: Vec<&str> = entries_after.iter().filter(is_ours).map(|entry| entry.value.as_str()).collect();
            prop_assert_eq!(values, value.into_iter().collect::<Vec<_>>());
            let mut rest = lines_after.iter().map(|line| line.trim_end());
            for (at, line) in lines.iter().enumerate().filter(|(at, _)| !ours.contains(at)) {
                prop_assert!(rest.any(|other| other == line.trim_end()), "line {} is gone from {:?}", at, after);
            }
            prop_assert_eq!(resolved.edit(&after).expect("edited"), after);
        }
    }
}
