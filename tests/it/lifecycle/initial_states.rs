//! Initial states of a namespace, from empty to broken.

use super::world::{ISTIO, OTHER, SOME, apply};
use crate::lab::{Done, Namespace, Variant, product};
use prepare_proxy::netfilter::model::Family;

pub struct Start {
    pub name: &'static str,
    /// Creates the state; the argument is the backend of the run under test.
    pub make: fn(&Namespace, &str),
    pub differs: bool,
}

const fn differs(name: &'static str, make: fn(&Namespace, &str)) -> Start {
    Start {
        name,
        make,
        differs: true,
    }
}

pub const STARTS: &[Start] = &[
    differs("nothing", |_, _| {}),
    Start {
        name: "the same",
        make: |ns, backend| must(apply(ns, backend, SOME)),
        differs: false,
    },
    differs("other options", |ns, backend| {
        must(apply(ns, backend, OTHER))
    }),
    differs("another mesh", |ns, backend| {
        must(apply(ns, backend, "--mesh istio-1.0 -b * -i 10.0.0.0/8"))
    }),
    differs(
        "another mesh with TPROXY, DNS and interfaces",
        |ns, backend| {
            must(apply(ns, backend, ISTIO));
        },
    ),
    differs(
        "routing of TPROXY without its rules, three times over",
        |ns, _| {
            ns.sh(
            "for i in 1 2 3; do for f in -4 -6; do ip $f rule add fwmark 1337 lookup 133 prio 100$i; done; done
            for f in -4 -6; do ip $f route add local default dev lo table 133; done
            ip addr add ::6/128 dev lo nodad",
        );
        },
    ),
    differs("rules in every implementation", everything_at_once),
    differs("half a script", |ns, backend| {
        script(ns, backend, |i, _| i < 4)
    }),
    differs("a script without its jumps", |ns, backend| {
        script(ns, backend, |_, line| !is_jump(line))
    }),
    differs("jumps first, and twice", jumps_twice),
    differs("rules in the wrong order", reordered),
    differs("surplus rules in our chains", surplus),
    differs("tables of ours that somebody has been at", |ns, _| {
        ns.nft_load(NATIVE_MESS)
    }),
    differs("the same over an apply", |ns, backend| {
        must(apply(ns, backend, SOME));
        ns.nft_load(NATIVE_MESS);
    }),
    differs("Istio's own tables of nftables", |ns, _| {
        ns.nft_load(NATIVE_ISTIO)
    }),
    differs("empty chains of ours everywhere", empty_chains),
    differs("chains of ours that hang together", entangled),
];

fn must<T>(result: Result<T, String>) {
    if let Err(e) = result {
        panic!("{e}");
    }
}

fn dry_run(format: &str, options: &str) -> String {
    let mut command = product();
    command.args(["--dry-run", "--format", format]);
    Done::of(command.args(options.split_whitespace())).must(options)
}

/// Input for iptables-restore for one family.
fn restore_text(family: Family, options: &str) -> String {
    restore_part(family, &dry_run("restore", options))
}

/// The output of a dry run for one family.
pub fn restore_part(family: Family, printed: &str) -> String {
    let head = match family {
        Family::V4 => "# IPv4",
        Family::V6 => "# IPv6",
    };
    let parts = printed.split_inclusive("\nCOMMIT\n");
    parts
        .skip_while(|p| !p.contains(head))
        .take_while(|p| p.contains(head) || !p.contains("# IPv"))
        .collect()
}

/// Restores the modified rules of `options` for both families.
fn restore(namespace: &Namespace, backend: &str, options: &str, text: impl Fn(String) -> String) {
    for family in Family::ALL {
        let rules = text(restore_text(family, options));
        namespace.iptables_restore(family, Variant::of(backend), &rules);
    }
}

/// Runs the commands of a dry run selected by number and text.
fn script(namespace: &Namespace, backend: &str, which: impl Fn(usize, &str) -> bool) {
    let text = dry_run("commands", SOME);
    let lines = text.lines().filter(|l| l.contains("tables -t"));
    let chosen = lines.enumerate().filter(|(i, line)| which(*i, line));
    let tool = format!("tables-{} -t", Variant::of(backend));
    let script: String = chosen
        .map(|(_, line)| line.replacen("tables -t", &tool, 1) + "\n")
        .collect();
    namespace.sh(&script);
}

/// Whether a command adds to a base chain.
fn is_jump(line: &str) -> bool {
    line.contains("-A PREROUTING") || line.contains("-A OUTPUT")
}

/// Runs iptables and ip6tables with the same arguments, line by line.
fn iptables(namespace: &Namespace, backend: &str, lines: &str) {
    for family in Family::ALL {
        let tool = Variant::of(backend).tool(family, "");
        let script: String = lines
            .lines()
            .map(|l| format!("{tool} {}\n", l.trim()))
            .collect();
        namespace.sh(script.trim_end_matches(&format!("{tool} \n")));
    }
}

/// Rules of different options in all backends.
fn everything_at_once(namespace: &Namespace, _: &str) {
    must(apply(namespace, "nftables", OTHER));
    restore(namespace, "iptables-nft", OTHER, |text| text);
    restore(namespace, "iptables-legacy", SOME, |text| text);
}

fn jumps_twice(namespace: &Namespace, backend: &str) {
    script(namespace, backend, |_, _| true);
    script(namespace, backend, |_, line| is_jump(line));
    let first = "-t nat -I OUTPUT -p udp -j ISTIO_OUTPUT
                 -t nat -I PREROUTING -j ISTIO_REDIRECT";
    iptables(namespace, backend, first);
}

fn reordered(namespace: &Namespace, backend: &str) {
    restore(namespace, backend, SOME, |text| {
        let (rules, rest): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|l| l.starts_with("-A ISTIO_OUTPUT"));
        let at = rest
            .iter()
            .position(|l| l.starts_with("-A"))
            .expect("there are rules");
        let lines = rest[..at]
            .iter()
            .chain(rules.iter().rev())
            .chain(&rest[at..]);
        lines.map(|l| format!("{l}\n")).collect()
    });
}

/// Foreign rules and chains in tables of the backend nftables.
const NATIVE_MESS: &str = "
table ip prepare-proxy-nat {
    chain ISTIO_OLD { counter packets 1 bytes 40 return; }
    chain ISTIO_REDIRECT {
        ip daddr { 203.0.113.9, 203.0.113.10 } counter return
        tcp dport vmap { 443 : return, 80 : jump ISTIO_OLD }
    }
    chain OUTPUT {
        type nat hook output priority -101; policy accept;
        meta l4proto udp jump ISTIO_REDIRECT
        tcp dport 1-5 counter goto ISTIO_OLD
        ip ttl 7 counter accept comment \"istio/nothing-known\"
    }
}
table ip6 prepare-proxy-mangle {
    chain ISTIO_X { }
}
";

/// What istio-iptables writes with --native-nftables: tables that are its own, of both families.
const NATIVE_ISTIO: &str = "
table inet istio-proxy-nat {
    chain istio-redirect { meta l4proto tcp counter redirect to :15001; }
    chain istio-in-redirect { meta l4proto tcp counter redirect to :15006; }
    chain istio-inbound {
        tcp dport 15008 counter return
        meta l4proto tcp counter jump istio-in-redirect
    }
    chain istio-output {
        meta skuid 1337 counter return
        ip daddr 127.0.0.1 counter return
        counter jump istio-redirect
    }
    chain istio-output-dns { udp dport 53 counter redirect to :15053; }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        meta l4proto tcp counter jump istio-inbound
    }
    chain output {
        type nat hook output priority -100; policy accept;
        counter jump istio-output
        udp dport 53 counter jump istio-output-dns
    }
}
table inet istio-proxy-mangle {
    chain istio-drop { meta l4proto tcp ct state invalid counter drop; }
    chain prerouting {
        type filter hook prerouting priority mangle; policy accept;
        meta l4proto tcp counter jump istio-drop
    }
}
table inet istio-proxy-raw {
    chain output {
        type filter hook output priority raw; policy accept;
        udp dport 53 meta skuid 1337 counter ct zone set 1
    }
}
";

fn surplus(namespace: &Namespace, backend: &str) {
    if backend == "nftables" {
        return namespace.nft_load(NATIVE_MESS);
    }
    must(apply(namespace, backend, SOME));
    let rules = "-t nat -A ISTIO_REDIRECT -j ACCEPT
                 -t nat -I ISTIO_OUTPUT -p tcp --dport 443 -m comment --comment istio/mine -j RETURN
                 -t nat -I ISTIO_OUTPUT 3 -m statistic --mode random --probability 0.5 -j RETURN
                 -t nat -N ISTIO_NOTHING
                 -t nat -A INPUT -j ISTIO_NOTHING
                 -t nat -A OUTPUT -m comment --comment istio/nothing-known -j ACCEPT
                 -A INPUT -m comment --comment istio/nothing-known -j ACCEPT";
    iptables(namespace, backend, rules);
}

fn empty_chains(namespace: &Namespace, backend: &str) {
    let tables = ["raw", "mangle", "nat", "filter"];
    let chains = ["ISTIO_OUTPUT", "ISTIO_REDIRECT", "ISTIO_INBOUND", "ISTIO_"];
    let text: String = tables
        .iter()
        .map(|table| {
            let chains: String = chains.iter().map(|c| format!(":{c} - [0:0]\n")).collect();
            format!("*{table}\n{chains}COMMIT\n")
        })
        .collect();
    restore(namespace, backend, SOME, |_| text.clone());
}

fn entangled(namespace: &Namespace, backend: &str) {
    let text = "*nat
:ISTIO_A - [0:0]
:ISTIO_B - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -g ISTIO_A
-A POSTROUTING -p tcp -j ISTIO_B
-A ISTIO_A -j ISTIO_B
-A ISTIO_B -g ISTIO_REDIRECT
COMMIT
";
    restore(namespace, backend, SOME, |_| text.to_owned());
}
