//! What istio-cni and linkerd-cni were recorded to do, replayed with annotations and configuration
//! alone.

use super::{Call, code, entry, pod, previous};
use crate::cases::recording::strings;
use crate::cases::state::State;
use crate::lab::{Namespace, same};
use serde_json::{Map, Value, json};
use std::path::Path;

/// What is to come of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The rules that were recorded.
    Recorded,
    /// Rules.
    Rules,
    /// Success, and no rules.
    Pass,
    Error,
    Any,
}

/// Where something else is right than what the reference does, and why.
const DIFFERENCES: &[(&str, &str, Outcome, &str)] = &[
    (
        "istio",
        "mode-none",
        Outcome::Pass,
        "nothing is to be redirected; the reference fails the pod",
    ),
    (
        "istio",
        "mode-empty",
        Outcome::Rules,
        "an empty mode is REDIRECT, as on every command line",
    ),
    (
        "istio",
        "mode-lowercase",
        Outcome::Rules,
        "the mode is clear",
    ),
    (
        "istio",
        "include-cidr-trailing-comma",
        Outcome::Rules,
        "empty items are dropped",
    ),
    (
        "istio",
        "exclude-in-trailing-comma",
        Outcome::Rules,
        "empty items are dropped",
    ),
    (
        "istio",
        "only-status-annotation",
        Outcome::Any,
        "the status decides",
    ),
    (
        "istio",
        "status-annotation-empty",
        Outcome::Error,
        "a status that cannot be read is no status",
    ),
    ("istio", "exclude-in-0", Outcome::Error, "0 is not a port"),
    (
        "istio",
        "dual-addresses-without-env",
        Outcome::Rules,
        "IPv6 must not bypass the proxy",
    ),
    ("istio", "v6-only", Outcome::Rules, "IPv4 has its rules too"),
    (
        "istio",
        "no-status-annotation",
        Outcome::Pass,
        "no injector was there",
    ),
    ("istio", "own-agent-pod", Outcome::Any, "there is no agent"),
    (
        "istio",
        "version-0.2.0",
        Outcome::Error,
        "the reference writes rules, then fails",
    ),
    (
        "istio",
        "command-CHECK",
        Outcome::Error,
        "there are no rules, and CHECK says so",
    ),
    (
        "linkerd",
        "command-CHECK",
        Outcome::Error,
        "there are no rules, and CHECK says so",
    ),
    (
        "linkerd",
        "proxy-container-without-annotations",
        Outcome::Pass,
        "no injector was there",
    ),
    (
        "linkerd",
        "pod-unknown-to-the-api",
        Outcome::Any,
        "no API is asked",
    ),
    (
        "linkerd",
        "skip-subnets-v6",
        Outcome::Rules,
        "each family has its own subnets",
    ),
    (
        "linkerd",
        "skip-subnets-v6-with-ipv6",
        Outcome::Rules,
        "each family has its own subnets",
    ),
    (
        "linkerd",
        "skip-subnets-v4-with-ipv6",
        Outcome::Rules,
        "each family has its own subnets",
    ),
    (
        "linkerd",
        "skip-outbound-spaces",
        Outcome::Rules,
        "a space hides no port",
    ),
    (
        "linkerd",
        "skip-outbound-bad",
        Outcome::Error,
        "a misspelt port is refused, not dropped in silence",
    ),
    (
        "linkerd",
        "skip-inbound-bad",
        Outcome::Error,
        "a misspelt port is refused, not dropped in silence",
    ),
    (
        "linkerd",
        "proxy-uid-0",
        Outcome::Rules,
        "a proxy that runs as root is exempt, too",
    ),
    (
        "linkerd",
        "conf-proxy-uid-absent",
        Outcome::Rules,
        "Linkerd's uid holds; the proxy would loop",
    ),
    (
        "linkerd",
        "conf-incoming-0",
        Outcome::Error,
        "0 is not a port",
    ),
    (
        "linkerd",
        "conf-mode-bad",
        Outcome::Any,
        "the entry has no such key",
    ),
    (
        "linkerd",
        "conf-mode-legacy",
        Outcome::Any,
        "the entry has no such key",
    ),
    (
        "linkerd",
        "conf-simulate",
        Outcome::Any,
        "the entry has no such key",
    ),
    (
        "linkerd",
        "conf-empty",
        Outcome::Any,
        "the mesh's defaults hold",
    ),
    (
        "linkerd",
        "conf-no-ports",
        Outcome::Any,
        "the mesh's defaults hold",
    ),
];

/// What no runtime hands over, and no injector writes into annotations.
const BEYOND: [&str; 4] = [
    "container names",
    "labels",
    "arguments of istio-proxy",
    "the service default/kubernetes",
];

struct Vector {
    mesh: &'static str,
    value: Value,
}

impl Vector {
    fn all(mesh: &'static str) -> Vec<Self> {
        let path = format!("tests/conformance/cni/{mesh}.json");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = std::fs::read_to_string(path).expect("a recording");
        let file: Value = serde_json::from_str(&text).expect("a recording is JSON");
        let all = file["vectors"].as_array().expect("vectors").iter();
        let vectors = all.map(|value| Vector {
            mesh,
            value: value.clone(),
        });
        vectors.filter(|v| !v.is_beyond()).collect()
    }

    fn name(&self) -> &str {
        self.value["name"].as_str().expect("a name")
    }

    fn is_beyond(&self) -> bool {
        let needs = match &self.value["needs"] {
            Value::Array(_) => strings(&self.value["needs"]),
            _ => vec![],
        };
        let by_environment = [
            "disable-envoy",
            "dns-capture-bad",
            "dns-capture-by-reference",
        ];
        let of_proxy = needs
            .iter()
            .any(|need| need == "environment of istio-proxy")
            && by_environment
                .iter()
                .any(|start| self.name().starts_with(start));
        of_proxy || needs.iter().any(|need| BEYOND.contains(&need.as_str()))
    }

    fn outcome(&self) -> Outcome {
        let own = DIFFERENCES
            .iter()
            .find(|(mesh, name, ..)| (*mesh, *name) == (self.mesh, self.name()));
        let expect = &self.value["expect"];
        match own {
            Some((_, _, outcome, _)) => *outcome,
            None if expect["exit"] != 0 => Outcome::Error,
            None if expect["touched"] == true => Outcome::Recorded,
            None => Outcome::Pass,
        }
    }

    fn containers(&self) -> impl Iterator<Item = &Value> {
        let lists = ["initContainers", "containers"].into_iter();
        lists.flat_map(|list| {
            self.value["pod"]["spec"][list]
                .as_array()
                .into_iter()
                .flatten()
        })
    }

    /// What the plugin's configuration has to say that annotations do not.
    fn defaults(&self) -> Map<String, Value> {
        match self.mesh {
            "istio" => self.istio_defaults(),
            _ => self.linkerd_defaults(),
        }
    }

    fn istio_defaults(&self) -> Map<String, Value> {
        let mut defaults = Map::new();
        let nothing = Value::Null;
        let proxy = self
            .containers()
            .find(|c| c["name"] == "istio-proxy")
            .unwrap_or(&nothing);
        let id = |key: &str| {
            proxy["securityContext"][key]
                .as_u64()
                .filter(|id| ![0, 1337].contains(id))
        };
        if let Some(uid) = id("runAsUser") {
            defaults.insert("proxy-uid".into(), uid.into());
            defaults.insert("proxy-gid".into(), 1337.into());
        }
        if let Some(gid) = id("runAsGroup") {
            defaults.insert("proxy-gid".into(), gid.into());
        }
        let is_on = |name: &str| {
            let mut variables = proxy["env"].as_array().into_iter().flatten();
            let variable = variables.find(|variable| variable["name"] == name);
            variable.is_some_and(|v| {
                ["1", "t", "T", "true", "TRUE", "True"]
                    .map(Value::from)
                    .contains(&v["value"])
            })
        };
        for (variable, options) in [
            (
                "ISTIO_META_DNS_CAPTURE",
                &["redirect-dns", "capture-all-dns"][..],
            ),
            ("INVALID_DROP", &["drop-invalid"]),
            ("ISTIO_DUAL_STACK", &["dual-stack"]),
        ] {
            if is_on(variable) {
                defaults.extend(
                    options
                        .iter()
                        .map(|option| ((*option).to_owned(), true.into())),
                );
            }
        }
        defaults
    }

    fn linkerd_defaults(&self) -> Map<String, Value> {
        let mut conf = json!({
            "incoming-proxy-port": 4143, "outgoing-proxy-port": 4140, "proxy-uid": 2102,
            "inbound-ports-to-ignore": ["4191", "4190"], "ipv6": false,
        });
        for (key, value) in self.value["conf"]["linkerd"]
            .as_object()
            .into_iter()
            .flatten()
        {
            conf[key] = value.clone();
        }
        let unknown = ["simulate", "use-wait-flag", "iptables-mode"];
        let text = |(key, value): (&String, &Value)| {
            let value = match value {
                Value::Null => return None,
                Value::Array(items) if items.is_empty() => return None,
                Value::Array(_) => strings(value).join(",").into(),
                value => value.clone(),
            };
            (!unknown.contains(&key.as_str())).then(|| (key.clone(), value))
        };
        conf.as_object()
            .expect("an object")
            .iter()
            .filter_map(text)
            .collect()
    }

    fn annotations(&self) -> Value {
        let mut annotations = match &self.value["pod"]["metadata"]["annotations"] {
            Value::Object(annotations) => annotations.clone(),
            _ => Map::new(),
        };
        // The injector copies those of the namespace, and says that it was there.
        for (name, value) in self.value["namespace"]["annotations"]
            .as_object()
            .into_iter()
            .flatten()
        {
            if annotations.get(name).is_none_or(|own| own == "") {
                annotations.insert(name.clone(), value.clone());
            }
        }
        let has_proxy = self.containers().any(|c| c["name"] == "linkerd-proxy");
        if has_proxy && self.name() != "proxy-container-without-annotations" {
            annotations
                .entry("linkerd.io/proxy-version")
                .or_insert("edge".into());
        }
        match annotations.is_empty() {
            true => Value::Null,
            false => annotations.into(),
        }
    }

    fn entry(&self, backend: &str) -> Value {
        let mut entry = entry(self.mesh, self.annotations());
        let version = self.value["cniVersion"].as_str().unwrap_or("1.0.0");
        entry["cniVersion"] = version.into();
        entry["prevResult"]["cniVersion"] = version.into();
        entry["defaults"] = self.defaults().into();
        entry["backend"] = backend.into();
        if self.value["conf"].get("name") == Some(&Value::Null) {
            entry.as_object_mut().expect("an object").remove("name");
        }
        entry
    }

    fn call(&self, backend: &str, pod: &Namespace) -> Call {
        let text = |key: &str, or: &str| self.value[key].as_str().unwrap_or(or).to_owned();
        let namespace = self.value["namespace"]["name"].as_str().unwrap_or("demo");
        let args = format!(
            "K8S_POD_NAME={};K8S_POD_NAMESPACE={namespace}",
            text("podName", "web-0")
        );
        let mut call = Call::of(&text("command", "ADD"), self.entry(backend), pod.path());
        call = call.with("CNI_ARGS", Some(&args));
        for (name, value) in self.value["env"].as_object().into_iter().flatten() {
            let name = ["CNI_ARGS", "CNI_CONTAINERID", "CNI_NETNS"]
                .into_iter()
                .find(|n| n == name);
            call = call.with(name.expect("a variable of CNI"), value.as_str());
        }
        call
    }

    fn check(&self, backend: &str) -> Result<(), String> {
        let node = Namespace::new();
        let addresses = strings(&self.value["addrs"]);
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let pod = pod(if addresses.is_empty() {
            &["10.244.1.17/24"]
        } else {
            &addresses
        });
        let untouched = State::of(&pod, backend);
        let call = self.call(backend, &pod);
        let adds = self.value["command"]
            .as_str()
            .is_none_or(|verb| verb == "ADD");
        let mut done = call.run(&node);
        for _ in 1..self.value["times"].as_u64().unwrap_or(1) {
            done = call.run(&node);
        }
        let outcome = self.outcome();
        if outcome == Outcome::Any {
            return Ok(());
        }
        if outcome == Outcome::Error {
            let done = done.expect(1, "it must fail")?;
            code(&done);
            return same(
                &untouched,
                &State::of(&pod, backend),
                "an error, and something is there",
            );
        }
        let done = done.expect(0, "it must succeed")?;
        if adds && self.value["prevResult"] != false {
            let mut wanted = previous();
            wanted["cniVersion"] = self.entry(backend)["cniVersion"].clone();
            done.check(
                done.out == wanted.to_string() + "\n",
                "the result of the plugin before it",
            )?;
        }
        let found = State::of(&pod, backend);
        if outcome == Outcome::Pass {
            return same(&untouched, &found, "something was written");
        }
        if found.is_empty() {
            return Err("no rules".to_owned());
        }
        if outcome == Outcome::Recorded && backend != "nftables" {
            let recorded = State::recorded(&self.value["expect"], false, true);
            same(&recorded, &recorded.like(found), "not as recorded")?;
        }
        if call.entry["cniVersion"] == "0.3.1" {
            return Ok(());
        }
        let check = self.call(backend, &pod).with("CNI_COMMAND", Some("CHECK"));
        check.run(&node).expect(0, "CHECK").map(drop)
    }
}

fn replay(backend: &str) {
    let vectors = ["istio", "linkerd"].into_iter().flat_map(Vector::all);
    let vectors: Vec<Vector> = vectors.collect();
    assert!(vectors.len() > 100, "{} vectors", vectors.len());
    let check = |v: &Vector| {
        Some(format!(
            "{} {}: {}",
            v.mesh,
            v.name(),
            v.check(backend).err()?
        ))
    };
    let failed: Vec<String> = vectors.iter().filter_map(check).collect();
    assert!(
        failed.is_empty(),
        "{} failed\n{}",
        failed.len(),
        failed.join("\n\n")
    );
}

#[test]
fn netlink() {
    replay("netlink");
}

#[test]
fn nftables() {
    replay("nftables");
}
