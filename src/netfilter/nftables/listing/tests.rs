use super::*;
use crate::netfilter::model::{Match, Rule, Ruleset, Table, Target, Test, strategy};
use crate::netfilter::nftables::native::{merged_into_sets, render};
use proptest::prelude::*;

/// Rules that the printer can express, in a table of each family.
fn rulesets() -> impl Strategy<Value = Ruleset> {
    let tables = Family::ALL.map(|family| {
        let name = prop::sample::select(&TableName::ALL[..]);
        let rules = || prop::collection::vec(strategy::rule(family), 0..6);
        (name, rules(), rules()).prop_map(move |(name, called, base)| {
            let mut table = Table::new(family, name);
            for (chain, rules) in [
                (ChainName::fixed("ISTIO_X"), called),
                (ChainName::OUTPUT, base),
            ] {
                table.chain(chain).rules = rules.into_iter().filter_map(printable).collect();
            }
            table
        })
    });
    tables.prop_map(|tables| Ruleset {
        tables: tables.into(),
        ..Ruleset::default()
    })
}

/// The rule, if the printer can express it: marks are copied as a whole, and a last `*` of a name is
/// a wildcard.
fn printable(mut rule: Rule) -> Option<Rule> {
    if let Target::SaveMark { ctmask: mask, .. } | Target::RestoreMark { nfmask: mask, .. } =
        &mut rule.target
    {
        *mask = u32::MAX;
    }
    let is_ambiguous = |m: &Match| match &m.test {
        Test::InInterface(name) | Test::OutInterface(name) => name.as_str().ends_with('*'),
        _ => false,
    };
    (!rule.matches.iter().any(is_ambiguous)).then_some(rule)
}

/// The rules of every chain.
fn rules(listing: &Listing) -> Vec<(Family, TableName, ChainName, Vec<Option<Rule>>)> {
    let tables = listing.native.tables.iter();
    let chains = tables.flat_map(|table| {
        table.chains.iter().map(|chain| {
            let rules = chain.rules.iter().map(|rule| rule.rule.clone());
            (
                table.family,
                table.name,
                chain.name.clone(),
                rules.collect(),
            )
        })
    });
    chains.collect()
}

fn wrong_line(text: &str) -> Option<usize> {
    read(text).err().map(|error| error.line)
}

proptest! {
    #[test]
    fn every_rule_comes_back_from_its_text(ruleset in rulesets()) {
        let merged = merged_into_sets(&ruleset);
        let tables = merged.tables.iter();
        let wanted: Vec<_> = tables
            .flat_map(|table| table.chains.iter().map(|chain| {
                let rules = chain.rules.iter().cloned().map(Some).collect();
                (table.family, table.name, chain.name.clone(), rules)
            }))
            .collect();
        let listing = read(&render(&ruleset)).unwrap();
        let found = rules(&listing);
        for chain in &wanted {
            prop_assert!(found.contains(chain), "{chain:#?}\n{}", render(&ruleset));
        }
        prop_assert_eq!(found.len(), wanted.len());
        prop_assert_eq!(listing.rules.entries().count(), merged.rule_count());
    }

    #[test]
    fn reading_a_changed_listing_does_not_panic(
        ruleset in rulesets(),
        at in any::<prop::sample::Index>(),
        length in 0..40usize,
        instead in "([ \\n{};,\"#.:!=&@*-]|table|chain|elements|0x|\\PC){0,6}",
    ) {
        let characters: Vec<char> = render(&ruleset).chars().collect();
        let start = if characters.is_empty() { 0 } else { at.index(characters.len()) };
        let (before, rest) = characters.split_at(start);
        let rest = &rest[length.min(rest.len())..];
        let before: String = before.iter().collect();
        let _ = read(&(before.clone() + &instead + &rest.iter().collect::<String>()));
        let _ = read(&before);
    }
}

#[test]
fn an_error_names_its_line() {
    let chain = "table ip t {\n\tchain c {\n\t\ttype filter hook input priority 0; policy drop;\n";
    for (text, line) in [
        ("flush ruleset\n", 1),
        ("# a comment\n\nadd table ip t\n", 3),
        ("table ip t {\n\tset s {\n\t}\n\trule\n}\n", 4),
        ("table ip t {\n}\n}\n", 3),
        ("table ip t {\n\tcomment \"open\n}\n", 2),
        (
            "table ip t {\n\tchain c {\n\t\ttype filter hook nowhere priority 0\n\t}\n}\n",
            3,
        ),
        (chain, 3),
        (&"{".repeat(100_000), 1),
    ] {
        assert_eq!(wrong_line(text), Some(line), "{text:.200}");
    }
    assert_eq!(wrong_line(&format!("{chain}\t}}\n}}\n")), None);
    assert_eq!(wrong_line(""), None);
}

/// What a rule is read as: decoded, or the text that is kept of it.
fn kept(rule: &str) -> Vec<Result<String, String>> {
    let text = format!(
        "table inet t {{\n set s {{\n elements = {{ 1 }}\n }}\n chain c {{\n {rule}\n }}\n}}\n"
    );
    let listing = read(&text).unwrap();
    let entries = listing.rules.entries().map(|entry| match entry {
        Entry::Known(rule) => Ok(rule.to_string()),
        entry => Err(entry.text()),
    });
    entries.collect()
}

#[test]
fn what_is_not_modelled_is_undecoded() {
    for rule in [
        "tcp dport 22 limit rate 5/second accept",
        "tcp dport vmap { 22 : accept }",
        "ip saddr @unknown drop",
        "tcp dport 70000 accept",
        "tcp dport ssh accept",
        "ct state != new,related accept",
        "meta mark set meta mark & 0x1 + 2",
        "meta mark set 0x1 ip saddr 10.0.0.1 accept",
        "xt target TPROXY",
        "tproxy to nowhere",
        "iifname \"a_name_of_16_bytes\" drop",
        "meta hour \"08:00\"-\"17:00\" drop",
    ] {
        let kept = kept(rule);
        assert!(!kept.is_empty(), "{rule}");
        assert!(
            kept.iter().all(|entry| *entry == Err(rule.to_owned())),
            "{kept:?}"
        );
    }
}

#[test]
fn a_rule_of_both_families_is_read_for_each() {
    let accepted = |text: &str| vec![Ok(text.to_owned()); 2];
    assert_eq!(
        kept("tcp dport 22 accept"),
        accepted("-p tcp -m tcp --dport 22 -j ACCEPT")
    );
    let state = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    assert_eq!(
        kept("ct state established,related counter accept"),
        accepted(state)
    );
    assert_eq!(
        kept("ct state { established, related } accept"),
        accepted(state)
    );
    assert_eq!(
        kept("ip daddr 10.0.0.0/8 drop"),
        vec![Ok("-d 10.0.0.0/8 -j DROP".to_owned())]
    );
    assert_eq!(
        kept("meta mark set meta mark | 0x00004000"),
        accepted("-j MARK --set-xmark 0x4000/0x4000")
    );
}
