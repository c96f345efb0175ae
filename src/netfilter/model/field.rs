//! Fields that rules can test beyond the matches of iptables, by their nf_tables names.

use super::names::{Family, Interface, Protocol};
use super::packet::{AddressType, ConnState, Packet, Side, Tracking};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A field of a packet or its metadata, as a number in network byte order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Address(Family, Side),
    Port(Side),
    Protocol,
    InInterface,
    OutInterface,
    Mark,
    Uid,
    Gid,
    /// Like [`Field::Uid`], but with a value that no user has if no process sent the packet:
    /// x_tables compares even then.
    OwnerUid,
    OwnerGid,
    PacketType,
    /// The sender's link-layer address.
    EtherSource,
    TcpFlags,
    /// The type of an ICMP message of a family.
    IcmpType(Family),
    FragmentOffset,
    /// The route type of an address: `LOCAL`, `UNICAST`.
    AddressType(Side),
    /// The interface of the route to the source is the incoming one.
    ReversePath,
    /// The packet was decapsulated by IPsec.
    Ipsec,
    /// The packet comes from, or goes to, a bridge port.
    Bridged,
    CtState,
    CtStatus,
    CtDirection,
    Connmark,
    CtZone,
    /// Of the connection's first packet, before nat.
    OriginalAddress(Family, Side),
    OriginalPort(Side),
    OriginalProtocol,
    /// A field unknown to this program, with the name that nft gives it.
    Other(Cow<'static, str>),
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Is(u128),
    /// Absent: comparisons do not match, negated or not.
    Absent,
    Unknown,
}

/// How values are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Hex,
    V4,
    V6,
    Name,
    Protocol,
    Ether,
    /// One of these names.
    One(&'static [(u128, &'static str)]),
    /// Some of these bits.
    Bits(&'static [(u128, &'static str)]),
}

/// `PACKET_*` of linux/if_packet.h.
pub(super) const PACKET_TYPES: &[(u128, &str)] =
    &[(0, "unicast"), (1, "broadcast"), (2, "multicast")];
/// `RTN_*` of linux/rtnetlink.h.
pub(super) const ADDRESS_TYPES: &[(u128, &str)] = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];
/// `IPS_*` of linux/netfilter/nf_conntrack_common.h.
pub(super) const STATUS: &[(u128, &str)] = &[
    (1, "expected"),
    (1 << 1, "seen-reply"),
    (1 << 2, "assured"),
    (1 << 3, "confirmed"),
    (1 << 4, "snat"),
    (1 << 5, "dnat"),
    (1 << 9, "dying"),
];
const DIRECTIONS: &[(u128, &str)] = &[(0, "original"), (1, "reply")];
/// `NF_CT_STATE_BIT`.
const STATES: &[(u128, &str)] = &[
    (1, "invalid"),
    (1 << 1, "established"),
    (1 << 2, "related"),
    (1 << 3, "new"),
    (1 << 6, "untracked"),
];
/// RFC 9293.
pub(super) const TCP_FLAGS: &[(u128, &str)] = &[
    (1, "fin"),
    (1 << 1, "syn"),
    (1 << 2, "rst"),
    (1 << 3, "psh"),
    (1 << 4, "ack"),
    (1 << 5, "urg"),
];
/// The messages of ICMP that a connection begins with.
pub const ECHO_REQUESTS: [(Protocol, u128); 2] = [(Protocol::Other(1), 8), (Protocol::Icmpv6, 128)];
const SYN: u128 = 1 << 1;
const IPS_SRC_NAT: u128 = 1 << 4;
const IPS_DST_NAT: u128 = 1 << 5;
const NO_USER: u128 = u128::MAX;

impl Field {
    /// The length in bytes.
    pub fn length(&self) -> usize {
        match self {
            Field::Address(family, _) | Field::OriginalAddress(family, _) => {
                usize::from(family.bits() / 8)
            }
            Field::InInterface | Field::OutInterface => 16,
            Field::EtherSource => 6,
            Field::Port(_) | Field::OriginalPort(_) | Field::CtZone | Field::FragmentOffset => 2,
            Field::Protocol
            | Field::OriginalProtocol
            | Field::PacketType
            | Field::TcpFlags
            | Field::IcmpType(_)
            | Field::CtDirection
            | Field::Ipsec => 1,
            _ => 4,
        }
    }

    /// Whether nf_tables keeps it in host byte order.
    pub fn is_in_host_order(&self) -> bool {
        matches!(
            self,
            Field::Mark
                | Field::Uid
                | Field::Gid
                | Field::CtState
                | Field::CtStatus
                | Field::Connmark
                | Field::CtZone
                | Field::AddressType(_)
                | Field::Other(_)
        )
    }

    /// The value in a packet.
    pub fn of(&self, packet: &Packet) -> Value {
        let number = |n: u32| Value::Is(n.into());
        let tracked = |value: Value| match packet.tracking {
            Tracking::Known(_) => value,
            _ => Value::Absent,
        };
        match self {
            Field::Address(family, side) => of_family(*family, packet.end(*side)),
            Field::Port(side) => Value::Is(packet.port(*side).into()),
            Field::Protocol => Value::Is(packet.protocol.number().into()),
            Field::InInterface => Value::Is(name(packet.in_interface.as_ref())),
            Field::OutInterface => Value::Is(name(packet.out_interface.as_ref())),
            Field::Mark => number(packet.mark),
            Field::Uid => owner(packet.owner.as_ref().map(|o| o.uid), Value::Absent),
            Field::Gid => owner(packet.owner.as_ref().map(|o| o.gid), Value::Absent),
            Field::OwnerUid => owner(packet.owner.as_ref().map(|o| o.uid), Value::Is(NO_USER)),
            Field::OwnerGid => owner(packet.owner.as_ref().map(|o| o.gid), Value::Is(NO_USER)),
            Field::PacketType => Value::Is(match packet.facts.destination_type {
                AddressType::Broadcast => 1,
                AddressType::Multicast => 2,
                _ => 0,
            }),
            // Local packets, and those over lo, have no such header.
            Field::EtherSource => match &packet.in_interface {
                Some(name) if *name != Interface::LOOPBACK => Value::Unknown,
                _ => Value::Absent,
            },
            Field::TcpFlags => match packet.protocol {
                Protocol::Tcp if packet.state() == ConnState::New => Value::Is(SYN),
                Protocol::Tcp => Value::Unknown,
                _ => Value::Absent,
            },
            // Other messages than requests are of no connection, or of one that is known.
            Field::IcmpType(_) => match ECHO_REQUESTS.iter().find(|(p, _)| *p == packet.protocol) {
                Some((_, request)) if packet.state() == ConnState::New => Value::Is(*request),
                _ => Value::Unknown,
            },
            Field::FragmentOffset | Field::Ipsec | Field::Bridged => Value::Is(0),
            Field::AddressType(Side::Source) => number(packet.facts.source_type as u32),
            Field::AddressType(Side::Destination) => number(packet.facts.destination_type as u32),
            // A mark may lead the way back elsewhere: TPROXY's to lo, so that none is found.
            Field::ReversePath if packet.mark != 0 => Value::Unknown,
            Field::ReversePath => Value::Is(1),
            Field::CtState => Value::Is(match packet.state() {
                ConnState::Invalid => 1,
                ConnState::Established => 1 << 1,
                ConnState::Related => 1 << 2,
                ConnState::Untracked => 1 << 6,
                _ => 1 << 3,
            }),
            Field::CtStatus => tracked(status(packet)),
            Field::CtDirection => tracked(Value::Is(0)),
            Field::Connmark => {
                let connection = packet.connection();
                connection.map_or(Value::Absent, |c| number(c.mark))
            }
            Field::CtZone => tracked(number(packet.zone.into())),
            Field::OriginalAddress(family, side) => {
                tracked(of_family(*family, packet.original(*side)))
            }
            Field::OriginalPort(side) => tracked(Value::Is(packet.original(*side).port().into())),
            Field::OriginalProtocol => tracked(Value::Is(packet.protocol.number().into())),
            Field::Other(_) => Value::Unknown,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Field::Address(family, _) | Field::OriginalAddress(family, _) => match family {
                Family::V4 => Kind::V4,
                Family::V6 => Kind::V6,
            },
            Field::Protocol | Field::OriginalProtocol => Kind::Protocol,
            Field::InInterface | Field::OutInterface => Kind::Name,
            Field::Mark | Field::Connmark | Field::Other(_) => Kind::Hex,
            Field::PacketType => Kind::One(PACKET_TYPES),
            Field::EtherSource => Kind::Ether,
            Field::TcpFlags => Kind::Bits(TCP_FLAGS),
            Field::AddressType(_) => Kind::One(ADDRESS_TYPES),
            Field::CtState => Kind::Bits(STATES),
            Field::CtStatus => Kind::Bits(STATUS),
            Field::CtDirection => Kind::One(DIRECTIONS),
            _ => Kind::Number,
        }
    }

    /// The value with this nft name.
    pub fn named(&self, name: &str) -> Option<u128> {
        let (Kind::One(names) | Kind::Bits(names)) = self.kind() else {
            return None;
        };
        let found = names.iter().find(|(_, known)| *known == name);
        found.map(|(value, _)| *value)
    }

    /// The bits with these nft names, separated by commas.
    pub fn bits(&self, names: &str) -> Option<u128> {
        let mut bits = 0;
        for name in names.split(',') {
            bits |= self.named(name)?;
        }
        Some(bits)
    }

    /// Writes one of its values as nft does.
    pub(super) fn write_value(&self, f: &mut fmt::Formatter<'_>, value: u128) -> fmt::Result {
        let named = |names: &[(u128, &'static str)]| {
            names
                .iter()
                .find(|(v, _)| *v == value)
                .map(|(_, name)| *name)
        };
        match self.kind() {
            Kind::V4 => write!(f, "{}", Ipv4Addr::from(value as u32)),
            Kind::V6 => write!(f, "{}", Ipv6Addr::from(value)),
            Kind::Name => {
                let bytes = value.to_be_bytes();
                let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
                write!(f, "\"{}\"", String::from_utf8_lossy(&bytes[..end]))
            }
            Kind::Protocol => write!(f, "{}", Protocol::of(value as u8)),
            Kind::Ether => {
                let bytes = value.to_be_bytes().map(|b| format!("{b:02x}"));
                f.write_str(&bytes[10..].join(":"))
            }
            Kind::Hex => write!(f, "{value:#x}"),
            Kind::One(names) => match named(names) {
                Some(name) => f.write_str(name),
                None => write!(f, "{value}"),
            },
            Kind::Bits(names) => {
                let set = names.iter().filter(|(bit, _)| value & bit != 0);
                let set: Vec<&str> = set.map(|(_, name)| *name).collect();
                match set.as_slice() {
                    [] => write!(f, "{value:#x}"),
                    set => f.write_str(&set.join(",")),
                }
            }
            Kind::Number => write!(f, "{value}"),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |family: &Family| match family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        match self {
            Field::Address(family, side) => write!(f, "{} {}addr", ip(family), side.letter()),
            Field::Port(side) => write!(f, "th {}port", side.letter()),
            Field::OriginalAddress(family, side) => {
                write!(f, "ct original {} {}addr", ip(family), side.letter())
            }
            Field::OriginalPort(side) => write!(
                f,
                "ct original proto-{}",
                match side {
                    Side::Source => "src",
                    Side::Destination => "dst",
                }
            ),
            Field::IcmpType(Family::V4) => f.write_str("icmp type"),
            Field::IcmpType(Family::V6) => f.write_str("icmpv6 type"),
            Field::AddressType(side) => write!(f, "fib {}addr type", side.letter()),
            Field::Other(name) => f.write_str(name),
            field => f.write_str(match field {
                Field::Protocol => "meta l4proto",
                Field::InInterface => "iifname",
                Field::OutInterface => "oifname",
                Field::Mark => "meta mark",
                Field::Uid | Field::OwnerUid => "meta skuid",
                Field::Gid | Field::OwnerGid => "meta skgid",
                Field::PacketType => "meta pkttype",
                Field::EtherSource => "ether saddr",
                Field::TcpFlags => "tcp flags",
                Field::FragmentOffset => "ip frag-off",
                Field::ReversePath => "fib saddr . iif oif",
                Field::Ipsec => "meta ipsec",
                Field::Bridged => "meta ibrname",
                Field::CtState => "ct state",
                Field::CtStatus => "ct status",
                Field::CtDirection => "ct direction",
                Field::Connmark => "ct mark",
                Field::CtZone => "ct zone",
                _ => "ct original protocol",
            }),
        }
    }
}

/// A name as the 16 bytes that the kernel compares; zero without an interface.
fn name(interface: Option<&Interface>) -> u128 {
    let mut bytes = [0; 16];
    if let Some(interface) = interface {
        let name = interface.as_str().as_bytes();
        bytes[..name.len()].copy_from_slice(name);
    }
    u128::from_be_bytes(bytes)
}

fn owner(id: Option<u32>, absent: Value) -> Value {
    id.map_or(absent, |id| Value::Is(id.into()))
}

/// An address as a number.
pub fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => a.to_bits().into(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The address with this number, of which IPv4 has 32 bits; the reverse of [`number_of`].
pub fn address_of(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(number as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

fn of_family(family: Family, end: SocketAddr) -> Value {
    match Family::of(end.ip()) == family {
        true => Value::Is(number_of(end.ip())),
        false => Value::Absent,
    }
}

/// Known for the first packet of a connection only.
fn status(packet: &Packet) -> Value {
    if packet.state() != ConnState::New {
        return Value::Unknown;
    }
    let bit = |changed: bool, bit: u128| if changed { bit } else { 0 };
    Value::Is(
        bit(packet.is_translated(Side::Source), IPS_SRC_NAT)
            | bit(packet.is_translated(Side::Destination), IPS_DST_NAT),
    )
}
