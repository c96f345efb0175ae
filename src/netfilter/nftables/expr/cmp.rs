//! `cmp`: a comparison with a constant (`enum nft_cmp_attributes`).

use super::{Data, Expr, NFT_REG_1, expect_register, read_value, write_value};
use crate::netfilter::netlink::{Malformed, Writer};
use nix::libc;

pub(crate) const NAME: &str = "cmp";

/// `enum nft_cmp_ops`.
pub(crate) const NFT_CMP_EQ: u32 = libc::NFT_CMP_EQ as u32;
pub(crate) const NFT_CMP_NEQ: u32 = libc::NFT_CMP_NEQ as u32;
pub(crate) const NFT_CMP_LTE: u32 = libc::NFT_CMP_LTE as u32;
pub(crate) const NFT_CMP_GTE: u32 = libc::NFT_CMP_GTE as u32;

const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;

pub(crate) fn write(operation: u32, value: &[u8], w: &mut Writer) {
    w.u32(NFTA_CMP_SREG, NFT_REG_1);
    w.u32(NFTA_CMP_OP, operation);
    write_value(w, NFTA_CMP_DATA, value);
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    expect_register(a, NFTA_CMP_SREG, NFT_REG_1)?;
    let value = read_value(a, NFTA_CMP_DATA)?;
    match a.u32(NFTA_CMP_OP)? {
        NFT_CMP_EQ => Ok(Expr::Cmp { not: false, value }),
        NFT_CMP_NEQ => Ok(Expr::Cmp { not: true, value }),
        NFT_CMP_LTE => Ok(Expr::AtMost(value)),
        NFT_CMP_GTE => Ok(Expr::AtLeast(value)),
        _ => Err(Malformed),
    }
}
