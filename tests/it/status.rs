//! `status`: what is installed, whether it is in force, what it captures, and what rules have counted.

use crate::lab::{APP, BACKENDS, Lab, Namespace, PROXY, ROOT, Server, lab, product};
use crate::lifecycle::recorded;
use serde_json::{Value, json};
use std::process::Command;

const ISTIO: &str = "--mesh istio -i * -b * -x 10.0.0.0/8";

fn apply(pod: &Namespace, line: &str) {
    pod.run(product().args(line.split(' '))).must(line);
}

/// The report, which ends with this exit status.
fn status(pod: &Namespace, code: i32) -> Value {
    let done = pod.run(product().args(["status", "--rules", "--format", "json"]));
    let done = done.must_exit(code, "status");
    serde_json::from_str(&done.out).expect("JSON")
}

/// How many packets met the rules that are there for this.
fn packets(status: &Value, id: &str) -> u64 {
    let chains = status["chains"].as_array().expect("chains").iter();
    let rules = chains.flat_map(|c| c["rules"].as_array().expect("rules"));
    let counted = rules
        .filter(|r| r["id"] == id)
        .map(|r| r["packets"].as_u64().expect("a number"));
    counted.sum()
}

#[test]
fn a_connection_is_counted_where_it_went_on_every_backend() {
    for backend in BACKENDS {
        let lab_ = Lab::new();
        apply(&lab_.pod, &format!("-p 15001 -u 1337 --backend {backend}"));
        lab_.pod
            .sh("iptables-nft -t nat -A OUTPUT -d 198.51.100.1 -j RETURN");
        let before = status(&lab_.pod, 0);
        let backends = before["backends"].as_array().unwrap();
        assert!(
            backends.len() == 1 && backends[0]["backend"] == backend,
            "{before}"
        );
        let _proxy = Server::start(&lab_.pod, PROXY, &["proxy", "15001"]);
        let _peer = Server::start(&lab_.peer, ROOT, &["serve", "80"]);
        lab_.pod
            .run(lab(APP).args(["connect", "203.0.113.9:80"]))
            .must("connect");
        let after = status(&lab_.pod, 0);
        let more = |id| packets(&after, id) - packets(&before, id);
        assert_eq!(more("redirect-to-envoy-port"), 1, "{backend}: {after}");
        assert_eq!(more("bypass-envoy"), 1, "{backend}: {after}");
        assert!(
            !after.to_string().contains("198.51.100.1"),
            "{backend}: {after}"
        );
    }
}

#[test]
fn every_state_that_a_tool_replaced_leaves_is_in_force_until_a_jump_is_missing() {
    for backend in ["netlink", "iptables-legacy"] {
        for recorded in recorded::all() {
            let pod = Namespace::new();
            recorded.put_back(&pod, backend);
            let before = status(&pod, 0);
            assert!(
                before["not_in_force"] == json!([]) && before["meshes"] != json!([]),
                "{}: {before}",
                recorded.name
            );
            let verdicts = before["decisions"].as_array().unwrap();
            if verdicts.iter().all(|d| d["verdict"] != "captured") {
                continue;
            }
            let suffix = backend.strip_prefix("iptables").unwrap_or("-nft");
            for iptables in ["iptables", "ip6tables"] {
                pod.sh(&format!("{iptables}{suffix} -t nat -F OUTPUT"));
            }
            let after = status(&pod, 1);
            assert_eq!(
                after["not_in_force"][0]["reason"], "unreachable",
                "{}: {after}",
                recorded.name
            );
        }
    }
}

#[test]
fn what_has_no_effect_is_named_with_its_reason() {
    let breaks = [
        (
            ISTIO,
            "iptables -t nat -F PREROUTING",
            json!([{
                "reason": "unreachable", "family": "ipv4", "table": "nat", "chain": "ISTIO_INBOUND"
            }]),
        ),
        (
            ISTIO,
            "nft 'add table ip nat { flags dormant; }'",
            json!([{
                "reason": "dormant", "family": "ipv4", "table": "nat"
            }]),
        ),
        (
            "--mesh istio -i * -b * --backend nftables",
            "nft 'add table ip prepare-proxy-nat { flags dormant; }'",
            json!([{ "reason": "dormant", "family": "ipv4", "table": "prepare-proxy-nat" }]),
        ),
        (
            "--mesh istio -i * -b * -m TPROXY -u 0 -g 1337",
            "ip rule del fwmark 0x539",
            json!([{ "reason": "no-route", "family": "ipv4", "mark": 1337 }]),
        ),
    ];
    for (line, broken, expected) in breaks {
        let pod = Namespace::new();
        apply(&pod, line);
        assert_eq!(status(&pod, 0)["state"], "in-force", "{line}");
        pod.sh(broken);
        let after = status(&pod, 1);
        assert_eq!(after["state"], "not-in-force", "{broken}: {after}");
        assert_eq!(after["not_in_force"], expected, "{broken}: {after}");
    }
}

#[test]
fn decisions_are_those_of_the_options() {
    let pod = Namespace::new();
    apply(&pod, "--mesh linkerd -p 4140 -z 4143 -u 2102 -d 4190");
    let report = status(&pod, 0);
    assert_eq!(report["meshes"], json!(["linkerd"]));
    let decided = |direction: &str, verdict: &str| -> Vec<Value> {
        let decisions = report["decisions"].as_array().unwrap().iter();
        let found = decisions.filter(|d| d["direction"] == direction && d["verdict"] == verdict);
        found.cloned().collect()
    };
    assert_eq!(decided("outbound", "captured")[0]["port"], 4140);
    assert_eq!(decided("inbound", "captured")[0]["port"], 4143);
    let exempt = decided("inbound", "exempt");
    assert!(
        exempt[0]["matches"].to_string().contains("4190"),
        "{report}"
    );
}

#[test]
fn foreign_rules_that_take_precedence_and_leftovers_are_listed() {
    let pod = Namespace::new();
    apply(&pod, ISTIO);
    pod.sh("iptables -t nat -I OUTPUT -p tcp --dport 3306 -j ACCEPT");
    let report = status(&pod, 0);
    assert_eq!(report["ahead"][0]["chain"], "OUTPUT", "{report}");
    pod.sh("iptables -t nat -F OUTPUT; nft add table inet istio-proxy-nat");
    pod.sh("iptables -t nat -F ISTIO_OUTPUT; iptables -t nat -A ISTIO_OUTPUT -j RETURN");
    pod.sh("iptables -t nat -A OUTPUT -p udp --dport 53 -j DNAT --to-destination 127.0.0.1:15053");
    let leftovers = &status(&pod, 0)["leftovers"];
    assert_eq!(leftovers[0]["chain"], "OUTPUT", "{leftovers}");
    assert_eq!(leftovers[1], "inet istio-proxy-nat", "{leftovers}");
}

#[test]
fn a_firewall_that_blocks_the_port_of_the_proxy_is_named_with_the_port() {
    let pod = Namespace::new();
    apply(&pod, ISTIO);
    pod.sh("iptables -P INPUT DROP");
    let report = status(&pod, 0);
    let policy = |port: u16| json!({ "table": "filter", "chain": "INPUT", "managed": false, "decoded": true, "redirected_to": port });
    let ahead = report["ahead"].as_array().expect("rules");
    assert!(ahead.contains(&policy(15006)), "{report}");
    pod.sh("iptables -A INPUT -p tcp --dport 15006 -j ACCEPT");
    let ahead = status(&pod, 0)["ahead"].clone();
    assert!(
        !ahead.as_array().expect("rules").contains(&policy(15006)),
        "{ahead}"
    );
}

#[test]
fn without_rules_it_is_1_and_without_privilege_2() {
    let pod = Namespace::new();
    assert_eq!(status(&pod, 1)["state"], "not-installed");
    let mut unprivileged = Command::new("setpriv");
    unprivileged.args(["--reuid=1000", "--regid=1000", "--clear-groups"]);
    unprivileged.arg(product().get_program());
    let done = pod.run(unprivileged.args(["status", "--format", "json"]));
    let done = done.must_exit(2, "status");
    let report: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(report["state"], "undetermined");
    assert_ne!(report["unseen"], json!([]));
}

/// To another user than root the kernel does not show whether iptables-legacy has rules.
#[test]
fn a_user_with_net_admin_sees_the_rules_of_nf_tables() {
    let pod = Namespace::new();
    apply(&pod, ISTIO);
    let mut user = Command::new("setpriv");
    user.args(["--reuid=1337", "--regid=1337", "--clear-groups"]);
    user.args([
        "--inh-caps=-all,+net_admin",
        "--ambient-caps=-all,+net_admin",
    ]);
    user.arg(product().get_program());
    let done = pod.run(user.args(["status", "--format", "json"]));
    let done = done.must_exit(2, "status");
    let report: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(report["state"], "undetermined", "{report}");
    assert_eq!(report["backends"][0]["backend"], "netlink", "{report}");
    assert_ne!(report["decisions"], json!([]), "{report}");
}

#[test]
fn the_text_names_routes_and_shows_rules_only_if_asked() {
    let pod = Namespace::new();
    apply(
        &pod,
        "--mesh istio -m TPROXY -b * --dual-stack -u 0 -g 1337",
    );
    let brief = pod.run(product().arg("show")).must("show");
    assert!(
        brief.contains("ip rule add fwmark 0x539 lookup 133"),
        "{brief}"
    );
    assert!(!brief.contains("ISTIO_TPROXY"), "{brief}");
    let whole = pod
        .run(product().args(["status", "--rules"]))
        .must("status");
    assert!(whole.contains("IPv4 mangle ISTIO_TPROXY"), "{whole}");
}
