//! The network of a world: a loopback device, and a way out for what fetches over HTTP, which is a proxy.

use std::io;
use std::net::TcpListener;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::os::fd::AsRawFd;

/// The loopback device of every network is the first (`LOOPBACK_IFINDEX`, include/net/flow.h of Linux).
const LOOPBACK: i32 = 1;

/// Makes the loopback device work, and listens there. The network has to be this thread's own.
pub(super) fn listen() -> io::Result<TcpListener> {
    bring_up(LOOPBACK)?;
    TcpListener::bind(("127.0.0.1", 0))
}

/// Sets a device to `up`, by a message of rtnetlink(7): a header, and a `struct ifinfomsg`.
fn bring_up(index: i32) -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_WITH_ANSWER: u16 = 0x1 | 0x4;
    const IFF_UP: u32 = 1;
    const HEADER: usize = 16;
    const LENGTH: u32 = 32;
    let mut message = Vec::with_capacity(LENGTH as usize);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    message.extend([1_u32, 0].map(u32::to_ne_bytes).concat());
    // No family, and no type of device.
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.extend([IFF_UP, IFF_UP].map(u32::to_ne_bytes).concat());
    let kernel = NetlinkAddr::new(0, 0);
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    sendto(netlink.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    let mut answer = [0; 128];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // `struct nlmsgerr` begins with the error, negated; 0 if there is none (netlink(7)).
    let error = answer[..length].get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::other("the kernel does not answer")),
    }
}
