//! Who goes where: what happens to every connection that the rules tell apart.

pub mod chart;
pub mod conditions;
pub mod rows;

use super::place::Place;
use super::{Followed, followed, local_addresses, place};
use crate::engine::error::Error;
use crate::engine::request::Request;
use crate::netfilter::model::{Entry, Family, Interface, Rules, Target};
use crate::netfilter::trace::classes::{
    Dimension, Picture, STEPS, Set, Space, Stopped, Took, follow_all, loopback,
};
use crate::netfilter::trace::{Network, Start};
use chart::Chart;
use rows::{Fate, Row};
use serde::Serialize;
use std::collections::BTreeSet;

/// The options of `explain` without a destination, as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// As [`super::Question::local_addresses`].
    pub local_addresses: Vec<String>,
    /// As [`super::Question::live`].
    pub live: bool,
}

/// All connections.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Connections {
    /// No rule that could not be decoded makes a difference.
    pub determined: bool,
    /// What nobody said, in sentences without their full stop.
    pub assumptions: Vec<String>,
    pub sections: Vec<Section>,
    #[serde(skip)]
    rules: Rules,
    #[serde(skip)]
    families: Vec<Family>,
}

impl Connections {
    /// The rules as a flow chart for each family, one where they are the same.
    pub fn charts(&self) -> Vec<Chart> {
        chart::charts(&self.rules, &self.families)
    }
}

/// The connections of one direction.
#[derive(Debug, Serialize)]
pub struct Section {
    pub direction: Direction,
    /// The families for which the rows are the same.
    pub families: Vec<Family>,
    /// How many classes of connections the rules tell apart: those of one fate, by one rule.
    pub classes: usize,
    /// In the reader's order; the first row that fits a connection says what happens to it.
    pub rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Outbound,
    Inbound,
}

impl Direction {
    pub(in crate::actions) const ALL: [Direction; 2] = [Direction::Outbound, Direction::Inbound];

    /// Where its packets begin.
    pub(in crate::actions) fn start(self) -> Start {
        match self {
            Direction::Outbound => Start::Here,
            Direction::Inbound => Start::Outside,
        }
    }
}

/// Answers for all connections.
pub(in crate::actions) fn connections(
    options: &Options,
    request: &Request,
) -> Result<Connections, Error> {
    let local = local_addresses(&options.local_addresses)?;
    let Followed {
        rules,
        routing,
        live,
        assumed: by_default,
    } = followed(options.live, &local, request)?;
    let Place {
        network,
        mut assumed,
    } = place::whole(&local, &routing, live)?;
    assumed.extend(by_default);
    let mut sections = Vec::new();
    let (mut steps, mut lacking) = (STEPS, BTreeSet::new());
    for direction in Direction::ALL {
        let mut of_direction: Vec<Section> = Vec::new();
        for family in families(&network) {
            let followed = of_family(direction, family, (&rules, &network), &mut steps)?;
            let (section, without_address) = followed;
            lacking.extend(without_address.into_iter().map(|name| (family, name)));
            let first = of_direction.first_mut();
            if !first.is_some_and(|other| other.merge(&section)) {
                of_direction.push(section);
            }
        }
        sections.extend(of_direction);
    }
    assumed.extend(lacking.iter().map(|(family, name)| {
        format!("{name} has no {family} address (--local-address ADDRESS%{name})")
    }));
    if live {
        for family in families(&network) {
            assumed.extend(super::live::policy_rules_of_others(family)?);
        }
    }
    let mut rows = sections.iter().flat_map(|section| &section.rows);
    Ok(Connections {
        determined: rows.all(|row| row.fate != Fate::Undetermined),
        assumptions: assumed,
        sections,
        families: families(&network),
        rules,
    })
}

/// The families in which this namespace has an address that others reach; both if there is none.
pub(in crate::actions) fn families(network: &Network) -> Vec<Family> {
    let others = network
        .links
        .iter()
        .filter(|link| link.name != Interface::LOOPBACK);
    let nets: Vec<_> = others.flat_map(|link| &link.addresses).collect();
    let has = |family: &Family| nets.iter().any(|net| Family::of(net.addr()) == *family);
    match nets.is_empty() {
        true => Family::ALL.to_vec(),
        false => Family::ALL.into_iter().filter(has).collect(),
    }
}

fn of_family(
    direction: Direction,
    family: Family,
    (rules, network): (&Rules, &Network),
    steps: &mut u32,
) -> Result<(Section, Vec<String>), Stopped> {
    let mut space = Space::new(family, [(rules, network)], *steps);
    let start = direction.start();
    let within = first_packets(&mut space, start, network);
    let picture = follow_all(&mut space, start, rules, network, within)?;
    let classes = picture.classes(&mut space);
    let by = classes
        .iter()
        .map(|c| c.by.map_or(1, |hit| hit.rules.len().max(1)));
    let section = Section {
        direction,
        families: vec![family],
        classes: by.sum(),
        rows: rows::rows(&mut space, &picture, &classes, rules)?,
    };
    let without_address = without_address(&mut space, &picture);
    *steps = space.steps_left();
    Ok((section, without_address))
}

/// The interfaces without an address through which packets come in that a rule redirects: REDIRECT
/// drops them.
fn without_address(space: &mut Space, picture: &Picture) -> Vec<String> {
    let redirects = |rule: &Entry| matches!(rule.target(), Some(Target::Redirect { .. }));
    let dropped = picture.hits.iter().filter(|hit| hit.took == Took::Dropped);
    let dropped = dropped.filter(|hit| hit.rules.iter().any(redirects));
    let set = dropped.fold(Set::NONE, |set, hit| space.or(set, hit.set));
    let mut lacking = Vec::new();
    for (number, name) in (0..).zip(space.interfaces.clone()) {
        let through = space.having(Dimension::InInterface, (number, number));
        let through = space.and(through, set);
        if !space.is_empty(through) {
            lacking.extend(name.map(|name| name.to_string()));
        }
    }
    lacking
}

/// The first packets of connections, which have no mark of a connection yet. Those that processes
/// send have no mark, or to an address of this namespace one that a policy route is about, as a
/// transparent proxy sets it. Those from outside have none, come from elsewhere through an interface
/// that is there or that a rule names, and are for an address of this namespace that others reach.
fn first_packets(space: &mut Space, start: Start, network: &Network) -> Set {
    let first = space.first_packets();
    let without_socket = space.having(Dimension::Socket, (0, 0));
    let set = space.and(first, without_socket);
    let to = space.own_at(network, Dimension::Destination);
    let unmarked = space.having(Dimension::Mark, (0, 0));
    let more = match start {
        Start::Here => {
            let somebody = space.having(Dimension::HasOwner, (1, 1));
            let marks = network
                .policy_routes
                .iter()
                .map(|route| u128::from(route.mark));
            let marked = marks.fold(Set::NONE, |marked, mark| {
                let one = space.having(Dimension::Mark, (mark, mark));
                space.or(marked, one)
            });
            let marked = space.and(marked, to);
            let marked = space.or(marked, unmarked);
            space.and(somebody, marked)
        }
        Start::Outside => {
            let from = space.own_at(network, Dimension::Source);
            let arriving = space.without(to, from);
            // Others do not reach loopback: the kernel drops it.
            let loopback = space.having(Dimension::Destination, loopback(space.family));
            let arriving = space.without(arriving, loopback);
            let known = through_known_interfaces(space);
            let arriving = space.and(arriving, known);
            space.and(unmarked, arriving)
        }
    };
    space.and(set, more)
}

/// The packets that do not come in through an interface that is neither there nor named by a rule.
pub(in crate::actions) fn through_known_interfaces(space: &mut Space) -> Set {
    let last = space.interfaces.len() as u128 - 1;
    let unknown = space.having(Dimension::InInterface, (last, last));
    space.without(Set::ALL, unknown)
}

impl Section {
    /// Takes in the rows of another family, if they differ from these in addresses only.
    fn merge(&mut self, other: &Section) -> bool {
        let pairs = || self.rows.iter().zip(&other.rows);
        let same = self.rows.len() == other.rows.len() && pairs().all(|(a, b)| a.is_alike(b));
        if same {
            self.families.extend(&other.families);
            self.classes = self.classes.max(other.classes);
            let pairs = self.rows.iter_mut().zip(&other.rows);
            pairs.for_each(|(row, other)| row.add(other));
        }
        same
    }
}
