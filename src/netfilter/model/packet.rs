//! A packet, as rules see it.

use super::names::{Family, Interface, Protocol};
use serde::Serialize;
use std::net::SocketAddr;

/// Everything that a [`super::Match`] can ask about and a [`super::Target`] can change. Source and
/// destination are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub protocol: Protocol,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Where it came in; nothing at the hooks before it leaves.
    pub in_interface: Option<Interface>,
    /// Where it leaves; nothing at the hooks behind which it comes in.
    pub out_interface: Option<Interface>,
    /// Who made the socket that it was sent from. What comes in has no such socket, also when it
    /// comes in over lo.
    pub owner: Option<Credentials>,
    /// The packet's own mark, as SO_MARK sets it.
    pub mark: u32,
    /// The conntrack zone that the raw table picked; 0 where it did not.
    pub zone: u16,
    pub tracking: Tracking,
    pub socket: FoundSocket,
    /// What is found out on the way.
    pub facts: Facts,
}

/// What nat and the routes make of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The ends as they were before nat changed them.
    pub original_source: Option<SocketAddr>,
    pub original_destination: Option<SocketAddr>,
    pub source_type: AddressType,
    pub destination_type: AddressType,
}

/// What an address is to this namespace (`RTN_*` of linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum AddressType {
    #[default]
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Multicast = 5,
}

/// Whom a socket belongs to: the credentials of the process at the time when it made the socket
/// (`f_cred` of its file).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `fsuid`, which follows the effective uid.
    pub uid: u32,
    /// `fsgid`, which follows the effective gid.
    pub gid: u32,
    /// xt_owner compares these only with `--suppl-groups`, nf_tables never: no rule of the model
    /// asks for them.
    pub supplementary_groups: Vec<u32>,
}

/// What conntrack knows of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// It has not been asked: the hooks of the raw table come before it.
    NotYet,
    /// It makes no sense of the packet.
    Invalid,
    /// It was told not to look.
    Untracked,
    Known(Connection),
}

/// A connection in conntrack's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// NEW, RELATED or ESTABLISHED.
    pub state: ConnState,
    /// The connection's mark.
    pub mark: u32,
}

/// What a look for an open socket finds (xt_socket(8)). A socket that is bound to any address does
/// not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundSocket {
    None,
    Plain,
    /// One with IP_TRANSPARENT.
    Transparent,
}

/// Which end of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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
    /// All that a packet can be in, in their order.
    pub const ALL: [ConnState; 5] = [
        ConnState::Invalid,
        ConnState::New,
        ConnState::Related,
        ConnState::Established,
        ConnState::Untracked,
    ];

    /// What is no state, but stands behind `--ctstate` as well: nat has changed the source, or the
    /// destination.
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

    /// One of its ends.
    pub fn end(&self, side: Side) -> SocketAddr {
        match side {
            Side::Source => self.source,
            Side::Destination => self.destination,
        }
    }

    /// One of its ends as it was before nat.
    pub fn original(&self, side: Side) -> SocketAddr {
        self.before_nat(side).unwrap_or_else(|| self.end(side))
    }

    /// Whether nat has changed one of its ends.
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

    /// Nat gives it another source or destination.
    pub fn translate(&mut self, side: Side, end: SocketAddr) {
        let (before, now) = match side {
            Side::Source => (&mut self.facts.original_source, &mut self.source),
            Side::Destination => (&mut self.facts.original_destination, &mut self.destination),
        };
        before.get_or_insert(*now);
        *now = end;
    }

    /// The port at one of its ends.
    pub fn port(&self, side: Side) -> u16 {
        self.end(side).port()
    }

    /// The connection, where conntrack has one.
    pub fn connection(&self) -> Option<&Connection> {
        match &self.tracking {
            Tracking::Known(connection) => Some(connection),
            _ => None,
        }
    }

    /// The state as the conntrack match sees it: what has no connection is INVALID, unless it was
    /// left alone on purpose.
    pub fn state(&self) -> ConnState {
        match self.tracking {
            Tracking::NotYet | Tracking::Invalid => ConnState::Invalid,
            Tracking::Untracked => ConnState::Untracked,
            Tracking::Known(connection) => connection.state,
        }
    }
}
