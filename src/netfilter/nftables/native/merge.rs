//! Merges runs of rules into rules with sets.

use crate::netfilter::model::{
    AddressSet, Chain, Match, PortRange, PortSet, Rule, Ruleset, Side, Table, Target, Test,
};
use ipnet::IpNet;

/// The minimum length of a run; shorter ones are faster than a set lookup.
const RUN: usize = 4;

/// The maximum length of a set of addresses. For each part of a dump the kernel walks a set from its
/// start, so that reading a set takes time that is quadratic in its length.
const SET: usize = 8192;

/// Merges every run of rules that differ only in their destination or only in a port into one rule
/// with a set, or into several with long sets. The effect on packets is unchanged.
///
/// Ports are sorted and sets of one range avoided, so that equal sets are equal values.
pub(crate) fn merged_into_sets(ruleset: &Ruleset) -> Ruleset {
    let tables = ruleset.tables.iter().map(|table| Table {
        chains: table.chains.iter().map(|c| merge_chain(c, table)).collect(),
        ..Table::new(table.family, table.name)
    });
    Ruleset {
        tables: tables.collect(),
        routing: ruleset.routing.clone(),
    }
}

fn merge_chain(chain: &Chain, table: &Table) -> Chain {
    let mut rules = Vec::new();
    let mut rest = chain.rules.as_slice();
    while let Some(first) = rest.first() {
        let run = [Varying::Destination, Varying::Port]
            .into_iter()
            .filter_map(|varying| Run::of(rest, varying))
            .find(|run| run.rules.len() >= RUN && run.may_be_one(table));
        let merged = run.and_then(|run| Some((run.merged()?, run.rules.len())));
        let (merged, length) = merged.unwrap_or_else(|| (vec![first.clone()], 1));
        rules.extend(merged.into_iter().map(normal));
        rest = &rest[length..];
    }
    Chain {
        name: chain.name.clone(),
        rules,
    }
}

/// The match that varies in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Varying {
    Destination,
    Port,
}

impl Varying {
    /// Its index in a rule; only if it occurs once and is not negated.
    fn position(self, rule: &Rule) -> Option<usize> {
        let varies = |m: &&Match| match m.test {
            Test::Destination(_) => self == Varying::Destination,
            Test::Port { .. } => self == Varying::Port,
            _ => false,
        };
        let at = rule.matches.iter().position(|m| varies(&m))?;
        let once = rule.matches.iter().filter(varies).count() == 1;
        (once && !rule.matches[at].not).then_some(at)
    }
}

/// Consecutive rules that differ in one match only.
struct Run<'a> {
    rules: &'a [Rule],
    /// The index of that match.
    at: usize,
}

impl<'a> Run<'a> {
    /// The longest run at the start that differs only in this match.
    fn of(rules: &'a [Rule], varying: Varying) -> Option<Self> {
        let first = rules.first()?;
        let at = varying.position(first)?;
        let alike = |rule: &&Rule| {
            varying.position(rule) == Some(at)
                && same_side(&rule.matches[at].test, &first.matches[at].test)
                && rule.matches[..at] == first.matches[..at]
                && rule.matches[at + 1..] == first.matches[at + 1..]
                && rule.target == first.target
                && rule.place == first.place
                && stem(rule, at) == stem(first, at)
        };
        let length = rules.iter().take_while(alike).count();
        Some(Run {
            rules: &rules[..length],
            at,
        })
    }

    fn merged(&self) -> Option<Vec<Rule>> {
        let tests = self.rules.iter().map(|r| &r.matches[self.at].test);
        let tests: Vec<Test> = match tests.clone().next()? {
            Test::Port { side, .. } => vec![Test::Multiport {
                side: *side,
                ports: PortSet::merged(tests.filter_map(ports))?,
            }],
            _ => {
                let set = AddressSet::new(tests.filter_map(destination))?;
                set.split(SET).map(Test::DestinationSet).collect()
            }
        };
        let mut rule = self.rules[0].clone();
        let stem = stem(&rule, self.at).map(str::to_owned);
        rule.id = rule.id.zip(stem).map(|(id, stem)| id.with_id(stem));
        let with = |test| {
            let mut rule = rule.clone();
            rule.matches[self.at].test = test;
            rule
        };
        Some(tests.into_iter().map(with).collect())
    }

    /// Whether a packet that matches several of the rules is unaffected by meeting the target only
    /// once.
    fn may_be_one(&self, table: &Table) -> bool {
        match &self.rules[0].target {
            Target::Jump(name) => {
                let called = table.chains.iter().find(|c| c.name == *name);
                let ends = |c: &Chain| c.rules.iter().all(|r| is_final(&r.target));
                called.is_some_and(ends) || self.is_disjoint()
            }
            Target::Mark { value, mask }
            | Target::SaveMark {
                nfmask: value,
                ctmask: mask,
            }
            | Target::RestoreMark {
                ctmask: value,
                nfmask: mask,
            } => value & !mask == 0 || self.is_disjoint(),
            _ => true,
        }
    }

    /// Whether no packet matches two of the rules.
    fn is_disjoint(&self) -> bool {
        let tests = || self.rules.iter().map(|r| &r.matches[self.at].test);
        let mut nets: Vec<IpNet> = tests().filter_map(destination).collect();
        let mut ranges: Vec<PortRange> = tests().filter_map(ports).collect();
        nets.sort_by_key(IpNet::network);
        ranges.sort();
        nets.windows(2).all(|w| w[0].broadcast() < w[1].network())
            && ranges.windows(2).all(|w| w[0].last() < w[1].first())
    }
}

fn destination(test: &Test) -> Option<IpNet> {
    match test {
        Test::Destination(net) => Some(*net),
        _ => None,
    }
}

fn ports(test: &Test) -> Option<PortRange> {
    match test {
        Test::Port { ports, .. } => Some(*ports),
        _ => None,
    }
}

/// Whether both match source ports, or both destination ports.
fn same_side(one: &Test, other: &Test) -> bool {
    match (one, other) {
        (Test::Port { side: a, .. }, Test::Port { side: b, .. }) => a == b,
        _ => true,
    }
}

/// Whether the target ends evaluation or leaves the packet unchanged.
fn is_final(target: &Target) -> bool {
    matches!(
        target,
        Target::Accept
            | Target::Drop
            | Target::Return
            | Target::Redirect { .. }
            | Target::Reject(_)
            | Target::Tproxy { .. }
    )
}

/// The rule id without the varying value at its end.
fn stem(rule: &Rule, at: usize) -> Option<&str> {
    let id = rule.id.as_ref()?.as_str();
    let value = match &rule.matches[at].test {
        Test::Destination(net) => net.to_string(),
        Test::Port { ports, .. } => ports.to_string(),
        _ => return Some(id),
    };
    let shorter = id.strip_suffix(&value).and_then(|w| w.strip_suffix('-'));
    Some(shorter.unwrap_or(id))
}

fn normal(mut rule: Rule) -> Rule {
    for m in &mut rule.matches {
        if let Test::Multiport { side, ports } = &m.test {
            m.test = port_test(*side, ports);
        }
    }
    rule
}

/// A port test; a single range is not a set.
fn port_test(side: Side, ports: &PortSet) -> Test {
    let merged = PortSet::merged(ports.as_slice().iter().copied());
    let ports = merged.unwrap_or_else(|| ports.clone());
    match ports.as_slice() {
        [range] => Test::Port {
            side,
            ports: *range,
        },
        _ => Test::Multiport { side, ports },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::model::{ChainName, Family, Protocol, RuleId, TableName};
    use std::net::IpAddr;

    const CHAIN: ChainName = ChainName::fixed("ISTIO_OUTPUT");
    const CALLED: ChainName = ChainName::fixed("ISTIO_REDIRECT");

    /// The rules of a chain as iptables-save prints them, after merging.
    fn merged(rules: Vec<Rule>) -> Vec<String> {
        merged_chain(rules).iter().map(Rule::to_string).collect()
    }

    fn merged_chain(rules: Vec<Rule>) -> Vec<Rule> {
        let mut table = Table::new(Family::V4, TableName::Nat);
        table.chain(CHAIN).rules = rules;
        let called = table.chain(CALLED);
        called.rule("redirect", [], Target::Redirect { to_port: 15001 });
        let ruleset = Ruleset {
            tables: vec![table],
            ..Ruleset::default()
        };
        let mut merged = merged_into_sets(&ruleset);
        std::mem::take(&mut merged.tables[0].chains[0].rules)
    }

    fn to(net: &str, target: Target) -> Rule {
        let net: IpNet = net.parse().unwrap();
        let id = RuleId::from(format!("bypass-{net}")).labelled("istio");
        Rule::new(id, [Match::destination(net)], target)
    }

    #[test]
    fn a_run_of_prefixes_is_a_set() {
        let nets = [
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/17",
            "192.168.128.0/17",
        ];
        let mut rules: Vec<Rule> = nets.iter().map(|n| to(n, Target::Return)).collect();
        rules.push(to("1.1.1.1/32", Target::Accept));
        let wanted = [
            "-d 10.0.0.0/8,172.16.0.0/12,192.168.0.0/16 \
             -m comment --comment \"istio/bypass\" -j RETURN",
            "-d 1.1.1.1/32 -m comment --comment \"istio/bypass-1.1.1.1/32\" -j ACCEPT",
        ];
        assert_eq!(merged(rules), wanted);
    }

    #[test]
    fn a_long_run_of_prefixes_is_several_sets_of_the_same_addresses() {
        let nets = (0..=SET as u32).map(|i| IpNet::from(IpAddr::from((2 * i).to_be_bytes())));
        let rules = nets.clone().map(|n| to(&n.to_string(), Target::Return));
        let merged = merged_chain(rules.collect());
        let sets = merged.iter().map(|rule| match &rule.matches[..] {
            [
                Match {
                    test: Test::DestinationSet(set),
                    not: false,
                },
            ] => set.as_slice(),
            other => panic!("{other:?}"),
        });
        assert_eq!(sets.clone().map(<[_]>::len).collect::<Vec<_>>(), [SET, 1]);
        assert!(sets.flatten().copied().eq(nets));
    }

    #[test]
    fn a_run_of_ports_is_a_set() {
        let rule = |port: u16| {
            let matches = [Match::protocol(Protocol::Tcp), Match::dport(port)];
            let id = RuleId::from(format!("bypass-port-{port}")).labelled("istio");
            Rule::new(id, matches, Target::Return)
        };
        let rules = [81, 22, 80, 443, 22].map(rule);
        let wanted = ["-p tcp -m multiport --dports 22,80:81,443 \
                       -m comment --comment \"istio/bypass-port\" -j RETURN"];
        assert_eq!(merged(rules.to_vec()), wanted);
    }

    #[test]
    fn a_short_run_is_not_merged() {
        let nets = ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"];
        let rules: Vec<Rule> = nets.iter().map(|n| to(n, Target::Return)).collect();
        let texts: Vec<String> = rules.iter().map(Rule::to_string).collect();
        assert_eq!(merged(rules), texts);
    }

    #[test]
    fn rules_with_different_ids_are_not_merged() {
        let nets = ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8", "13.0.0.0/8"];
        let rules = nets.map(|n| to(n, Target::Return).commented(RuleId::from(format!("{n}-x"))));
        assert_eq!(merged(rules.to_vec()).len(), 4);
    }

    #[test]
    fn overlapping_rules_are_merged_only_if_a_second_match_has_no_effect() {
        let nets = ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"];
        let rules = |target: &Target| nets.map(|n| to(n, target.clone())).to_vec();
        let toggle = Target::Mark { value: 1, mask: 0 };
        assert_eq!(merged(rules(&toggle)).len(), 4);
        assert_eq!(merged(rules(&Target::mark(1))).len(), 1);
        assert_eq!(merged(rules(&Target::Jump(CALLED))).len(), 1);
        assert_eq!(merged(rules(&Target::Jump(CHAIN))).len(), 4);
    }
}
