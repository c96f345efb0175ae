//! The model: the desired and observed rules of one network namespace.
//!
//! Plain values without I/O, backend or mesh. A [`Rule`] consists of typed [`Match`]es and a
//! [`Target`]; each prints itself in the normal form of iptables-save(8), so that text, netlink
//! encoding and comparisons share one value. The family is a field, never a second copy.

mod change;
mod changed;
mod field;
mod field_test;
mod hooked;
mod json;
mod matches;
mod mismatch;
mod names;
mod observed;
mod packet;
mod ports;
mod routing;
mod set;
mod spelling;
#[cfg(test)]
pub(crate) mod strategy;
mod target;

pub use self::routing::{LoopbackAddress, PolicyRoute, Routing, RoutingPart};
pub use change::{BaseChange, ChainRewrite, Change, TableChange};
pub use field::{ECHO_REQUESTS, Field, Value, address_of, number_of};
pub use field_test::{FieldTest, Found, Span};
pub use hooked::{Base, Entry, HookedChain, HookedTable, Rules, TargetMap, Tie};
pub use matches::{Marked, Match, Owner, Test};
pub use names::{ChainName, Family, Hook, Interface, NameError, Protocol, RuleId, TableName};
pub use observed::{
    Counters, InetTable, Observed, ObservedChain, ObservedRule, ObservedTable, same_effects,
};
pub use packet::{
    AddressType, ConnState, Connection, Credentials, Facts, FoundSocket, Packet, Side, Tracking,
};
pub use ports::{PortRange, PortSet};
pub use set::AddressSet;
pub use target::{NatTo, RejectWith, Target};

use serde::{Deserialize, Serialize};
use std::fmt;

/// All desired tables, chains and rules of one network namespace, for both families, with the
/// routes and addresses that they need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    /// At most one for each family and name, IPv4 first.
    pub tables: Vec<Table>,
    /// Policy routes and loopback addresses, added before the rules and removed after them.
    pub routing: Routing,
}

impl Ruleset {
    pub fn of(&self, family: Family) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(move |t| t.family == family)
    }

    /// The table `name` of `family`, if it has desired rules.
    pub fn table(&self, family: Family, name: TableName) -> Option<&Table> {
        self.of(family).find(|t| t.name == name)
    }

    /// The number of rules.
    pub fn rule_count(&self) -> usize {
        self.rules().count()
    }

    pub fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.tables.iter().flat_map(|table| &table.chains)
    }

    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.chains().flat_map(|chain| &chain.rules)
    }

    /// Labels the comments of all rules with their mesh.
    pub fn labelled(mut self, label: &'static str) -> Self {
        for rule in self.rules_mut() {
            rule.id = rule.id.take().map(|id| id.labelled(label));
        }
        self
    }

    /// Removes all comments, for kernels without the xt comment match (gVisor).
    pub fn without_comments(&self) -> Self {
        let mut plain = self.clone();
        for rule in plain.rules_mut() {
            rule.id = None;
        }
        plain
    }

    fn rules_mut(&mut self) -> impl Iterator<Item = &mut Rule> {
        let chains = self.tables.iter_mut().flat_map(|t| &mut t.chains);
        chains.flat_map(|c| &mut c.rules)
    }
}

/// One table of one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub family: Family,
    pub name: TableName,
    /// In the order of output; names are unique.
    pub chains: Vec<Chain>,
}

impl Table {
    /// An empty table.
    pub fn new(family: Family, name: TableName) -> Self {
        Table {
            family,
            name,
            chains: Vec::new(),
        }
    }

    /// The chain called `name`, appended if missing.
    pub fn chain(&mut self, name: ChainName) -> &mut Chain {
        let at = match self.chains.iter().position(|c| c.name == name) {
            Some(at) => at,
            None => {
                self.chains.push(Chain {
                    name,
                    rules: Vec::new(),
                });
                self.chains.len() - 1
            }
        };
        &mut self.chains[at]
    }
}

/// A chain and its rules, first match wins. For a base chain only the managed rules;
/// [`Rule::place`] says where among foreign ones they go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    pub name: ChainName,
    pub rules: Vec<Rule>,
}

impl Chain {
    /// Appends a rule (iptables `-A`).
    pub fn rule(
        &mut self,
        id: impl Into<RuleId>,
        matches: impl IntoIterator<Item = Match>,
        target: Target,
    ) -> &mut Self {
        self.rules.push(Rule::new(id, matches, target));
        self
    }

    /// Keeps all rules before foreign ones.
    pub fn keep_first(&mut self) {
        for rule in &mut self.rules {
            rule.place = Place::First;
        }
    }
}

/// Where a managed rule goes in a base chain with foreign rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// After existing rules (iptables `-A`).
    #[default]
    Tail,
    /// Before existing rules (iptables `-I chain 1`).
    Head,
    /// The same, and no foreign rule may come before it later.
    First,
}

impl Place {
    fn is_tail(&self) -> bool {
        *self == Place::Tail
    }
}

/// One rule: every match must hold, then the target is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// In iptables-save's order, see [`Match::rank`].
    pub matches: Vec<Match>,
    pub target: Target,
    /// The rule id, shown as its comment `label/id`. `None` only for rules read from a kernel, or
    /// if the kernel has no comment match.
    pub id: Option<RuleId>,
    #[serde(default, skip_serializing_if = "Place::is_tail")]
    pub place: Place,
}

impl Rule {
    /// Creates a rule for the tail of its chain. The matches are normalised as by iptables-save: in
    /// its order, without those that match every packet.
    pub fn new(
        id: impl Into<RuleId>,
        matches: impl IntoIterator<Item = Match>,
        target: Target,
    ) -> Self {
        Rule::without_comment(matches, target).commented(id.into())
    }

    /// Creates a rule without a rule id.
    pub fn without_comment(matches: impl IntoIterator<Item = Match>, target: Target) -> Self {
        // There may be 100,000 rules: a filter would make room for four matches, and leave holes where
        // it is shrunk.
        let mut matches: Vec<Match> = matches.into_iter().collect();
        matches.retain(|m| !m.is_always());
        matches.shrink_to_fit();
        matches.sort_by_key(Match::rank);
        Rule {
            matches,
            target,
            id: None,
            place: Place::default(),
        }
    }

    /// The rule as iptables-save prints it, without its rule id.
    pub fn text(&self) -> String {
        let plain = Rule {
            id: None,
            ..self.clone()
        };
        plain.to_string()
    }

    /// Matches as iptables-save prints them, and what follows.
    pub fn text_of(matches: &[Match], rest: &str) -> String {
        let rule = Rule::without_comment(matches.iter().cloned(), Target::Accept).to_string();
        let text = format!("{}{rest}", rule.trim_end_matches("-j ACCEPT"));
        text.trim().to_owned()
    }

    /// Sets the rule id.
    pub fn commented(self, id: RuleId) -> Self {
        Rule {
            id: Some(id),
            ..self
        }
    }

    /// Places the rule at the head of its base chain.
    pub fn at_head(self) -> Self {
        Rule {
            place: Place::Head,
            ..self
        }
    }

    /// The protocol that the rule matches, which its port matches need.
    pub fn protocol(&self) -> Option<Protocol> {
        self.matches.iter().find_map(|m| match m.test {
            Test::Protocol(p) if !m.not => Some(p),
            _ => None,
        })
    }

    /// Whether the rule matches a protocol if it matches ports, as iptables requires.
    pub fn has_protocol_of_ports(&self) -> bool {
        let of_ports = |m: &Match| matches!(m.test, Test::Port { .. } | Test::Multiport { .. });
        self.protocol().is_some() || !self.matches.iter().any(of_ports)
    }

    /// Whether both have the same effect, regardless of comment and place.
    pub fn same_effect(&self, other: &Rule) -> bool {
        self.matches == other.matches && self.target == other.target
    }
}

/// The rule as iptables-save prints it behind `-A CHAIN `.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol();
        for m in &self.matches {
            m.write(f, protocol)?;
            f.write_str(" ")?;
        }
        if let Some(id) = &self.id {
            write!(f, "-m comment --comment \"{id}\" ")?;
        }
        let option = match self.target {
            Target::Goto(_) => "-g",
            _ => "-j",
        };
        write!(f, "{option} {}", self.target)
    }
}
