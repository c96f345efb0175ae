//! One ruleset with every match and target that the model has, and every way to say it.

use ipnet::IpNet;
use prepare_proxy::netfilter::model::{
    Chain, ChainName, ConnState, Family, Match, Owner, PortRange, PortSet, Protocol, RejectWith,
    Rule, Ruleset, Side, Table, TableName, Target, Test,
};
use std::net::IpAddr;

const ISTIO: ChainName = ChainName::fixed("ISTIO_ZOO");
const CALLED: ChainName = ChainName::fixed("ISTIO_CALLED");

/// Both families, all four tables.
pub fn everything() -> Ruleset {
    let tables = Family::ALL
        .into_iter()
        .flat_map(|f| [raw(f), mangle(f), nat(f), filter(f)]);
    Ruleset {
        tables: tables.collect(),
        ..Ruleset::default()
    }
    .labelled("istio")
}

fn tcp() -> Match {
    Match::protocol(Protocol::Tcp)
}

fn ports(side: Side, ports: &[(u16, u16)]) -> Match {
    let ranges = ports.iter().map(|(a, b)| PortRange::new(*a, *b).unwrap());
    let ports = PortSet::new(ranges).unwrap();
    Match::new(Test::Multiport { side, ports })
}

fn net(family: Family, prefix: u8) -> Match {
    let address: IpAddr = match family {
        Family::V4 => "10.171.205.239".parse().unwrap(),
        Family::V6 => "2001:db8:aaaa:bbbb:cccc:dddd:abcd:ef01".parse().unwrap(),
    };
    Match::destination(IpNet::new(address, prefix).unwrap())
}

/// What a packet's own headers say.
fn nat(family: Family) -> Table {
    let mut table = Table::new(family, TableName::Nat);
    let interface = |name: &str| name.parse().unwrap();
    let zoo = table.chain(ISTIO);
    zoo.rule("returns", [], Target::Return);
    for prefix in [1, 8, 9, 16, 23, 24, 31, 32] {
        zoo.rule("to", [net(family, prefix)], Target::Jump(CALLED));
        zoo.rule("not-to", [!net(family, prefix)], Target::Return);
    }
    let all = net(family, family.bits());
    let Test::Destination(all) = all.test else {
        unreachable!()
    };
    zoo.rule("from", [Match::source(all)], Target::Return);
    zoo.rule("not-from", [!Match::source(all)], Target::Return);
    zoo.rule(
        "in",
        [Match::in_interface(interface("eth0"))],
        Target::Return,
    );
    zoo.rule(
        "out",
        [
            Match::out_interface(interface("net+")),
            !Match::in_interface(interface("fifteen-bytes-x")),
            tcp(),
        ],
        Target::Return,
    );
    zoo.rule("not-tcp", [!tcp()], Target::Return);
    for port in [
        Match::dport(53),
        Match::sport(PortRange::new(1, 65534).unwrap()),
    ] {
        let udp = Match::protocol(Protocol::Udp);
        zoo.rule("port", [udp, port.clone()], Target::Return);
        zoo.rule("not-port", [tcp(), !port], Target::Accept);
    }
    zoo.rule(
        "to-port",
        [tcp(), ports(Side::Destination, &[(53, 53), (8000, 8100)])],
        Target::Redirect { to_port: 15001 },
    );
    zoo.rule(
        "from-port",
        [tcp(), !ports(Side::Source, &[(443, 443); 15])],
        Target::Redirect { to_port: 65535 },
    );
    runs(family, table.chain(CALLED));
    let base = table.chain(ChainName::OUTPUT);
    base.rule("output", [tcp()], Target::Jump(ISTIO));
    base.rules
        .push(Rule::new("first", [], Target::Jump(ISTIO)).at_head());
    base.rules
        .push(Rule::new("second", [tcp()], Target::Jump(ISTIO)).at_head());
    let prerouting = table.chain(ChainName::PREROUTING);
    prerouting.rule("prerouting", [], Target::Jump(CALLED));
    table
}

/// Runs of rules that differ in one value.
fn runs(family: Family, chain: &mut Chain) {
    for i in 0..10u8 {
        let net = match family {
            Family::V4 => format!("10.{}.0.0/15", 2 * i),
            Family::V6 => format!("2001:db8:{:x}::/47", 2 * i),
        };
        let net: IpNet = net.parse().unwrap();
        let matches = [Match::destination(net)];
        chain.rule(format!("bypass-ip-range-{net}"), matches, Target::Return);
    }
    for port in [1u16, 22, 80, 443] {
        let matches = [tcp(), Match::sport(port)];
        chain.rule(format!("bypass-port-{port}"), matches, Target::Return);
    }
}

/// Marks, sockets, owners and states.
fn mangle(family: Family) -> Table {
    let mut table = Table::new(family, TableName::Mangle);
    let zoo = table.chain(ISTIO);
    let marked = |value, mask| Match::new(Test::Mark { value, mask });
    let conn = |value, mask| Match::new(Test::Connmark { value, mask });
    for (value, mask) in [(1337, u32::MAX), (0x20, 0xff)] {
        zoo.rule("mark", [marked(value, mask)], Target::Mark { value, mask });
        zoo.rule("not-mark", [!marked(value, mask)], Target::mark(value));
        zoo.rule("connmark", [conn(value, mask)], Target::save_mark());
        zoo.rule("not-connmark", [!conn(value, mask)], Target::restore_mark());
    }
    let all = u32::MAX;
    let (nfmask, ctmask) = (0xff, all);
    zoo.rule("save", [], Target::SaveMark { nfmask, ctmask });
    zoo.rule(
        "restore",
        [],
        Target::RestoreMark {
            nfmask: all,
            ctmask: 0xf0f,
        },
    );
    for states in [
        &ConnState::ALL[..],
        &[ConnState::Invalid],
        &[ConnState::Untracked],
    ] {
        let states = Match::state(states.iter().copied());
        zoo.rule("state", [states.clone()], Target::Drop);
        zoo.rule("not-state", [!states], Target::Drop);
    }
    zoo.rule("socket", [tcp(), Match::socket()], Target::Accept);
    let transparent = Match::new(Test::Socket { transparent: true });
    zoo.rule("transparent", [tcp(), transparent], Target::Accept);
    for on_ip in [family.unspecified(), loopback(family)] {
        for mask in [u32::MAX, 0xffff] {
            let target = Target::Tproxy {
                on_port: 15006,
                on_ip,
                value: 1337,
                mask,
            };
            zoo.rule("tproxy", [tcp()], target);
        }
    }
    table
        .chain(ChainName::PREROUTING)
        .rule("prerouting", [tcp()], Target::Jump(ISTIO));
    let owned = table.chain(CALLED);
    for owner in [Owner::Uid(1337), Owner::Gid(0)] {
        owned.rule("owner", [Match::owner(owner)], Target::mark(1338));
        owned.rule("not-owner", [tcp(), !Match::owner(owner)], Target::Return);
        owned.rule("not-owner", [!Match::owner(owner)], Target::mark(1339));
    }
    let neither = [Owner::Gid(202), Owner::Gid(203)].map(|o| !Match::owner(o));
    owned.rule("neither", neither, Target::Return);
    owned.rule("rest", [tcp()], Target::mark(7));
    for port in [1u16, 2, 3, 80, 65535] {
        let matches = [tcp(), Match::dport(port), !Match::owner(Owner::Uid(7))];
        owned.rule(format!("bypass-port-{port}"), matches, Target::Return);
    }
    table
        .chain(ChainName::OUTPUT)
        .rule("output", [], Target::Jump(CALLED));
    table
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => [127, 0, 0, 1].into(),
        Family::V6 => std::net::Ipv6Addr::LOCALHOST.into(),
    }
}

fn raw(family: Family) -> Table {
    let mut table = Table::new(family, TableName::Raw);
    let udp = || Match::protocol(Protocol::Udp);
    let dns = [udp(), Match::dport(53), Match::owner(Owner::Uid(1337))];
    table
        .chain(ChainName::OUTPUT)
        .rule("zone", dns, Target::CtZone(1));
    let answer = [udp(), Match::sport(53)];
    table
        .chain(ChainName::PREROUTING)
        .rule("zone", answer, Target::CtZone(65535));
    table
}

fn filter(family: Family) -> Table {
    let mut table = Table::new(family, TableName::Filter);
    let zoo = table.chain(ISTIO);
    if family == Family::V6 {
        zoo.rule("icmp", [Match::protocol(Protocol::Icmpv6)], Target::Accept);
    }
    let refusal = match family {
        Family::V4 => RejectWith::IcmpPortUnreachable,
        Family::V6 => RejectWith::Icmp6PortUnreachable,
    };
    zoo.rule("reset", [tcp()], Target::Reject(RejectWith::TcpReset));
    zoo.rule("reject", [], Target::Reject(refusal));
    table
        .chain(ChainName::INPUT)
        .rule("input", [], Target::Jump(ISTIO));
    table
}
