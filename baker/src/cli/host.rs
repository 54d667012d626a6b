//! Hosts that are there, as verbs work on them: connected to, with questions to whoever is there.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use super::{Interrupts, World, agent, complain};
use crate::failure::Failure;
use crate::target::{Host, Target};

/// Connects to a host. A machine of Vagrant that does not run is started, if somebody is there who wants that.
pub(super) async fn connect(target: &Target, given: Option<&Path>, world: &World) -> Result<Host, Failure> {
    let find = |arch| agent(given, world, arch);
    let failure = match target.connect(find).await {
        Ok(host) => return Ok(host),
        Err(failure) => failure,
    };
    let Some(down) = target.down().await else { return Err(failure) };
    let question = format!("The machine of `{target}` is not running. Start it with `{down}`? (y/N) ");
    match ask(&question).await.as_deref() {
        Some("y" | "yes") => {
            down.start().await?;
            target.connect(find).await
        }
        _ => Err(Failure::new(format!("the machine of `{target}` is not running"))
            .help(format!("`{down}`, in the folder of the Vagrantfile, starts it"))),
    }
}

/// Looks at a host, on which nothing is changed but that the agent may stay; nothing if it was interrupted.
pub(super) async fn look_at<T>(
    target: &Target,
    given: Option<&Path>,
    world: &World,
    leave_nothing: bool,
    look: impl AsyncFnOnce(&Host) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let looked = async {
        let host = connect(target, given, world).await?;
        let seen = look(&host).await;
        host.end(leave_nothing, seen).await.map(Some)
    };
    tokio::select! {
        seen = looked => seen,
        () = interrupts.heard() => {
            complain("interrupted: nothing was changed on the host");
            Ok(None)
        }
    }
}

/// Asks whoever is there, and returns the answer; nothing if nobody is.
pub(super) async fn ask(question: &str) -> Option<String> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let _ = write!(io::stderr(), "{question}");
    // A thread that reads is not waited for: Ctrl-C is heard meanwhile, and ends this process.
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        let _ = tell.send(read.map(|_| answer.trim().to_owned()).unwrap_or_default());
    });
    told.await.ok()
}
