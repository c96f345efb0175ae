//! The cost of a read with foreign rules.

use crate::lab::Namespace;
use nix::sys::socket::SockProtocol;
use prepare_proxy::engine::backends::MANAGED;
use prepare_proxy::netfilter::backend::{Backend, TableKind};
use prepare_proxy::netfilter::model::{ChainName, TableName};
use prepare_proxy::netfilter::netlink::{Socket, Transport};
use prepare_proxy::netfilter::nftables::{Managed, NfTables};
use std::cell::Cell;
use std::io;
use std::rc::Rc;

/// A socket that counts received bytes.
struct Counting {
    socket: Socket,
    bytes: Rc<Cell<usize>>,
}

impl Transport for Counting {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.socket.send(parts)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.socket.receive(buffer)?;
        self.bytes.set(self.bytes.get() + length);
        Ok(length)
    }

    fn capacity(&mut self, desired: usize) -> io::Result<usize> {
        self.socket.capacity(desired)
    }
}

/// The bytes and chains of a read.
fn read(chain: fn(&ChainName) -> bool) -> (usize, Vec<String>) {
    let bytes = Rc::new(Cell::new(0));
    let socket = Socket::open(SockProtocol::NetlinkNetFilter).unwrap();
    let bytes_of_socket = Rc::clone(&bytes);
    let transport = Counting {
        socket,
        bytes: bytes_of_socket,
    };
    let mut backend = NfTables::new(transport, Managed { chain, ..MANAGED }).backend(TableKind::Xt);
    let observed = backend.read().unwrap();
    let nat = observed.tables.iter().filter(|t| t.name == TableName::Nat);
    let chains = nat.flat_map(|t| &t.chains).map(|c| c.name.to_string());
    (bytes.get(), chains.collect())
}

/// Foreign chains before and after managed ones.
fn foreign(namespace: &Namespace, prefix: &str) {
    let mut text = String::from("add table ip nat\n");
    for chain in 0..20 {
        text += &format!("add chain ip nat {prefix}{chain}\n");
        for rule in 0..100 {
            text += &format!(
                "add rule ip nat {prefix}{chain} ip daddr 10.0.{chain}.{rule} counter return\n"
            );
        }
    }
    namespace.nft_load(&text);
}

#[test]
fn foreign_chains_are_not_read() {
    let namespace = Namespace::new();
    foreign(&namespace, "BEFORE-");
    super::apply(&namespace, super::open_xt, &super::limits::list(3)).unwrap();
    foreign(&namespace, "BEHIND-");
    let (all, _) = namespace.enter(|| read(|_| true));
    let (ours, chains) = namespace.enter(|| read(MANAGED.chain));
    assert_eq!(chains, ["ISTIO_OUTPUT", "OUTPUT"]);
    assert!(ours * 20 < all, "{ours} of {all} bytes");
}

/// A foreign chain that jumps to a managed one is found, as clean removes that rule.
#[test]
fn foreign_chains_are_read_if_they_may_jump_to_managed_ones() {
    let namespace = Namespace::new();
    super::apply(&namespace, super::open_xt, &super::limits::list(3)).unwrap();
    namespace.nft_load(
        "add chain ip nat DOCKER; add rule ip nat DOCKER counter jump ISTIO_OUTPUT; add rule ip nat DOCKER counter",
    );
    let (_, chains) = namespace.enter(|| read(MANAGED.chain));
    assert!(chains.contains(&"DOCKER".to_owned()), "{chains:?}");
    let nothing = prepare_proxy::netfilter::model::Ruleset::default();
    super::apply(&namespace, super::open_xt, &nothing).unwrap();
    let left = namespace.sh("nft --stateless list chain ip nat DOCKER");
    assert!(
        left.contains("counter\n") && !left.contains("ISTIO"),
        "{left}"
    );
}
