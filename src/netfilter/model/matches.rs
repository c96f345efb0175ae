//! Matches.

use super::field_test::FieldTest;
use super::names::{Interface, Protocol};
use super::packet::{ConnState, FoundSocket, Packet, Side};
use super::ports::{PortRange, PortSet, join};
use super::set::AddressSet;
use super::spelling;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// One condition of a rule, negatable as iptables' `!` does it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Match {
    #[serde(default, skip_serializing_if = "is_false")]
    pub not: bool,
    #[serde(flatten)]
    pub test: Test,
}

fn is_false(b: &bool) -> bool {
    !b
}

/// What is compared; names as in iptables-extensions(8).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Test {
    /// `-s`: the packet's source lies in the prefix (host bits are zero).
    Source(IpNet),
    /// `-d`: the packet's destination lies in the prefix (host bits are zero).
    Destination(IpNet),
    /// `-d` with a list: the destination is one of these addresses. Used where a list is one test;
    /// iptables writes a rule for each prefix.
    #[serde(skip_deserializing)]
    DestinationSet(AddressSet),
    /// `-i`: the packet came in here.
    InInterface(Interface),
    /// `-o`: the packet leaves here.
    OutInterface(Interface),
    /// `-p`: the transport protocol.
    Protocol(Protocol),
    /// `-m tcp --dport` and friends; the rule also asks for the protocol.
    Port { side: Side, ports: PortRange },
    /// `-m multiport --dports` and friends; the rule also asks for the protocol.
    Multiport { side: Side, ports: PortSet },
    /// `-m owner`: who owns the socket that sent the packet.
    Owner(Owner),
    /// `-m conntrack --ctstate`: one of these states.
    ConnState(Vec<ConnState>),
    /// `-m mark`: the packet's mark, after `mask`, is `value`.
    Mark { value: u32, mask: u32 },
    /// `-m connmark`: the connection's mark, after `mask`, is `value`.
    Connmark { value: u32, mask: u32 },
    /// `-m socket`: an open socket is found for the packet, with IP_TRANSPARENT if `transparent`.
    Socket { transparent: bool },
    /// Any other field of a packet; in foreign rules only.
    #[serde(skip_deserializing)]
    Fields(Box<FieldTest>),
    /// A match that cannot be decoded or does not depend on the packet (rate, chance), as iptables
    /// or nft prints it; in foreign rules only.
    #[serde(skip_deserializing)]
    Undecoded(String),
}

/// The owner of the sending socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    Uid(u32),
    Gid(u32),
}

impl Match {
    /// A match that is not negated.
    pub fn new(test: Test) -> Self {
        Match { not: false, test }
    }

    /// `-s NET`; host bits are cut off.
    pub fn source(net: impl Into<IpNet>) -> Self {
        Match::new(Test::Source(net.into().trunc()))
    }

    /// `-d NET`; host bits are cut off.
    pub fn destination(net: impl Into<IpNet>) -> Self {
        Match::new(Test::Destination(net.into().trunc()))
    }

    /// `-i NAME`.
    pub fn in_interface(name: Interface) -> Self {
        Match::new(Test::InInterface(name))
    }

    /// `-o NAME`.
    pub fn out_interface(name: Interface) -> Self {
        Match::new(Test::OutInterface(name))
    }

    /// `-p PROTOCOL`.
    pub fn protocol(protocol: Protocol) -> Self {
        Match::new(Test::Protocol(protocol))
    }

    /// `--dport PORT`; the rule must ask for a protocol that has ports.
    pub fn dport(ports: impl Into<PortRange>) -> Self {
        Match::new(Test::Port {
            side: Side::Destination,
            ports: ports.into(),
        })
    }

    /// `--sport PORT`; the rule must ask for a protocol that has ports.
    pub fn sport(ports: impl Into<PortRange>) -> Self {
        Match::new(Test::Port {
            side: Side::Source,
            ports: ports.into(),
        })
    }

    /// `-m multiport --dports LIST`; the rule must ask for a protocol that has ports.
    pub fn dports(ports: PortSet) -> Self {
        Match::new(Test::Multiport {
            side: Side::Destination,
            ports,
        })
    }

    /// `-m owner --uid-owner UID` or `--gid-owner GID`.
    pub fn owner(owner: Owner) -> Self {
        Match::new(Test::Owner(owner))
    }

    /// `-m conntrack --ctstate STATES`; order and repetition do not matter.
    pub fn state(states: impl IntoIterator<Item = ConnState>) -> Self {
        let mut states: Vec<ConnState> = states.into_iter().collect();
        states.sort();
        states.dedup();
        Match::new(Test::ConnState(states))
    }

    /// `-m mark --mark VALUE` on all bits.
    pub fn mark(value: u32) -> Self {
        Match::new(Test::Mark {
            value,
            mask: u32::MAX,
        })
    }

    /// `-m connmark --mark VALUE` on all bits.
    pub fn connmark(value: u32) -> Self {
        Match::new(Test::Connmark {
            value,
            mask: u32::MAX,
        })
    }

    /// `-m socket`.
    pub fn socket() -> Self {
        Match::new(Test::Socket { transparent: false })
    }

    pub fn is_decoded(&self) -> bool {
        !matches!(self.test, Test::Undecoded(_))
    }

    /// Whether it matches by chance.
    pub fn is_by_chance(&self) -> bool {
        match &self.test {
            Test::Undecoded(text) => text.starts_with("-m statistic "),
            Test::Fields(test) => test.is_by_chance(),
            _ => false,
        }
    }

    /// iptables-save's order: addresses, interfaces, protocol, then extensions as they were given.
    pub fn rank(&self) -> u8 {
        match self.test {
            Test::Source(_) => 0,
            Test::Destination(_) | Test::DestinationSet(_) => 1,
            Test::InInterface(_) => 2,
            Test::OutInterface(_) => 3,
            Test::Protocol(_) => 4,
            _ => 5,
        }
    }

    /// Whether it matches every packet: a prefix of length 0, which no tool keeps.
    pub(super) fn is_always(&self) -> bool {
        match self.test {
            Test::Source(net) | Test::Destination(net) => !self.not && net.prefix_len() == 0,
            _ => false,
        }
    }

    /// Writes the match as iptables-save does; port matches need the rule's `protocol`, whose
    /// match module they are printed with.
    pub(super) fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        protocol: Option<Protocol>,
    ) -> fmt::Result {
        let not = if self.not { "! " } else { "" };
        match &self.test {
            Test::Source(net) => write!(f, "{not}-s {}", Prefix(net)),
            Test::Destination(net) => write!(f, "{not}-d {}", Prefix(net)),
            Test::DestinationSet(set) => write!(f, "{not}-d {set}"),
            Test::InInterface(name) => write!(f, "{not}-i {name}"),
            Test::OutInterface(name) => write!(f, "{not}-o {name}"),
            Test::Protocol(p) => write!(f, "{not}-p {p}"),
            Test::Port { side, ports } => {
                if let Some(p) = protocol {
                    write!(f, "-m {p} ")?;
                }
                write!(f, "{not}--{}port {ports}", side.letter())
            }
            Test::Multiport { side, ports } => {
                write!(f, "-m multiport {not}--{}ports {ports}", side.letter())
            }
            Test::Owner(Owner::Uid(id)) => write!(f, "-m owner {not}--uid-owner {id}"),
            Test::Owner(Owner::Gid(id)) => write!(f, "-m owner {not}--gid-owner {id}"),
            Test::ConnState(states) => {
                write!(f, "-m conntrack {not}--ctstate ")?;
                let names: Vec<&str> = states.iter().map(|s| s.as_str()).collect();
                join(f, &names)
            }
            Test::Mark { value, mask } => {
                write!(f, "-m mark {not}--mark {}", Marked(*value, *mask))
            }
            Test::Connmark { value, mask } => {
                write!(f, "-m connmark {not}--mark {}", Marked(*value, *mask))
            }
            Test::Socket { transparent: false } => f.write_str("-m socket"),
            Test::Socket { transparent: true } => f.write_str("-m socket --transparent"),
            Test::Fields(test) => spelling::write(f, test, self.not),
            Test::Undecoded(text) => f.write_str(text),
        }
    }

    /// Whether the packet certainly matches.
    pub fn holds(&self, packet: &Packet) -> bool {
        self.evaluate(packet) == Some(true)
    }

    /// Whether the packet matches; `None` if that is not known.
    pub fn evaluate(&self, packet: &Packet) -> Option<bool> {
        match &self.test {
            // A missing field matches neither way.
            Test::Connmark { .. } if packet.connection().is_none() => Some(false),
            Test::Fields(test) => test.holds(packet, self.not),
            Test::Undecoded(_) => None,
            test => Some(test.holds(packet) != self.not),
        }
    }
}

impl Test {
    /// Evaluates the match, without negation, as the kernel does.
    fn holds(&self, packet: &Packet) -> bool {
        match self {
            Test::Source(net) => net.contains(&packet.source.ip()),
            Test::Destination(net) => net.contains(&packet.destination.ip()),
            Test::DestinationSet(set) => set.contains(packet.destination.ip()),
            Test::InInterface(name) => is_on(name, packet.in_interface.as_ref()),
            Test::OutInterface(name) => is_on(name, packet.out_interface.as_ref()),
            Test::Protocol(protocol) => *protocol == packet.protocol,
            Test::Port { side, ports } => ports.contains(packet.port(*side)),
            Test::Multiport { side, ports } => {
                let port = packet.port(*side);
                ports.as_slice().iter().any(|range| range.contains(port))
            }
            Test::Owner(owner) => match (owner, &packet.owner) {
                (Owner::Uid(uid), Some(sender)) => *uid == sender.uid,
                (Owner::Gid(gid), Some(sender)) => *gid == sender.gid,
                (_, None) => false,
            },
            Test::ConnState(states) => {
                let is = |state: &ConnState| match state {
                    ConnState::Snat => packet.is_translated(Side::Source),
                    ConnState::Dnat => packet.is_translated(Side::Destination),
                    state => *state == packet.state(),
                };
                states.iter().any(is)
            }
            Test::Mark { value, mask } => packet.mark & mask == *value,
            Test::Connmark { value, mask } => {
                let connection = packet.connection();
                connection.is_some_and(|c| c.mark & mask == *value)
            }
            Test::Socket { transparent: false } => packet.socket != FoundSocket::None,
            Test::Socket { transparent: true } => packet.socket == FoundSocket::Transparent,
            Test::Fields(test) => test.holds(packet, false) == Some(true),
            Test::Undecoded(_) => false,
        }
    }
}

/// No interface matches no name.
fn is_on(wanted: &Interface, actual: Option<&Interface>) -> bool {
    actual.is_some_and(|actual| match wanted.prefix() {
        Some(prefix) => actual.as_str().starts_with(prefix),
        None => actual == wanted,
    })
}

/// `! m`: the negated match.
impl std::ops::Not for Match {
    type Output = Match;

    fn not(self) -> Match {
        Match {
            not: !self.not,
            ..self
        }
    }
}

/// A prefix with its length always written, as iptables-save does.
pub(super) struct Prefix<'a>(pub &'a IpNet);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address: IpAddr = self.0.network();
        write!(f, "{address}/{}", self.0.prefix_len())
    }
}

/// A mark, with its mask unless that is all ones.
pub struct Marked(pub u32, pub u32);

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            u32::MAX => write!(f, "{:#x}", self.0),
            mask => write!(f, "{:#x}/{mask:#x}", self.0),
        }
    }
}
