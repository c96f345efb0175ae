//! `explain` against the kernel: random options of every mesh, random connections, really made on
//! every backend. Where each one ended is what was said of it.

mod beside;
mod connection;
mod differ;
mod explanation;
mod live;
mod options;
mod page;
mod table;
mod world;

use connection::{Connection, connection};
use explanation::Explanation;
use options::{Options, options};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::thread;
use world::{Seen, World};

/// How many connections are made under one set of options.
const AT_ONCE: usize = 100;

/// Random values from a seed.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), rng)
}

/// Makes so many connections on each backend, and fails at the first that went another way.
fn agree(seed: u64, connections: usize) {
    let mut runner = runner(seed);
    let worlds = World::on_every_backend();
    for _ in 0..connections.div_ceil(AT_ONCE) {
        let mut options = options().new_tree(&mut runner).expect("options");
        let new = |_| connection().new_tree(&mut runner).expect("a connection");
        let mut trees: Vec<_> = (0..AT_ONCE).map(new).collect();
        let set = options.current();
        let made: Vec<Connection> = trees.iter().map(|t| t.current().under(&set)).collect();
        let explanations: Vec<Explanation> =
            made.iter().map(|c| Explanation::of(&set, c)).collect();
        let try_all = |world: &World| world.try_all(&set, &made, &explanations);
        let seen: Vec<Vec<Seen>> = thread::scope(|scope| {
            let threads: Vec<_> = worlds
                .iter()
                .map(|w| scope.spawn(move || try_all(w)))
                .collect();
            let results = threads.into_iter().map(|t| t.join().expect("a world ends"));
            results.collect()
        });
        for (world, seen) in worlds.iter().zip(&seen) {
            let mut wrong = (0..AT_ONCE).filter(|i| !explanations[*i].is(&seen[*i]));
            if let Some(at) = wrong.next() {
                let count = wrong.count();
                let (explanation, seen) = (&explanations[at], &seen[at]);
                let first = format!("{set}\n{}\nexplained {explanation}\nseen {seen}", made[at]);
                let smallest = shrink(world, &mut options, &mut trees[at]);
                let smallest = smallest.unwrap_or(format!("{first}, but not when made alone"));
                panic!("seed {seed}, {}: {smallest}\n({count} more)", world.backend);
            }
        }
    }
}

/// The smallest options and connection with which the two still disagree, and what each said.
fn shrink(
    world: &World,
    options: &mut impl ValueTree<Value = Options>,
    connection: &mut impl ValueTree<Value = Connection>,
) -> Option<String> {
    let mut found = None;
    // The connection last: what the options mean depends less on it than the other way round.
    let mut fails = |options: &Options, connection: &Connection| {
        let connection = &connection.clone().under(options);
        let explanation = Explanation::of(options, connection);
        let seen = world.try_all(
            options,
            std::slice::from_ref(connection),
            std::slice::from_ref(&explanation),
        );
        let differs = !explanation.is(&seen[0]);
        if differs {
            let rules = world.rules();
            let seen = &seen[0];
            found = Some(format!(
                "{options}\n{connection}\nexplained {explanation}\nseen {seen}\n{rules}"
            ));
        }
        differs
    };
    let fixed = connection.current();
    smallest(options, |options| fails(options, &fixed));
    let fixed = options.current();
    smallest(connection, |connection| fails(&fixed, connection));
    found
}

/// Simplifies a value as long as it fails.
fn smallest<T: ValueTree>(tree: &mut T, mut fails: impl FnMut(&T::Value) -> bool) {
    let mut steps = 0;
    while steps < 200 && tree.simplify() {
        while !fails(&tree.current()) && steps < 200 {
            steps += 1;
            if !tree.complicate() {
                return;
            }
        }
        steps += 1;
    }
}

/// The seed never changes, so that a failure is of the program and not of the day.
#[test]
fn connections_go_where_explain_says() {
    agree(1, 800);
}

/// The seed and the number of connections that scripts/bench asks for.
fn wanted() -> (u64, usize) {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let seed = number("EXPLAIN_SEED").expect("EXPLAIN_SEED is a number");
    let count = number("EXPLAIN_CONNECTIONS").expect("EXPLAIN_CONNECTIONS is a number");
    (seed, count as usize)
}

/// As many as wanted: `scripts/bench explain SEED N`.
#[test]
#[ignore = "for scripts/bench, which says how many"]
fn as_many_connections_as_wanted_go_where_explain_says() {
    let (seed, count) = wanted();
    agree(seed, count);
    println!("{count} connections from seed {seed}, on each backend: all as explained");
}
