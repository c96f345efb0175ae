//! `redir`: to a port of this machine (`enum nft_redir_attributes`).

use super::{Data, Expr, NFT_REG_1, expect_register};
use crate::netfilter::netlink::{Malformed, Writer};

pub(crate) const NAME: &str = "redir";

const NFTA_REDIR_REG_PROTO_MIN: u16 = 1;
const NFTA_REDIR_REG_PROTO_MAX: u16 = 2;
const NFTA_REDIR_FLAGS: u16 = 3;
/// A port is given (linux/netfilter/nf_nat.h). The kernel sets the flag by itself.
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;

pub(crate) fn write(w: &mut Writer) {
    w.u32(NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    expect_register(a, NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1)?;
    if a.get(NFTA_REDIR_REG_PROTO_MAX).is_some() {
        expect_register(a, NFTA_REDIR_REG_PROTO_MAX, NFT_REG_1)?;
    }
    match a.get(NFTA_REDIR_FLAGS) {
        Some(_) if a.u32(NFTA_REDIR_FLAGS)? != NF_NAT_RANGE_PROTO_SPECIFIED => Err(Malformed),
        _ => Ok(Expr::Redirect),
    }
}
