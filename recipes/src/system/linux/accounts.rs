//! Accounts are changed by the system's own tools, which lock the files and keep all of them in step.

use super::Linux;
use crate::op::{Command, Op, UserRequest};
use crate::system::PerformError;

/// Performs an operation on an account, of the host or of a tree that is not booted.
pub(super) fn perform(linux: &Linux, op: &Op, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
    let mut argv = match op {
        Op::CreateGroup { name, gid, system } => {
            let mut argv = words(["groupadd"]);
            argv.extend(system.then(|| "--system".into()));
            argv.extend(gid.iter().flat_map(|gid| ["--gid".into(), gid.to_string()]));
            argv.push(name.clone());
            argv
        }
        Op::ModifyGroup { name, gid } => words(["groupmod", "--gid", &gid.to_string(), name]),
        Op::RemoveGroup { name } => words(["groupdel", name]),
        Op::CreateUser(user) => create(user),
        Op::ModifyUser(user) => {
            let mut argv = words(["usermod"]);
            argv.extend(options(user));
            argv.push(user.name.clone());
            argv
        }
        Op::RemoveUser { name } => words(["userdel", name]),
        other => return Err(PerformError::Unsupported(format!("{other:?} is not an operation on accounts"))),
    };
    if let Some(prefix) = linux.tree.prefix() {
        argv.splice(1..1, ["--prefix".to_owned(), prefix.to_string_lossy().into_owned()]);
    }
    linux.runner.run(&Command::new(argv), output)
}

fn create(user: &UserRequest) -> Vec<String> {
    let mut argv = words(["useradd"]);
    argv.extend(user.system.then(|| "--system".into()));
    argv.push(if user.create_home { "--create-home" } else { "--no-create-home" }.into());
    // A group of the same name, unless another is asked for.
    argv.extend(user.group.is_none().then(|| "--user-group".into()));
    argv.extend(options(user));
    argv.push(user.name.clone());
    argv
}

fn options(user: &UserRequest) -> Vec<String> {
    let mut options = Vec::new();
    let mut option = |name: &str, value: Option<String>| {
        options.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    };
    option("--uid", user.uid.map(|uid| uid.to_string()));
    option("--gid", user.group.clone());
    option("--groups", user.groups.as_ref().map(|groups| groups.join(",")));
    let home = if user.create_home { "--home-dir" } else { "--home" };
    option(home, user.home.as_ref().map(|home| home.to_string_lossy().into_owned()));
    option("--shell", user.shell.as_ref().map(|shell| shell.to_string_lossy().into_owned()));
    option("--comment", user.comment.clone());
    options
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}
