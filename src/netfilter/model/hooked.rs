//! Rules, and where in a packet's way they are asked.

use super::field_test::FieldTest;
use super::matches::Match;
use super::names::{ChainName, Family, Hook, RuleId, TableName};
use super::{Chain, LiveRule, LiveTable, Rule, Ruleset, Target};
use std::collections::BTreeMap;
use std::fmt;

/// Every table that a packet may meet, from one store or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub tables: Vec<HookedTable>,
}

/// A table with its chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookedTable {
    /// As people call it: `nat`, `prepare-proxy-nat`, `inet firewall`.
    pub name: String,
    /// The family it sees; nothing if it sees both.
    pub family: Option<Family>,
    pub chains: Vec<HookedChain>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookedChain {
    pub name: ChainName,
    /// Nothing if packets only come here from other chains.
    pub base: Option<Base>,
    pub rules: Vec<Entry>,
}

/// What makes a chain a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub hook: Hook,
    /// Lower ones are asked first.
    pub priority: i32,
    /// It is asked about the first packet of a connection only, and only until one such chain has
    /// decided.
    pub is_nat: bool,
    /// The route is looked up again where it changes the mark: mangle's OUTPUT, and nftables' type
    /// `route`.
    pub reroutes: bool,
    /// The policy is to accept.
    pub accepts: bool,
}

/// One rule of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Known(Rule),
    /// A rule of which something could not be decoded. Known are some matches, which must all hold,
    /// and perhaps the target.
    Undecoded {
        /// As iptables or nft writes it.
        text: String,
        /// nf_tables' handle.
        handle: Option<u64>,
        matches: Vec<Match>,
        target: Option<Target>,
    },
    /// A rule that looks up what to do (nft's `vmap`, or nat to what a map says).
    Map {
        matches: Vec<Match>,
        map: TargetMap,
    },
    /// A rule that only counts or logs, for whomever.
    Idle {
        text: String,
    },
}

/// What to do, by what the packet has in some fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetMap {
    /// The fields, and the values that there is an entry for.
    pub keys: FieldTest,
    /// For each of the values.
    pub targets: Vec<Target>,
    /// For all others.
    pub default: Option<Target>,
}

impl TargetMap {
    /// How many entries are written out.
    const SHOWN: usize = 4;
}

/// As nft writes it.
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
    /// What a ruleset wants, hooked in as iptables' tables are.
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
}

impl Rules {
    /// Base chains of different tables, not without rules, that packets of a family come to at the
    /// same moment: which of them was hooked in first, no dump shows.
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

    /// The same rules, with the tables that come at the same moment the other way round.
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
    /// Each with its table, the one that is evaluated first in front.
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
    /// A table as iptables keeps it, hooked in by the names of its chains.
    pub fn live(name: String, table: &LiveTable) -> Self {
        let chains = table.chains.iter().map(|chain| {
            let base = chain.name.hook().map(|hook| Base::of(table.name, hook));
            HookedChain {
                name: chain.name.clone(),
                base: base.map(|base| Base {
                    accepts: !chain.drops,
                    ..base
                }),
                rules: chain.rules.iter().map(Entry::live).collect(),
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
    /// When it is evaluated at its hook. All chains of nat are at nat's own priority, whatever theirs
    /// is, which only orders them among one another (`nf_nat_register_fn`).
    pub fn moment(&self) -> (i32, i32) {
        match (self.is_nat, self.hook) {
            (false, _) => (self.priority, 0),
            (true, Hook::Input | Hook::Postrouting) => (100, self.priority),
            (true, _) => (-100, self.priority),
        }
    }

    /// Where iptables hooks in the chain of this hook (`NF_IP_PRI_*`).
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
    /// A rule as it was read.
    pub fn live(live: &LiveRule) -> Self {
        match &live.rule {
            Some(rule) => Entry::Known(rule.clone()),
            None if live.only_logs() => Entry::Idle {
                text: live.text.clone(),
            },
            None => match &live.target {
                Some(target) if live.matches.iter().all(Match::is_decoded) => {
                    Entry::Known(Rule::without_comment(live.matches.clone(), target.clone()))
                }
                target => Entry::Undecoded {
                    text: live.text.clone(),
                    handle: live.handles.first().copied(),
                    matches: live.matches.clone(),
                    target: target.clone(),
                },
            },
        }
    }

    /// The same rule where it is not known whether packets come to it.
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

    /// The rule as iptables or nft writes it, without a comment of ours.
    pub fn text(&self) -> String {
        match self {
            Entry::Known(rule) => {
                let plain = Rule {
                    id: None,
                    ..rule.clone()
                };
                plain.to_string()
            }
            Entry::Map { matches, map } => {
                let rule = Rule::without_comment(matches.iter().cloned(), Target::Accept);
                let text = rule.to_string();
                let matches = text.strip_suffix("-j ACCEPT").unwrap_or_default();
                format!("{matches}{map}")
            }
            Entry::Undecoded { text, .. } | Entry::Idle { text } => text.clone(),
        }
    }

    /// What the rule is for, if it is one of ours.
    pub fn id(&self) -> Option<&RuleId> {
        match self {
            Entry::Known(rule) => rule.id.as_ref(),
            _ => None,
        }
    }

    /// What must hold, as far as it is known.
    pub fn matches(&self) -> &[Match] {
        match self {
            Entry::Known(rule) => &rule.matches,
            Entry::Undecoded { matches, .. } | Entry::Map { matches, .. } => matches,
            Entry::Idle { .. } => &[],
        }
    }

    /// What happens then, if that is known and the same for all packets.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Entry::Known(rule) => Some(&rule.target),
            Entry::Undecoded { target, .. } => target.as_ref(),
            Entry::Map { .. } | Entry::Idle { .. } => None,
        }
    }
}
