//! What iptables-save prints; a rule that is understood prints itself so that it is understood the
//! same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prepare_proxy::netfilter::iptables::parse_save;
use prepare_proxy::netfilter::model::{Family, ObservedRule, ObservedTable};

fn rules(tables: &[ObservedTable]) -> impl Iterator<Item = &ObservedRule> {
    tables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules)
}

fuzz_target!(|text: &str| {
    let Ok(tables) = parse_save(Family::V6, text) else {
        return;
    };
    for rule in rules(&tables).filter_map(|r| r.rule.as_ref()) {
        let again = format!("*nat\n:ISTIO_X - [0:0]\n-A ISTIO_X {rule}\nCOMMIT\n");
        let again = parse_save(Family::V6, &again).expect("our own text");
        let again = rules(&again).next().and_then(|r| r.rule.as_ref());
        assert_eq!(again, Some(rule));
    }
});
