//! `diff --connections` against the kernel: one random rule is removed or moved, and connections are
//! really made before and after. Those that it names go another way, and no others do.

use super::connection::{Connection, LOCAL, Place, connection};
use super::explanation::{self, Explanation, explain};
use super::options::{Options, options};
use super::runner;
use super::table::{fits, list};
use super::world::{Seen, World};
use crate::lab;
use prepare_proxy::netfilter::model::Family;
use proptest::sample::Index;
use proptest::strategy::{Strategy, ValueTree};
use serde_json::Value;
use std::ffi::OsString;
use std::fs;

/// How many connections are made before and after a rule is changed.
const AT_ONCE: usize = 60;

/// Both families as iptables-save prints them, IPv4 first.
type Saved = [String; 2];

/// The same with one rule removed, or moved behind the next one of its chain.
fn mutated(saved: &Saved, at: Index, moved: bool) -> Option<Saved> {
    let lines = |family: usize| saved[family].lines().map(move |line| (family, line));
    let mut all: Vec<(usize, &str)> = lines(0).chain(lines(1)).collect();
    let is_rule = |at: &usize| all[*at].1.starts_with("-A ");
    let rules: Vec<usize> = (0..all.len()).filter(is_rule).collect();
    let at = *at.get(&rules);
    let chain = |at: usize| all.get(at).and_then(|(_, line)| line.split(' ').nth(1));
    match moved {
        true if chain(at) == chain(at + 1) => all.swap(at, at + 1),
        true => return None,
        false => drop(all.remove(at)),
    }
    let of = |family: usize| {
        let lines = all.iter().filter(move |(f, _)| *f == family);
        lines.map(|(_, line)| format!("{line}\n")).collect()
    };
    Some([of(0), of(1)])
}

/// What the options treat differently from these rules.
fn differences(options: &Options, rules: &Saved) -> Value {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let [v4, v6] = rules;
    fs::write(file.path(), format!("{v4}# ip6tables-save\n{v6}")).expect("the file is written");
    let first = ["prepare-proxy", "diff", "--connections", "--format=json"];
    let against = format!("--against={}", file.path().display());
    let local = format!("--local-address={LOCAL}");
    let line = first.into_iter().map(str::to_owned).chain([against, local]);
    let line: Vec<OsString> = line.chain(options.args()).map(OsString::from).collect();
    serde_json::from_str(&explanation::run(&line)).expect("JSON")
}

/// The difference that a connection is among.
fn named<'d>(found: &'d Value, options: &Options, made: &Connection) -> Option<&'d Value> {
    let local = vec!["--local-address".to_owned(), LOCAL.to_owned()];
    let asked = explain(&[options.args(), local, made.question()].concat());
    let direction = match made.place {
        Place::Pod => "outbound",
        _ => "inbound",
    };
    let family = if made.to.is_ipv4() { "ipv4" } else { "ipv6" };
    let all = |conditions: &Value| {
        list(conditions)
            .iter()
            .all(|c| fits(c, &asked["connection"]))
    };
    let mut connections = list(&found["connections"]).iter();
    connections.find(|difference| {
        difference["direction"] == direction
            && difference["family"] == family
            && list(&difference["packets"]).iter().any(all)
    })
}

/// Where packets end on one side of a difference, without the marks that they end with.
fn end(difference: &Value, side: &str) -> Value {
    let mut end = difference[side].clone();
    let members = end.as_object_mut().expect("an end");
    members.retain(|name, _| !["mark", "ct-mark", "zone"].contains(&name.as_str()));
    end
}

/// What can be seen of the way of a connection, whatever its own port.
fn way(seen: &Seen) -> (&str, &str, &str) {
    (&seen.by, &seen.original, &seen.error)
}

/// Changes rules, and says how many connections were named, and how many were made.
fn agree(seed: u64, changes: usize) -> (usize, usize) {
    let mut runner = runner(seed);
    let world = World::new("netlink");
    let (mut differing, mut made) = (0, 0);
    let change = (options(), proptest::arbitrary::any::<(Index, bool)>());
    for _ in 0..changes {
        let (set, (at, moved)) = change.new_tree(&mut runner).expect("a change").current();
        world.apply(&set);
        let saved = Family::ALL.map(|family| world.saved(family));
        let Some(mutated) = mutated(&saved, at, moved) else {
            continue;
        };
        let found = differences(&set, &mutated);
        assert_eq!(found["determined"], true, "{set}");
        let mut new = || {
            connection()
                .new_tree(&mut runner)
                .expect("a connection")
                .current()
        };
        let all: Vec<Connection> = (0..AT_ONCE)
            .map(|_| {
                Connection {
                    udp: false,
                    mark: 0,
                    ..new()
                }
                .under(&set)
            })
            .filter(|connection| !connection.udp)
            .collect();
        let explained: Vec<Explanation> = all.iter().map(|c| Explanation::of(&set, c)).collect();
        let after = world.make(&all, &explained);
        for (family, rules) in Family::ALL.into_iter().zip(&mutated) {
            world.restore(family, rules);
        }
        let before = world.make(&all, &explained);
        for ((connection, before), after) in all.iter().zip(&before).zip(&after) {
            let named = named(&found, &set, connection);
            let is_fate = |d: &Value| end(d, "before") != end(d, "after");
            assert_eq!(
                named.is_some_and(is_fate),
                way(before) != way(after),
                "{set}\n{connection}\nbefore {before}\nafter {after}\n{named:#?}\n{mutated:#?}"
            );
            differing += usize::from(named.is_some());
        }
        made += all.len();
    }
    (differing, made)
}

/// All of them with THOROUGH=1, a sample otherwise.
#[test]
fn connections_that_are_named_go_another_way_and_no_others() {
    let (differing, made) = match lab::is_thorough() {
        true => agree(5, 400),
        false => agree(5, 12),
    };
    // Both kinds were made.
    assert!((1..made).contains(&differing), "{differing} of {made}");
}
