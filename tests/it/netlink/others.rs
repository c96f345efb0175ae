//! Foreign rules stay byte for byte, including those that iptables cannot print.

use super::{apply, difference, open_native, open_xt};
use crate::every_match;
use crate::lab::{Namespace, Variant};
use prepare_proxy::netfilter::backend::Backend;
use prepare_proxy::netfilter::model::{
    ChainName, Change, Family, ObservedRule, Ruleset, TableName,
};

/// Foreign rules of every kind in chains that managed rules use.
const FOREIGN: &str = r#"
iptables-nft -t nat -A OUTPUT -p tcp -m comment --comment "it's \"odd\" \\ here" -j ACCEPT
iptables-nft -t nat -A OUTPUT -m comment --comment plain -j RETURN
iptables-nft -t nat -A OUTPUT -p tcp --dport 1 -m bpf --bytecode "1,6 0 0 0" -j ACCEPT
iptables-nft -t nat -A OUTPUT -m statistic --mode random --probability 0.5 -j ACCEPT
iptables-nft -t nat -A OUTPUT -p tcp --syn -j ACCEPT
iptables-nft -t nat -N DOCKER
iptables-nft -t nat -A PREROUTING -g DOCKER
iptables-nft -P INPUT DROP
iptables-nft -t mangle -A OUTPUT -j MARK --set-mark 1
nft 'add rule ip nat OUTPUT tcp dport { 1, 2 } accept'
nft 'add rule ip nat OUTPUT meta skuid 7 accept comment "native"'
nft 'add rule ip nat OUTPUT ip daddr 10.0.0.0/8 counter'
nft 'add set ip mangle foreign { type ipv4_addr; }'
nft 'add chain ip nat a-name-longer-than-iptables-would-take-it'
nft 'add table inet other'
nft 'add chain inet other OUTPUT { type nat hook output priority 0; }'
"#;

/// The ruleset with handles, so that a replaced rule is noticed.
fn listed(namespace: &Namespace) -> String {
    namespace.sh("nft --handle list ruleset")
}

#[test]
fn foreign_rules_survive_apply_and_clean() {
    let namespace = Namespace::new();
    namespace.sh(FOREIGN);
    let before = listed(&namespace);
    for open in [open_xt, open_native] {
        apply(&namespace, open, &every_match::everything()).unwrap();
        assert_ne!(listed(&namespace), before);
        apply(&namespace, open, &Ruleset::default()).unwrap();
        assert_eq!(listed(&namespace), before);
    }
}

#[test]
fn foreign_rules_are_read_as_they_are() {
    let namespace = Namespace::new();
    namespace.sh(FOREIGN);
    let observed = namespace.enter(|| open_xt().unwrap().read().unwrap());
    let nat = observed.table(Family::V4, TableName::Nat).unwrap();
    let output = &nat.chain(&ChainName::OUTPUT).unwrap().rules;
    let texts: Vec<&str> = output.iter().map(|r| r.text.as_str()).collect();
    let known = |r: &ObservedRule| r.rule.is_some();
    assert_eq!(
        texts,
        [
            r#"-p tcp -m comment --comment "it\'s \"odd\" \\ here" -j ACCEPT"#,
            "-m comment --comment plain -j RETURN",
            "[meta, cmp, payload, cmp, match bpf, counter, immediate]",
            "[match statistic, counter, immediate]",
            "[meta, cmp, payload, bitwise, cmp, counter, immediate]",
            "[meta, cmp, payload, lookup, immediate]",
            "[meta, cmp, immediate]",
            "[payload, cmp, counter]",
        ]
    );
    assert!(output[..2].iter().all(known) && !output[2..].iter().any(known));
    assert_eq!(output[6].comment.as_deref(), Some("native"));
    let prerouting = &nat.chain(&ChainName::PREROUTING).unwrap().rules;
    assert!(!known(&prerouting[0]), "a goto is not a jump");
    assert_eq!(prerouting[0].jump, Some(ChainName::fixed("DOCKER")));
}

#[test]
fn foreign_rules_keep_places_and_counters() {
    let namespace = Namespace::new();
    // NAT chains are only evaluated if a rule translates addresses.
    namespace.sh("iptables-nft -t nat -A OUTPUT -o lo -j ACCEPT
         iptables-nft -t nat -A PREROUTING -p tcp --dport 7 -j REDIRECT
         bash -c 'echo > /dev/udp/127.0.0.1/9'");
    let desired = every_match::everything();
    for _ in 0..2 {
        apply(&namespace, open_xt, &desired).unwrap();
        let output = namespace.sh("iptables-nft -t nat -S OUTPUT -v");
        let rules: Vec<&str> = output.lines().skip(1).collect();
        assert!(
            rules[0].contains("istio/first") && rules[1].contains("istio/second"),
            "{output}"
        );
        assert_eq!(rules[2], "-A OUTPUT -o lo -c 1 29 -j ACCEPT");
        assert!(
            rules[3].contains("istio/output") && rules.len() == 4,
            "{output}"
        );
        // A managed rule is changed, so that there is a difference.
        namespace.sh("iptables-nft -t nat -A OUTPUT -j ISTIO_ZOO");
    }
}

#[test]
fn only_differing_managed_rules_are_changed() {
    let namespace = Namespace::new();
    let desired = every_match::everything();
    apply(&namespace, open_xt, &desired).unwrap();
    let before = listed(&namespace);
    namespace.sh("iptables-nft -t nat -D ISTIO_CALLED 1");
    apply(&namespace, open_xt, &desired).unwrap();
    assert_eq!(difference(&namespace, open_xt, &desired), Change::default());
    let kept = |text: &str| {
        let called = text.find("chain ISTIO_CALLED").unwrap();
        text[..called].to_owned()
    };
    assert_eq!(kept(&listed(&namespace)), kept(&before));
}

#[test]
fn a_foreign_rule_in_an_own_table_stays() {
    let namespace = Namespace::new();
    let desired = every_match::everything();
    apply(&namespace, open_native, &desired).unwrap();
    namespace.sh("nft add rule ip prepare-proxy-nat OUTPUT tcp dport 7 accept");
    assert_eq!(
        difference(&namespace, open_native, &desired),
        Change::default()
    );
    apply(&namespace, open_native, &Ruleset::default()).unwrap();
    let left = namespace.sh("nft list ruleset");
    assert!(
        left.contains("tcp dport 7 accept") && !left.contains("ISTIO"),
        "{left}"
    );
    apply(&namespace, open_native, &desired).unwrap();
    assert_eq!(
        difference(&namespace, open_native, &desired),
        Change::default()
    );
}

#[test]
fn iptables_save_prints_foreign_rules_as_before() {
    let namespace = Namespace::new();
    let only_iptables: Vec<&str> = FOREIGN
        .lines()
        .filter(|l| l.starts_with("iptables"))
        .collect();
    namespace.sh(&only_iptables.join("\n"));
    let before = namespace.iptables_save(Family::V4, Variant::Nft);
    apply(&namespace, open_xt, &every_match::everything()).unwrap();
    apply(&namespace, open_xt, &Ruleset::default()).unwrap();
    assert_eq!(namespace.iptables_save(Family::V4, Variant::Nft), before);
}
