//! Sockets with the options that transparent proxies need. The family is always
//! a value here, never a second function.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream,
    UdpSocket,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// How a socket is made, apart from its address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// IP_TRANSPARENT: take connections to addresses that are not ours (TPROXY),
    /// or send from such. Needs CAP_NET_ADMIN or CAP_NET_RAW.
    pub transparent: bool,
    /// SO_MARK. Needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// The address to send from.
    pub source: Option<SocketAddr>,
    /// Limit of one connect() or receive, in seconds; none when 0.
    pub timeout: u64,
}

/// Listens for TCP on every given address. A family that the kernel does not
/// have is left out as long as one is left.
pub fn tcp_listeners(addresses: &[SocketAddr], options: &Options) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for &address in addresses {
        match bound(address, SockType::Stream, options) {
            Ok(fd) => {
                listen(&fd, Backlog::new(1024)?)?;
                listeners.push(TcpListener::from(fd));
            }
            Err(Errno::EAFNOSUPPORT) if addresses.len() > 1 => {}
            Err(e) => return Err(io::Error::other(format!("cannot listen on {address}: {e}"))),
        }
    }
    Ok(listeners)
}

/// A UDP socket bound to `address`.
pub fn udp_socket(address: SocketAddr, options: &Options) -> io::Result<UdpSocket> {
    let fd = bound(address, SockType::Datagram, options)
        .map_err(|e| io::Error::other(format!("cannot bind {address}: {e}")))?;
    Ok(UdpSocket::from(fd))
}

/// Connects, from the source that the options name.
pub fn tcp_connect(to: SocketAddr, options: &Options) -> nix::Result<TcpStream> {
    connected(tcp_socket(to, options)?, to)
}

/// A TCP socket from which to connect to `to`; it belongs to who makes it.
pub fn tcp_socket(to: SocketAddr, options: &Options) -> nix::Result<OwnedFd> {
    let fd = match options.source {
        Some(source) => bound(source, SockType::Stream, options)?,
        None => raw(to, SockType::Stream, options)?,
    };
    // connect() obeys the send timeout (socket(7)).
    setsockopt(
        &fd,
        sockopt::SendTimeout,
        &TimeVal::seconds(options.timeout as i64),
    )?;
    setsockopt(
        &fd,
        sockopt::ReceiveTimeout,
        &TimeVal::seconds(options.timeout as i64),
    )?;
    Ok(fd)
}

/// Connects such a socket.
pub fn connected(socket: OwnedFd, to: SocketAddr) -> nix::Result<TcpStream> {
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(socket))
}

fn bound(address: SocketAddr, kind: SockType, options: &Options) -> nix::Result<OwnedFd> {
    let fd = raw(address, kind, options)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(fd)
}

fn raw(like: SocketAddr, kind: SockType, options: &Options) -> nix::Result<OwnedFd> {
    let family = match like {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if options.transparent {
        // SOL_IP serves sockets of both families.
        setsockopt(&fd, sockopt::IpTransparent, &true)?;
    }
    if let Some(mark) = options.mark {
        setsockopt(&fd, sockopt::Mark, &mark)?;
    }
    Ok(fd)
}

/// Where a connection was going before NAT turned it to `local`, as conntrack
/// remembers it; equal to `local` where nothing was turned, and `None` where no
/// conntrack entry exists.
pub fn original_destination(stream: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    use nix::sys::socket::getsockopt;
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

/// Whether this network namespace has the address: only then can it be bound.
pub fn is_own_address(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// The address that stands for "any", in both families.
pub fn wildcards(port: u16) -> [SocketAddr; 2] {
    [
        (Ipv4Addr::UNSPECIFIED, port).into(),
        (Ipv6Addr::UNSPECIFIED, port).into(),
    ]
}

/// `ADDRESS:PORT`, or `ADDRESS` for a port of the kernel's choice.
pub fn parse_source(text: &str) -> Result<SocketAddr, String> {
    let address = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    text.parse::<SocketAddr>()
        .or_else(|_| address())
        .map_err(|_| format!("{text:?} is neither ADDRESS nor ADDRESS:PORT"))
}

/// One word for why nothing was answered.
pub fn error_word(error: &io::Error) -> String {
    let errno = error.raw_os_error().map(Errno::from_raw);
    match errno {
        Some(Errno::ECONNREFUSED) => "refused".into(),
        Some(Errno::EACCES) => "prohibited".into(),
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH) => "unreachable".into(),
        Some(Errno::EINPROGRESS | Errno::EAGAIN | Errno::ETIMEDOUT) => "timeout".into(),
        Some(Errno::ECONNRESET) => "reset".into(),
        Some(other) => format!("{other:?}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "closed".into(),
        None => format!("{:?}", error.kind()),
    }
}
