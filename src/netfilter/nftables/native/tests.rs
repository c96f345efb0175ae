use super::*;
use crate::netfilter::model::{
    AddressSet, Chain, ChainName, PortRange, PortSet, Rule, Ruleset, Table, TableName, Target,
    strategy,
};
use crate::netfilter::netlink::Attributes;
use crate::netfilter::nftables::expr;
use crate::netfilter::nftables::nf_tables::NFTA_SET_NAME;
use proptest::prelude::*;

const CHAIN: &str = "ISTIO_OUTPUT";

/// Rules in the normalised form of the backend.
fn merged(family: Family, rules: Vec<Rule>) -> Vec<Rule> {
    let mut table = Table::new(family, TableName::Nat);
    table.chains.push(Chain {
        name: ChainName::fixed(CHAIN),
        rules,
    });
    let ruleset = Ruleset {
        tables: vec![table],
        ..Ruleset::default()
    };
    merged_into_sets(&ruleset)
        .tables
        .remove(0)
        .chains
        .remove(0)
        .rules
}

/// Simulates the dump of a set.
fn keep(set: &Set, found: &mut Sets, name: &str) {
    let mut w = Writer::default();
    set.write(&mut w);
    let mut renamed = Writer::default();
    for attribute in Attributes::new(w.as_slice()) {
        let (kind, value) = attribute.unwrap();
        match kind {
            NFTA_SET_NAME => renamed.string(NFTA_SET_NAME, name),
            _ => renamed.bytes(kind, value),
        }
    }
    found.add(renamed.as_slice()).unwrap();
    for chunk in set.chunks() {
        let mut w = Writer::default();
        set.write_elements(&chunk, &mut w);
        found.fill(name, w.as_slice()).unwrap();
    }
}

/// Encodes and decodes rules. `None` if a rule cannot be expressed.
fn through_bytes(family: Family, rules: &[Rule]) -> Option<Vec<Rule>> {
    let rules: Vec<&Rule> = rules.iter().collect();
    let lists = Lists::of(CHAIN, &rules);
    let mut found = Sets::default();
    let mut id = 0;
    for (name, list) in lists.all() {
        id += 1;
        keep(
            &Set::of_addresses(name.clone(), id, list),
            &mut found,
            &name,
        );
    }
    let mut read_back = Vec::new();
    for rule in rules {
        let encoded = write(rule, family, &lists, &mut id).ok()?;
        let mut exprs = encoded.exprs;
        let first = id as usize + 1 - encoded.sets.len();
        for (i, set) in encoded.sets.iter().enumerate() {
            keep(set, &mut found, &format!("__set{}", first + i));
        }
        name_sets(&mut exprs);
        let exprs = expr::tests::through_bytes(&exprs);
        let id = rule.id.as_ref().map(RuleId::to_string);
        read_back.push(read(&exprs, id.as_deref(), family, &found).expect("understood"));
    }
    Some(read_back)
}

/// Names anonymous sets as the kernel does.
fn name_sets(exprs: &mut [Expr]) {
    for expr in exprs {
        if let Expr::Lookup {
            set, id: Some(id), ..
        } = expr
        {
            *set = format!("__set{id}");
        }
    }
}

fn with_family() -> impl Strategy<Value = (Family, Vec<Rule>)> {
    prop::sample::select(&Family::ALL[..])
        .prop_flat_map(|f| (Just(f), prop::collection::vec(strategy::rule(f), 1..6)))
}

proptest! {
    #[test]
    fn reads_what_it_writes((family, rules) in with_family()) {
        let rules: Vec<Rule> = rules
            .into_iter()
            .map(|mut rule| {
                // Rules that cannot be expressed are refused.
                if let Target::SaveMark { ctmask: mask, .. }
                | Target::RestoreMark { nfmask: mask, .. } = &mut rule.target
                {
                    *mask = u32::MAX;
                }
                rule
            })
            .collect();
        let wanted = merged(family, rules);
        prop_assert_eq!(through_bytes(family, &wanted), Some(wanted));
    }

    #[test]
    fn sets_come_back(
        nets in prop::collection::vec((any::<u128>(), 0..=128u8), 1..2000),
        ports in prop::collection::vec((any::<u16>(), any::<u16>()), 1..50),
        v4 in any::<bool>(),
    ) {
        let net = |(bits, length): (u128, u8)| match v4 {
            true => ipnet::IpNet::new((bits as u32).to_be_bytes().into(), length % 33).unwrap(),
            false => ipnet::IpNet::new(bits.to_be_bytes().into(), length).unwrap(),
        };
        let family = if v4 { Family::V4 } else { Family::V6 };
        let addresses = AddressSet::new(nets.into_iter().map(net)).unwrap();
        let port = |(a, b): (u16, u16)| PortRange::new(a.min(b), a.max(b)).unwrap();
        let ports = PortSet::merged(ports.into_iter().map(port)).unwrap();
        let mut found = Sets::default();
        keep(&Set::of_addresses("a".to_owned(), 1, &addresses), &mut found, "a");
        keep(&Set::of_ports(2, &ports), &mut found, "p");
        prop_assert_eq!(found.addresses("a", family), Some(addresses));
        prop_assert_eq!(found.ports("p"), Some(ports));
    }
}

#[test]
fn a_masked_mark_is_refused_where_it_cannot_be_mixed() {
    let target = Target::SaveMark {
        nfmask: 0xff,
        ctmask: 0xff,
    };
    let rule = Rule::without_comment([], target);
    assert_eq!(through_bytes(Family::V4, &[rule]), None);
}
