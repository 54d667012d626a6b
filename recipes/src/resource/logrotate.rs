//! `logrotate`: how logs are rotated.

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{AbsolutePath, AccountName, Mode, PartName, State, one_line};
use super::part::{Folder, Part};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;

/// How logs are rotated, in a file of its own in `/etc/logrotate.d` that `logrotate --debug` has accepted.
///
/// What is not said is as `/etc/logrotate.conf` has it. Logs that are not there yet are no error, unless
/// `missingok` says so. In a directory that others than root may write to, logrotate needs `su`.
///
/// ```yaml
/// - logrotate:
///     name: app
///     paths: [/var/log/app/*.log]
///     frequency: daily
///     rotate: 14
///     compress: true
///     delaycompress: true
///     notifempty: true
///     create: { mode: "0640", user: root, group: adm }
///     postrotate: systemctl kill --signal=HUP app.service
/// - logrotate: { name: old, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Logrotate {
    /// The name of the file: letters, digits, `-` and `_`.
    name: PartName,
    /// The logs; `*`, `?` and `[...]` stand for more than one.
    #[serde(default)]
    paths: Vec<AbsolutePath>,
    /// `hourly`, `daily`, `weekly`, `monthly` or `yearly`. Logrotate itself runs once a day.
    frequency: Option<Frequency>,
    /// How many old logs are kept.
    rotate: Option<u32>,
    /// Rotated when larger than this, such as `100M`, however old.
    size: Option<String>,
    /// Rotated at its time only if larger than this.
    minsize: Option<String>,
    /// Rotated before its time if larger than this.
    maxsize: Option<String>,
    /// How many days old logs are kept.
    maxage: Option<u32>,
    /// Whether old logs are compressed.
    compress: Option<bool>,
    /// Whether the newest of the old logs is not yet compressed.
    delaycompress: Option<bool>,
    /// Whether old logs are named by date rather than by number.
    dateext: Option<bool>,
    /// Whether the log is copied and emptied rather than moved, for programs that keep it open.
    copytruncate: Option<bool>,
    /// Whether an empty log is left as it is.
    notifempty: Option<bool>,
    /// Whether a log that is missing is no error; `true` if not said.
    missingok: Option<bool>,
    /// Mode and owner of the new, empty log.
    create: Option<Create>,
    /// As whom logs are rotated; as root if not said.
    su: Option<Su>,
    /// Whether `prerotate` and `postrotate` run once for all logs rather than for each.
    sharedscripts: Option<bool>,
    /// Commands of a shell before a log is rotated.
    prerotate: Option<String>,
    /// Commands of a shell after a log is rotated.
    postrotate: Option<String>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Permission bits.
    mode: Mode,
    /// Its owner; `root` if not said.
    user: Option<AccountName>,
    /// Its group; `root` if not said.
    group: Option<AccountName>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Su {
    /// The user.
    user: AccountName,
    /// The group.
    group: AccountName,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Frequency {
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

impl Fields for Logrotate {
    const KIND: &'static str = "logrotate";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.paths.is_empty() && self.state == State::Present {
            return Err(Problem::new("a `logrotate` needs `paths`"));
        }
        let name = |name: &AccountName| name.0.clone();
        let created = self.create.as_ref();
        let su = self.su.as_ref();
        let users = created.and_then(|create| create.user.as_ref()).into_iter().chain(su.map(|su| &su.user));
        let groups =
            created.and_then(|create| create.group.as_ref()).into_iter().chain(su.map(|su| &su.group));
        let decides = self.paths.iter().map(|path| Claim::Setting { of: "logrotate", key: path.to_string() });
        let part = Part {
            validate: Some(["logrotate", "--debug", "{file}"].map(str::to_owned).to_vec()),
            folder: Folder::Of("logrotate"),
            users: users.map(name).collect(),
            groups: groups.map(name).collect(),
            decides: decides.collect(),
            ..Part::new("/etc/logrotate.d", &self.name.0)
        };
        let text = if self.paths.is_empty() { None } else { Some(self.rule()?) };
        Ok(Box::new(part.with(self.state, text)?))
    }
}

impl Logrotate {
    fn rule(&self) -> Result<String, Problem> {
        if self.size.is_some() && self.frequency.is_some() {
            return Err(Problem::new("with `size` logs are rotated whatever their `frequency` is")
                .help("leave one out, or say `minsize` or `maxsize`"));
        }
        if self.copytruncate == Some(true) && self.create.is_some() {
            return Err(Problem::new("with `copytruncate` the log stays, so `create` has no effect"));
        }
        let paths: Vec<String> = self.paths.iter().map(path).collect::<Result<_, _>>()?;
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.frequency.map(|frequency| frequency.word().to_owned()));
        lines.extend(self.rotate.map(|count| format!("rotate {count}")));
        for (word, size) in [("size", &self.size), ("minsize", &self.minsize), ("maxsize", &self.maxsize)] {
            lines.extend(size.as_ref().map(|size| sized(word, size)).transpose()?);
        }
        lines.extend(self.maxage.map(|days| format!("maxage {days}")));
        let switches = [
            (self.compress, "compress", "nocompress"),
            (self.delaycompress, "delaycompress", "nodelaycompress"),
            (self.dateext, "dateext", "nodateext"),
            (self.copytruncate, "copytruncate", "nocopytruncate"),
            (self.notifempty, "notifempty", "ifempty"),
            // The check of a file is an error where a log is missing, and on a new host all of them are.
            (self.missingok.or(Some(true)), "missingok", "nomissingok"),
            (self.sharedscripts, "sharedscripts", "nosharedscripts"),
        ];
        for (wanted, yes, no) in switches {
            lines.extend(wanted.map(|wanted| if wanted { yes } else { no }.to_owned()));
        }
        if let Some(Create { mode, user, group }) = &self.create {
            let name =
                |name: &Option<AccountName>| name.as_ref().map_or("root".to_owned(), |name| name.0.clone());
            lines.push(format!("create {:04o} {} {}", mode.0, name(user), name(group)));
        }
        lines.extend(self.su.as_ref().map(|su| format!("su {} {}", su.user.0, su.group.0)));
        for (word, script) in [("prerotate", &self.prerotate), ("postrotate", &self.postrotate)] {
            lines.extend(script.as_ref().map(|script| scripted(word, script)).transpose()?);
        }
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        Ok(format!("{} {{\n{lines}}}\n", paths.join("\n")))
    }
}

impl Frequency {
    fn word(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }
}

fn path(path: &AbsolutePath) -> Result<String, Problem> {
    let text = path.to_string();
    one_line("a path", &text)?;
    if text.contains(['"', '\'', '\\', '{', '}']) {
        return Err(Problem::new(format!("the path `{text}` has a quote, a backslash or a brace in it")));
    }
    Ok(if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text })
}

fn sized(word: &str, size: &str) -> Result<String, Problem> {
    let number = size.strip_suffix(['k', 'M', 'G']).unwrap_or(size);
    if number.is_empty() || !number.chars().all(|c| c.is_ascii_digit()) {
        return Err(Problem::new(format!("`{size}` is not a size"))
            .help("it is a number of bytes, or with `k`, `M` or `G` behind it, such as `100M`"));
    }
    Ok(format!("{word} {size}"))
}

/// A script as it stands in a rule, up to the line `endscript`.
fn scripted(word: &str, script: &str) -> Result<String, Problem> {
    let script = script.trim_end();
    if script.is_empty() || script.contains('\0') {
        return Err(Problem::new(format!("`{word}` is empty or has NUL in it")));
    }
    if script.lines().any(|line| line.trim_start().starts_with("endscript")) {
        return Err(Problem::new(format!("`{word}` has a line `endscript`, which ends it")));
    }
    // As it is written: a here-document ends where its word starts a line.
    Ok(format!("{word}\n{script}\n    endscript"))
}

#[cfg(test)]
mod tests {
    use crate::op::Op;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn debian() -> Fake {
        let mut fake = Fake::debian();
        fake.directory("/etc/logrotate.d");
        fake.group_with_id("adm", 4);
        fake
    }

    fn logrotate(fields: &str) -> Example {
        Example::resources(&format!("- logrotate: {{ name: app, {fields} }}"))
    }

    #[test]
    fn settles_checked_changed_and_gone() {
        let mut fake = debian();
        insta::assert_snapshot!(logrotate("paths: [/var/log/app/*.log, /var/log/my app.log], frequency: daily, rotate: 14, maxsize: 100M, maxage: 90, compress: true, delaycompress: true, dateext: false, notifempty: true, create: { mode: \"0640\", group: adm }, su: { user: root, group: adm }, sharedscripts: true, postrotate: \"if true; then\\n    kill -HUP 1\\nfi\\n\"").settles(&mut fake), @r#"
        example: logrotate /etc/logrotate.d/app
          + create /etc/logrotate.d/app (root:root 0644, 295 bytes)
              --- /dev/null
              +++ /etc/logrotate.d/app
              @@ -0,0 +1,20 @@
              +/var/log/app/*.log
              +"/var/log/my app.log" {
              +    daily
              +    rotate 14
              +    maxsize 100M
              +    maxage 90
              +    compress
              +    delaycompress
              +    nodateext
              +    notifempty
              +    missingok
              +    sharedscripts
              +    create 0640 root adm
              +    su root adm
              +    postrotate
              +if true; then
              +    kill -HUP 1
              +fi
              +    endscript
              +}
        Plan: 1 to change, 0 unchanged.
        "#);
        let [Op::WriteFile(write)] = &fake.performed[..] else { panic!("{:?}", fake.performed) };
        assert_eq!(write.validate.as_deref().expect("a checker").join(" "), "logrotate --debug {file}");
        insta::assert_snapshot!(logrotate("paths: [/var/log/app.log], size: 10k, missingok: false, copytruncate: true").settles(&mut fake), @r#"
        example: logrotate /etc/logrotate.d/app
          ~ change /etc/logrotate.d/app
              --- /etc/logrotate.d/app
              +++ /etc/logrotate.d/app
              @@ -1,20 +1,5 @@
              -/var/log/app/*.log
              -"/var/log/my app.log" {
              -    daily
              -    rotate 14
              -    maxsize 100M
              -    maxage 90
              -    compress
              -    delaycompress
              -    nodateext
              -    notifempty
              -    missingok
              -    sharedscripts
              -    create 0640 root adm
              -    su root adm
              -    postrotate
              -if true; then
              -    kill -HUP 1
              -fi
              -    endscript
              +/var/log/app.log {
              +    size 10k
              +    copytruncate
              +    nomissingok
               }
        Plan: 1 to change, 0 unchanged.
        "#);
        insta::assert_snapshot!(logrotate("state: absent").settles(&mut fake), @"
        example: logrotate /etc/logrotate.d/app
          - remove /etc/logrotate.d/app
        Plan: 1 to change, 0 unchanged.
        ");
        logrotate("state: absent").settles(&mut fake);
    }

    #[test]
    fn accounts_and_logrotate_itself_must_be_there() {
        let app = "paths: [/var/log/a], create: { mode: \"0640\", user: app, group: adm }";
        insta::assert_snapshot!(logrotate(app).fails(&mut debian()), @"example: logrotate /etc/logrotate.d/app: the user `app` does not exist; put a `user: { name: app }` before it");
        insta::assert_snapshot!(logrotate("paths: [/var/log/a], su: { user: root, group: app }").fails(&mut debian()), @"example: logrotate /etc/logrotate.d/app: the group `app` does not exist; put a `group: { name: app }` before it");
        insta::assert_snapshot!(logrotate("paths: [/var/log/a]").fails(&mut Fake::debian()), @"example: logrotate /etc/logrotate.d/app: the directory `/etc/logrotate.d` does not exist; put a `package: { name: logrotate }` before it");
        let example =
            Example::resources(&format!("- package: {{ name: app }}\n- logrotate: {{ name: app, {app} }}"));
        insta::assert_snapshot!(example.plan(&debian()).expect("a plan"), @"
        example: package app
          + install app
        example: logrotate /etc/logrotate.d/app (assumed)
          ? known after apply: whether installing app brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| logrotate(fields).problems();
        let with = |fields: &str| problems(&format!("paths: [/var/log/a], {fields}"));
        insta::assert_snapshot!(problems("rotate: 5"), @"example/recipe.yaml:2:16: a `logrotate` needs `paths`");
        insta::assert_snapshot!(problems("paths: [log]"), @"example/recipe.yaml:2:36: the path `log` does not start with `/`");
        insta::assert_snapshot!(problems("paths: ['/var/log/a{b,c}']"), @"example/recipe.yaml:2:16: the path `/var/log/a{b,c}` has a quote, a backslash or a brace in it");
        insta::assert_snapshot!(problems("paths: [\"/var/log/a\\nb\"]"), @"example/recipe.yaml:2:16: a path goes into one line; it has a line end or NUL in it");
        insta::assert_snapshot!(with("state: absent"), @"example/recipe.yaml:2:16: what shall be absent has only its `name` and `state: absent`");
        insta::assert_snapshot!(with("frequency: nightly"), @"example/recipe.yaml:2:61: `nightly` is not a valid value here; valid are `hourly`, `daily`, `weekly`, `monthly` and `yearly`");
        insta::assert_snapshot!(with("frequency: daily, size: 10M"), @"example/recipe.yaml:2:16: with `size` logs are rotated whatever their `frequency` is; leave one out, or say `minsize` or `maxsize`");
        insta::assert_snapshot!(with("size: 10MB"), @"example/recipe.yaml:2:16: `10MB` is not a size; it is a number of bytes, or with `k`, `M` or `G` behind it, such as `100M`");
        insta::assert_snapshot!(with("copytruncate: true, create: { mode: \"0640\" }"), @"example/recipe.yaml:2:16: with `copytruncate` the log stays, so `create` has no effect");
        insta::assert_snapshot!(with("create: { mode: 640 }"), @r#"example/recipe.yaml:2:66: a mode is a string: the number 640 is 0o1200 in octal; write "0640""#);
        insta::assert_snapshot!(with("postrotate: \"a\\n endscript\\n}\""), @"example/recipe.yaml:2:16: `postrotate` has a line `endscript`, which ends it");
        insta::assert_snapshot!(with("prerotate: ''"), @"example/recipe.yaml:2:16: `prerotate` is empty or has NUL in it");
        insta::assert_snapshot!(Example::resources("- logrotate: { name: a, paths: [/var/log/a] }\n- logrotate: { name: b, paths: [/var/log/a] }").problems(), @"example/recipe.yaml:3:5: `/var/log/a` of logrotate is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
