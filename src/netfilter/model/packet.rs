use super::names::{Family, Interface, Protocol};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Everything that a [`super::Match`] can test and a [`super::Target`] can change. Source and
/// destination have the same family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub protocol: Protocol,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// The incoming interface; `None` for local packets until they arrive over lo.
    pub in_interface: Option<Interface>,
    /// The outgoing interface; `None` at hooks of incoming packets.
    pub out_interface: Option<Interface>,
    /// The owner of the sending socket; `None` for incoming packets, also over lo.
    pub owner: Option<Credentials>,
    /// The packet's own mark, as SO_MARK sets it.
    pub mark: u32,
    /// The conntrack zone set in the raw table; otherwise 0.
    pub zone: u16,
    pub tracking: Tracking,
    pub socket: FoundSocket,
    /// Facts found while tracing.
    pub facts: Facts,
}

impl Packet {
    /// A packet with these ends, about which nothing else is known: no interface, owner or mark, and
    /// not tracked yet.
    pub fn new(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Self {
        Packet {
            protocol,
            source,
            destination,
            in_interface: None,
            out_interface: None,
            owner: None,
            mark: 0,
            zone: 0,
            tracking: Tracking::NotYet,
            socket: FoundSocket::None,
            facts: Facts::default(),
        }
    }
}

/// What NAT and routing make of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The addresses and ports before NAT.
    pub original_source: Option<SocketAddr>,
    pub original_destination: Option<SocketAddr>,
    pub source_type: AddressType,
    pub destination_type: AddressType,
}

/// The type of an address (`RTN_*` of linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum AddressType {
    #[default]
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Multicast = 5,
}

/// The credentials of the process when it created the socket (`f_cred` of its file).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `fsuid`, which follows the effective uid.
    pub uid: u32,
    /// `fsgid`, which follows the effective gid.
    pub gid: u32,
    /// Supplementary groups, which xt_owner compares only with `--suppl-groups` and nf_tables
    /// never; no rule of the model tests them.
    pub supplementary_groups: Vec<u32>,
}

impl Credentials {
    /// A user without supplementary groups.
    pub fn new(uid: u32, gid: u32) -> Self {
        Credentials {
            uid,
            gid,
            supplementary_groups: Vec::new(),
        }
    }
}

/// The conntrack state of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Not tracked yet, as at the hooks of the raw table.
    NotYet,
    /// INVALID.
    Invalid,
    /// UNTRACKED.
    Untracked,
    Known(Connection),
}

impl Tracking {
    /// A packet in this state; of a connection, if it is of one, with this mark.
    pub fn new(state: ConnState, mark: u32) -> Self {
        match state {
            ConnState::Invalid => Tracking::Invalid,
            ConnState::Untracked => Tracking::Untracked,
            state => Tracking::Known(Connection { state, mark }),
        }
    }
}

/// A connection in conntrack's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// NEW, RELATED or ESTABLISHED.
    pub state: ConnState,
    /// The connection's mark.
    pub mark: u32,
}

/// The result of a socket lookup (xt_socket(8)). Sockets bound to any address do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundSocket {
    None,
    Plain,
    /// One with IP_TRANSPARENT.
    Transparent,
}

/// Source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Source,
    Destination,
}

impl Side {
    /// `s` or `d`, as in `--sport` and `--dport`.
    pub(super) fn letter(self) -> char {
        match self {
            Side::Source => 's',
            Side::Destination => 'd',
        }
    }
}

/// Conntrack's states, in the order in which iptables-save prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConnState {
    Invalid,
    New,
    Related,
    Established,
    Untracked,
    Snat,
    Dnat,
}

impl ConnState {
    /// All states, in their order.
    pub const ALL: [ConnState; 5] = [
        ConnState::Invalid,
        ConnState::New,
        ConnState::Related,
        ConnState::Established,
        ConnState::Untracked,
    ];

    /// Not states, but accepted by `--ctstate`: source or destination changed by NAT.
    pub const TRANSLATED: [ConnState; 2] = [ConnState::Snat, ConnState::Dnat];

    /// The name that iptables-save prints behind `--ctstate`.
    pub fn as_str(self) -> &'static str {
        match self {
            ConnState::Invalid => "INVALID",
            ConnState::New => "NEW",
            ConnState::Related => "RELATED",
            ConnState::Established => "ESTABLISHED",
            ConnState::Untracked => "UNTRACKED",
            ConnState::Snat => "SNAT",
            ConnState::Dnat => "DNAT",
        }
    }
}

impl Packet {
    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(self.destination.ip())
    }

    pub fn end(&self, side: Side) -> SocketAddr {
        match side {
            Side::Source => self.source,
            Side::Destination => self.destination,
        }
    }

    /// The address and port before NAT.
    pub fn original(&self, side: Side) -> SocketAddr {
        self.before_nat(side).unwrap_or_else(|| self.end(side))
    }

    /// Whether NAT changed the address or port.
    pub fn is_translated(&self, side: Side) -> bool {
        self.before_nat(side)
            .is_some_and(|end| end != self.end(side))
    }

    fn before_nat(&self, side: Side) -> Option<SocketAddr> {
        match side {
            Side::Source => self.facts.original_source,
            Side::Destination => self.facts.original_destination,
        }
    }

    /// Applies NAT to the source or destination.
    pub fn translate(&mut self, side: Side, end: SocketAddr) {
        let (before, now) = match side {
            Side::Source => (&mut self.facts.original_source, &mut self.source),
            Side::Destination => (&mut self.facts.original_destination, &mut self.destination),
        };
        before.get_or_insert(*now);
        *now = end;
    }

    pub fn port(&self, side: Side) -> u16 {
        self.end(side).port()
    }

    /// The connection, if it is tracked.
    pub fn connection(&self) -> Option<&Connection> {
        match &self.tracking {
            Tracking::Known(connection) => Some(connection),
            _ => None,
        }
    }

    /// The state as the conntrack match sees it: INVALID without a connection, unless the packet is
    /// UNTRACKED.
    pub fn state(&self) -> ConnState {
        match self.tracking {
            Tracking::NotYet | Tracking::Invalid => ConnState::Invalid,
            Tracking::Untracked => ConnState::Untracked,
            Tracking::Known(connection) => connection.state,
        }
    }
}
