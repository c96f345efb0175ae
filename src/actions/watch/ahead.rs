//! Foreign rules that precede managed ones and decide. An apply does not move them, so a watch only
//! reports them.

use crate::mesh::managed::{Ours, is_our_chain};
use crate::netfilter::model::{Live, LiveChain, LiveRule, LiveTable, Target};
use std::collections::BTreeSet;

/// Such rules with their chains: `IPv4 nat OUTPUT: -p tcp -j REDIRECT --to-ports 9`.
pub(super) fn rules_ahead(live: &Live) -> BTreeSet<String> {
    let managed = Ours::among(live);
    let chains = live
        .tables
        .iter()
        .flat_map(|t| t.chains.iter().map(move |c| (t, c)))
        .filter(|(_, chain)| !is_our_chain(&chain.name));
    let ahead = |(table, chain): (&LiveTable, &LiveChain)| {
        let first = managed
            .rules(table.family, table.name, chain)
            .first()
            .copied();
        let before = chain.rules.iter().take_while(|rule| !same(rule, first));
        let deciding = before.filter(|rule| first.is_some() && decides(rule));
        let place = format!("{} {} {}", table.family, table.name, chain.name);
        let reported = deciding.map(|rule| format!("{place}: {}", rule.text));
        reported.collect::<Vec<_>>()
    };
    chains.flat_map(ahead).collect()
}

/// Whether both are the same rule, not just equal ones.
fn same(rule: &LiveRule, other: Option<&LiveRule>) -> bool {
    other.is_some_and(|other| std::ptr::eq(rule, other))
}

/// Whether a packet that matches the rule reaches no later one. Jumps to foreign chains are not
/// followed; counting, marking and logging do not decide.
fn decides(live: &LiveRule) -> bool {
    match live.rule.as_ref().map(|rule| &rule.target) {
        Some(
            Target::Accept
            | Target::Drop
            | Target::Return
            | Target::Reject(_)
            | Target::Redirect { .. }
            | Target::Tproxy { .. },
        ) => true,
        Some(_) => false,
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
    fn only_deciding_rules_before_managed_ones_are_reported() {
        let jump = || foreign(Target::Jump(ChainName::new("ISTIO_OUTPUT").unwrap()));
        let redirect = || foreign(Target::Redirect { to_port: 9 });
        let mark = foreign(Target::Mark { value: 1, mask: 1 });
        let reported = rules_ahead(&live(vec![
            mark,
            redirect(),
            jump(),
            foreign(Target::Accept),
        ]));
        let expected = "IPv4 nat OUTPUT: -j REDIRECT --to-ports 9";
        assert_eq!(reported.into_iter().collect::<Vec<_>>(), [expected]);
        // Without managed rules nothing precedes them.
        assert!(rules_ahead(&live(vec![redirect()])).is_empty());
        assert!(rules_ahead(&live(vec![jump(), redirect()])).is_empty());
    }
}
