//! Names of tables and hooks of base chains.

use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{ChainName, Family, Hook, TableName};
use nix::libc;
use std::borrow::Cow;
use std::fmt;

pub(super) const NF_ACCEPT: u32 = libc::NF_ACCEPT as u32;

/// The hook of a base chain (nft(8), "Base chain types").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// `NF_INET_*` of linux/netfilter.h.
    pub hook: u32,
    /// Lower ones are evaluated first.
    pub priority: i32,
    /// `filter`, `nat` or `route`.
    pub kind: Cow<'static, str>,
    pub accepts: bool,
}

/// The name of a table in the kernel.
pub(super) fn table_name(table_kind: TableKind, table: TableName) -> &'static str {
    match (table_kind, table) {
        (TableKind::Native, TableName::Raw) => "prepare-proxy-raw",
        (TableKind::Native, TableName::Mangle) => "prepare-proxy-mangle",
        (TableKind::Native, TableName::Nat) => "prepare-proxy-nat",
        (TableKind::Native, TableName::Filter) => "prepare-proxy-filter",
        _ => table.as_str(),
    }
}

/// The table with this kernel name, with or without a closing NUL.
pub(super) fn table_of(table_kind: TableKind, name: &[u8]) -> Option<TableName> {
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    let mut all = TableName::ALL.into_iter();
    all.find(|t| table_name(table_kind, *t).as_bytes() == name)
}

/// The base chain of iptables for a hook (priorities in linux/netfilter_ipv4.h, the same for IPv6);
/// in own tables it runs just before.
pub(super) fn base(table_kind: TableKind, table: TableName, hook: Hook) -> Base {
    let translates_source = matches!(hook, Hook::Input | Hook::Postrouting);
    let (priority, kind) = match table {
        TableName::Raw => (libc::NF_IP_PRI_RAW, "filter"),
        TableName::Mangle if hook == Hook::Output => (libc::NF_IP_PRI_MANGLE, "route"),
        TableName::Mangle => (libc::NF_IP_PRI_MANGLE, "filter"),
        TableName::Nat if translates_source => (libc::NF_IP_PRI_NAT_SRC, "nat"),
        TableName::Nat => (libc::NF_IP_PRI_NAT_DST, "nat"),
        TableName::Filter => (libc::NF_IP_PRI_FILTER, "filter"),
    };
    Base {
        hook: hook as u32,
        priority: match table_kind {
            TableKind::Native => priority - 1,
            _ => priority,
        },
        kind: kind.into(),
        accepts: true,
    }
}

impl Base {
    /// Whether both run at the same moment for the same purpose.
    pub(super) fn is_hooked_like(&self, other: &Base) -> bool {
        (self.hook, self.priority, &self.kind) == (other.hook, other.priority, &other.kind)
    }
}

/// As nft(8) prints it.
impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hooks = Hook::ALL.into_iter();
        let hook = hooks.find(|h| *h as u32 == self.hook);
        let hook = hook.map_or("ingress".to_owned(), |h| h.as_str().to_lowercase());
        write!(
            f,
            "type {} hook {hook} priority {}",
            self.kind, self.priority
        )
    }
}

/// Whether a chain is hooked like the base chain of iptables with its name. True for chains not
/// named after a hook.
pub(super) fn is_hooked_as_named(
    table_kind: TableKind,
    table: TableName,
    name: &ChainName,
    found: Option<&Base>,
) -> bool {
    let Some(hook) = name.hook() else {
        return true;
    };
    found.is_some_and(|f| f.is_hooked_like(&base(table_kind, table, hook)))
}

/// The number of nf_tables' family `inet`: IPv4 and IPv6 (linux/netfilter.h).
pub(super) const INET: u8 = libc::NFPROTO_INET as u8;

pub(super) fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => libc::NFPROTO_IPV4 as u8,
        Family::V6 => libc::NFPROTO_IPV6 as u8,
    }
}

/// The family with this number, if it is IPv4 or IPv6.
pub(super) fn family(number: u8) -> Option<Family> {
    Family::ALL.into_iter().find(|f| nfproto(*f) == number)
}
