//! `socket`: properties of the socket of a packet (`enum nft_socket_attributes`). The rule ends
//! without one.

use super::{Data, Expr, NFT_REG_1, expect_absent, expect_register};
use crate::netfilter::netlink::{Malformed, Writer};

pub(crate) const NAME: &str = "socket";

/// `enum nft_socket_keys`: whether the socket has IP_TRANSPARENT (since Linux 4.18), and whether it
/// is bound to any address (since 5.11).
pub(crate) const NFT_SOCKET_TRANSPARENT: u32 = 0;
pub(crate) const NFT_SOCKET_WILDCARD: u32 = 2;

const NFTA_SOCKET_KEY: u16 = 1;
const NFTA_SOCKET_DREG: u16 = 2;
const NFTA_SOCKET_LEVEL: u16 = 3;

pub(crate) fn write(key: u32, w: &mut Writer) {
    w.u32(NFTA_SOCKET_KEY, key);
    w.u32(NFTA_SOCKET_DREG, NFT_REG_1);
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    expect_register(a, NFTA_SOCKET_DREG, NFT_REG_1)?;
    expect_absent(a, &[NFTA_SOCKET_LEVEL])?;
    a.u32(NFTA_SOCKET_KEY).map(Expr::Socket)
}
