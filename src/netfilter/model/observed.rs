//! The observed state of the kernel.

use super::names::{ChainName, Family, TableName};
use super::{Match, Rule, Target};
use serde::{Serialize, Serializer};
use std::fmt;

/// All tables of one backend in one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub tables: Vec<ObservedTable>,
    /// Managed as a whole, whatever is in them.
    pub inet_tables: Vec<InetTable>,
}

/// A table of nf_tables' family `inet`, by its name. Only other tools have such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InetTable(pub String);

/// As nft(8) names it.
impl fmt::Display for InetTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inet {}", self.0)
    }
}

impl Serialize for InetTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Observed {
    /// The table `name` of `family`, if it is there.
    pub fn table(&self, family: Family, name: TableName) -> Option<&ObservedTable> {
        self.tables
            .iter()
            .find(|t| t.family == family && t.name == name)
    }
}

/// A table with its chains, managed and foreign. A backend may omit foreign chains that no hook
/// leads to and that hold nothing managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedTable {
    pub family: Family,
    pub name: TableName,
    /// Its chains are not in force.
    pub dormant: bool,
    pub chains: Vec<ObservedChain>,
}

impl ObservedTable {
    /// The chain called `name`, if it is there.
    pub fn chain(&self, name: &ChainName) -> Option<&ObservedChain> {
        self.chains.iter().find(|c| c.name == *name)
    }
}

/// A chain and its rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedChain {
    pub name: ChainName,
    /// A base chain whose policy drops.
    pub drops: bool,
    pub rules: Vec<ObservedRule>,
}

/// A rule in the kernel. What cannot be decoded is kept as text, never guessed or lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedRule {
    /// The rule, if the model can express it exactly.
    pub rule: Option<Rule>,
    /// Otherwise the decoded matches, which must all hold.
    pub matches: Vec<Match>,
    /// Otherwise the target, if decoded; an empty [`Target::Several`] if the rule only counts or
    /// logs.
    pub target: Option<Target>,
    /// The rule's comment, of any origin.
    pub comment: Option<String>,
    /// The chain that the rule jumps or goes to.
    pub jump: Option<ChainName>,
    /// What iptables-save prints behind `-A CHAIN `, or a description where that is not known.
    pub text: String,
    /// nf_tables' handles of the kernel's rules that it consists of; otherwise empty.
    pub handles: Vec<u64>,
    /// Its counters, if they were read.
    pub counters: Option<Counters>,
}

/// Packets and bytes that have matched a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
}

impl ObservedRule {
    /// A decoded rule.
    pub fn known(rule: Rule, comment: Option<String>, handles: Vec<u64>) -> Self {
        ObservedRule {
            jump: match &rule.target {
                Target::Jump(chain) | Target::Goto(chain) => Some(chain.clone()),
                _ => None,
            },
            text: rule.to_string(),
            matches: Vec::new(),
            target: None,
            comment,
            rule: Some(rule),
            handles,
            counters: None,
        }
    }

    /// Whether it only counts or logs.
    pub(super) fn only_logs(&self) -> bool {
        matches!(&self.target, Some(Target::Several(targets)) if targets.is_empty())
    }

    /// Discards the decoded rule, because its chain is hooked elsewhere.
    pub(crate) fn forget(&mut self) {
        if let Some(rule) = self.rule.take() {
            self.matches = rule.matches;
        }
    }
}

/// Whether observed and desired rules have the same effects in the same order.
pub fn same_effects<'a>(
    observed: impl Iterator<Item = &'a ObservedRule>,
    wanted: impl Iterator<Item = &'a Rule>,
) -> bool {
    let observed = observed.map(|l| l.rule.as_ref());
    let agrees =
        |observed: Option<&Rule>, wanted: &Rule| observed.is_some_and(|l| l.same_effect(wanted));
    let (mut observed, mut wanted) = (observed, wanted);
    loop {
        match (observed.next(), wanted.next()) {
            (None, None) => return true,
            (Some(l), Some(w)) if agrees(l, w) => {}
            _ => return false,
        }
    }
}
