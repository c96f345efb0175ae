//! Entries of conntrack over ctnetlink, which say where NAT sent a connection. Needs CAP_NET_ADMIN.
//! Names and numbers are those of linux/netfilter/nfnetlink_conntrack.h.

use crate::netfilter::netlink::{AttributeTable, Connection, Error, Malformed, Socket, Writer};
use nix::sys::socket::SockProtocol;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// `struct nfgenmsg`: family, version, resource id.
const NFGENMSG: usize = 4;

/// The conntrack table.
pub(crate) struct Conntrack(Connection<Socket>);

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    /// The IP protocol number.
    pub protocol: u8,
    pub from: SocketAddr,
    pub to: SocketAddr,
}

impl Conntrack {
    /// Opens a socket.
    ///
    /// # Errors
    /// What socket(2) says: EPROTONOSUPPORT where the kernel has no nfnetlink.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
        Ok(Conntrack(Connection::new(socket)))
    }

    /// Dumps all connections.
    ///
    /// # Errors
    /// The kernel's refusal: EPERM without CAP_NET_ADMIN.
    pub(crate) fn entries(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let request = |w: &mut Writer| w.raw(&[0; NFGENMSG]);
        let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
        let result = self.0.dump(kind, request, |message| {
            entries.extend(entry(message.payload)?);
            Ok(())
        });
        match result {
            Ok(()) => Ok(entries),
            Err(fault) => Err(io_error(fault)),
        }
    }
}

/// A connection before and after NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The original direction.
    pub original: Tuple,
    /// The source of the reply direction.
    pub answers: SocketAddr,
}

/// `None` for protocols without ports.
fn entry(payload: &[u8]) -> Result<Option<Entry>, Malformed> {
    let attributes = payload.get(NFGENMSG..).ok_or(Malformed)?;
    let entry = AttributeTable::<3>::parse(attributes)?;
    let original = tuple(entry.bytes(CTA_TUPLE_ORIG)?)?;
    let reply = tuple(entry.bytes(CTA_TUPLE_REPLY)?)?;
    Ok(original.zip(reply).map(|(original, reply)| Entry {
        original,
        answers: reply.from,
    }))
}

fn tuple(bytes: &[u8]) -> Result<Option<Tuple>, Malformed> {
    let tuple = AttributeTable::<3>::parse(bytes)?;
    let ip = AttributeTable::<5>::parse(tuple.bytes(CTA_TUPLE_IP)?)?;
    let proto = AttributeTable::<4>::parse(tuple.bytes(CTA_TUPLE_PROTO)?)?;
    let (Some(source), Some(destination)) =
        (proto.get(CTA_PROTO_SRC_PORT), proto.get(CTA_PROTO_DST_PORT))
    else {
        return Ok(None);
    };
    let (from, to) = match ip.get(CTA_IP_V4_SRC) {
        Some(from) => (v4(from)?, v4(ip.bytes(CTA_IP_V4_DST)?)?),
        None => (v6(ip.bytes(CTA_IP_V6_SRC)?)?, v6(ip.bytes(CTA_IP_V6_DST)?)?),
    };
    Ok(Some(Tuple {
        protocol: *proto.bytes(CTA_PROTO_NUM)?.first().ok_or(Malformed)?,
        from: SocketAddr::new(from, port(source)?),
        to: SocketAddr::new(to, port(destination)?),
    }))
}

fn v4(bytes: &[u8]) -> Result<IpAddr, Malformed> {
    let octets: [u8; 4] = bytes.try_into().map_err(|_| Malformed)?;
    Ok(Ipv4Addr::from(octets).into())
}

fn v6(bytes: &[u8]) -> Result<IpAddr, Malformed> {
    let octets: [u8; 16] = bytes.try_into().map_err(|_| Malformed)?;
    Ok(Ipv6Addr::from(octets).into())
}

fn port(bytes: &[u8]) -> Result<u16, Malformed> {
    bytes
        .try_into()
        .map(u16::from_be_bytes)
        .map_err(|_| Malformed)
}

fn io_error(fault: Error) -> io::Error {
    match fault {
        Error::Refused(nack) => nack.errno.into(),
        Error::Interrupted => io::ErrorKind::Interrupted.into(),
        Error::Io(e) | Error::Unanswered(e) => e,
    }
}
