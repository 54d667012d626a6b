//! How an operation is shown: in plans, in events and on terminals. Secrets are shown as their length.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use crate::duration::Span;
use crate::op::{
    Before, Checkout, Command, Content, Download, Input, Op, PackageRequest, UnitAction, Unpack, Unpacking,
    UserRequest, WriteFile,
};
use crate::system::{Attributes, Why};

/// What stands for a secret in a plan: the same for the same secret, and nothing that it could be found from.
pub type Fingerprint<'a> = dyn Fn(&[u8]) -> String + 'a;

/// One change as a reader of a plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What kind of change it is.
    pub kind: ChangeKind,
    /// What happens, in one line.
    pub summary: String,
    /// A unified diff, for text that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// The kinds of changes, each with a sign, so that a plan reads like a diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Something comes to be.
    Create,
    /// Something changes.
    Update,
    /// Something goes.
    Remove,
    /// Something runs.
    Run,
    /// It cannot be known before it is applied.
    Unknown,
}

impl ChangeKind {
    /// The sign in front of the change.
    pub fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Update => '~',
            Self::Remove => '-',
            Self::Run => '>',
            Self::Unknown => '?',
        }
    }
}

impl Change {
    fn new(kind: ChangeKind, summary: impl Into<String>) -> Self {
        Self { kind, summary: summary.into(), diff: None }
    }

    /// The same with the fingerprints of the secrets in it, so that a reader sees whether one changes.
    pub(crate) fn with_fingerprints(mut self, op: &Op, of: &Fingerprint<'_>) -> Self {
        let fingerprint = |content: &Content| content.is_secret().then(|| of(content.bytes()));
        let told = match op {
            Op::WriteFile(WriteFile { content, before: Before::File { content: before, .. }, .. }) => {
                fingerprint(before).zip(fingerprint(content)).map(|(old, new)| format!("{old} -> {new}"))
            }
            Op::WriteFile(WriteFile { content, .. })
            | Op::Run(Command {
                input: Input::Text(content) | Input::Script { text: content, .. }, ..
            }) => fingerprint(content),
            _ => None,
        };
        self.summary.extend(told.map(|told| format!(", fingerprint {told}")));
        self
    }

    /// A file that is made of what is not all known yet, so that its size is not either.
    pub(crate) fn incomplete(write: &WriteFile) -> Self {
        let (path, attributes) = (write.path.display(), &write.attributes);
        let summary = format!("create {path} ({attributes}), with content known after apply");
        Self { summary, ..write_file(write) }
    }

    /// What cannot be known, and why.
    pub(crate) fn unknown(why: &Why) -> Self {
        Self::new(ChangeKind::Unknown, format!("known after apply: whether {}", why.0))
    }

    /// What will be done if nothing else does it, and why that cannot be known.
    pub(crate) fn unless(self, why: &Why) -> Self {
        let summary = format!("{}, unless {}", self.summary, why.0);
        Self { kind: ChangeKind::Unknown, summary, ..self }
    }

    /// What will be done although there may be a file already of which nobody knows what is in it.
    pub(crate) fn even_if(self, why: &Why) -> Self {
        Self { summary: format!("{}, even if {}", self.summary, why.0), ..self }
    }

    /// What will be done in a file of which nobody knows what else is in it.
    pub(crate) fn in_unknown(self) -> Self {
        Self { summary: format!("{}, whatever is in it by then", self.summary), ..self }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind.sign(), self.summary)
    }
}

impl From<&Op> for Change {
    fn from(op: &Op) -> Self {
        use ChangeKind::{Create, Remove, Run, Update};
        match op {
            Op::WriteFile(write) => write_file(write),
            Op::Download(Download { url, sha256, path, attributes, replaces, .. }) => {
                let (kind, verb) = if *replaces { (Update, "replace") } else { (Create, "create") };
                // Sixteen digits tell files apart for a reader; all of them are compared.
                let start = sha256.get(..16).unwrap_or(sha256);
                let path = path.display();
                Self::new(kind, format!("{verb} {path} by {url} ({attributes}, sha256 {start}...)"))
            }
            Op::Checkout(Checkout {
                url,
                commit,
                path,
                attributes: Attributes { owner, group, .. },
                replaces,
                ..
            }) => {
                // As many digits as git shows of a commit of a large repository.
                let commit = commit.get(..12).unwrap_or(commit);
                let (kind, before) =
                    if *replaces { (Update, " in the place of what is there") } else { (Create, "") };
                let path = path.display();
                Self::new(kind, format!("check out {url} at {commit} in {path} ({owner}:{group}){before}"))
            }
            Op::CreateDirectory { path, attributes } => {
                Self::new(Create, format!("create the directory {} ({attributes})", path.display()))
            }
            Op::CreateSymlink { path, target, before: None } => {
                Self::new(Create, format!("link {} -> {}", path.display(), target.display()))
            }
            Op::CreateSymlink { path, target, before: Some(before) } => Self::new(
                Update,
                format!("link {} -> {} (was {})", path.display(), target.display(), before.display()),
            ),
            Op::SetAttributes { path, attributes, before } => {
                Self::new(Update, format!("{}: {before} -> {attributes}", path.display()))
            }
            Op::Remove { path, directory: false } => Self::new(Remove, format!("remove {}", path.display())),
            Op::Remove { path, directory: true } => {
                Self::new(Remove, format!("remove {} and everything in it", path.display()))
            }
            Op::Unpack(unpacked) => unpack(unpacked),
            Op::InstallPackages { packages } => {
                let names: Vec<String> = packages
                    .iter()
                    .map(|PackageRequest { name, version, source, .. }| {
                        let version = version.as_ref().map(|version| format!(" {version}"));
                        let source = source.as_ref().map(|path| format!(" from {}", path.display()));
                        format!("{name}{}{}", version.unwrap_or_default(), source.unwrap_or_default())
                    })
                    .collect();
                Self::new(Create, format!("install {}", names.join(", ")))
            }
            Op::RemovePackages { packages, purge } => {
                let verb = if *purge { "purge" } else { "remove" };
                Self::new(Remove, format!("{verb} {}", packages.join(", ")))
            }
            Op::UpgradePackages { packages, .. } => {
                Self::new(Update, format!("upgrade {}", packages.join(", ")))
            }
            Op::HoldPackages { packages, held } => {
                let verb = if *held { "hold" } else { "stop holding" };
                Self::new(Update, format!("{verb} {}", packages.join(", ")))
            }
            Op::CreateGroup { name, gid, .. } => {
                Self::new(Create, format!("create the group {name}{}", number(*gid)))
            }
            Op::ModifyGroup { name, gid } => Self::new(Update, format!("group {name}: gid {gid}")),
            Op::RemoveGroup { name } => Self::new(Remove, format!("remove the group {name}")),
            Op::CreateUser(user) => {
                Self::new(Create, format!("create the user {}{}", user.name, account(user)))
            }
            Op::ModifyUser(user) => Self::new(Update, format!("user {}{}", user.name, account(user))),
            Op::RemoveUser { name } => Self::new(Remove, format!("remove the user {name}")),
            Op::Unit { name, action } => unit(name, *action),
            Op::SetKernelParameter { key, value, before } => Self::new(
                Update,
                format!("set {key} = {value} in the kernel (is {})", before.as_deref().unwrap_or("unset")),
            ),
            Op::LoadFirewall(firewall) => Self::new(
                Run,
                format!(
                    "load the table inet {}, and take it back unless it proves itself within {}",
                    firewall.table,
                    Span(firewall.confirm.within)
                ),
            ),
            Op::Reboot => Self::new(Run, "reboot the host, and go on after that"),
            Op::WaitFor { condition, within } => {
                Self::new(Run, format!("wait until {condition}, at most {}", Span(*within)))
            }
            Op::Run(command) => match &command.input {
                Input::Script { text, .. } => {
                    let interpreter = command.argv.split_last().map_or(&[][..], |(_, words)| words).join(" ");
                    Self::new(Run, format!("run {command} ({interpreter}, {})", size(text)))
                }
                Input::Nothing | Input::Text(_) => Self::new(Run, format!("run {command}")),
            },
        }
    }
}

fn write_file(write: &WriteFile) -> Change {
    let path = write.path.display();
    let (attributes, content) = (&write.attributes, &write.content);
    let size = size(content);
    match &write.before {
        Before::Absent => Change {
            kind: ChangeKind::Create,
            summary: format!("create {path} ({attributes}, {size})"),
            diff: diff(&write.path, None, content),
        },
        Before::File { content: before, attributes: changed } => {
            let attributes =
                changed.as_ref().map_or_else(String::new, |before| format!(" ({before} -> {attributes})"));
            let secret = if content.is_secret() { " (secret)" } else { "" };
            Change {
                kind: ChangeKind::Update,
                summary: format!("change {path}{attributes}{secret}"),
                diff: diff(&write.path, Some(before), content),
            }
        }
        Before::Symlink(target) => Change {
            kind: ChangeKind::Update,
            summary: format!(
                "replace the link {path} -> {} by a file ({attributes}, {size})",
                target.display()
            ),
            diff: diff(&write.path, None, content),
        },
    }
}

fn size(content: &Content) -> String {
    format!("{}{} bytes", if content.is_secret() { "secret, " } else { "" }, content.bytes().len())
}

/// A diff longer than this is not read by anybody; the plan then says how long the file is.
const LONGEST_DIFF: usize = 64 * 1024;

fn diff(path: &Path, before: Option<&Content>, after: &Content) -> Option<String> {
    if after.is_secret() || before.is_some_and(Content::is_secret) {
        return None;
    }
    let old = std::str::from_utf8(before.map_or(&[], Content::bytes)).ok()?;
    let new = std::str::from_utf8(after.bytes()).ok()?;
    if old.len().max(new.len()) > LONGEST_DIFF || old == new {
        return None;
    }
    let old_name = if before.is_some() { path.display().to_string() } else { "/dev/null".into() };
    let diff = TextDiff::from_lines(old, new);
    Some(diff.unified_diff().header(&old_name, &path.display().to_string()).to_string())
}

/// Of more paths nobody reads each; the plan then counts the rest.
const MOST_PATHS: usize = 20;

fn unpack(Unpack { archive, path, changes, unchanged, .. }: &Unpack) -> Change {
    let created = changes.values().filter(|what| **what == Unpacking::Create).count();
    let counts = [(created, "new"), (changes.len() - created, "changed"), (*unchanged, "unchanged")];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    let mut list: String = changes
        .iter()
        .take(MOST_PATHS)
        .map(|(path, what)| {
            format!("{} {}\n", if *what == Unpacking::Create { '+' } else { '~' }, path.display())
        })
        .collect();
    if changes.len() > MOST_PATHS {
        list.push_str(&format!("and {} more\n", changes.len() - MOST_PATHS));
    }
    let kind = if created == changes.len() { ChangeKind::Create } else { ChangeKind::Update };
    Change { kind, summary: format!("unpack {archive} into {} ({counts})", path.display()), diff: Some(list) }
}

fn number(id: Option<u32>) -> String {
    id.map_or_else(String::new, |id| format!(" ({id})"))
}

fn account(user: &UserRequest) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            parts.push(format!("{name} {value}"));
        }
    };
    part("uid", user.uid.map(|uid| uid.to_string()));
    part("group", user.group.clone());
    part("groups", user.groups.as_ref().map(|groups| groups.join(",")));
    part("home", user.home.as_ref().map(|home| home.display().to_string()));
    part("shell", user.shell.as_ref().map(|shell| shell.display().to_string()));
    part("comment", user.comment.as_ref().map(|comment| format!("\"{comment}\"")));
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn unit(name: &str, action: UnitAction) -> Change {
    let (kind, verb) = match action {
        UnitAction::Enable => (ChangeKind::Create, "enable"),
        UnitAction::Disable => (ChangeKind::Remove, "disable"),
        UnitAction::Mask => (ChangeKind::Remove, "mask"),
        UnitAction::Unmask => (ChangeKind::Create, "unmask"),
        UnitAction::Start => (ChangeKind::Run, "start"),
        UnitAction::Stop => (ChangeKind::Run, "stop"),
        UnitAction::Restart => (ChangeKind::Run, "restart"),
        UnitAction::Reload => (ChangeKind::Run, "reload"),
    };
    Change::new(kind, format!("{verb} {name}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::op::{Confirm, LoadFirewall, Upgrades};
    use crate::system::condition::Condition;

    fn attributes() -> Attributes {
        Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 }
    }

    fn write(content: Content, before: Before) -> Change {
        let path = "/etc/app.conf".into();
        Change::from(&Op::WriteFile(WriteFile {
            path,
            content,
            attributes: attributes(),
            validate: None,
            before,
        }))
    }

    #[test]
    fn a_changed_text_is_a_unified_diff() {
        let before = Before::File { content: Content::new("a\nb\n"), attributes: None };
        let change = write(Content::new("a\nc\n"), before);
        insta::assert_snapshot!(format!("{change}\n{}", change.diff.as_deref().unwrap_or_default()), @r"
        ~ change /etc/app.conf
        --- /etc/app.conf
        +++ /etc/app.conf
        @@ -1,2 +1,2 @@
         a
        -b
        +c
        ");
    }

    #[test]
    fn a_secret_is_its_length() {
        let change = write(Content::new("hunter2").secret_if(true), Before::Absent);
        assert_eq!(change.to_string(), "+ create /etc/app.conf (root:root 0644, secret, 7 bytes)");
        assert_eq!(change.diff, None);
        let before = Before::File { content: Content::new("hunter1").secret_if(true), attributes: None };
        let change = write(Content::new("public"), before);
        assert_eq!((change.to_string().as_str(), change.diff), ("~ change /etc/app.conf", None));
    }

    #[test]
    fn a_fingerprint_tells_whether_a_secret_changes() {
        let of = |bytes: &[u8]| format!("<{}>", bytes.len());
        let told = |content: Content, before: Before| {
            let path = "/etc/app.conf".into();
            let op =
                Op::WriteFile(WriteFile { path, content, attributes: attributes(), validate: None, before });
            Change::from(&op).with_fingerprints(&op, &of).to_string()
        };
        let secret = |text: &str| Content::new(text).secret_if(true);
        assert_eq!(
            told(secret("hunter2"), Before::Absent),
            "+ create /etc/app.conf (root:root 0644, secret, 7 bytes), fingerprint <7>"
        );
        let before = Before::File { content: secret("hunter"), attributes: None };
        assert_eq!(
            told(secret("hunter2"), before),
            "~ change /etc/app.conf (secret), fingerprint <6> -> <7>"
        );
        assert_eq!(
            told(Content::new("open"), Before::Absent),
            "+ create /etc/app.conf (root:root 0644, 4 bytes)"
        );
        let script = Command { input: Input::Text(secret("hunter2")), ..Command::new(["load"]) };
        let op = Op::Run(script);
        assert_eq!(Change::from(&op).with_fingerprints(&op, &of).to_string(), "> run load, fingerprint <7>");
    }

    #[test]
    fn every_kind_of_operation_reads_as_a_line() {
        let lines: Vec<String> = [
            Op::InstallPackages {
                packages: vec![
                    PackageRequest {
                        name: "nginx".into(),
                        version: Some("1.22".into()),
                        recommends: false,
                        source: None,
                    },
                    PackageRequest {
                        name: "jq".into(),
                        version: Some("1.7".into()),
                        recommends: false,
                        source: Some("/srv/jq.deb".into()),
                    },
                ],
            },
            Op::RemovePackages { packages: vec!["telnet".into()], purge: true },
            Op::UpgradePackages { packages: vec!["vim".into(), "zlib1g".into()], which: Upgrades::All },
            Op::HoldPackages { packages: vec!["nginx".into()], held: true },
            Op::HoldPackages { packages: vec!["nginx".into()], held: false },
            Op::CreateGroup { name: "app".into(), gid: Some(990), system: true },
            Op::CreateUser(UserRequest { name: "app".into(), uid: Some(990), ..UserRequest::default() }),
            Op::ModifyUser(UserRequest {
                name: "app".into(),
                groups: Some(vec!["a".into(), "b".into()]),
                ..UserRequest::default()
            }),
            Op::CreateDirectory { path: "/srv".into(), attributes: attributes() },
            Op::CreateSymlink { path: "/a".into(), target: "/b".into(), before: Some("/c".into()) },
            Op::Remove { path: "/old".into(), directory: true },
            Op::Unit { name: "nginx.service".into(), action: UnitAction::Enable },
            Op::SetKernelParameter {
                key: "vm.swappiness".into(),
                value: "1".into(),
                before: Some("60".into()),
            },
            Op::LoadFirewall(LoadFirewall {
                table: "filter".into(),
                ruleset: Content::new(""),
                flushes: false,
                confirm: Confirm {
                    within: Duration::from_secs(90),
                    session: true,
                    tcp: Vec::new(),
                    command: None,
                },
            }),
            Op::Run(Command::new(["true"])),
            Op::Reboot,
            Op::WaitFor {
                condition: Condition::Exists("/run/app.sock".into()),
                within: Duration::from_secs(30),
            },
        ]
        .iter()
        .map(|op| Change::from(op).to_string())
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        + install nginx 1.22, jq 1.7 from /srv/jq.deb
        - purge telnet
        ~ upgrade vim, zlib1g
        ~ hold nginx
        ~ stop holding nginx
        + create the group app (990)
        + create the user app (uid 990)
        ~ user app (groups a,b)
        + create the directory /srv (root:root 0644)
        ~ link /a -> /b (was /c)
        - remove /old and everything in it
        + enable nginx.service
        ~ set vm.swappiness = 1 in the kernel (is 60)
        > load the table inet filter, and take it back unless it proves itself within 1m 30s
        > run true
        > reboot the host, and go on after that
        > wait until /run/app.sock exists, at most 30s
        ");
    }
}
