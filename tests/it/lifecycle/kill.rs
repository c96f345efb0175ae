//! Killed at any instant: the old state or the new one, never anything between.

use super::on_every_backend;
use super::world::{ISTIO, OTHER, SOME, apply, rules, run};
use crate::lab::{Namespace, is_thorough, product, same};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How many times an apply is killed: tools that are started make it slower.
fn kills(backend: &str) -> u32 {
    let sample = if is_whole(backend) { 60 } else { 24 };
    if is_thorough() { 10 * sample } else { sample }
}

/// Netlink changes everything at once, the iptables tools one table after the other.
fn is_whole(backend: &str) -> bool {
    !backend.starts_with("iptables")
}

/// What the kernel may hold, by what was wanted.
struct States(Vec<String>);

impl States {
    fn of(backend: &str, options: &[&str]) -> Result<Self, String> {
        let state = |options: &&str| {
            let fresh = Namespace::new();
            apply(&fresh, backend, options)?;
            Ok(rules(&fresh))
        };
        Ok(States(
            options.iter().map(state).collect::<Result<_, String>>()?,
        ))
    }

    /// Fails unless all, or each table of its own, is as one of the states has it.
    fn allow(&self, found: &str, whole: bool) -> Result<(), String> {
        let parts = |state: &str| match whole {
            true => HashMap::from([(String::new(), state.to_owned())]),
            false => tables(state),
        };
        let allowed: Vec<_> = self.0.iter().map(|s| parts(s)).collect();
        let mut mixed = parts(found);
        mixed.retain(|table, chains| !allowed.iter().any(|a| a.get(table) == Some(chains)));
        match mixed.is_empty() {
            true => Ok(()),
            false => Err(format!("a mixture:\n{found}")),
        }
    }
}

/// The chains of each table, by tool and table.
fn tables(rules: &str) -> HashMap<String, String> {
    let mut tables: HashMap<String, String> = HashMap::new();
    let mut table = String::new();
    for line in rules.lines() {
        if !line.starts_with(' ') {
            table = line
                .rsplit_once(' ')
                .map_or(line, |(table, _)| table)
                .to_owned();
        }
        *tables.entry(table.clone()).or_default() += &format!("{line}\n");
    }
    tables
}

/// A random part of `whole`.
fn part_of(whole: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    whole.mul_f64(random)
}

/// Starts an apply and kills it after `delay`: it alone, or its process group. Returns when its tools
/// are gone too.
fn apply_and_kill(namespace: &Namespace, line: &str, delay: Duration, all: bool) {
    let mut command = product();
    command.args(line.split_whitespace()).process_group(0);
    let mut child = namespace.spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let pid = Pid::from_raw(child.id() as i32);
    sleep(delay);
    let killed = match all {
        true => killpg(pid, Signal::SIGKILL),
        false => kill(pid, Signal::SIGKILL),
    };
    killed.expect("it is not waited for yet");
    child.wait().expect("a child can be waited for");
    namespace.wait_until_deserted();
}

#[test]
fn a_kill_leaves_the_old_state_or_the_new_one() {
    on_every_backend(|backend| {
        let states = States::of(backend, &[SOME, OTHER])?;
        let namespace = Namespace::new();
        apply(&namespace, backend, OTHER)?;
        let start = Instant::now();
        apply(&namespace, backend, SOME)?;
        let takes = start.elapsed();
        for i in 0..kills(backend) {
            let options = if i % 2 == 0 { OTHER } else { SOME };
            let line = format!("--backend {backend} {options}");
            apply_and_kill(&namespace, &line, part_of(takes), i % 3 == 0);
            states.allow(&rules(&namespace), is_whole(backend))?;
        }
        apply(&namespace, backend, SOME)?;
        same(&states.0[0], &rules(&namespace), "the next apply")
    });
}

#[test]
fn a_killed_clean_is_repaired_by_the_next_one() {
    on_every_backend(|backend| {
        let states = States::of(backend, &[SOME])?;
        let states = States([states.0, vec![String::new()]].concat());
        let namespace = Namespace::new();
        for i in 0..kills(backend) / 4 {
            apply(&namespace, backend, SOME)?;
            apply_and_kill(
                &namespace,
                "clean",
                part_of(Duration::from_millis(60)),
                i % 3 == 0,
            );
            let found = rules(&namespace);
            if !found.is_empty() {
                states.allow(&found, is_whole(backend))?;
            }
        }
        run(&namespace, "clean").expect(0, "clean")?;
        same("", &rules(&namespace), "the next clean")
    });
}

/// Whatever is there of TPROXY's rules, packets that they mark have their route.
#[test]
fn a_kill_never_leaves_tproxy_without_its_route() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        let lines = [ISTIO, SOME].map(|options| format!("--backend {backend} {options}"));
        let start = Instant::now();
        apply(&namespace, backend, ISTIO)?;
        let takes = start.elapsed();
        let mut seen = 0;
        for i in 0..kills(backend) / 3 {
            // Half of them are killed, the others come to their end.
            let delay = part_of(2 * takes);
            apply_and_kill(&namespace, &lines[i as usize % 2], delay, i % 3 == 0);
            let found = rules(&namespace);
            let marks = found.contains("--on-port") || found.contains("tproxy to");
            let route = found.contains("fwmark 0x4d lookup 99")
                && found.contains("local default dev lo table 99");
            if marks && !route {
                return Err(format!("marked packets go nowhere:\n{found}"));
            }
            seen += u32::from(marks);
        }
        match seen {
            0 => Err("TPROXY was never there".to_owned()),
            _ => Ok(()),
        }
    });
}
