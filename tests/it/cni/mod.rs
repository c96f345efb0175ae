//! The CNI plugin as a container runtime calls it, and its installer.

mod install;
mod plugin;
mod vectors;

use crate::lab::{Done, Namespace, product};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

/// A call of the plugin.
pub struct Call {
    pub entry: Value,
    pub variables: Vec<(&'static str, String)>,
}

impl Call {
    /// For a pod whose network namespace has this path.
    pub fn of(verb: &str, entry: Value, network_namespace: PathBuf) -> Self {
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=web-0;K8S_POD_UID=1-2-3";
        let variables = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_NETNS", network_namespace.to_str().expect("a path")),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", args),
        ];
        Call {
            entry,
            variables: variables
                .map(|(name, value)| (name, value.to_owned()))
                .into(),
        }
    }

    /// With another value of a variable, or without it.
    pub fn with(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.variables.retain(|(n, _)| *n != name);
        self.variables
            .extend(value.map(|value| (name, value.to_owned())));
        self
    }

    pub fn command(&self) -> Command {
        let mut command = product();
        command.envs(self.variables.iter().cloned());
        command
    }

    /// Runs it where a runtime is.
    pub fn run(&self, node: &Namespace) -> Done {
        node.run_with_input(&mut self.command(), &self.entry.to_string())
    }
}

/// What another plugin said, with a key of its own and numbers in a form of their own.
pub fn previous() -> Value {
    json!({
        "cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod"}],
        "ips": [{"interface": 0, "address": "10.244.1.17/24"}], "dns": {}, "of-another-plugin": {"kept": [1.50]},
    })
}

/// An entry as a runtime passes it on.
pub fn entry(mesh: &str, annotations: Value) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "prepare-proxy", "log": "stderr",
        "capabilities": {"io.kubernetes.cri.pod-annotations": true, "dns": true},
        "mesh": mesh, "excludeNamespaces": ["kube-system"],
        "runtimeConfig": {
            "io.kubernetes.cri.pod-annotations": annotations,
            "dns": {"Servers": ["10.96.0.10"], "Searches": [], "Options": []},
        },
        "prevResult": previous(),
    })
}

/// What Istio's injector writes, and more.
pub fn istio(more: Value) -> Value {
    let mut annotations = json!({
        "sidecar.istio.io/status": r#"{"initContainers":["istio-validation","istio-proxy"]}"#,
        "sidecar.istio.io/interceptionMode": "REDIRECT",
        "traffic.sidecar.istio.io/includeOutboundIPRanges": "*",
        "traffic.sidecar.istio.io/includeInboundPorts": "*",
    });
    for (name, value) in more.as_object().expect("annotations") {
        annotations[name] = value.clone();
    }
    entry("istio", annotations)
}

/// A pod without rules.
pub fn pod(addresses: &[&str]) -> Namespace {
    let pod = Namespace::new();
    let mut lines = vec![
        "link add eth0 type veth peer name peer0".to_owned(),
        "link set eth0 up".to_owned(),
        "link set peer0 up".to_owned(),
    ];
    lines.extend(
        addresses
            .iter()
            .map(|address| format!("addr add {address} dev eth0")),
    );
    pod.ip(&lines);
    pod
}

/// The code of an error, which is what standard output has.
pub fn code(done: &Done) -> i64 {
    let answer: Value = serde_json::from_str(&done.out)
        .unwrap_or_else(|e| panic!("{e}: {:?} {}", done.out, done.err));
    let msg = answer["msg"].as_str().expect("msg");
    assert!(
        !msg.is_empty() && !msg.contains(char::is_control),
        "{msg:?}"
    );
    let twice = |line: &str| line.matches("demo/web-0").count() > 1;
    assert!(!done.err.lines().any(twice), "{}", done.err);
    assert!(answer["cniVersion"].is_string() && answer["details"].is_string());
    answer["code"].as_i64().expect("code")
}
