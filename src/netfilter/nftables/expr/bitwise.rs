//! `bitwise`: a mask and an exclusive or (`enum nft_bitwise_attributes`).

use super::{Data, Expr, NFT_REG_1, expect_absent, expect_register, read_value, write_value};
use crate::netfilter::netlink::{Malformed, Writer};

pub(crate) const NAME: &str = "bitwise";

const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_BITWISE_OP: u16 = 6;
const NFTA_BITWISE_DATA: u16 = 7;
/// The operation mask and xor, also called `NFT_BITWISE_MASK_XOR`.
const NFT_BITWISE_BOOL: u32 = 0;

pub(crate) fn write(mask: &[u8], xor: &[u8], w: &mut Writer) {
    w.u32(NFTA_BITWISE_SREG, NFT_REG_1);
    w.u32(NFTA_BITWISE_DREG, NFT_REG_1);
    w.u32(NFTA_BITWISE_LEN, mask.len() as u32);
    write_value(w, NFTA_BITWISE_MASK, mask);
    write_value(w, NFTA_BITWISE_XOR, xor);
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    expect_register(a, NFTA_BITWISE_SREG, NFT_REG_1)?;
    expect_register(a, NFTA_BITWISE_DREG, NFT_REG_1)?;
    // Kernels before 5.6 have no other operation and omit it.
    if a.get(NFTA_BITWISE_OP).is_some() && a.u32(NFTA_BITWISE_OP)? != NFT_BITWISE_BOOL {
        return Err(Malformed);
    }
    expect_absent(a, &[NFTA_BITWISE_DATA])?;
    Ok(Expr::Bitwise {
        mask: read_value(a, NFTA_BITWISE_MASK)?,
        xor: read_value(a, NFTA_BITWISE_XOR)?,
    })
}
