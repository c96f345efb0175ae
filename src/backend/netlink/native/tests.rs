use super::*;
use crate::backend::netlink::expr;
use crate::backend::netlink::nf_tables::NFTA_SET_NAME;
use crate::netlink::Attributes;
use crate::ruleset::{
    AddressSet, Chain, ChainName, PortRange, PortSet, Rule, Ruleset, Table, TableName, Target,
    strategy,
};
use proptest::prelude::*;

const CHAIN: &str = "ISTIO_OUTPUT";

/// The rules of a chain in the form in which the backend keeps them.
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

/// What a kernel keeps of a set.
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
        set.write_elements(chunk, &mut w);
        found.fill(name, w.as_slice()).unwrap();
    }
}

/// The rules of a chain as they come back from the bytes that were written. `None` if there is no
/// form to write one in.
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
    let mut parts = Vec::new();
    for part in lower(CHAIN, &rules) {
        let mut lines = Vec::new();
        for (_, line) in &part.lines {
            let encoded = write(line, family, &lists, &mut id).ok()?;
            let mut exprs = encoded.exprs;
            let first = id as usize + 1 - encoded.sets.len();
            for (i, set) in encoded.sets.iter().enumerate() {
                keep(set, &mut found, &format!("__set{}", first + i));
            }
            name_sets(&mut exprs);
            let exprs = expr::tests::through_bytes(&exprs);
            let why = line.why.as_ref().map(Why::to_string);
            lines.push(read(&exprs, why.as_deref(), family, &found));
        }
        parts.push(lines);
    }
    Some(raise_all(&parts))
}

/// The kernel makes up names for sets that have none.
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

fn raise_all(parts: &[Vec<Option<Line>>]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (i, lines) in parts.iter().enumerate() {
        let mut lines = lines.as_slice();
        while !lines.is_empty() {
            let (rule, used) = raise(lines, &part_name(CHAIN, i + 1))
                .unwrap_or_else(|| panic!("not understood: {lines:?}"));
            rules.push(rule);
            lines = &lines[used..];
        }
    }
    rules
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
                // What nf_tables cannot say is refused, and has no way back.
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

#[test]
fn rules_behind_one_with_a_gate_stand_in_the_next_part() {
    let rules = [
        Rule::without_comment([!Match::owner(Owner::Uid(7))], Target::Return),
        Rule::without_comment([], Target::Accept),
    ];
    let rules: Vec<&Rule> = rules.iter().collect();
    let parts = lower("ISTIO_OUTPUT", &rules);
    let names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["ISTIO_OUTPUT", "ISTIO_OUTPUT-1"]);
    assert_eq!(later_parts("ISTIO_OUTPUT", &rules), ["ISTIO_OUTPUT-1"]);
}

#[test]
fn names_of_parts_are_told_from_others() {
    assert!(is_part("ISTIO_OUTPUT-12", "ISTIO_OUTPUT"));
    for other in [
        "ISTIO_OUTPUT",
        "ISTIO_OUTPUT-",
        "ISTIO_OUTPUT-x",
        "ISTIO_OUTPUT_DNS-1",
    ] {
        assert!(!is_part(other, "ISTIO_OUTPUT"), "{other}");
    }
}
