//! Refusal of the network namespace of a Kubernetes node.

use super::world::SOME;
use crate::lab::{Done, Namespace, product};
use std::path::Path;
use std::process::Command;

/// The state of the host, which is only read.
fn host() -> String {
    let script =
        "nft -a list ruleset; iptables-legacy-save; ip6tables-legacy-save; ip rule; ip -6 rule;
        ip route show table all; ip addr show dev lo";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| format!("{l}\n"))
        .collect()
}

/// In the initial network namespace, where this test must run: without any capability, so that
/// nothing can be changed.
#[test]
fn a_pod_with_host_network_is_refused() {
    let first = Path::new("/proc/sys/net/core/netdev_max_backlog");
    assert!(
        first.exists(),
        "this test is for the kernel's first network namespace"
    );
    let before = host();
    for line in [
        SOME,
        "--mesh istio",
        "apply --mesh istio-1.0 --backend iptables-legacy",
        "clean",
        "istio-iptables --cleanup-only",
    ] {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
        command
            .arg(product().get_program())
            .args(line.split(' '))
            .env_clear();
        command
            .env("PATH", "/usr/sbin:/usr/bin")
            .env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
        let done = Done::of(&mut command).expect(2, line).unwrap();
        assert!(done.err.contains("hostNetwork"), "{}", done.err);
        assert!(done.err.contains("--allow-host-network"), "{}", done.err);
    }
    assert_eq!(before, host());
}

/// The files that identify a node are hidden: nothing is changed.
#[test]
fn apply_is_refused_if_the_namespace_may_be_a_node() {
    let run = |namespace: &Namespace, line: &str| {
        let script = format!(
            "mount -t tmpfs none /proc/sys; exec {} {line}",
            product().get_program().display()
        );
        let mut own_mounts = Command::new("unshare");
        own_mounts.args(["-m", "sh", "-ec", &script]);
        namespace.run(own_mounts.env("KUBERNETES_SERVICE_HOST", "10.96.0.1"))
    };
    let namespace = Namespace::new();
    let first = run(&namespace, &format!("--log-format json {SOME}"));
    first.expect(1, SOME).unwrap().says("host-network").unwrap();
    assert!(!namespace.sh("iptables-save").contains("ISTIO"));
    let allowed = format!("--allow-host-network {SOME}");
    run(&namespace, &allowed).expect(0, &allowed).unwrap();
    for line in ["clean", "istio-iptables --cleanup-only"] {
        run(&namespace, line).expect(1, line).unwrap();
        assert!(namespace.sh("iptables-save").contains("ISTIO"));
    }
    let clean = "clean --allow-host-network";
    run(&namespace, clean).expect(0, clean).unwrap();
}

#[test]
fn a_pod_with_its_own_network_is_accepted() {
    let namespace = Namespace::new();
    let mut command = product();
    command
        .args(SOME.split(' '))
        .env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    let done = namespace.run(&mut command);
    done.expect(0, "a pod of its own").unwrap();
}
