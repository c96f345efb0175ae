//! How packets come to a chain.

use crate::netfilter::model::{Entry, Family, Hook, HookedTable, Match, Target};

/// How many paths to a chain are looked at, and how many jumps on each.
const PATHS: usize = 8;

/// From which hook packets come, and under which conditions.
pub(super) struct Path {
    pub hook: Hook,
    /// The only family of the table.
    pub family: Option<Family>,
    pub conditions: Vec<Match>,
}

pub(super) fn paths(table: &HookedTable, chain: usize) -> Vec<Path> {
    let mut found = Vec::new();
    let mut open = vec![(chain, Vec::new(), 0)];
    while let Some((at, conditions, depth)) = open.pop() {
        let chain = &table.chains[at];
        if let Some(base) = chain.base {
            found.push(Path {
                hook: base.hook,
                family: table.family,
                conditions: conditions.clone(),
            });
        }
        if found.len() == PATHS || depth == PATHS {
            continue;
        }
        for (from, caller) in table.chains.iter().enumerate().rev() {
            let leads = |entry: &&Entry| match entry.target() {
                Some(Target::Jump(to) | Target::Goto(to)) => *to == chain.name,
                _ => false,
            };
            let callers = caller.rules.iter().filter(leads).take(PATHS);
            let before = |entry: &Entry| [entry.matches(), &conditions].concat();
            open.extend(callers.map(|entry| (from, before(entry), depth + 1)));
        }
    }
    found
}
