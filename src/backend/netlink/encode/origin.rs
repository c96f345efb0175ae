//! What a message is about, for errors.

use crate::ruleset::{ChainName, Family, LiveRule, Rule, TableName};
use std::fmt;

/// Where a message works, and what it does there.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub family: Family,
    pub table: TableName,
    pub what: What<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    Table,
    RemoveTable,
    Chain(&'a ChainName),
    BaseChain(&'a ChainName),
    Flush(&'a ChainName),
    RemoveChain(&'a ChainName),
    /// The address lists of a chain.
    Lists(&'a ChainName),
    Rule(&'a ChainName, &'a Rule),
    RemoveRule(&'a ChainName, &'a LiveRule),
}

/// Something in a change that cannot be written, and why.
#[derive(Clone, Copy, Debug)]
pub struct Unsupported<'a> {
    pub origin: Origin<'a>,
    pub reason: &'static str,
}

/// What was being done.
impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("{} table {}", self.family, self.table);
        match self.what {
            What::Table => write!(f, "making {place}"),
            What::RemoveTable => write!(f, "removing {place}"),
            What::Chain(c) | What::BaseChain(c) => write!(f, "making chain {c} in {place}"),
            What::Flush(c) => write!(f, "emptying chain {c} in {place}"),
            What::RemoveChain(c) => write!(f, "removing chain {c} from {place}"),
            What::Lists(c) => write!(f, "changing the address lists of chain {c} in {place}"),
            What::Rule(c, rule) => write!(f, "adding \"-A {c} {rule}\" to {place}"),
            What::RemoveRule(c, rule) => {
                write!(f, "removing \"-A {c} {}\" from {place}", rule.text)
            }
        }
    }
}
