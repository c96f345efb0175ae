//! `reject`: rejects a packet with a reply (`enum nft_reject_attributes`).

use super::{Data, Expr};
use crate::netfilter::netlink::{Malformed, Writer};
use nix::libc;

pub(crate) const NAME: &str = "reject";

/// `enum nft_reject_types`.
pub(crate) const NFT_REJECT_ICMP_UNREACH: u32 = libc::NFT_REJECT_ICMP_UNREACH as u32;
pub(crate) const NFT_REJECT_TCP_RST: u32 = libc::NFT_REJECT_TCP_RST as u32;

const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;

pub(crate) fn write(kind: u32, code: u8, w: &mut Writer) {
    w.u32(NFTA_REJECT_TYPE, kind);
    w.bytes(NFTA_REJECT_ICMP_CODE, &[code]);
}

/// The kernel omits the code of a TCP reset.
pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    let code = match a.get(NFTA_REJECT_ICMP_CODE) {
        Some(code) => code.first().copied().ok_or(Malformed)?,
        None => 0,
    };
    Ok(Expr::Reject {
        kind: a.u32(NFTA_REJECT_TYPE)?,
        code,
    })
}
