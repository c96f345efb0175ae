//! Foreign tables, chains and rules stay byte for byte, with their order, counters and handles.

use super::on_every_backend;
use super::world::{OTHER, SOME, apply, rules, run};
use crate::lab::{Namespace, Variant, same};
use prepare_proxy::netfilter::model::Family;
use std::process::Command;

/// The whole ruleset with counters and handles, without the policy counters of iptables-legacy,
/// which it always resets.
fn all(namespace: &Namespace) -> String {
    let dump = "nft -a list ruleset; for i in iptables ip6tables; do
        $i-legacy-save -c | sed '/^#/d; s/^\\(:[A-Z].*\\) .*/\\1/'
    done";
    namespace.sh(dump)
}

fn kept(before: &str, now: &str) -> Result<(), String> {
    let mut lines = now.lines();
    for line in before.lines() {
        if !lines.any(|l| l == line) {
            return Err(format!(
                "{line:?} is not where it was:\n--- before\n{before}--- now\n{now}"
            ));
        }
    }
    Ok(())
}

/// Fails unless foreign rules survive applies with several options, and are all that is left after
/// a clean.
fn survives(namespace: &Namespace, backend: &str) -> Result<(), String> {
    let (before, theirs) = (all(namespace), rules(namespace));
    for options in [SOME, OTHER, SOME] {
        apply(namespace, backend, options)?;
        kept(&before, &all(namespace))?;
    }
    run(namespace, "clean").expect(0, "clean")?;
    kept(&before, &all(namespace))?;
    same(&theirs, &rules(namespace), "after clean")
}

/// Rules of Docker, with chain names similar to managed ones, counters and drop policies.
const DOCKER: &str = "*filter
:INPUT ACCEPT [7:700]
:FORWARD DROP [1:60]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
[3:180] -A FORWARD -j DOCKER-USER
[2:120] -A FORWARD -o docker0 -j DOCKER
[0:0] -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
[3:180] -A DOCKER-USER -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT [5:300]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [9:540]
:DOCKER - [0:0]
:DOCKER_OUTPUT - [0:0]
:DOCKER_POSTROUTING - [0:0]
:NOT_ISTIO_OUTPUT - [0:0]
[4:240] -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
[0:0] -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
[0:0] -A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
[1:60] -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
[0:0] -A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING
[0:0] -A DOCKER -i docker0 -j RETURN
[6:360] -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
[0:0] -A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:36909
[0:0] -A DOCKER_POSTROUTING -s 127.0.0.11/32 -p tcp -m tcp --sport 36909 -j SNAT --to-source :53
[8:480] -A NOT_ISTIO_OUTPUT -p tcp -j RETURN
COMMIT
";

/// Comments that a naive parser misreads.
const ODD_COMMENTS: &str = r#"*nat
:MINE - [0:0]
-A OUTPUT -m comment --comment "-j ISTIO_OUTPUT" -j ACCEPT
-A OUTPUT -m comment --comment "say \"istio/x\" and \\ go" -j MINE
-A OUTPUT -m comment --comment "istio" -j RETURN
-A OUTPUT -m comment --comment "  two  spaces, 'quotes' and \$HOME `id`" -j RETURN
-A OUTPUT -m comment --comment ":ISTIO_REDIRECT - [0:0]" -j RETURN
-A MINE -m comment --comment "COMMIT" -j RETURN
COMMIT
"#;

/// Duplicate rules, some equal to managed ones without their comments.
const LOOKALIKES: &str = "*nat
-A PREROUTING -i eth1 -j RETURN
-A PREROUTING -i eth1 -j RETURN
-A OUTPUT -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053
-A OUTPUT -p tcp -j REDIRECT --to-ports 15001
-A OUTPUT -p tcp -j REDIRECT --to-ports 15001
COMMIT
*mangle
-A PREROUTING -p tcp -m mark --mark 0x539 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A OUTPUT -p tcp -m connmark --mark 0x539 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
COMMIT
";

#[test]
fn foreign_rules_of_every_tool_stay() {
    on_every_backend(|backend| {
        for by in [Variant::Nft, Variant::Legacy] {
            for (name, text) in [
                ("docker", DOCKER),
                ("comments", ODD_COMMENTS),
                ("lookalikes", LOOKALIKES),
            ] {
                let namespace = Namespace::new();
                namespace.restore_counted(by, text);
                survives(&namespace, backend).map_err(|e| format!("{name} by {by}: {e}"))?;
            }
        }
        Ok(())
    });
}

impl Namespace {
    /// Feeds iptables-restore, counters included.
    fn restore_counted(&self, by: Variant, text: &str) {
        let mut restore = Command::new(by.tool(Family::V4, "-restore"));
        self.run_with_input(restore.args(["--noflush", "--counters"]), text)
            .must("iptables-restore");
    }
}

#[test]
fn foreign_rules_between_managed_ones_keep_their_places() {
    on_every_backend(|backend| {
        // In own tables there are no other rules.
        if backend == "nftables" {
            return Ok(());
        }
        let namespace = Namespace::new();
        let tool = Variant::of(backend).tool(Family::V4, "");
        apply(&namespace, backend, SOME)?;
        namespace.sh(&format!(
            "{tool} -t nat -I OUTPUT -p tcp --dport 1 -j RETURN
             {tool} -t nat -A OUTPUT -p tcp --dport 2 -j RETURN
             {tool} -t nat -A OUTPUT -j ISTIO_OUTPUT
             {tool} -t nat -A OUTPUT -p tcp --dport 3 -j RETURN
             {tool} -t nat -N MINE
             {tool} -t nat -A MINE -p tcp --dport 4 -j ISTIO_OUTPUT
             {tool} -t nat -A MINE -p tcp --dport 5 -j RETURN"
        ));
        let theirs = |namespace: &Namespace| {
            let save = namespace.iptables_save(Family::V4, Variant::of(backend));
            let theirs = save
                .lines()
                .filter(|l| !l.contains("ISTIO_") && l.starts_with("-A"));
            theirs.map(|l| format!("{l}\n")).collect::<String>()
        };
        let before = theirs(&namespace);
        assert_eq!(before.lines().count(), 4, "{before}");
        for options in [SOME, OTHER] {
            apply(&namespace, backend, options)?;
            same(&before, &theirs(&namespace), options)?;
        }
        run(&namespace, "clean").expect(0, "clean")?;
        same(&before, &theirs(&namespace), "clean")
    });
}

/// Tables unknown to iptables.
const NATIVE: &str = r#"
table inet firewalld {
    set blocked { type ipv4_addr; flags interval; elements = { 10.9.0.0/16, 192.0.2.1 } }
    counter hits { packets 12 bytes 3400 }
    chain input {
        type filter hook input priority filter + 10; policy accept;
        ip saddr @blocked counter name "hits" drop
        tcp dport { 22, 80-90 } counter packets 4 bytes 240 accept comment "a native one"
    }
}
table arp filter {
    chain input { type filter hook input priority filter; policy accept; }
}
table ip prepare-proxy-other {
    chain x { counter packets 1 bytes 1; }
}
"#;

/// Native rules, sets and maps in a table of iptables-nft.
pub const NATIVE_IN_NAT: &str = r#"
table ip nat {
    set vips { type ipv4_addr; elements = { 203.0.113.7 } }
    map ports { type inet_service : inet_service; elements = { 80 : 8080 } }
    chain mine { counter packets 3 bytes 99 return; }
    chain OUTPUT {
        type nat hook output priority -100; policy accept;
        ip daddr @vips tcp dport 53 counter packets 5 bytes 300 return
        jump mine
        meta l4proto tcp redirect to :tcp dport map @ports
    }
}
"#;

#[test]
fn foreign_native_tables_stay() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        namespace.nft_load(NATIVE);
        survives(&namespace, backend)
    });
}

#[test]
fn foreign_native_rules_in_the_table_nat_stay() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        namespace.nft_load(NATIVE_IN_NAT);
        survives(&namespace, backend)
    });
}

/// Sets of types that managed ones never have, in a table with the name of an own one.
const IN_OUR_TABLE: &str = r#"
table ip prepare-proxy-nat {
    set pairs { type ipv6_addr . inet_service; elements = { fd00::1 . 80 } }
    map rest { type ipv4_addr : inet_service; elements = { 192.0.2.1 : 80, * : 8080 } }
}
"#;

#[test]
fn foreign_sets_in_own_tables_stay() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        namespace.nft_load(IN_OUR_TABLE);
        survives(&namespace, backend)
    });
}

/// A rule with a BPF program that is pinned in another mount namespace. iptables-legacy replaces
/// whole tables, for which the kernel looks the program up again: it is left out.
#[test]
fn a_rule_that_cannot_be_restored_stays() {
    for backend in ["netlink", "nftables"] {
        let namespace = Namespace::new();
        let pin = "mount -t bpf none /mnt
            perl -e '$SIG{__WARN__} = sub { die @_ };
                sub bpf { my $r = syscall(321, $_[0], $_[1], length $_[1]); $r < 0 and die \"bpf: $!\"; $r }
                my ($code, $gpl, $path) = (pack(\"Q2\", 0xb7, 0x95), \"GPL\\0\", \"/mnt/pinned\\0\");
                my $fd = bpf(5, pack(\"LLPPx64\", 1, 2, $code, $gpl));
                bpf(6, pack(\"PLL\", $path, $fd, 0));'
            iptables-nft -t nat -A OUTPUT -m bpf --object-pinned /mnt/pinned -j ACCEPT
            iptables-nft -t nat -A OUTPUT -m bpf --bytecode '2,48 0 0 9,6 0 0 0' -j ACCEPT";
        let mut own = Command::new("unshare");
        let done = namespace.run(own.args(["-m", "sh", "-ec", pin]));
        done.expect(0, "pinning a program").unwrap();
        let save = namespace.iptables_save(Family::V4, Variant::Nft);
        assert!(save.contains("--object-pinned /mnt/pinned"), "{save}");
        // iptables-restore cannot write it here.
        let restore = namespace.sh("iptables-nft-save | iptables-nft-restore 2>&1 || echo no");
        assert!(restore.contains("no"), "{restore}");
        survives(&namespace, backend).unwrap_or_else(|e| panic!("{backend}: {e}"));
        assert!(rules(&namespace).contains("--object-pinned /mnt/pinned"));
    }
}

/// Rules without a hook would silently capture nothing.
#[test]
fn a_base_chain_without_a_hook_is_refused() {
    for chain in [
        "chain PREROUTING {}",
        "chain PREROUTING { type nat hook input priority 100; }",
    ] {
        let namespace = Namespace::new();
        namespace.nft_load(&format!("table ip nat {{\n{chain}\n}}\n"));
        let before = all(&namespace);
        let done = run(&namespace, &format!("--backend netlink {SOME}"));
        let done = done.expect(1, chain).unwrap();
        assert!(done.err.contains("chain PREROUTING"), "{}", done.err);
        assert_eq!(before, all(&namespace));
        run(&namespace, "clean").expect(0, "clean").unwrap();
    }
}

/// A chain with a drop policy is not empty. Policies are changed only where managed rules are in
/// raw, mangle or nat (see `in_force`).
#[test]
fn foreign_policies_stay() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        namespace.sh(
            "for v in nft legacy; do ip6tables-$v -P INPUT DROP; iptables-$v -t mangle -P PREROUTING DROP
            iptables-$v -t raw -P OUTPUT DROP; done",
        );
        let policies = |namespace: &Namespace| {
            let saves = Family::ALL
                .map(|f| [Variant::Nft, Variant::Legacy].map(|v| namespace.iptables_save(f, v)));
            let text = saves.concat().concat();
            let dropping = text
                .lines()
                .filter(|l| l.starts_with(':') && l.ends_with(" DROP"));
            dropping.map(|l| format!("{l}\n")).collect::<String>()
        };
        let before = policies(&namespace);
        assert_eq!(before.lines().count(), 6, "{before}");
        for options in ["--mesh istio-1.0 -b * -i *", SOME] {
            apply(&namespace, backend, options)?;
            same(&before, &policies(&namespace), options)?;
            run(&namespace, "clean").expect(0, "clean")?;
            same(&before, &policies(&namespace), "after clean")?;
        }
        Ok(())
    });
}
