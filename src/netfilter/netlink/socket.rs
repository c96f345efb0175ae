//! A netlink socket, behind a trait so that tests can simulate kernel faults.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockopt,
    setsockopt, sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Sends and receives datagrams. The kernel replies before `send` returns, so `receive` never
/// blocks.
pub trait Transport {
    /// Sends the parts as one datagram.
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()>;

    /// Receives the next datagram and returns its length.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Returns the maximum size of a datagram, after trying to raise it to `wanted` bytes.
    fn capacity(&mut self, wanted: usize) -> io::Result<usize>;
}

sockopt_impl!(
    /// Enables extended acknowledgements: error messages and the offending attribute.
    ExtAck,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_EXT_ACK,
    bool
);
sockopt_impl!(
    /// Joins a multicast group.
    AddMembership,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_ADD_MEMBERSHIP,
    u32
);
/// A netlink socket in the network namespace of this thread.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket of one netlink protocol, such as `NetlinkNetFilter`. EPROTONOSUPPORT when
    /// the kernel has no such protocol.
    ///
    /// The socket is connected to the kernel, so other processes cannot send to it, and bound, so
    /// that it can receive notifications.
    pub fn open(protocol: SockProtocol) -> io::Result<Self> {
        let socket = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        let kernel = NetlinkAddr::new(0, 0);
        socket::connect(socket.as_raw_fd(), &kernel)?;
        Ok(Socket(socket))
    }

    /// Asks for the reasons of refusals. Kernels without this option (before 4.12, gVisor) report
    /// less, but still report errors.
    pub fn explaining_refusals(self) -> io::Result<Self> {
        match setsockopt(&self.0, ExtAck, &true) {
            Ok(()) | Err(Errno::ENOPROTOOPT) => Ok(self),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Joins a multicast group by its number.
    pub fn join(&self, group: u32) -> io::Result<()> {
        Ok(setsockopt(&self.0, AddMembership, &group)?)
    }

    /// Sets the receive buffer size, up to net.core.rmem_max without privilege.
    pub fn queue(&self, bytes: usize) -> io::Result<()> {
        match setsockopt(&self.0, sockopt::RcvBufForce, &bytes) {
            Err(Errno::EPERM) => Ok(setsockopt(&self.0, sockopt::RcvBuf, &bytes)?),
            result => Ok(result?),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Transport for Socket {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let parts: Vec<IoSlice> = parts.iter().map(|p| IoSlice::new(p)).collect();
        let fd = self.0.as_raw_fd();
        retried(|| socket::sendmsg::<()>(fd, &parts, &[], MsgFlags::empty(), None))?;
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        // With MSG_TRUNC the full length is returned even if the buffer is shorter.
        let length = retried(|| socket::recv(self.0.as_raw_fd(), buffer, flags))?;
        match length > buffer.len() {
            true => Err(Errno::EMSGSIZE.into()),
            false => Ok(length),
        }
    }

    fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
        // The kernel doubles the value and reserves 32 bytes.
        const RESERVED: usize = 32;
        let room = |socket| getsockopt(socket, sockopt::SndBuf).map(|s| s - RESERVED.min(s));
        let now = room(&self.0)?;
        if now >= wanted {
            return Ok(now);
        }
        let ask = wanted + RESERVED;
        match setsockopt(&self.0, sockopt::SndBufForce, &ask) {
            // In a user namespace net.core.wmem_max is the limit.
            Err(Errno::EPERM) => setsockopt(&self.0, sockopt::SndBuf, &ask)?,
            result => result?,
        }
        Ok(room(&self.0)?)
    }
}

fn retried<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => continue,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernel_can_answer() {
        let mut socket = Socket::open(SockProtocol::NetlinkUserSock).unwrap();
        let address: NetlinkAddr = socket::getsockname(socket.0.as_raw_fd()).unwrap();
        assert_ne!(address.pid(), 0);
        let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
        let protocol = SockProtocol::NetlinkUserSock;
        let other = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        let forged = socket::sendto(other.as_raw_fd(), &[0; 16], &address, MsgFlags::empty());
        assert_eq!(forged, Err(Errno::ECONNREFUSED));
        let nothing = socket.receive(&mut [0; 16]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}
