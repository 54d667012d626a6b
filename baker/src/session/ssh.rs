//! A builder over SSH, whose connections may come and go: what was started there goes on, and is started once.
//!
//! Each program is a transient unit of the builder's systemd with a folder of its own below `/run/baker`, which
//! has its input, its output and how it ended. A connection starts the unit, if none has, and then follows the
//! output from where the last one lost it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::{Ended, Input, Session};

/// How long a builder that cannot be reached any more is tried again.
const PATIENCE: Duration = Duration::from_mins(5);

/// The time between tries.
const BETWEEN: Duration = Duration::from_secs(1);

/// What OpenSSH ends with when it is not the program that failed (ssh(1), EXIT STATUS).
const CONNECTION_FAILED: i32 = 255;

/// The name of every builder in its file of known hosts; addresses are used again by other hosts.
const HOST: &str = "builder";

/// How a builder is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Its address.
    pub address: String,
    /// The port of the bake's SSH server there.
    pub port: u16,
    /// What it is reached through; nothing if directly.
    pub proxy: Option<Proxy>,
}

/// What a builder is reached through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// A host to jump through.
    Jump(String),
    /// A program of somebody's own, whose input and output is the connection.
    Command(String),
    /// The same, as baker starts it.
    SessionManager(String),
}

impl Reach {
    /// As `ssh_config(5)` has it. Nobody's own configuration changes how a builder is reached, unless it is reached
    /// through something.
    fn config(&self, keys: &Keys) -> String {
        const OWN: &str = "Host *\nInclude ~/.ssh/config\n";
        let file = |name: &str| keys.folder.join(name).display().to_string();
        let mut text = format!(
            "Host {HOST}
  HostName {address}
  Port {port}
  User root
  HostKeyAlias {HOST}
  HostKeyAlgorithms ssh-ed25519
  StrictHostKeyChecking yes
  UserKnownHostsFile \"{known_hosts}\"
  GlobalKnownHostsFile /dev/null
  UpdateHostKeys no
  IdentityFile \"{client}\"
  IdentitiesOnly yes
  PreferredAuthentications publickey
  BatchMode yes
  ConnectTimeout 10
  ServerAliveInterval 5
  ServerAliveCountMax 3
  ForwardAgent no
  ClearAllForwardings yes
  ControlPath none
  RequestTTY no
  LogLevel ERROR
",
            address = self.address,
            port = self.port,
            known_hosts = file("known_hosts"),
            client = file("client"),
        );
        text += &match &self.proxy {
            None => String::new(),
            Some(Proxy::Jump(host)) => format!("  ProxyJump {host}\n{OWN}"),
            Some(Proxy::Command(command)) => format!("  ProxyCommand {command}\n{OWN}"),
            Some(Proxy::SessionManager(command)) => format!("  ProxyCommand {command}\n"),
        };
        text
    }
}

/// Two key pairs that live as long as a run: one for who connects, one for the host that is connected to.
#[derive(Debug, Clone)]
pub struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Makes them in a folder that only this user can read.
    ///
    /// # Errors
    /// When `ssh-keygen` is missing or fails.
    pub async fn generate(folder: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let keys = Self { folder: folder.to_owned() };
        for name in ["client", "host"] {
            let output = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(folder.join(name))
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output()
                .await?;
            if !output.status.success() {
                let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(io::Error::other(format!("ssh-keygen ended with {}: {error}", output.status)));
            }
        }
        let known = format!("{HOST} {}\n", keys.read("host.pub")?.trim());
        fs::write(folder.join("known_hosts"), known)?;
        Ok(keys)
    }

    fn read(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.folder.join(name))
    }

    /// The public half of the key that connects.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn authorized(&self) -> io::Result<String> {
        self.read("client.pub")
    }

    /// The private half of the host's key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn host(&self) -> io::Result<String> {
        self.read("host")
    }
}

/// A session with a builder.
#[derive(Debug, Clone)]
pub struct SshSession {
    /// The configuration of OpenSSH for it.
    config: PathBuf,
    /// How many programs were started.
    started: Rc<Cell<u32>>,
    /// The boot that the builder is in; a program of an earlier one is gone.
    boot: Rc<Cell<Option<[u8; 36]>>>,
}

/// Why a builder cannot be talked to.
enum Lost {
    /// Nothing will change that.
    ForGood(io::Error),
    /// It may be possible later.
    ForNow(String),
}

impl SshSession {
    /// A session with a builder that knows these keys. `name` is what its configuration is called beside them, so that
    /// people can connect as baker does.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn new(name: &str, reach: &Reach, keys: &Keys) -> io::Result<Self> {
        let config = keys.folder.join(format!("{name}.conf"));
        fs::write(&config, reach.config(keys))?;
        Ok(Self { config, started: Rc::default(), boot: Rc::default() })
    }

    /// Tries once whether the builder answers.
    ///
    /// # Errors
    /// When it never will; that it does not yet is said.
    pub async fn greet(&self) -> io::Result<Result<(), String>> {
        let mut command = self.command("cat /proc/sys/kernel/random/boot_id");
        let output = command.stdin(Stdio::null()).output().await?;
        match check(output.status, &output.stderr) {
            Ok(Some(0)) => {
                self.boot.set(output.stdout.get(..36).and_then(|id| id.try_into().ok()));
                Ok(Ok(()))
            }
            Ok(code) => Ok(Err(format!("a program on it ended with {code:?}"))),
            Err(Lost::ForGood(error)) => Err(error),
            Err(Lost::ForNow(why)) => Ok(Err(why)),
        }
    }

    fn command(&self, remote: &str) -> Command {
        // A connection ends with baker, even if baker is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "ssh", "-F"]).arg(&self.config).args([HOST, remote]);
        // Ctrl-C is for baker, which ends what it started in order.
        command.kill_on_drop(true).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What starts a program, unless it was, and then prints its output from a byte on, then a line with its end.
    fn script(&self, unit: &str, argv: &[&str], input: u64, from: u64) -> io::Result<String> {
        let quoted = shlex::try_join(argv.iter().copied()).map_err(io::Error::other)?;
        let program = format!("{quoted} <\"$1/in\" >\"$1/out\" 2>\"$1/err\"\necho $? >\"$1/code\"\n");
        let program = shlex::try_quote(&program).map_err(io::Error::other)?;
        let boot = self.boot.get().map(|id| String::from_utf8_lossy(&id).into_owned()).unwrap_or_default();
        // The unit's name is taken while it runs, and its folder after that. tail looks for the end of the process ten
        // times a second, which costs nothing.
        Ok(format!(
            r#"trap '' HUP PIPE; umask 077; export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ "$(cat /proc/sys/kernel/random/boot_id)" != "{boot}" ]; then echo "baker: the builder was rebooted" >&2; exit 97; fi
d=/run/baker/{unit}
if [ ! -e "$d/started" ]; then
  mkdir -p "$d"; cat >"$d/in"
  [ "$(wc -c <"$d/in")" -eq {input} ] || exit {CONNECTION_FAILED}
  : >"$d/out"; : >"$d/err"; printf %s {program} >"$d/run"
  systemd-run --quiet --collect --unit=baker-{unit} --service-type=exec sh "$d/run" "$d" 2>"$d/refused" || [ -e "$d/code" ] || {{ cat "$d/refused" >&2; exit 98; }}
  : >"$d/started"
fi
p=$(systemctl show --property=MainPID --value baker-{unit}.service)
if [ -n "$p" ] && [ "$p" != 0 ]; then tail --bytes=+{from} --follow --sleep-interval=0.1 --pid="$p" "$d/out" 2>/dev/null
else tail --bytes=+{from} "$d/out"; fi
cat "$d/err" >&2
printf '\n%s %s\n' baker-{unit}-ended "$(cat "$d/code" 2>/dev/null || echo killed)"
"#,
            from = from + 1,
        ))
    }

    /// One connection: starts the program if that has not been done, and follows it.
    async fn follow(
        &self,
        unit: &str,
        argv: &[&str],
        input: &Input,
        taken: &mut u64,
        line: &mut dyn FnMut(&str),
    ) -> Result<Ended, Lost> {
        let for_good = Lost::ForGood;
        let (bytes, file) = match input {
            Input::Nothing => (0, None),
            Input::Bytes(bytes) => (bytes.len() as u64, None),
            Input::File(path) => {
                let file = File::open(path).map_err(for_good)?;
                (file.metadata().map_err(for_good)?.len(), Some(file))
            }
        };
        let script = self.script(unit, argv, bytes, *taken).map_err(for_good)?;
        let mut command = self.command(&script);
        match (&input, file) {
            (_, Some(file)) => command.stdin(file),
            (Input::Bytes(_), None) => command.stdin(Stdio::piped()),
            (_, None) => command.stdin(Stdio::null()),
        };
        let mut child = command.spawn().map_err(for_good)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            if let (Some(mut stdin), Input::Bytes(bytes)) = (stdin, input) {
                // Whether all of it came is seen on the builder.
                let _ = stdin.write_all(bytes).await;
                let _ = stdin.shutdown().await;
            }
        };
        let mark = format!("baker-{unit}-ended ");
        let mut code = None;
        let read = async {
            let Some(stdout) = stdout else { return };
            let mut stdout = BufReader::new(stdout);
            let mut text = Vec::new();
            // A line's end that is not the program's comes before the mark, so empty lines wait for what follows them.
            let mut empty = 0;
            while matches!(stdout.read_until(b'\n', &mut text).await, Ok(count) if count > 0) {
                match text.strip_suffix(b"\n") {
                    None => break,
                    Some(b"") => empty += 1,
                    Some(whole) => {
                        if let Some(end) = whole.strip_prefix(mark.as_bytes()) {
                            code = Some(String::from_utf8_lossy(end).trim().parse::<i32>().ok());
                            (1..empty).for_each(|_| line(""));
                            break;
                        }
                        (0..empty).for_each(|_| line(""));
                        *taken += empty + text.len() as u64;
                        empty = 0;
                        line(&String::from_utf8_lossy(whole));
                    }
                }
                text.clear();
            }
        };
        let complain = async {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.read_to_end(&mut text).await;
            }
            text
        };
        let ((), (), error) = tokio::join!(write, read, complain);
        let status = child.wait().await.map_err(for_good)?;
        if let Some(code) = code {
            return Ok(Ended { code, error: String::from_utf8_lossy(&error).into_owned() });
        }
        check(status, &error)?;
        let why = String::from_utf8_lossy(&error).trim().to_owned();
        Err(Lost::ForGood(io::Error::other(if why.is_empty() {
            format!("the shell of the builder ended with {status}")
        } else {
            why
        })))
    }
}

/// Whether a connection stood; the exit code of what it was for.
fn check(status: ExitStatus, error: &[u8]) -> Result<Option<i32>, Lost> {
    let why = String::from_utf8_lossy(error);
    let why = why.trim();
    if why.contains("Host key verification failed") || why.contains("REMOTE HOST IDENTIFICATION HAS CHANGED")
    {
        return Err(Lost::ForGood(io::Error::other(
            "the host that answers is not the builder: it has another host key than was put into the builder",
        )));
    }
    match status.code() {
        Some(CONNECTION_FAILED) | None => {
            let why = why.lines().last().unwrap_or("the connection was lost");
            Err(Lost::ForNow(why.to_owned()))
        }
        code => Ok(code),
    }
}

impl Session for SshSession {
    fn way_in(&self) -> Option<String> {
        Some(format!("ssh -F {} {HOST}", self.config.display()))
    }

    async fn run(&self, argv: &[&str], input: Input, line: &mut dyn FnMut(&str)) -> io::Result<Ended> {
        let unit = self.started.get();
        self.started.set(unit + 1);
        let unit = unit.to_string();
        let mut taken = 0;
        let mut lost_at: Option<Instant> = None;
        loop {
            let before = taken;
            match self.follow(&unit, argv, &input, &mut taken, line).await {
                Ok(ended) => return Ok(ended),
                Err(Lost::ForGood(error)) => return Err(error),
                Err(Lost::ForNow(why)) => {
                    if taken > before {
                        lost_at = None;
                    }
                    if lost_at.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                        let minutes = PATIENCE.as_secs() / 60;
                        return Err(io::Error::other(format!(
                            "the builder could not be reached for {minutes} minutes: {why}"
                        )));
                    }
                    sleep(BETWEEN).await;
                }
            }
        }
    }
}
