//! `block`: lines between two markers in a file that something else owns.

use schemars::JsonSchema;
use serde::Deserialize;

use super::checkers::Validate;
use super::edited::{EditedFile, Insert, insert_at, line_end, lines_of, one_line};
use super::fields::{AbsolutePath, State};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, PlanError};

/// A block of lines in a file that something else owns, between the two comments
/// `# BEGIN managed block NAME` and `# END managed block NAME`.
///
/// What is between the markers is replaced; everything else in the file, its owner and its mode stay. A
/// block that is there stays where it is. Markers that do not belong together are an error.
///
/// ```yaml
/// - block:
///     path: /etc/ssh/ssh_config
///     name: bastion
///     content: |
///       Host *.internal
///         ProxyJump bastion.example.org
/// - block: { path: /etc/php.ini, name: limits, comment: ";", content: "memory_limit = 256M", insert_after: '^\[PHP\]' }
/// - block: { path: /etc/hosts, name: cluster, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    /// The file.
    path: AbsolutePath,
    /// What tells it from other blocks of the file. It is in the markers: another name is another block.
    name: String,
    /// The lines between the markers; required, unless `absent`.
    content: Option<String>,
    /// What starts a comment in the file; `#` if not said.
    #[serde(default = "number_sign")]
    comment: String,
    /// A regular expression: a new block goes after the last line that matches it, not to the end.
    insert_after: Option<String>,
    /// A regular expression: a new block goes before the first line that matches it, not to the end.
    insert_before: Option<String>,
    /// Whether a file that is not there is made, as root's, with mode 0644; `false` if not said.
    #[serde(default)]
    create: bool,
    /// A command that must accept the new file, as `{file}`, before it is put in place; `false` for none. If
    /// not said, a file that is well known is checked by the program that reads it.
    validate: Option<Validate>,
    /// `present`, or `absent` with its markers.
    #[serde(default)]
    state: State,
}

fn number_sign() -> String {
    "#".into()
}

#[derive(Debug)]
struct Resolved {
    file: EditedFile,
    name: String,
    begin: String,
    end: String,
    /// What is between the markers; none if the block shall be absent.
    content: Option<String>,
    insert: Insert,
}

impl Fields for Block {
    const KIND: &'static str = "block";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        for (field, text) in [("name", &self.name), ("comment", &self.comment)] {
            one_line(field, text)?;
            if text.is_empty() {
                return Err(Problem::new(format!("the `{field}` of a `block` is empty")));
            }
        }
        let marker = |edge: &str| format!("{} {edge} managed block", self.comment);
        let (begin, end) = (marker("BEGIN"), marker("END"));
        match (self.state, self.content.as_deref()) {
            (State::Absent, Some(_)) => {
                return Err(Problem::new("a block that shall be absent has no `content`"));
            }
            (State::Present, None) => return Err(Problem::new("a `block` needs its `content`")),
            (State::Present, Some(text)) if text.trim().is_empty() => {
                return Err(Problem::new("the `content` of a `block` is empty")
                    .help("to remove the block write `state: absent`"));
            }
            (State::Present, Some(text)) => {
                let is_marker = |line: &&str| line.starts_with(&begin) || line.starts_with(&end);
                if let Some(line) = text.lines().find(is_marker) {
                    return Err(Problem::new(format!(
                        "the `content` of a `block` has a marker in it: `{line}`"
                    )));
                }
            }
            (State::Absent, None) => {}
        }
        let insert =
            Insert::from_fields(Self::KIND, self.insert_after.as_deref(), self.insert_before.as_deref())?;
        let file = EditedFile {
            path: self.path,
            create: self.create,
            validate: self.validate.map(|validate| validate.0),
            state: self.state,
        };
        Ok(Box::new(Resolved {
            file,
            begin: format!("{begin} {}", self.name),
            end: format!("{end} {}", self.name),
            name: self.name,
            content: self.content,
            insert,
        }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        format!("{}: {}", self.file.path, self.name)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Block { path: self.file.path.as_path().to_owned(), name: self.name.clone() }]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        self.file.plan(facts, |before| self.edit(before))
    }

    fn is_verbatim(&self) -> bool {
        true
    }
}

impl Resolved {
    /// The text with the block as it shall be. The first block of the name becomes it, further ones go.
    fn edit(&self, before: &str) -> Result<String, PlanError> {
        let mut wanted = self.lines(line_end(before));
        let mut lines = Vec::new();
        let mut begun = None;
        for (number, line) in (1..).zip(lines_of(before)) {
            let text = line.trim_end();
            match begun {
                None if text == self.begin => begun = Some(number),
                None if text == self.end => return Err(self.torn("ends", number, "does not begin")),
                None => lines.push(line),
                Some(first) if text == self.begin => return Err(self.torn("begins", first, "does not end")),
                Some(_) if text == self.end => {
                    lines.extend(wanted.take());
                    begun = None;
                }
                Some(_) => {}
            }
        }
        if let Some(first) = begun {
            return Err(self.torn("begins", first, "does not end"));
        }
        if let Some(wanted) = wanted {
            let at = self.insert.place(&lines);
            insert_at(&mut lines, at, wanted);
        }
        Ok(lines.concat())
    }

    /// The block with its markers, its lines ending as those of the file do.
    fn lines(&self, line_end: &str) -> Option<String> {
        let content = self.content.as_deref()?;
        let lines = [self.begin.as_str()].into_iter().chain(content.lines()).chain([self.end.as_str()]);
        Some(lines.map(|line| format!("{line}{line_end}")).collect())
    }

    /// One marker without the other: where the block is nobody can know.
    fn torn(&self, edge: &str, number: usize, lacks: &str) -> PlanError {
        PlanError::impossible_but(
            format!("the block `{}` of `{}` {edge} in line {number} and {lacks}", self.name, self.file.path),
            format!("its markers are `{}` and `{}`; put them right in the file", self.begin, self.end),
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::op::Op;
    use crate::system::fake::Fake;
    use crate::testing::{self, Example};

    fn edited(text: &str, fields: &str) -> String {
        testing::edited("block", text, &format!("name: x, {fields}"))
    }

    #[test]
    fn settles_with_the_block_there_once_and_the_rest_as_it_was() {
        let mut fake = Fake::debian();
        fake.file("/etc/a", "# about a\na\n");
        let example = Example::resources("- block: { path: /etc/a, name: x, content: \"b\\n\\n  c\" }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: block /etc/a: x
          ~ change /etc/a
              --- /etc/a
              +++ /etc/a
              @@ -1,2 +1,7 @@
               # about a
               a
              +# BEGIN managed block x
              +b
              +
              +  c
              +# END managed block x
        Plan: 1 to change, 0 unchanged.
        ");
        let text = fake.text("/etc/a").expect("the file");
        let changed = edited(&format!("{text}z"), "content: d");
        assert_eq!(changed, "# about a\na\n# BEGIN managed block x\nd\n# END managed block x\nz");
        assert_eq!(edited(&changed, "state: absent"), "# about a\na\nz");
        assert_eq!(edited("a\n", "state: absent"), "a\n");
    }

    #[test]
    fn settles_whatever_the_ends_of_lines_are() {
        assert_eq!(edited("", "content: b"), "# BEGIN managed block x\nb\n# END managed block x\n");
        assert_eq!(edited("a", "content: b"), "a\n# BEGIN managed block x\nb\n# END managed block x\n");
        let crlf = "a\r\n# BEGIN managed block x\r\nb\r\n# END managed block x\r\nz";
        assert_eq!(edited(crlf, "content: \"b\\n\""), crlf, "nothing changes");
        assert_eq!(
            edited("a\r\nz", "content: b"),
            "a\r\nz\r\n# BEGIN managed block x\r\nb\r\n# END managed block x\r\n"
        );
    }

    #[test]
    fn a_new_block_goes_where_it_is_told_and_one_that_is_there_stays() {
        let block = "; BEGIN managed block x\nb\n; END managed block x\n";
        let fields = "content: b, comment: ;";
        assert_eq!(edited("a\nz\n", &format!("{fields}, insert_before: ^z")), format!("a\n{block}z\n"));
        assert_eq!(edited("a\nz\n", &format!("{fields}, insert_after: ^a")), format!("a\n{block}z\n"));
        assert_eq!(edited("a\n", &format!("{fields}, insert_after: ^z")), format!("a\n{block}"));
        let there = format!("{block}a\n{block}");
        assert_eq!(edited(&there, &format!("{fields}, insert_after: ^a")), format!("{block}a\n"));
        let other = "# BEGIN managed block xy\nb\n# END managed block xy\n";
        assert_eq!(edited(other, "state: absent"), other, "another block stays");
    }

    #[test]
    fn a_file_that_is_not_there_is_made_only_if_told() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(Example::resources("- block: { path: /etc/new, name: x, content: b }").fails(&mut fake), @"example: block /etc/new: x: `/etc/new` does not exist; install what brings it before, or write `create: true`");
        Example::resources("- block: { path: /etc/new, name: x, content: b, create: true }")
            .settles(&mut fake);
        assert!(matches!(&fake.performed[..], [Op::WriteFile(write)] if write.attributes.mode == 0o644));
        Example::resources("- block: { path: /etc/none, name: x, state: absent }").settles(&mut fake);
        insta::assert_snapshot!(Example::resources("- block: { path: /etc, name: x, state: absent }").fails(&mut fake), @"example: block /etc: x: `/etc` is a directory, not a file");
    }

    #[test]
    fn what_a_package_may_bring_is_edited_when_it_is_there() {
        let fake = Fake::debian();
        let example =
            Example::resources("- package: { name: a }\n- block: { path: /etc/a, name: x, content: b }");
        insta::assert_snapshot!(example.plan(&fake).expect("a plan"), @"
        example: package a
          + install a
        example: block /etc/a: x (assumed)
          ? known after apply: whether installing a brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn markers_that_do_not_belong_together_are_an_error() {
        let fails = |text: &str| {
            let mut fake = Fake::debian();
            fake.file("/etc/a", text);
            Example::resources("- block: { path: /etc/a, name: x, content: b }").fails(&mut fake)
        };
        insta::assert_snapshot!(fails("a\n# BEGIN managed block x\nb\n"), @"example: block /etc/a: x: the block `x` of `/etc/a` begins in line 2 and does not end; its markers are `# BEGIN managed block x` and `# END managed block x`; put them right in the file");
        insta::assert_snapshot!(fails("# BEGIN managed block x\n# BEGIN managed block x\n# END managed block x\n"), @"example: block /etc/a: x: the block `x` of `/etc/a` begins in line 1 and does not end; its markers are `# BEGIN managed block x` and `# END managed block x`; put them right in the file");
        insta::assert_snapshot!(fails("# END managed block x\n"), @"example: block /etc/a: x: the block `x` of `/etc/a` ends in line 1 and does not begin; its markers are `# BEGIN managed block x` and `# END managed block x`; put them right in the file");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems =
            |fields: &str| Example::resources(&format!("- block: {{ path: /etc/a, {fields} }}")).problems();
        insta::assert_snapshot!(problems("name: x"), @"example/recipe.yaml:2:12: a `block` needs its `content`");
        insta::assert_snapshot!(problems("name: x, content: \"\\n\""), @"example/recipe.yaml:2:12: the `content` of a `block` is empty; to remove the block write `state: absent`");
        insta::assert_snapshot!(problems("name: x, content: b, state: absent"), @"example/recipe.yaml:2:12: a block that shall be absent has no `content`");
        insta::assert_snapshot!(problems("name: \"x\\ny\", content: b"), @"example/recipe.yaml:2:12: `name` is one line; it has a line end or NUL in it");
        insta::assert_snapshot!(problems("name: \" x\", content: b"), @"example/recipe.yaml:2:12: `name` (` x`) starts or ends with a space");
        insta::assert_snapshot!(problems("name: x, comment: '', content: b"), @"example/recipe.yaml:2:12: the `comment` of a `block` is empty");
        insta::assert_snapshot!(problems("name: x, content: \"# END managed block y\""), @"example/recipe.yaml:2:12: the `content` of a `block` has a marker in it: `# END managed block y`");
        insta::assert_snapshot!(problems("name: x, content: b, insert_after: '('"), @"example/recipe.yaml:2:12: `insert_after` is not a valid regular expression: unclosed group");
    }

    #[test]
    fn contradictions_are_found() {
        let several = "
- block: { path: /etc/a, name: x, content: b }
- block: { path: /etc/a, name: x, state: absent }
- block: { path: /etc/a, name: y, content: c }
- file: { path: /etc/a, content: z }
";
        insta::assert_snapshot!(Example::resources(several).problems(), @"
        example/recipe.yaml:3:5: the block `x` of `/etc/a` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:2:5: the block `x` of `/etc/a` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:5:5); put it where the file is decided
        example/recipe.yaml:4:5: the block `y` of `/etc/a` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:5:5); put it where the file is decided
        ");
    }

    /// With a line end behind it, it is a line as other systems end it.
    #[test]
    fn a_file_of_one_line_with_a_carriage_return_settles() {
        let mut fake = Fake::debian();
        fake.file("/etc/conf", "\r");
        Example::resources("- block: { path: /etc/conf, name: b, content: x }").settles(&mut fake);
        assert_eq!(
            fake.text("/etc/conf").as_deref(),
            Some("\r\r\n# BEGIN managed block b\r\nx\r\n# END managed block b\r\n")
        );
    }
}
