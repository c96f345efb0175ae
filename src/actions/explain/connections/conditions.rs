//! What packets of a row have in common, as words and numbers.

use crate::netfilter::model::{
    ConnState, Family, Marked, Match, Owner, Protocol, Side, Span, Test, number_of,
};
use crate::netfilter::trace::Network;
use crate::netfilter::trace::classes::{Dimension, Part, Set, Space, Values, prefixes};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde::Serialize;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What a field must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    pub field: Field,
    /// It must be none of the values.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not: bool,
    /// Prefixes, ports (`8000:8100`), numbers (`0-999`), names, marks (`VALUE/MASK`).
    pub values: Vec<String>,
    /// What is left out of the prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// The values are the addresses of this network namespace.
    #[serde(skip)]
    pub own: bool,
}

impl Condition {
    /// The condition that a match is, if it is about such a field.
    pub fn of(m: &Match) -> Option<Self> {
        let (field, values) = match &m.test {
            Test::Source(net) => (Field::Source, vec![shown(net)]),
            Test::Destination(net) => (Field::Destination, vec![shown(net)]),
            Test::DestinationSet(set) => {
                let nets = set.as_slice().iter();
                (Field::Destination, nets.map(shown).collect())
            }
            Test::InInterface(name) => (Field::InInterface, vec![name.to_string()]),
            Test::OutInterface(name) => (Field::OutInterface, vec![name.to_string()]),
            Test::Protocol(protocol) => (Field::Protocol, vec![protocol.to_string()]),
            Test::Port { side, ports } => (Field::port(*side), vec![ports.to_string()]),
            Test::Multiport { side, ports } => {
                let ports = ports.as_slice().iter();
                (Field::port(*side), ports.map(ToString::to_string).collect())
            }
            Test::Owner(Owner::Uid(uid)) => (Field::Uid, vec![uid.to_string()]),
            Test::Owner(Owner::Gid(gid)) => (Field::Gid, vec![gid.to_string()]),
            Test::ConnState(states) => {
                let states = states.iter().map(|state| state.as_str().to_owned());
                (Field::CtState, states.collect())
            }
            Test::Mark { value, mask } => (Field::Mark, vec![Marked(*value, *mask).to_string()]),
            Test::Connmark { value, mask } => {
                (Field::CtMark, vec![Marked(*value, *mask).to_string()])
            }
            Test::Socket { .. } | Test::Fields(_) | Test::Undecoded(_) => return None,
        };
        Some(Condition {
            field,
            not: m.not,
            values,
            except: Vec::new(),
            own: false,
        })
    }

    /// All that is the same for both families.
    pub(super) fn shape(&self) -> (Field, bool, bool, Vec<String>) {
        let values = match self.field.is_address() {
            true => Vec::new(),
            false => self.values.clone(),
        };
        (self.field, self.not, self.own, values)
    }
}

/// A field of a packet, in the order in which they are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    Uid,
    Gid,
    Process,
    InInterface,
    /// In the matches of rules only.
    OutInterface,
    Source,
    SourcePort,
    Mark,
    CtMark,
    CtState,
    Socket,
    Protocol,
    Destination,
    DestinationPort,
}

impl Field {
    fn of(dimension: Dimension) -> Self {
        match dimension {
            Dimension::Protocol => Field::Protocol,
            Dimension::State => Field::CtState,
            Dimension::HasOwner => Field::Process,
            Dimension::Socket => Field::Socket,
            Dimension::InInterface => Field::InInterface,
            Dimension::Uid => Field::Uid,
            Dimension::Gid => Field::Gid,
            Dimension::Mark => Field::Mark,
            Dimension::Connmark => Field::CtMark,
            Dimension::SourcePort => Field::SourcePort,
            Dimension::DestinationPort => Field::DestinationPort,
            Dimension::Source => Field::Source,
            Dimension::Destination => Field::Destination,
        }
    }

    fn port(side: Side) -> Self {
        match side {
            Side::Source => Field::SourcePort,
            Side::Destination => Field::DestinationPort,
        }
    }

    pub(crate) fn is_address(self) -> bool {
        matches!(self, Field::Source | Field::Destination)
    }
}

/// Each list of conditions that must hold; any of the lists. Nothing where there are too many.
pub type Conditions = Option<Vec<Vec<Condition>>>;

/// What packets of a set have in common, among those that matter: lists of conditions that must all hold,
/// of which one fits each packet. Nothing where there are too many.
pub(in crate::actions) fn described(
    space: &mut Space,
    packets: Set,
    care: Set,
    network: &Network,
) -> Conditions {
    let parts = space.parts(packets, care)?;
    let each = parts.iter().map(|part| conditions(part, space, network));
    let mut lists: Vec<Vec<Condition>> = each.collect();
    let shapes = |list: &Vec<Condition>| list.iter().map(Condition::shape).collect::<Vec<_>>();
    lists.sort_by_cached_key(shapes);
    Some(lists)
}

/// The conditions of a part, in the order of the fields.
fn conditions(part: &Part, space: &Space, network: &Network) -> Vec<Condition> {
    let one = |listed: &Values| {
        let field = Field::of(listed.dimension);
        let (spans, gaps, own) = match field.is_address() {
            true => addresses(&listed.values, space.family, network),
            false => (listed.values.clone(), Vec::new(), false),
        };
        let shown = |spans: &[Span]| {
            let values = spans.iter().flat_map(|span| values(field, *span, space));
            values.collect::<Vec<_>>()
        };
        Condition {
            field,
            not: listed.not,
            values: shown(&spans),
            except: shown(&gaps),
            own,
        }
    };
    let mut conditions: Vec<Condition> = part.iter().map(one).collect();
    conditions.sort_by_key(|condition| condition.field);
    conditions
}

/// Runs of addresses and what is left out of them, in the shorter way; and whether the runs are the
/// addresses of this namespace.
fn addresses(listed: &[Span], family: Family, network: &Network) -> (Vec<Span>, Vec<Span>, bool) {
    // Nobody sends from or to the unspecified address.
    let sent = |(first, last): &Span| (*first.max(&1), *last);
    let sent: Vec<Span> = listed.iter().map(sent).filter(|(f, l)| f <= l).collect();
    let own = own(family, network);
    let is_own = |span: &Span| own.iter().any(|own| own.0 <= span.0 && span.1 <= own.1);
    if sent.iter().all(is_own) {
        let gaps = without(&own, &sent);
        if length(&gaps) < length(&sent) {
            return (own, gaps, true);
        }
    }
    let mut listed = listed.to_vec();
    listed.retain(|span| *span != (0, 0));
    let (runs, gaps) = with_gaps(&listed);
    (runs, gaps, false)
}

/// Runs without some of their addresses, both in order.
fn without(runs: &[Span], taken: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    for (first, last) in runs {
        let mut next = Some(*first);
        for taken in taken.iter().filter(|t| *first <= t.0 && t.1 <= *last) {
            left.extend(next.filter(|n| *n < taken.0).map(|n| (n, taken.0 - 1)));
            next = taken.1.checked_add(1);
        }
        left.extend(next.filter(|n| n <= last).map(|n| (n, *last)));
    }
    left
}

fn length(spans: &[Span]) -> u32 {
    spans.iter().map(|span| prefixes(*span)).sum()
}

/// Fewer runs of addresses, and what is left out of them, where that is shorter.
fn with_gaps(spans: &[Span]) -> (Vec<Span>, Vec<Span>) {
    let (mut runs, mut gaps): (Vec<Span>, Vec<Span>) = (Vec::new(), Vec::new());
    for span in spans {
        if let Some(run) = runs.last_mut() {
            let gap = (run.1 + 1, span.0 - 1);
            let whole = (run.0, span.1);
            if prefixes(whole) + prefixes(gap) < prefixes(*run) + prefixes(*span) {
                *run = whole;
                gaps.push(gap);
                continue;
            }
        }
        runs.push(*span);
    }
    (runs, gaps)
}

/// The addresses of this namespace, as runs.
fn own(family: Family, network: &Network) -> Vec<Span> {
    let own = network.own(family).into_iter();
    let mut spans: Vec<Span> = own
        .map(|(first, last)| (number_of(first), number_of(last)))
        .collect();
    spans.sort_unstable();
    spans.dedup();
    spans
}

fn values(field: Field, (first, last): Span, space: &Space) -> Vec<String> {
    let run = |sign: &str| match first == last {
        true => vec![first.to_string()],
        false => vec![format!("{first}{sign}{last}")],
    };
    let each = |name: &dyn Fn(usize) -> Option<String>| {
        let numbers = first as usize..=last as usize;
        numbers.map_while(name).collect::<Vec<_>>()
    };
    let named = |names: &[&str]| each(&|at| Some((*names.get(at)?).to_owned()));
    match field {
        Field::Source | Field::Destination => nets(space.family, (first, last)),
        Field::SourcePort | Field::DestinationPort => run(":"),
        Field::Uid | Field::Gid => run("-"),
        Field::Mark | Field::CtMark => vec![Marked(first as u32, last as u32).to_string()],
        Field::Protocol => each(&|number| {
            let number = u8::try_from(number).ok()?;
            Some(Protocol::of(number).to_string())
        }),
        Field::Process => named(&["no", "yes"]),
        Field::Socket => named(&["none", "plain", "transparent"]),
        Field::CtState => named(&ConnState::ALL.map(|state| state.as_str())),
        Field::InInterface | Field::OutInterface => each(&|number| {
            let name = space.interfaces.get(number)?.as_ref();
            Some(name.map_or("none".to_owned(), ToString::to_string))
        }),
    }
}

/// A run of addresses as prefixes, single addresses without their length.
fn nets(family: Family, (first, last): Span) -> Vec<String> {
    let nets: Vec<IpNet> = match family {
        Family::V4 => {
            let [first, last] = [first, last].map(|n| Ipv4Addr::from_bits(n as u32));
            Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
        }
        Family::V6 => {
            let [first, last] = [first, last].map(Ipv6Addr::from_bits);
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
    };
    nets.iter().map(shown).collect()
}

fn shown(net: &IpNet) -> String {
    match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}
