//! States that the kernel may have after a fault.

use super::super::world;
use super::calls::Fault;
use crate::lab::{Done, Namespace};
use std::collections::{BTreeMap, BTreeSet};

const OWN: [&str; 2] = ["lookup 99", "table 99"];

/// The rules of each table, and managed routing.
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

    /// The tables that change in one transaction.
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

/// The first differences between two states.
fn difference(desired: &State, found: &State) -> String {
    let lines = |state: &State| -> Vec<String> {
        let chains = state.tables.values().flatten().flat_map(|c| c.lines());
        let lines = chains.chain(state.routing.iter().map(String::as_str));
        lines.map(str::to_owned).collect()
    };
    let (desired, found) = (lines(desired), lines(found));
    let missing = desired.iter().filter(|l| !found.contains(l));
    let surplus = found.iter().filter(|l| !desired.contains(l));
    let lines = missing.map(|l| format!("    - {l}\n"));
    let lines = lines.chain(surplus.map(|l| format!("    + {l}\n")));
    lines.take(6).collect()
}

/// The states before and after a run.
pub struct States {
    pub old: State,
    pub new: State,
    /// Whether all tables change in one transaction, otherwise each one of each family.
    pub whole: bool,
}

impl States {
    /// Fails unless each transaction is old or new as docs/limits.md allows, with routes for all
    /// rules that need them.
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

    /// Checks a successful run: everything is new and reported. An unused route and rules in tables
    /// that cannot be read may be left if that is reported.
    pub fn says_that_it_is_new(
        &self,
        found: &State,
        done: &Done,
        fault: &Fault,
    ) -> Result<(), String> {
        let idle = ["already in place", "nothing of a mesh was here"];
        let idle = idle.iter().any(|words| done.err.contains(words));
        // After a lost reply it cannot know which commit was its own.
        done.check(
            !idle || fault.call.starts_with("recv"),
            "it says that it did nothing",
        )?;
        if done.err.contains("rules there may be left") {
            return Ok(());
        }
        match done
            .err
            .contains("a policy route that no rule needs could not be removed")
        {
            true => self.has_new_rules(found),
            false => self.is_new(found),
        }
    }

    /// Checks a failed run: it reports the reason and what it has left.
    pub fn says_what_stands(
        &self,
        found: &State,
        done: &Done,
        fault: &Fault,
    ) -> Result<(), String> {
        // An unwritable log is empty.
        let heard = !done.err.is_empty() || fault.call == "write";
        done.check(heard, "it does not say why")?;
        let words = [
            "in place",
            "are removed",
            "changed already",
            "cannot be determined",
            "stay",
        ];
        let said = words.iter().any(|words| done.err.contains(words));
        done.check(
            *found == self.old || said,
            &self.tell("changed, and does not say so", found),
        )
    }

    /// Fails unless everything is new.
    pub fn is_new(&self, found: &State) -> Result<(), String> {
        self.has_new_rules(found)?;
        let mut surplus = found.routing.difference(&self.new.routing);
        // The route of another mark may outlive rules that a killed run removed.
        match surplus.all(|route| OWN.iter().any(|own| route.contains(own))) {
            true => Ok(()),
            false => Err(self.tell("routes of before", found)),
        }
    }

    /// Fails unless all rules are new and have their routes.
    fn has_new_rules(&self, found: &State) -> Result<(), String> {
        let routed = found.routing.is_superset(&self.new.routing);
        match found.tables == self.new.tables && routed {
            true => Ok(()),
            false => Err(self.tell("not the desired state", found)),
        }
    }

    /// What is wrong with a state.
    pub fn tell(&self, what: &str, found: &State) -> String {
        let [old, new] = [&self.old, &self.new].map(|state| difference(state, found));
        format!("{what}\n  against before:\n{old}  against what is desired:\n{new}")
    }
}
