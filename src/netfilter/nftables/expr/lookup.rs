//! `lookup`: whether a value is in a set (`enum nft_lookup_attributes`).

use super::{Data, Expr, NFT_REG_1, expect_absent, expect_register, read_flag};
use crate::netfilter::netlink::{Malformed, Writer};

pub(crate) const NAME: &str = "lookup";

const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
/// The destination register of a map.
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_SET_ID: u16 = 4;
/// 0, or `NFT_LOOKUP_F_INV` (1): not in the set.
const NFTA_LOOKUP_FLAGS: u16 = 5;

pub(crate) fn write(set: &str, id: Option<u32>, not: bool, w: &mut Writer) {
    w.string(NFTA_LOOKUP_SET, set);
    w.u32(NFTA_LOOKUP_SREG, NFT_REG_1);
    w.u32(NFTA_LOOKUP_FLAGS, u32::from(not));
    if let Some(id) = id {
        w.u32(NFTA_LOOKUP_SET_ID, id);
    }
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    expect_register(a, NFTA_LOOKUP_SREG, NFT_REG_1)?;
    expect_absent(a, &[NFTA_LOOKUP_DREG])?;
    Ok(Expr::Lookup {
        set: a.string(NFTA_LOOKUP_SET)?.to_owned(),
        id: None,
        not: match a.get(NFTA_LOOKUP_FLAGS) {
            None => false,
            Some(_) => read_flag(a.u32(NFTA_LOOKUP_FLAGS)?)?,
        },
    })
}
