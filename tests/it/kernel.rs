//! Every case for real: in a fresh network namespace, on every backend, compared with what the tool
//! replaced left there; then once more, compared, and cleaned.

use crate::cases::state::State;
use crate::cases::{Case, Expect};
use crate::lab::{Done, Namespace, product, same};
use std::fs;
use std::process::Command;

/// The backend that writes other rules to the same effect; that they have it is for the traffic
/// tests to say.
const NATIVE: &str = "nftables";

/// A case in its namespace.
struct Replay<'a> {
    case: &'a Case,
    backend: &'static str,
    namespace: Namespace,
}

impl<'a> Replay<'a> {
    fn new(case: &'a Case, backend: &'static str) -> Self {
        let namespace = Namespace::with_resolv_conf(&case.resolv_conf);
        let mut links = vec![
            "link add eth0 type veth peer name peer0".to_owned(),
            "link set eth0 up".to_owned(),
            "link set peer0 up".to_owned(),
        ];
        for address in &case.addresses {
            links.push(format!("addr add {address} dev eth0"));
        }
        namespace.ip(&links);
        Replay {
            case,
            backend,
            namespace,
        }
    }

    /// The case's command line, with an action before it.
    fn run(&self, action: &[&str]) -> Done {
        let mut command = product();
        command
            .args(["--backend", self.backend])
            .args(action)
            .args(self.case.command_line())
            .envs(self.case.env.iter().cloned());
        self.namespace.run(&mut command)
    }

    fn state(&self) -> State {
        State::of(&self.namespace, self.backend)
    }

    /// What nft lists once it has checked and loaded what a dry run prints.
    fn loaded_by_nft(&self) -> Result<String, String> {
        let printed = self.run(&["--dry-run", "--format", "nft"]);
        let printed = printed.expect(0, "a dry run")?.out;
        let namespace = Namespace::new();
        for args in [["-c", "-f", "-"].as_slice(), &["-f", "-"]] {
            let done = namespace.run_with_input(Command::new("nft").args(args), &printed);
            done.expect(0, &printed)?;
        }
        Ok(namespace.sh("nft --stateless list ruleset"))
    }

    /// Which connections the case treats differently from what nft lists.
    fn differs_from_listing(&self) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        fs::write(file.path(), self.namespace.sh("nft list ruleset")).map_err(|e| e.to_string())?;
        let against = format!("--against={}", file.path().display());
        let done = self.run(&["diff", "--connections", &against]);
        done.expect(0, "diff --connections --against").map(|_| ())
    }

    /// Every promise that holds for any accepted case; the first one that is broken.
    fn check(&self) -> Result<(), String> {
        let untouched = self.state();
        let applied = self.run(&[]);
        if let Expect::Refused = self.case.expect {
            applied.expect(self.case.refusal(), "apply")?;
            return same(&untouched, &self.state(), "a refusal changed something");
        }
        let applied = applied.expect(0, "apply")?;
        let state = self.state();
        match &self.case.expect {
            Expect::Recorded(recorded) if self.backend != NATIVE => {
                let found = recorded.like(state.clone());
                same(&**recorded, &found, "not as recorded")?;
            }
            _ => {}
        }
        if !self.case.writes() {
            return same(&untouched, &state, "something was written");
        }
        if self.backend == NATIVE {
            let rules = state.native.contains("prepare-proxy");
            applied.check(rules, "rules in tables of our own")?;
            let loaded = self.loaded_by_nft()?;
            same(
                &*state.native,
                &*loaded,
                "nft makes something else of a dry run",
            )?;
            self.differs_from_listing()?;
        }
        let again = self.run(&[]).expect(0, "apply again")?;
        let quiet = again.err.contains("already in place");
        again.check(quiet, "nothing written the second time")?;
        same(&state, &self.state(), "the second run changed something")?;
        let diff = self.run(&["diff"]).expect(0, "diff")?;
        diff.check(diff.out.is_empty(), "diff prints nothing")?;
        let clean = self.namespace.run(product().arg("clean"));
        clean.expect(0, "clean")?;
        same(&untouched, &self.state(), "clean left something")
    }
}

/// Replays all cases, and tells of all that fail.
fn replay(backend: &'static str) {
    let cases = crate::cases::all();
    let check = |case: &Case| {
        let result = Replay::new(case, backend).check();
        result.err().map(|e| format!("{}: {e}", case.name))
    };
    let failed: Vec<String> = cases.iter().filter_map(check).collect();
    let count = format!("{} of {} cases failed", failed.len(), cases.len());
    assert!(failed.is_empty(), "{count}\n{}", failed.join("\n\n"));
}

#[test]
fn netlink() {
    replay("netlink");
}

#[test]
fn nftables() {
    replay(NATIVE);
}

#[test]
fn iptables_legacy() {
    replay("iptables-legacy");
}
