//! The model: what is wanted in, or found in, one network namespace.
//!
//! Everything here is a plain value: no I/O, no backend, no mesh. A [`Rule`] is made of typed
//! [`Match`]es and a [`Target`]; each prints itself in the normal form of iptables-save(8), so that
//! the text, the netlink encoding and every comparison work on the same thing. The family is a
//! field, never a second copy.

mod change;
mod changed;
mod field;
mod field_test;
mod hooked;
mod live;
mod matches;
mod mismatch;
mod names;
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
pub use field::{Field, Value, number_of};
pub use field_test::{FieldTest, Found, Span};
pub use hooked::{Base, Entry, HookedChain, HookedTable, Rules, TargetMap, Tie};
pub use live::{Counters, Live, LiveChain, LiveRule, LiveTable, same_effects};
pub use matches::{Match, Owner, Test};
pub use names::{ChainName, Family, Hook, Interface, NameError, Protocol, RuleId, TableName};
pub use packet::{
    AddressType, ConnState, Connection, Credentials, Facts, FoundSocket, Packet, Side, Tracking,
};
pub use ports::{PortRange, PortSet};
pub use set::AddressSet;
pub use target::{NatTo, RejectWith, Target};

use serde::Serialize;
use std::fmt;

/// All tables, chains and rules wanted in one network namespace, for both families, with the
/// routes and addresses that they rely on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ruleset {
    /// At most one for each family and name, IPv4 first.
    pub tables: Vec<Table>,
    /// Policy routes and loopback addresses: up before the rules, down after them.
    pub routing: Routing,
}

impl Ruleset {
    /// The tables of one family, in their order.
    pub fn of(&self, family: Family) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(move |t| t.family == family)
    }

    /// The table `name` of `family`, if anything is wanted in it.
    pub fn table(&self, family: Family, name: TableName) -> Option<&Table> {
        self.of(family).find(|t| t.name == name)
    }

    /// How many rules there are in all tables of both families.
    pub fn rule_count(&self) -> usize {
        self.tables
            .iter()
            .flat_map(|t| &t.chains)
            .map(|c| c.rules.len())
            .sum()
    }

    /// The same rules, each with this label before its rule id: whose rules they are.
    pub fn labelled(mut self, label: &'static str) -> Self {
        for rule in self.rules_mut() {
            rule.id = rule.id.take().map(|id| id.labelled(label));
        }
        self
    }

    /// The same rules without a rule id: for kernels that have no xt comment match (gVisor).
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    pub family: Family,
    pub name: TableName,
    /// In the order in which a reader meets them; names are unique.
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

    /// The chain called `name`, made at the end of the table if it is not there yet.
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

/// A chain and its rules, first match wins. For a base chain these are our rules only; where they
/// stand among foreign ones is said by [`Rule::place`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
}

/// Where one of our rules goes in a base chain in which foreign rules stand too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Behind what is there (iptables `-A`).
    #[default]
    Tail,
    /// Before everything that is there (iptables `-I chain 1`).
    Head,
}

impl Place {
    fn is_tail(&self) -> bool {
        *self == Place::Tail
    }
}

/// One rule: every match must hold, then the target is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// In iptables-save's order, see [`Match::rank`].
    pub matches: Vec<Match>,
    pub target: Target,
    /// What the rule is for, shown as its comment, `label/id`. `None` only for rules read from a
    /// kernel, or where the kernel has no comment match.
    pub id: Option<RuleId>,
    #[serde(skip_serializing_if = "Place::is_tail")]
    pub place: Place,
}

impl Rule {
    /// A rule for the end of its chain. The matches are put into iptables-save's normal form: in
    /// its order, and without those that hold for every packet.
    pub fn new(
        id: impl Into<RuleId>,
        matches: impl IntoIterator<Item = Match>,
        target: Target,
    ) -> Self {
        Rule::without_comment(matches, target).commented(id.into())
    }

    /// A rule without a rule id, as read from a kernel.
    pub fn without_comment(matches: impl IntoIterator<Item = Match>, target: Target) -> Self {
        let mut matches: Vec<Match> = matches.into_iter().filter(|m| !m.is_always()).collect();
        matches.sort_by_key(Match::rank);
        Rule {
            matches,
            target,
            id: None,
            place: Place::default(),
        }
    }

    /// The same rule with this rule id.
    pub fn commented(self, id: RuleId) -> Self {
        Rule {
            id: Some(id),
            ..self
        }
    }

    /// The same rule for the head of its base chain.
    pub fn at_head(self) -> Self {
        Rule {
            place: Place::Head,
            ..self
        }
    }

    /// The protocol the rule asks for, which its port matches are about.
    pub fn protocol(&self) -> Option<Protocol> {
        self.matches.iter().find_map(|m| match m.test {
            Test::Protocol(p) if !m.not => Some(p),
            _ => None,
        })
    }

    /// Whether the rule asks for a protocol if it asks for ports, as iptables demands.
    pub fn has_protocol_of_ports(&self) -> bool {
        let of_ports = |m: &Match| matches!(m.test, Test::Port { .. } | Test::Multiport { .. });
        self.protocol().is_some() || !self.matches.iter().any(of_ports)
    }

    /// Whether both do the same: comments and places are not compared.
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
