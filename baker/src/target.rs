//! Hosts that are there already: where they are, and what is done on them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use recipes::drift::Drift;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::agent::Agent;
use crate::bake::{apply, read_seen, tar_of};
use crate::failure::{Failure, failed};
use crate::image::Architecture;
use crate::manifest::ResourceCounts;
use crate::report::Report;
use crate::session::{Ended, HostSession, Input, Place, Session};
use crate::vagrant::{self, Down};

/// What OpenSSH ends with when it is not the program that failed (ssh(1), EXIT STATUS).
const CONNECTION_FAILED: i32 = 255;

/// Works on a bundle that only root can read. `/run` is on tmpfs, so nothing of it gets to a disk.
const ON_BUNDLE: &str = r#"umask 077; d=$(mktemp --directory /run/baker-plan.XXXXXXXX); trap 'rm -rf "$d"' EXIT
trap 'exit 143' HUP INT PIPE TERM; cat >"$d/bundle.tar"; "$@" "$d/bundle.tar" </dev/null"#;

/// Tells who and what answers, which agents are in the user's cache and can be run, each by its SHA-256, and last what sudo
/// refuses with. What it says besides, such as that it cannot resolve the host's name, is no refusal.
const LOOK: &str = r#"id -u; uname -m
for d in "${XDG_CACHE_HOME:-$HOME/.cache}/baker" "/var/tmp/baker-$(id -u)"; do for f in "$d"/bootstrap-agent-*; do
if [ -O "$f" ] && "$f" --version >/dev/null 2>&1; then sha256sum "$f" | sed 's/^/agent /'; fi; done; done
said=$(sudo --non-interactive true 2>&1) || echo "${said:-it failed}""#;

/// A host that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host that ssh reaches.
    Ssh {
        /// The destination, with the user if one is named.
        destination: String,
        /// The port, if one is named.
        port: Option<u16>,
    },
    /// A machine of the Vagrantfile in this folder; the only one, or the primary one, if not named.
    Vagrant(Option<String>),
    /// A tree on this machine, such as a mounted image. Nothing is executed in it.
    Root(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh { destination, port } => {
                // An address of IPv6 is in brackets again.
                let (user, host) = destination.rsplit_once('@').unwrap_or(("", destination));
                let user = if user.is_empty() { String::new() } else { format!("{user}@") };
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(formatter, "ssh://{user}{host}{port}")
            }
            Self::Vagrant(None) => formatter.write_str("vagrant"),
            Self::Vagrant(Some(name)) => write!(formatter, "vagrant:{name}"),
            Self::Root(path) => write!(formatter, "root:{}", path.display()),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("ssh://") {
            let (destination, port) = match rest.rsplit_once(':') {
                // An address of IPv6 is in brackets.
                Some((destination, port)) if !port.contains(']') => {
                    let port = port.parse().map_err(|_| format!("`{port}` is not a port"))?;
                    (destination, Some(port))
                }
                _ => (rest, None),
            };
            let host = destination.rsplit('@').next().unwrap_or_default();
            if host.is_empty() || destination.starts_with('-') || destination.contains(['/', ' ']) {
                return Err("it names no host, as in `ssh://admin@web-1.example.org:22`".into());
            }
            let destination = destination.replace(['[', ']'], "");
            return Ok(Self::Ssh { destination, port });
        }
        match text.split_once(':') {
            None if text == "vagrant" => Ok(Self::Vagrant(None)),
            Some(("vagrant", name)) if !name.is_empty() && !name.starts_with('-') => {
                Ok(Self::Vagrant(Some(name.to_owned())))
            }
            Some(("root", path)) if path.starts_with('/') => Ok(Self::Root(path.into())),
            Some(("root", _)) => Err("the path of a tree begins with `/`, as in `root:/mnt`".into()),
            _ => Err("a target is `ssh://[USER@]HOST[:PORT]`, `vagrant[:NAME]` or `root:PATH`".into()),
        }
    }
}

/// A host that answers, and has the agent.
#[derive(Debug)]
pub struct Host {
    session: HostSession,
    /// Where the agent is.
    agent: String,
    /// The agents that are there already, by their SHA-256.
    cached: BTreeMap<String, String>,
    /// The root that it works on, if not the host's own.
    root: Option<PathBuf>,
    /// The configuration of ssh that was made for it.
    _config: Option<TempDir>,
}

impl Target {
    /// Connects, and sees to it that the agent is there. It stays in the user's cache, by its digest, for the next time.
    /// `agent` finds the one for a processor.
    ///
    /// # Errors
    /// When the host does not answer, is not who it was, or what is needed there may not be done.
    pub async fn connect(
        &self,
        agent: impl FnOnce(Architecture) -> Result<Agent, Failure>,
    ) -> Result<Host, Failure> {
        let (session, config) = self.session().await?;
        let (mut host, arch) = Host::find(session, config).await?;
        let agent = agent(arch)?;
        if let Self::Root(root) = self {
            host.agent = agent.path.display().to_string();
            host.root = Some(root.clone());
        } else {
            host.agent = host.place(&agent).await?;
        }
        Ok(host)
    }

    /// The machine of Vagrant that does not run, if that is why it does not answer.
    pub async fn down(&self) -> Option<Down> {
        match self {
            Self::Vagrant(name) => vagrant::down(name.as_deref()).await,
            Self::Ssh { .. } | Self::Root(_) => None,
        }
    }

    async fn session(&self) -> Result<(HostSession, Option<TempDir>), Failure> {
        match self {
            Self::Ssh { destination, port } => {
                let options = port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]).collect();
                let destination = destination.clone();
                Ok((
                    HostSession { place: Place::Ssh { options, destination, config: None }, sudo: false },
                    None,
                ))
            }
            Self::Root(_) => Ok((HostSession { place: Place::Here, sudo: false }, None)),
            Self::Vagrant(name) => {
                let config = vagrant::ssh_config(name.as_deref()).await?;
                let destination =
                    config.lines().find_map(|line| line.strip_prefix("Host ")).unwrap_or("default");
                let folder =
                    tempfile::tempdir().map_err(failed("make a folder for the configuration of ssh"))?;
                let path = folder.path().join("ssh_config");
                fs::write(&path, &config).map_err(failed("write the configuration of ssh"))?;
                let destination = destination.trim().to_owned();
                let place = Place::Ssh { options: Vec::new(), destination, config: Some(path) };
                Ok((HostSession { place, sudo: false }, Some(folder)))
            }
        }
    }
}

impl Host {
    fn of(session: HostSession, config: Option<TempDir>) -> Self {
        Self { session, agent: String::new(), cached: BTreeMap::new(), root: None, _config: config }
    }

    /// Looks who answers.
    async fn find(session: HostSession, config: Option<TempDir>) -> Result<(Self, Architecture), Failure> {
        let host = Self::of(session, config);
        let said = host.script(LOOK, Input::Nothing).await?;
        let mut lines = said.lines();
        let (user, machine) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let arch = match machine {
            "x86_64" => Architecture::X86_64,
            "aarch64" => Architecture::Arm64,
            other => return Err(Failure::new(format!("there is no agent for its processor, `{other}`"))),
        };
        let is_root = user == "0";
        let (cached, refused): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("agent "));
        if !is_root && !refused.is_empty() {
            return Err(Failure::new(format!(
                "sudo refuses on `{}`: {}",
                host.session.place,
                refused.join(" ")
            ))
            .help("let this user use sudo without a password (NOPASSWD), or connect as root"));
        }
        let session = HostSession { sudo: !is_root, ..host.session };
        // `SHA256  PATH`, as sha256sum prints it.
        let cached = cached.iter().filter_map(|line| line.strip_prefix("agent ")?.split_once("  "));
        let cached = cached.map(|(sha256, path)| (sha256.to_owned(), path.to_owned())).collect();
        Ok((Self { session, cached, ..host }, arch))
    }

    /// Puts the agent where it can be run, unless it is there, and returns where that is.
    async fn place(&self, agent: &Agent) -> Result<String, Failure> {
        let sha256 = &agent.sha256;
        if let Some(path) = self.cached.get(sha256) {
            return Ok(path.clone());
        }
        let user = Self::of(self.session.as_user(), None);
        // A folder of programs that may not be run is no place for one.
        let put = format!(
            r#"umask 077; t=; for d in "${{XDG_CACHE_HOME:-$HOME/.cache}}/baker" "/var/tmp/baker-$(id -u)"; do
mkdir -p "$d" 2>/dev/null && [ -O "$d" ] && [ ! -L "$d" ] || continue; f=$d/bootstrap-agent-{sha256}
if [ -z "$t" ]; then cat >"$f.part" || {{ rm -f "$f.part"; exit 1; }}; else cp "$t" "$f.part" && rm "$t"; fi; t=$f.part; chmod 700 "$t"
echo "{sha256}  $t" | sha256sum --check --status || {{ rm -f "$t"; echo "what was sent is not what came" >&2; exit 1; }}
if "$t" --version >/dev/null 2>&1; then mv "$t" "$f"; echo "$f"; exit; fi; done
[ -z "$t" ] || rm -f "$t"; echo "no folder that a program can be run from: neither the user's cache nor /var/tmp" >&2; exit 1"#
        );
        let placed = user.script(&put, Input::File(agent.path.clone())).await?;
        Ok(placed.trim().to_owned())
    }

    /// What applying a bundle would change. `options` are those of the agent's `plan`; what it prints is a
    /// [`Plan`](recipes::plan::Plan), or an [`ExactPlan`](recipes::difference::ExactPlan) with `--exact`.
    ///
    /// # Errors
    /// When it cannot be sent or planned.
    pub async fn plan<P: DeserializeOwned>(
        &self,
        bundle: &BTreeMap<String, Vec<u8>>,
        options: &[String],
    ) -> Result<P, Failure> {
        let options = self.with_root(options);
        let argv = self.with_bundle("plan", &options);
        read_seen(&self.session, &argv, Input::Bytes(tar_of(bundle)?), "plan").await
    }

    /// What has changed since an image was baked, whose `record.tar` this is. `options` are those of the agent's `drift`.
    ///
    /// # Errors
    /// When it cannot be sent or compared.
    pub async fn drift(&self, record: Vec<u8>, options: &[String]) -> Result<Drift, Failure> {
        let options = self.with_root(options);
        let argv = self.with_bundle("drift", &options);
        read_seen(&self.session, &argv, Input::Bytes(record), "compare the host with its image").await
    }

    /// Applies a bundle. `options` are those of the agent's `apply`. Once it has begun, the host goes on to the end, even if the
    /// connection is lost.
    ///
    /// # Errors
    /// When it cannot be sent, or something in it could not be made true.
    pub async fn apply(
        &self,
        bundle: &BTreeMap<String, Vec<u8>>,
        options: &[String],
        report: &mut dyn Report,
    ) -> Result<ResourceCounts, Failure> {
        let options = self.with_root(options);
        let argv = self.with_bundle("apply", &options);
        let input = Input::Bytes(tar_of(bundle)?);
        apply(&self.session, &argv, input, report).await.map(|(counts, _)| counts)
    }

    /// Runs a verb of the agent on the bundle that comes on standard input. One connection brings it, works on it and
    /// removes it, so that it is removed even if the connection is lost meanwhile.
    fn with_bundle<'a>(&'a self, verb: &'a str, options: &'a [String]) -> Vec<&'a str> {
        let mut argv = vec!["sh", "-euc", ON_BUNDLE, "sh", self.agent.as_str(), verb, "--format=json"];
        argv.extend(options.iter().map(String::as_str));
        argv
    }

    /// Options of the agent, and the root that it works on.
    fn with_root(&self, options: &[String]) -> Vec<String> {
        let root = self.root.iter().map(|root| format!("--root={}", root.display()));
        options.iter().cloned().chain(root).collect()
    }

    /// Ends the work on it: the agent is removed, if that is wanted. Why the work failed is told first.
    ///
    /// # Errors
    /// What the work came to, or that the agent cannot be removed.
    pub async fn end<T>(&self, leave_nothing: bool, result: Result<T, Failure>) -> Result<T, Failure> {
        if !leave_nothing {
            return result;
        }
        match (result, self.leave_nothing().await) {
            (result, Ok(())) => result,
            (Ok(_), Err(left)) => Err(left),
            (Err(failure), Err(left)) => {
                let message = format!("{}\nand then: {}", failure.message, left.message);
                Err(Failure { message, ..failure })
            }
        }
    }

    /// Removes the agent, if it was put there.
    async fn leave_nothing(&self) -> Result<(), Failure> {
        if self.root.is_some() {
            return Ok(());
        }
        let remove = r#"rm -f "$1"; rmdir "${1%/*}" 2>/dev/null || :"#;
        let argv = ["sh", "-ec", remove, "sh", &self.agent];
        let ended = self.session.run(&argv, Input::Nothing, &mut |_| {}).await;
        self.done(&ended.map_err(failed("remove the agent"))?)
    }

    /// Runs a script, and returns what it prints.
    async fn script(&self, script: &str, input: Input) -> Result<String, Failure> {
        let mut said = String::new();
        let mut line = |line: &str| said += &format!("{line}\n");
        let ended =
            self.session.run(&["sh", "-euc", script], input, &mut line).await.map_err(failed("run ssh"))?;
        self.done(&ended)?;
        Ok(said)
    }

    /// Whether a program came to its end, and if not, why.
    fn done(&self, ended: &Ended) -> Result<(), Failure> {
        let (host, why) = (&self.session.place, ended.error.trim());
        match ended.code {
            Some(0) => Ok(()),
            Some(CONNECTION_FAILED) if why.contains("Host key verification failed") => {
                Err(Failure::new(format!("the key of `{host}` is not the known one, or is not known: {why}"))
                    .help(format!(
                        "connect once with `ssh {host}` and compare the key with the host's console"
                    )))
            }
            Some(CONNECTION_FAILED) => Err(Failure::new(format!("failed to connect to `{host}`: {why}"))
                .help(format!("does `ssh {host} true` work without a question?"))),
            code => {
                let how = code.map_or_else(|| "was killed".to_owned(), |code| format!("ended with {code}"));
                Err(Failure::new(format!("what was run on `{host}` {how}: {why}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_of_ssh_or_a_machine_of_vagrant() {
        let ssh = |destination: &str, port| Ok(Target::Ssh { destination: destination.into(), port });
        assert_eq!("ssh://web-1".parse(), ssh("web-1", None));
        assert_eq!("ssh://admin@web-1:2222".parse(), ssh("admin@web-1", Some(2222)));
        assert_eq!("ssh://admin@[2001:db8::1]:22".parse(), ssh("admin@2001:db8::1", Some(22)));
        assert_eq!("ssh://[2001:db8::1]".parse(), ssh("2001:db8::1", None));
        assert_eq!("vagrant".parse(), Ok(Target::Vagrant(None)));
        assert_eq!("root:/mnt/a".parse(), Ok(Target::Root("/mnt/a".into())));
        assert_eq!("vagrant:web".parse(), Ok(Target::Vagrant(Some("web".into()))));
        for text in ["ssh://admin@[2001:db8::1]:22", "ssh://web-1", "vagrant:web", "root:/mnt"] {
            assert_eq!(text.parse().map(|target: Target| target.to_string()), Ok(text.to_owned()));
        }
        for wrong in [
            "",
            "web-1",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://a:b",
            "vagrant:",
            "http://a",
            "root:",
            "root:mnt",
            "ssh://a/b",
        ] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
