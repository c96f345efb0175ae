//! What becomes of a connection by the rules: the desired ones, and those in the kernel.

use super::report::{Expected, Found, Means, Outcome, ReadFailure, Reason, Rule};
use crate::actions::explain::live_rules;
use crate::engine::error::Error;
use crate::mesh::managed;
use crate::netfilter::backend::BackendError;
use crate::netfilter::model::{Entry, Family, Routing, Rules, Test};
use crate::netfilter::trace::{
    Effect, End, Network, Probe, Start, Step, Trace, every_trace, follow,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Rules with the network that they are in.
pub(super) struct Place {
    pub rules: Rules,
    pub network: Network,
}

/// What becomes of a packet, as far as the rules are about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub end: Expected,
    mark: u32,
    connection_mark: u32,
    zone: u16,
}

/// What the rules in the kernel make of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    AsDesired,
    Differs {
        found: Found,
        by: Option<Rule>,
    },
    /// A foreign rule refuses it before it is captured, or where it is exempt.
    Refused(Rule),
    /// It depends on rules that cannot be decoded.
    Undecoded(Rule),
}

impl Fate {
    /// Nothing where there is no route, or where rules do not determine it.
    pub(super) fn desired(probe: &Probe, place: &Place) -> Option<Self> {
        // The chains of a mesh have no loops.
        Fate::of(&follow(probe, &place.rules, &place.network, &[]).ok()?)
    }

    pub(super) fn of(trace: &Trace) -> Option<Self> {
        let end = match &trace.end {
            End::Delivered { port, by: Some(_) } => Expected::Captured(*port),
            End::Delivered { by: None, .. } | End::Sent { .. } => Expected::Exempt,
            End::Rejected(_) => Expected::Refused,
            End::Dropped => Expected::Dropped,
            End::NoRoute | End::Unknown => return None,
        };
        Some(Fate {
            end,
            mark: trace.packet.mark,
            connection_mark: trace.packet.connection().map_or(0, |c| c.mark),
            zone: trace.packet.zone,
        })
    }
}

impl Place {
    /// Rules as they were read, with the policy routes that there are.
    pub(super) fn observed(rules: Rules, routing: Routing, network: &Network) -> Self {
        let network = Network {
            policy_routes: routing.policy_routes,
            ..network.clone()
        };
        Place { rules, network }
    }
}

/// The rules in the kernel, or why they cannot be read.
pub(super) fn in_kernel() -> Result<(Rules, Routing), ReadFailure> {
    live_rules().map_err(|e| match e {
        Error::NoNetAdmin(_) => ReadFailure::NetAdmin,
        Error::Backend(BackendError::LegacyUnknown { .. } | BackendError::NoRawSocket) => {
            ReadFailure::Legacy
        }
        e => ReadFailure::Kernel(e.to_string()),
    })
}

impl Judgement {
    /// The rule that decides, if it is known.
    pub(super) fn rule(self) -> Option<Rule> {
        match self {
            Judgement::AsDesired => None,
            Judgement::Differs { by, .. } => by,
            Judgement::Refused(rule) | Judgement::Undecoded(rule) => Some(rule),
        }
    }

    /// What that is to a connection that was not seen.
    pub(super) fn outcome(self, fate: Fate) -> Outcome {
        let (expected, means) = (fate.end, Means::Rules);
        match self {
            Judgement::AsDesired => Outcome::Holds { expected, means },
            Judgement::Differs { found, by } => Outcome::Fails {
                expected,
                found,
                means,
                by,
            },
            Judgement::Refused(by) => Outcome::Refused { expected, by },
            Judgement::Undecoded(rule) => Outcome::Inconclusive {
                expected: Some(expected),
                reason: Reason::Undecoded(rule),
            },
        }
    }
}

/// Follows a connection through the rules in the kernel, in all cases that rules which cannot be
/// decoded leave open.
pub(super) fn judge(probe: &Probe, desired: Fate, place: &Place) -> Judgement {
    match judge_one(probe, desired, place) {
        // A firewall may let in only some hosts, to the proxy's port as to any other.
        Judgement::Differs {
            found: Found::Lost(_),
            by: Some(rule),
        } if probe.start == Start::Outside && other_hosts_get_in(probe, desired, place) => {
            Judgement::Refused(rule)
        }
        judged => judged,
    }
}

/// Whether the connection is as desired from another host that rules name.
fn other_hosts_get_in(probe: &Probe, desired: Fate, place: &Place) -> bool {
    let matches = place.rules.entries().flat_map(Entry::matches);
    let hosts = matches.filter_map(|m| match m.test {
        Test::Source(net) if !m.not => net.hosts().next(),
        _ => None,
    });
    let hosts: BTreeSet<IpAddr> = hosts.collect();
    let of_family = |ip: &&IpAddr| Family::of(**ip) == probe.packet.family();
    hosts.iter().filter(of_family).any(|ip| {
        let mut other = probe.clone();
        other.packet.source.set_ip(*ip);
        judge_one(&other, desired, place) == Judgement::AsDesired
    })
}

/// The same, whoever else gets in.
pub(super) fn judge_one(probe: &Probe, desired: Fate, place: &Place) -> Judgement {
    let traces = every_trace(probe, &place.rules, &place.network).unwrap_or_default();
    let mut judged = traces.iter().map(|trace| judge_trace(trace, desired));
    let Some(first) = judged.next() else {
        return Judgement::Differs {
            found: Found::Dropped,
            by: None,
        };
    };
    let same = |j: &Judgement| std::mem::discriminant(j) == std::mem::discriminant(&first);
    match traces.iter().find_map(|trace| trace.undecoded.first()) {
        Some(undecoded) if !judged.all(|j| same(&j)) => Judgement::Undecoded(Rule {
            table: undecoded.table.clone(),
            chain: undecoded.chain.to_string(),
            rule: Some(undecoded.rule.clone()),
            managed: false,
        }),
        _ => first,
    }
}

fn judge_trace(trace: &Trace, desired: Fate) -> Judgement {
    let by = deciding_rule(trace);
    let otherwise = |found| Judgement::Differs {
        found,
        by: by.clone(),
    };
    let end = match (&trace.end, Fate::of(trace)) {
        (End::Unknown, _) => {
            return Judgement::Undecoded(by.unwrap_or_else(|| Rule {
                table: String::new(),
                chain: String::new(),
                rule: None,
                managed: false,
            }));
        }
        (_, None) => return otherwise(Found::Dropped),
        (_, Some(fate)) if fate == desired || differs_by_foreign_marks(trace, fate, desired) => {
            return Judgement::AsDesired;
        }
        (_, Some(fate)) => fate.end,
    };
    let refused = matches!(end, Expected::Dropped | Expected::Refused);
    match (captured_at(trace), by.clone()) {
        (Some(port), _) if refused => otherwise(Found::Lost(port)),
        (None, Some(rule)) if refused && !rule.managed => Judgement::Refused(rule),
        _ if end == desired.end => otherwise(Found::OtherMark),
        _ => otherwise(match end {
            Expected::Captured(port) => Found::Captured(Some(port)),
            Expected::Exempt => Found::Exempt,
            Expected::Refused => Found::Refused,
            Expected::Dropped => Found::Dropped,
        }),
    }
}

/// Whether both end differs_by_foreign_marks, and only foreign rules make another mark or zone of it.
fn differs_by_foreign_marks(trace: &Trace, fate: Fate, desired: Fate) -> bool {
    let marks = |s: &Step| {
        matches!(
            s.outcome.effect(),
            Some(Effect::Marked(_) | Effect::ConnectionMarked(_) | Effect::Zone(_))
        )
    };
    fate.end == desired.end && trace.steps().any(|(_, s)| marks(s) && !is_managed(s))
}

/// The port that a rule sent it to, whatever became of it there.
fn captured_at(trace: &Trace) -> Option<u16> {
    trace
        .steps()
        .find_map(|(_, step)| match step.outcome.effect()? {
            Effect::Redirected(to) => Some(to.port()),
            Effect::Tproxied { port, .. } => Some(*port),
            _ => None,
        })
}

/// The rule that decides, or the policy of a chain; if neither does, the last rule that did anything: a
/// goto past the others, or NOTRACK, without which there is no nat.
fn deciding_rule(trace: &Trace) -> Option<Rule> {
    let mut tables = trace.tables();
    let by_policy = tables.find(|t| t.policy == Some(false)).map(|t| Rule {
        table: t.table.clone(),
        chain: t.chain.to_string(),
        rule: None,
        managed: false,
    });
    let by_rule = || {
        let last = || {
            trace
                .steps()
                .filter(|(_, s)| s.outcome.effect().is_some())
                .last()
        };
        let (table, step) = trace.steps().find(|(_, s)| s.decides).or_else(last)?;
        Some(Rule {
            table: table.table.clone(),
            chain: step.chain.to_string(),
            rule: Some(step.rule.text()),
            managed: is_managed(step),
        })
    };
    by_policy.or_else(by_rule)
}

fn is_managed(step: &Step) -> bool {
    managed::is_managed_entry(&step.chain, &step.rule)
}
