//! `show`: what of ours is in the network namespace, in whichever kind, and what it has counted.

use crate::engine::backends::{
    Backends, is_absence, is_uninspectable, read_until_unchanged, table_kinds_besides,
};
use crate::engine::error::Error;
use crate::engine::privilege;
use crate::engine::reconcile::plan::plan;
use crate::mesh::managed::{self, tproxy_marks};
use crate::netfilter::model::{
    ChainName, Counters, Family, InetTable, Observed, ObservedChain, ObservedRule, Routing, Rule,
    Ruleset, TableChange, TableName,
};
use crate::netfilter::rtnetlink;
use serde::Serialize;
use std::collections::BTreeSet;

/// Everything of ours.
#[derive(Debug, Default, Serialize)]
pub struct Status {
    pub stores: Vec<ShownStore>,
    /// Policy routes and addresses, as ip(8) commands that make them.
    pub routing: Vec<String>,
}

/// One kind that holds something of ours.
#[derive(Debug, Serialize)]
pub struct ShownStore {
    /// The backend that looked.
    pub backend: &'static str,
    pub chains: Vec<ShownChain>,
    /// Tables of another tool, managed as a whole (`inet istio-proxy-nat`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inet_tables: Vec<InetTable>,
}

/// A chain of ours, or one that holds rules of ours: those alone.
#[derive(Debug, Serialize)]
pub struct ShownChain {
    pub family: Family,
    pub table: TableName,
    pub chain: ChainName,
    /// The chain itself is ours.
    pub ours: bool,
    pub rules: Vec<ShownRule>,
}

/// A rule in the kernel.
#[derive(Debug, Serialize)]
pub struct ShownRule {
    /// As iptables-save prints it behind `-A CHAIN `, without its comment.
    pub rule: String,
    /// What it is for, if it says so.
    pub id: Option<String>,
    #[serde(flatten)]
    pub counters: Option<Counters>,
}

/// Looks into every kind.
///
/// # Errors
/// Where one that may hold something of ours cannot be read.
pub(super) fn status() -> Result<Status, Error> {
    privilege::require_net_admin()?;
    let mut shown = Status::default();
    let mut marks = BTreeSet::new();
    let mut backends = Backends::default();
    for kind in table_kinds_besides(None) {
        let mut backend = match backends.open_used(kind) {
            Err(e) if is_absence(&e) => {
                log::debug!("skipped: {e}");
                continue;
            }
            Err(e) if is_uninspectable(&e) => {
                log::warn!("rules there are not shown: {e}");
                continue;
            }
            opened => opened?,
        };
        let observed = read_until_unchanged(|| backend.read_counted())?;
        marks.extend(tproxy_marks(&observed));
        let chains = ours(&observed);
        if !chains.is_empty() || !observed.inet_tables.is_empty() {
            shown.stores.push(ShownStore {
                backend: backend.name(),
                chains,
                inet_tables: observed.inet_tables,
            });
        }
    }
    let routing = rtnetlink::look(&Routing::default())?;
    let ours = managed::routing(&routing.candidates(), &marks);
    shown.routing = routing.present(&ours).map(|p| p.to_string()).collect();
    Ok(shown)
}

/// What a clean would remove.
fn ours(observed: &Observed) -> Vec<ShownChain> {
    let change = plan(observed, &Ruleset::default());
    change
        .tables
        .iter()
        .flat_map(|table| of_table(observed, table))
        .collect()
}

fn of_table(observed: &Observed, change: &TableChange) -> Vec<ShownChain> {
    let shown = |chain: &ChainName, ours: bool, rules: &[ObservedRule]| ShownChain {
        family: change.family,
        table: change.name,
        chain: chain.clone(),
        ours,
        rules: rules.iter().map(ShownRule::of).collect(),
    };
    let base = change
        .base
        .iter()
        .map(|base| shown(&base.chain, false, &base.delete));
    let observed = observed.table(change.family, change.name);
    let chains = change
        .remove
        .iter()
        .filter_map(|name| observed?.chain(name));
    let own = chains.map(|ObservedChain { name, rules, .. }| shown(name, true, rules));
    base.chain(own).collect()
}

impl ShownRule {
    fn of(observed: &ObservedRule) -> Self {
        let rule = observed.rule.as_ref();
        let plain = rule.map(|rule| Rule {
            id: None,
            ..rule.clone()
        });
        let id = rule.and_then(|rule| Some(rule.id.as_ref()?.as_str().to_owned()));
        ShownRule {
            rule: plain.map_or_else(|| observed.text.clone(), |rule| rule.to_string()),
            id: id.or_else(|| observed.comment.clone()),
            counters: observed.counters,
        }
    }
}
