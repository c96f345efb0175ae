//! Sockets of a probe: made as some user, and such that nothing they send goes further than one hop.

use super::evidence::Answer;
use crate::netfilter::model::Protocol;
use crate::netfilter::trace::Network;
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, getsockname,
    getsockopt, listen, setsockopt, socket, sockopt,
};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use std::collections::BTreeSet;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket,
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The user and the group that a socket belongs to: what xt_owner and nf_tables' `meta skuid` ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// Whose this process' own sockets are.
    pub(super) fn current() -> Self {
        User {
            uid: Uid::effective().as_raw(),
            gid: Gid::effective().as_raw(),
        }
    }

    /// Whether this process can make sockets of other users: CAP_SETUID and CAP_SETGID.
    pub(super) fn can_be_chosen() -> bool {
        let has =
            |capability| matches!(caps::has_cap(None, CapSet::Effective, capability), Ok(true));
        has(Capability::CAP_SETUID) && has(Capability::CAP_SETGID)
    }

    /// Does `make` with the user's filesystem ids, which the kernel notes in every file that is
    /// opened, sockets among them (credentials(7)); no other part of the process changes.
    ///
    /// # Errors
    /// EPERM where the ids cannot be taken: no capability, or not mapped in this user namespace.
    fn makes<T>(self, make: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
        let before = (
            setfsuid(Uid::from_raw(self.uid)),
            setfsgid(Gid::from_raw(self.gid)),
        );
        // setfsuid(2) fails without a word: asking for what cannot be tells what is.
        let now = (
            setfsuid(Uid::from_raw(u32::MAX)).as_raw(),
            setfsgid(Gid::from_raw(u32::MAX)).as_raw(),
        );
        let made = match now == (self.uid, self.gid) {
            true => make(),
            false => Err(Errno::EPERM),
        };
        setfsgid(before.1);
        setfsuid(before.0);
        made
    }
}

/// How many ports are tried that are not to be avoided.
const TRIES: usize = 64;

/// A socket of `user` that is on its way to `to`, and where it comes from: from `from`, or as the kernel
/// picks, from a port that is none of `avoid`. Whatever it sends ends at the first hop (TTL 1), and nothing waits.
///
/// # Errors
/// What connect(2) says at once: ENETUNREACH without a route, for one. EINPROGRESS is not an error.
pub(super) fn connecting(
    user: User,
    protocol: Protocol,
    from: Option<IpAddr>,
    mark: u32,
    to: SocketAddr,
    avoid: &BTreeSet<u16>,
) -> nix::Result<(OwnedFd, SocketAddr)> {
    let kind = match protocol {
        Protocol::Udp => SockType::Datagram,
        _ => SockType::Stream,
    };
    // A port of its own, by which the connection is recognised where it arrives: connect(2) would give
    // the same one to connections that go elsewhere.
    let any = || match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let own = SocketAddr::new(from.unwrap_or_else(any), 0);
    let mut used = Vec::new();
    let fd = loop {
        let fd = user.makes(|| unconnected(to, kind))?;
        limit_to_one_hop(&fd, to)?;
        if mark != 0 {
            setsockopt(&fd, sockopt::Mark, &mark)?;
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(own))?;
        let port = local_address(&fd)?.port();
        if !avoid.contains(&port) || used.len() == TRIES {
            break fd;
        }
        used.push(fd);
    };
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(e) => return Err(e),
    }
    let local = local_address(&fd)?;
    if protocol == Protocol::Udp {
        send(&fd)?;
    }
    Ok((fd, local))
}

fn local_address(fd: &OwnedFd) -> nix::Result<SocketAddr> {
    address(&getsockname::<SockaddrStorage>(fd.as_raw_fd())?).ok_or(Errno::EAFNOSUPPORT)
}

/// A datagram, which a nameserver drops as too short.
fn send(fd: &OwnedFd) -> nix::Result<()> {
    match nix::unistd::write(fd, &[0]) {
        Ok(_) | Err(Errno::ECONNREFUSED | Errno::EPERM) => Ok(()),
        Err(e) => Err(e),
    }
}

/// The address with the interface that has it, without which a link-local one leads nowhere.
pub(super) fn scoped(to: SocketAddr, network: &Network) -> SocketAddr {
    match to {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            let index = network.interface_of(to.ip());
            let index = index.and_then(|name| if_nametoindex(name.as_str()).ok());
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, index.unwrap_or_default()).into()
        }
        to => to,
    }
}

/// What becomes visible on a socket when an answer comes.
pub(super) fn waits_for(protocol: Protocol) -> PollFlags {
    match protocol {
        Protocol::Udp => PollFlags::POLLIN,
        _ => PollFlags::POLLOUT,
    }
}

/// What came back by now, if anything did.
pub(super) fn answer(fd: &OwnedFd, protocol: Protocol) -> Option<Answer> {
    let mut polled = [PollFd::new(fd.as_fd(), waits_for(protocol))];
    let came = matches!(poll(&mut polled, PollTimeout::ZERO), Ok(n) if n > 0);
    if !came {
        return None;
    }
    match getsockopt(fd, sockopt::SocketError)
        .ok()
        .map(Errno::from_raw)
    {
        Some(Errno::ECONNREFUSED) => Some(Answer::Refused),
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ENOPROTOOPT | Errno::EACCES) => {
            Some(Answer::Unreachable)
        }
        // Established, and perhaps reset by now.
        Some(Errno::UnknownErrno | Errno::ECONNRESET | Errno::EPIPE) => Some(Answer::Established),
        _ => None,
    }
}

fn unconnected(like: SocketAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let family = match like {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(family, kind, flags, None)
}

fn limit_to_one_hop(fd: &OwnedFd, to: SocketAddr) -> nix::Result<()> {
    match to {
        SocketAddr::V4(_) => setsockopt(fd, sockopt::Ipv4Ttl, &1),
        SocketAddr::V6(_) => setsockopt(fd, sockopt::Ipv6Ttl, &1),
    }
}

/// Listens for TCP at `address`; `transparent` takes what TPROXY sends there, whatever its
/// destination (needs CAP_NET_ADMIN or CAP_NET_RAW).
///
/// # Errors
/// EADDRINUSE where another socket listens already, EADDRNOTAVAIL where the address is not here.
pub(super) fn listening(address: SocketAddr, transparent: bool) -> nix::Result<TcpListener> {
    let fd = bound(address, SockType::Stream, transparent)?;
    listen(&fd, Backlog::new(16)?)?;
    Ok(TcpListener::from(fd))
}

/// Takes datagrams at `address`. Errors as of [`listening`].
pub(super) fn receiving(address: SocketAddr) -> nix::Result<UdpSocket> {
    bound(address, SockType::Datagram, false).map(UdpSocket::from)
}

fn bound(address: SocketAddr, kind: SockType, transparent: bool) -> nix::Result<OwnedFd> {
    let fd = unconnected(address, kind)?;
    // What an earlier probe left in TIME_WAIT does not matter.
    if kind == SockType::Stream {
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if transparent {
        setsockopt(&fd, sockopt::IpTransparent, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(fd)
}

/// Where an accepted connection was going before NAT turned it to `local`: SO_ORIGINAL_DST, which
/// needs no privilege. `None` where conntrack does not know the connection.
pub(super) fn original_destination(
    stream: &impl std::os::fd::AsFd,
    local: SocketAddr,
) -> Option<SocketAddr> {
    match local {
        SocketAddr::V4(_) => getsockopt(stream, sockopt::OriginalDst).ok().map(|a| {
            let ip = Ipv4Addr::from(a.sin_addr.s_addr.to_ne_bytes());
            SocketAddrV4::new(ip, u16::from_be(a.sin_port)).into()
        }),
        SocketAddr::V6(_) => getsockopt(stream, sockopt::Ip6tOriginalDst).ok().map(|a| {
            let ip = Ipv6Addr::from(a.sin6_addr.s6_addr);
            SocketAddrV6::new(ip, u16::from_be(a.sin6_port), 0, 0).into()
        }),
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage
        .as_sockaddr_in()
        .map(|a| SocketAddrV4::from(*a).into());
    v4.or_else(|| {
        storage
            .as_sockaddr_in6()
            .map(|a| SocketAddrV6::from(*a).into())
    })
}
