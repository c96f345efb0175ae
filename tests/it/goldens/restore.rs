//! The text for iptables-restore, read as iptables-save would print it afterwards.

use super::formats::{always, equal};
use prepare_proxy::frontend::output::Format;
use prepare_proxy::netfilter::iptables::parse_save;
use prepare_proxy::netfilter::model::{Chain, Family, Hook, ObservedChain, Place, Rule};

#[test]
fn what_restore_reads_is_the_ruleset() {
    always(Format::Restore, |wanted, _, printed| {
        for (family, text) in families(printed) {
            let tables = parse_save(family, &saved(text)).map_err(|e| e.to_string())?;
            let mut tables = tables.into_iter();
            for table in wanted.of(family) {
                let read = tables.next().ok_or("a table is missing")?;
                equal(table.name, read.name)?;
                let read: Vec<ObservedChain> = read.chains.into_iter().filter(is_written).collect();
                let mut chains: Vec<Chain> = table.chains.clone();
                // As they are declared: base chains behind ours.
                chains.sort_by_key(|c| c.name.hook());
                equal(chains.len(), read.len())?;
                for (chain, read) in chains.iter().zip(read) {
                    equal(&chain.name, &read.name)?;
                    let rules = read.rules.into_iter().map(|r| r.rule);
                    equal(in_order(chain), rules.collect())?;
                }
            }
            equal(None, tables.next())?;
        }
        Ok(())
    });
}

/// Base chains are declared whether anything is in them or not.
fn is_written(chain: &ObservedChain) -> bool {
    chain.name.hook().is_none() || !chain.rules.is_empty()
}

/// The rules of a chain as a kernel has them: those for the head come first.
fn in_order(chain: &Chain) -> Vec<Option<Rule>> {
    let (head, tail): (Vec<&Rule>, _) = chain.rules.iter().partition(|r| r.place != Place::Tail);
    let placed = head.into_iter().chain(tail).cloned().map(|rule| Rule {
        place: Place::Tail,
        ..rule
    });
    placed.map(Some).collect()
}

/// The parts of a text for iptables-restore and ip6tables-restore, without their first line.
fn families(printed: &str) -> impl Iterator<Item = (Family, &str)> {
    Family::ALL.into_iter().map(move |family| {
        let (_, rest) = printed
            .split_once(&format!("# {family}: "))
            .unwrap_or_default();
        let (_, text) = rest.split_once('\n').unwrap_or_default();
        (family, text.split("# IPv6: ").next().unwrap_or_default())
    })
}

/// What iptables-save would print after iptables-restore has read this into empty base chains.
fn saved(text: &str) -> String {
    let line = |line: &str| {
        if let Some(rule) = line.strip_prefix("-I ") {
            let (chain, rule) = rule.split_once(' ').expect("-I CHAIN NUMBER RULE");
            let (_, rule) = rule.split_once(' ').expect("-I CHAIN NUMBER RULE");
            return format!("-A {chain} {rule}\n");
        }
        format!("{line}\n")
    };
    let declared = |table: &str| {
        let at = table.find("\n-").unwrap_or(table.len() - 1);
        let base = Hook::ALL.map(|h| format!("\n:{} ACCEPT [0:0]", h.as_str()));
        format!("{}{}{}", &table[..at], base.concat(), &table[at..])
    };
    let tables = text.split_inclusive("COMMIT\n").map(declared);
    let text: String = tables.collect();
    text.lines().map(line).collect()
}
