//! A host that others reach the world through.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testbed::host::{Disk, Host};
use testbed::person::said;
use testbed::workspace::image;
use testbed::world::World;

use super::hosts::{apply, own_network};
use crate::Outcome;

/// Says so when it listens, and tells who asks from where it came.
const SERVER: &str = "import socket
server = socket.create_server(('', 7777))
print('listening', flush=True)
while True:
    connection, address = server.accept()
    connection.sendall((address[0] + '\\n').encode())
    connection.close()
";

const RECIPE: &str = "  - include: { nat: { networks: [192.168.9.0/24] } }\n";

#[test]
fn a_host_behind_nat_reaches_out_and_is_not_reached() -> Outcome {
    let base = image("base")?;
    let world = World::new()?;
    let boot = |number: u8| Disk::of_image(&base).and_then(|disk| Host::boot(disk, world.place(number)?));
    let (nat, inside) = (boot(2)?, boot(3)?);
    own_network(&nat)?;
    // A network of the two, in which only one of them knows the way out.
    let leader = inside.leader().to_string();
    ip(&nat, &["link", "add", "inside0", "type", "veth", "peer", "name", "out0", "netns", &leader])?;
    ip(&nat, &["address", "add", "192.168.9.1/24", "dev", "inside0"])?;
    ip(&nat, &["link", "set", "inside0", "up"])?;
    ip(&inside, &["link", "set", "eth0", "down"])?;
    ip(&inside, &["address", "add", "192.168.9.2/24", "dev", "out0"])?;
    ip(&inside, &["link", "set", "out0", "up"])?;
    ip(&inside, &["route", "add", "default", "via", "192.168.9.1"])?;
    // And somebody in the world who knows the way in.
    let way = ["route", "add", "192.168.9.0/24", "via", "10.200.0.2", "dev", "host2", "onlink"];
    assert!(world.within(|| Command::new("ip").args(way).status())?.success());
    let _server = listening(&world)?;

    let ask = |host: &Host, address: &str| {
        let script = format!("exec 3<>/dev/tcp/{address}; read -r line <&3; echo \"$line\"");
        host.run(&["timeout", "5", "bash", "-c", &script])
    };
    let heard = |host: &Host, address: &str| Ok::<_, std::io::Error>(ask(host, address)?.status.success());
    assert!(!heard(&inside, "10.200.0.1/7777")?, "there is no way out yet");
    apply(&nat, "nat", RECIPE)?;
    let settings = nat.output(&["systemd-analyze", "cat-config", "sysctl.d"])?;
    let forwards = settings.lines().rfind(|line| line.starts_with("net.ipv4.ip_forward"));
    assert!(forwards.is_some_and(|line| line.ends_with('1')), "{settings}");
    // Of a container, whose kernel is the machine's, no setting is loaded.
    nat.output(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])?;
    let answer = ask(&inside, "10.200.0.1/7777")?;
    assert_eq!(
        String::from_utf8_lossy(&answer.stdout),
        "10.200.0.2\n",
        "{} {}",
        said(&answer),
        nat.output(&["nft", "list", "ruleset"])?
    );

    // What the instance may is its own.
    assert!(heard(&nat, "169.254.169.254/7777")? && !heard(&inside, "169.254.169.254/7777")?);
    // Nobody reaches in, not even who knows the way; the host itself does.
    assert!(heard(&nat, "192.168.9.2/22")?);
    let address = "192.168.9.2:22".parse()?;
    let reached = world.within(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)));
    assert!(reached.is_err(), "{reached:?}");
    Ok(())
}

/// Sets the network of a host, which need not have ip(8).
fn ip(host: &Host, arguments: &[&str]) -> Outcome {
    let output = Command::new("nsenter")
        .args([&format!("--target={}", host.leader()), "--net", "--", "ip"])
        .args(arguments)
        .output()?;
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    Ok(())
}

/// A program that ends with this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listening(world: &World) -> Result<Ended, Box<dyn std::error::Error>> {
    let mut server = Ended(world.spawn(Command::new("python3").args(["-c", SERVER]).stdout(Stdio::piped()))?);
    let mut line = String::new();
    BufReader::new(server.0.stdout.as_mut().ok_or("it has no output")?).read_line(&mut line)?;
    assert_eq!(line, "listening\n");
    Ok(server)
}
