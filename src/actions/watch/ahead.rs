//! Foreign rules that are asked before ours and decide: no apply moves them, so neither does a watch,
//! but it says that they are there.

use crate::mesh::managed::{Ours, is_our_chain};
use crate::netfilter::model::{Live, LiveChain, LiveRule, LiveTable, Target};
use std::collections::BTreeSet;

/// Each such rule with the chain that it is in: `IPv4 nat OUTPUT: -p tcp -j REDIRECT --to-ports 9`.
pub(super) fn rules_ahead(live: &Live) -> BTreeSet<String> {
    let ours = Ours::among(live);
    let chains = live
        .tables
        .iter()
        .flat_map(|t| t.chains.iter().map(move |c| (t, c)))
        .filter(|(_, chain)| !is_our_chain(&chain.name));
    let ahead = |(table, chain): (&LiveTable, &LiveChain)| {
        let first = ours.rules(table.family, table.name, chain).first().copied();
        let before = chain.rules.iter().take_while(|rule| !same(rule, first));
        let deciding = before.filter(|rule| first.is_some() && decides(rule));
        let place = format!("{} {} {}", table.family, table.name, chain.name);
        let told = deciding.map(|rule| format!("{place}: {}", rule.text));
        told.collect::<Vec<_>>()
    };
    chains.flat_map(ahead).collect()
}

/// Whether that is the very rule, not one that is like it.
fn same(rule: &LiveRule, other: Option<&LiveRule>) -> bool {
    other.is_some_and(|other| std::ptr::eq(rule, other))
}

/// Whether a packet that meets the rule comes to no other behind it. What is in a foreign chain is not
/// looked at, nor what only counts, marks or logs.
fn decides(live: &LiveRule) -> bool {
    let rule = live.rule.as_ref();
    let target = rule.map(|rule| &rule.target).or(live.target.as_ref());
    match target {
        Some(target) => matches!(
            target,
            Target::Accept
                | Target::Drop
                | Target::Return
                | Target::Reject(_)
                | Target::Redirect { .. }
                | Target::RedirectAmong(_)
                | Target::Dnat(_)
                | Target::Tproxy { .. }
        ),
        None => live.text.contains("DNAT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::model::{ChainName, Family, Match, Rule, TableName};

    fn live(rules: Vec<LiveRule>) -> Live {
        let name = ChainName::new("OUTPUT").unwrap();
        let chains = vec![LiveChain {
            name,
            rules,
            drops: false,
        }];
        Live {
            inet_tables: Vec::new(),
            tables: vec![LiveTable {
                family: Family::V4,
                name: TableName::Nat,
                dormant: false,
                chains,
            }],
        }
    }

    fn foreign(target: Target) -> LiveRule {
        let none: [Match; 0] = [];
        LiveRule::known(Rule::without_comment(none, target), None, Vec::new())
    }

    #[test]
    fn only_what_decides_before_ours_is_told() {
        let jump = || foreign(Target::Jump(ChainName::new("ISTIO_OUTPUT").unwrap()));
        let redirect = || foreign(Target::Redirect { to_port: 9 });
        let mark = foreign(Target::Mark { value: 1, mask: 1 });
        let told = rules_ahead(&live(vec![
            mark,
            redirect(),
            jump(),
            foreign(Target::Accept),
        ]));
        let expected = "IPv4 nat OUTPUT: -j REDIRECT --to-ports 9";
        assert_eq!(told.into_iter().collect::<Vec<_>>(), [expected]);
        // Where none of ours is, nothing stands before it.
        assert!(rules_ahead(&live(vec![redirect()])).is_empty());
        assert!(rules_ahead(&live(vec![jump(), redirect()])).is_empty());
    }
}
