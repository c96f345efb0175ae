//! `range`: between two constants, both included (`enum nft_range_attributes`).

use super::{Data, Expr, NFT_REG_1, expect_register, read_flag, read_value, write_value};
use crate::netfilter::netlink::{Malformed, Writer};

pub(crate) const NAME: &str = "range";

const NFTA_RANGE_SREG: u16 = 1;
/// `NFT_RANGE_EQ` (0) or `NFT_RANGE_NEQ` (1).
const NFTA_RANGE_OP: u16 = 2;
const NFTA_RANGE_FROM_DATA: u16 = 3;
const NFTA_RANGE_TO_DATA: u16 = 4;

pub(crate) fn write(not: bool, from: &[u8], to: &[u8], w: &mut Writer) {
    w.u32(NFTA_RANGE_SREG, NFT_REG_1);
    w.u32(NFTA_RANGE_OP, u32::from(not));
    write_value(w, NFTA_RANGE_FROM_DATA, from);
    write_value(w, NFTA_RANGE_TO_DATA, to);
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    expect_register(a, NFTA_RANGE_SREG, NFT_REG_1)?;
    Ok(Expr::Range {
        not: read_flag(a.u32(NFTA_RANGE_OP)?)?,
        from: read_value(a, NFTA_RANGE_FROM_DATA)?,
        to: read_value(a, NFTA_RANGE_TO_DATA)?,
    })
}
