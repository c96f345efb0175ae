//! What nft lists is read as the kernel's own rules are.

use super::{apply, open_native, open_xt, read};
use crate::every_match;
use crate::lab::Namespace;
use prepare_proxy::engine::backends::MANAGED;
use prepare_proxy::netfilter::model::{Entry, HookedChain, HookedTable, Observed, Rule, Test};
use prepare_proxy::netfilter::nftables::{Listing, NfTables, read_listing};
use std::fs;

fn listed(namespace: &Namespace) -> Listing {
    let text = namespace.sh("nft list ruleset");
    read_listing(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The decoded rules, chain by chain, without what only a kernel knows of them.
fn decoded(observed: &Observed) -> Vec<(String, Vec<Option<Rule>>)> {
    let chains = observed.tables.iter().flat_map(|table| {
        table.chains.iter().map(move |chain| {
            let name = format!(
                "{} {} {} {}",
                table.family, table.name, chain.name, chain.drops
            );
            (
                name,
                chain.rules.iter().map(|rule| rule.rule.clone()).collect(),
            )
        })
    });
    let mut chains: Vec<_> = chains.collect();
    chains.sort_by(|one, other| one.0.cmp(&other.0));
    chains
}

#[test]
fn own_tables_are_read_as_their_backend_reads_them() {
    let namespace = Namespace::new();
    apply(&namespace, open_native, &every_match::everything()).unwrap();
    let observed = namespace.enter(|| read(&mut open_native().unwrap()).unwrap());
    let native = listed(&namespace).native;
    assert_eq!(decoded(&native), decoded(&observed));
    let rules = decoded(&native).into_iter().flat_map(|(_, rules)| rules);
    assert!(rules.fold(0, |count, rule| count + rule.is_some() as usize) > 100);
}

/// The rule with the elements of sets in order; the kernel returns them in any.
fn in_order(rule: &Rule) -> Rule {
    let mut rule = rule.clone();
    for m in &mut rule.matches {
        if let Test::Fields(test) = &mut m.test {
            let mut values = test.values.to_vec();
            values.sort();
            test.values = values.into();
        }
    }
    rule
}

/// Rules that the listing and the kernel both decode have the same effect; the others are undecoded.
/// Says how many are decoded, and how many there are.
fn agree(namespace: &Namespace) -> (usize, usize) {
    let kernel = namespace.enter(|| NfTables::open(MANAGED).unwrap().read_hooked().unwrap());
    let listing = listed(namespace).rules.tables;
    let (mut known, mut all) = (0, 0);
    assert_eq!(listing.len(), kernel.len());
    for dumped in &kernel {
        let same = |t: &&HookedTable| (&t.name, t.family) == (&dumped.name, dumped.family);
        let read = listing.iter().find(same).expect("the table is listed");
        for chain in &dumped.chains {
            let same = |c: &&HookedChain| c.name == chain.name;
            let read = read.chains.iter().find(same).expect("the chain is listed");
            assert_eq!(read.base, chain.base, "{}", chain.name);
            assert_eq!(read.rules.len(), chain.rules.len(), "{}", chain.name);
            for (one, other) in read.rules.iter().zip(&chain.rules) {
                all += 1;
                match (one, other) {
                    (Entry::Known(one), Entry::Known(other)) => {
                        assert!(
                            in_order(one).same_effect(&in_order(other)),
                            "{one}\n{other}"
                        );
                        known += 1;
                    }
                    (Entry::Undecoded { .. }, _) => {}
                    (Entry::Idle { .. }, Entry::Idle { .. }) => known += 1,
                    _ => panic!("{}\n{}", one.text(), other.text()),
                }
            }
        }
    }
    (known, all)
}

#[test]
fn what_nft_shows_of_iptables_is_not_relied_on() {
    let namespace = Namespace::new();
    apply(&namespace, open_xt, &every_match::everything()).unwrap();
    let (known, all) = agree(&namespace);
    assert!(known == 0 && all > 100, "{known} of {all}");
}

#[test]
fn foreign_tables_are_read_as_the_kernel_has_them() {
    let rulesets = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/explain/rulesets");
    let (mut known, mut all) = (0, 0);
    for ruleset in fs::read_dir(rulesets).unwrap() {
        let path = ruleset.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "nft") {
            continue;
        }
        let namespace = Namespace::new();
        namespace.sh(&format!("nft -f {}", path.display()));
        let (of_these, among) = agree(&namespace);
        known += of_these;
        all += among;
    }
    assert!(known * 2 > all, "{known} of {all}");
}
