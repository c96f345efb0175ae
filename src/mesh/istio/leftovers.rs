//! What istio-iptables writes into base chains besides jumps to its own chains: in TPROXY mode and
//! for interfaces today, and for DNS in Istio 1.8–1.17.

use super::dns;
use super::tproxy::OUTBOUND_MARK;
use crate::ruleset::{ChainName, Hook, Match, Protocol, Rule, Side, TableName, Target, Test};

const ALL_BITS: u32 = u32::MAX;

/// Whether it writes such a rule, with some options or other.
pub fn writes(table: TableName, chain: &ChainName, rule: &Rule) -> bool {
    let Some(hook) = chain.hook() else {
        return false;
    };
    match table {
        TableName::Nat => interface(hook, rule) || old_dns_redirect(hook, rule),
        TableName::Mangle => interface(hook, rule) || tproxy(hook, rule),
        TableName::Raw => old_dns_zone(hook, rule),
        TableName::Filter => false,
    }
}

/// An excluded interface, or one of a virtual machine.
fn interface(hook: Hook, rule: &Rule) -> bool {
    let [Match { not: false, test }] = rule.matches.as_slice() else {
        return false;
    };
    let interface = matches!(
        (hook, test),
        (Hook::Prerouting, Test::InInterface(_)) | (Hook::Output, Test::OutInterface(_))
    );
    interface && rule.target == Target::Return
}

/// The rules about marks, whatever mark was chosen.
fn tproxy(hook: Hook, rule: &Rule) -> bool {
    let all_bits = |test: &Test| match test {
        Test::Mark { mask, .. } | Test::Connmark { mask, .. } => *mask == ALL_BITS,
        _ => true,
    };
    let tests: Vec<(bool, &Test)> = rule.matches.iter().map(|m| (m.not, &m.test)).collect();
    let shape = match (hook, tests.as_slice()) {
        (Hook::Prerouting, [TCP, (false, Test::Mark { .. })]) => rule.target == Target::save_mark(),
        (
            Hook::Output,
            [
                (false, Test::OutInterface(lo)),
                TCP,
                (false, Test::Mark { .. }),
            ],
        ) => lo.as_str() == "lo" && rule.target == Target::Return,
        (
            Hook::Output,
            [
                (true, Test::Destination(net)),
                (false, Test::OutInterface(lo)),
                TCP,
                (false, Test::Owner(_)),
            ],
        ) => {
            let to_itself = net.addr().is_loopback() && lo.as_str() == "lo";
            to_itself && rule.target == Target::mark(OUTBOUND_MARK)
        }
        (Hook::Output, [TCP, (false, Test::Connmark { .. })]) => {
            rule.target == Target::restore_mark()
        }
        _ => false,
    };
    shape && rule.matches.iter().all(|m| all_bits(&m.test))
}

const TCP: (bool, &Test) = (false, &Test::Protocol(Protocol::Tcp));

/// UDP from or to this port.
fn udp(rule: &Rule, side: Side, port: u16) -> bool {
    let test = Test::Port {
        side,
        ports: port.into(),
    };
    rule.protocol() == Some(Protocol::Udp) && rule.matches.contains(&Match::new(test))
}

fn old_dns_redirect(hook: Hook, rule: &Rule) -> bool {
    let by_owner = rule
        .matches
        .iter()
        .any(|m| matches!(m.test, Test::Owner(_)));
    let target = match rule.target {
        Target::Redirect { to_port } => to_port == dns::AGENT_PORT,
        Target::Return => by_owner,
        _ => false,
    };
    hook == Hook::Output && target && udp(rule, Side::Destination, dns::PORT)
}

fn old_dns_zone(hook: Hook, rule: &Rule) -> bool {
    let ports = match hook {
        Hook::Prerouting => udp(rule, Side::Source, dns::PORT),
        Hook::Output => {
            udp(rule, Side::Destination, dns::PORT) || udp(rule, Side::Source, dns::AGENT_PORT)
        }
        _ => false,
    };
    ports && matches!(rule.target, Target::CtZone(1 | 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{ConnState, Interface, LoopbackAddress, Owner};
    use std::net::{IpAddr, Ipv4Addr};

    fn tcp() -> Match {
        Match::protocol(Protocol::Tcp)
    }

    fn lo() -> Match {
        Match::out_interface(Interface::LOOPBACK)
    }

    fn eth1() -> Interface {
        "eth1".parse().unwrap()
    }

    fn check(table: TableName, chain: ChainName, matches: &[Match], target: Target) -> bool {
        let rule = Rule::unexplained(matches.iter().cloned(), target);
        writes(table, &chain, &rule)
    }

    #[test]
    fn what_istio_writes_is_known() {
        use ChainName as C;
        use TableName::{Mangle, Nat, Raw};
        let loopback = Match::destination(IpAddr::from(Ipv4Addr::LOCALHOST));
        let owner = Match::owner(Owner::Gid(5));
        let dns = [Match::protocol(Protocol::Udp), Match::dport(53)];
        let to_agent = Target::Redirect { to_port: 15053 };
        for (table, chain, matches, target) in [
            (
                Nat,
                C::PREROUTING,
                vec![Match::in_interface(eth1())],
                Target::Return,
            ),
            (
                Mangle,
                C::OUTPUT,
                vec![Match::out_interface(eth1())],
                Target::Return,
            ),
            (
                Mangle,
                C::PREROUTING,
                vec![tcp(), Match::mark(7)],
                Target::save_mark(),
            ),
            (
                Mangle,
                C::OUTPUT,
                vec![lo(), tcp(), Match::mark(7)],
                Target::Return,
            ),
            (
                Mangle,
                C::OUTPUT,
                vec![!loopback, lo(), tcp(), owner.clone()],
                Target::mark(1338),
            ),
            (
                Mangle,
                C::OUTPUT,
                vec![tcp(), Match::connmark(7)],
                Target::restore_mark(),
            ),
            (Nat, C::OUTPUT, dns.to_vec(), to_agent),
            (
                Nat,
                C::OUTPUT,
                [&dns[..], &[owner]].concat(),
                Target::Return,
            ),
            (Raw, C::OUTPUT, dns.to_vec(), Target::CtZone(2)),
        ] {
            assert!(
                check(table, chain, &matches, target.clone()),
                "{matches:?} {target}"
            );
        }
    }

    #[test]
    fn what_others_write_is_not() {
        use ChainName as C;
        use TableName::{Filter, Mangle, Nat, Raw};
        let dns = [Match::protocol(Protocol::Udp), Match::dport(53)];
        let invalid = Match::state([ConnState::Invalid]);
        let six = Match::destination(IpAddr::from(LoopbackAddress::PASSTHROUGH));
        let owner = Match::owner(Owner::Uid(5));
        let other = Target::Redirect { to_port: 5353 };
        let few_bits = Match::new(Test::Mark {
            value: 7,
            mask: 0xff,
        });
        for (table, chain, matches, target) in [
            (
                Nat,
                C::PREROUTING,
                vec![Match::in_interface(eth1())],
                Target::Accept,
            ),
            (
                Nat,
                C::PREROUTING,
                vec![!Match::in_interface(eth1())],
                Target::Return,
            ),
            (
                Nat,
                C::PREROUTING,
                vec![Match::in_interface(eth1()), tcp()],
                Target::Return,
            ),
            (
                Nat,
                ChainName::fixed("DOCKER"),
                vec![Match::in_interface(eth1())],
                Target::Return,
            ),
            (
                Filter,
                C::INPUT,
                vec![Match::in_interface(eth1())],
                Target::Return,
            ),
            (
                Mangle,
                C::PREROUTING,
                vec![tcp(), few_bits],
                Target::save_mark(),
            ),
            (Mangle, C::PREROUTING, vec![invalid], Target::Drop),
            (
                Mangle,
                C::OUTPUT,
                vec![!six, lo(), tcp(), owner],
                Target::mark(1338),
            ),
            (Nat, C::OUTPUT, dns.to_vec(), other),
            (Nat, C::OUTPUT, dns.to_vec(), Target::Return),
            (Raw, C::OUTPUT, dns.to_vec(), Target::CtZone(7)),
        ] {
            assert!(
                !check(table, chain, &matches, target.clone()),
                "{matches:?} {target}"
            );
        }
    }
}
