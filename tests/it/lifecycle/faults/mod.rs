//! Faults at every system call: SIGKILL and every error. Afterwards the kernel has the old or the
//! new state (or a mixture allowed by docs/limits.md), exit status and message are correct, and the
//! next run converges.
//!
//! `cargo test` tries a sample, the same each time; `scripts/faults` all of them.

pub mod calls;
mod states;

use super::world::{run, the_program};
use crate::lab::{Done, Namespace, is_thorough, product};
use calls::Fault;
use states::{State, States};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// The number of faults per transition in `cargo test`.
const SAMPLE: usize = 30;

const HANGS: Duration = Duration::from_secs(60);

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A transition between two states.
struct Transition {
    /// Command lines before it.
    before: &'static [&'static str],
    /// The run with the fault.
    line: &'static str,
    /// A tool started by that run, if the fault is in it.
    tool: Option<&'static str>,
}

impl Transition {
    /// A namespace with IPv6, in the state before.
    fn start(&self) -> Namespace {
        let namespace = Namespace::new();
        namespace.ip(&[
            "link add eth0 type veth peer name peer0",
            "addr add fd66::2/64 dev eth0 nodad",
            "link set eth0 up",
        ]);
        for line in self.before {
            run(&namespace, line).must(line);
        }
        namespace
    }

    fn states(&self) -> States {
        let namespace = self.start();
        let old = State::of(&namespace);
        run(&namespace, self.line).must(self.line);
        let new = State::of(&namespace);
        assert_ne!(old, new, "{}", self.line);
        let whole = !self.line.contains("iptables");
        States { old, new, whole }
    }

    fn faults(&self) -> Vec<Fault> {
        let namespace = self.start();
        let mut command = product();
        command.args(self.line.split_whitespace());
        match self.tool {
            None => {
                let calls = calls::of(&namespace, &command);
                // Earlier calls are those of the loader.
                let main = calls
                    .iter()
                    .position(|c| c == "poll")
                    .expect("Rust's start");
                calls::faults(&calls, main, true)
            }
            Some(tool) => calls::faults(&calls_of_tool(&namespace, self.line, tool), 0, false),
        }
    }

    /// Runs it with the fault.
    fn run(&self, namespace: &Namespace, fault: &Fault) -> Done {
        let limit = HANGS.as_secs().to_string();
        let mut command = Command::new("timeout");
        command.env_clear().env("PATH", PATH);
        command.args(["--foreground", "-s", "KILL", &limit]);
        let directory = self.tool.map(|tool| stub(tool, &fault.strace().join(" ")));
        match &directory {
            Some(directory) => drop(command.env("PATH", path_with(directory))),
            None => drop(command.args(fault.strace())),
        }
        command
            .arg(the_program())
            .args(self.line.split_whitespace());
        let start = Instant::now();
        let done = namespace.run(&mut command);
        assert!(start.elapsed() < HANGS, "{fault}: it hangs");
        namespace.wait_until_deserted();
        done
    }

    /// Tries one fault in a namespace of its own.
    fn check(&self, states: &States, fault: &Fault) -> Result<(), String> {
        let namespace = self.start();
        let done = self.run(&namespace, fault);
        let found = State::of(&namespace);
        states.allow(&found).map_err(|e| format!("{e}{done:?}"))?;
        match done.code {
            Some(0) => states.says_that_it_is_new(&found, &done, fault)?,
            Some(1..=3) => states.says_what_stands(&found, &done, fault)?,
            None if fault.error.is_none() => {}
            _ => done.check(fault.is_want_of_memory(), "an end of another kind")?,
        }
        run(&namespace, self.line).expect(0, "the next run")?;
        states.is_new(&State::of(&namespace))
    }

    /// Tries a sample of the faults, or all.
    fn try_faults(&self) {
        let states = self.states();
        let mut faults = self.faults();
        sample(&mut faults, SAMPLE);
        let failed: Vec<String> = faults
            .iter()
            .filter_map(|fault| Some(format!("{fault}: {}", self.check(&states, fault).err()?)))
            .collect();
        let kills = faults.iter().filter(|f| f.error.is_none()).count();
        let tool = self
            .tool
            .map(|tool| format!(", in {tool}"))
            .unwrap_or_default();
        println!(
            "{kills} kills, {} errors, {} failed: {}{tool}",
            faults.len() - kills,
            failed.len(),
            self.line
        );
        assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    }
}

/// Keeps a sample of some size, stable as long as the program makes the same calls, or all.
pub fn sample(faults: &mut Vec<Fault>, size: usize) {
    if is_thorough() {
        return;
    }
    // A linear congruential generator with a fixed seed.
    let mut random = 2026_u64;
    while faults.len() > size {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        faults.swap_remove((random >> 33) as usize % faults.len());
    }
}

/// A stub of a tool that runs it under `wrapper`.
fn stub(tool: &str, wrapper: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(tool);
    fs::write(
        &path,
        format!("#!/bin/sh\nexec {wrapper} /usr/sbin/{tool} \"$@\"\n"),
    )
    .expect("it is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    directory
}

/// The calls of the longest run of a tool.
fn calls_of_tool(namespace: &Namespace, line: &str, tool: &str) -> Vec<String> {
    let logs = tempfile::tempdir().expect("a temporary directory");
    let strace = format!("strace -qq -e signal=none -o {}/$$", logs.path().display());
    let directory = stub(tool, &strace);
    let mut command = product();
    command
        .env("PATH", path_with(&directory))
        .args(line.split_whitespace());
    namespace.run(&mut command).must(line);
    let files = fs::read_dir(logs.path()).expect("it is ours").flatten();
    let runs = files.map(|file| calls::in_log(&file.path()));
    runs.max_by_key(Vec::len).expect("the tool was started")
}

/// $PATH with this directory first.
fn path_with(directory: &tempfile::TempDir) -> String {
    format!("{}:{PATH}", directory.path().display())
}

/// A test for each transition: lines before, run with the fault, and the tool if it is in one.
macro_rules! transitions {
    ($($name:ident: [$($before:literal)?] => $line:literal $(, in $tool:literal)?;)+) => {$(
        #[test]
        fn $name() {
            const TOOL: &[&str] = &[$($tool)?];
            let transition = Transition { before: &[$($before)?], line: $line, tool: TOOL.first().copied() };
            transition.try_faults();
        }
    )+};
}

transitions! {
    netlink_from_nothing: []
        => "--backend netlink -p 15001 -u 1337 --dual-stack";
    netlink_to_other_options: ["--backend netlink -p 15001 -u 1337 --dual-stack"]
        => "--backend netlink -p 15999 -u 2000,3000 -i 10.0.0.0/8";
    netlink_to_tproxy: ["--backend netlink --mesh istio -b * -i *"]
        => "--backend netlink --mesh istio -m TPROXY -b * -i * -t 77 -r 99";
    netlink_from_tproxy: ["--backend netlink --mesh istio -m TPROXY -b * -i * -t 77 -r 99"]
        => "--backend netlink -p 15001 -u 1337";
    netlink_clean: ["--backend netlink --mesh istio -m TPROXY -b * -i *"]
        => "clean";
    nftables_to_other_options: ["--backend nftables -p 15001 -u 1337 --dual-stack"]
        => "--backend nftables -p 15999 -u 2000,3000 -i 10.0.0.0/8";
    nftables_to_tproxy: ["--backend nftables --mesh istio -b * -i *"]
        => "--backend nftables --mesh istio -m TPROXY -b * -i *";
    nftables_clean: ["--backend nftables --mesh istio -m TPROXY -b * -i *"]
        => "clean";
    iptables_legacy_to_other_options: ["--backend iptables-legacy -p 15001 -u 1337 --dual-stack"]
        => "--backend iptables-legacy -p 15999 -u 2000,3000 -i 10.0.0.0/8";
    iptables_legacy_killed: ["--backend iptables-legacy -p 15001 -u 1337 --dual-stack"]
        => "--backend iptables-legacy -p 15999 -u 2000,3000 -i 10.0.0.0/8", in "iptables-legacy-restore";
    iptables_legacy_clean: ["--backend iptables-legacy --mesh istio -m TPROXY -b * -i *"]
        => "clean";
    from_legacy_to_netlink: ["--backend iptables-legacy -p 15001 -u 1337 --dual-stack"]
        => "--backend netlink -p 15999 -u 2000,3000 -i 10.0.0.0/8";
    from_netlink_to_nftables: ["--backend netlink --mesh istio -b * -i *"]
        => "--backend nftables --mesh istio -m TPROXY -b * -i *";
}
