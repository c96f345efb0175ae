//! `meta`: metadata of a packet (`enum nft_meta_attributes`).

use super::{Data, Expr, NFT_REG_1, expect_absent, expect_register};
use crate::netfilter::netlink::{Malformed, Writer};
use nix::libc;

pub(crate) const NAME: &str = "meta";

/// `enum nft_meta_keys`.
pub(crate) const NFT_META_MARK: u32 = libc::NFT_META_MARK as u32;
pub(crate) const NFT_META_IIFNAME: u32 = libc::NFT_META_IIFNAME as u32;
pub(crate) const NFT_META_OIFNAME: u32 = libc::NFT_META_OIFNAME as u32;
pub(crate) const NFT_META_NFPROTO: u32 = libc::NFT_META_NFPROTO as u32;
pub(crate) const NFT_META_SKUID: u32 = libc::NFT_META_SKUID as u32;
pub(crate) const NFT_META_SKGID: u32 = libc::NFT_META_SKGID as u32;
pub(crate) const NFT_META_L4PROTO: u32 = libc::NFT_META_L4PROTO as u32;

pub(super) const NFTA_META_DREG: u16 = 1;
pub(super) const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;

pub(crate) fn write_load(key: u32, w: &mut Writer) {
    w.u32(NFTA_META_KEY, key);
    w.u32(NFTA_META_DREG, NFT_REG_1);
}

pub(crate) fn write_store(key: u32, w: &mut Writer) {
    w.u32(NFTA_META_KEY, key);
    w.u32(NFTA_META_SREG, NFT_REG_1);
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    let key = a.u32(NFTA_META_KEY)?;
    if a.get(NFTA_META_DREG).is_some() {
        expect_absent(a, &[NFTA_META_SREG])?;
        expect_register(a, NFTA_META_DREG, NFT_REG_1)?;
        Ok(Expr::Meta(key))
    } else {
        expect_register(a, NFTA_META_SREG, NFT_REG_1)?;
        Ok(Expr::MetaSet(key))
    }
}
