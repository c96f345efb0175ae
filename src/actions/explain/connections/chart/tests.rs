//! Charts of small rulesets, and packets that are followed through them.

use super::*;
use crate::netfilter::iptables::parse_save;
use crate::netfilter::model::{
    ChainName, ConnState, Connection, Credentials, HookedTable, Interface, Match, NatTo, Packet,
    PortRange, Protocol, Rule, Ruleset, Side, Table, TableName, Target, Test, Tracking,
};
use crate::netfilter::trace::{Effect, End, Link, Network, NextHop, Probe, Start, Trace, follow};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What iptables-save printed, as IPv4 rules.
fn saved(text: &str) -> Rules {
    let tables = parse_save(Family::V4, text).expect("rules");
    let hooked = tables
        .iter()
        .map(|t| HookedTable::observed(t.name.to_string(), t));
    Rules {
        tables: hooked.collect(),
    }
}

fn chart(text: &str) -> Chart {
    charts(&saved(text), &[Family::V4]).remove(0)
}

impl Chart {
    fn find(&self, label: &Label) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        let found = nodes.filter(|(_, node)| node.label == *label);
        found.map(|(at, _)| at).collect()
    }

    /// All nodes behind this one, on ways that do not lead through `without`.
    fn behind(&self, node: usize, without: &[usize]) -> Vec<&Label> {
        let mut found = vec![node];
        let mut at = 0;
        while let Some(node) = found.get(at) {
            for arrow in &self.nodes[*node].arrows {
                if !found.contains(&arrow.to) && !without.contains(&arrow.to) {
                    found.push(arrow.to);
                }
            }
            at += 1;
        }
        found[1..].iter().map(|at| &self.nodes[*at].label).collect()
    }

    fn arrows_of(&self, table: &str, chain: &str) -> Vec<(Way, &Label)> {
        let found = self.find(&chain_label(table, chain));
        let [node] = found.as_slice() else {
            panic!("{chain} is drawn {} times", found.len())
        };
        let arrows = self.nodes[*node].arrows.iter();
        arrows
            .map(|a| (a.way.clone(), &self.nodes[a.to].label))
            .collect()
    }
}

fn chain_label(table: &str, chain: &str) -> Label {
    Label::Chain {
        table: table.to_owned(),
        chain: chain.to_owned(),
    }
}

fn port(port: u16) -> Label {
    Label::Port {
        port,
        transparent: false,
    }
}

fn rule(position: usize, text: &str) -> Way {
    Way::Rules(vec![(vec![position], text.to_owned())])
}

const NAT: &str = "*nat
:OUTPUT ACCEPT
:PREROUTING ACCEPT
-A PREROUTING -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -m owner --uid-owner 1337 -j RETURN
-A OUTPUT -p tcp -j REDIRECT --to-ports 15001
COMMIT
";

#[test]
fn a_redirected_packet_passes_the_hooks_that_follow() {
    let filter =
        "*filter\n:INPUT DROP\n-A INPUT -p tcp -m tcp --dport 15001:15006 -j ACCEPT\nCOMMIT\n";
    let chart = chart(&format!("{NAT}{filter}"));
    let input = chart.find(&chain_label("filter", "INPUT"));
    assert_eq!(input.len(), 1);
    for redirected in [15001, 15006] {
        let node = chart.find(&port(redirected))[0];
        assert!(chart.behind(node, &[]).contains(&&Label::Accepted));
        assert!(chart.behind(node, &input).is_empty(), "{chart:#?}");
    }
    let arrows = chart.arrows_of("filter", "INPUT");
    let allowed = rule(1, "-p tcp -m tcp --dport 15001:15006 -j ACCEPT");
    assert_eq!(
        arrows,
        [
            (allowed, &Label::Accepted),
            (Way::Otherwise, &Label::Dropped)
        ]
    );
    // What a process sends to this namespace itself is not looked up in nat again.
    let outgoing = chart.find(&Label::Process)[0];
    assert!(!chart.behind(outgoing, &[]).contains(&&port(15006)));
}

#[test]
fn an_end_behind_which_no_hook_has_rules_stays_an_end() {
    let chart = chart(NAT);
    let node = chart.find(&port(15006))[0];
    assert!(chart.nodes[node].arrows.is_empty());
    assert_eq!(
        chart.arrows_of("nat", "OUTPUT"),
        [
            (
                rule(1, "-m owner --uid-owner 1337 -j RETURN"),
                &Label::Direct
            ),
            (rule(2, "-p tcp -j REDIRECT --to-ports 15001"), &port(15001)),
            (Way::Otherwise, &Label::Direct),
        ]
    );
}

#[test]
fn nothing_leaves_a_chain_behind_a_rule_that_ends_everything() {
    let chart = chart(
        "*filter\n:INPUT ACCEPT\n:A -\n:B -\n-A INPUT -j MARK --set-xmark 0x1/0x1\n-A INPUT -j B\n\
         -A INPUT -j A\n-A INPUT -j ACCEPT\n-A A -i lo -j RETURN\n-A A -p udp -j ACCEPT\n-A A -j DROP\n\
         -A A -p tcp -j ACCEPT\n-A B -j MARK --set-xmark 0x1/0x1\nCOMMIT\n",
    );
    assert_eq!(
        chart.arrows_of("filter", "A"),
        [
            (
                Way::Rules(vec![
                    (vec![1], "-i lo -j RETURN".to_owned()),
                    (vec![2], "-p udp -j ACCEPT".to_owned()),
                ]),
                &Label::Direct
            ),
            (rule(3, "-j DROP"), &Label::Dropped),
        ]
    );
    assert_eq!(
        chart.arrows_of("filter", "INPUT"),
        [(rule(1, "-j A"), &chain_label("filter", "A"))]
    );
    // It only marks.
    assert!(chart.find(&chain_label("filter", "B")).is_empty());
}

#[test]
fn a_chain_returns_to_rules_that_follow_in_its_caller() {
    let chart = chart(
        "*filter\n:INPUT ACCEPT\n:A -\n-A INPUT -p tcp -j A\n-A INPUT -p udp -j DROP\n\
         -A A -i lo -j RETURN\n-A A -i eth0 -j DROP\nCOMMIT\n",
    );
    let input = chain_label("filter", "INPUT");
    assert_eq!(
        chart.arrows_of("filter", "A"),
        [
            (rule(1, "-i lo -j RETURN"), &input),
            (rule(2, "-i eth0 -j DROP"), &Label::Dropped),
            (Way::Otherwise, &input),
        ]
    );
}

#[test]
fn families_are_drawn_apart_where_they_differ() {
    let mut rules = saved(NAT);
    let drawn = charts(&rules, &Family::ALL);
    assert_eq!(drawn.len(), 2);
    let process = drawn[1].find(&Label::Process)[0];
    assert_eq!(drawn[1].behind(process, &[]), [&Label::Direct]);
    rules.tables[0].family = None;
    assert_eq!(charts(&rules, &Family::ALL).len(), 1);
}

const CHAINS: [ChainName; 4] = [
    ChainName::fixed("A"),
    ChainName::fixed("B"),
    ChainName::fixed("C"),
    ChainName::fixed("D"),
];
const BASE: [ChainName; 5] = [
    ChainName::PREROUTING,
    ChainName::INPUT,
    ChainName::fixed("FORWARD"),
    ChainName::OUTPUT,
    ChainName::fixed("POSTROUTING"),
];

/// A rule that the kernel takes in this table.
fn any_rule(table: TableName) -> impl Strategy<Value = Rule> {
    let to = |end: &str| {
        let end: std::net::SocketAddr = end.parse().expect("an end");
        Target::Dnat(NatTo {
            addresses: Some((end.ip(), end.ip())),
            ports: Some(PortRange::from(end.port())),
        })
    };
    let tproxy = Target::Tproxy {
        on_port: 15006,
        on_ip: [0, 0, 0, 0].into(),
        value: 1,
        mask: 1,
    };
    let mark = Target::Mark { value: 1, mask: 1 };
    let mut targets = vec![Target::Return, Target::Accept, Target::Drop, mark];
    match table {
        TableName::Nat => {
            targets.push(Target::Redirect { to_port: 15001 });
            targets.extend(["10.66.0.2:80", "203.0.113.7:80"].map(to));
        }
        TableName::Mangle => targets.push(tproxy),
        _ => {}
    }
    targets.extend(
        CHAINS
            .map(Target::Jump)
            .into_iter()
            .chain(CHAINS.map(Target::Goto)),
    );
    let matches = [
        vec![],
        vec![Match::protocol(Protocol::Tcp)],
        vec![!Match::protocol(Protocol::Tcp)],
        vec![Match::in_interface(Interface::LOOPBACK)],
        vec![Match::new(Test::Port {
            side: Side::Destination,
            ports: PortRange::from(80),
        })],
    ];
    (select(matches.to_vec()), select(targets))
        .prop_map(|(matches, target)| Rule::without_comment(matches, target))
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let chains = |table: TableName| {
        let base = BASE.into_iter().filter(|base| match table {
            TableName::Raw | TableName::Nat => [&BASE[0], &BASE[3]].contains(&base),
            TableName::Mangle => true,
            TableName::Filter => BASE[1..4].contains(base),
        });
        let names: Vec<ChainName> = base.chain(CHAINS).collect();
        vec((select(names), vec(any_rule(table), 1..5)), 0..8)
    };
    let tables = TableName::ALL.map(chains);
    (tables, vec(0..10_u8, 20)).prop_map(|(tables, policies)| {
        let tables = TableName::ALL
            .into_iter()
            .zip(tables)
            .map(|(name, chains)| {
                let mut table = Table::new(Family::V4, name);
                for (chain, rules) in chains {
                    // The kernel refuses loops: chains lead to later ones only.
                    let leads_on = |rule: &Rule| match &rule.target {
                        Target::Jump(to) | Target::Goto(to) => {
                            chain.hook().is_some() || to.as_str() > chain.as_str()
                        }
                        _ => true,
                    };
                    let rules: Vec<Rule> = rules.into_iter().filter(leads_on).collect();
                    table.chain(chain).rules.extend(rules);
                }
                table
            });
        let mut rules = Rules::of(&Ruleset {
            tables: tables.collect(),
            ..Ruleset::default()
        });
        let chains = rules.tables.iter_mut().flat_map(|t| &mut t.chains);
        let base = chains.filter_map(|c| c.base.as_mut());
        base.zip(policies)
            .for_each(|(base, policy)| base.accepts = policy > 0);
        rules
    })
}

fn any_probe() -> impl Strategy<Value = Probe> {
    let to = select(vec!["10.66.0.2:80", "10.66.0.2:22", "203.0.113.9:80"]);
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp]);
    (any::<bool>(), to, protocol).prop_map(|(here, to, protocol)| {
        let from = if here {
            "10.66.0.2:5000"
        } else {
            "10.66.0.1:5000"
        };
        let [from, to] = [from, to].map(|end| end.parse().expect("an end"));
        let mut packet = Packet::new(protocol, from, to);
        packet.tracking = Tracking::NotYet;
        packet.owner = here.then(|| Credentials::new(1000, 1000));
        packet.in_interface = (!here).then_some(Interface::ETH0);
        Probe {
            start: if here { Start::Here } else { Start::Outside },
            packet,
            tracking: Tracking::Known(Connection {
                state: ConnState::New,
                mark: 0,
            }),
        }
    })
}

fn network() -> Network {
    let net = |net: &str| net.parse().expect("a prefix");
    let link = |name, address| Link {
        name,
        addresses: vec![net(address)],
    };
    let out = NextHop::Out {
        through: Interface::ETH0,
        source: None,
    };
    Network {
        links: vec![
            link(Interface::LOOPBACK, "127.0.0.1/8"),
            link(Interface::ETH0, "10.66.0.2/24"),
        ],
        routes: vec![(net("0.0.0.0/0"), out)],
        policy_routes: Vec::new(),
    }
}

/// The nodes of a chart at which a packet may be that is in this base chain, as far as the next one.
fn onward(chart: &Chart, at: &[usize], base: &[usize]) -> Vec<usize> {
    let is_base = |node: usize| {
        let names = BASE.map(|name| name.to_string());
        matches!(&chart.nodes[node].label, Label::Chain { chain, .. } if names.contains(chain))
    };
    let mut found = at.to_vec();
    let mut next = 0;
    while let Some(node) = found.get(next).copied() {
        let arrows = chart.nodes[node].arrows.iter();
        for arrow in arrows.filter(|a| !matches!(a.way, Way::Rules(_))) {
            let arrived = next >= at.len() && is_base(node) && !base.contains(&node);
            if !arrived && !found.contains(&arrow.to) {
                found.push(arrow.to);
            }
        }
        next += 1;
    }
    found
}

/// Where a packet ends in a chart that takes the arrows of the rules which it matched.
fn follow_in(chart: &Chart, trace: &Trace, start: Start) -> Result<Vec<Label>, String> {
    let start = match start {
        Start::Here => Label::Process,
        Start::Outside => Label::Outside,
    };
    let mut at = chart.find(&start);
    let mut inside = Vec::new();
    for table in trace.tables().filter(|table| table.skipped.is_none()) {
        let base = chart.find(&chain_label(&table.table, table.chain.as_str()));
        if !base.is_empty() {
            at = onward(chart, &at, &inside);
            at.retain(|node| base.contains(node));
            inside.clone_from(&at);
        }
        if at.is_empty() {
            return Err(format!("no way to {} {}", table.table, table.chain));
        }
        for step in &table.steps {
            let Some(effect) = step.outcome.effect() else {
                continue;
            };
            let label = chain_label(&table.table, step.chain.as_str());
            let name = step.rule.text();
            let here = onward(chart, &at, &inside);
            let here = here
                .iter()
                .filter(|node| chart.nodes[**node].label == label);
            let arrows = here.flat_map(|node| &chart.nodes[*node].arrows);
            let taken = arrows.filter(|arrow| match &arrow.way {
                Way::Rules(rules) => rules.iter().any(|(_, rule)| *rule == name),
                _ => false,
            });
            let next: Vec<usize> = taken.map(|arrow| arrow.to).collect();
            // It is not drawn where the rest of the chain does the same; the end shows whether it does.
            let may_be_left_out = matches!(
                effect,
                Effect::Jumped(_)
                    | Effect::Returned(_)
                    | Effect::Accepted
                    | Effect::Dropped
                    | Effect::Marked(_)
            );
            match next.is_empty() {
                false => at = next,
                true if may_be_left_out => {}
                true => return Err(format!("{} {} has no \"{name}\"", table.table, step.chain)),
            }
        }
    }
    let ends = onward(chart, &at, &inside)
        .into_iter()
        .map(|node| &chart.nodes[node]);
    let ends = ends.filter(|node| node.arrows.is_empty());
    Ok(ends.map(|node| node.label.clone()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_way_of_a_packet_is_a_way_in_the_chart(rules in any_rules(), probe in any_probe()) {
        let Ok(trace) = follow(&probe, &rules, &network(), &[]) else {
            return Ok(());
        };
        // A jump to a chain that is not there, and REDIRECT at a hook where the kernel refuses it.
        let mut effects = trace.steps().filter_map(|(_, step)| step.outcome.effect());
        if trace.end == End::Unknown || effects.any(|effect| *effect == Effect::NoAddress) {
            return Ok(());
        }
        let chart = charts(&rules, &[Family::V4]).remove(0);
        let ends = follow_in(&chart, &trace, probe.start);
        let ends = ends.map_err(|e| TestCaseError::fail(format!("{e}\n{chart:#?}\n{trace:#?}")))?;
        let is_end = |label: &Label| match trace.end {
            End::Dropped => *label == Label::Dropped,
            End::Delivered { .. } | End::Sent { .. } => {
                !matches!(label, Label::Dropped | Label::Refused)
            }
            _ => true,
        };
        prop_assert!(ends.iter().any(is_end), "{ends:?}\n{chart:#?}\n{trace:#?}");
    }
}
