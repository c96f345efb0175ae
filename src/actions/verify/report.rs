//! What was proved, what was not, and by what, as values.

use crate::netfilter::model::{ConnState, Interface, Protocol, Tracking};
use crate::netfilter::trace::Probe;
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The source port that stands for whichever the kernel picks (`ip_local_port_range`).
pub(super) const ANY_PORT: u16 = 50000;

/// Where a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// At this port of the proxy.
    Captured(u16),
    /// It bypasses the proxy.
    Exempt,
    Refused,
    Dropped,
}

/// Where a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// At the proxy; at which of its ports, where that is known.
    Captured(Option<u16>),
    /// At this port of the proxy, which was given another original destination.
    WrongOriginal {
        port: u16,
        original: SocketAddr,
    },
    /// It was not sent to the proxy.
    Exempt,
    /// At the proxy's port, which was its destination anyway.
    Either,
    /// It was sent to this port, and did not arrive there.
    Lost(u16),
    /// It was on its way to this network namespace's own sockets, and arrived at none.
    Undelivered,
    /// NAT sent it elsewhere.
    Translated(SocketAddr),
    Refused,
    Dropped,
    /// Where it should, but with another mark or conntrack zone.
    OtherMark,
}

/// By what something is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Means {
    /// A listener of verify's own got the connection.
    Listener,
    /// The kernel's table of sockets says which socket has it.
    SocketTable,
    /// conntrack's entry says where it was sent, and it was established, or never translated.
    Conntrack,
    /// An answer came, and the proxy's port, on which verify listened, heard nothing.
    Answer,
    /// The rules in the kernel were read and followed.
    Rules,
}

/// Why something could not be determined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "reason", content = "detail")]
pub enum Reason {
    NoAnswer,
    /// No answer came, and nothing arrived at the proxy's port, on which verify listened.
    NotArrived,
    /// It was refused, by whom cannot be seen.
    RefusedBySomebody,
    /// The ports that it may have come to are other programs', and nothing tells them apart.
    Occupied,
    NoRoute,
    /// No socket of this user can be made here.
    NoSuchUser,
    /// What the kernel said when it was to be made.
    NotMade(String),
    /// A rule that cannot be decoded may decide.
    Undecoded(Rule),
    /// The rules in the kernel could not be read: why.
    UnreadRules(ReadFailure),
    /// The desired rules themselves do not determine it.
    NotDesired,
}

/// Why rules could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "why", content = "what")]
pub enum ReadFailure {
    NetAdmin,
    /// Whether iptables-legacy has rules: only root and CAP_DAC_READ_SEARCH may know.
    Legacy,
    Kernel(String),
}

/// A rule, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rule {
    pub table: String,
    pub chain: String,
    /// As iptables-save prints it; nothing for the chain's policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub managed: bool,
}

/// Where a connection begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sender {
    /// A process here.
    User { uid: u32, gid: u32 },
    /// A host beyond this interface.
    Interface(Interface),
}

/// A connection that was tried, or followed through the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Connection {
    #[serde(flatten)]
    pub sender: Sender,
    #[serde(serialize_with = "shown")]
    pub protocol: Protocol,
    pub from: IpAddr,
    /// Nothing where the kernel picks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_port: Option<u16>,
    pub to: SocketAddr,
    /// Of a packet in the middle of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Of the packet (`SO_MARK`), and of its connection (`CONNMARK`).
    #[serde(skip_serializing_if = "is_zero")]
    pub mark: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub connection_mark: u32,
}

fn is_zero(mark: &u32) -> bool {
    *mark == 0
}

fn shown<S: Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(protocol)
}

/// What became of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Outcome {
    Holds {
        expected: Expected,
        means: Means,
    },
    Fails {
        expected: Expected,
        found: Found,
        means: Means,
        /// The rule that decides, where it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<Rule>,
    },
    /// A firewall refuses it before it comes to the proxy, or on its way past the proxy.
    Refused {
        expected: Expected,
        by: Rule,
    },
    Inconclusive {
        #[serde(skip_serializing_if = "Option::is_none")]
        expected: Option<Expected>,
        #[serde(flatten)]
        reason: Reason,
    },
}

impl Outcome {
    /// Whether it would be no other if it were tried again: rules can come a moment later than those
    /// who wait for them.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Outcome::Fails { .. } => false,
            Outcome::Inconclusive {
                expected: Some(Expected::Captured(_)),
                reason,
            } => *reason != Reason::NotArrived,
            _ => true,
        }
    }
}

impl Connection {
    /// The connection that begins so.
    pub(super) fn of(probe: &Probe) -> Self {
        let packet = &probe.packet;
        let sender = match (&packet.owner, &packet.in_interface) {
            (None, Some(interface)) => Sender::Interface(interface.clone()),
            (owner, _) => Sender::User {
                uid: owner.as_ref().map_or(0, |o| o.uid),
                gid: owner.as_ref().map_or(0, |o| o.gid),
            },
        };
        let state = match probe.tracking {
            Tracking::Known(connection) => connection.state,
            Tracking::Untracked => ConnState::Untracked,
            Tracking::NotYet | Tracking::Invalid => ConnState::Invalid,
        };
        Connection {
            sender,
            protocol: packet.protocol,
            from: packet.source.ip(),
            from_port: Some(packet.source.port()).filter(|port| *port != ANY_PORT),
            to: packet.destination,
            state: (state != ConnState::New).then_some(state.as_str()),
            mark: packet.mark,
            connection_mark: match probe.tracking {
                Tracking::Known(connection) => connection.mark,
                _ => 0,
            },
        }
    }
}

/// One connection and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    #[serde(flatten)]
    pub connection: Connection,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whether the redirection holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Connections of every kind that are to be captured were proved to be, and nothing is wrong.
    Holds,
    Fails,
    #[default]
    Inconclusive,
}

/// Everything that was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub verdict: Verdict,
    /// No rule was given, and none is installed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nothing_installed: bool,
    /// Policy routes and addresses that the rules rely on and that are missing, as ip(8) commands that
    /// make them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Why the rules in the kernel could not be read: what comes in from outside is not verified then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules_unread: Option<ReadFailure>,
    /// A signal ended it before everything was tried.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    pub checks: Vec<Check>,
}

impl Report {
    /// How many checks ended so.
    pub fn count(&self, which: fn(&Outcome) -> bool) -> usize {
        self.checks.iter().filter(|c| which(&c.outcome)).count()
    }

    /// Fills in what all of it together says.
    pub(super) fn judged(self) -> Self {
        let fails = self.count(|o| matches!(o, Outcome::Fails { .. })) > 0;
        let verdict = match fails || self.nothing_installed || !self.missing.is_empty() {
            true => Verdict::Fails,
            false if !self.interrupted && all_kinds_captured(&self.checks) => Verdict::Holds,
            false => Verdict::Inconclusive,
        };
        Report { verdict, ..self }
    }
}

/// Exempt traffic alone proves nothing: it is so without any rule too. So for each port of the proxy,
/// and each side from which connections come to it, one that was captured is asked for, and none may
/// be left that ought to have been seen.
fn all_kinds_captured(checks: &[Check]) -> bool {
    let (mut held, mut open) = (BTreeSet::new(), BTreeSet::new());
    for check in checks {
        let outside = matches!(check.connection.sender, Sender::Interface(_));
        match &check.outcome {
            Outcome::Holds { expected, .. } => drop(held.insert((*expected, outside))),
            Outcome::Inconclusive {
                expected: Some(expected @ Expected::Captured(_)),
                reason,
            } => {
                if matches!(reason, Reason::Undecoded(_) | Reason::NotArrived) {
                    return false;
                }
                open.insert((*expected, outside));
            }
            _ => {}
        }
    }
    let captured = |(expected, _): &(Expected, bool)| matches!(expected, Expected::Captured(_));
    held.iter().any(captured) && open.is_subset(&held)
}
