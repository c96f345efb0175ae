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
    let (mut names, mut parts) = (Vec::new(), Vec::new());
    for part in lower(&rules, &PartNames::of(CHAIN, |_| false)) {
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
        names.push(part.name);
        parts.push(lines);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let written: usize = parts.iter().map(Vec::len).sum();
    let raised = raise(&names, &parts);
    assert_eq!(raised.iter().map(|r| r.lines.len()).sum::<usize>(), written);
    Some(
        raised
            .into_iter()
            .map(|r| r.rule.expect("understood"))
            .collect(),
    )
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

fn not_owned(uid: u32, target: Target) -> Rule {
    Rule::without_comment([!Match::owner(Owner::Uid(uid))], target)
}

fn for_socket() -> Rule {
    Rule::without_comment([Match::socket()], Target::Accept)
}

#[test]
fn however_many_rules_ask_for_owners_and_sockets_there_are_four_parts() {
    let mut rules: Vec<Rule> = (0..40).map(|uid| not_owned(uid, Target::Return)).collect();
    let names = PartNames::of("ISTIO_OUTPUT", |_| false);
    let lowered = |rules: &[Rule]| lower(&rules.iter().collect::<Vec<_>>(), &names);
    assert_eq!(lowered(&rules).len(), 2);
    rules.extend((0..40).map(|_| for_socket()));
    let parts = lowered(&rules);
    let gotos = |part: &Part| {
        let lines = part.lines.iter().map(|(_, line)| &line.action);
        let to = lines.filter_map(|a| match a {
            Action::Goto(to) => Some(to.clone()),
            Action::Take(_) => None,
        });
        to.collect::<Vec<_>>()
    };
    let ways: Vec<(&str, Vec<String>)> =
        parts.iter().map(|p| (p.name.as_str(), gotos(p))).collect();
    let to = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        ways,
        [
            ("ISTIO_OUTPUT", to(&["ISTIO_OUTPUT-1", "ISTIO_OUTPUT-3"])),
            ("ISTIO_OUTPUT-1", to(&["ISTIO_OUTPUT-2"])),
            ("ISTIO_OUTPUT-2", vec![]),
            ("ISTIO_OUTPUT-3", vec![]),
        ]
    );
}

#[test]
fn parts_that_do_not_say_the_same_are_noticed() {
    let rules = [not_owned(7, Target::Return), not_owned(8, Target::Drop)];
    let names = PartNames::of(CHAIN, |_| false);
    let parts = lower(&rules.iter().collect::<Vec<_>>(), &names);
    let lines = |part: &Part| part.lines.iter().map(|(_, l)| Some(l.clone())).collect();
    let parts: Vec<Vec<Option<Line>>> = parts.iter().map(lines).collect();
    let names = ["ISTIO_OUTPUT", "ISTIO_OUTPUT-1"];
    assert!(raise(&names, &parts).iter().all(|r| r.rule.is_some()));
    for part in 0..parts.len() {
        for line in 0..parts[part].len() {
            let mut fewer = parts.clone();
            fewer[part].remove(line);
            let raised: Vec<Option<Rule>> =
                raise(&names, &fewer).into_iter().map(|r| r.rule).collect();
            assert_ne!(raised, rules.clone().map(Some), "part {part}, line {line}");
        }
    }
}

#[test]
fn names_of_parts_are_nobody_elses() {
    let taken = ["ISTIO_OUTPUT-1", "ISTIO_OUTPUT-3"];
    let names = PartNames::of("ISTIO_OUTPUT", |name| taken.contains(&name));
    let rules = [not_owned(7, Target::Return), for_socket()];
    let parts = lower(&rules.iter().collect::<Vec<_>>(), &names);
    let names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
    let wanted = [
        "ISTIO_OUTPUT",
        "ISTIO_OUTPUT-2",
        "ISTIO_OUTPUT-4",
        "ISTIO_OUTPUT-5",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn names_of_parts_are_told_from_others() {
    assert!(is_part_name("ISTIO_OUTPUT-12", "ISTIO_OUTPUT"));
    for other in [
        "ISTIO_OUTPUT",
        "ISTIO_OUTPUT-",
        "ISTIO_OUTPUT-x",
        "ISTIO_OUTPUT_DNS-1",
    ] {
        assert!(!is_part_name(other, "ISTIO_OUTPUT"), "{other}");
    }
}
