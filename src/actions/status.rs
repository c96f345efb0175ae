//! `show`: what of ours is in the network namespace, in whichever store, and what it has counted.

use crate::engine::backends::{
    Backends, is_absence, is_uninspectable, read_until_unchanged, stores_besides,
};
use crate::engine::error::Error;
use crate::engine::privilege;
use crate::engine::reconcile::plan::plan;
use crate::mesh::managed::{self, tproxy_marks};
use crate::netfilter::model::{
    ChainName, Counters, Family, InetTable, Live, LiveChain, LiveRule, Routing, Rule, Ruleset,
    TableChange, TableName,
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

/// One store that holds something of ours.
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

/// Looks into every store.
///
/// # Errors
/// Where one that may hold something of ours cannot be read.
pub(super) fn status() -> Result<Status, Error> {
    privilege::require_net_admin()?;
    let mut shown = Status::default();
    let mut marks = BTreeSet::new();
    let mut backends = Backends::default();
    for store in stores_besides(None) {
        let mut backend = match backends.open_used(store) {
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
        let live = read_until_unchanged(|| backend.read_counted())?;
        marks.extend(tproxy_marks(&live));
        let chains = ours(&live);
        if !chains.is_empty() || !live.inet_tables.is_empty() {
            shown.stores.push(ShownStore {
                backend: backend.name(),
                chains,
                inet_tables: live.inet_tables,
            });
        }
    }
    let routing = rtnetlink::look(&Routing::default())?;
    let ours = managed::routing(&routing.candidates(), &marks);
    shown.routing = routing.present(&ours).map(|p| p.to_string()).collect();
    Ok(shown)
}

/// What a clean would remove.
fn ours(live: &Live) -> Vec<ShownChain> {
    let change = plan(live, &Ruleset::default());
    change
        .tables
        .iter()
        .flat_map(|table| of_table(live, table))
        .collect()
}

fn of_table(live: &Live, change: &TableChange) -> Vec<ShownChain> {
    let shown = |chain: &ChainName, ours: bool, rules: &[LiveRule]| ShownChain {
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
    let live = live.table(change.family, change.name);
    let chains = change.remove.iter().filter_map(|name| live?.chain(name));
    let own = chains.map(|LiveChain { name, rules, .. }| shown(name, true, rules));
    base.chain(own).collect()
}

impl ShownRule {
    fn of(live: &LiveRule) -> Self {
        let rule = live.rule.as_ref();
        let plain = rule.map(|rule| Rule {
            id: None,
            ..rule.clone()
        });
        let id = rule.and_then(|rule| Some(rule.id.as_ref()?.as_str().to_owned()));
        ShownRule {
            rule: plain.map_or_else(|| live.text.clone(), |rule| rule.to_string()),
            id: id.or_else(|| live.comment.clone()),
            counters: live.counters,
        }
    }
}
