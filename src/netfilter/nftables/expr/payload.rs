//! `payload`: loads bytes of headers (`enum nft_payload_attributes`). Writing to headers is not
//! decoded.

use super::{Data, Expr, NFT_REG_1, expect_absent, expect_register};
use crate::netfilter::netlink::{Malformed, Writer};
use nix::libc;

pub(crate) const NAME: &str = "payload";

/// `enum nft_payload_bases`.
pub(crate) const NFT_PAYLOAD_NETWORK_HEADER: u32 = libc::NFT_PAYLOAD_NETWORK_HEADER as u32;
pub(crate) const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32;

const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_PAYLOAD_SREG: u16 = 5;
const NFTA_PAYLOAD_CSUM_TYPE: u16 = 6;
const NFTA_PAYLOAD_CSUM_OFFSET: u16 = 7;

pub(crate) fn write(base: u32, offset: u32, len: u32, w: &mut Writer) {
    w.u32(NFTA_PAYLOAD_DREG, NFT_REG_1);
    w.u32(NFTA_PAYLOAD_BASE, base);
    w.u32(NFTA_PAYLOAD_OFFSET, offset);
    w.u32(NFTA_PAYLOAD_LEN, len);
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    const OF_WRITING: &[u16] = &[
        NFTA_PAYLOAD_SREG,
        NFTA_PAYLOAD_CSUM_TYPE,
        NFTA_PAYLOAD_CSUM_OFFSET,
    ];
    expect_register(a, NFTA_PAYLOAD_DREG, NFT_REG_1)?;
    expect_absent(a, OF_WRITING)?;
    Ok(Expr::Payload {
        base: a.u32(NFTA_PAYLOAD_BASE)?,
        offset: a.u32(NFTA_PAYLOAD_OFFSET)?,
        len: a.u32(NFTA_PAYLOAD_LEN)?,
    })
}
