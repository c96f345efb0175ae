//! What the plugin promises beside the rules.

use super::{Call, code, entry, istio, pod, previous};
use crate::cases::state::State;
use crate::lab::{APP, Done, Lab, Namespace, PROXY, ROOT, Server, lab, product, without_comments};
use crate::lifecycle::faults::{calls, sample};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn add(entry: Value, node: &Namespace, pod: &Namespace) -> Done {
    Call::of("ADD", entry, pod.path()).run(node)
}

/// Other plugins say what this one has never heard of, in a form of their own.
#[test]
fn the_previous_result_keeps_every_byte() {
    let (node, pod) = (Namespace::new(), pod(&["10.244.1.17/24"]));
    let result = r#"{ "z": 1.50e+2, "cniVersion":"1.0.0","ips":[ ], "a": {"b" : null} }"#;
    let mut entry = istio(json!({}));
    entry.as_object_mut().unwrap().remove("prevResult");
    let input = entry.to_string();
    let input = format!("{},\"prevResult\":{result}}}", &input[..input.len() - 1]);
    let call = Call::of("ADD", entry, pod.path());
    let done = node
        .run_with_input(&mut call.command(), &input)
        .expect(0, "ADD")
        .unwrap();
    assert_eq!(done.out, format!("{result}\n"));
    assert!(!State::of(&pod, "netlink").is_empty());
}

/// A runtime stops at the first plugin that fails to delete, and leaks the address of the pod.
#[test]
fn deletion_always_succeeds() {
    let node = Namespace::new();
    for verb in ["DEL", "GC"] {
        for input in [
            "",
            "{",
            "{\"cniVersion\":\"1.1.0\"}",
            "{\"cniVersion\":\"1.1.0\",\"x\":1}",
            "\u{0}",
        ] {
            let mut command = product();
            command.env("CNI_COMMAND", verb);
            let done = node
                .run_with_input(&mut command, input)
                .expect(0, verb)
                .unwrap();
            assert_eq!(done.out, "", "{verb} {input:?}");
        }
    }
}

/// `VERSION` needs nothing, `STATUS` only an entry, and no name of the program matters.
#[test]
fn versions_and_status_are_told() {
    let node = Namespace::new();
    for (input, version) in [
        ("{\"cniVersion\":\"0.4.0\"}", "0.4.0"),
        ("", "1.1.0"),
        ("{\"cniVersion\":\"9\"}", "1.1.0"),
    ] {
        let mut command = product();
        // The name of another tool, and words that are not for a plugin.
        command.arg0("istio-iptables").arg("--whatever");
        command.env("CNI_COMMAND", "VERSION");
        let done = node
            .run_with_input(&mut command, input)
            .expect(0, "VERSION")
            .unwrap();
        let answer: Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!(answer["cniVersion"], version);
        assert_eq!(
            answer["supportedVersions"],
            json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
        );
    }
    let mut entry = entry("istio", Value::Null);
    entry["cniVersion"] = "1.1.0".into();
    entry.as_object_mut().unwrap().remove("runtimeConfig");
    let call = Call::of("STATUS", entry, "/".into()).with("CNI_NETNS", None);
    assert_eq!(call.run(&node).expect(0, "STATUS").unwrap().out, "");
}

/// Whoever calls, with whatever: an error is CNI's, and nothing is touched.
#[test]
fn every_refusal_is_an_error_of_cni() {
    let node = Namespace::new();
    let pod = pod(&["10.244.1.17/24"]);
    let untouched = State::of(&pod, "netlink");
    let call = |entry| Call::of("ADD", entry, pod.path());
    let good = || call(istio(json!({})));
    let with = |key: &str, value: Value| {
        let mut entry = istio(json!({}));
        entry[key] = value;
        call(entry)
    };
    let mut without_annotations = istio(json!({}));
    without_annotations["runtimeConfig"] = json!({});
    let cases = [
        (
            "an unknown command",
            good().with("CNI_COMMAND", Some("REMOVE")),
            4,
        ),
        ("no command", good().with("CNI_COMMAND", Some("")), 4),
        ("no container", good().with("CNI_CONTAINERID", None), 4),
        ("no interface", good().with("CNI_IFNAME", None), 4),
        ("no namespace", good().with("CNI_NETNS", None), 4),
        (
            "an absent namespace",
            good().with("CNI_NETNS", Some("/run/netns/none")),
            8,
        ),
        (
            "no namespace at all",
            good().with("CNI_NETNS", Some("/proc/self/ns/uts")),
            8,
        ),
        ("a device", good().with("CNI_NETNS", Some("/dev/zero")), 8),
        ("a file", good().with("CNI_NETNS", Some("/etc/passwd")), 8),
        ("a folder", good().with("CNI_NETNS", Some("/")), 8),
        (
            "the runtime's own",
            good().with("CNI_NETNS", Some("/proc/self/ns/net")),
            8,
        ),
        ("another version", with("cniVersion", "2.0.0".into()), 1),
        ("no version", with("cniVersion", Value::Null), 1),
        ("an unknown key", with("meshes", "istio".into()), 7),
        ("an unknown mesh", with("mesh", "consul".into()), 7),
        (
            "a mesh without annotations",
            with("mesh", "nginmesh".into()),
            7,
        ),
        ("no mesh", with("mesh", json!([])), 7),
        ("an unknown backend", with("backend", "iptables".into()), 7),
        (
            "an unknown option",
            with("defaults", json!({"proxy-user": "1"})),
            7,
        ),
        (
            "an option of no mesh here",
            with("defaults", json!({"inbound-exclude-cidrs": "10.0.0.0/8"})),
            7,
        ),
        (
            "a bad value",
            with("defaults", json!({"proxy-uid": "-1"})),
            7,
        ),
        (
            "a name of the node",
            with("defaults", json!({"proxy-uid": "root"})),
            7,
        ),
        (
            "a runtime without annotations",
            call(without_annotations),
            7,
        ),
        (
            "a status that is none",
            call(istio(json!({"sidecar.istio.io/status": "{"}))),
            100,
        ),
        (
            "configuration that is not YAML",
            call(istio(json!({"proxy.istio.io/config": "a: [b"}))),
            100,
        ),
        (
            "a bad variable",
            call(istio(
                json!({"proxy.istio.io/config": "proxyMetadata: {INVALID_DROP: maybe}"}),
            )),
            100,
        ),
    ];
    for (what, call, wanted) in cases {
        let done = call.run(&node).expect(1, what).unwrap();
        assert_eq!(code(&done), wanted, "{what}: {}", done.out);
        assert!(State::of(&pod, "netlink") == untouched, "{what}");
    }
    for input in [
        "",
        "{",
        "[]",
        "null",
        "{\"cniVersion\":",
        "\"\u{fffd}\"",
        "{\"cniVersion\":\"1.0.0\"}",
    ] {
        let done = node.run_with_input(&mut good().command(), input);
        let done = done.expect(1, input).unwrap();
        assert!([1, 6, 7].contains(&code(&done)), "{input}: {}", done.out);
    }
}

/// The pod's event has what to look for: the annotation, and its value.
#[test]
fn a_bad_annotation_is_named() {
    let (node, pod) = (Namespace::new(), pod(&["10.244.1.17/24"]));
    for (annotation, value) in [
        ("traffic.sidecar.istio.io/excludeInboundPorts", "8080,http"),
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "10.0.0.0/8,kube\u{1b}[2K\napi",
        ),
        ("sidecar.istio.io/interceptionMode", "SOME"),
        (
            "istio.io/reroute-virtual-interfaces",
            "averyveryverylongname",
        ),
    ] {
        let done = add(istio(json!({annotation: value})), &node, &pod);
        let done = done.expect(1, annotation).unwrap();
        assert_eq!(code(&done), 100, "{}", done.out);
        let msg = serde_json::from_str::<Value>(&done.out).unwrap()["msg"].to_string();
        let item: String = value.rsplit(',').next().unwrap().chars().take(4).collect();
        for part in ["demo/web-0", annotation, &item] {
            assert!(msg.contains(part), "{part}: {msg}");
        }
    }
}

/// Only pods that an injector has seen, and none of the namespaces that are left alone.
#[test]
fn pods_of_no_mesh_pass() {
    let node = Namespace::new();
    let of_istio = |mesh: &str| {
        let mut entry = istio(json!({}));
        entry["mesh"] = mesh.into();
        entry
    };
    let excluded = "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns";
    for (what, entry, args) in [
        ("no annotations", entry("istio", Value::Null), None),
        ("others", entry("istio", json!({"a": "b"})), None),
        ("another mesh", of_istio("linkerd"), None),
        (
            "mode NONE",
            istio(json!({"sidecar.istio.io/interceptionMode": "none"})),
            None,
        ),
        ("an excluded namespace", istio(json!({})), Some(excluded)),
        ("not Kubernetes", istio(json!({})), Some("IgnoreUnknown=1")),
    ] {
        let pod = pod(&["10.244.1.17/24"]);
        let mut call = Call::of("ADD", entry, pod.path());
        if let Some(args) = args {
            call = call.with("CNI_ARGS", Some(args));
        }
        let done = call.run(&node).expect(0, what).unwrap();
        assert_eq!(done.out, previous().to_string() + "\n", "{what}");
        assert!(State::of(&pod, "netlink").is_empty(), "{what}");
    }
}

/// The first mesh of several that has the pod; options of the other one are not in its way.
#[test]
fn one_plugin_serves_several_meshes() {
    let node = Namespace::new();
    for (annotations, chain) in [
        (
            istio(json!({}))["runtimeConfig"]["io.kubernetes.cri.pod-annotations"].clone(),
            "ISTIO_OUTPUT",
        ),
        (
            json!({"linkerd.io/proxy-version": "edge"}),
            "PROXY_INIT_OUTPUT",
        ),
    ] {
        let pod = pod(&["10.244.1.17/24"]);
        let mut entry = entry("istio", annotations);
        entry["mesh"] = json!(["linkerd", "istio"]);
        entry["defaults"] = json!({"redirect-dns": true, "subnets-to-ignore": "10.0.0.0/8"});
        add(entry, &node, &pod).expect(0, chain).unwrap();
        let found = State::of(&pod, "netlink").v4;
        assert!(found.keys().any(|(_, name)| name == chain), "{found:?}");
    }
}

/// Defaults, then those of the namespace, then the proxy's variables, then annotations.
#[test]
fn the_strongest_layer_holds() {
    let node = Namespace::new();
    let rules = |defaults: Value, namespaces: Value, more: Value| {
        let pod = pod(&["10.244.1.17/24"]);
        let mut entry = istio(more);
        entry["defaults"] = defaults;
        entry["namespaces"] = namespaces;
        add(entry, &node, &pod).expect(0, "ADD").unwrap();
        State::of(&pod, "netlink").to_string()
    };
    let found = rules(json!({"proxy-uid": 2000}), json!({}), json!({}));
    assert!(
        found.contains("--uid-owner 2000") && found.contains("--gid-owner 2000"),
        "{found}"
    );
    let found = rules(
        json!({"proxy-uid": 2000}),
        json!({"demo": {"proxy-uid": 3000}}),
        json!({}),
    );
    assert!(
        found.contains("--uid-owner 3000") && !found.contains("2000"),
        "{found}"
    );
    let found = rules(
        json!({"proxy-uid": 2000}),
        json!({"else": {"proxy-uid": 3000}}),
        json!({}),
    );
    assert!(found.contains("--uid-owner 2000"), "{found}");
    let invalid = "proxyMetadata:\n  INVALID_DROP: \"true\"\n  OTHER: x\n";
    let found = rules(
        json!({"drop-invalid": false}),
        json!({}),
        json!({"proxy.istio.io/config": invalid}),
    );
    assert!(found.contains("ISTIO_DROP"), "{found}");
    let ports = json!({"traffic.sidecar.istio.io/excludeOutboundPorts": "9999"});
    let found = rules(json!({"outbound-exclude-ports": "8888"}), json!({}), ports);
    assert!(
        found.contains("--dport 9999") && !found.contains("8888"),
        "{found}"
    );
}

/// The runtime's word counts, never the node's /etc/resolv.conf.
#[test]
fn dns_goes_by_the_nameservers_of_the_pod() {
    let node = Namespace::with_resolv_conf("nameserver 192.0.2.99\n");
    let capture = json!({"proxy.istio.io/config": "proxyMetadata: {ISTIO_META_DNS_CAPTURE: true}"});
    let rules = |entry: Value| {
        let pod = pod(&["10.244.1.17/24"]);
        add(entry, &node, &pod).expect(0, "ADD").unwrap();
        without_comments(&State::of(&pod, "netlink").to_string())
    };
    let found = rules(istio(capture.clone()));
    assert!(
        found.contains("-d 10.96.0.10/32 -p udp -m udp --dport 53"),
        "{found}"
    );
    let mut entry = istio(capture);
    entry["runtimeConfig"]
        .as_object_mut()
        .unwrap()
        .remove("dns");
    let found = rules(entry);
    assert!(
        found.contains("-p udp -m udp --dport 53 -j REDIRECT") && !found.contains("192.0.2.99"),
        "{found}"
    );
}

/// A runtime's own network plugin brings lo up at the same time; what TPROXY marks is routed there.
#[test]
fn lo_is_brought_up() {
    let (node, pod) = (Namespace::new(), pod(&["10.244.1.17/24"]));
    pod.ip(&["link set lo down"]);
    let mode = json!({"sidecar.istio.io/interceptionMode": "TPROXY"});
    add(istio(mode), &node, &pod).expect(0, "ADD").unwrap();
    assert!(pod.sh("ip link show dev lo").contains(",UP"));
    assert!(pod.sh("ip route show table 133").contains("dev lo"));
}

/// A pod with `hostUsers: false`: its network namespace belongs to a user namespace that nobody is in
/// yet. The rules hold all the same, by the users that the pod has.
#[test]
fn a_pod_with_users_of_its_own_is_redirected() {
    let lab_ = Lab::around(Namespace::with_users_and_resolv_conf(""));
    let node = Namespace::new();
    let _proxy = Server::start(&lab_.pod, PROXY, &["proxy", "--announce", "15001", "15006"]);
    let _peer = Server::start(&lab_.peer, ROOT, &["serve", "--name=peer", "443"]);
    let connect = |user| {
        lab_.pod
            .run(lab(user).args(["connect", "203.0.113.9:443"]))
            .out
    };
    assert!(!connect(APP).contains("15001"));
    let call = Call::of("ADD", istio(json!({})), lab_.pod.path());
    for what in ["ADD", "ADD again", "CHECK"] {
        let call = Call::of(
            what.split(' ').next().unwrap(),
            call.entry.clone(),
            lab_.pod.path(),
        );
        call.run(&node).expect(0, what).unwrap();
    }
    let (app, proxy) = (connect(APP), connect(PROXY));
    assert!(app.contains("15001"), "{app}");
    assert!(
        proxy.contains("peer") && !proxy.contains("15001"),
        "{proxy}"
    );
}

/// Pods start side by side, and none waits for another.
#[test]
fn many_pods_at_once() {
    let node = Namespace::new();
    let pods: Vec<Namespace> = (0..50).map(|_| pod(&["10.244.1.17/24"])).collect();
    std::thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| add(istio(json!({})), &node, pod).expect(0, "ADD").unwrap());
        }
    });
    assert!(pods.iter().all(|pod| !State::of(pod, "netlink").is_empty()));
}

/// A kill at a system call of ADD, and every error that it can return: all of the rules or none, CNI's
/// error wherever it fails, and the next ADD ends well.
#[test]
fn faults_at_every_system_call() {
    let node = Namespace::new();
    let fresh = || pod(&["10.244.1.17/24"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, istio(json!({})).to_string()).unwrap();
    let wrapped = |words: &[String], pod: &Namespace| {
        let call = Call::of("ADD", istio(json!({})), pod.path());
        let mut command = Command::new("sh");
        let script = format!("exec \"$@\" <{}", file.path().display());
        command.args(["-c", &script, "sh"]).args(words);
        command.arg(product().get_program()).env_clear();
        command.envs(call.command().get_envs().filter_map(|(k, v)| Some((k, v?))));
        command
    };
    let log = tempfile::NamedTempFile::new().unwrap();
    let strace = ["strace", "-qq", "-e", "signal=none", "-o"].map(str::to_owned);
    let strace = [&strace[..], &[log.path().display().to_string()]].concat();
    let wanted = {
        let pod = fresh();
        node.run(&mut wrapped(&strace, &pod))
            .expect(0, "strace")
            .unwrap();
        State::of(&pod, "netlink")
    };
    let calls = calls::in_log(log.path());
    let main = calls
        .iter()
        .position(|call| call == "poll")
        .expect("Rust's start");
    let mut faults = calls::faults(&calls, main, true);
    sample(&mut faults, 30);
    for fault in faults {
        let pod = fresh();
        let done = node.run(&mut wrapped(&fault.strace(), &pod));
        let found = State::of(&pod, "netlink");
        let whole = found.is_empty() || found == wanted;
        assert!(whole, "{fault}: half of it\n{found}{done:?}");
        match done.code {
            Some(0) => assert!(found == wanted, "{fault}: {done:?}"),
            Some(1) if fault.call == "write" && done.out.is_empty() => {}
            Some(1) => assert!(code(&done) > 0, "{fault}"),
            None if fault.error.is_none() => {}
            _ => assert!(fault.is_want_of_memory(), "{fault}: {done:?}"),
        }
        add(istio(json!({})), &node, &pod)
            .expect(0, "the next ADD")
            .unwrap();
        assert!(State::of(&pod, "netlink") == wanted, "{fault}");
    }
}
