//! Large changes, small sockets, and what the kernel refuses.

use super::{Open, apply, difference, open_native, open_xt};
use crate::lab::Namespace;
use caps::{CapSet, Capability};
use ipnet::{IpNet, Ipv4Net};
use nix::sys::socket::SockProtocol;
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::backend::{Backend, BackendError, TableKind};
use prepare_proxy::netfilter::model::{
    ChainName, Change, Family, Match, Owner, RuleId, Ruleset, Table, TableName, Target,
};
use prepare_proxy::netfilter::netlink::{Socket, Transport};
use prepare_proxy::netfilter::nftables::Netlink;
use std::io::{self, Write};
use std::process::Command;

pub const OUTPUT: ChainName = ChainName::fixed("ISTIO_OUTPUT");

/// A list of disjoint exempt CIDRs in one chain.
pub fn list(length: u32) -> Ruleset {
    let mut table = Table::new(Family::V4, TableName::Nat);
    let chain = table.chain(OUTPUT);
    for i in 0..length {
        let net = Ipv4Net::new((0x0a00_0000 + i * 512).into(), 24).unwrap();
        let matches = [Match::destination(IpNet::from(net))];
        chain.rule(format!("bypass-ip-range-{net}"), matches, Target::Return);
    }
    chain.rule("rest", [Match::owner(Owner::Uid(1337))], Target::Accept);
    table
        .chain(ChainName::OUTPUT)
        .rule("output", [], Target::Jump(OUTPUT));
    Ruleset {
        tables: vec![table],
        ..Ruleset::default()
    }
    .labelled("istio")
}

fn comes_and_goes(open: Open, length: u32) {
    let namespace = Namespace::new();
    let desired = list(length);
    apply(&namespace, open, &desired).unwrap();
    assert_eq!(difference(&namespace, open, &desired), Change::default());
    apply(&namespace, open, &list(length / 2)).unwrap();
    assert_eq!(
        difference(&namespace, open, &list(length / 2)),
        Change::default()
    );
    apply(&namespace, open, &Ruleset::default()).unwrap();
    assert_eq!(namespace.sh("nft list ruleset"), "");
}

#[test]
fn thousands_of_rules_go_in_one_transaction() {
    comes_and_goes(open_xt, 3_000);
}

#[test]
fn a_hundred_thousand_addresses_are_a_set() {
    comes_and_goes(open_native, 100_000);
}

/// In a user namespace the send buffer is limited by the host.
#[test]
fn rules_exceeding_a_transaction_go_to_sets_or_are_refused() {
    let limit = std::fs::read_to_string("/proc/sys/net/core/wmem_max").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // The kernel doubles the limit; a rule takes more than 500 bytes.
    let count = 2 * limit / 500;
    let cidrs: Vec<String> = (0..count)
        .map(|i| format!("10.{}.{}.{}/32", i >> 16, i >> 8 & 255, i & 255))
        .collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "ISTIO_SERVICE_CIDR={}", cidrs.join(",")).unwrap();
    for (backend, code, tables) in [
        ("netlink", "1", ""),
        ("auto", "0", "table ip prepare-proxy-nat\n"),
    ] {
        let script = format!(
            "{} --mesh nginmesh -p 15001 -u 0 --backend {backend} --env-file {} >&2
             echo $?; nft list tables",
            env!("CARGO_BIN_EXE_prepare-proxy"),
            file.path().display()
        );
        let mut unshare = Command::new("unshare");
        let output = unshare
            .args(["-Urn", "sh", "-c", &script])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let found = String::from_utf8_lossy(&output.stdout);
        assert_eq!(found, format!("{code}\n{tables}"), "{error}");
    }
}

/// A socket with a small send buffer.
struct Small {
    socket: Socket,
    room: usize,
}

impl Transport for Small {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.socket.send(parts)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.receive(buffer)
    }

    fn capacity(&mut self, _: usize) -> io::Result<usize> {
        Ok(self.room)
    }
}

#[test]
fn a_change_exceeding_a_transaction_is_refused_with_the_limit() {
    for (kind, desired) in [(TableKind::Xt, list(20)), (TableKind::Native, list(500))] {
        let namespace = Namespace::new();
        let limit = 2000;
        let error = namespace.enter(|| {
            let socket = Socket::open(SockProtocol::NetlinkNetFilter).unwrap();
            let mut backend = Netlink::new(
                Small {
                    socket,
                    room: limit,
                },
                kind,
            );
            let observed = backend.read().unwrap();
            let change = plan(&observed, &backend.normalised(&desired));
            backend.commit(&change).unwrap_err()
        });
        match error {
            BackendError::TooLarge { needed, room, .. } => assert!(needed > room && room <= limit),
            error => panic!("{error}"),
        }
        assert_eq!(namespace.sh("nft list ruleset"), "");
    }
}

#[test]
fn without_the_capability_it_is_not_permitted() {
    for open in [open_xt, open_native] {
        let error = Namespace::new().enter(|| {
            caps::drop(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap();
            open().unwrap().read().unwrap_err()
        });
        assert!(
            matches!(error, BackendError::NotPermitted { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn the_rule_that_the_kernel_refuses_is_named() {
    let namespace = Namespace::new();
    let mut desired = list(3);
    let chain = desired.tables[0].chain(ChainName::PREROUTING);
    let owner = [Match::owner(Owner::Uid(1337))];
    let id = RuleId::from("misplaced").labelled("istio");
    chain.rule(id, owner, Target::Return);
    let error = apply(&namespace, open_xt, &desired).unwrap_err();
    assert_eq!(
        error.to_string(),
        "adding \"-A PREROUTING -m owner --uid-owner 1337 -m comment --comment \
         \"istio/misplaced\" -j RETURN\" to IPv4 table nat: Invalid argument"
    );
    assert_eq!(namespace.sh("nft list ruleset"), "");
}

#[test]
fn a_change_based_on_an_old_generation_is_not_committed() {
    for (open, desired) in [(open_xt as Open, list(3)), (open_native as Open, list(30))] {
        let namespace = Namespace::new();
        let error = namespace.enter(|| {
            let mut backend = open().unwrap();
            let observed = backend.read().unwrap();
            let change = plan(&observed, &backend.normalised(&desired));
            apply_elsewhere();
            backend.commit(&change).unwrap_err()
        });
        assert!(
            matches!(error, BackendError::Interrupted { .. }),
            "{error:?}"
        );
        assert_eq!(namespace.sh("nft list tables"), "table inet other\n");
    }
}

/// Another program commits in this namespace.
fn apply_elsewhere() {
    let nft = Command::new("nft")
        .args(["add", "table", "inet", "other"])
        .status();
    assert!(nft.unwrap().success());
}
