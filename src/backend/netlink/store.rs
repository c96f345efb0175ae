//! What the tables and base chains of a store are called and where they are hooked in.

use crate::backend::Store;
use crate::ruleset::{Family, Hook, TableName};
use std::borrow::Cow;

/// The policy that lets packets pass (`NF_ACCEPT`).
pub const ACCEPT: u32 = 1;

/// Where a base chain is hooked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// `NF_INET_*`.
    pub hook: u32,
    pub priority: i32,
    /// `filter`, `nat` or `route`.
    pub kind: Cow<'static, str>,
    /// The policy is to accept.
    pub accepts: bool,
}

/// The name of a table in the kernel.
pub fn table_name(store: Store, table: TableName) -> &'static str {
    match (store, table) {
        (Store::Native, TableName::Raw) => "prepare-proxy-raw",
        (Store::Native, TableName::Mangle) => "prepare-proxy-mangle",
        (Store::Native, TableName::Nat) => "prepare-proxy-nat",
        (Store::Native, TableName::Filter) => "prepare-proxy-filter",
        _ => table.as_str(),
    }
}

/// The table that has this name in the kernel, with or without a closing NUL.
pub fn table_of(store: Store, name: &[u8]) -> Option<TableName> {
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    let mut all = TableName::ALL.into_iter();
    all.find(|t| table_name(store, *t).as_bytes() == name)
}

/// The base chain that iptables has at a hook of a table; in tables of our own it is asked just
/// before that one.
pub fn base(store: Store, table: TableName, hook: Hook) -> Base {
    let source = matches!(hook, Hook::Input | Hook::Postrouting);
    let (priority, kind) = match table {
        TableName::Raw => (-300, "filter"),
        TableName::Mangle if hook == Hook::Output => (-150, "route"),
        TableName::Mangle => (-150, "filter"),
        TableName::Nat if source => (100, "nat"),
        TableName::Nat => (-100, "nat"),
        TableName::Filter => (0, "filter"),
    };
    Base {
        hook: hook as u32,
        priority: match store {
            Store::Native => priority - 1,
            _ => priority,
        },
        kind: kind.into(),
        accepts: true,
    }
}

/// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
pub fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// The family with this number, if it is one of ours.
pub fn family(number: u8) -> Option<Family> {
    Family::ALL.into_iter().find(|f| self::number(*f) == number)
}
