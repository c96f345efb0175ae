//! The kernel's table of sockets (sock_diag(7)). Needs no privilege. Names and numbers are those of
//! linux/inet_diag.h.

use crate::netfilter::model::{Family, Protocol};
use crate::netfilter::netlink::{Connection, Error, Malformed, Socket, Writer};
use nix::libc;
use nix::sys::socket::SockProtocol;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `struct inet_diag_sockid` of any socket.
const SOCKET: [u8; 48] = [0; 48];
/// `struct inet_diag_msg` up to the cookie: family, state, timer, retransmissions, then the ports,
/// the two addresses and the interface of `struct inet_diag_sockid`.
const PORTS: usize = 4;
const LOCAL: usize = 8;
const PEER: usize = 24;
/// `TCP_LISTEN`; a UDP socket without a peer has `TCP_CLOSE`.
const LISTEN: u8 = 10;
const CLOSE: u8 = 7;

/// One socket of this network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub protocol: Protocol,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// It accepts packets from any sender.
    pub listens: bool,
}

/// All TCP and UDP sockets. An IPv4 connection of an IPv6 socket has IPv4 addresses.
///
/// # Errors
/// What socket(2) or the kernel says: EPROTONOSUPPORT or ENOENT where it has no sock_diag.
pub(crate) fn sockets() -> io::Result<Vec<Entry>> {
    let mut kernel = open()?;
    let mut entries = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = |w: &mut Writer| {
                w.raw(&[family as u8, protocol.number(), 0, 0]);
                w.raw(&u32::MAX.to_ne_bytes());
                w.raw(&SOCKET);
            };
            entries.extend(dump(&mut kernel, SOCK_DIAG_BY_FAMILY, request, protocol)?);
        }
    }
    Ok(entries)
}

/// The listening TCP sockets. The kernel does not walk its table of connections for them, which takes
/// tens of milliseconds on a large machine.
///
/// # Errors
/// As [`sockets`].
pub(crate) fn tcp_listeners() -> io::Result<Vec<Entry>> {
    // `struct inet_diag_req`: the older request is about both families.
    let request = |w: &mut Writer| {
        w.raw(&[0; 4]);
        w.raw(&SOCKET);
        w.raw(&(1u32 << LISTEN).to_ne_bytes());
        w.raw(&[0; 4]);
    };
    dump(&mut open()?, TCPDIAG_GETSOCK, request, Protocol::Tcp)
}

fn open() -> io::Result<Connection<Socket>> {
    Ok(Connection::new(Socket::open(
        SockProtocol::NetlinkSockDiag,
    )?))
}

fn dump(
    kernel: &mut Connection<Socket>,
    kind: u16,
    request: impl FnOnce(&mut Writer),
    protocol: Protocol,
) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let result = kernel.dump(kind, request, |message| {
        entries.push(entry(message.payload, protocol)?);
        Ok(())
    });
    match result {
        // Sockets created or closed meanwhile do not matter.
        Ok(()) | Err(Error::Interrupted) => Ok(entries),
        Err(Error::Refused(nack)) => Err(nack.errno.into()),
        Err(Error::Io(e) | Error::Unanswered(e)) => Err(e),
    }
}

fn entry(message: &[u8], protocol: Protocol) -> Result<Entry, Malformed> {
    let (family, state) = (byte(message, 0)?, byte(message, 1)?);
    let end = |address: usize, port: usize| -> Result<SocketAddr, Malformed> {
        let port = u16::from_be_bytes([byte(message, port)?, byte(message, port + 1)?]);
        let bytes = message.get(address..address + 16).ok_or(Malformed)?;
        Ok(SocketAddr::new(ip(family, bytes)?, port))
    };
    Ok(Entry {
        protocol,
        local: end(LOCAL, PORTS)?,
        peer: end(PEER, PORTS + 2)?,
        listens: match protocol {
            Protocol::Udp => state == CLOSE,
            _ => state == LISTEN,
        },
    })
}

fn ip(family: u8, bytes: &[u8]) -> Result<IpAddr, Malformed> {
    Ok(match i32::from(family) {
        libc::AF_INET => {
            let octets: [u8; 4] = bytes[..4].try_into().map_err(|_| Malformed)?;
            Ipv4Addr::from(octets).into()
        }
        _ => {
            let octets: [u8; 16] = bytes.try_into().map_err(|_| Malformed)?;
            Ipv6Addr::from(octets).to_canonical()
        }
    })
}

fn byte(message: &[u8], at: usize) -> Result<u8, Malformed> {
    message.get(at).copied().ok_or(Malformed)
}

impl Entry {
    /// Whether a connection to `to` would find this socket listening, if it came there. A wildcard of
    /// IPv6 counts for IPv4 too, as it may take both.
    pub(crate) fn takes(&self, protocol: Protocol, to: SocketAddr) -> bool {
        let ip = self.local.ip();
        let anywhere =
            ip.is_unspecified() && (ip.is_ipv6() || Family::of(ip) == Family::of(to.ip()));
        self.listens
            && self.protocol == protocol
            && self.local.port() == to.port()
            && (anywhere || ip == to.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn both_ends_and_the_listener_are_found() {
        #[expect(clippy::disallowed_types, reason = "a real socket to be found")]
        let listener = TcpListener::bind("[::1]:0").expect("a port of lo");
        let to = listener.local_addr().expect("its address");
        #[expect(clippy::disallowed_types, reason = "a real connection to be found")]
        let stream = TcpStream::connect(to).expect("connected");
        let from = stream.local_addr().expect("its address");
        let sockets = sockets().expect("this kernel has sock_diag");
        let found = |local, peer| sockets.iter().any(|s| (s.local, s.peer) == (local, peer));
        assert!(found(to, from) && found(from, to), "{sockets:?}");
        assert!(sockets.iter().any(|s| s.takes(Protocol::Tcp, to)));
        assert!(!sockets.iter().any(|s| s.takes(Protocol::Udp, to)));
        assert!(!sockets.iter().any(|s| s.takes(Protocol::Tcp, from)));
        let listeners = tcp_listeners().expect("this kernel has sock_diag");
        assert!(listeners.iter().all(|s| s.listens) && listeners.iter().any(|s| s.local == to));
        #[expect(clippy::disallowed_types, reason = "a real socket to be found")]
        let other = TcpListener::bind("127.0.0.1:0").expect("a port of lo");
        let to = other.local_addr().expect("its address");
        let listeners = tcp_listeners().expect("this kernel has sock_diag");
        assert!(listeners.iter().any(|s| s.local == to), "of both families");
    }

    #[test]
    fn a_short_message_is_refused() {
        assert_eq!(entry(&[2, 1, 0, 0, 0, 80], Protocol::Tcp), Err(Malformed));
    }
}
