//! The connection that a run came in by: that of `sshd` when somebody runs the agent over SSH.
//!
//! It is found by the processes that this one descends from, not by `SSH_CONNECTION`, which `sudo` removes.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A TCP connection of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
}

impl Connection {
    /// What matches its packets that come in, for nft.
    pub(super) fn incoming(&self) -> String {
        matching(self.remote, self.local)
    }

    /// What matches its packets that go out, for nft.
    pub(super) fn outgoing(&self) -> String {
        matching(self.local, self.remote)
    }
}

fn matching(from: SocketAddr, to: SocketAddr) -> String {
    let family = if from.is_ipv4() { "ip" } else { "ip6" };
    let (source, target) = (from.ip(), to.ip());
    let (sport, dport) = (from.port(), to.port());
    format!("{family} saddr {source} {family} daddr {target} tcp sport {sport} tcp dport {dport}")
}

impl fmt::Display for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "from {} to {}", self.remote, self.local)
    }
}

/// The connections of the nearest ancestor of this process that has some. Those of a host to itself are no
/// way in. What cannot be read is not there.
pub(super) fn connections() -> Vec<Connection> {
    let established = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .flat_map(|table| parse(&fs::read_to_string(table).unwrap_or_default()))
        .collect::<Vec<_>>();
    let mut process = "self".to_owned();
    while let Some(parent) = parent_of(&process).filter(|parent| *parent > 1) {
        process = parent.to_string();
        let sockets = sockets_of(&process);
        let own = established.iter().filter(|(inode, _)| sockets.contains(inode));
        let found: Vec<Connection> = own.map(|(_, connection)| connection.clone()).collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// The fourth field of `proc_pid_stat(5)`; the name, in brackets, may have spaces and brackets in it.
fn parent_of(process: &str) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The inodes of a process's sockets.
fn sockets_of(process: &str) -> BTreeSet<u64> {
    let links = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let targets = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets
        .filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

/// The established connections of a table of `proc_net_tcp(5)`, each with the inode of its socket.
fn parse(table: &str) -> Vec<(u64, Connection)> {
    const ESTABLISHED: &str = "01";
    let connection = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if *fields.get(3)? != ESTABLISHED {
            return None;
        }
        let connection = Connection { local: address(fields[1])?, remote: address(fields[2])? };
        Some((fields.get(9)?.parse().ok()?, connection))
    };
    let found = table.lines().filter_map(connection);
    found.filter(|(_, connection)| !connection.local.ip().is_loopback()).collect()
}

/// `0100007F:0016` is 127.0.0.1, port 22: words of four bytes in the order of this processor.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match words.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn established_connections_are_read_as_the_kernel_shows_them() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0000000000000000 100 0 0 10 0
   1: 0200C80A:0016 0100C80A:D431 01 00000000:00000000 02:000AF2C8 00000000     0        0 4711 2 0000000000000000 20 4 29 10 -1
   2: 0100007F:0016 0100007F:D432 01 00000000:00000000 02:000AF2C8 00000000     0        0 4712 2 0000000000000000 20 4 29 10 -1
   3: 0000000000000000FFFF00000200C80A:0016 0000000000000000FFFF00000100C80A:D433 01 00000000:00000000 00:00000000 00000000 0 0 4713 1
   4: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:D434 01 00000000:00000000 00:00000000 00000000 0 0 4714 1
   5: broken
";
        let found: Vec<String> =
            parse(table).iter().map(|(inode, connection)| format!("{inode} {connection}")).collect();
        assert_eq!(
            found,
            [
                "4711 from 10.200.0.1:54321 to 10.200.0.2:22",
                "4713 from 10.200.0.1:54323 to 10.200.0.2:22",
                "4714 from [2001:db8::2]:54324 to [2001:db8::1]:22",
            ]
        );
    }

    #[test]
    fn its_packets_are_matched_in_both_directions() {
        let connection = Connection {
            local: "10.0.0.2:22".parse().expect("an address"),
            remote: "10.0.0.1:54321".parse().expect("an address"),
        };
        assert_eq!(connection.incoming(), "ip saddr 10.0.0.1 ip daddr 10.0.0.2 tcp sport 54321 tcp dport 22");
        assert_eq!(connection.outgoing(), "ip saddr 10.0.0.2 ip daddr 10.0.0.1 tcp sport 22 tcp dport 54321");
    }

    #[test]
    fn this_test_has_a_parent() {
        assert!(parent_of("self").is_some_and(|parent| parent > 0));
        assert_eq!(parent_of("no such process"), None);
    }
}
