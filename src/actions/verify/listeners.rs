//! Listeners of verify's own: on the proxy's ports, as far as those are free, and at the destinations
//! of connections.

use super::evidence::Delivery;
use super::socket::{listening, original_destination, receiving};
use crate::netfilter::model::{Family, Protocol, Ruleset, Target};
use nix::errno::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// A port to which rules send connections, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProxyPort {
    pub family: Family,
    pub protocol: Protocol,
    pub port: u16,
    /// TPROXY leaves the destination as it is: only a transparent socket takes the connection.
    pub transparent: bool,
}

impl ProxyPort {
    /// Every port that rules send to, each once.
    pub(super) fn of(desired: &Ruleset) -> Vec<Self> {
        let mut ports = Vec::new();
        for family in Family::ALL {
            let chains = desired.of(family).flat_map(|t| &t.chains);
            for rule in chains.flat_map(|c| &c.rules) {
                let (port, transparent) = match rule.target {
                    Target::Redirect { to_port } => (to_port, false),
                    Target::Tproxy { on_port, .. } => (on_port, true),
                    _ => continue,
                };
                let port = ProxyPort {
                    family,
                    protocol: rule.protocol().unwrap_or(Protocol::Tcp),
                    port,
                    transparent,
                };
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
        }
        ports
    }

    /// REDIRECT changes the destination of what is sent here to loopback; TPROXY delivers it with
    /// whatever address.
    fn address(&self) -> IpAddr {
        match (self.transparent, self.family) {
            (true, family) => family.unspecified(),
            (false, Family::V4) => Ipv4Addr::LOCALHOST.into(),
            (false, Family::V6) => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Socket {
    fn open(protocol: Protocol, address: SocketAddr, transparent: bool) -> nix::Result<Self> {
        match protocol {
            Protocol::Udp => receiving(address).map(Socket::Udp),
            _ => listening(address, transparent).map(Socket::Tcp),
        }
    }
}

/// One listener.
pub(super) struct Listener {
    socket: Socket,
    address: SocketAddr,
    /// On a port of the proxy; nothing at a destination.
    proxy: Option<ProxyPort>,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
        }
    }
}

/// What came to a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub from: SocketAddr,
    /// The address that it came to.
    local: Option<SocketAddr>,
    /// SO_ORIGINAL_DST.
    original: Option<SocketAddr>,
}

impl Listener {
    /// At a destination, if no other socket is there.
    pub(super) fn at(protocol: Protocol, address: SocketAddr) -> Option<Self> {
        let socket = Socket::open(protocol, address, false).ok()?;
        Some(Listener {
            socket,
            address,
            proxy: None,
        })
    }

    /// What has come, if anything has.
    pub(super) fn take(&self) -> io::Result<Option<Arrival>> {
        let arrived = match &self.socket {
            Socket::Tcp(listener) => listener.accept().map(|(stream, from)| {
                let local = stream.local_addr().ok();
                Arrival {
                    from,
                    local,
                    original: local.and_then(|l| original_destination(&stream, l)),
                }
            }),
            Socket::Udp(socket) => socket.recv_from(&mut [0; 64]).map(|(_, from)| Arrival {
                from,
                local: None,
                original: None,
            }),
        };
        match arrived {
            Ok(arrival) => Ok(Some(arrival)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // The other side has gone meanwhile.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => self.take(),
            Err(e) => Err(e),
        }
    }

    /// What an arrival here means for a connection to `to`.
    pub(super) fn meaning(&self, arrival: Arrival, to: SocketAddr) -> Delivery {
        let Some(proxy) = self.proxy else {
            return Delivery::Destination;
        };
        let itself = match proxy.transparent {
            true => to.port() == proxy.port,
            false => arrival.local.unwrap_or(self.address) == to && to == self.address,
        };
        match itself {
            true => Delivery::Either,
            false => Delivery::Proxy {
                port: proxy.port,
                original: arrival.original.filter(|original| !same(*original, to)),
            },
        }
    }
}

/// Whether both are one destination. conntrack knows no scope.
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

/// Listeners on the proxy's ports.
pub(super) struct Listeners {
    pub open: Vec<Listener>,
    /// Where there can be none: another program listens already, the proxy, in a pod that runs; the port
    /// or TPROXY requires a capability that is missing; lo has no address of the family.
    missing: Vec<ProxyPort>,
}

/// What the kernel says of a port that others have, that is not permitted, or that there is none of.
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
    /// What the kernel says of a port that is free and permitted.
    pub(super) fn open(ports: &[ProxyPort]) -> io::Result<Self> {
        let (mut open, mut missing) = (Vec::new(), Vec::new());
        for port in ports {
            let address = SocketAddr::new(port.address(), port.port);
            match Socket::open(port.protocol, address, port.transparent) {
                Ok(socket) => open.push(Listener {
                    socket,
                    address,
                    proxy: Some(*port),
                }),
                Err(e) if NOT_OURS.contains(&e) => missing.push(*port),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Listeners { open, missing })
    }

    /// Whether every port of the proxy has one of these listeners.
    pub(super) fn are_complete(&self, family: Family, protocol: Protocol) -> bool {
        let other = |p: &ProxyPort| (p.family, p.protocol) == (family, protocol);
        !self.missing.iter().any(other)
    }
}
