//! The trace of a packet, as data.

use crate::netfilter::model::{Base, ChainName, Entry, Hook, Interface, Packet, RejectWith, Tie};
use std::fmt;
use std::net::SocketAddr;

/// All that happened to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// In the order in which they were passed.
    pub passages: Vec<Passage>,
    pub end: End,
    /// The packet as it arrived.
    pub packet: Packet,
    /// The rules that could not be decoded but may apply, with what was assumed of each.
    pub undecoded: Vec<Undecoded>,
    /// The base chains of which nothing shows which is evaluated first, in the order that was assumed;
    /// none where the end is the same in both orders.
    pub order: Vec<Tie>,
}

impl Trace {
    pub fn tables(&self) -> impl Iterator<Item = &TablePassage> {
        self.passages.iter().flat_map(|passage| &passage.tables)
    }

    /// Every rule that was evaluated, with the table that it is in.
    pub fn steps(&self) -> impl Iterator<Item = (&TablePassage, &Step)> {
        let tables = self.tables();
        tables.flat_map(|table| table.steps.iter().map(move |step| (table, step)))
    }

    /// Nat took one of several addresses or ports.
    pub fn has_choice(&self) -> bool {
        let mut effects = self.steps().filter_map(|(_, s)| s.outcome.effect());
        effects.any(|effect| {
            matches!(
                effect,
                Effect::Translated {
                    is_choice: true,
                    ..
                } | Effect::SourceTranslated {
                    is_choice: true,
                    ..
                }
            )
        })
    }
}

/// A rule that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecoded {
    pub table: String,
    pub chain: ChainName,
    /// nf_tables' handle of the rule.
    pub handle: Option<u64>,
    pub rule: String,
    /// Nothing is missing of it: it applies by chance.
    pub by_chance: bool,
    /// Whether this trace is of the case that it applies.
    pub applies: bool,
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    pub hook: Hook,
    /// The packet as it came there.
    pub packet: Packet,
    pub tables: Vec<TablePassage>,
}

/// One base chain at a hook, and all that it led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePassage {
    pub table: String,
    pub chain: ChainName,
    pub base: Base,
    /// Why it was not evaluated, if it was not.
    pub skipped: Option<&'static str>,
    pub steps: Vec<Step>,
    /// The base chain's policy let the packet pass, or not; nothing if a rule decided before.
    pub policy: Option<bool>,
}

/// One rule that was evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub chain: ChainName,
    /// How many jumps led here.
    pub depth: usize,
    pub rule: Entry,
    pub outcome: StepOutcome,
    /// Of all rules evaluated it is the one that decides.
    pub decides: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The rule is about other packets: why, as a sentence without its full stop.
    PassedOver(String),
    /// The rule is about this one.
    Taken(Effect),
    /// It could not be decoded, and was taken not to apply.
    Ignored,
    /// It could not be decoded, and was taken to apply; what then happens, if that is known.
    Assumed(Option<Effect>),
}

impl StepOutcome {
    /// What happened to the packet, if something did.
    pub fn effect(&self) -> Option<&Effect> {
        match self {
            StepOutcome::Taken(effect) => Some(effect),
            StepOutcome::Assumed(effect) => effect.as_ref(),
            StepOutcome::PassedOver(_) | StepOutcome::Ignored => None,
        }
    }
}

/// What a target did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Accepted,
    Dropped,
    Rejected(RejectWith),
    /// Back to this chain, or from a base chain to its policy.
    Returned(Option<ChainName>),
    Jumped(ChainName),
    Redirected(SocketAddr),
    /// The destination is now this, or another one of several.
    Translated {
        to: SocketAddr,
        is_choice: bool,
    },
    /// The source is now this, or another one of several.
    SourceTranslated {
        from: SocketAddr,
        is_choice: bool,
    },
    /// Conntrack will not look at it.
    Untracked,
    Nothing,
    /// REDIRECT where the interface that the packet came in through has no address: dropped.
    NoAddress,
    /// To the transparent socket on this port.
    Tproxied {
        port: u16,
        mark: u32,
    },
    /// The packet's mark is now this.
    Marked(u32),
    /// The connection's mark is now this.
    ConnectionMarked(u32),
    Zone(u16),
}

/// A sentence without its full stop.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Accepted => f.write_str("accepted"),
            Effect::Dropped => f.write_str("dropped"),
            Effect::Rejected(with) => write!(f, "refused with {}", with.as_str()),
            Effect::Returned(Some(chain)) => write!(f, "back to {chain}"),
            Effect::Returned(None) => f.write_str("no further: the chain's policy decides"),
            Effect::Jumped(chain) => write!(f, "on to {chain}"),
            Effect::Redirected(to) => write!(f, "redirected to {to}"),
            Effect::Translated { to, is_choice } => {
                write!(f, "its destination is now {to}{}", choice(*is_choice))
            }
            Effect::SourceTranslated { from, is_choice } => {
                write!(f, "its source is now {from}{}", choice(*is_choice))
            }
            Effect::Untracked => f.write_str("conntrack leaves it alone"),
            Effect::Nothing => f.write_str("nothing"),
            Effect::NoAddress => f.write_str(
                "dropped: the interface it came in through has no address to redirect it to",
            ),
            Effect::Tproxied { port, mark } => {
                write!(
                    f,
                    "to the transparent socket on port {port}, with mark {mark:#x}"
                )
            }
            Effect::Marked(mark) => write!(f, "its mark is now {mark:#x}"),
            Effect::ConnectionMarked(mark) => write!(f, "the connection's mark is now {mark:#x}"),
            Effect::Zone(zone) => write!(f, "its conntrack zone is {zone}"),
        }
    }
}

fn choice(is_choice: bool) -> &'static str {
    if is_choice {
        ", or another one of several"
    } else {
        ""
    }
}

/// Where the packet ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It is for a socket of this namespace.
    Delivered {
        /// The port of the socket: the packet's own, or the one that TPROXY picked.
        port: u16,
        /// Who sent it there, if a rule did.
        by: Option<Capture>,
    },
    /// It left for elsewhere; `forwarded` if it came from elsewhere.
    Sent {
        through: Interface,
        forwarded: bool,
    },
    Dropped,
    Rejected(RejectWith),
    /// There is no route to its destination.
    NoRoute,
    /// A rule that could not be decoded decides.
    Unknown,
}

/// How a packet came to a port that it was not sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// REDIRECT: the destination was changed to this one, and SO_ORIGINAL_DST tells the other.
    Redirect(SocketAddr),
    /// TPROXY: nothing was changed.
    Tproxy,
}
