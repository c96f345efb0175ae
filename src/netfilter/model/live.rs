//! What a backend found in the kernel.

use super::names::{ChainName, Family, TableName};
use super::{Match, Rule, Target};
use serde::{Serialize, Serializer};
use std::fmt;

/// Everything one backend can see in one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    pub tables: Vec<LiveTable>,
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

impl Live {
    /// The table `name` of `family`, if it is there.
    pub fn table(&self, family: Family, name: TableName) -> Option<&LiveTable> {
        self.tables
            .iter()
            .find(|t| t.family == family && t.name == name)
    }
}

/// One table with its chains, managed and foreign. A backend may leave out foreign chains that no hook leads
/// to and in which nothing is managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTable {
    pub family: Family,
    pub name: TableName,
    /// No packet comes to its chains.
    pub dormant: bool,
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
    /// It is a base chain whose policy is to drop.
    pub drops: bool,
    pub rules: Vec<LiveRule>,
}

/// A rule in the kernel. What cannot be decoded is kept opaque: never guessed, never lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRule {
    /// The rule, if the model can say it exactly.
    pub rule: Option<Rule>,
    /// Of a rule that the model cannot say: matches of it that it can, which must all hold.
    pub matches: Vec<Match>,
    /// Of such a rule, its target if the model can say that; [`Target::Several`] of none if it only
    /// counts or logs.
    pub target: Option<Target>,
    /// The rule's comment, whoever wrote it.
    pub comment: Option<String>,
    /// Where the rule jumps or goes to, if it does.
    pub jump: Option<ChainName>,
    /// What iptables-save prints behind `-A CHAIN `, or a description where that is not known.
    pub text: String,
    /// nf_tables' handles of the rules that it is made of, in their order; none elsewhere.
    pub handles: Vec<u64>,
    /// What it has counted, if whoever read it asked for that.
    pub counters: Option<Counters>,
}

/// What has met a rule whole, since the rule was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
}

impl LiveRule {
    /// A rule that was understood.
    pub fn known(rule: Rule, comment: Option<String>, handles: Vec<u64>) -> Self {
        LiveRule {
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

    /// It leaves every packet as it is.
    pub(super) fn only_logs(&self) -> bool {
        matches!(&self.target, Some(Target::Several(targets)) if targets.is_empty())
    }

    /// The rule is not what it says, for where it stands.
    pub(crate) fn forget(&mut self) {
        if let Some(rule) = self.rule.take() {
            self.matches = rule.matches;
        }
    }
}

/// Whether the rules in the kernel do what is wanted, one by one and in the same order.
pub fn same_effects<'a>(
    live: impl Iterator<Item = &'a LiveRule>,
    wanted: impl Iterator<Item = &'a Rule>,
) -> bool {
    let live = live.map(|l| l.rule.as_ref());
    let agrees = |live: Option<&Rule>, wanted: &Rule| live.is_some_and(|l| l.same_effect(wanted));
    let (mut live, mut wanted) = (live, wanted);
    loop {
        match (live.next(), wanted.next()) {
            (None, None) => return true,
            (Some(l), Some(w)) if agrees(l, w) => {}
            _ => return false,
        }
    }
}
