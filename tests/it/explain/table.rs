//! The table of all connections and the explanation of one say the same.

use super::connection::{Connection, LOCAL, Place, connection};
use super::explanation::explain;
use super::options::options;
use super::runner;
use ipnet::IpNet;
use proptest::strategy::{Strategy, ValueTree};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

const OPTIONS: usize = 12;
const CONNECTIONS: usize = 40;

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A number that a condition is about, or nothing for an address.
fn number(field: &str, asked: &Value) -> Option<u32> {
    let end = |key: &str| {
        asked[key]
            .as_str()
            .and_then(|end| end.parse::<SocketAddr>().ok())
    };
    let id = |key: &str| asked["user"][key].as_u64().map(|id| id as u32);
    match field {
        "uid" => id("uid"),
        "gid" => id("gid"),
        "destination-port" => end("to").map(|end| end.port().into()),
        // Any that no rule names.
        "source-port" => Some(49152),
        "mark" | "ct-mark" => Some(0),
        _ => None,
    }
}

/// Whether a packet has one of these values.
fn has(field: &str, value: &str, asked: &Value) -> bool {
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    let address = |key: &str| -> IpAddr {
        let end = text(key).parse::<SocketAddr>().map(|end| end.ip());
        end.unwrap_or_else(|_| text(key).parse().expect("an address"))
    };
    match field {
        "source" | "destination" => {
            let key = if field == "source" { "from" } else { "to" };
            let net = value.parse::<IpNet>();
            let net =
                net.unwrap_or_else(|_| IpNet::from(value.parse::<IpAddr>().expect("an address")));
            net.contains(&address(key))
        }
        "protocol" => text("protocol").eq_ignore_ascii_case(value),
        "in-interface" => text("interface") == value,
        "ct-state" => value == "NEW",
        "socket" => value == "none",
        "process" => (value == "yes") == asked["user"].is_object(),
        field => {
            let number = number(field, asked).unwrap_or_else(|| panic!("{field}: {asked}"));
            match value.split_once(['-', ':']) {
                Some((first, last)) => {
                    let [first, last] = [first, last].map(|n| n.parse().expect("a number"));
                    (first..=last).contains(&number)
                }
                None => {
                    value
                        .strip_prefix("0x")
                        .map_or(value.parse(), |hex| u32::from_str_radix(hex, 16))
                        == Ok(number)
                }
            }
        }
    }
}

/// Whether a packet is as a condition says.
pub fn fits(condition: &Value, asked: &Value) -> bool {
    let field = condition["field"].as_str().expect("a field");
    let one_of = |key: &str| {
        let values = list(&condition[key]).iter();
        values
            .map(|v| v.as_str().expect("a text"))
            .any(|value| has(field, value, asked))
    };
    (one_of("values") && !one_of("except")) != (condition["not"] == true)
}

/// What the first row that fits says.
fn row<'t>(table: &'t Value, asked: &Value, place: Place, to: IpAddr) -> &'t Value {
    let direction = if place == Place::Pod {
        "outbound"
    } else {
        "inbound"
    };
    let family = if to.is_ipv4() { "ipv4" } else { "ipv6" };
    let mut sections = list(&table["sections"]).iter();
    let section = sections.find(|section| {
        section["direction"] == direction && list(&section["families"]).iter().any(|f| f == family)
    });
    let section = section.unwrap_or_else(|| panic!("no {direction} {family}"));
    let mut rows = list(&section["rows"]).iter();
    let all = |conditions: &Value| list(conditions).iter().all(|c| fits(c, asked));
    let row = rows.find(|row| list(&row["packets"]).iter().any(all));
    row.unwrap_or_else(|| panic!("no row for {asked}"))
}

/// Whether a row says what the explanation of one connection says.
fn agrees(row: &Value, explanation: &Value, to: SocketAddr) -> bool {
    let end = &explanation["cases"][0]["end"];
    let stays = end["to"] == to.to_string();
    match row["fate"].as_str().expect("a fate") {
        "proxy" => {
            let by = if row["transparent"] == true {
                "tproxy"
            } else {
                "redirect"
            };
            end["by"] == by && end["port"] == row["port"]
        }
        "direct" => {
            end["by"].is_null()
                && stays
                && ["delivered", "sent"].contains(&end["kind"].as_str().unwrap())
        }
        "refused" => end["kind"] == "rejected" && end["with"] == row["with"],
        "dropped" => end["kind"] == "dropped",
        "no-route" => end["kind"] == "no-route",
        fate => panic!("{fate}: {row}"),
    }
}

#[test]
fn an_interface_without_an_address_is_named() {
    let line = "--mesh istio -u 1337 -i * -k net1 --local-address 10.66.0.2";
    let mut args: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let is_named = |args: &[String]| {
        let table = explain(args);
        let mut assumptions = list(&table["assumptions"]).iter();
        assumptions.any(|a| a.as_str().is_some_and(|a| a.starts_with("net1 ")))
    };
    assert!(is_named(&args));
    args.extend(["--local-address", "10.68.0.2%net1"].map(str::to_owned));
    assert!(!is_named(&args));
}

#[test]
fn the_table_says_of_each_connection_what_its_explanation_says() {
    let mut runner = runner(20);
    let mut captured = 0;
    for _ in 0..OPTIONS {
        let options = options().new_tree(&mut runner).expect("options").current();
        let args = [
            options.args(),
            vec!["--local-address".to_owned(), LOCAL.to_owned()],
        ]
        .concat();
        let table = explain(&args);
        assert_eq!(table["determined"], true);
        for _ in 0..CONNECTIONS {
            let made = connection()
                .new_tree(&mut runner)
                .expect("a connection")
                .current();
            let first_groups = made.user.split(',').next().expect("a group").to_owned();
            let made = Connection {
                mark: 0,
                user: first_groups,
                ..made.under(&options)
            };
            let explanation = explain(&[args.clone(), made.question()].concat());
            if explanation["cases"][0]["end"]["kind"] == "forwarded" || made.goes_through() {
                continue;
            }
            let row = row(&table, &explanation["connection"], made.place, made.to.ip());
            captured += usize::from(row["fate"] == "proxy");
            assert!(
                agrees(row, &explanation, made.to),
                "{options}\n{made}\n{row:#}\n{explanation:#}"
            );
        }
    }
    // Both answers were compared.
    assert!(
        (OPTIONS..OPTIONS * CONNECTIONS - OPTIONS).contains(&captured),
        "{captured}"
    );
}
