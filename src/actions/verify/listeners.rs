//! Who answers a probe: listeners of our own on the proxy's ports, as far as those are free.

use super::socket::{listening, original_destination, receiving};
use crate::netfilter::model::{Family, Protocol};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A port to which rules send connections, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProxyPort {
    pub(super) family: Family,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    /// TPROXY leaves the destination as it is: only a transparent socket takes the connection.
    pub(super) transparent: bool,
}

/// What arrived at one of the listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// The port that the listener was made for.
    pub(super) port: u16,
    /// Where the sender meant it to go, if conntrack told.
    pub(super) original: Option<SocketAddr>,
}

/// A socket that waits for probes.
enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
        }
    }
}

/// Listeners on all ports that probes may reach.
#[derive(Default)]
pub(super) struct Listeners {
    open: Vec<(u16, Socket)>,
    /// Where we cannot: somebody listens already, the proxy, in a pod that runs; TPROXY's port asks for
    /// a capability that we lack; lo has no address of the family.
    missing: Vec<ProxyPort>,
}

/// What the kernel says of a port that others have, that we may not have, or that cannot be had here.
const NOT_OURS: [Errno; 5] = [
    Errno::EADDRINUSE,
    Errno::EPERM,
    Errno::EACCES,
    Errno::EADDRNOTAVAIL,
    Errno::EAFNOSUPPORT,
];

impl Listeners {
    /// Listens on every one of these ports that is free.
    ///
    /// # Errors
    /// What the kernel says of a port that is free, and that we may have.
    pub(super) fn open(ports: &[ProxyPort]) -> io::Result<Self> {
        let mut listeners = Listeners::default();
        for port in ports {
            let address = SocketAddr::new(port.address(), port.port);
            let opened = match port.protocol {
                Protocol::Udp => receiving(address).map(Socket::Udp),
                _ => listening(address, port.transparent).map(Socket::Tcp),
            };
            match opened {
                Ok(socket) => listeners.open.push((port.port, socket)),
                Err(e) if NOT_OURS.contains(&e) => listeners.missing.push(*port),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(listeners)
    }

    /// Whether every port is ours, so that what does not come here went elsewhere.
    pub(super) fn are_complete(&self, family: Family, protocol: Protocol) -> bool {
        let other = |p: &ProxyPort| (p.family, p.protocol) == (family, protocol);
        !self.missing.iter().any(other)
    }

    /// What arrives from `from`, at one of the listeners or at `besides` (the destination itself),
    /// within `patience`. Anything from elsewhere is let go.
    pub(super) fn wait_for(
        &self,
        from: SocketAddr,
        besides: Option<&Destination>,
        patience: Duration,
    ) -> io::Result<Option<Arrival>> {
        let until = std::time::Instant::now() + patience;
        let all: Vec<&(u16, Socket)> = self.open.iter().chain(besides.map(|d| &d.0)).collect();
        loop {
            for (port, socket) in &all {
                if let Some(arrival) = take(*port, socket, from)? {
                    return Ok(Some(arrival));
                }
            }
            let left = until.saturating_duration_since(std::time::Instant::now());
            let mut fds: Vec<PollFd> = all
                .iter()
                .map(|(_, s)| PollFd::new(s.as_fd(), PollFlags::POLLIN))
                .collect();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// A listener at a probe's own destination, for what is to go straight there.
pub(super) struct Destination((u16, Socket));

impl Destination {
    /// Listens at `address`. Errors as of [`listening`].
    pub(super) fn open(protocol: Protocol, address: SocketAddr) -> nix::Result<Self> {
        let socket = match protocol {
            Protocol::Udp => Socket::Udp(receiving(address)?),
            _ => Socket::Tcp(listening(address, false)?),
        };
        Ok(Destination((address.port(), socket)))
    }
}

impl ProxyPort {
    /// REDIRECT turns what is sent here to loopback; TPROXY delivers it with whatever address.
    fn address(&self) -> IpAddr {
        match (self.transparent, self.family) {
            (true, family) => family.unspecified(),
            (false, Family::V4) => Ipv4Addr::LOCALHOST.into(),
            (false, Family::V6) => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// One connection or datagram that is there already, if it comes from `from`.
fn take(port: u16, socket: &Socket, from: SocketAddr) -> io::Result<Option<Arrival>> {
    let arrived = match socket {
        Socket::Tcp(listener) => listener.accept().map(|(stream, peer)| {
            let local = stream.local_addr().ok();
            (peer, local.and_then(|l| original_destination(&stream, l)))
        }),
        Socket::Udp(socket) => socket.recv_from(&mut [0; 64]).map(|(_, peer)| (peer, None)),
    };
    match arrived {
        Ok((peer, original)) => Ok((peer == from).then_some(Arrival { port, original })),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        // The other side has gone meanwhile.
        Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
        Err(e) => Err(e),
    }
}
