//! What the kernel may hold after a fault.

use super::super::world;
use super::calls::Fault;
use crate::lab::{Done, Namespace};
use std::collections::{BTreeMap, BTreeSet};

/// A mark, and a table, that no mesh uses by itself.
const OWN: [&str; 2] = ["lookup 99", "table 99"];

/// The rules of each table, and what of routing is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    tables: BTreeMap<String, BTreeSet<String>>,
    routing: BTreeSet<String>,
}

impl State {
    pub fn of(namespace: &Namespace) -> Self {
        let (chains, routing) = world::seen(namespace);
        let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (table, chain) in chains {
            tables.entry(table).or_default().insert(chain);
        }
        State {
            tables,
            routing: routing.lines().map(str::to_owned).collect(),
        }
    }

    /// The tables that change as one, together.
    fn units(&self, whole: bool) -> BTreeMap<&str, Vec<&BTreeSet<String>>> {
        let mut units: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (table, chains) in &self.tables {
            let unit = match table {
                _ if table.starts_with("table ") => "nftables",
                _ if whole && !table.contains("-legacy") => "netlink",
                _ => table,
            };
            units.entry(unit).or_default().push(chains);
        }
        units
    }

    /// Whether packets are marked for a policy route.
    fn marks(&self) -> bool {
        let chains = self.tables.values().flatten();
        chains
            .clone()
            .any(|c| c.contains("--on-port") || c.contains("tproxy "))
    }
}

/// How a state differs from another, in the first few lines.
fn difference(wanted: &State, found: &State) -> String {
    let lines = |state: &State| -> Vec<String> {
        let chains = state.tables.values().flatten().flat_map(|c| c.lines());
        let lines = chains.chain(state.routing.iter().map(String::as_str));
        lines.map(str::to_owned).collect()
    };
    let (wanted, found) = (lines(wanted), lines(found));
    let missing = wanted.iter().filter(|l| !found.contains(l));
    let surplus = found.iter().filter(|l| !wanted.contains(l));
    let told = missing.map(|l| format!("    - {l}\n"));
    let told = told.chain(surplus.map(|l| format!("    + {l}\n")));
    told.take(6).collect()
}

/// The state before a run, and the one that it is to bring.
pub struct States {
    pub old: State,
    pub new: State,
    /// Whether all of nf_tables changes at once; else one table of one family does.
    pub whole: bool,
}

impl States {
    /// Fails unless each part is as it was, or as it is to be; docs/limits.md says which these are:
    /// what a backend changes at once, and routes, which are there as long as rules need them.
    pub fn allow(&self, found: &State) -> Result<(), String> {
        let (old, new) = (self.old.units(self.whole), self.new.units(self.whole));
        for (unit, tables) in found.units(self.whole) {
            let known = [&old, &new].iter().any(|s| s.get(unit) == Some(&tables));
            if !known {
                return Err(self.tell(&format!("{unit} is a mixture"), found));
            }
        }
        // What is missing may be missing.
        for unit in old.keys().filter(|unit| new.contains_key(*unit)) {
            if !found.units(self.whole).contains_key(unit) {
                return Err(self.tell(&format!("{unit} is empty"), found));
            }
        }
        let known: BTreeSet<_> = self.old.routing.union(&self.new.routing).cloned().collect();
        if !found.routing.is_subset(&known) {
            return Err(self.tell("unknown routes", found));
        }
        let routed = [&self.old, &self.new]
            .iter()
            .any(|s| s.routing.is_subset(&found.routing) && s.marks());
        match found.marks() && !routed {
            true => Err(self.tell("marked packets go nowhere", found)),
            false => Ok(()),
        }
    }

    /// A run that succeeded: all is as it is to be, and something was done for it. A route that nobody
    /// uses any more may stay, and rules in a store that we may not look into, if that is said.
    pub fn says_that_it_is_new(
        &self,
        found: &State,
        done: &Done,
        fault: &Fault,
    ) -> Result<(), String> {
        let idle = ["already in place", "nothing of a mesh was here"];
        let idle = idle.iter().any(|words| done.err.contains(words));
        // When the answer to a commit is lost, it cannot know whose the commit was.
        done.check(
            !idle || fault.call.starts_with("recv"),
            "it says that it did nothing",
        )?;
        if done.err.contains("rules there may be left") {
            return Ok(());
        }
        match done.err.contains("a route that no rule needs is left") {
            true => self.has_new_rules(found),
            false => self.is_new(found),
        }
    }

    /// A run that failed: it says why, and, unless all is as it was, what it has left.
    pub fn says_what_stands(
        &self,
        found: &State,
        done: &Done,
        fault: &Fault,
    ) -> Result<(), String> {
        // Of a log that cannot be written nothing is heard.
        let heard = !done.err.is_empty() || fault.call == "write";
        done.check(heard, "it does not say why")?;
        let words = [
            "in place",
            "are removed",
            "changed already",
            "cannot be told",
            "stay",
        ];
        let said = words.iter().any(|words| done.err.contains(words));
        done.check(
            *found == self.old || said,
            &self.tell("changed, and does not say so", found),
        )
    }

    /// Fails unless all is as it is to be.
    pub fn is_new(&self, found: &State) -> Result<(), String> {
        self.has_new_rules(found)?;
        let mut surplus = found.routing.difference(&self.new.routing);
        // Of a mark of its own, a route outlives the rules that a killed run removed.
        match surplus.all(|route| OWN.iter().any(|own| route.contains(own))) {
            true => Ok(()),
            false => Err(self.tell("routes of before", found)),
        }
    }

    /// Fails unless all rules are as they are to be, and have their routes.
    fn has_new_rules(&self, found: &State) -> Result<(), String> {
        let routed = found.routing.is_superset(&self.new.routing);
        match found.tables == self.new.tables && routed {
            true => Ok(()),
            false => Err(self.tell("not the wanted state", found)),
        }
    }

    /// What is wrong with a state.
    pub fn tell(&self, what: &str, found: &State) -> String {
        let [old, new] = [&self.old, &self.new].map(|state| difference(state, found));
        format!("{what}\n  against before:\n{old}  against what is wanted:\n{new}")
    }
}
