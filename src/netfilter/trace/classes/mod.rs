//! All packets at once: into which classes rules divide them, and what becomes of each.
//!
//! A set of packets is followed through the hooks as one packet is in [`super::follow`], and divided
//! where a rule is about some of them only. So the classes are exact, and no packet is left out:
//! not by its addresses, ports, owner, interface, marks, state or socket. A property test compares
//! them with [`super::follow`], packet by packet.

mod addresses;
mod compare;
mod fields;
mod members;
mod parts;
#[cfg(test)]
mod properties;
mod runs;
mod sets;
mod space;
mod table;
mod walker;

pub use addresses::loopback;
pub use compare::{Difference, differing};
pub use parts::{Part, Values, prefixes};
pub use sets::Set;
pub use space::{Dimension, Space};
pub use table::{Hit, Took};

use super::passage::{Capture, End, Trace};
use super::tracer::Start;
use super::{JumpLoop, Network};
use crate::netfilter::model::{Entry, Interface, RejectWith, Rules, Target};
use fields::Header;
use space::{Bits, Dimension as D};
use std::net::IpAddr;
use table::{Led, State, Way};
use thiserror::Error;
use walker::Walker;

/// How many steps are taken for a question, in a few seconds at most: 10,000 prefixes need 150,000, the
/// marks of a transparent proxy 400,000.
pub const STEPS: u32 = 3_000_000;

/// Why packets could not be followed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Stopped {
    #[error(transparent)]
    Loop(#[from] JumpLoop),
    /// The rules divide packets into too many classes.
    #[error("the rules divide packets into too many classes")]
    Bounded,
}

/// What becomes of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Delivered to the socket that it is for.
    Direct,
    /// Delivered after nat gave it another destination.
    Redirected,
    /// Delivered to the transparent socket on this port.
    Tproxied {
        port: u16,
    },
    /// It left; `forwarded` if it came from outside.
    Sent {
        through: Interface,
        forwarded: bool,
    },
    Dropped,
    Rejected(RejectWith),
    NoRoute,
    /// A rule that was not decoded has the last word.
    Unknown,
}

impl Fate {
    /// Of a packet that was followed.
    pub fn of(trace: &Trace) -> Self {
        match &trace.end {
            End::Delivered { by: None, .. } => Fate::Direct,
            End::Delivered {
                by: Some(Capture::Redirect(_)),
                ..
            } => Fate::Redirected,
            End::Delivered {
                by: Some(Capture::Tproxy),
                port,
            } => Fate::Tproxied { port: *port },
            End::Sent { through, forwarded } => Fate::Sent {
                through: through.clone(),
                forwarded: *forwarded,
            },
            End::Dropped => Fate::Dropped,
            End::Rejected(with) => Fate::Rejected(*with),
            End::NoRoute => Fate::NoRoute,
            End::Unknown => Fate::Unknown,
        }
    }

    /// Whether the packet arrives somewhere, with what rules have made of it.
    fn arrives(&self) -> bool {
        matches!(
            self,
            Fate::Direct | Fate::Redirected | Fate::Tproxied { .. } | Fate::Sent { .. }
        )
    }
}

/// Packets that come to one end in the same way.
#[derive(Clone, Debug)]
pub struct Ended {
    pub fate: Fate,
    pub set: Set,
    /// The port of this namespace that they were sent to before they were dropped or refused.
    pub lost: Option<u16>,
    /// What they are in the end, where that matters.
    arrived: Option<Arrived>,
}

/// What packets are in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arrived {
    header: [Bits; 6],
    /// The address that they are sent to, if it is the same for all.
    address: Option<IpAddr>,
    zone: u16,
}

impl Arrived {
    fn new(space: &Space, header: Header) -> Self {
        let address = number(&header.destination.address);
        Arrived {
            address: address.and_then(|number| space.addresses.single(number)),
            header: [
                header.source.address,
                header.source.port,
                header.destination.address,
                header.destination.port,
                header.mark,
                header.connmark,
            ],
            zone: header.zone,
        }
    }

    fn destination(&self) -> (&Bits, &Bits) {
        (&self.header[2], &self.header[3])
    }
}

impl Ended {
    fn new(space: &Space, fate: Fate, state: State, set: Set) -> Self {
        let lost = match (&fate, state.led) {
            (Fate::Dropped | Fate::Rejected(_), led) if state.way == Way::Here => match led {
                Led::No => None,
                Led::Translated => number(&state.header.destination.port).map(|port| port as u16),
                Led::Tproxied(port) => Some(port),
            },
            _ => None,
        };
        let arrived = fate.arrives().then(|| Arrived::new(space, state.header));
        Ended {
            fate,
            set,
            lost,
            arrived,
        }
    }

    fn is_alike(&self, other: &Ended) -> bool {
        (&self.fate, self.lost, &self.arrived) == (&other.fate, other.lost, &other.arrived)
    }

    /// Whether nat or TPROXY has given them another socket of this namespace.
    pub fn is_captured(&self) -> bool {
        matches!(self.fate, Fate::Redirected | Fate::Tproxied { .. })
    }

    /// The address and the port that they are sent to in the end, each if it is the same for all.
    pub fn destination(&self) -> (Option<IpAddr>, Option<u16>) {
        let Some(arrived) = &self.arrived else {
            return (None, None);
        };
        let (_, port) = arrived.destination();
        (arrived.address, number(port).map(|port| port as u16))
    }

    /// The mark, the connection's mark and its zone in the end, each if it is the same for all.
    pub fn marks(&self) -> (Option<u32>, Option<u32>, Option<u16>) {
        let arrived = self.arrived.as_ref();
        let mark = |at: usize| number(&arrived?.header[at]).map(|mark| mark as u32);
        (mark(4), mark(5), arrived.map(|arrived| arrived.zone))
    }
}

/// The number that bits are, if they do not depend on the packet.
fn number(bits: &Bits) -> Option<u128> {
    bits.iter().try_fold(0, |number, bit| match *bit {
        Set::NONE => Some(number << 1),
        Set::ALL => Some(number << 1 | 1),
        _ => None,
    })
}

/// What becomes of all packets that begin at one place.
#[derive(Clone, Debug)]
pub struct Picture<'a> {
    pub start: Start,
    pub network: &'a Network,
    /// All packets that were followed.
    pub all: Set,
    /// Each way of ending once. A packet is in several of them only if it is undetermined.
    pub ends: Vec<Ended>,
    /// What each rule was applied to, in the order in which one packet meets them.
    pub hits: Vec<Hit<'a>>,
    /// The packets of which rules that could not be decoded, or an order that nothing shows, decide.
    pub undetermined: Set,
    /// Those among them of which chance alone decides.
    pub by_chance: Set,
}

/// Some packets with one fate, by one rule.
#[derive(Clone, Debug)]
pub struct Class<'p, 'a> {
    pub packets: Set,
    pub end: &'p Ended,
    /// The rule or policy that decides, if one does, where packets of the class first meet it.
    pub by: Option<Hit<'a>>,
}

/// Follows all packets of the set that begin there.
///
/// # Errors
/// Where the rules have a loop, or divide packets into too many classes.
pub fn follow_all<'a>(
    space: &mut Space,
    start: Start,
    rules: &'a Rules,
    network: &'a Network,
    within: Set,
) -> Result<Picture<'a>, Stopped> {
    let mut picture = follow_in_order(space, start, rules, network, within)?;
    if !rules.ties(space.family).is_empty() {
        let other_rules = rules.in_the_other_order();
        let other = follow_in_order(space, start, &other_rules, network, within)?;
        let differences = differing(space, &picture, &other);
        let packets: Vec<Set> = differences.iter().map(|d| d.packets).collect();
        for set in packets {
            picture.undetermined = space.or(picture.undetermined, set);
            picture.by_chance = space.without(picture.by_chance, set);
        }
    }
    space.check()?;
    Ok(picture)
}

fn follow_in_order<'a>(
    space: &mut Space,
    start: Start,
    rules: &'a Rules,
    network: &'a Network,
    within: Set,
) -> Result<Picture<'a>, Stopped> {
    let all = space.all(start, network);
    let all = space.and(all, within);
    let mut walker = Walker {
        space,
        rules,
        network,
        hits: Vec::new(),
        ends: Vec::new(),
        open: Set::NONE,
    };
    walker.follow(start, all)?;
    let (hits, ends, mut open) = (walker.hits, walker.ends, walker.open);
    let (mut seen, mut undetermined) = (Set::NONE, Set::NONE);
    for end in &ends {
        let unclear = match end.fate {
            Fate::Unknown => {
                open = space.or(open, end.set);
                end.set
            }
            _ => space.and(seen, end.set),
        };
        undetermined = space.or(undetermined, unclear);
        seen = space.or(seen, end.set);
    }
    let by_chance = space.without(undetermined, open);
    Ok(Picture {
        start,
        network,
        all,
        ends,
        hits,
        undetermined,
        by_chance,
    })
}

impl<'a> Picture<'a> {
    /// The classes of packets of which it is known what becomes of them, in the order of the rules.
    pub fn classes(&self, space: &mut Space) -> Vec<Class<'_, 'a>> {
        let mut classes = Vec::new();
        for end in &self.ends {
            let known = space.without(end.set, self.undetermined);
            let translated = end.is_translated(space);
            let parts = [
                (space.and(known, translated), true),
                (space.without(known, translated), false),
            ];
            for (set, is_translated) in parts {
                self.add_classes(space, end, set, is_translated, &mut classes);
            }
        }
        classes
    }

    /// Divides the packets of which chance decides by the ends that they may come to.
    pub fn chances(&self, space: &mut Space) -> Vec<(Set, Vec<&Ended>)> {
        let mut parts = vec![(self.by_chance, Vec::new())];
        for end in &self.ends {
            for (set, ends) in std::mem::take(&mut parts) {
                let others = space.without(set, end.set);
                let some = space.and(set, end.set);
                if !space.is_empty(some) {
                    parts.push((some, [ends.as_slice(), &[end]].concat()));
                }
                if !space.is_empty(others) {
                    parts.push((others, ends));
                }
            }
        }
        parts
    }

    /// Divides packets by the rule that decides: the last one of those that settle such an end, as
    /// for one packet.
    fn add_classes<'p>(
        &self,
        space: &mut Space,
        end: &'p Ended,
        set: Set,
        is_translated: bool,
        classes: &mut Vec<Class<'p, 'a>>,
    ) {
        let mut left = set;
        for hit in self.hits.iter().rev() {
            if space.is_empty(left) {
                break;
            }
            if !settles(&end.fate, is_translated, hit) {
                continue;
            }
            let packets = space.and(left, hit.set);
            if space.is_empty(packets) {
                continue;
            }
            left = space.without(left, packets);
            let same = |class: &&mut Class| {
                let by = class.by.map(|by| by.place());
                by == Some(hit.place()) && std::ptr::eq(class.end, end)
            };
            match classes.iter_mut().rev().take(1).find(same) {
                Some(class) => {
                    class.packets = space.or(class.packets, packets);
                    class.by = Some(*hit);
                }
                None => classes.push(Class {
                    packets,
                    end,
                    by: Some(*hit),
                }),
            }
        }
        if !space.is_empty(left) {
            classes.push(Class {
                packets: left,
                end,
                by: None,
            });
        }
    }
}

impl<'a> Picture<'a> {
    /// Divides packets by the last rule that accepts what the policy of its base chain would drop.
    pub fn admitted(&self, space: &mut Space, packets: Set) -> Vec<(Set, Option<Hit<'a>>)> {
        let (mut left, mut parts) = (packets, Vec::new());
        let admits = |hit: &&Hit| hit.took == Took::Accepted && !hit.base.accepts;
        for hit in self.hits.iter().rev().filter(admits) {
            let some = space.and(left, hit.set);
            left = space.without(left, some);
            parts.push((some, Some(*hit)));
        }
        parts.push((left, None));
        parts.retain(|(set, _)| !space.is_empty(*set));
        parts
    }
}

impl Ended {
    /// The packets of which nat has changed the destination.
    fn is_translated(&self, space: &mut Space) -> Set {
        let Some(arrived) = &self.arrived else {
            return Set::NONE;
        };
        let (address, port) = arrived.destination();
        let before = (space.bits(D::Destination), space.bits(D::DestinationPort));
        let addresses = space.unequal(Set::ALL, &before.0, address);
        let ports = space.unequal(Set::ALL, &before.1, port);
        space.or(addresses, ports)
    }
}

impl Hit<'_> {
    /// Whether the rule can make packets end otherwise than those that it does not apply to.
    pub fn may_decide(&self) -> bool {
        let jumps = |rule: &Entry| matches!(rule.target(), Some(Target::Jump(_)));
        match self.took {
            Took::Dropped | Took::Rejected => true,
            Took::Other => !self.rules.first().is_some_and(jumps),
            Took::Accepted | Took::Returned | Took::Translated | Took::Tproxied => {
                super::follow::may_capture(&self.base)
            }
        }
    }
}

/// Whether a rule that was applied settles such an end.
fn settles(fate: &Fate, is_translated: bool, hit: &Hit) -> bool {
    match fate {
        Fate::Dropped => return hit.took == Took::Dropped,
        Fate::Rejected(_) => return hit.took == Took::Rejected,
        _ => {}
    }
    super::follow::may_capture(&hit.base)
        && match fate {
            Fate::Redirected => hit.took == Took::Translated,
            Fate::Sent { .. } if is_translated => hit.took == Took::Translated,
            Fate::Tproxied { .. } => hit.took == Took::Tproxied,
            _ => matches!(hit.took, Took::Accepted | Took::Returned),
        }
}
