//! A packet, as rules see it.

use super::matches::{ConnState, Side};
use super::names::{Family, Interface, Protocol};
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

impl Packet {
    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(self.destination.ip())
    }

    /// The port at one of its ends.
    pub fn port(&self, side: Side) -> u16 {
        match side {
            Side::Source => self.source.port(),
            Side::Destination => self.destination.port(),
        }
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
