//! Irrelevant changes cause no repair, and an idle watch does nothing.

use super::watcher::{Watcher, generation, kind};
use crate::lab::{Namespace, product};
use crate::lifecycle::{everything, rules, run};
use nix::sys::signal::Signal;
use prepare_proxy::netfilter::nftables::{Monitor, Notification};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The number of foreign commits; `scripts/bench watch` has a hundred thousand.
const COMMITS: u32 = 3000;

#[test]
fn an_idle_watch_does_not_wake() {
    let namespace = Namespace::new();
    let watcher = Watcher::start(
        &namespace,
        "--mesh istio -m TPROXY -i * -b * --redirect-dns",
    );
    watcher.wait_until_idle();
    let before = watcher.switches();
    sleep(Duration::from_secs(3));
    assert_eq!(watcher.switches(), before, "{}", watcher.log().join("\n"));
    watcher.stop();
}

/// Each line of input of nft is a commit.
fn commit(namespace: &Namespace, lines: &str) {
    let nft = namespace.run_with_input(Command::new("nft").arg("-i"), lines);
    assert_eq!((nft.code, nft.err.as_str()), (Some(0), ""));
}

#[test]
fn foreign_commits_cause_no_commit_and_no_growth() {
    let namespace = Namespace::new();
    let watcher = Watcher::start(&namespace, "--mesh istio -i * -b *");
    commit(
        &namespace,
        "add table inet other\nadd chain inet other c\nadd table ip filter\nadd chain ip filter FORWARD\n",
    );
    let round = "add rule inet other c counter\nflush chain inet other c\n\
                 add rule ip filter FORWARD counter\nflush chain ip filter FORWARD\n\
                 add rule ip nat POSTROUTING counter\nflush chain ip nat POSTROUTING\n";
    commit(&namespace, "add chain ip nat POSTROUTING\n");
    commit(&namespace, &round.repeat(10));
    watcher.wait_until_idle();
    assert_eq!(watcher.count(&kind("repaired")), 0);
    let state = everything(&namespace);
    let measure = || {
        (
            generation(&namespace),
            watcher.status("VmRSS"),
            watcher.descriptors(),
        )
    };
    let (first, memory, descriptors) = measure();
    commit(&namespace, &round.repeat(COMMITS as usize / 6));
    watcher.wait_until_idle();
    let (last, more_memory, more_descriptors) = measure();
    assert_eq!(last - first, COMMITS, "none of them is ours");
    assert_eq!(everything(&namespace), state);
    assert_eq!(more_memory, memory, "kB");
    assert_eq!(more_descriptors, descriptors);
    let before = watcher.log().len();
    assert_eq!(
        watcher.stop().len(),
        before + 1,
        "nothing but that it ends on the signal"
    );
}

/// A foreign rule before managed ones takes precedence. It stays and is reported with the process
/// that added it.
#[test]
fn foreign_rules_ahead_stay_and_are_reported() {
    let namespace = Namespace::new();
    let watcher = Watcher::start(&namespace, "-p 15001 -u 1337");
    watcher.wait_until_idle();
    let before = generation(&namespace);
    namespace.sh("iptables-nft -t nat -I OUTPUT -p tcp --dport 9999 -j REDIRECT --to-ports 9");
    let line = watcher.wait_for(&kind("rule-ahead"), 1);
    assert!(line.contains("iptables"), "{line}");
    assert!(
        line.contains("in nat OUTPUT") && line.contains("--to-ports 9"),
        "{line}"
    );
    watcher.wait_until_idle();
    assert_eq!(generation(&namespace), before + 1);
    let state = everything(&namespace);
    namespace.sh("iptables-nft -t nat -F ISTIO_OUTPUT");
    watcher.wait_for(&kind("repaired"), 1);
    watcher.wait_until_idle();
    assert!(rules(&namespace).contains("--to-ports 9\n"), "{state}");
    assert_eq!(watcher.count(&kind("rule-ahead")), 1, "said once");
    // One that is removed and added again is reported again.
    namespace.sh("iptables-nft -t nat -D OUTPUT 1; iptables-nft -t nat -I OUTPUT -d 192.0.2.1 -p tcp -j DNAT --to 192.0.2.2");
    let line = watcher.wait_for(&kind("rule-ahead"), 2);
    assert!(line.contains("DNAT"), "{line}");
    // A firewall with a table of its own.
    namespace.nft_load(
        "table ip firewall {
            chain output { type nat hook output priority -150; tcp dport 8888 redirect to :9; }
        }",
    );
    let line = watcher.wait_for(&kind("rule-ahead"), 3);
    assert!(line.contains("in firewall output"), "{line}");
    watcher.stop();
}

/// A large commit is repaired by one commit.
#[test]
fn one_commit_causes_one_repair() {
    let namespace = Namespace::new();
    let watcher = Watcher::start(&namespace, "--mesh istio -i * -b * --dual-stack");
    let wanted = rules(&namespace);
    let before = generation(&namespace);
    namespace.sh("nft flush ruleset");
    watcher.wait_for(&kind("repaired"), 1);
    watcher.wait_until_idle();
    assert_eq!(generation(&namespace), before + 2);
    assert_eq!(rules(&namespace), wanted);
    watcher.stop();
}

/// A program that removes restored rules immediately: repairs slow down, which is reported once,
/// and in the end the rules are in place. A machine with fewer than a hundred repairs in two
/// seconds needs no limit.
#[test]
fn repairs_are_rate_limited() {
    let namespace = Namespace::new();
    let watcher = Watcher::start(&namespace, "-p 15001 -u 1337");
    let wanted = rules(&namespace);
    let mut nft = namespace.spawn(Command::new("nft").arg("-i").stdin(Stdio::piped()));
    let mut input = nft.stdin.take().expect("stdin is a pipe");
    let mut monitor = namespace.enter(Monitor::open).expect("nf_tables notifies");
    let mut repairs = Vec::new();
    while watcher.count(&kind("contest-begins")) == 0 && repairs.len() < 600 {
        writeln!(input, "flush ruleset").expect("nft reads");
        wait_for_commit_of_product(&mut monitor);
        repairs.push(Instant::now());
    }
    drop(input);
    nft.wait().expect("a child can be waited for");
    // Of two hundred repairs a hundred are in one window.
    let fastest = repairs.windows(201).map(|w| w[200] - w[0]).min();
    let begun = watcher.count(&kind("contest-begins"));
    assert!(begun == 1 || fastest > Some(Duration::from_secs(2)));
    if begun == 1 {
        watcher.wait_for(&kind("contest-ends"), 1);
    }
    watcher.wait_until_idle();
    assert_eq!(rules(&namespace), wanted);
    assert_eq!(watcher.count(&kind("contest-begins")), begun);
    watcher.stop();
}

fn wait_for_commit_of_product(monitor: &mut Monitor) {
    let mut committed = false;
    while !committed {
        let drained = monitor.drain(|notification| {
            if let Notification::Commit(commit) = notification {
                committed |= commit.process.is_some_and(|p| p.name == "prepare-proxy");
            }
        });
        drained.expect("nf_tables notifies");
        sleep(Duration::from_micros(200));
    }
}

/// Killed at any instant it leaves the rules, and the next one writes nothing where they are whole.
#[test]
fn a_kill_leaves_the_rules() {
    let namespace = Namespace::new();
    let first = Watcher::start(&namespace, "--mesh istio -i * -b *");
    let wanted = rules(&namespace);
    drop(first);
    for n in 0..30 {
        let watcher = Watcher::start(&namespace, "--mesh istio -i * -b *");
        namespace.sh("nft delete table ip nat");
        let random = RandomState::new().hash_one(n) % 8000;
        sleep(Duration::from_micros(random));
        watcher.signal(Signal::SIGKILL);
        assert_eq!(watcher.end().0, None);
        let whole = rules(&namespace) == wanted;
        let before = generation(&namespace);
        let next = Watcher::start(&namespace, "--mesh istio -i * -b *");
        assert_eq!(rules(&namespace), wanted);
        if whole {
            assert_eq!(generation(&namespace), before);
            assert_eq!(next.count("already in place"), 1);
        }
    }
}

/// A watch ends without a word about rules that it leaves, whatever signal ends it.
#[test]
fn on_sigterm_it_leaves_the_rules() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let namespace = Namespace::new();
        let watcher = Watcher::start(&namespace, "-p 15001 -u 1337");
        let before = everything(&namespace);
        watcher.signal(signal);
        assert_eq!(watcher.end().0, Some(0));
        assert_eq!(everything(&namespace), before);
        run(&namespace, "clean").expect(0, "clean").unwrap();
        assert_eq!(rules(&namespace), "");
    }
}

#[test]
fn bad_options_are_refused_before_anything() {
    let namespace = Namespace::new();
    let before = everything(&namespace);
    for line in [
        "",
        "-p 70000 -u 1",
        "-p 1 -u 1 --interval 0",
        "-p 1 -u 1 --env-file /none",
    ] {
        let mut watch = product();
        watch.arg("watch").args(line.split_whitespace());
        namespace.run(&mut watch).expect(2, line).unwrap();
    }
    assert_eq!(everything(&namespace), before);
}
