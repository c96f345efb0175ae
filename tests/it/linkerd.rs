//! Linkerd's proxy-init, beyond the kernel state that it leaves: its quirks and what is done instead,
//! its command line, what it left behind itself, and the conntrack timeout.

use crate::cases::recording::{setup, strings, vectors};
use crate::lab::{BACKENDS, Done, Namespace, Variant, product, same, without_comments};
use prepare_proxy::netfilter::model::Family;
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::process::Command;

const PORTS: &str = "-p 4143 -o 4140 -u 2102";

/// Runs the drop-in with a line of flags, general options before its name.
fn proxy_init(namespace: &Namespace, general: &str, flags: &str) -> Done {
    let words = general.split_whitespace().chain(["proxy-init"]);
    namespace.run(product().args(words).args(flags.split_whitespace()))
}

/// The rules of both families without comments, and nothing that is not a chain or a rule.
fn rules(namespace: &Namespace, variant: Variant) -> String {
    Family::ALL
        .map(|family| {
            let text = namespace.iptables_save(family, variant);
            let lines = text
                .lines()
                .filter(|l| l.starts_with("-A") || l.contains("PROXY_INIT"));
            lines.map(|l| format!("{family} {l}\n")).collect::<String>()
        })
        .concat()
}

fn quirk(name: &str) -> Vec<String> {
    let all = vectors("linkerd-quirks");
    let found = all.iter().find(|v| v["name"] == name).expect(name);
    strings(&found["args"])
}

fn run_quirk(name: &str) -> (Namespace, Done) {
    let namespace = Namespace::new();
    let done = namespace.run(product().arg("proxy-init").args(quirk(name)));
    (namespace, done)
}

/// What the tool does half way or by mistake is refused before anything is touched.
#[test]
fn quirks_that_are_refused() {
    for (name, words) in [
        ("minimal-no-uid", "--proxy-uid or --proxy-gid"),
        (
            "bad-ignored-port",
            "--inbound-ports-to-ignore: \"http\" is not a port",
        ),
        (
            "bad-ignored-port-among-good",
            "--inbound-ports-to-ignore: \"http\" is not a port",
        ),
        ("port-zero", "--incoming-proxy-port: \"0\" is not a port"),
    ] {
        let (namespace, done) = run_quirk(name);
        let done = done.expect(1, name).unwrap();
        assert!(done.err.contains(words), "{name}: {}", done.err);
        assert_eq!(rules(&namespace, Variant::Nft), "", "{name}");
    }
}

#[test]
fn quirks_that_are_put_right() {
    let (_, done) = run_quirk("uid-zero");
    let done = done.expect(1, "uid-zero").unwrap();
    assert!(
        done.err.contains("--proxy-uid or --proxy-gid"),
        "{}",
        done.err
    );

    let (namespace, done) = run_quirk("ipv6-subnet-on-dual");
    done.expect(0, "ipv6-subnet-on-dual").unwrap();
    let found = rules(&namespace, Variant::Nft);
    assert!(
        found.contains("IPv4 -A PROXY_INIT_REDIRECT -s 10.0.0.0/8 "),
        "{found}"
    );
    assert!(
        found.contains("IPv6 -A PROXY_INIT_REDIRECT -p tcp"),
        "{found}"
    );
    assert!(!found.contains("IPv6 -A PROXY_INIT_REDIRECT -s"), "{found}");

    let known = [
        "uid-zero",
        "ipv6-subnet-on-dual",
        "minimal-no-uid",
        "bad-ignored-port",
        "bad-ignored-port-among-good",
        "port-zero",
    ];
    for vector in vectors("linkerd-quirks") {
        assert!(
            known.contains(&vector["name"].as_str().unwrap()),
            "{vector}"
        );
    }
}

/// Recordings in which somebody was there before: a half-finished run of the tool, and foreign rules.
#[test]
fn what_was_there_before_is_taken_over_or_stays() {
    let all = vectors("linkerd");
    let before: Vec<&Value> = all.iter().filter(|v| !setup(v).is_empty()).collect();
    assert_eq!(before.len(), 2);
    for backend in BACKENDS.iter().filter(|b| **b != "nftables") {
        for vector in &before {
            let variant = Variant::of(backend);
            let namespace = Namespace::new();
            for line in setup(vector) {
                namespace.sh(&line.replace("iptables-nft", &variant.tool(Family::V4, "")));
            }
            let mut command = product();
            command
                .args(["--backend", backend, "proxy-init"])
                .args(strings(&vector["args"]));
            namespace.run(&mut command).expect(0, backend).unwrap();
            let saved = namespace.iptables_save(Family::V4, variant);
            let found: Vec<&str> = saved.lines().filter(|l| l.starts_with("-A")).collect();
            let mut wanted = strings(&vector["expect"]["v4"]["nat"]["rules"]);
            let mut found: Vec<String> = found.iter().map(|l| (*l).to_owned()).collect();
            // Chains in their order of making, the rules of each in theirs.
            let chain = |rule: &String| rule.split(' ').nth(1).unwrap_or_default().to_owned();
            wanted.sort_by_key(chain);
            found.sort_by_key(chain);
            assert_eq!(found, wanted, "{backend}, {}", vector["name"]);
            namespace
                .run(product().arg("clean"))
                .expect(0, "clean")
                .unwrap();
            let left = rules(&namespace, variant);
            assert!(!left.contains("PROXY_INIT"), "{left}");
        }
    }
}

/// Comments of older releases end with the time of the run.
#[test]
fn rules_of_older_releases_are_taken_over() {
    let namespace = Namespace::new();
    namespace.sh(
        "iptables-nft-restore <<'X'
*nat
:PROXY_INIT_OUTPUT - [0:0]
:PROXY_INIT_REDIRECT - [0:0]
-A PREROUTING -m comment --comment \"proxy-init/install-proxy-init-prerouting/1619720000\" -j PROXY_INIT_REDIRECT
-A OUTPUT -m comment --comment \"proxy-init/install-proxy-init-output/1619720000\" -j PROXY_INIT_OUTPUT
-A OUTPUT -p tcp -m comment --comment \"proxy-init/something-else/1619720000\" -j ACCEPT
-A OUTPUT -o eth1 -j RETURN
-A PROXY_INIT_OUTPUT -p tcp -m comment --comment \"proxy-init/redirect-all-outgoing-to-proxy-port/1619720000\" -j REDIRECT --to-ports 1
-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-ports 2
COMMIT
X",
    );
    let flags = format!("--iptables-mode nft --ipv6=false {PORTS}");
    proxy_init(&namespace, "", &flags)
        .expect(0, "taken over")
        .unwrap();
    let fresh = Namespace::new();
    fresh.sh("iptables-nft -t nat -A OUTPUT -o eth1 -j RETURN");
    proxy_init(&fresh, "", &flags).expect(0, "fresh").unwrap();
    // Comments are not compared: a jump that is right stays as it is.
    let plain = |namespace: &Namespace| -> String {
        let rules = rules(namespace, Variant::Nft);
        rules.lines().map(|l| without_comments(l) + "\n").collect()
    };
    let (wanted, found) = (plain(&fresh), plain(&namespace));
    same(&wanted, &found, "after an older release").unwrap();
    namespace
        .run(product().arg("clean"))
        .expect(0, "clean")
        .unwrap();
    assert_eq!(
        rules(&namespace, Variant::Nft),
        "IPv4 -A OUTPUT -o eth1 -j RETURN\n"
    );
}

/// From Istio's mesh to Linkerd's and back: nothing of the one is left beside the other.
#[test]
fn meshes_give_way_to_one_another() {
    for backend in BACKENDS {
        let namespace = Namespace::new();
        let istio = format!("--backend {backend} --mesh istio -m TPROXY -i * -b *");
        let run = |line: &str| {
            namespace
                .run(product().args(line.split(' ')))
                .expect(0, line)
                .unwrap()
        };
        let listed = || {
            namespace.sh("nft list ruleset")
                + &rules(&namespace, Variant::Legacy)
                + &namespace.sh("ip rule")
        };
        run(&istio);
        proxy_init(&namespace, &format!("--backend {backend}"), PORTS)
            .expect(0, backend)
            .unwrap();
        let now = listed();
        assert!(
            now.contains("PROXY_INIT_OUTPUT") && !now.contains("ISTIO_"),
            "{backend}: {now}"
        );
        assert!(!now.contains("lookup 133"), "{now}");
        run(&istio);
        let now = listed();
        assert!(
            now.contains("ISTIO_OUTPUT") && !now.contains("PROXY_INIT"),
            "{backend}: {now}"
        );
        run("clean");
        let now = listed();
        assert!(
            !now.contains("ISTIO_") && !now.contains("prepare-proxy"),
            "{backend}: {now}"
        );
    }
}

/// Without `--backend` the mode says where the rules are: in the legacy tables by default.
#[test]
fn the_mode_chooses_the_tables() {
    for (flags, variant) in [
        ("", Variant::Legacy),
        (
            "--firewall-bin-path iptables-nft --firewall-save-bin-path iptables-nft-save",
            Variant::Nft,
        ),
        (
            "--firewall-bin-path iptables --firewall-save-bin-path iptables-save",
            Variant::Nft,
        ),
        (
            "--iptables-mode legacy --firewall-bin-path iptables-nft",
            Variant::Legacy,
        ),
        (
            "--iptables-mode nft --firewall-bin-path iptables-legacy",
            Variant::Nft,
        ),
        ("--iptables-mode plain", Variant::Nft),
    ] {
        let namespace = Namespace::new();
        proxy_init(&namespace, "", &format!("{PORTS} {flags}"))
            .expect(0, flags)
            .unwrap();
        for other in [Variant::Nft, Variant::Legacy] {
            let there = rules(&namespace, other).contains("-A PROXY_INIT_OUTPUT");
            assert_eq!(there, other == variant, "{flags}: {other}");
        }
    }
}

#[test]
fn each_of_its_names_stands_for_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in ["proxy-init", "linkerd2-proxy-init"] {
        let path = directory.path().join(name);
        symlink(product().get_program(), &path).expect("a link");
        let namespace = Namespace::new();
        let flags = format!("--iptables-mode nft {PORTS} --log-format json --log-level debug");
        let done = namespace.run(Command::new(&path).args(flags.split(' ')));
        let done = done.expect(0, name).unwrap();
        assert!(done.err.lines().all(|l| l.starts_with('{')), "{}", done.err);
        assert!(rules(&namespace, Variant::Nft).contains("PROXY_INIT_OUTPUT"));
        let other = format!("prepare-proxy {name}");
        let simulated = namespace.run(product().arg(name).args(flags.split(' ')).arg("--simulate"));
        let simulated = simulated.expect(0, &other).unwrap();
        assert!(
            simulated.out.contains("-j REDIRECT --to-ports 4143"),
            "{}",
            simulated.out
        );
        // The tool knows 0 and 1; its command line behind an action of ours means the action's.
        let diff = namespace.run(product().args(["diff", name, "--nope"]));
        diff.expect(2, "a diff that cannot be determined").unwrap();
        let refused = namespace
            .run(Command::new(&path).arg("--nope"))
            .expect(1, "an unknown flag");
        assert!(refused.unwrap().err.contains("--nope"));
        let helped = namespace
            .run(Command::new(&path).arg("--help"))
            .expect(0, "help")
            .unwrap();
        assert!(
            helped.out.contains("--outbound-ports-to-ignore"),
            "{}",
            helped.out
        );
    }
}

#[test]
fn command_lines_that_the_tool_refuses_are_refused() {
    let namespace = Namespace::new();
    for (flags, words) in [
        ("-p 4143 -u 2102", "--outgoing-proxy-port: required"),
        ("-p 4143 -o 4140 -u x", "--proxy-uid: \"x\""),
        ("-p 4143 -o 4140 -u -1 -g -1", "--proxy-uid or --proxy-gid"),
        ("-p 4143 -o 4140 -u 2102 -r 80-90", "--ports-to-redirect"),
        (
            "-p 4143 -o 4140 -u 2102 --inbound-ports-to-ignore 90-80",
            "FIRST-LAST",
        ),
        (
            "-p 4143 -o 4140 -u 2102 --outbound-ports-to-ignore 80:90",
            "\"80:90\"",
        ),
        (
            "-p 4143 -o 4140 -u 2102 --subnets-to-ignore fd00::1",
            "--subnets-to-ignore: \"fd00::1\" is not a CIDR",
        ),
        ("-p 4143 -o 4140 -u 2102 --log-level loud", "--log-level"),
        (
            "-p 4143 -o 4140 -u 2102 --firewall-save-bin-path /sbin/iptables-save",
            "--firewall-save-bin-path",
        ),
        (
            "-p 4143 -o 4140 -u 2102 --timeout-close-wait-secs soon",
            "--timeout-close-wait-secs",
        ),
        ("-p 4143 -o 4140 -u 2102 --ipv6=perhaps", "--ipv6"),
    ] {
        let done = proxy_init(&namespace, "--backend netlink", flags)
            .expect(1, flags)
            .unwrap();
        assert!(done.err.contains(words), "{flags}: {}", done.err);
        assert_eq!(rules(&namespace, Variant::Nft), "", "{flags}");
    }
}

/// By default IPv6 is there when the kernel has it; asked for by name it has to be.
#[test]
fn ipv6_is_the_default_where_there_is_any() {
    let namespace = Namespace::new();
    namespace.sysctl("ipv6/conf/all/disable_ipv6", "1");
    let flags = format!("--iptables-mode nft {PORTS}");
    proxy_init(&namespace, "", &flags)
        .expect(0, "by default")
        .unwrap();
    let found = rules(&namespace, Variant::Nft);
    assert!(
        found.contains("IPv4 -A PROXY_INIT") && !found.contains("IPv6 -A"),
        "{found}"
    );
    let asked = proxy_init(&namespace, "", &format!("{flags} --ipv6"));
    let asked = asked.expect(1, "asked for").unwrap();
    assert!(asked.err.contains("IPv6"), "{}", asked.err);
}

const CLOSE_WAIT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";

#[test]
fn the_timeout_is_set_or_the_run_fails() {
    let namespace = Namespace::new();
    let flags = format!("--iptables-mode nft {PORTS} --timeout-close-wait-secs");
    let simulated = proxy_init(&namespace, "", &format!("{flags} 3600 --simulate"));
    let simulated = simulated.expect(0, "simulated").unwrap();
    let command = "# sysctl -w net.netfilter.nf_conntrack_tcp_timeout_close_wait=3600\n";
    assert!(simulated.out.ends_with(command), "{}", simulated.out);
    assert_eq!(namespace.sh(&format!("cat {CLOSE_WAIT}")), "60\n");
    proxy_init(&namespace, "", &format!("{flags} 3600"))
        .expect(0, "set")
        .unwrap();
    assert_eq!(namespace.sh(&format!("cat {CLOSE_WAIT}")), "3600\n");
    proxy_init(&namespace, "", &format!("{flags} 0"))
        .expect(0, "left")
        .unwrap();
    assert_eq!(namespace.sh(&format!("cat {CLOSE_WAIT}")), "3600\n");

    let fresh = Namespace::new();
    let script = format!(
        "mount -o bind,ro /proc/sys /proc/sys; exec {} proxy-init {flags} 3600",
        product().get_program().display()
    );
    let done = fresh.run(Command::new("unshare").args(["-m", "sh", "-ec", &script]));
    let done = done.expect(1, "read-only").unwrap();
    assert!(
        done.err.contains(CLOSE_WAIT) && done.err.contains("nothing was changed"),
        "{}",
        done.err
    );
    assert_eq!(rules(&fresh, Variant::Nft), "");
}
