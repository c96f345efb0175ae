//! `status`: what is installed, whether it is in force, and what it captures.

mod decisions;

pub use decisions::{Decision, Verdict};

use super::explain::table_name;
use super::installed::{self, Installed, ManagedChain};
use super::verify::{Ahead, ReadFailure, rules_ahead};
use crate::engine::error::Error;
use crate::engine::host;
use crate::engine::lock::LockName;
use crate::engine::privilege;
use crate::mesh::managed::{self, tproxy_marks};
use crate::netfilter::model::{
    ChainName, Counters, Family, InetTable, ObservedRule, PolicyRoute, Routing, Rule, Rules,
    Ruleset, TableName,
};
use crate::netfilter::rtnetlink;
use decisions::Place;
use serde::Serialize;
use std::collections::BTreeSet;

/// The options of `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Lists every rule with its counters.
    pub rules: bool,
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Status {
    pub state: State,
    /// The meshes whose names the chains have; nginmesh and Istio 1.0 use those of `istio`.
    pub meshes: Vec<&'static str>,
    pub backends: Vec<InBackend>,
    /// What rules that are in force decide, in the order of evaluation.
    pub decisions: Vec<Decision>,
    /// Policy routes and addresses, as the ip(8) commands that make them.
    pub routing: Vec<String>,
    pub not_in_force: Vec<NotInForce>,
    /// Foreign rules that take precedence.
    pub ahead: Vec<Ahead>,
    /// Traces of older tools, which an apply or a clean removes.
    pub leftovers: Vec<Leftover>,
    pub watch: Option<Watch>,
    /// What could not be read, and why.
    pub unseen: Vec<ReadFailure>,
    /// With [`Options::rules`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chains: Option<Vec<ShownChain>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    InForce,
    /// Rules are installed, and packets do not meet some of them.
    NotInForce,
    NotInstalled,
    /// Not everything could be read.
    Undetermined,
}

/// The managed rules of one backend.
#[derive(Debug, Serialize)]
pub struct InBackend {
    pub backend: &'static str,
    pub families: Vec<Family>,
    pub rules: usize,
}

/// Something installed that has no effect.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum NotInForce {
    /// The table has the flag `dormant`.
    Dormant { family: Family, table: String },
    /// No hook leads to the chain.
    Unreachable {
        family: Family,
        table: String,
        chain: ChainName,
    },
    /// There is no policy route for the mark that TPROXY gives to packets.
    NoRoute { family: Family, mark: u32 },
}

/// A trace of an older tool.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Leftover {
    /// A rule in a base chain, known by its looks alone.
    Rule {
        family: Family,
        table: TableName,
        chain: ChainName,
        rule: String,
    },
    Table(InetTable),
}

/// A running watch.
#[derive(Debug, Serialize)]
pub struct Watch {
    /// 0 if it is in another PID namespace.
    pub pid: i32,
    /// Seconds since it was started, if known.
    pub running_for: Option<u64>,
}

/// A managed chain, or one that holds managed rules: those alone.
#[derive(Debug, Serialize)]
pub struct ShownChain {
    pub backend: &'static str,
    pub family: Family,
    pub table: TableName,
    pub chain: ChainName,
    /// The chain itself is managed.
    pub managed: bool,
    pub rules: Vec<ShownRule>,
}

/// A rule in the kernel.
#[derive(Debug, Serialize)]
pub struct ShownRule {
    /// As iptables-save prints it behind `-A CHAIN `, without its comment.
    pub rule: String,
    /// What it is for, if its comment says so.
    pub id: Option<String>,
    #[serde(flatten)]
    pub counters: Option<Counters>,
}

/// Reads everything. What cannot be read for lack of privilege is part of the report.
///
/// # Errors
/// Where the kernel or a tool refuses to show rules for another reason.
pub(super) fn status(options: Options) -> Result<Status, Error> {
    let mut unseen = Vec::new();
    let (installed, foreign) = match privilege::require_net_admin() {
        Ok(()) => installed::read(options.rules, &mut |_| unseen.push(ReadFailure::Legacy))?,
        Err(_) => {
            unseen.push(ReadFailure::NetAdmin);
            Default::default()
        }
    };
    let found = rtnetlink::look(&Routing::default())?;
    let marks = installed.iter().flat_map(|i| tproxy_marks(&i.observed));
    let routing = managed::routing(&found.candidates(), &marks.collect());
    let all = || installed.iter();
    let (decisions, reached) = decisions::of(&Rules {
        tables: all().flat_map(Installed::hooked).collect(),
    });
    let mut not_in_force: Vec<_> = all().flat_map(|i| not_reached(i, &reached)).collect();
    not_in_force.dedup();
    not_in_force.extend(without_route(&decisions, &found.in_effect().policy_routes));
    let backends: Vec<_> = all().filter_map(InBackend::of).collect();
    let state = match not_in_force.is_empty() {
        _ if !unseen.is_empty() => State::Undetermined,
        _ if backends.is_empty() => State::NotInstalled,
        true => State::InForce,
        false => State::NotInForce,
    };
    let shown_routing = found.present(&routing).map(|p| p.to_string()).collect();
    let desired = Ruleset {
        routing,
        ..installed::ruleset(&installed)
    };
    let ahead = match state {
        State::Undetermined | State::NotInstalled => BTreeSet::new(),
        _ => rules_ahead(&desired, foreign)?,
    };
    Ok(Status {
        state,
        meshes: managed::meshes(all().flat_map(Installed::chains).map(|c| c.name)),
        backends,
        decisions,
        routing: shown_routing,
        not_in_force,
        ahead: ahead.into_iter().collect(),
        leftovers: all().flat_map(leftovers).collect(),
        watch: watch(),
        unseen,
        chains: options.rules.then(|| all().flat_map(shown).collect()),
    })
}

impl InBackend {
    fn of(installed: &Installed) -> Option<Self> {
        let mut families: Vec<Family> = installed.chains().map(|c| c.table.family).collect();
        families.sort_unstable();
        families.dedup();
        let rules = installed.chains().map(|c| c.rules.len()).sum();
        (!families.is_empty()).then_some(InBackend {
            backend: installed.backend,
            families,
            rules,
        })
    }
}

/// Managed chains that no packet meets.
fn not_reached(installed: &Installed, reached: &BTreeSet<Place>) -> Vec<NotInForce> {
    let missed = installed.chains().filter_map(|chain| {
        let table = table_name(installed.kind, chain.table.name);
        let place = (table, chain.table.family, chain.name.clone());
        if !chain.is_managed || reached.contains(&place) || !is_entrance(&chain) {
            return None;
        }
        let (table, family, name) = place;
        Some(match chain.table.dormant {
            true => NotInForce::Dormant { family, table },
            false => NotInForce::Unreachable {
                family,
                table,
                chain: name,
            },
        })
    });
    missed.collect()
}

/// Whether a hook must lead to the chain: no other managed chain does, and it divides packets. (Meshes
/// make chains that only redirect even where no rule uses them.)
fn is_entrance(chain: &ManagedChain) -> bool {
    let mut others = chain.table.chains.iter();
    let is_called = others.any(|other| {
        let mut rules = other.rules.iter();
        managed::is_managed_chain(&other.name)
            && rules.any(|rule| rule.jump.as_ref() == Some(chain.name))
    });
    let divides = chain.rules.len() > 1 || chain.rules.iter().any(|rule| rule.jump.is_some());
    divides && !is_called
}

/// The marks of TPROXY for which there is no policy route.
fn without_route(decisions: &[Decision], routes: &[PolicyRoute]) -> Vec<NotInForce> {
    let mut missing = Vec::new();
    for decision in decisions {
        let Verdict::Captured {
            mark: Some(mark), ..
        } = decision.verdict
        else {
            continue;
        };
        for family in &decision.families {
            let is_there = routes.iter().any(|r| (r.family, r.mark) == (*family, mark));
            let none = NotInForce::NoRoute {
                family: *family,
                mark,
            };
            if !is_there && !missing.contains(&none) {
                missing.push(none);
            }
        }
    }
    missing
}

/// Rules in base chains without a managed comment that jump to no managed chain, and tables.
fn leftovers(installed: &Installed) -> impl Iterator<Item = Leftover> {
    let base = installed.chains().filter(|chain| !chain.is_managed);
    let rules = base.flat_map(|chain| {
        let by_looks = |rule: &&ObservedRule| !managed::is_signed(rule);
        chain
            .rules
            .iter()
            .filter(by_looks)
            .map(move |rule| Leftover::Rule {
                family: chain.table.family,
                table: chain.table.name,
                chain: chain.name.clone(),
                rule: rule.text.clone(),
            })
    });
    let tables = installed.observed.inet_tables.iter().cloned();
    rules.chain(tables.map(Leftover::Table))
}

fn watch() -> Option<Watch> {
    let pid = LockName::Watch.holder()?.pid();
    let running_for = host::running_for(pid).map(|time| time.as_secs());
    Some(Watch { pid, running_for })
}

fn shown(installed: &Installed) -> impl Iterator<Item = ShownChain> {
    installed.chains().map(|chain| ShownChain {
        backend: installed.backend,
        family: chain.table.family,
        table: chain.table.name,
        chain: chain.name.clone(),
        managed: chain.is_managed,
        rules: chain.rules.iter().map(ShownRule::of).collect(),
    })
}

impl ShownRule {
    fn of(observed: &ObservedRule) -> Self {
        let rule = observed.rule.as_ref();
        let id = rule.and_then(|rule| Some(rule.id.as_ref()?.as_str().to_owned()));
        ShownRule {
            rule: rule.map_or_else(|| observed.text.clone(), Rule::text),
            id: id.or_else(|| observed.comment.clone()),
            counters: observed.counters,
        }
    }
}
