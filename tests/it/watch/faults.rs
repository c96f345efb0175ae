//! Faults at every system call of a watch: whatever error one returns, the watch goes on, or ends
//! before the rules are in place with a status that makes systemd start it again.
//!
//! `cargo test` tries a sample, the same each time; `scripts/faults` all of them.

use super::watcher::{Watcher, kind};
use crate::lab::{Namespace, product};
use crate::lifecycle::faults::calls::{self, Fault};
use crate::lifecycle::faults::sample;
use crate::lifecycle::rules;
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How many faults `cargo test` tries.
const SAMPLE: usize = 15;

/// Against hangs alone.
const HANGS: Duration = Duration::from_secs(300);

/// What happens to a watch, one thing after the other.
const STEPS: &[Step] = &[
    Step::Shell("nft flush ruleset"),
    Step::Shell("ip rule del fwmark 1337"),
    Step::Shell("ip route flush table 133"),
    Step::Shell("ip -6 addr add 2001:db8::1/64 dev eth0 nodad"),
    Step::Configure("ISTIO_LOCAL_EXCLUDE_PORTS=9001,9002\n"),
    Step::Shell("iptables-nft -t nat -F ISTIO_OUTPUT"),
];

enum Step {
    Shell(&'static str),
    /// The env file, and SIGHUP.
    Configure(&'static str),
}

/// A namespace and an env file for one watch.
struct Place {
    namespace: Namespace,
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let namespace = Namespace::new();
        namespace.ip(&[
            "link add eth0 type veth peer name peer0",
            "link set eth0 up",
        ]);
        let dir = TempDir::new().expect("a directory");
        fs::write(dir.path().join("env"), "ISTIO_LOCAL_EXCLUDE_PORTS=9001\n").expect("a file");
        Place { namespace, dir }
    }

    fn env(&self) -> PathBuf {
        self.dir.path().join("env")
    }

    /// A watch behind another program, such as strace.
    fn watch(&self, wrapper: &[String]) -> Watcher {
        let product = product();
        let program = product.get_program().to_string_lossy().into_owned();
        let line = "watch --backend netlink --mesh istio -m TPROXY -u 1337 -i * -b * --env-file";
        let words = wrapper.iter().map(String::as_str).chain([&*program]);
        let mut words = words.chain(line.split(' '));
        let mut command = Command::new(words.next().expect("at least the program"));
        command.args(words).arg(self.env());
        command
            .env_clear()
            .envs(product.get_envs().filter_map(|(k, v)| Some((k, v?))));
        Watcher::begin(&self.namespace, command)
    }

    fn state(&self) -> String {
        rules(&self.namespace) + &self.namespace.routing()
    }

    fn take(&self, step: &Step, watcher: &Watcher) {
        match step {
            Step::Shell(script) => drop(self.namespace.sh(script)),
            Step::Configure(text) => {
                fs::write(self.env(), text).expect("a file");
                watcher.signal(Signal::SIGHUP);
            }
        }
    }
}

/// The states after the start and after each step, and the calls that were made, without a fault.
fn without_a_fault() -> (Vec<String>, Vec<String>) {
    let place = Place::new();
    let log = place.dir.path().join("calls");
    let watcher = place.watch(&strace(&["-o", &log.display().to_string()]));
    watcher.wait_for(&kind("installed"), 1);
    let mut states = vec![place.state()];
    for step in STEPS {
        let before = watcher.log().len();
        place.take(step, &watcher);
        watcher.wait_for("", before + 1);
        // Each address that the kernel adds by itself is read too.
        watcher.wait_until_idle();
        states.push(place.state());
    }
    watcher.stop();
    (states, calls::in_log(&log))
}

/// strace(1) as a grandchild, so that the watch stays the child.
fn strace(args: &[&str]) -> Vec<String> {
    let words = ["strace", "-D", "-qq", "-e", "signal=none"];
    words.iter().chain(args).map(|w| (*w).to_owned()).collect()
}

fn inject(fault: &Fault) -> Vec<String> {
    let mut words = fault.strace();
    words.insert(1, "-D".to_owned());
    words
}

/// Tries one fault.
fn check(fault: &Fault, states: &[String]) -> Result<(), String> {
    let place = Place::new();
    let watcher = place.watch(&inject(fault));
    // The message itself may be what cannot be written.
    let may_be_lost = fault.call == "write";
    if !may_be_lost && !watcher.logs_or_ends(&kind("installed")) {
        let (code, log) = watcher.end();
        // 2 and 3 are for what the fault pretends: a file that is forbidden, a missing capability.
        let pretended = matches!(fault.error, Some("EACCES" | "EPERM"));
        return match code {
            Some(1) => Ok(()),
            Some(2 | 3) if pretended => Ok(()),
            _ => Err(format!("it ended with {code:?}: {}", log.join("\n"))),
        };
    }
    reaches(&place, &watcher, &states[0])?;
    for (step, state) in STEPS.iter().zip(&states[1..]) {
        place.take(step, &watcher);
        reaches(&place, &watcher, state)?;
    }
    watcher.signal(Signal::SIGTERM);
    let (code, log) = watcher.end();
    // Without a descriptor for signals it ends by the signal itself.
    let ended = code == Some(0) || (code.is_none() && fault.call == "signalfd4");
    let last = states.last().expect("there is one");
    match ended && place.state() == *last {
        true => Ok(()),
        false => Err(format!("after SIGTERM, {code:?}: {}", log.join("\n"))),
    }
}

/// Waits until everything is as it should be.
fn reaches(place: &Place, watcher: &Watcher, state: &str) -> Result<(), String> {
    let start = Instant::now();
    while place.state() != state {
        if watcher.has_ended() || start.elapsed() > HANGS {
            let (ended, log) = (watcher.has_ended(), watcher.log().join("\n"));
            let found = place.state();
            return Err(format!(
                "ended: {ended}\n{log}\nfound:\n{found}\ninstead of:\n{state}"
            ));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn no_failing_system_call_ends_a_watch_or_prevents_repairs() {
    assert!(Path::new("/usr/bin/strace").exists(), "strace is missing");
    let (states, made) = without_a_fault();
    // Before that it is the loader's.
    let main = made
        .iter()
        .position(|call| call == "poll")
        .expect("Rust's start");
    let mut faults = calls::faults(&made, main + 1, true);
    faults.retain(|fault| fault.error.is_some() && !fault.is_want_of_memory());
    sample(&mut faults, SAMPLE);
    let failed: Vec<String> = faults
        .iter()
        .filter_map(|fault| Some(format!("{fault}: {}", check(fault, &states).err()?)))
        .collect();
    println!(
        "0 kills, {} errors, {} failed: watch",
        faults.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
