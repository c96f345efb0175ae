//! The one table of cases: a command line, the host it meets, and, where the tool replaced was
//! recorded, the kernel state that it left.
//!
//! Recorded ones are read from `tests/conformance/`, our own stand in [`own`]. Every case feeds the
//! goldens, the kernel replay on each backend, idempotence, diff and clean.

mod own;
pub mod recording;
pub mod state;

use recording::strings;
use serde_json::Value;
use state::State;
use std::collections::HashSet;

/// One command line and the host it meets.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    /// What comes before the case's own arguments: the mesh, or Istio's own subcommand.
    pub prefix: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Of the interface eth0.
    pub addresses: Vec<String>,
    pub resolv_conf: String,
    pub expect: Expect,
}

/// What is known of the outcome.
#[derive(Clone, Debug)]
pub enum Expect {
    /// The command line is refused, and the kernel left untouched.
    Refused,
    /// It is accepted; the goldens say what the kernel holds.
    Accepted,
    /// The tool replaced left exactly this.
    Recorded(Box<State>),
}

impl Case {
    /// The whole command line behind the program's name.
    pub fn command_line(&self) -> Vec<String> {
        [self.prefix.as_slice(), &self.args].concat()
    }

    /// The exit status of a refusal: Linkerd's tool only knows 1.
    pub fn refusal(&self) -> i32 {
        match self.prefix[0].as_str() {
            "proxy-init" => 1,
            _ => 2,
        }
    }

    /// Whether the recording says everything that the kernel holds.
    pub fn is_recorded_whole(&self) -> bool {
        matches!(&self.expect, Expect::Recorded(state) if state.v6.is_some())
    }

    pub fn is_refused(&self) -> bool {
        matches!(self.expect, Expect::Refused)
    }

    /// Whether the command line is accepted and installs rules.
    pub fn writes(&self) -> bool {
        let idle = ["clean", "--cleanup-only", "--skip-rule-apply", "--simulate"];
        !self.is_refused() && !self.args.iter().any(|a| idle.contains(&a.as_str()))
    }
}

/// Every recording: the file, what comes before its command lines, and whether the comments in it
/// are compared (those of Istio's tools are not ours) and IPv6 is (the script of Istio 1.0 differs on
/// purpose, see docs/differences.md).
const RECORDINGS: [(&str, &[&str], bool, bool); 4] = [
    ("nginmesh", &["--mesh", "nginmesh"], true, true),
    ("istio-1.0", &["--mesh", "istio-1.0"], false, false),
    ("istio", &["istio-iptables"], false, true),
    ("linkerd", &["proxy-init"], true, true),
];

/// All cases. Each has a name of its own, which its golden bears.
pub fn all() -> Vec<Case> {
    let recorded = RECORDINGS.into_iter().flat_map(recorded);
    let cases: Vec<Case> = recorded.chain(own::cases()).collect();
    let mut names = HashSet::new();
    for case in &cases {
        assert!(
            names.insert(&case.name),
            "two cases are called {}",
            case.name
        );
    }
    cases
}

fn recorded((file, prefix, comments, v6): (&str, &[&str], bool, bool)) -> Vec<Case> {
    let case = |vector: &Value| Case {
        name: recording::name(file, vector),
        prefix: prefix.iter().map(|s| s.to_string()).collect(),
        args: strings(&vector["args"]),
        env: pairs(&vector["env"]),
        addresses: match &vector["addrs"] {
            Value::Null => vec!["10.244.1.17/24".to_owned()],
            list => strings(list),
        },
        resolv_conf: vector["resolv_conf"].as_str().unwrap_or("").to_owned(),
        expect: match vector["expect"]["exit"].as_i64() {
            Some(0) => Expect::Recorded(Box::new(State::recorded(&vector["expect"], comments, v6))),
            _ => Expect::Refused,
        },
    };
    let vectors = recording::vectors(file);
    let alone = vectors.iter().filter(|v| recording::setup(v).is_empty());
    alone.map(case).collect()
}

fn pairs(map: &Value) -> Vec<(String, String)> {
    let entries = map.as_object().into_iter().flatten();
    let text = |(key, value): (&String, &Value)| {
        (key.clone(), value.as_str().expect("a string").to_owned())
    };
    entries.map(text).collect()
}
