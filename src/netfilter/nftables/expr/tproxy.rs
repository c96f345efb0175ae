//! `tproxy`: to a transparent socket (`enum nft_tproxy_attributes`).

use super::{Data, Expr, NFT_REG_1, NFT_REG_2, expect_register};
use crate::netfilter::netlink::{Malformed, Writer};

pub(crate) const NAME: &str = "tproxy";

const NFTA_TPROXY_FAMILY: u16 = 1;
const NFTA_TPROXY_REG_ADDR: u16 = 2;
const NFTA_TPROXY_REG_PORT: u16 = 3;

pub(crate) fn write(family: u32, address: bool, w: &mut Writer) {
    w.u32(NFTA_TPROXY_FAMILY, family);
    if address {
        w.u32(NFTA_TPROXY_REG_ADDR, NFT_REG_1);
    }
    w.u32(NFTA_TPROXY_REG_PORT, port_register(address));
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    let address = a.get(NFTA_TPROXY_REG_ADDR).is_some();
    if address {
        expect_register(a, NFTA_TPROXY_REG_ADDR, NFT_REG_1)?;
    }
    expect_register(a, NFTA_TPROXY_REG_PORT, port_register(address))?;
    Ok(Expr::Tproxy {
        family: a.u32(NFTA_TPROXY_FAMILY)?,
        address,
    })
}

/// The port is in the second register if there is an address.
fn port_register(address: bool) -> u32 {
    match address {
        true => NFT_REG_2,
        false => NFT_REG_1,
    }
}
