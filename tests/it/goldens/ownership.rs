//! Managed and foreign rules are distinguished by what is in the kernel alone: with comments, and in a
//! kernel that has none.

use super::wanted;
use crate::cases;
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::model::{
    Match, Observed, ObservedChain, ObservedRule, ObservedTable, Protocol, Rule, Ruleset, Table,
    Target,
};

/// A rule that no mesh and no tool of one writes into a base chain.
fn foreign() -> Rule {
    Rule::without_comment([Match::protocol(Protocol::Udp)], Target::Accept)
}

/// What a kernel holds after the rules were written: in base chains behind a rule of somebody else.
fn observed(ruleset: &Ruleset) -> Observed {
    let known = |rule: &Rule| {
        let comment = rule.id.as_ref().map(ToString::to_string);
        ObservedRule::known(rule.clone(), comment, Vec::new())
    };
    let table = |table: &Table| ObservedTable {
        dormant: false,
        family: table.family,
        name: table.name,
        chains: table
            .chains
            .iter()
            .map(|chain| {
                let others = chain.name.hook().map(|_| known(&foreign()));
                ObservedChain {
                    name: chain.name.clone(),
                    drops: false,
                    rules: others
                        .into_iter()
                        .chain(chain.rules.iter().map(known))
                        .collect(),
                }
            })
            .collect(),
    };
    Observed {
        tables: ruleset.tables.iter().map(table).collect(),
        inet_tables: Vec::new(),
    }
}

/// How many chains and rules in base chains there are, and how many of these a clean would remove.
fn counts(ruleset: &Ruleset) -> [(usize, usize); 2] {
    let chains = ruleset.tables.iter().flat_map(|t| &t.chains);
    let (base, own): (Vec<_>, Vec<_>) = chains.partition(|c| c.name.hook().is_some());
    let change = plan(&observed(ruleset), &Ruleset::default());
    let removed = change.tables.iter().map(|t| t.remove.len()).sum();
    let deleted = change.tables.iter().flat_map(|t| &t.base);
    let rules = base.iter().map(|c| c.rules.len()).sum();
    [
        (own.len(), removed),
        (rules, deleted.map(|b| b.delete.len()).sum()),
    ]
}

#[test]
fn all_that_a_mesh_writes_is_found_again_and_nothing_else() {
    let cases = cases::all();
    for case in cases.iter().filter(|c| c.writes()) {
        let ruleset = wanted(case).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        for (kernel, ruleset) in [
            ("with comments", &ruleset),
            ("without comments", &ruleset.without_comments()),
        ] {
            let [chains, rules] = counts(ruleset);
            assert_eq!(chains.0, chains.1, "{}: chains, {kernel}", case.name);
            assert_eq!(rules.0, rules.1, "{}: rules, {kernel}", case.name);
        }
    }
}
