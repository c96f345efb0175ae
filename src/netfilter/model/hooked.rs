//! Rules with the hooks at which they are evaluated.

use super::field_test::FieldTest;
use super::matches::Match;
use super::names::{ChainName, Family, Hook, RuleId, TableName};
use super::{Chain, ObservedRule, ObservedTable, Rule, Ruleset, Target};
use std::collections::BTreeMap;
use std::fmt;

/// All tables that a packet traverses, of one or several backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub tables: Vec<HookedTable>,
}

/// A table with its chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookedTable {
    /// The usual name: `nat`, `prepare-proxy-nat`, `inet firewall`.
    pub name: String,
    /// Its family; `None` for both.
    pub family: Option<Family>,
    pub chains: Vec<HookedChain>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookedChain {
    pub name: ChainName,
    /// `None` for a chain that is only called by others.
    pub base: Option<Base>,
    pub rules: Vec<Entry>,
}

/// The hook of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub hook: Hook,
    /// Lower ones are evaluated first.
    pub priority: i32,
    /// Evaluated only for the first packet of a connection, until one such chain has decided.
    pub is_nat: bool,
    /// The route is looked up again if it changes the mark: OUTPUT of mangle, and chains of nft
    /// type `route`.
    pub reroutes: bool,
    pub accepts: bool,
}

/// One rule of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Known(Rule),
    /// A rule that could not be decoded completely: some matches, which must all hold, and perhaps
    /// the target are known.
    Undecoded {
        text: String,
        /// nf_tables' handle.
        handle: Option<u64>,
        matches: Vec<Match>,
        target: Option<Target>,
    },
    /// A rule with a verdict map or a NAT map of nft.
    Map {
        matches: Vec<Match>,
        map: TargetMap,
    },
    /// A rule that only counts or logs.
    Idle {
        text: String,
    },
}

/// The targets of a map by the values of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetMap {
    /// The fields, and the keys of the map.
    pub keys: FieldTest,
    /// The target of each key.
    pub targets: Vec<Target>,
    /// The target of all other values.
    pub default: Option<Target>,
}

impl TargetMap {
    /// How many entries are printed.
    const SHOWN: usize = 4;
}

impl fmt::Display for TargetMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, field) in self.keys.fields.iter().enumerate() {
            write!(f, "{}{field}", if i == 0 { "" } else { " . " })?;
        }
        if let Some(name) = &self.keys.set {
            return write!(f, " map @{name}");
        }
        f.write_str(" map { ")?;
        let entries = self.keys.values.iter().zip(&self.targets);
        for (i, (key, target)) in entries.take(Self::SHOWN).enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            self.keys.write_key(f, key)?;
            write!(f, " : {target}")?;
        }
        if self.targets.len() > Self::SHOWN {
            write!(f, ", … {} more", self.targets.len() - Self::SHOWN)?;
        }
        if let Some(target) = &self.default {
            write!(f, ", * : {target}")?;
        }
        f.write_str(" }")
    }
}

impl Rules {
    /// The desired ruleset, hooked like the tables of iptables.
    pub fn of(ruleset: &Ruleset) -> Self {
        let tables = ruleset.tables.iter().map(|table| HookedTable {
            name: table.name.to_string(),
            family: Some(table.family),
            chains: table
                .chains
                .iter()
                .map(|c| HookedChain::of(table.name, c))
                .collect(),
        });
        Rules {
            tables: tables.collect(),
        }
    }

    pub fn chains(&self) -> impl Iterator<Item = &HookedChain> {
        self.tables.iter().flat_map(|table| &table.chains)
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.chains().flat_map(|chain| &chain.rules)
    }

    /// Base chains of different tables with rules that are evaluated at the same hook and priority:
    /// a dump does not show their order.
    pub fn ties(&self, family: Family) -> Vec<Tie> {
        let sees = |table: &&HookedTable| table.family.is_none_or(|f| f == family);
        let mut found = BTreeMap::<_, Vec<(String, ChainName)>>::new();
        for table in self.tables.iter().filter(sees) {
            for chain in table.chains.iter().filter(|c| !c.rules.is_empty()) {
                if let Some(base) = chain.base {
                    let tied = found.entry((base.hook, base.moment())).or_default();
                    tied.push((table.name.clone(), chain.name.clone()));
                }
            }
        }
        let several = |chains: &[(String, ChainName)]| chains.iter().any(|c| c.0 != chains[0].0);
        let tied = found.into_iter().filter(|(_, chains)| several(chains));
        let tied = tied.map(|((hook, _), chains)| Tie { hook, chains });
        tied.collect()
    }

    /// The same rules with ties evaluated in the opposite order.
    pub fn in_the_other_order(&self) -> Self {
        Rules {
            tables: self.tables.iter().rev().cloned().collect(),
        }
    }
}

/// Base chains of different tables with one priority at one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    pub hook: Hook,
    /// Each with its table, in evaluation order.
    pub chains: Vec<(String, ChainName)>,
}

impl HookedChain {
    fn of(table: TableName, chain: &Chain) -> Self {
        HookedChain {
            name: chain.name.clone(),
            base: chain.name.hook().map(|hook| Base::of(table, hook)),
            rules: chain.rules.iter().cloned().map(Entry::Known).collect(),
        }
    }
}

impl HookedTable {
    /// A table of iptables, hooked by the names of its chains.
    pub fn observed(name: String, table: &ObservedTable) -> Self {
        let chains = table.chains.iter().map(|chain| {
            let base = chain.name.hook().map(|hook| Base::of(table.name, hook));
            HookedChain {
                name: chain.name.clone(),
                base: base.map(|base| Base {
                    accepts: !chain.drops,
                    ..base
                }),
                rules: chain.rules.iter().map(Entry::observed).collect(),
            }
        });
        HookedTable {
            name,
            family: Some(table.family),
            chains: chains.collect(),
        }
    }
}

impl Base {
    /// Its position at the hook. All NAT chains run at the priority of NAT; their own priority only
    /// orders them among each other (`nf_nat_register_fn`).
    pub fn moment(&self) -> (i32, i32) {
        match (self.is_nat, self.hook) {
            (false, _) => (self.priority, 0),
            (true, Hook::Input | Hook::Postrouting) => (100, self.priority),
            (true, _) => (-100, self.priority),
        }
    }

    /// The priority of iptables for this hook (`NF_IP_PRI_*`).
    pub fn of(table: TableName, hook: Hook) -> Self {
        let priority = match (table, hook) {
            (TableName::Raw, _) => -300,
            (TableName::Mangle, _) => -150,
            (TableName::Nat, Hook::Input | Hook::Postrouting) => 100,
            (TableName::Nat, _) => -100,
            (TableName::Filter, _) => 0,
        };
        Base {
            hook,
            priority,
            is_nat: table == TableName::Nat,
            reroutes: table == TableName::Mangle && hook == Hook::Output,
            accepts: true,
        }
    }
}

impl Entry {
    /// An observed rule.
    pub fn observed(observed: &ObservedRule) -> Self {
        match &observed.rule {
            Some(rule) => Entry::Known(rule.clone()),
            None if observed.only_logs() => Entry::Idle {
                text: observed.text.clone(),
            },
            None => match &observed.target {
                Some(target) if observed.matches.iter().all(Match::is_decoded) => Entry::Known(
                    Rule::without_comment(observed.matches.clone(), target.clone()),
                ),
                target => Entry::Undecoded {
                    text: observed.text.clone(),
                    handle: observed.handles.first().copied(),
                    matches: observed.matches.clone(),
                    target: target.clone(),
                },
            },
        }
    }

    /// The same rule if it is not known whether packets reach it.
    pub fn undetermined(self) -> Self {
        match self {
            Entry::Idle { .. } => self,
            entry => Entry::Undecoded {
                text: entry.text(),
                handle: None,
                matches: Vec::new(),
                target: entry.target().cloned(),
            },
        }
    }

    /// The rule as iptables or nft prints it, without a rule id.
    pub fn text(&self) -> String {
        match self {
            Entry::Known(rule) => rule.text(),
            Entry::Map { matches, map } => Rule::text_of(matches, &map.to_string()),
            Entry::Undecoded { text, .. } | Entry::Idle { text } => text.clone(),
        }
    }

    /// Whether it applies by chance.
    pub fn is_by_chance(&self) -> bool {
        let mut matches = self.matches().iter();
        matches.any(Match::is_by_chance)
            || matches!(self, Entry::Map { map, .. } if map.keys.is_by_chance())
    }

    /// The rule id, if it is managed.
    pub fn id(&self) -> Option<&RuleId> {
        match self {
            Entry::Known(rule) => rule.id.as_ref(),
            _ => None,
        }
    }

    /// The known matches.
    pub fn matches(&self) -> &[Match] {
        match self {
            Entry::Known(rule) => &rule.matches,
            Entry::Undecoded { matches, .. } | Entry::Map { matches, .. } => matches,
            Entry::Idle { .. } => &[],
        }
    }

    /// The target, if known and the same for all packets.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Entry::Known(rule) => Some(&rule.target),
            Entry::Undecoded { target, .. } => target.as_ref(),
            Entry::Map { .. } | Entry::Idle { .. } => None,
        }
    }
}
