//! A netlink socket, behind a trait so that tests can play a kernel that misbehaves.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockopt,
    setsockopt, sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The two ways that datagrams go. The kernel answers before `send` returns, so that `receive`
/// never waits.
pub trait Transport {
    /// Sends the parts as one datagram.
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()>;

    /// Puts the next datagram into `buffer`, and says how long it is.
    /// [`io::ErrorKind::WouldBlock`] when there is none, ENOBUFS when some were lost, EMSGSIZE when
    /// it did not fit.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// The largest datagram that can be sent, after trying to make it `wanted` bytes.
    fn capacity(&mut self, wanted: usize) -> io::Result<usize>;
}

sockopt_impl!(
    /// Replies carry the kernel's words and the offending attribute.
    ExtAck,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_EXT_ACK,
    bool
);
sockopt_impl!(
    /// Notifications of this group arrive too.
    AddMembership,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_ADD_MEMBERSHIP,
    u32
);
sockopt_impl!(
    /// Replies do not repeat the request.
    CapAck,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_CAP_ACK,
    bool
);

/// A netlink socket of the network namespace that the thread is in.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket of one netlink protocol, such as `NetlinkNetFilter`. EPROTONOSUPPORT when
    /// the kernel has no such protocol.
    ///
    /// It is connected to the kernel: the kernel takes nothing for it from other processes, who could
    /// send it answers. And it has an address from then on, without which nothing is told to it.
    pub fn open(protocol: SockProtocol) -> io::Result<Self> {
        let socket = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        // Kernels without these (before 4.12, gVisor) say less, but say no when they should.
        for result in [
            setsockopt(&socket, ExtAck, &true),
            setsockopt(&socket, CapAck, &true),
        ] {
            match result {
                Ok(()) | Err(Errno::ENOPROTOOPT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let kernel = NetlinkAddr::new(0, 0);
        socket::connect(socket.as_raw_fd(), &kernel)?;
        Ok(Socket(socket))
    }

    /// Joins a multicast group by its number: its notifications arrive from now on.
    pub fn join(&self, group: u32) -> io::Result<()> {
        Ok(setsockopt(&self.0, AddMembership, &group)?)
    }

    /// Makes room for so many bytes that have arrived and are not received yet, or for as many as
    /// net.core.rmem_max allows where more is not permitted.
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
        // With MSG_TRUNC the length is the datagram's, also where the buffer is shorter.
        let length = retried(|| socket::recv(self.0.as_raw_fd(), buffer, flags))?;
        match length > buffer.len() {
            true => Err(Errno::EMSGSIZE.into()),
            false => Ok(length),
        }
    }

    fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
        // The kernel doubles what it is given and wants 32 bytes of it for itself.
        const RESERVED: usize = 32;
        let room = |socket| getsockopt(socket, sockopt::SndBuf).map(|s| s - RESERVED.min(s));
        let now = room(&self.0)?;
        if now >= wanted {
            return Ok(now);
        }
        let ask = wanted + RESERVED;
        match setsockopt(&self.0, sockopt::SndBufForce, &ask) {
            // User namespaces do not allow more than net.core.wmem_max.
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
