//! What `explain` says, through the library: nothing is asked of this machine.

use super::connection::{Connection, LOCAL, Place};
use super::options::Options;
use super::world::{RESOLV_CONF, Seen};
use crate::lab::without_port;
use prepare_proxy::frontend::{cli, perform};
use prepare_proxy::mesh::config::{Environment, Facts, Ipv6};
use serde_json::Value;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// A host without users, with the pod's nameservers.
fn nowhere() -> Facts {
    let mut facts = Facts::default();
    facts.learn("/etc/resolv.conf".into(), Ok(RESOLV_CONF.to_owned()));
    for path in [
        "/etc/passwd",
        "/etc/group",
        "/var/lib/istio/envoy/cluster.env",
        "/var/lib/istio/envoy/sidecar.env",
    ] {
        facts.learn(
            path.into(),
            Err::<String, _>(io::ErrorKind::NotFound.into()),
        );
    }
    facts.ipv6 = Some(Ipv6::default());
    facts
}

/// What `explain` prints on that host.
pub fn run(line: &[OsString]) -> String {
    let fail = |e: String| -> ! { panic!("{line:?}: {e}") };
    let mut invocation =
        cli::parse(line, &Environment::default()).unwrap_or_else(|e| fail(e.to_string()));
    invocation.request.facts = nowhere();
    let mut out = Vec::new();
    perform(&invocation.actions[0], &invocation, &mut out).unwrap_or_else(|e| fail(e.to_string()));
    String::from_utf8(out).expect("an explanation is UTF-8")
}

/// Where a connection ends, by `explain`.
pub struct Explanation {
    answer: String,
    /// Several where chance decides.
    ends: Vec<Value>,
    /// Where it was sent.
    asked: SocketAddr,
    udp: bool,
    place: Place,
}

/// Asks, and reads the answer.
pub fn explain(args: &[String]) -> Value {
    let first = ["prepare-proxy", "explain", "--format=json"].map(str::to_owned);
    let line: Vec<OsString> = first.iter().chain(args).map(OsString::from).collect();
    serde_json::from_str(&run(&line)).expect("an explanation is JSON")
}

impl Explanation {
    pub fn of(options: &Options, connection: &Connection) -> Self {
        let local = ["--local-address".to_owned(), LOCAL.to_owned()];
        let args = [options.args(), local.into(), connection.question()].concat();
        let json = explain(&args);
        Explanation {
            answer: json["answer"].as_str().expect("a sentence").to_owned(),
            ends: vec![json["cases"][0]["end"].clone()],
            asked: connection.to,
            udp: connection.udp,
            place: connection.place,
        }
    }

    /// What `explain --live` said, unless it could not be determined.
    pub fn live(text: &str, connection: &Connection) -> Option<Self> {
        let json: Value = serde_json::from_str(text).expect("an explanation is JSON");
        let cases = json["cases"].as_array().expect("cases");
        (json["determined"] == true).then(|| Explanation {
            answer: json["answer"].as_str().expect("a sentence").to_owned(),
            ends: cases.iter().map(|case| case["end"].clone()).collect(),
            asked: connection.to,
            udp: connection.udp,
            place: connection.place,
        })
    }

    /// Whether the rules in the kernel, whatever wrote them, lead to the same end.
    pub fn is_live(&self, live: &str) -> bool {
        let live: Value = serde_json::from_str(live).expect("an explanation is JSON");
        live["determined"] == true && live["cases"][0]["end"] == self.ends[0]
    }

    /// Whether somebody gets it.
    pub fn arrives(&self) -> bool {
        let arrives = |end: &Value| {
            let kind = end["kind"].as_str().unwrap_or_default();
            ["delivered", "sent", "forwarded"].contains(&kind)
        };
        self.ends.iter().all(arrives)
    }

    /// Whether that is what happened.
    pub fn is(&self, seen: &Seen) -> bool {
        self.ends.iter().any(|end| self.ends_so(end, seen))
    }

    fn ends_so(&self, end: &Value, seen: &Seen) -> bool {
        let text = |key: &str| end[key].as_str().unwrap_or_default();
        let there = |name: &str, port: u16| {
            let from = without_port(&seen.peer) == without_port(text("from"))
                || end["one-of-several"] == true;
            // The receiver of a datagram does not learn where it was sent.
            let to = self.udp || (seen.local == text("to") && self.original(end, seen));
            seen.by == format!("{name}:{port}") && from && to
        };
        match text("kind") {
            "delivered" => {
                let port = end["port"].as_u64().and_then(|port| port.try_into().ok());
                there("pod", port.expect("a port"))
            }
            "sent" | "forwarded" => {
                let to: SocketAddr = text("to").parse().expect("where it was sent");
                there("peer", to.port()) || there("guest", to.port())
            }
            "rejected" if self.udp => seen.by.is_empty(),
            "rejected" => {
                let error = match text("with") {
                    with if with.contains("port-unreachable") || with == "tcp-reset" => "refused",
                    // As icmpv6_err_convert() has it.
                    "icmp6-adm-prohibited" | "icmp6-policy-fail" | "icmp6-reject-route" => {
                        "prohibited"
                    }
                    _ => "unreachable",
                };
                seen.error == error
            }
            "dropped" if self.udp => seen.by.is_empty(),
            "dropped" => seen.error == "timeout",
            "no-route" => seen.error == "unreachable",
            kind => panic!("{kind}: {}", self.answer),
        }
    }

    /// Whether SO_ORIGINAL_DST returned where it was sent. Without a redirection it has no answer.
    fn original(&self, end: &Value, seen: &Seen) -> bool {
        seen.original == self.asked.to_string() || end["by"] != "redirect"
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} {}", self.place, self.answer, self.ends[0])
    }
}
