//! A run in which nothing is to be changed, against the lower bound and against a peer, in one go.
//!
//! The lower bound is a program that looks at and reads the same files. The peer is Ansible, if it is
//! installed beside the stand-in for AWS. Whole processes are timed; the median of several runs, taken in
//! turn, is told. The same for how soon an agent that is started at boot asks the metadata service for something.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use tempfile::TempDir;
use testbed::binaries;

/// How many runs of ours, and of the lower bound, a median is of. A peer that takes a minute has one.
const RUNS: usize = 11;

/// A recipe has at most so many resources; a file is at most 1 MiB.
const PER_RECIPE: usize = 1_000;

/// The sizes that are measured; the peer gets the first only.
const SIZES: [usize; 3] = [100, 1_000, 10_000];

#[expect(clippy::disallowed_methods, reason = "this is the program's `main`")]
fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let result = match arguments.next() {
        Some(list) => read_all(Path::new(&list)),
        None => bench(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("The benchmark failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The lower bound: looks at and reads every file of a list.
fn read_all(list: &Path) -> Result<(), Box<dyn Error>> {
    for path in fs::read_to_string(list)?.lines() {
        if fs::symlink_metadata(path)?.is_file() {
            fs::read(path)?;
        }
    }
    Ok(())
}

fn bench() -> Result<(), Box<dyn Error>> {
    first_request()?;
    say("Nothing to change: whole process, median of 11 runs in turn.");
    say(&format!(
        "{:>10} {:>12} {:>14} {:>8} {:>12}",
        "resources", "ours", "reading only", "ratio", "peak memory"
    ));
    let mut first = None;
    for size in SIZES {
        let host = Prepared::new(size)?;
        let (mut ours, mut bound) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            ours.push(timed(&mut host.plan()?)?);
            bound.push(timed(Command::new(std::env::current_exe()?).arg(host.path("list")))?);
        }
        let (ours, bound) = (median(ours), median(bound));
        say(&format!(
            "{size:>10} {:>9.1} ms {:>11.1} ms {:>7.1}x {:>9.1} MB",
            milliseconds(ours),
            milliseconds(bound),
            ours.as_secs_f64() / bound.as_secs_f64(),
            peak_megabytes()?
        ));
        if size == SIZES[0] {
            first = Some((host, ours));
        }
    }
    // Last, because what it takes counts as a peak from then on.
    first.map_or(Ok(()), |(host, ours)| peer(&host, ours))
}

/// From exec to the first byte at the metadata service, against programs that scripts ask it with.
fn first_request() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut agent = Command::new(binaries::agent()?);
    agent.arg("plan").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--request", "PUT", &url]);
    let mut python = Command::new(binaries::python()?);
    python.args(["-c", "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])", &url]);
    let mut programs = [("bootstrap-agent", agent), ("curl", curl), ("Python's urllib", python)];
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for ((name, command), times) in programs.iter_mut().zip(&mut times) {
            match asked_after(command, &listener) {
                Ok(time) => times.push(time),
                // It is not installed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{name}: {error}").into()),
            }
        }
    }
    say("From exec to the first request, median of 11 runs in turn.");
    for ((name, _), times) in programs.iter().zip(times).filter(|(_, times)| !times.is_empty()) {
        say(&format!("{name:>16} {:>7.1} ms", milliseconds(median(times))));
    }
    Ok(())
}

/// Starts a program, and returns how long it took until it had asked for something.
fn asked_after(command: &mut Command, listener: &TcpListener) -> io::Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let asked = loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false)?;
                break stream.read_exact(&mut [0]).map(|()| began.elapsed());
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => break Err(error),
            Err(_) if began.elapsed() > Duration::from_secs(10) => {
                break Err(io::Error::other("it asked for nothing"));
            }
            Err(_) => std::thread::sleep(Duration::from_micros(50)),
        }
    };
    child.kill()?;
    child.wait()?;
    asked
}

/// The same files, directories, links and lines, as tasks of a playbook on this machine.
fn peer(host: &Prepared, ours: Duration) -> Result<(), Box<dyn Error>> {
    let ansible = binaries::project().join(".venv/bin/ansible-playbook");
    if !ansible.is_file() {
        say("Ansible: skipped, it is not installed (.venv/bin/pip install ansible-core)");
        return Ok(());
    }
    let mut command = Command::new(&ansible);
    // The interpreter that it has itself, not one that it looks for.
    let python = format!("ansible_python_interpreter={}", ansible.with_file_name("python").display());
    command
        .args(["--connection=local", "--inventory=localhost,", "--extra-vars", &python])
        .arg(host.path("playbook.yaml"));
    let theirs = timed(&mut command)?;
    say(&format!(
        "Ansible, {} resources: {:.1} s, {:.0} times as long",
        SIZES[0],
        theirs.as_secs_f64(),
        theirs.as_secs_f64() / ours.as_secs_f64()
    ));
    Ok(())
}

/// A folder in which everything is as the resources say.
struct Prepared {
    folder: TempDir,
}

impl Prepared {
    fn new(size: usize) -> Result<Self, Box<dyn Error>> {
        let host = Self { folder: TempDir::with_prefix("bench-")? };
        let root = host.path("root");
        fs::create_dir(&root)?;
        let mut recipes = vec![String::from("resources:\n"); size.div_ceil(PER_RECIPE)];
        let (mut tasks, mut list) = (String::new(), String::new());
        for number in 0..size {
            let path = root.join(format!("{}{number}", ["directory", "file", "link", "line"][number % 4]));
            let (shown, resources) = (path.display(), &mut recipes[number / PER_RECIPE]);
            match number % 4 {
                0 => {
                    writeln!(resources, "  - directory: {{ path: {shown} }}")?;
                    writeln!(tasks, "    - file: {{ path: {shown}, state: directory, mode: '0755' }}")?;
                }
                1 => {
                    let content = format!("setting {number}\\n").repeat(20);
                    writeln!(resources, "  - file: {{ path: {shown}, content: \"{content}\" }}")?;
                    writeln!(tasks, "    - copy: {{ dest: {shown}, content: \"{content}\", mode: '0644' }}")?;
                }
                2 => {
                    writeln!(resources, "  - symlink: {{ path: {shown}, target: /etc/hostname }}")?;
                    writeln!(tasks, "    - file: {{ path: {shown}, src: /etc/hostname, state: link }}")?;
                }
                _ => {
                    fs::write(&path, "# a file of somebody else\n".repeat(20))?;
                    writeln!(resources, "  - line: {{ path: {shown}, line: port = {number} }}")?;
                    writeln!(tasks, "    - lineinfile: {{ path: {shown}, line: port = {number} }}")?;
                }
            }
            writeln!(list, "{shown}")?;
        }
        fs::write(host.path("list"), list)?;
        let head = "- hosts: localhost\n  gather_facts: false\n  tasks:\n";
        fs::write(host.path("playbook.yaml"), format!("{head}{tasks}"))?;
        host.pack(&recipes)?;
        let applied = host.agent(&["apply"])?.output()?;
        if !applied.status.success() {
            return Err(String::from_utf8_lossy(&applied.stderr).into_owned().into());
        }
        Ok(host)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pack(&self, recipes: &[String]) -> Result<(), Box<dyn Error>> {
        use recipes::{bundle, recipe::Recipe, resolve::RecipeUse, system::Mode};
        let mut uses = Vec::new();
        for (number, resources) in recipes.iter().enumerate() {
            let name = format!("bench{number}");
            let recipe = self.path(&name);
            fs::create_dir(&recipe)?;
            fs::write(recipe.join("recipe.yaml"), resources)?;
            let recipe = Recipe::load(&recipe, &name).map_err(|problems| problems.to_string())?;
            uses.push(RecipeUse { recipe, inputs: serde_json::Map::new(), stage: 0, at: None });
        }
        let contents = bundle::Contents { mode: Mode::Live, uses: &uses, checks: &[], services: &[] };
        for (path, bytes) in bundle::pack(&contents).map_err(|problem| problem.to_string())? {
            let path = self.path("bundle").join(path);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            fs::write(path, bytes)?;
        }
        Ok(())
    }

    fn agent(&self, arguments: &[&str]) -> io::Result<Command> {
        let mut command = Command::new(binaries::agent()?);
        command.args(arguments).arg(self.path("bundle"));
        Ok(command)
    }

    fn plan(&self) -> io::Result<Command> {
        self.agent(&["plan", "--detailed-exitcode"])
    }
}

fn timed(command: &mut Command) -> Result<Duration, Box<dyn Error>> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status()?;
    let took = began.elapsed();
    if status.success() { Ok(took) } else { Err(format!("{command:?} ended with {status}").into()) }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The most memory that a process that was waited for has used.
#[expect(clippy::cast_precision_loss, reason = "nobody has that much memory")]
fn peak_megabytes() -> nix::Result<f64> {
    Ok(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss() as f64 / 1000.0)
}

fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
