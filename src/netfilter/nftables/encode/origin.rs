//! What a message is about, for errors.

use crate::netfilter::model::{
    ChainName, Family, InetTable, LiveRule, Match, Rule, TableName, Test,
};
use crate::netfilter::nftables::hooks::Base;
use std::fmt;
use thiserror::Error;

/// Where a message works, and what it does there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub place: Place<'a>,
    pub what: What<'a>,
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
pub(crate) enum What<'a> {
    Table,
    RemoveTable,
    WakeTable,
    Policy(&'a ChainName),
    Chain(&'a ChainName),
    BaseChain(&'a ChainName),
    Flush(&'a ChainName),
    RemoveChain(&'a ChainName),
    /// One that is hooked in, and in which nothing is left.
    RemoveBaseChain(&'a str),
    /// The address lists of a chain.
    Lists(&'a ChainName),
    Rule(&'a ChainName, &'a Rule),
    RemoveRule(&'a ChainName, &'a LiveRule),
}

/// Something in a change that cannot be written, and why.
#[derive(Clone, Debug)]
pub(crate) struct Unsupported<'a> {
    pub origin: Origin<'a>,
    pub reason: Reason,
}

#[derive(Clone, Debug, Error)]
pub(crate) enum Reason {
    #[error("the rule has no such form")]
    NoForm,
    #[error("somebody else's rules stand in a table that should be ours alone")]
    NotAlone,
    #[error(
        "another program has the table to itself (NFT_TABLE_F_OWNER): only that program can change it"
    )]
    Owned,
    #[error(
        "a chain of this name is there, but iptables' is of {wanted}, and this is {}: remove or rename it",
        .found.as_ref().map_or("not hooked in".to_owned(), |f| format!("of {f}"))
    )]
    HookedElsewhere { found: Option<Base>, wanted: Base },
}

impl What<'_> {
    /// Whether it writes a rule about the owner of a socket.
    pub(crate) fn has_owner(&self) -> bool {
        let is_owner = |m: &Match| matches!(m.test, Test::Owner(_));
        matches!(self, What::Rule(_, rule) if rule.matches.iter().any(is_owner))
    }

    /// Nothing is wrong if it stays.
    pub(crate) fn is_tidying(&self) -> bool {
        matches!(self, What::RemoveTable | What::RemoveBaseChain(_))
    }
}

impl Reason {
    /// Somebody else has the place in which the rules should stand.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, Reason::Owned | Reason::HookedElsewhere { .. })
    }
}

/// What was being done.
impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place;
        match self.what {
            What::Table => write!(f, "making {place}"),
            What::RemoveTable => write!(f, "removing {place}"),
            What::WakeTable => write!(f, "clearing the flag dormant of {place}"),
            What::Policy(c) => write!(f, "setting the policy of chain {c} in {place}"),
            What::Chain(c) | What::BaseChain(c) => write!(f, "making chain {c} in {place}"),
            What::Flush(c) => write!(f, "emptying chain {c} in {place}"),
            What::RemoveChain(c) => write!(f, "removing chain {c} from {place}"),
            What::RemoveBaseChain(c) => write!(f, "removing chain {c} from {place}"),
            What::Lists(c) => write!(f, "changing the address lists of chain {c} in {place}"),
            What::Rule(c, rule) => write!(f, "adding \"-A {c} {rule}\" to {place}"),
            What::RemoveRule(c, rule) => {
                write!(f, "removing \"-A {c} {}\" from {place}", rule.text)
            }
        }
    }
}
