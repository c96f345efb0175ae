//! What managed rules that are in force decide, found from the hooks downwards.

use crate::actions::explain::connections::Direction;
use crate::mesh::managed;
use crate::netfilter::model::{
    Base, ChainName, Entry, Family, Hook, HookedChain, HookedTable, Match, Rules, Target,
};
use serde::Serialize;
use std::collections::BTreeSet;

/// How packets under some conditions are treated.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    pub direction: Direction,
    pub families: Vec<Family>,
    /// All must hold: those of the rule and of the rules that lead to it.
    pub matches: Vec<Match>,
    #[serde(flatten)]
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    Captured {
        port: u16,
        /// By TPROXY, with the mark that it gives.
        #[serde(skip_serializing_if = "Option::is_none")]
        mark: Option<u32>,
    },
    Exempt,
    Dropped,
}

/// A chain: its table, its family and its name.
pub(super) type Place = (String, Family, ChainName);

/// The decisions in the order of evaluation, and all chains that managed rules lead to.
pub(super) fn of(rules: &Rules) -> (Vec<Decision>, BTreeSet<Place>) {
    let mut found = Collector::default();
    for family in Family::ALL {
        let of_family = |t: &&HookedTable| t.family.is_none_or(|f| f == family);
        for table in rules.tables.iter().filter(of_family) {
            for chain in &table.chains {
                if let Some(base) = chain.base {
                    found.follow(chain, &Path::new(table, family, base));
                }
            }
        }
    }
    (found.decisions, found.reached)
}

#[derive(Default)]
struct Collector {
    decisions: Vec<Decision>,
    reached: BTreeSet<Place>,
}

/// The way to a chain.
#[derive(Clone)]
struct Path<'a> {
    table: &'a HookedTable,
    family: Family,
    base: Base,
    direction: Direction,
    /// How many managed chains were entered.
    depth: usize,
    matches: Vec<Match>,
}

impl Collector {
    fn follow(&mut self, chain: &HookedChain, path: &Path) {
        let rules = chain.rules.iter();
        for rule in rules.filter(|rule| managed::is_managed_entry(&chain.name, rule)) {
            let path = path.under(rule);
            match rule.target() {
                Some(Target::Jump(to) | Target::Goto(to)) => self.jump(to, path),
                Some(target) => {
                    if let Some(verdict) = path.verdict(target) {
                        self.add(&path, verdict);
                    }
                }
                None => {}
            }
        }
    }

    /// Adds a decision, or its family to the same one of another family.
    fn add(&mut self, path: &Path, verdict: Verdict) {
        let same = |d: &&mut Decision| {
            (d.direction, d.verdict) == (path.direction, verdict) && d.matches == path.matches
        };
        match self.decisions.iter_mut().find(same) {
            Some(decision) if decision.families.contains(&path.family) => {}
            Some(decision) => decision.families.push(path.family),
            None => self.decisions.push(Decision {
                direction: path.direction,
                families: vec![path.family],
                matches: path.matches.clone(),
                verdict,
            }),
        }
    }

    fn jump(&mut self, to: &ChainName, mut path: Path) {
        let mut chains = path.table.chains.iter();
        if let Some(chain) = chains.find(|c| c.name == *to) {
            self.reached
                .insert((path.table.name.clone(), path.family, to.clone()));
            path.depth += 1;
            self.follow(chain, &path);
        }
    }
}

impl<'a> Path<'a> {
    fn new(table: &'a HookedTable, family: Family, base: Base) -> Self {
        let direction = match base.hook {
            Hook::Output | Hook::Postrouting => Direction::Outbound,
            Hook::Prerouting | Hook::Input | Hook::Forward => Direction::Inbound,
        };
        Path {
            table,
            family,
            base,
            direction,
            depth: 0,
            matches: Vec::new(),
        }
    }

    /// With the conditions of a rule.
    fn under(&self, rule: &Entry) -> Self {
        let mut path = self.clone();
        let more = rule.matches().iter();
        let more = more.filter(|m| !self.matches.contains(m)).cloned();
        path.matches.extend(more);
        path
    }

    /// Only nat, and mangle with TPROXY, decide whether something is captured; RETURN from a chain that
    /// another managed one has called decides nothing.
    fn verdict(&self, target: &Target) -> Option<Verdict> {
        Some(match target {
            Target::Redirect { to_port } => Verdict::Captured {
                port: *to_port,
                mark: None,
            },
            Target::Tproxy { on_port, value, .. } => Verdict::Captured {
                port: *on_port,
                mark: Some(*value),
            },
            Target::Several(targets) => return self.verdict(targets.last()?),
            Target::Drop | Target::Reject(_) => Verdict::Dropped,
            Target::Return if self.depth <= 1 && self.captures() => Verdict::Exempt,
            Target::Accept if self.base.is_nat => Verdict::Exempt,
            _ => return None,
        })
    }

    fn captures(&self) -> bool {
        self.base.is_nat || self.base.hook == Hook::Prerouting
    }
}
