//! `immediate`: a constant for a register, or a verdict (`enum nft_immediate_attributes`).

use super::{Data, Expr, NFT_REG_1, NFT_REG_2, NFT_REG_VERDICT, write_value};
use crate::netfilter::netlink::{AttributeTable, Malformed, Writer};
use crate::netfilter::nftables::nf_tables::{NFTA_DATA_VALUE, NFTA_DATA_VERDICT};
use nix::libc;

pub(crate) const NAME: &str = "immediate";

const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Accept,
    /// Returns to the calling chain, or to the policy.
    Return,
    /// Calls a chain.
    Jump(String),
    /// Continues in a chain without return.
    Goto(String),
}

pub(crate) fn write(register: u32, value: &[u8], w: &mut Writer) {
    w.u32(NFTA_IMMEDIATE_DREG, register);
    write_value(w, NFTA_IMMEDIATE_DATA, value);
}

pub(crate) fn write_verdict(verdict: &Verdict, w: &mut Writer) {
    w.u32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    w.nest(NFTA_IMMEDIATE_DATA, |w| {
        w.nest(NFTA_DATA_VERDICT, |w| verdict.write(w));
    });
}

pub(crate) fn read(a: &Data) -> Result<Expr, Malformed> {
    let register = a.u32(NFTA_IMMEDIATE_DREG)?;
    let data = AttributeTable::<3>::exact(a.bytes(NFTA_IMMEDIATE_DATA)?)?;
    match (
        register,
        data.get(NFTA_DATA_VALUE),
        data.get(NFTA_DATA_VERDICT),
    ) {
        (NFT_REG_VERDICT, None, Some(verdict)) => Verdict::read(verdict).map(Expr::Verdict),
        (NFT_REG_1 | NFT_REG_2, Some(value), None) => Ok(Expr::Immediate {
            register,
            value: value.to_vec(),
        }),
        _ => Err(Malformed),
    }
}

/// `enum nft_verdict_attributes`.
const NFTA_VERDICT_CODE: u16 = 1;
pub(crate) const NFTA_VERDICT_CHAIN: u16 = 2;

/// linux/netfilter.h, and `enum nft_verdicts`.
const NF_DROP: u32 = libc::NF_DROP as u32;
const NF_ACCEPT: u32 = libc::NF_ACCEPT as u32;
const NFT_RETURN: u32 = libc::NFT_RETURN as u32;
const NFT_JUMP: u32 = libc::NFT_JUMP as u32;
const NFT_GOTO: u32 = libc::NFT_GOTO as u32;

impl Verdict {
    fn write(&self, w: &mut Writer) {
        let (code, chain) = match self {
            Verdict::Drop => (NF_DROP, None),
            Verdict::Accept => (NF_ACCEPT, None),
            Verdict::Return => (NFT_RETURN, None),
            Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
            Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
        };
        w.u32(NFTA_VERDICT_CODE, code);
        if let Some(chain) = chain {
            w.string(NFTA_VERDICT_CHAIN, chain);
        }
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let a = AttributeTable::<3>::exact(bytes)?;
        let chain = || a.string(NFTA_VERDICT_CHAIN).map(str::to_owned);
        match a.u32(NFTA_VERDICT_CODE)? {
            NF_DROP => Ok(Verdict::Drop),
            NF_ACCEPT => Ok(Verdict::Accept),
            NFT_RETURN => Ok(Verdict::Return),
            NFT_JUMP => chain().map(Verdict::Jump),
            NFT_GOTO => chain().map(Verdict::Goto),
            _ => Err(Malformed),
        }
    }
}
