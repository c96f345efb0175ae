//! What a backend found in the kernel.

use super::names::{ChainName, Family, TableName};
use super::{Rule, Target};
use std::collections::BTreeSet;

/// Everything one backend can see in one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    pub tables: Vec<LiveTable>,
}

impl Live {
    /// The table `name` of `family`, if it is there.
    pub fn table(&self, family: Family, name: TableName) -> Option<&LiveTable> {
        self.tables
            .iter()
            .find(|t| t.family == family && t.name == name)
    }
}

impl Live {
    /// The marks that chains of ours put on packets for TPROXY: the policy routes for them are ours.
    pub fn tproxy_marks(&self) -> BTreeSet<u32> {
        let chains = self.tables.iter().flat_map(|t| &t.chains);
        let rules = chains.filter(|c| c.name.is_ours()).flat_map(|c| &c.rules);
        let mark = |live: &LiveRule| match live.rule.as_ref()?.target {
            Target::Tproxy { value, .. } => Some(value),
            _ => None,
        };
        rules.filter_map(mark).collect()
    }
}

/// One table with all its chains, ours and foreign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTable {
    pub family: Family,
    pub name: TableName,
    pub chains: Vec<LiveChain>,
}

impl LiveTable {
    /// The chain called `name`, if it is there.
    pub fn chain(&self, name: &ChainName) -> Option<&LiveChain> {
        self.chains.iter().find(|c| c.name == *name)
    }
}

/// A chain and its rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveChain {
    pub name: ChainName,
    pub rules: Vec<LiveRule>,
}

/// A rule in the kernel. What cannot be decoded is kept opaque: never guessed, never lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRule {
    /// The rule, if the model can say it exactly.
    pub rule: Option<Rule>,
    /// The rule's comment, whoever wrote it.
    pub comment: Option<String>,
    /// Where the rule jumps or goes to, if it does.
    pub jump: Option<ChainName>,
    /// What iptables-save prints behind `-A CHAIN `, or a description where that is not known.
    pub text: String,
    /// nf_tables' handle; 0 where there is none.
    pub handle: u64,
}

impl LiveRule {
    /// A rule that was understood.
    pub fn known(rule: Rule, comment: Option<String>, handle: u64) -> Self {
        LiveRule {
            jump: match &rule.target {
                Target::Jump(chain) => Some(chain.clone()),
                _ => None,
            },
            text: rule.to_string(),
            comment,
            rule: Some(rule),
            handle,
        }
    }
}
