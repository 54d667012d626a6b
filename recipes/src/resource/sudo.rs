//! `sudo`: who may run what as whom.

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{AccountName, PartName, State, one_line};
use super::part::{Folder, Part};
use super::{Context, Fields, Resource};
use crate::error::Problem;

/// A rule of sudo, in a file of its own in `/etc/sudoers.d` that `visudo` has accepted.
///
/// Commands are written as they are run; what sudoers(5) wants escaped is escaped. A command without
/// arguments may be run with any, so write `""` behind it for none; `*` matches any text, with spaces and
/// slashes. Names of users and groups need not exist yet.
///
/// ```yaml
/// - sudo:
///     name: deploy
///     users: [deploy]
///     groups: [ops]
///     commands: ["/usr/bin/systemctl restart app", /usr/bin/journalctl]
///     nopasswd: true
/// - sudo: { name: old, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sudo {
    /// The name of the file: letters, digits, `-` and `_`. Sudo passes over names with `.` or `~`.
    name: PartName,
    /// Who may.
    #[serde(default)]
    users: Vec<AccountName>,
    /// Groups whose members may.
    #[serde(default)]
    groups: Vec<AccountName>,
    /// On which hosts: names, addresses or networks; on all if not said.
    #[serde(default)]
    hosts: Vec<String>,
    /// As which users; as any if not said.
    #[serde(default)]
    run_as: Vec<AccountName>,
    /// What: programs by their absolute paths, with arguments or without; `sudoedit PATH`; or `ALL`.
    #[serde(default)]
    commands: Vec<String>,
    /// Whether no password is asked for; `false` if not said.
    #[serde(default)]
    nopasswd: bool,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

impl Fields for Sudo {
    const KIND: &'static str = "sudo";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let nothing = self.users.is_empty() && self.groups.is_empty() && self.commands.is_empty();
        let text = if nothing && self.state == State::Absent { None } else { Some(self.rule()?) };
        let part = Part {
            // What visudo(8) calls for, and what its own check of the real file insists on.
            mode: 0o440,
            validate: Some(["visudo", "-cf", "{file}"].map(str::to_owned).to_vec()),
            folder: Folder::Of("sudo"),
            ..Part::new("/etc/sudoers.d", &self.name.0)
        };
        Ok(Box::new(part.with(self.state, text)?))
    }
}

impl Sudo {
    fn rule(&self) -> Result<String, Problem> {
        if self.users.is_empty() && self.groups.is_empty() {
            return Err(Problem::new("a `sudo` needs `users` or `groups`"));
        }
        if self.commands.is_empty() {
            return Err(Problem::new("a `sudo` needs `commands`").help("for every command write `[ALL]`"));
        }
        for host in &self.hosts {
            if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || ".-/".contains(c)) {
                return Err(Problem::new(format!("`{host}` is not a host"))
                    .help("hosts are names, IPv4 addresses, networks such as `10.0.0.0/8`, or `ALL`"));
            }
        }
        let commands: Vec<String> =
            self.commands.iter().map(|text| command(text)).collect::<Result<_, _>>()?;
        let users = self.users.iter().map(|user| user.0.clone());
        let who: Vec<String> = users.chain(self.groups.iter().map(|group| format!("%{}", group.0))).collect();
        let run_as: Vec<&str> = self.run_as.iter().map(|user| user.0.as_str()).collect();
        let or_all = |list: String| if list.is_empty() { "ALL".to_owned() } else { list };
        Ok(format!(
            "{} {}=({}) {}{}\n",
            who.join(", "),
            or_all(self.hosts.join(", ")),
            or_all(run_as.join(", ")),
            if self.nopasswd { "NOPASSWD: " } else { "" },
            commands.join(", ")
        ))
    }
}

/// A command as sudoers(5) has it.
fn command(text: &str) -> Result<String, Problem> {
    one_line("a command", text)?;
    if text == "ALL" {
        return Ok(text.to_owned());
    }
    if text.starts_with('!') {
        return Err(Problem::new(format!(
            "`{text}` cannot be forbidden: a copy of it by another name may run"
        ))
        .help("list what may be run"));
    }
    if text.contains('\\') {
        return Err(Problem::new(format!("the command `{text}` has a backslash in it"))
            .help("write commands as they are run; what sudo wants escaped is escaped"));
    }
    let path = text.strip_prefix("sudoedit ").unwrap_or(text).trim_start();
    if !path.starts_with('/') {
        return Err(Problem::new(format!("the command `{text}` is not an absolute path"))
            .help("write one such as `/usr/bin/systemctl restart app`, `sudoedit /etc/app.conf`, or `ALL`"));
    }
    // Sudoers(5), "Command": these have a meaning of their own in it unless a backslash is before them.
    Ok(text.chars().flat_map(|c| ",:=#".contains(c).then_some('\\').into_iter().chain([c])).collect())
}

#[cfg(test)]
mod tests {
    use crate::op::Op;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn debian() -> Fake {
        let mut fake = Fake::debian();
        fake.directory("/etc/sudoers.d");
        fake
    }

    fn sudo(fields: &str) -> Example {
        Example::resources(&format!("- sudo: {{ name: ops, {fields} }}"))
    }

    #[test]
    fn settles_checked_changed_and_gone() {
        let mut fake = debian();
        insta::assert_snapshot!(sudo("groups: [ops], users: [deploy], commands: [/usr/bin/systemctl restart app, ALL], nopasswd: true").settles(&mut fake), @"
        example: sudo /etc/sudoers.d/ops
          + create /etc/sudoers.d/ops (root:root 0440, 69 bytes)
              --- /dev/null
              +++ /etc/sudoers.d/ops
              @@ -0,0 +1 @@
              +deploy, %ops ALL=(ALL) NOPASSWD: /usr/bin/systemctl restart app, ALL
        Plan: 1 to change, 0 unchanged.
        ");
        let [Op::WriteFile(write)] = &fake.performed[..] else { panic!("{:?}", fake.performed) };
        assert_eq!(write.validate.as_deref().expect("a checker").join(" "), "visudo -cf {file}");
        insta::assert_snapshot!(sudo("users: [deploy], hosts: [web-1, 10.0.0.0/8], run_as: [app, root], commands: [ALL]").settles(&mut fake), @"
        example: sudo /etc/sudoers.d/ops
          ~ change /etc/sudoers.d/ops
              --- /etc/sudoers.d/ops
              +++ /etc/sudoers.d/ops
              @@ -1 +1 @@
              -deploy, %ops ALL=(ALL) NOPASSWD: /usr/bin/systemctl restart app, ALL
              +deploy web-1, 10.0.0.0/8=(app, root) ALL
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(sudo("state: absent").settles(&mut fake), @"
        example: sudo /etc/sudoers.d/ops
          - remove /etc/sudoers.d/ops
        Plan: 1 to change, 0 unchanged.
        ");
        sudo("state: absent").settles(&mut fake);
    }

    #[test]
    fn a_file_that_everybody_may_read_gets_its_mode() {
        let mut fake = debian();
        fake.file("/etc/sudoers.d/ops", "a ALL=(ALL) ALL\n");
        insta::assert_snapshot!(sudo("users: [a], commands: [ALL]").settles(&mut fake), @"
        example: sudo /etc/sudoers.d/ops
          ~ /etc/sudoers.d/ops: root:root 0644 -> root:root 0440
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn what_sudo_reads_otherwise_is_escaped() {
        let mut fake = debian();
        sudo("users: [a], commands: ['/bin/a --x=1 b:c d,e f#g', 'sudoedit /etc/a', '/bin/b \"\"']")
            .settles(&mut fake);
        insta::assert_snapshot!(fake.text("/etc/sudoers.d/ops").expect("the file"), @r#"a ALL=(ALL) /bin/a --x\=1 b\:c d\,e f\#g, sudoedit /etc/a, /bin/b """#);
    }

    #[test]
    fn without_sudo_it_is_an_error_and_with_it_coming_it_is_unknown() {
        let rule = "- sudo: { name: ops, users: [a], commands: [ALL] }";
        insta::assert_snapshot!(Example::resources(rule).fails(&mut Fake::debian()), @"example: sudo /etc/sudoers.d/ops: the directory `/etc/sudoers.d` does not exist; put a `package: { name: sudo }` before it");
        let plan = Example::resources(&format!("- package: {{ name: sudo }}\n{rule}"));
        insta::assert_snapshot!(plan.plan(&Fake::debian()).expect("a plan"), @"
        example: package sudo
          + install sudo
        example: sudo /etc/sudoers.d/ops (assumed)
          ? known after apply: whether installing sudo brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| sudo(fields).problems();
        insta::assert_snapshot!(problems("commands: [ALL]"), @"example/recipe.yaml:2:11: a `sudo` needs `users` or `groups`");
        insta::assert_snapshot!(problems("users: [a]"), @"example/recipe.yaml:2:11: a `sudo` needs `commands`; for every command write `[ALL]`");
        insta::assert_snapshot!(problems("users: [ALL], commands: [ALL]"), @"example/recipe.yaml:2:31: `ALL` is not a name for a user or group: lower-case letters, digits, `-` and `_`, at most 32, not starting with a digit");
        insta::assert_snapshot!(problems("users: [a], commands: [ALL], state: absent"), @"example/recipe.yaml:2:11: what shall be absent has only its `name` and `state: absent`");
        insta::assert_snapshot!(problems("users: [a], hosts: ['a=b'], commands: [ALL]"), @"example/recipe.yaml:2:11: `a=b` is not a host; hosts are names, IPv4 addresses, networks such as `10.0.0.0/8`, or `ALL`");
        insta::assert_snapshot!(problems("users: [a], commands: [systemctl]"), @"example/recipe.yaml:2:11: the command `systemctl` is not an absolute path; write one such as `/usr/bin/systemctl restart app`, `sudoedit /etc/app.conf`, or `ALL`");
        insta::assert_snapshot!(problems("users: [a], commands: ['!/bin/sh']"), @"example/recipe.yaml:2:11: `!/bin/sh` cannot be forbidden: a copy of it by another name may run; list what may be run");
        insta::assert_snapshot!(problems("users: [a], commands: ['/bin/a b\\:c']"), @r#"example/recipe.yaml:2:11: the command `/bin/a b\:c` has a backslash in it; write commands as they are run; what sudo wants escaped is escaped"#);
        insta::assert_snapshot!(problems("users: [a], commands: [\"/bin/a\\nb ALL=(ALL) ALL\"]"), @"example/recipe.yaml:2:11: a command goes into one line; it has a line end or NUL in it");
        insta::assert_snapshot!(Example::resources("- sudo: { name: a.b, users: [a], commands: [ALL] }").problems(), @"example/recipe.yaml:2:11: `a.b` is not a name for a file of settings: letters, digits, `-` and `_`, without a dot");
        insta::assert_snapshot!(Example::resources("- sudo: { name: a, users: [a], commands: [ALL] }\n- sudo: { name: a, users: [b], commands: [ALL] }").problems(), @"example/recipe.yaml:3:5: the path `/etc/sudoers.d/a` is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
