//! `ct`: conntrack data of a packet (`enum nft_ct_attributes`).

use super::{Data, Expr, NFT_REG_1, expect_absent, expect_register};
use crate::netfilter::netlink::{Malformed, Writer};
use nix::libc;

pub(crate) const NAME: &str = "ct";

/// `enum nft_ct_keys`.
pub(crate) const NFT_CT_STATE: u32 = libc::NFT_CT_STATE as u32;
pub(crate) const NFT_CT_MARK: u32 = libc::NFT_CT_MARK as u32;
pub(crate) const NFT_CT_ZONE: u32 = libc::NFT_CT_ZONE as u32;

const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_DIRECTION: u16 = 3;
const NFTA_CT_SREG: u16 = 4;

pub(crate) fn write_load(key: u32, w: &mut Writer) {
    w.u32(NFTA_CT_KEY, key);
    w.u32(NFTA_CT_DREG, NFT_REG_1);
}

pub(crate) fn write_store(key: u32, w: &mut Writer) {
    w.u32(NFTA_CT_KEY, key);
    w.u32(NFTA_CT_SREG, NFT_REG_1);
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    let key = a.u32(NFTA_CT_KEY)?;
    expect_absent(a, &[NFTA_CT_DIRECTION])?;
    if a.get(NFTA_CT_DREG).is_some() {
        expect_absent(a, &[NFTA_CT_SREG])?;
        expect_register(a, NFTA_CT_DREG, NFT_REG_1)?;
        Ok(Expr::Ct(key))
    } else {
        expect_register(a, NFTA_CT_SREG, NFT_REG_1)?;
        Ok(Expr::CtSet(key))
    }
}
