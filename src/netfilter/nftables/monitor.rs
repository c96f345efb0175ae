//! Notifications of nf_tables after each commit.
//!
//! Each object that a transaction created or deleted is one message; the last message
//! (`NFT_MSG_NEWGEN`) identifies the commit (linux/netfilter/nf_tables.h, group
//! `NFNLGRP_NFTABLES`).

use super::batch::message_type;
use super::kernel::{Kernel, body};
use super::nf_tables::*;
use super::{error, hooks, unsupported};
use crate::netfilter::backend::{BackendError, Feature, TableKind};
use crate::netfilter::model::{Family, TableName};
use crate::netfilter::netlink::{
    AttributeTable, Delivery, Malformed, Message, Socket, Subscription,
};
use nix::libc;
use nix::sys::socket::SockProtocol;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

const GROUP: u32 = libc::NFNLGRP_NFTABLES as u32;

/// Message types of new and deleted objects (`enum nf_tables_msg_types`).
const TABLE: [u16; 2] = [NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE];
const CHAIN: [u16; 2] = [NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN];
const RULE: [u16; 2] = [NFT_MSG_NEWRULE, NFT_MSG_DELRULE];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification<'a> {
    /// An object changed in a table that may hold managed rules.
    ChangedObject(ChangedObject<'a>),
    /// A chain changed in another table: it may see packets before managed rules do.
    ForeignChain,
    /// The end of a commit.
    Commit(Commit),
}

/// A created, changed or deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedObject<'a> {
    pub family: Family,
    pub table_kind: TableKind,
    pub table: TableName,
    pub object: Object<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    Table,
    /// A chain; for a renamed one the new name.
    Chain(&'a str),
    /// A rule of this chain.
    Rule(&'a str),
    /// A set, an element, a counter…
    Other,
}

/// A committed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The generation id, which is never 0.
    pub generation: u32,
    /// The process that committed, if reported.
    pub process: Option<Process>,
}

/// A process by its pid in the initial PID namespace and its `comm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub id: u32,
    pub name: String,
}

/// Receives notifications of nf_tables.
#[derive(Debug)]
pub struct Monitor {
    subscription: Subscription,
    kernel: Kernel<Socket>,
}

impl Monitor {
    /// Subscribes in the network namespace of this thread.
    ///
    /// # Errors
    /// [`BackendError::Missing`] when the kernel has no nf_tables, [`BackendError::NotPermitted`]
    /// without CAP_NET_ADMIN.
    pub fn open() -> Result<Self, BackendError> {
        let doing = || "listening to nf_tables".to_owned();
        let protocol = SockProtocol::NetlinkNetFilter;
        let open = || {
            let subscription = Subscription::open(protocol, &[GROUP])?;
            let kernel = Kernel::new(Socket::open(protocol)?);
            Ok(Monitor {
                subscription,
                kernel,
            })
        };
        let mut monitor = open().map_err(|source: io::Error| match source {
            e if unsupported(&e) => BackendError::Missing {
                doing: doing(),
                feature: Feature::NfTables,
            },
            e if e.kind() == io::ErrorKind::PermissionDenied => {
                BackendError::NotPermitted { doing: doing() }
            }
            source => BackendError::Io {
                doing: doing(),
                source,
            },
        })?;
        // nfnetlink may exist without nf_tables, which is loaded on request.
        monitor.generation()?;
        Ok(monitor)
    }

    /// The current generation id.
    pub fn generation(&mut self) -> Result<u32, BackendError> {
        self.kernel.generation().map_err(error::of_read)
    }

    /// Passes pending notifications to a callback. Unreadable ones count as lost.
    pub fn drain(
        &mut self,
        mut each: impl FnMut(Notification<'_>),
    ) -> Result<Delivery, BackendError> {
        let mut unreadable = false;
        let arrived = self.subscription.drain(|message| match read(message) {
            Ok(notification) => notification.into_iter().for_each(&mut each),
            Err(Malformed) => unreadable = true,
        });
        match arrived {
            Ok(_) if unreadable => Ok(Delivery::WithGaps),
            Ok(arrived) => Ok(arrived),
            Err(source) => Err(BackendError::Io {
                doing: "listening to nf_tables".to_owned(),
                source,
            }),
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.subscription.as_fd()
    }
}

/// Reads a message; `None` for what concerns no managed rule.
fn read(message: Message<'_>) -> Result<Option<Notification<'_>>, Malformed> {
    const SUBSYSTEM: u16 = 0xff00;
    if message.kind & SUBSYSTEM != message_type(0) {
        return Ok(None);
    }
    let kind = message.kind & !SUBSYSTEM;
    let (family, attributes) = body(message)?;
    let a = AttributeTable::<4>::parse(attributes)?;
    if kind == NFT_MSG_NEWGEN {
        return read_commit(&a).map(|commit| Some(Notification::Commit(commit)));
    }
    let foreign = || CHAIN.contains(&kind).then_some(Notification::ForeignChain);
    let Some(family) = hooks::family(family) else {
        return Ok(foreign().filter(|_| family == hooks::INET));
    };
    let name = a.bytes(NFTA_TABLE_NAME)?;
    let found = [TableKind::Xt, TableKind::Native]
        .into_iter()
        .find_map(|table_kind| Some((table_kind, hooks::table_of(table_kind, name)?)));
    let Some((table_kind, table)) = found else {
        return Ok(foreign());
    };
    let object = match kind {
        k if TABLE.contains(&k) => Object::Table,
        k if CHAIN.contains(&k) => named(&a, NFTA_CHAIN_NAME, Object::Chain)?,
        k if RULE.contains(&k) => named(&a, NFTA_RULE_CHAIN, Object::Rule)?,
        _ => Object::Other,
    };
    Ok(Some(Notification::ChangedObject(ChangedObject {
        family,
        table_kind,
        table,
        object,
    })))
}

/// A chain name; managed ones are UTF-8.
fn named<'a, const N: usize>(
    a: &AttributeTable<'a, N>,
    kind: u16,
    object: fn(&'a str) -> Object<'a>,
) -> Result<Object<'a>, Malformed> {
    let name = a.bytes(kind)?;
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    Ok(std::str::from_utf8(name).map_or(Object::Other, object))
}

fn read_commit<const N: usize>(a: &AttributeTable<'_, N>) -> Result<Commit, Malformed> {
    let name = |bytes: &[u8]| {
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        String::from_utf8_lossy(bytes).into_owned()
    };
    let process = match (a.get(NFTA_GEN_PROC_PID), a.get(NFTA_GEN_PROC_NAME)) {
        (Some(_), Some(comm)) => Some(Process {
            id: a.u32(NFTA_GEN_PROC_PID)?,
            name: name(comm),
        }),
        _ => None,
    };
    Ok(Commit {
        generation: a.u32(NFTA_GEN_ID)?,
        process,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::netlink::Writer;
    use crate::netfilter::nftables::batch::family_header;
    use proptest::prelude::*;

    fn decode(family: u8, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::default();
        family_header(&mut w, family, 0);
        fill(&mut w);
        w.as_slice().to_vec()
    }

    fn message(number: u16, payload: &[u8]) -> Message<'_> {
        Message {
            kind: message_type(number),
            flags: 0,
            sequence: 0,
            payload,
        }
    }

    #[test]
    fn a_commit_has_its_process() {
        let payload = decode(0, |w| {
            w.u32(NFTA_GEN_ID, 12);
            w.u32(NFTA_GEN_PROC_PID, 812);
            w.string(NFTA_GEN_PROC_NAME, "firewalld");
        });
        let commit = Commit {
            generation: 12,
            process: Some(Process {
                id: 812,
                name: "firewalld".to_owned(),
            }),
        };
        let read = read(message(NFT_MSG_NEWGEN, &payload)).unwrap();
        assert_eq!(read, Some(Notification::Commit(commit)));
    }

    #[test]
    fn chains_of_other_tables_are_reported_and_their_rules_are_not() {
        for (number, family, is_reported) in [
            (NFT_MSG_NEWCHAIN, 1, true),
            (NFT_MSG_DELCHAIN, 2, true),
            (NFT_MSG_NEWCHAIN, 7, false),
            (NFT_MSG_NEWRULE, 2, false),
            (NFT_MSG_NEWTABLE, 2, false),
        ] {
            let payload = decode(family, |w| w.string(NFTA_TABLE_NAME, "firewalld"));
            let found = read(message(number, &payload)).unwrap();
            let expected = is_reported.then_some(Notification::ForeignChain);
            assert_eq!(found, expected, "{number} of family {family}");
        }
    }

    #[test]
    fn only_tables_that_may_hold_managed_rules_are_reported() {
        for (number, family, table, chain, object) in [
            (NFT_MSG_NEWTABLE, 2, "nat", None, Some(Object::Table)),
            (
                NFT_MSG_DELCHAIN,
                10,
                "mangle",
                Some((NFTA_CHAIN_NAME, "ISTIO_OUTPUT")),
                Some(Object::Chain("ISTIO_OUTPUT")),
            ),
            (
                NFT_MSG_DELRULE,
                2,
                "prepare-proxy-nat",
                Some((NFTA_RULE_CHAIN, "OUTPUT")),
                Some(Object::Rule("OUTPUT")),
            ),
            (NFT_MSG_NEWSETELEM, 2, "nat", None, Some(Object::Other)),
            (
                NFT_MSG_DELRULE,
                1,
                "nat",
                Some((NFTA_RULE_CHAIN, "OUTPUT")),
                None,
            ),
            (
                NFT_MSG_DELRULE,
                2,
                "firewalld",
                Some((NFTA_RULE_CHAIN, "filter_INPUT")),
                None,
            ),
        ] {
            let payload = decode(family, |w| {
                w.string(NFTA_TABLE_NAME, table);
                if let Some((kind, name)) = chain {
                    w.string(kind, name);
                }
            });
            let found = match read(message(number, &payload)).unwrap() {
                Some(Notification::ChangedObject(touched)) => Some(touched.object),
                other => {
                    assert_eq!(other, None);
                    None
                }
            };
            assert_eq!(found, object, "{table}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            kind in 0u16..4096,
            payload in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = read(Message { kind, flags: 0, sequence: 0, payload: &payload });
        }
    }
}
