//! A rule before decoding (linux/netfilter/nf_tables.h).

use super::expr::{Expr, Verdict, counter};
use super::native;
use super::nf_tables::*;
use crate::netfilter::model::Counters;
use crate::netfilter::netlink::{AttributeTable, Malformed};
use std::borrow::Cow;

#[derive(Debug)]
pub(super) struct Rule {
    pub handle: u64,
    pub exprs: Vec<Expr>,
    /// The nft comment in its user data.
    pub comment: Option<String>,
    pub counters: Option<Counters>,
}

impl Rule {
    pub(crate) fn read(a: &AttributeTable<8>) -> Result<Self, Malformed> {
        let expressions = a.get(NFTA_RULE_EXPRESSIONS).unwrap_or_default();
        let exprs = Expr::read_list(expressions)?;
        Ok(Rule {
            handle: a.u64(NFTA_RULE_HANDLE)?,
            counters: counter::read(&exprs, expressions)?,
            exprs,
            comment: a.get(NFTA_RULE_USERDATA).and_then(read_comment),
        })
    }

    pub(super) fn jump(&self) -> Option<&str> {
        self.exprs.iter().find_map(|expr| match expr {
            Expr::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => Some(to.as_str()),
            _ => None,
        })
    }
}

/// A name; those of foreign objects may have any bytes.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes))
}

/// Reads the comment in user data, which consists of types, lengths and values of a byte each
/// (libnftnl).
fn read_comment(userdata: &[u8]) -> Option<String> {
    let mut rest = userdata;
    while let [kind, length, behind @ ..] = rest {
        let value = behind.get(..usize::from(*length))?;
        if *kind == native::NFTNL_UDATA_RULE_COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return std::str::from_utf8(text).ok().map(str::to_owned);
        }
        rest = &behind[value.len()..];
    }
    None
}
