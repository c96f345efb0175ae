//! `show`: what is ours, in every store, and what it has counted.

use crate::lab::{APP, BACKENDS, Lab, PROXY, ROOT, Server, lab, product};
use serde_json::Value;

fn shown(lab: &Lab) -> Value {
    let done = lab.pod.run(product().args(["show", "--format", "json"]));
    serde_json::from_str(&done.must("show")).expect("JSON")
}

/// How many packets met the rules that are there for this.
fn packets(shown: &Value, id: &str) -> u64 {
    let stores = shown["stores"].as_array().expect("stores");
    let chains = stores
        .iter()
        .flat_map(|s| s["chains"].as_array().expect("chains"));
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
        lab_.pod
            .run(product().args(["-p", "15001", "-u", "1337", "--backend", backend]))
            .must(backend);
        lab_.pod
            .sh("iptables-nft -t nat -A OUTPUT -d 198.51.100.1 -j RETURN");
        let before = shown(&lab_);
        assert_eq!(
            before["stores"].as_array().unwrap().len(),
            1,
            "{backend}: {before}"
        );
        let _proxy = Server::start(&lab_.pod, PROXY, &["proxy", "15001"]);
        let _peer = Server::start(&lab_.peer, ROOT, &["serve", "80"]);
        lab_.pod
            .run(lab(APP).args(["connect", "203.0.113.9:80"]))
            .must("connect");
        let after = shown(&lab_);
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
fn routes_and_addresses_are_shown_and_nothing_is_said_to_be_nothing() {
    let lab = Lab::new();
    let none = lab.pod.run(product().arg("show")).must("show");
    assert_eq!(none, "no managed rules\n");
    let tproxy = ["--mesh", "istio", "-m", "TPROXY", "-b", "*", "--dual-stack"];
    lab.pod.run(product().args(tproxy)).must("apply");
    let text = lab.pod.run(product().arg("show")).must("show");
    for part in [
        "netlink: ",
        "IPv4 mangle ISTIO_TPROXY\n",
        "IPv6 nat OUTPUT (managed rules only)\n",
        "ip rule add fwmark 0x539 lookup 133",
        "::6/128 dev lo",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
