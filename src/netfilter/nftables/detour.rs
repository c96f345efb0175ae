//! The long way round, for a change that is larger than one transaction may be.
//!
//! A chain of ours that packets come to cannot be emptied in one transaction and filled in the next.
//! So its new rules are first written to a chain beside it that nothing jumps to. The switch, which
//! is one small transaction over all tables of both families, lets the old chain jump there and do
//! nothing else. Then the same rules are written to the chain itself, behind that jump, where no
//! packet comes; and at last the jump goes, and the other chain.
//!
//! Between any two transactions packets meet the old rules or the new ones, all of them. What a killed
//! run leaves is ours by its name, and the next one goes on from there.

use super::dump::{self, Dump};
use super::expr::{Expr, Verdict};
use super::xt;
use crate::netfilter::model::{ChainName, ChainRewrite, Change, Rule, TableChange, Target};

/// What the name of a chain beside another one ends with.
const SUFFIX: &str = "-new";

/// A change in two steps, each with a switch of its own.
#[derive(Debug)]
pub(super) struct Detour {
    /// Everything is as it is wanted, but some chains only jump to where their rules are.
    pub there: Change,
    /// The rules are where they are wanted.
    pub back: Change,
}

impl Detour {
    /// Leads to where the change does, which was made from this dump.
    pub(super) fn around(change: &Change, dump: &Dump) -> Self {
        let (mut there, mut back) = (Change::default(), Change::default());
        for table in &change.tables {
            let found = dump.table(table.family, table.name);
            let (first, second) = around_table(table, found);
            there.tables.push(first);
            back.tables.extend(second);
        }
        Detour { there, back }
    }
}

fn around_table(
    change: &TableChange,
    found: Option<&dump::Table>,
) -> (TableChange, Option<TableChange>) {
    let is_live = |chain: &ChainRewrite| {
        let found = found.and_then(|t| t.chain(chain.name.as_str()));
        found.is_some_and(|c| Bypass::of(c, change).is_none())
    };
    let mut first = TableChange {
        rewrite: Vec::new(),
        ..change.clone()
    };
    let mut second = TableChange {
        rewrite: Vec::new(),
        remove: Vec::new(),
        base: Vec::new(),
        ..change.clone()
    };
    for chain in &change.rewrite {
        if !is_live(chain) {
            first.rewrite.push(chain.clone());
            continue;
        }
        let beside = beside(&chain.name, change, found);
        first.rewrite.push(ChainRewrite {
            name: beside.clone(),
            exists: false,
            rules: chain.rules.clone(),
        });
        first.rewrite.push(ChainRewrite {
            rules: only_jump(&beside, &chain.rules),
            ..chain.clone()
        });
        second.rewrite.push(chain.clone());
        second.remove.push(beside);
    }
    let any = !second.rewrite.is_empty();
    (first, any.then_some(second))
}

/// A name that no chain has, and that is as much ours as the chain's.
fn beside(chain: &ChainName, change: &TableChange, found: Option<&dump::Table>) -> ChainName {
    let free = |name: &ChainName| {
        found.is_none_or(|t| t.chain(name.as_str()).is_none())
            && change.rewrite.iter().all(|c| c.name != *name)
    };
    let mut names = (1u32..).map(|number| chain.with_suffix(&format!("{SUFFIX}{number}")));
    names
        .find(free)
        .expect("a table has fewer chains than there are numbers")
}

/// Rules that do what those of another chain do, whatever stands behind them.
fn only_jump(chain: &ChainName, rules: &[Rule]) -> Vec<Rule> {
    let why = rules.iter().find_map(|r| r.why.as_ref());
    let why = why.map(|w| w.with_id("while-rules-are-written"));
    let rule = |target| Rule {
        why: why.clone(),
        ..Rule::without_comment([], target)
    };
    vec![rule(Target::Jump(chain.clone())), rule(Target::Return)]
}

/// The handles of the rules with which a chain begins of which no packet sees the rest: it is on a
/// detour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bypass(pub [u64; 2]);

impl Bypass {
    /// The chain begins like this, and where its packets go is a chain that the change takes away.
    pub(super) fn of(chain: &dump::Chain, change: &TableChange) -> Option<Self> {
        let [jump, back, ..] = chain.rules.as_slice() else {
            return None;
        };
        match (always(jump)?, always(back)?) {
            (Verdict::Jump(to), Verdict::Return) => {
                let goes = change.remove.iter().any(|c| c.as_str() == to);
                goes.then_some(Bypass([jump.handle, back.handle]))
            }
            _ => None,
        }
    }
}

/// The verdict on every packet.
fn always(rule: &dump::Rule) -> Option<&Verdict> {
    let (last, others) = rule.exprs.split_last()?;
    let asks = |e: &Expr| *e != Expr::Counter && !xt::is_comment(e);
    match last {
        Expr::Verdict(verdict) if !others.iter().any(asks) => Some(verdict),
        _ => None,
    }
}
