//! Foreign rules that translate inbound connections before ours redirect them: ports that docker publishes.

use super::explain::live;
use crate::mesh::config::{Config, Selection};
use crate::mesh::managed::is_our_chain;
use crate::netfilter::model::{
    Entry, Family, Hook, HookedChain, HookedTable, Match, Protocol, Rules, Side, Target, Test,
};
use std::collections::BTreeSet;

/// Those that a connection to a captured port may meet, each with its chain. None where the rules cannot be
/// read: nothing is wrong with ours.
pub(super) fn translated_first(config: &Config) -> Vec<String> {
    match live::rules() {
        Ok((rules, _)) => of(&rules, config),
        Err(e) => {
            log::debug!("whether foreign rules translate first is not known: {e}");
            Vec::new()
        }
    }
}

fn of(rules: &Rules, config: &Config) -> Vec<String> {
    let all = |table| {
        let table: &HookedTable = table;
        table.chains.iter().map(move |chain| (table, chain))
    };
    let mut chains: Vec<_> = rules.tables.iter().flat_map(all).collect();
    chains.retain(|(_, chain)| {
        let base = chain
            .base
            .filter(|b| b.is_nat && b.hook == Hook::Prerouting);
        base.is_some() && !chain.rules.is_empty()
    });
    chains.sort_by_key(|(_, chain)| chain.base.map(|base| base.moment()));
    // Each family has its own chain of ours.
    let mut search = Search {
        config,
        seen: BTreeSet::new(),
        found: Vec::new(),
    };
    let mut ended = BTreeSet::new();
    for (table, chain) in chains {
        if !ended.contains(&table.family) && search.comes_to_ours(table, chain) {
            ended.insert(table.family);
        }
    }
    search.found
}

struct Search<'a> {
    config: &'a Config,
    /// Chains that were looked into, each with its table.
    seen: BTreeSet<(String, Option<Family>, String)>,
    found: Vec<String>,
}

impl Search<'_> {
    /// Looks at the rules of a chain until the first of ours, and says whether there is one.
    fn comes_to_ours(&mut self, table: &HookedTable, chain: &HookedChain) -> bool {
        let name = chain.name.to_string();
        if !self.seen.insert((table.name.clone(), table.family, name)) {
            return false;
        }
        let config = self.config;
        let concerns = |rule: &&Entry| rule.matches().iter().all(|m| may_match(m, config));
        for rule in chain.rules.iter().filter(concerns) {
            match rule.target() {
                Some(Target::Jump(to) | Target::Goto(to)) if is_our_chain(to) => return true,
                Some(Target::Jump(to) | Target::Goto(to)) => {
                    let to = table.chains.iter().find(|c| c.name == *to);
                    if to.is_some_and(|to| self.comes_to_ours(table, to)) {
                        return true;
                    }
                }
                Some(target) if !translates(target) => {}
                None if !matches!(rule, Entry::Map { map, .. } if map.targets.iter().any(translates)) =>
                    {}
                _ => self.found.push(format!("{}: {}", chain.name, rule.text())),
            }
        }
        false
    }
}

fn translates(target: &Target) -> bool {
    match target {
        Target::Several(targets) => targets.iter().any(translates),
        Target::Dnat(_) | Target::Redirect { .. } | Target::RedirectAmong(_) => true,
        _ => false,
    }
}

/// Whether TCP to a captured port may match.
fn may_match(m: &Match, config: &Config) -> bool {
    match &m.test {
        Test::Protocol(protocol) => (*protocol == Protocol::Tcp) != m.not,
        Test::Port {
            side: Side::Destination,
            ports,
        } if ports.first() == ports.last() && !m.not => is_captured(ports.first(), config),
        _ => true,
    }
}

fn is_captured(port: u16, config: &Config) -> bool {
    match &config.inbound_ports {
        Selection::All => !config
            .inbound_exclude_ports
            .iter()
            .any(|p| p.contains(port)),
        Selection::Only(ports) => ports.iter().any(|p| p.contains(port)),
    }
}
