//! Rules that follow one another and differ in an address only, as long lists are written: together
//! they are one rule about all the addresses.

use crate::netfilter::model::{Entry, HookedTable, Match, Rule, Side, Target, Test};
use ipnet::IpNet;

/// The rules of a chain, run by run.
pub(super) fn runs<'a>(
    table: &'a HookedTable,
    rules: &'a [Entry],
) -> impl Iterator<Item = &'a [Entry]> {
    rules.chunk_by(move |one, next| match (one, next) {
        (Entry::Known(one), Entry::Known(next)) => {
            differ_in_address_only(one, next) && decides(table, &one.target)
        }
        _ => false,
    })
}

/// The addresses that a run is about, and which of its matches asks for them.
pub(super) fn addresses(run: &[Entry]) -> Option<(usize, Side, Vec<IpNet>)> {
    let [first, _, ..] = run else { return None };
    let (at, (side, _)) = address(first.matches())?;
    let nets = run.iter().filter_map(|entry| address(entry.matches()));
    Some((at, side, nets.map(|(_, (_, net))| net).collect()))
}

/// The first match that asks for an address.
fn address(matches: &[Match]) -> Option<(usize, (Side, IpNet))> {
    matches.iter().enumerate().find_map(|(at, m)| match m.test {
        _ if m.not => None,
        Test::Source(net) => Some((at, (Side::Source, net))),
        Test::Destination(net) => Some((at, (Side::Destination, net))),
        _ => None,
    })
}

fn differ_in_address_only(one: &Rule, next: &Rule) -> bool {
    let (Some((at, (side, net))), Some((next_at, (next_side, next_net)))) =
        (address(&one.matches), address(&next.matches))
    else {
        return false;
    };
    (at, side) == (next_at, next_side)
        && one.target == next.target
        && one.matches[..at] == next.matches[..at]
        && one.matches[at + 1..] == next.matches[at + 1..]
        && stem(one, net) == stem(next, next_net)
}

/// The id of a rule without the address in it.
fn stem(rule: &Rule, net: IpNet) -> Option<&str> {
    let id = rule.id.as_ref()?.as_str();
    Some(id.strip_suffix(&net.to_string()).unwrap_or(id))
}

/// Whether packets that meet such a rule twice are as if they had met it once.
fn decides(table: &HookedTable, target: &Target) -> bool {
    match target {
        Target::Jump(name) => {
            let chain = table.chains.iter().find(|chain| chain.name == *name);
            let mut rules = chain.iter().flat_map(|chain| &chain.rules);
            rules.all(|entry| entry.target().is_some_and(ends))
        }
        target => ends(target),
    }
}

/// Whether packets do not go on to the next rule.
fn ends(target: &Target) -> bool {
    matches!(
        target,
        Target::Accept
            | Target::Drop
            | Target::Reject(_)
            | Target::Return
            | Target::Redirect { .. }
            | Target::RedirectAmong(_)
            | Target::Dnat(_)
            | Target::Snat(_)
            | Target::Masquerade
            | Target::Netmap(_)
            | Target::Tproxy { .. }
    )
}
