//! Chains and rules from their attributes (linux/netfilter/nf_tables.h).

use super::{Chain, Rule};
use crate::netfilter::netlink::{AttributeTable, Malformed};
use crate::netfilter::nftables::expr::{Expr, counter};
use crate::netfilter::nftables::hooks::{self, Base};
use crate::netfilter::nftables::native;
use crate::netfilter::nftables::nf_tables::*;
use std::borrow::Cow;

impl Chain {
    /// From the attributes of a chain, without its rules.
    pub(crate) fn read(a: &AttributeTable<8>) -> Result<Self, Malformed> {
        Ok(Chain {
            name: text(a.bytes(NFTA_CHAIN_NAME)?).into_owned(),
            base: match a.get(NFTA_CHAIN_HOOK) {
                Some(hook) => Some(read_base(hook, a)?),
                None => None,
            },
            rules: Vec::new(),
            matters: false,
            was_read: false,
            hidden: 0,
            uses: match a.get(NFTA_CHAIN_USE) {
                Some(_) => Some(a.u32(NFTA_CHAIN_USE)?),
                None => None,
            },
        })
    }
}

impl Rule {
    /// From the attributes of a rule.
    pub(crate) fn read(a: &AttributeTable<8>) -> Result<Self, Malformed> {
        let expressions = a.get(NFTA_RULE_EXPRESSIONS).unwrap_or_default();
        Ok(Rule {
            handle: a.u64(NFTA_RULE_HANDLE)?,
            exprs: Expr::read_list(expressions)?,
            counters: counter::read(expressions)?,
            comment: a.get(NFTA_RULE_USERDATA).and_then(read_comment),
        })
    }
}

fn read_base(hook: &[u8], chain: &AttributeTable<8>) -> Result<Base, Malformed> {
    let hook = AttributeTable::<3>::parse(hook)?;
    Ok(Base {
        hook: hook.u32(NFTA_HOOK_HOOKNUM)?,
        priority: hook.u32(NFTA_HOOK_PRIORITY)? as i32,
        kind: chain.string(NFTA_CHAIN_TYPE)?.to_owned().into(),
        accepts: chain.u32(NFTA_CHAIN_POLICY)? == hooks::NF_ACCEPT,
    })
}

/// A name, which may be any bytes if it is foreign.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes))
}

/// The comment in a rule's user data, which is types, lengths and values of a byte each (libnftnl).
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
