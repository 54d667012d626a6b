//! A network of its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// The address that the world has towards its hosts.
pub const GATEWAY: &str = "10.200.0.1";

/// The address of the instance metadata service, on every instance.
pub const METADATA: &str = "169.254.169.254";

/// A network namespace. It ends when nothing is in it any more.
#[derive(Debug)]
pub struct World {
    namespace: OwnedFd,
}

/// A host's place in a world: a network namespace with one interface, kept by a process.
#[derive(Debug)]
pub struct Place {
    keeper: Child,
    /// The address of the host.
    pub address: String,
}

impl World {
    /// A world in which nothing is yet, with the addresses that its services will have.
    ///
    /// # Errors
    /// When this process may not make networks.
    pub fn new() -> io::Result<Self> {
        let namespace = thread::spawn(|| -> io::Result<OwnedFd> {
            // Only this thread leaves the machine's network.
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        });
        let namespace =
            namespace.join().map_err(|_| io::Error::other("the thread of the world panicked"))??;
        let world = Self { namespace };
        world.ip(&["link", "set", "lo", "up"])?;
        for address in [METADATA, GATEWAY] {
            world.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
        }
        Ok(world)
    }

    /// Passes on what hosts send to each other, as the network of a cloud does.
    ///
    /// # Errors
    /// When the world cannot be told.
    pub fn let_hosts_meet(&self) -> io::Result<()> {
        self.within(|| {
            // Each host is on a wire of its own, and asks there for the others.
            ["ip_forward", "conf/all/proxy_arp"]
                .iter()
                .try_for_each(|key| fs::write(format!("/proc/sys/net/ipv4/{key}"), "1"))
        })
    }

    /// Does something inside.
    ///
    /// # Panics
    /// When what is done panics.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("the world can be entered");
                work()
            });
            inside.join().expect("what is done in the world does not panic")
        })
    }

    /// Starts a program inside.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.within(|| command.spawn())
    }

    /// The address of the host of a number, from 2.
    pub fn address(number: u8) -> String {
        format!("10.200.0.{number}")
    }

    /// A place for the host of a number.
    ///
    /// # Errors
    /// When its interface cannot be made.
    pub fn place(&self, number: u8) -> io::Result<Place> {
        // The namespace is there when it has said so. It ends with its input, which ends with this process.
        let mut keeper = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo; exec cat > /dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = keeper.stdout.as_mut().ok_or_else(|| io::Error::other("it has no output"))?;
        io::Read::read_exact(stdout, &mut [0])?;
        let place = Place { address: Self::address(number), keeper };
        let namespace = place.namespace();
        self.connect(number, &namespace)?;
        within(&namespace, &["route", "add", "default", "via", GATEWAY])?;
        Ok(place)
    }

    /// Gives a network namespace an interface in this world, with the address of a number.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn connect(&self, number: u8, namespace: &str) -> io::Result<()> {
        let here = format!("host{number}");
        // That of an earlier host goes with its namespace, which takes the kernel a moment.
        let _ = self.ip(&["link", "delete", &here]);
        self.ip(&["link", "add", &here, "type", "veth", "peer", "name", "eth0", "netns", namespace])?;
        self.ip(&["address", "add", &format!("{GATEWAY}/32"), "dev", &here])?;
        self.ip(&["link", "set", &here, "up"])?;
        let address = Self::address(number);
        self.ip(&["route", "add", &format!("{address}/32"), "dev", &here, "src", GATEWAY])?;
        within(namespace, &["link", "set", "lo", "up"])?;
        within(namespace, &["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        within(namespace, &["link", "set", "eth0", "up"])?;
        within(namespace, &["route", "add", METADATA, "via", GATEWAY])
    }

    fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        self.within(|| done(Command::new("ip").args(arguments)))
    }
}

impl Place {
    /// Where its namespace can be joined.
    pub fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.keeper.id())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Runs ip(8) in a network namespace.
fn within(namespace: &str, arguments: &[&str]) -> io::Result<()> {
    done(Command::new("nsenter").arg(format!("--net={namespace}")).args(["--", "ip"]).args(arguments))
}

/// Runs a program that must succeed.
pub(crate) fn done(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?} failed: {}", error.trim())))
}
