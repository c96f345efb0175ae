//! JSON back into the model, as docs/json.md says it.

use prepare_proxy::netfilter::model::{
    Chain, ChainName, ConnState, Family, LoopbackAddress, Match, Owner, Place, PolicyRoute,
    PortRange, PortSet, Protocol, RejectWith, Routing, Rule, RuleId, Ruleset, Side, Table,
    TableName, Target, Test,
};
use serde_json::Value;
use std::str::FromStr;

/// The ruleset of a dry run.
pub fn ruleset(value: &Value) -> Ruleset {
    let routing = &value["routing"];
    Ruleset {
        tables: list(&value["tables"], table),
        routing: Routing {
            policy_routes: list(&routing["policy-routes"], |route| PolicyRoute {
                family: family(&route["family"]),
                mark: number(&route["mark"]),
                table: number(&route["table"]),
            }),
            loopback_addresses: list(&routing["loopback-addresses"], |address| {
                LoopbackAddress(parsed(address))
            }),
        },
    }
}

fn table(value: &Value) -> Table {
    let name = TableName::parse(text(&value["name"])).expect("a table");
    let mut table = Table::new(family(&value["family"]), name);
    table.chains = list(&value["chains"], |chain| Chain {
        name: ChainName::new(text(&chain["name"])).expect("a chain"),
        rules: list(&chain["rules"], rule),
    });
    table
}

fn rule(value: &Value) -> Rule {
    let matches = list(&value["matches"], one_match);
    let id = RuleId::from(text(&value["id"]).to_owned());
    let rule = Rule::new(id, matches.clone(), target(&value["target"]));
    assert_eq!(rule.matches, matches, "in their order");
    let place = match value.get("place").map(text) {
        None => Place::Tail,
        Some("head") => Place::Head,
        Some("first") => Place::First,
        Some(place) => panic!("{place}"),
    };
    Rule { place, ..rule }
}

fn one_match(value: &Value) -> Match {
    let mut members = value.as_object().expect("an object").clone();
    let not = members.remove("not").is_some_and(|not| not == true);
    let (name, value) = members.iter().next().expect("a test");
    assert_eq!(members.len(), 1, "{members:?}");
    Match {
        not,
        test: test(name, value),
    }
}

fn test(name: &str, value: &Value) -> Test {
    let (mark, mask) = (&value["value"], &value["mask"]);
    match name {
        "source" => Test::Source(parsed(value)),
        "destination" => Test::Destination(parsed(value)),
        "in-interface" => Test::InInterface(parsed(value)),
        "out-interface" => Test::OutInterface(parsed(value)),
        "protocol" => Test::Protocol(match text(value) {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "icmpv6" => Protocol::Icmpv6,
            other => panic!("protocol {other}"),
        }),
        "port" => Test::Port {
            side: side(&value["side"]),
            ports: ports(&value["ports"]),
        },
        "multiport" => Test::Multiport {
            side: side(&value["side"]),
            ports: PortSet::new(list(&value["ports"], ports)).expect("ports"),
        },
        "owner" => Test::Owner(match value.get("uid") {
            Some(uid) => Owner::Uid(number(uid)),
            None => Owner::Gid(number(&value["gid"])),
        }),
        "conn-state" => Test::ConnState(list(value, |state| {
            let named = |s: &ConnState| s.as_str() == text(state);
            ConnState::ALL.into_iter().find(named).expect("a state")
        })),
        "mark" => Test::Mark {
            value: number(mark),
            mask: number(mask),
        },
        "connmark" => Test::Connmark {
            value: number(mark),
            mask: number(mask),
        },
        "socket" => Test::Socket {
            transparent: value["transparent"] == true,
        },
        other => panic!("test {other}"),
    }
}

fn target(value: &Value) -> Target {
    match value.as_str() {
        Some("accept") => return Target::Accept,
        Some("drop") => return Target::Drop,
        Some("return") => return Target::Return,
        Some(other) => panic!("target {other}"),
        None => {}
    }
    let members = value.as_object().expect("an object");
    let (name, value) = members.iter().next().expect("a target");
    let masks = || (number(&value["nfmask"]), number(&value["ctmask"]));
    let marked = || (number(&value["value"]), number(&value["mask"]));
    match name.as_str() {
        "jump" => Target::Jump(ChainName::new(text(value)).expect("a chain")),
        "redirect" => Target::Redirect {
            to_port: port(&value["to-port"]),
        },
        "reject" => {
            let named = |with: &RejectWith| with.as_str() == text(value);
            Target::Reject(RejectWith::all().find(named).expect("an answer"))
        }
        "mark" => {
            let (value, mask) = marked();
            Target::Mark { value, mask }
        }
        "save-mark" => {
            let (nfmask, ctmask) = masks();
            Target::SaveMark { nfmask, ctmask }
        }
        "restore-mark" => {
            let (nfmask, ctmask) = masks();
            Target::RestoreMark { nfmask, ctmask }
        }
        "tproxy" => {
            let (mark, mask) = marked();
            Target::Tproxy {
                on_port: port(&value["on-port"]),
                on_ip: parsed(&value["on-ip"]),
                value: mark,
                mask,
            }
        }
        "ct-zone" => Target::CtZone(port(value)),
        other => panic!("target {other}"),
    }
}

fn family(value: &Value) -> Family {
    match text(value) {
        "ipv4" => Family::V4,
        "ipv6" => Family::V6,
        other => panic!("family {other}"),
    }
}

fn side(value: &Value) -> Side {
    match text(value) {
        "source" => Side::Source,
        "destination" => Side::Destination,
        other => panic!("side {other}"),
    }
}

/// `80` or `8000:8100`.
fn ports(value: &Value) -> PortRange {
    let (first, last) = text(value)
        .split_once(':')
        .unwrap_or((text(value), text(value)));
    let port = |text: &str| text.parse().expect("a port");
    PortRange::new(port(first), port(last)).expect("a range")
}

fn list<T>(value: &Value, item: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().expect("a list").iter().map(item).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn parsed<T: FromStr>(value: &Value) -> T {
    let parsed = text(value).parse();
    parsed.unwrap_or_else(|_| panic!("not as it should be: {value}"))
}

fn number(value: &Value) -> u32 {
    let number = value.as_u64().and_then(|n| n.try_into().ok());
    number.unwrap_or_else(|| panic!("no number: {value}"))
}

fn port(value: &Value) -> u16 {
    number(value).try_into().expect("16 bits")
}
