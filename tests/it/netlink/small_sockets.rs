//! Where a socket takes less than a change needs, it goes as several transactions. After each of them
//! packets meet the old rules or the new ones, and whoever comes next can go on from there.

use super::limits::{OUTPUT, list};
use super::{Open, apply, difference};
use crate::lab::Namespace;
use nix::sys::socket::SockProtocol;
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::backend::{Backend, BackendError, Store};
use prepare_proxy::netfilter::model::{Change, Family, Live, LiveRule, Ruleset, TableName, Target};
use prepare_proxy::netfilter::netlink::{Socket, Transport};
use prepare_proxy::netfilter::nftables::{Netlink, open_native, open_xt};
use std::io;

/// A socket that takes little, and that cannot be used any more after some datagrams.
struct Small {
    socket: Socket,
    room: usize,
    left: usize,
}

impl Transport for Small {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        assert!(parts.iter().map(|p| p.len()).sum::<usize>() <= self.room);
        self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::Other)?;
        self.socket.send(parts)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.receive(buffer)
    }

    fn capacity(&mut self, _: usize) -> io::Result<usize> {
        Ok(self.room)
    }
}

/// Applies through a socket for so many bytes, which breaks after so many datagrams.
fn apply_through(
    namespace: &Namespace,
    store: Store,
    wanted: &Ruleset,
    room: usize,
    left: usize,
) -> Result<(), BackendError> {
    namespace.enter(|| {
        let socket = Socket::open(SockProtocol::NetlinkNetFilter).unwrap();
        let mut backend = Netlink::new(Small { socket, room, left }, store);
        let change = plan(&backend.read()?, &backend.canonical(wanted));
        backend.commit(&change)
    })
}

/// The rules that packets meet in the chain of ours that the list is in.
fn met(live: &Live) -> &[LiveRule] {
    let table = live.table(Family::V4, TableName::Nat).unwrap();
    let rules = &table.chain(&OUTPUT).unwrap().rules;
    let first = rules.first().and_then(|r| r.rule.as_ref());
    match first.map(|r| (&r.target, r.matches.is_empty())) {
        Some((Target::Jump(beside), true)) => &table.chain(beside).unwrap().rules,
        _ => rules,
    }
}

fn is_whole(live: &Live, wanted: &Ruleset) -> bool {
    let table = wanted.table(Family::V4, TableName::Nat).unwrap();
    let chain = table.chains.iter().find(|c| c.name == OUTPUT).unwrap();
    let met = met(live).iter().map(|l| l.rule.as_ref());
    met.eq(chain.rules.iter().map(Some))
}

/// Breaks off a change after each datagram that it takes, one after the other.
fn old_or_new_at_any_time(open: Open, store: Store, old: u32, new: u32, room: usize) {
    let (old, new) = (list(old), list(new));
    let fresh = Namespace::new();
    apply(&fresh, open, &new).unwrap();
    let mut switched = 0;
    for datagrams in 0.. {
        let namespace = Namespace::new();
        apply(&namespace, open, &old).unwrap();
        let done = apply_through(&namespace, store, &new, room, datagrams);
        let (live, old, new) = namespace.enter(|| {
            let mut backend = open().unwrap();
            let canonical = [&old, &new].map(|r| backend.canonical(r).into_owned());
            let [old, new] = canonical;
            (backend.read().unwrap(), old, new)
        });
        let (before, after) = (is_whole(&live, &old), is_whole(&live, &new));
        assert!(before || after, "after {datagrams} datagrams: {live:?}");
        assert!(after || switched == 0, "after {datagrams} datagrams");
        switched += usize::from(after);

        apply_through(&namespace, store, &new, room, usize::MAX).unwrap();
        assert_eq!(difference(&namespace, open, &new), Change::default());
        let list = "nft list ruleset";
        assert_eq!(
            namespace.sh(list),
            fresh.sh(list),
            "after {datagrams} datagrams"
        );
        apply_through(&namespace, store, &Ruleset::default(), room, usize::MAX).unwrap();
        assert_eq!(namespace.sh(list), "");
        if done.is_ok() {
            assert!(switched > 4, "several transactions came behind the switch");
            return;
        }
    }
}

#[test]
fn a_change_of_many_rules_is_old_or_new_at_any_time() {
    old_or_new_at_any_time(open_xt, Store::Xt, 12, 20, 4096);
}

#[test]
fn a_change_of_a_long_list_is_old_or_new_at_any_time() {
    old_or_new_at_any_time(open_native, Store::Native, 500, 700, 8192);
}

#[test]
fn what_does_not_fit_even_so_is_refused_with_the_limit_and_changes_nothing() {
    let namespace = Namespace::new();
    apply(&namespace, open_xt, &list(12)).unwrap();
    let before = namespace.sh("nft --handle list ruleset");
    let error = apply_through(&namespace, Store::Xt, &list(20), 600, usize::MAX).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("net.core.wmem_max"), "{error}");
    assert_eq!(namespace.sh("nft --handle list ruleset"), before);
}
