//! The order of changes that cannot be one transaction.
//!
//! iptables-restore commits table by table. Where inbound capture moves from one table to another
//! (REDIRECT is in nat, TPROXY in mangle), a table that only loses rules is changed after the
//! others have gained theirs, and one that does both is changed twice. In between both capture, so
//! that no connection bypasses the proxy.

use crate::netfilter::model::{BaseChange, Change, Family, ObservedRule, Rule, TableChange};

/// The steps for one family: all additions, then all removals. A single table changes at once.
pub(super) fn steps(change: &Change, family: Family) -> Vec<TableChange> {
    let tables: Vec<&TableChange> = change
        .tables
        .iter()
        .filter(|t| t.family == family)
        .collect();
    if let [table] = tables[..] {
        return vec![table.clone()];
    }
    let (gains, losses): (Vec<_>, Vec<_>) = tables.into_iter().map(split).unzip();
    gains.into_iter().chain(losses).flatten().collect()
}

/// The additions and removals of a table; empty steps are omitted.
fn split(table: &TableChange) -> (Option<TableChange>, Option<TableChange>) {
    let added: Vec<BaseChange> = table.base.iter().map(additions).collect();
    let gains = !table.rewrite.is_empty() || added.iter().any(adds);
    let loses = !table.remove.is_empty() || table.base.iter().any(loses_rules);
    match (gains, loses) {
        (true, true) => {}
        (_, false) => return (Some(table.clone()), None),
        (false, true) => return (None, Some(table.clone())),
    }
    let swap = |(base, added)| swap(base, added);
    let last = TableChange {
        rewrite: Vec::new(),
        base: table.base.iter().zip(&added).map(swap).collect(),
        ..table.clone()
    };
    let first = TableChange {
        remove: Vec::new(),
        base: added,
        ..table.clone()
    };
    (Some(first), Some(last))
}

/// The rules missing in a base chain.
fn additions(base: &BaseChange) -> BaseChange {
    let new = |rules: &[Rule]| {
        let rules = rules.iter().filter(|rule| !holds(&base.delete, rule));
        rules.cloned().collect()
    };
    BaseChange {
        chain: base.chain.clone(),
        delete: Vec::new(),
        head: new(&base.head),
        tail: new(&base.tail),
    }
}

/// The whole change of a base chain after these additions: they are deleted with the old rules, as
/// rules are deleted by text, and all are added in their order.
fn swap(base: &BaseChange, added: &BaseChange) -> BaseChange {
    let added = added.head.iter().chain(&added.tail);
    let added = added.map(|rule| ObservedRule::known(rule.clone(), None, Vec::new()));
    BaseChange {
        delete: base.delete.iter().cloned().chain(added).collect(),
        ..base.clone()
    }
}

fn adds(base: &BaseChange) -> bool {
    !base.head.is_empty() || !base.tail.is_empty()
}

fn loses_rules(base: &BaseChange) -> bool {
    let wanted = || base.head.iter().chain(&base.tail);
    let stays = |old: &ObservedRule| wanted().any(|new| old.text == new.to_string());
    !base.delete.iter().all(stays)
}

fn holds(rules: &[ObservedRule], rule: &Rule) -> bool {
    let text = rule.to_string();
    rules.iter().any(|old| old.text == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::model::{ChainName, ChainRewrite, Match, Protocol, TableName, Target};
    use proptest::prelude::*;

    /// A jump named by a letter.
    fn rule(letter: char) -> Rule {
        let chain = ChainName::new(&format!("ISTIO_{letter}")).unwrap();
        Rule::without_comment([Match::protocol(Protocol::Tcp)], Target::Jump(chain))
    }

    fn rules(letters: &str) -> Vec<Rule> {
        letters.chars().map(rule).collect()
    }

    /// A table whose PREROUTING changes from the rules `old` to others, with chains added and
    /// removed.
    fn table(name: TableName, old: &str, head: &str, tail: &str) -> TableChange {
        let gone = old
            .chars()
            .filter(|c| !head.contains(*c) && !tail.contains(*c));
        let new = head
            .chars()
            .chain(tail.chars())
            .filter(|c| !old.contains(*c));
        let chain = |c: char| ChainName::new(&format!("ISTIO_{c}")).unwrap();
        TableChange {
            family: Family::V4,
            name,
            wake: false,
            accept: Vec::new(),
            rewrite: new
                .map(|c| ChainRewrite {
                    name: chain(c),
                    exists: false,
                    rules: Vec::new(),
                })
                .collect(),
            remove: gone.map(chain).collect(),
            base: vec![BaseChange {
                chain: ChainName::PREROUTING,
                delete: rules(old)
                    .into_iter()
                    .map(|r| ObservedRule::known(r, None, Vec::new()))
                    .collect(),
                head: rules(head),
                tail: rules(tail),
            }],
        }
    }

    /// PREROUTING of a table after some steps, with foreign rules among managed ones.
    fn after(mut held: Vec<String>, steps: &[TableChange], name: TableName) -> Vec<String> {
        for base in steps
            .iter()
            .filter(|t| t.name == name)
            .flat_map(|t| &t.base)
        {
            for old in &base.delete {
                let at = held
                    .iter()
                    .position(|r| *r == old.text)
                    .expect("it is there");
                held.remove(at);
            }
            for (at, rule) in base.head.iter().enumerate() {
                held.insert(at, rule.to_string());
            }
            held.extend(base.tail.iter().map(Rule::to_string));
        }
        held
    }

    fn names(steps: &[TableChange]) -> Vec<TableName> {
        steps.iter().map(|t| t.name).collect()
    }

    fn steps_of(tables: [TableChange; 2]) -> Vec<TableChange> {
        steps(
            &Change {
                tables: tables.into(),
                remove: Vec::new(),
            },
            Family::V4,
        )
    }

    #[test]
    fn removals_follow_additions_in_other_tables() {
        use TableName::{Mangle, Nat};
        let to_nat = steps_of([table(Mangle, "a", "", ""), table(Nat, "", "", "a")]);
        assert_eq!(names(&to_nat), [Nat, Mangle]);
        let to_mangle = steps_of([table(Mangle, "", "", "a"), table(Nat, "a", "", "")]);
        assert_eq!(names(&to_mangle), [Mangle, Nat]);
        let both = steps_of([table(Mangle, "a", "", "b"), table(Nat, "b", "", "a")]);
        assert_eq!(names(&both), [Mangle, Nat, Mangle, Nat]);
    }

    #[test]
    fn a_table_alone_changes_at_once() {
        let change = Change {
            tables: vec![table(TableName::Nat, "ab", "c", "a")],
            remove: Vec::new(),
        };
        assert_eq!(steps(&change, Family::V4), change.tables);
        assert_eq!(steps(&change, Family::V6), []);
    }

    proptest! {
        /// In any order, all new rules exist before old ones are removed, and the result is that of
        /// a single change.
        #[test]
        fn no_rule_is_removed_before_all_are_added(
            old in "[a-d]{0,4}", head in "[a-f]{0,3}", tail in "[a-f]{0,3}", other in "[a-c]{0,2}", new in "[a-c]{0,2}",
        ) {
            let held: Vec<String> = ["foreign".to_owned()]
                .into_iter()
                .chain(rules(&old).iter().map(Rule::to_string))
                .chain(["foreign too".to_owned()])
                .collect();
            let change = [table(TableName::Mangle, &old, &head, &tail), table(TableName::Nat, &other, "", &new)];
            let steps = steps_of(change.clone());
            let at_once = after(held.clone(), &change, TableName::Mangle);
            prop_assert_eq!(&after(held.clone(), &steps, TableName::Mangle), &at_once);

            let loses = |t: &TableChange| !t.remove.is_empty();
            let first_loss = steps.iter().position(loses).unwrap_or(steps.len());
            let before_it = after(held, &steps[..first_loss], TableName::Mangle);
            for rule in rules(&head).iter().chain(&rules(&tail)) {
                prop_assert!(before_it.contains(&rule.to_string()), "{rule}");
            }
            let comes = |t: &TableChange| !t.rewrite.is_empty();
            prop_assert!(!steps[first_loss..].iter().any(comes));
        }
    }
}
