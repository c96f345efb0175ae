//! Which connections are worth trying: pure, from rules and the network that they are in.
//!
//! For each rule a connection is sought whose fate changes if the rule is missing. What the rule
//! matches, and what leads to it, says how the connection must be (`conditions`); everything else is
//! tried from a short list (`candidates`). Both ends of each range of ports and of each prefix are
//! taken (`ends`).

mod candidates;
mod conditions;
mod ends;
mod paths;

use super::rules::{Fate, Place};
use crate::netfilter::model::{Base, Entry, Family, HookedTable, Match, Rules, Test};
use crate::netfilter::trace::{Network, Probe, follow};
use candidates::{Candidates, unused, usual};
use ends::{ends, variants};
use paths::{Path, paths};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How many connections are tried on each path to a rule.
const TRIES: usize = 2048;

/// How many of the hosts and of the ports that rules name are tried where a rule is about any.
const SAMPLE: usize = 4;

/// How many rules connections are derived from.
const RULES: usize = 2000;

/// Uid and gid.
pub(super) type User = (u32, u32);

/// Where connections can be made from.
pub(super) struct Vantage<'a> {
    pub network: &'a Network,
    /// The only user whose sockets can be made.
    pub only: Option<User>,
    /// The port that is tried where rules name none.
    pub port: u16,
}

/// Addresses that connections may go to or come from, so that the routes to them can be looked up.
pub(super) fn addresses(rules: &Rules, network: &Network) -> BTreeSet<IpAddr> {
    let matches = rules.entries().flat_map(Entry::matches);
    let named = matches.flat_map(|m| match &m.test {
        Test::Destination(net) => ends(net).to_vec(),
        Test::DestinationSet(set) => set.as_slice().iter().flat_map(ends).collect(),
        _ => Vec::new(),
    });
    let usual = Family::ALL.into_iter().flat_map(|f| usual(f, network));
    named.chain(usual).chain(Family::ALL.map(unused)).collect()
}

/// A connection for each rule that makes a difference to one, of the desired ones and of those in the
/// kernel, each once.
pub(super) fn derive_all(desired: &Place, kernel: Option<&Place>, vantage: &Vantage) -> Vec<Probe> {
    let mut probes = derive(desired, None, vantage);
    let others = kernel.map(|place| derive(place, Some(&desired.rules), vantage));
    for probe in others.into_iter().flatten() {
        if !probes.contains(&probe) {
            probes.push(probe);
        }
    }
    probes
}

/// A connection for each rule that makes a difference to one, each once; of the first rules, where
/// there are very many. Chains that `done` has too are left out.
pub(super) fn derive(place: &Place, done: Option<&Rules>, vantage: &Vantage) -> Vec<Probe> {
    let mut search = Search {
        candidates: Candidates::of(&place.rules, vantage),
        place,
        changed: Place {
            rules: place.rules.clone(),
            network: place.network.clone(),
        },
        probes: Vec::new(),
    };
    let mut left = RULES;
    for (t, table) in place.rules.tables.iter().enumerate() {
        for (c, chain) in table.chains.iter().enumerate() {
            if !done.is_some_and(|done| has(done, table, c)) {
                search.chain(t, c, left);
                search.policy(t, c);
                left = left.saturating_sub(chain.rules.len());
            }
        }
    }
    search.probes
}

/// Whether the rules have this very chain, comments aside.
fn has(rules: &Rules, table: &HookedTable, c: usize) -> bool {
    let chain = &table.chains[c];
    let same = |(a, b): (&Entry, &Entry)| {
        matches!(b, Entry::Known(_)) && a.matches() == b.matches() && a.target() == b.target()
    };
    let mut tables = rules.tables.iter();
    let table = tables.find(|t| (&t.name, t.family) == (&table.name, table.family));
    let other = table.and_then(|t| t.chains.iter().find(|c| c.name == chain.name));
    other.is_some_and(|other| {
        other.base == chain.base
            && other.rules.len() == chain.rules.len()
            && other.rules.iter().zip(&chain.rules).all(same)
    })
}

/// The search for connections.
struct Search<'a> {
    candidates: Candidates<'a>,
    place: &'a Place,
    /// The same, with one rule missing or two that have changed places.
    changed: Place,
    probes: Vec<Probe>,
}

impl Search<'_> {
    /// Looks for connections that the first rules of a chain make a difference to.
    fn chain(&mut self, t: usize, c: usize, left: usize) {
        let table = &self.place.rules.tables[t];
        let paths = paths(table, c);
        let rules = &table.chains[c].rules;
        for (r, entry) in rules.iter().enumerate().take(left) {
            self.changed.rules.tables[t].chains[c].rules.remove(r);
            for conditions in variants(entry) {
                self.add(&paths, Some(entry), &conditions);
            }
            let changed = &mut self.changed.rules.tables[t].chains[c].rules;
            changed.insert(r, entry.clone());
            let next = rules.get(r + 1);
            if let Some(next) = next.filter(|next| decide_otherwise(entry, next)) {
                changed.swap(r, r + 1);
                let both = [entry.matches(), next.matches()].concat();
                self.add(&paths, Some(entry), &both);
                self.changed.rules.tables[t].chains[c].rules.swap(r, r + 1);
            }
        }
    }

    /// The same for the policy of a base chain that drops.
    fn policy(&mut self, t: usize, c: usize) {
        let table = &self.place.rules.tables[t];
        if let Some(base) = table.chains[c].base.filter(|base| !base.accepts) {
            let accepts = |accepts| Some(Base { accepts, ..base });
            self.changed.rules.tables[t].chains[c].base = accepts(true);
            self.add(&paths(table, c), None, &[]);
            self.changed.rules.tables[t].chains[c].base = accepts(false);
        }
    }

    /// Adds a connection that comes to the chain by some path, fulfils the conditions, as far as that
    /// can be had by choice, and to which the change makes a difference.
    fn add(&mut self, paths: &[Path], entry: Option<&Entry>, conditions: &[Match]) {
        let found = paths.iter().find_map(|path| {
            let conditions = [path.conditions.as_slice(), conditions].concat().into();
            let probes = self.candidates.probes(path, &conditions);
            let mut tried = probes.take(TRIES);
            tried.find(|probe| makes_a_difference(probe, entry, self.place, &self.changed))
        });
        self.probes
            .extend(found.filter(|probe| !self.probes.contains(probe)));
    }
}

/// Whether the order of two rules can matter.
fn decide_otherwise(entry: &Entry, next: &Entry) -> bool {
    entry.target().is_none() || entry.target() != next.target()
}

/// Whether the fate of a connection for which the rule is evaluated is another one with the other rules; of a rule
/// that cannot be decoded, whether it is evaluated.
fn makes_a_difference(
    probe: &Probe,
    entry: Option<&Entry>,
    place: &Place,
    changed: &Place,
) -> bool {
    let Ok(trace) = follow(probe, &place.rules, &place.network, &[]) else {
        return false;
    };
    let differs = || Fate::desired(probe, changed) != Fate::of(&trace);
    let Some(entry) = entry else {
        return differs();
    };
    let mut evaluated = trace.steps().filter(|(_, step)| step.rule == *entry);
    match entry {
        Entry::Known(_) => evaluated.any(|(_, step)| step.outcome.effect().is_some()) && differs(),
        _ => evaluated.next().is_some(),
    }
}
