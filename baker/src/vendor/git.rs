//! The host's own `git`, told to do nothing but fetch: no configuration of anybody, no hooks, no prompts.
//!
//! Recipes are taken out of the repository as git stores them, without a working tree, so that no filter, no
//! line ending and no link of theirs touches this machine.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::declared::Reference;
use super::folder::{File, Folder, MOST_BYTES, RECIPE, choose, not_a_file, too_much};
use crate::failure::{Failure, failed};

/// Where programs are, whatever this process was told.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Settings over which a repository or a server has no say.
const SETTINGS: [&str; 12] = [
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "credential.helper=",
    "-c",
    "gc.auto=0",
    // Less than 1 KB in a second, for 30 seconds, is a server that hangs (git-config(1)).
    "-c",
    "http.lowSpeedLimit=1000",
    "-c",
    "http.lowSpeedTime=30",
];

/// How ssh is run: without questions, and not for ever.
const SSH: &str =
    "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=10 -o ServerAliveCountMax=3";

/// A repository on this machine, to fetch into.
pub(super) struct Git {
    repository: PathBuf,
    environment: Vec<(String, String)>,
}

/// A file in a commit.
struct Entry {
    mode: String,
    object: String,
    size: u64,
    path: String,
}

impl Git {
    /// Makes an empty repository. `environment` are variables that git needs to get through: proxies, the home
    /// with its `.netrc`, the agent of ssh.
    pub(super) async fn init(repository: &Path, environment: &[(String, String)]) -> Result<Self, Failure> {
        let git = Self { repository: repository.to_owned(), environment: environment.to_vec() };
        git.run(&["init", "--quiet", "--bare", "--template="], &[]).await?;
        Ok(git)
    }

    /// Fetches a branch, a tag or a commit, and returns the commit.
    pub(super) async fn fetch(&self, url: &str, reference: &Reference) -> Result<String, Failure> {
        let fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--depth=1", "--", url];
        let name = match reference {
            Reference::Branch(name) => format!("refs/heads/{name}"),
            Reference::Tag(name) => format!("refs/tags/{name}"),
            Reference::Commit(id) => id.clone(),
        };
        let fetched = self.run(&[&fetch[..], &[&name]].concat(), &[]).await;
        let missing = |failure: Failure| {
            Failure {
                message: format!("failed to fetch {reference} of `{url}`: {}", failure.message),
                ..failure
            }
            .help("a password is taken from `~/.netrc` and a key from the agent of ssh: nobody is asked")
        };
        let found = match (fetched, reference) {
            (Ok(_), _) => "FETCH_HEAD",
            // Servers may give away only what a branch or a tag leads to (uploadpack.allowAnySHA1InWant).
            (Err(_), Reference::Commit(id)) => {
                let everything = [
                    "fetch",
                    "--quiet",
                    "--no-recurse-submodules",
                    "--",
                    url,
                    "+refs/heads/*:refs/heads/*",
                    "+refs/tags/*:refs/tags/*",
                ];
                self.run(&everything, &[]).await.map_err(missing)?;
                id.as_str()
            }
            (Err(failure), _) => return Err(missing(failure)),
        };
        let commit =
            self.run(&["rev-parse", "--verify", "--quiet", &format!("{found}^{{commit}}")], &[]).await;
        let commit = commit.map_err(|_| Failure::new(format!("`{url}` does not have {reference}")))?;
        Ok(String::from_utf8_lossy(&commit).trim().to_owned())
    }

    /// The recipes in a folder of a commit: all, or those that are wanted.
    pub(super) async fn recipes(
        &self,
        commit: &str,
        folder: &str,
        wanted: Option<&[String]>,
        source: &str,
    ) -> Result<BTreeMap<String, Folder>, Failure> {
        let tree = format!("{commit}:{folder}");
        let list = self.run(&["ls-tree", "-r", "-z", "-l", &tree], &[]).await;
        let list = list.map_err(|_| {
            Failure::new(format!("`{source}` has no folder `{folder}` in {commit}"))
                .help("`path` is the folder in the repository whose folders are recipes")
        })?;
        let entries = entries(&list)?;
        if entries.iter().any(|entry| entry.path == RECIPE) {
            let name = choose(&[source.to_owned()], wanted, source)?.remove(0);
            let all: Vec<(String, &Entry)> =
                entries.iter().map(|entry| (entry.path.clone(), entry)).collect();
            return Ok(BTreeMap::from([(name, self.files(&all, source).await?)]));
        }
        let there: Vec<String> = entries
            .iter()
            .filter_map(|entry| entry.path.split_once('/').filter(|(_, rest)| *rest == RECIPE))
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut recipes = BTreeMap::new();
        for name in choose(&there, wanted, source)? {
            let below: Vec<(String, &Entry)> = entries
                .iter()
                .filter_map(|entry| {
                    let (folder, rest) = entry.path.split_once('/')?;
                    (folder == name).then(|| (rest.to_owned(), entry))
                })
                .collect();
            let files = self.files(&below, &format!("{source}/{name}")).await?;
            recipes.insert(name, files);
        }
        Ok(recipes)
    }

    /// Reads files out of a commit.
    async fn files(&self, entries: &[(String, &Entry)], shown: &str) -> Result<Folder, Failure> {
        let mut objects = String::new();
        let mut left = MOST_BYTES;
        for (path, entry) in entries {
            let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
            if !["100644", "100755", "100664"].contains(&entry.mode.as_str()) || !is_inside {
                return Err(not_a_file(&format!("{shown}/{path}")).into());
            }
            left = left.checked_sub(entry.size).ok_or_else(|| too_much(shown))?;
            objects += &format!("{}\n", entry.object);
        }
        let bytes = self.run(&["cat-file", "--batch"], objects.as_bytes()).await?;
        let mut rest = bytes.as_slice();
        let mut files = BTreeMap::new();
        for (path, entry) in entries {
            let bytes = next_object(&mut rest, entry).ok_or_else(|| {
                Failure::new(format!("failed to read `{shown}/{path}` out of the repository"))
            })?;
            files.insert(path.clone(), File { bytes, executable: entry.mode == "100755" });
        }
        Ok(Folder(files))
    }

    /// Runs git in the repository and returns what it wrote on standard output.
    async fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, Failure> {
        let what = format!("run `git {}`", arguments.first().copied().unwrap_or_default());
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(&self.repository).args(SETTINGS).args(arguments);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_ALLOW_PROTOCOL", "https:ssh:file")
            .env("GIT_TERMINAL_PROMPT", "0")
            // Whoever is asked for a password has none.
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_SSH_COMMAND", SSH);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for baker, which ends what it started.
        command.process_group(0);
        let mut child = match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::new("`git` is not installed").help("apt-get install git"));
            }
            other => other.map_err(failed(&what))?,
        };
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
        let (stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut output, mut error) = (Vec::new(), Vec::new());
        let write = async {
            if let Some(mut stdin) = stdin {
                stdin.write_all(input).await?;
            }
            Ok::<_, io::Error>(())
        };
        let read = async {
            if let Some(stdout) = &mut stdout {
                stdout.read_to_end(&mut output).await?;
            }
            Ok(())
        };
        let complain = async {
            if let Some(stderr) = &mut stderr {
                stderr.read_to_end(&mut error).await?;
            }
            Ok(())
        };
        let told = tokio::try_join!(write, read, complain);
        let status = child.wait().await.map_err(failed(&what))?;
        group.ended();
        if status.success() {
            told.map_err(failed(&what))?;
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&error);
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Err(Failure::new(if lines.is_empty() { format!("failed to {what}") } else { lines.join("; ") }))
    }
}

/// The processes of a git that has not ended: those that it talks to servers with would outlive it.
struct Group(Option<i32>);

impl Group {
    /// Its number may be somebody else's from now on.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// What `git ls-tree -r -z -l` prints: `MODE TYPE OBJECT SIZE<TAB>PATH`, each ended by a NUL.
fn entries(list: &[u8]) -> Result<Vec<Entry>, Failure> {
    let text = std::str::from_utf8(list)
        .map_err(|_| Failure::new("the repository has a file whose name is not UTF-8"))?;
    let entry = |line: &str| {
        let (fields, path) = line.split_once('\t')?;
        let [mode, _, object, size] = fields.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        // A submodule has no size.
        let size = size.parse().unwrap_or(0);
        Some(Entry { mode: mode.into(), object: object.into(), size, path: path.into() })
    };
    text.split_terminator('\0')
        .map(|line| entry(line).ok_or_else(|| Failure::new("`git ls-tree` printed what is not understood")))
        .collect()
}

/// What `git cat-file --batch` prints for an object: `OBJECT blob SIZE`, a newline, the bytes, a newline.
fn next_object(rest: &mut &[u8], entry: &Entry) -> Option<Vec<u8>> {
    let size = usize::try_from(entry.size).ok()?;
    let header = format!("{} blob {size}\n", entry.object);
    let after = rest.strip_prefix(header.as_bytes())?;
    let bytes = after.get(..size)?.to_vec();
    *rest = after.get(size..)?.strip_prefix(b"\n")?;
    Some(bytes)
}
