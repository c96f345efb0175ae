//! Decodes chains (linux/netfilter/nf_tables.h).

use super::{Chain, text};
use crate::netfilter::netlink::{AttributeTable, Malformed};
use crate::netfilter::nftables::hooks::{self, Base};
use crate::netfilter::nftables::nf_tables::*;

impl Chain {
    /// Decodes a chain without its rules.
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

fn read_base(hook: &[u8], chain: &AttributeTable<8>) -> Result<Base, Malformed> {
    let hook = AttributeTable::<3>::parse(hook)?;
    Ok(Base {
        hook: hook.u32(NFTA_HOOK_HOOKNUM)?,
        priority: hook.u32(NFTA_HOOK_PRIORITY)? as i32,
        kind: chain.string(NFTA_CHAIN_TYPE)?.to_owned().into(),
        accepts: chain.u32(NFTA_CHAIN_POLICY)? == hooks::NF_ACCEPT,
    })
}
