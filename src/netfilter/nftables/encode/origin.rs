//! The origin of a message, for errors.

use crate::netfilter::model::{
    ChainName, Family, InetTable, Match, ObservedRule, Rule, TableName, Test,
};
use crate::netfilter::nftables::hooks::Base;
use std::fmt;
use thiserror::Error;

/// The table and operation of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub place: Place<'a>,
    pub what: Operation<'a>,
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    Of(Family, TableName),
    Inet(&'a InetTable),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Of(family, table) => write!(f, "{family} table {table}"),
            Place::Inet(table) => write!(f, "table {table}"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation<'a> {
    Table,
    RemoveTable,
    WakeTable,
    Policy(&'a ChainName),
    Chain(&'a ChainName),
    BaseChain(&'a ChainName),
    Flush(&'a ChainName),
    RemoveChain(&'a ChainName),
    /// An empty base chain.
    RemoveBaseChain(&'a str),
    /// The address lists of a chain.
    Lists(&'a ChainName),
    Rule(&'a ChainName, &'a Rule),
    RemoveRule(&'a ChainName, &'a ObservedRule),
}

/// A part of a change that cannot be encoded, and why.
#[derive(Clone, Debug)]
pub(crate) struct Unsupported<'a> {
    pub origin: Origin<'a>,
    pub reason: Reason,
}

#[derive(Clone, Debug, Error)]
pub(crate) enum Reason {
    #[error("this encoding cannot express the rule")]
    NoForm,
    #[error("the table must be used by this program only, but has foreign rules")]
    NotAlone,
    #[error("the table is owned by another program (NFT_TABLE_F_OWNER), which alone can change it")]
    Owned,
    #[error(
        "a chain of this name exists, but that of iptables is of {wanted}, and this one is {}: remove or rename it",
        .found.as_ref().map_or("not hooked in".to_owned(), |f| format!("of {f}"))
    )]
    HookedElsewhere { found: Option<Base>, wanted: Base },
}

impl Operation<'_> {
    /// Whether it adds a rule with an owner match.
    pub(crate) fn has_owner(&self) -> bool {
        let is_owner = |m: &Match| matches!(m.test, Test::Owner(_));
        matches!(self, Operation::Rule(_, rule) if rule.matches.iter().any(is_owner))
    }

    /// Whether a failure is harmless.
    pub(crate) fn is_tidying(&self) -> bool {
        matches!(self, Operation::RemoveTable | Operation::RemoveBaseChain(_))
    }
}

impl Reason {
    /// Whether another program uses the table or chain.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, Reason::Owned | Reason::HookedElsewhere { .. })
    }
}

/// Describes the operation.
impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place;
        match self.what {
            Operation::Table => write!(f, "making {place}"),
            Operation::RemoveTable => write!(f, "removing {place}"),
            Operation::WakeTable => write!(f, "clearing the flag dormant of {place}"),
            Operation::Policy(c) => write!(f, "setting the policy of chain {c} in {place}"),
            Operation::Chain(c) | Operation::BaseChain(c) => {
                write!(f, "making chain {c} in {place}")
            }
            Operation::Flush(c) => write!(f, "emptying chain {c} in {place}"),
            Operation::RemoveChain(c) => write!(f, "removing chain {c} from {place}"),
            Operation::RemoveBaseChain(c) => write!(f, "removing chain {c} from {place}"),
            Operation::Lists(c) => write!(f, "changing the address lists of chain {c} in {place}"),
            Operation::Rule(c, rule) => write!(f, "adding \"-A {c} {rule}\" to {place}"),
            Operation::RemoveRule(c, rule) => {
                write!(f, "removing \"-A {c} {}\" from {place}", rule.text)
            }
        }
    }
}
