use super::*;
use crate::netfilter::model::{
    ConnState, Connection, Credentials, Family, Hook, Interface, Match, Owner, Packet, PolicyRoute,
    Protocol, RejectWith, Rule, Ruleset, Table, TableName, Target, Tracking,
};
use crate::netfilter::model::{Entry, Rules};
use ipnet::IpNet;
use std::net::SocketAddr;

pub(super) const CHAINS: [ChainName; 4] = [
    ChainName::fixed("A"),
    ChainName::fixed("B"),
    ChainName::fixed("C"),
    ChainName::fixed("D"),
];

fn interface(name: &str) -> Interface {
    name.parse().unwrap()
}

/// eth0 with an address of each family, and nothing else but lo.
pub(super) fn network() -> Network {
    let link = |name: &str, addresses: &[&str]| Link {
        name: interface(name),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    let out = |net: &str| {
        let next_hop = NextHop::Out {
            through: interface("eth0"),
            source: None,
        };
        (net.parse::<IpNet>().unwrap(), next_hop)
    };
    Network {
        links: vec![
            link("lo", &["127.0.0.1/8", "::1/128"]),
            link(
                "eth0",
                &["10.66.0.2/24", "10.66.0.3/24", "fd66::2/64", "fe80::2/64"],
            ),
        ],
        routes: vec![out("0.0.0.0/0"), out("::/0")],
        policy_routes: Vec::new(),
    }
}

pub(super) fn packet(source: &str, destination: &str) -> Packet {
    let source = SocketAddr::new(source.parse().unwrap(), 50000);
    Packet::new(Protocol::Tcp, source, destination.parse().unwrap())
}

fn state(state: ConnState) -> Tracking {
    Tracking::Known(Connection { state, mark: 0 })
}

/// A process of uid 1000 connects.
fn outgoing(destination: &str) -> Probe {
    let mut packet = packet("10.66.0.2", destination);
    if packet.destination.is_ipv6() {
        packet.source.set_ip("fd66::2".parse().unwrap());
    }
    packet.owner = Some(Credentials {
        uid: 1000,
        gid: 1000,
        supplementary_groups: vec![1337],
    });
    Probe {
        start: Start::Here,
        packet,
        tracking: state(ConnState::New),
    }
}

/// Somebody connects through eth0.
fn incoming(destination: &str) -> Probe {
    let mut packet = packet("10.66.0.1", destination);
    packet.in_interface = Some(interface("eth0"));
    Probe {
        start: Start::Outside,
        packet,
        tracking: state(ConnState::New),
    }
}

/// A table of IPv4 with these rules.
fn table(name: TableName, rules: &[(ChainName, &[Match], Target)]) -> Table {
    let mut table = Table::new(Family::V4, name);
    for (chain, matches, target) in rules {
        let rule = Rule::without_comment(matches.iter().cloned(), target.clone());
        table.chain(chain.clone()).rules.push(rule);
    }
    table
}

pub(super) fn rules(tables: impl IntoIterator<Item = Table>) -> Rules {
    Rules::of(&Ruleset {
        tables: tables.into_iter().collect(),
        ..Ruleset::default()
    })
}

fn end(probe: &Probe, rules: &Rules) -> End {
    follow(probe, rules, &network(), &[]).unwrap().end
}

fn redirected(to: &str) -> End {
    let to: SocketAddr = to.parse().unwrap();
    End::Delivered {
        port: to.port(),
        by: Some(Capture::Redirect(to)),
    }
}

const REDIRECT: Target = Target::Redirect { to_port: 15001 };

#[test]
fn without_rules_a_connection_goes_where_it_was_sent() {
    let none = Rules::default();
    let here = End::Delivered { port: 80, by: None };
    let out = End::Sent {
        through: interface("eth0"),
        forwarded: false,
    };
    assert_eq!(end(&outgoing("203.0.113.9:80"), &none), out);
    assert_eq!(end(&outgoing("10.66.0.2:80"), &none), here);
    assert_eq!(end(&outgoing("127.9.9.9:80"), &none), here);
    assert_eq!(end(&incoming("10.66.0.2:80"), &none), here);
    let through = End::Sent {
        through: interface("eth0"),
        forwarded: true,
    };
    assert_eq!(end(&incoming("203.0.113.9:80"), &none), through);
}

#[test]
fn a_redirect_leads_to_loopback_or_to_the_interface_that_a_packet_came_in_through() {
    let both = rules([table(
        TableName::Nat,
        &[
            (ChainName::OUTPUT, &[], REDIRECT),
            (ChainName::PREROUTING, &[], REDIRECT),
        ],
    )]);
    assert_eq!(
        end(&outgoing("203.0.113.9:80"), &both),
        redirected("127.0.0.1:15001")
    );
    assert_eq!(
        end(&incoming("10.66.0.3:80"), &both),
        redirected("10.66.0.2:15001")
    );
    let mut bare = network();
    bare.links[1].addresses.clear();
    bare.links[0]
        .addresses
        .push("10.66.0.2/32".parse().unwrap());
    let trace = follow(&incoming("10.66.0.2:80"), &both, &bare, &[]).unwrap();
    assert_eq!(trace.end, End::Dropped);
}

#[test]
fn nat_decides_once_also_when_it_decides_to_do_nothing() {
    let inbound = rules([table(
        TableName::Nat,
        &[(ChainName::PREROUTING, &[], REDIRECT)],
    )]);
    let trace = follow(&outgoing("10.66.0.2:80"), &inbound, &network(), &[]).unwrap();
    assert_eq!(trace.end, End::Delivered { port: 80, by: None });
    let prerouting = trace.passages.iter().find(|p| p.hook == Hook::Prerouting);
    let skipped = prerouting.unwrap().tables[0].skipped;
    assert_eq!(
        skipped,
        Some("nat decides once about a connection, and did so at OUTPUT")
    );
    assert_eq!(
        end(&incoming("10.66.0.2:80"), &inbound),
        redirected("10.66.0.2:15001")
    );
}

#[test]
fn nat_is_asked_about_first_packets_only() {
    let all = rules([table(TableName::Nat, &[(ChainName::OUTPUT, &[], REDIRECT)])]);
    for (tracking, asked) in [
        (state(ConnState::New), true),
        (state(ConnState::Related), true),
        (state(ConnState::Established), false),
        (Tracking::Invalid, false),
        (Tracking::Untracked, false),
    ] {
        let probe = Probe {
            tracking,
            ..outgoing("203.0.113.9:80")
        };
        assert_eq!(
            end(&probe, &all) == redirected("127.0.0.1:15001"),
            asked,
            "{tracking:?}"
        );
    }
}

#[test]
fn rules_at_output_see_the_route_that_the_packet_had_first() {
    let lo = Match::out_interface(Interface::LOOPBACK);
    let both = rules([
        table(TableName::Nat, &[(ChainName::OUTPUT, &[], REDIRECT)]),
        table(
            TableName::Filter,
            &[(ChainName::OUTPUT, &[lo], Target::Drop)],
        ),
    ]);
    assert_eq!(
        end(&outgoing("203.0.113.9:80"), &both),
        redirected("127.0.0.1:15001")
    );
}

#[test]
fn a_mark_takes_a_packet_over_its_policy_route() {
    let mut marked = network();
    marked.policy_routes.push(PolicyRoute {
        family: Family::V4,
        mark: 7,
        table: 133,
    });
    let mark = |chain| rules([table(TableName::Mangle, &[(chain, &[], Target::mark(7))])]);
    for (probe, chain) in [
        (outgoing("203.0.113.9:80"), ChainName::OUTPUT),
        (incoming("203.0.113.9:80"), ChainName::PREROUTING),
    ] {
        let trace = follow(&probe, &mark(chain), &marked, &[]).unwrap();
        assert_eq!(trace.end, End::Delivered { port: 80, by: None });
    }
}

#[test]
fn the_socket_stays_behind_when_a_packet_comes_in_again() {
    let not_1000 = [!Match::owner(Owner::Uid(1000))];
    let refused = Target::Reject(RejectWith::IcmpPortUnreachable);
    let filter = |chain| {
        rules([table(
            TableName::Filter,
            &[(chain, &not_1000, refused.clone())],
        )])
    };
    let probe = outgoing("10.66.0.2:80");
    assert_eq!(
        end(&probe, &filter(ChainName::OUTPUT)),
        End::Delivered { port: 80, by: None }
    );
    let refused = End::Rejected(RejectWith::IcmpPortUnreachable);
    assert_eq!(end(&probe, &filter(ChainName::INPUT)), refused);
}

#[test]
fn supplementary_groups_do_not_count() {
    let group = Match::owner(Owner::Gid(1337));
    let packet = outgoing("10.66.0.2:80").packet;
    let reason = "its sender's gid is 1000, not 1337 (a supplementary group does not count)";
    assert_eq!(group.mismatch(&packet).unwrap().to_string(), reason);
}

#[test]
fn a_loop_of_jumps_is_an_error() {
    let [a, b, ..] = CHAINS;
    let around = rules([table(
        TableName::Nat,
        &[
            (ChainName::OUTPUT, &[], Target::Jump(a.clone())),
            (a.clone(), &[], Target::Jump(b.clone())),
            (b, &[], Target::Jump(a.clone())),
        ],
    )]);
    let result = follow(&outgoing("10.66.0.2:80"), &around, &network(), &[]);
    let error = JumpLoop {
        table: "nat".to_owned(),
        chain: a,
    };
    assert_eq!(result, Err(error));
}

#[test]
fn a_goto_comes_back_to_where_its_chain_would() {
    let [a, b, ..] = CHAINS;
    let mut there = rules([table(
        TableName::Nat,
        &[
            (ChainName::OUTPUT, &[], Target::Jump(a.clone())),
            (ChainName::OUTPUT, &[], REDIRECT),
            (a.clone(), &[], Target::Drop),
            (b.clone(), &[], Target::Return),
        ],
    )]);
    let none: [Match; 0] = [];
    let goto = Rule::without_comment(none, Target::Goto(b));
    there.tables[0].chains[1]
        .rules
        .insert(0, Entry::Known(goto));
    let probe = outgoing("203.0.113.9:80");
    assert_eq!(end(&probe, &there), redirected("127.0.0.1:15001"));
}

#[test]
fn a_rule_that_cannot_be_read_leaves_both_cases_open() {
    let mut open = rules([table(TableName::Nat, &[(ChainName::OUTPUT, &[], REDIRECT)])]);
    let rule = |target: Option<Target>| Entry::Undecoded {
        text: "-m something".to_owned(),
        handle: None,
        matches: vec![Match::protocol(Protocol::Tcp)],
        target,
    };
    let entries = [
        (
            rule(Some(Target::Drop)),
            vec![redirected("127.0.0.1:15001"), End::Dropped],
        ),
        (
            rule(None),
            vec![redirected("127.0.0.1:15001"), End::Unknown],
        ),
    ];
    for (entry, ends) in entries {
        open.tables[0].chains[0].rules.insert(0, entry);
        let probe = outgoing("203.0.113.9:80");
        let found = every_trace(&probe, &open, &network()).unwrap();
        assert_eq!(found.into_iter().map(|t| t.end).collect::<Vec<_>>(), ends);
        let mut udp = probe;
        udp.packet.protocol = Protocol::Udp;
        assert_eq!(
            every_trace(&udp, &open, &network()).unwrap().len(),
            1,
            "it is not about UDP"
        );
        open.tables[0].chains[0].rules.remove(0);
    }
}

#[test]
fn many_undecoded_rules_are_no_reason_to_go_on_for_ever() {
    let mut open = rules([table(TableName::Nat, &[(ChainName::OUTPUT, &[], REDIRECT)])]);
    let undecoded = Entry::Undecoded {
        text: String::new(),
        handle: None,
        matches: Vec::new(),
        target: Some(Target::mark(1)),
    };
    open.tables[0].chains[0].rules = vec![undecoded; 1000];
    assert!(
        every_trace(&outgoing("203.0.113.9:80"), &open, &network())
            .unwrap()
            .len()
            < 100
    );
}
