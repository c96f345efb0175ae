//! `explain --live` among the rules of others, against the kernel: rulesets as everyday firewalls,
//! container engines and clusters write them, random options and connections of ours beside them.

use super::connection::{Connection, connection};
use super::explanation::Explanation;
use super::options::{Options, options};
use super::world::World;
use super::{runner, wanted};
use proptest::strategy::{Strategy, ValueTree};
use std::fs;
use std::path::{Path, PathBuf};

/// How many connections are made under one set of options.
const AT_ONCE: usize = 10;

/// The rulesets, each with the command that loads it.
fn rulesets() -> Vec<(PathBuf, &'static str)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/explain/rulesets");
    let entries = fs::read_dir(folder).expect("the rulesets are there");
    let mut all = Vec::new();
    for path in entries.map(|entry| entry.expect("a ruleset").path()) {
        match path.extension().and_then(|e| e.to_str()) {
            Some("nft") => all.push((path, "nft -f")),
            Some("iptables") => {
                all.push((path.clone(), "iptables-nft-restore --noflush"));
                all.push((path, "iptables-legacy-restore --noflush"));
            }
            other => panic!("{}: a ruleset of what: {other:?}", path.display()),
        }
    }
    all.sort();
    all
}

/// Makes connections beside a ruleset. Says how many could not be determined.
fn agree_beside(path: &Path, load: &str, seed: u64, sets: usize) -> usize {
    let name = path.file_name().expect("a name").to_string_lossy();
    let mut runner = runner(seed);
    let world = World::new("netlink");
    world.load(&format!("{load} {}", path.display()));
    let mut undetermined = 0;
    for _ in 0..sets {
        let set: Options = options().new_tree(&mut runner).expect("options").current();
        let mut new = || connection().new_tree(&mut runner).expect("a connection");
        let made: Vec<Connection> = (0..AT_ONCE).map(|_| new().current().under(&set)).collect();
        world.apply(&set);
        let explain =
            |c: &Connection| Some((c.clone(), Explanation::live(&world.explain_live(c), c)?));
        let explained: Vec<(Connection, Explanation)> = made.iter().filter_map(explain).collect();
        undetermined += made.len() - explained.len();
        let (made, explanations): (Vec<Connection>, Vec<Explanation>) =
            explained.into_iter().unzip();
        let seen = world.make(&made, &explanations);
        for ((connection, explanation), seen) in made.iter().zip(&explanations).zip(&seen) {
            assert!(
                explanation.is(seen),
                "{name}, {load}, seed {seed}: {set}\n{connection}\nexplained {explanation}\nseen {seen}\n{}\n{}",
                world.explain_live(connection),
                world.rules()
            );
        }
    }
    undetermined
}

/// Makes at least so many connections beside all rulesets together.
pub fn agree(seed: u64, connections: usize) {
    let all = rulesets();
    let sets = connections.div_ceil(all.len() * AT_ONCE);
    let mut undetermined = 0;
    for (path, load) in &all {
        undetermined += agree_beside(path, load, seed, sets);
    }
    let made = all.len() * sets * AT_ONCE;
    assert!(
        undetermined * 10 < made,
        "{undetermined} of {made} could not be determined"
    );
}

#[test]
fn connections_beside_the_rules_of_others_go_where_explain_says() {
    agree(3, 170);
}

/// As many as wanted: `scripts/bench explain SEED N`.
#[test]
#[ignore = "for scripts/bench, which says how many"]
fn as_many_connections_as_wanted_go_where_explain_says() {
    let (seed, count) = wanted();
    agree(seed, count);
    println!("{count} connections from seed {seed}, beside the rules of others: all as explained");
}
