//! Rules, and where in a packet's way they are asked.

use super::matches::Match;
use super::names::{ChainName, Family, Hook, TableName, Why};
use super::{Chain, LiveRule, LiveTable, Rule, Ruleset, Target};

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
    /// The policy is to accept.
    pub accepts: bool,
}

/// One rule of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Known(Rule),
    /// A rule that the model cannot say. Of it are known some matches, which must all hold, and
    /// perhaps the target.
    Unread {
        text: String,
        matches: Vec<Match>,
        target: Option<Target>,
    },
    /// A rule that goes on to a chain which returns to where this chain would (nf_tables' `goto`).
    Goto {
        text: String,
        matches: Vec<Match>,
        chain: ChainName,
    },
    /// A rule that only counts or logs, for whomever.
    Idle {
        text: String,
    },
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
            accepts: true,
        }
    }
}

impl Entry {
    /// A rule as it was read.
    pub fn live(live: &LiveRule) -> Self {
        match &live.rule {
            Some(rule) => Entry::Known(rule.clone()),
            None => Entry::Unread {
                text: live.text.clone(),
                matches: live.matches.clone(),
                target: live.jump.clone().and_then(|name| match name.as_str() {
                    "ACCEPT" => Some(Target::Accept),
                    "DROP" => Some(Target::Drop),
                    "RETURN" => Some(Target::Return),
                    // `-g` leads elsewhere when it comes back.
                    _ => live.text.contains("-j ").then_some(Target::Jump(name)),
                }),
            },
        }
    }

    /// The rule as iptables-save prints it, without a comment of ours.
    pub fn text(&self) -> String {
        match self {
            Entry::Known(rule) => {
                let plain = Rule {
                    why: None,
                    ..rule.clone()
                };
                plain.to_string()
            }
            Entry::Unread { text, .. } | Entry::Goto { text, .. } | Entry::Idle { text } => {
                text.clone()
            }
        }
    }

    /// What the rule is for, if it is one of ours.
    pub fn why(&self) -> Option<&Why> {
        match self {
            Entry::Known(rule) => rule.why.as_ref(),
            Entry::Unread { .. } | Entry::Goto { .. } | Entry::Idle { .. } => None,
        }
    }

    /// What must hold, as far as it is known.
    pub fn matches(&self) -> &[Match] {
        match self {
            Entry::Known(rule) => &rule.matches,
            Entry::Unread { matches, .. } | Entry::Goto { matches, .. } => matches,
            Entry::Idle { .. } => &[],
        }
    }

    /// What happens then, if that is known.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Entry::Known(rule) => Some(&rule.target),
            Entry::Unread { target, .. } => target.as_ref(),
            Entry::Goto { .. } | Entry::Idle { .. } => None,
        }
    }
}
