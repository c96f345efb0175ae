//! Expressions of nf_tables as values, one file each with encoder and decoder
//! (linux/netfilter/nf_tables.h and nf_tables_compat.h).
//!
//! All values use the first register, as with iptables-nft; an expression with an unknown attribute
//! or register is [`Expr::Other`].

pub(super) mod bitwise;
pub(super) mod cmp;
pub(super) mod compat;
pub(super) mod counter;
pub(super) mod ct;
pub(super) mod immediate;
pub(super) mod lookup;
pub(super) mod meta;
pub(super) mod payload;
pub(super) mod range;
pub(super) mod redir;
pub(super) mod reject;
pub(super) mod socket;
pub(super) mod tproxy;

pub(super) use compat::Extension;
pub(super) use immediate::Verdict;

use super::nf_tables::{NFTA_DATA_VALUE, NFTA_LIST_ELEM};
use crate::netfilter::netlink::{AttributeTable, Attributes, Malformed, Writer};
use nix::libc;

/// The register for values, and the one for a second operand (`enum nft_registers`).
pub(super) const NFT_REG_1: u32 = libc::NFT_REG_1 as u32;
pub(super) const NFT_REG_2: u32 = libc::NFT_REG_2 as u32;
/// The verdict register.
const NFT_REG_VERDICT: u32 = libc::NFT_REG_VERDICT as u32;

/// `enum nft_expr_attributes`.
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

/// The attributes of an expression.
type Data<'a> = AttributeTable<'a, 8>;

/// An expression; a rule continues as long as its expressions match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    /// Loads a `meta` key (`NFT_META_*`).
    Meta(u32),
    /// Stores to a `meta` key.
    MetaSet(u32),
    /// Loads a `ct` key (`NFT_CT_*`).
    Ct(u32),
    /// Stores to a `ct` key.
    CtSet(u32),
    /// Loads `len` bytes of a header (`NFT_PAYLOAD_*`).
    Payload { base: u32, offset: u32, len: u32 },
    /// value = (value & mask) ^ xor.
    Bitwise { mask: Vec<u8>, xor: Vec<u8> },
    /// Matches if the value is (`not`: is not) this.
    Cmp { not: bool, value: Vec<u8> },
    /// Matches if the value is not greater than this, in network byte order.
    AtMost(Vec<u8>),
    /// Matches if the value is not less than this.
    AtLeast(Vec<u8>),
    /// Matches if the value is (`not`: is not) in this inclusive range.
    Range {
        not: bool,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// Matches if the value is (`not`: is not) in a set. The id refers to a set of the same batch.
    Lookup {
        set: String,
        id: Option<u32>,
        not: bool,
    },
    /// Counts packets and bytes.
    Counter,
    /// Loads a constant into a register.
    Immediate { register: u32, value: Vec<u8> },
    /// Ends the rule.
    Verdict(Verdict),
    /// An x_tables match.
    Match(Extension),
    /// An x_tables target.
    Target(Extension),
    /// Redirects to the port in the register.
    Redirect,
    /// Delivers to a transparent socket on the port in the register; with an address, that is in
    /// the register and the port in the second one.
    Tproxy { family: u32, address: bool },
    /// Rejects with `NFT_REJECT_*` and an ICMP code.
    Reject { kind: u32, code: u8 },
    /// Loads a socket key (`NFT_SOCKET_*`).
    Socket(u32),
    /// An undecoded expression: name and attributes.
    Other { name: String, data: Vec<u8> },
}

impl Expr {
    /// The kernel name of the expression.
    pub(super) fn name(&self) -> &str {
        match self {
            Expr::Meta(_) | Expr::MetaSet(_) => meta::NAME,
            Expr::Ct(_) | Expr::CtSet(_) => ct::NAME,
            Expr::Payload { .. } => payload::NAME,
            Expr::Bitwise { .. } => bitwise::NAME,
            Expr::Cmp { .. } | Expr::AtMost(_) | Expr::AtLeast(_) => cmp::NAME,
            Expr::Range { .. } => range::NAME,
            Expr::Lookup { .. } => lookup::NAME,
            Expr::Counter => counter::NAME,
            Expr::Immediate { .. } | Expr::Verdict(_) => immediate::NAME,
            Expr::Match(_) => compat::MATCH,
            Expr::Target(_) => compat::TARGET,
            Expr::Redirect => redir::NAME,
            Expr::Tproxy { .. } => tproxy::NAME,
            Expr::Reject { .. } => reject::NAME,
            Expr::Socket(_) => socket::NAME,
            Expr::Other { name, .. } => name,
        }
    }

    /// Encodes an element of the list of a rule. [`Expr::Other`] is not encoded and left to the
    /// kernel to refuse.
    pub(super) fn write(&self, w: &mut Writer) {
        w.nest(NFTA_LIST_ELEM, |w| {
            w.string(NFTA_EXPR_NAME, self.name());
            w.nest(NFTA_EXPR_DATA, |w| self.write_data(w));
        });
    }

    fn write_data(&self, w: &mut Writer) {
        match self {
            Expr::Meta(key) => meta::write_load(*key, w),
            Expr::MetaSet(key) => meta::write_store(*key, w),
            Expr::Ct(key) => ct::write_load(*key, w),
            Expr::CtSet(key) => ct::write_store(*key, w),
            Expr::Payload { base, offset, len } => payload::write(*base, *offset, *len, w),
            Expr::Bitwise { mask, xor } => bitwise::write(mask, xor, w),
            Expr::Cmp { not: false, value } => cmp::write(cmp::NFT_CMP_EQ, value, w),
            Expr::Cmp { not: true, value } => cmp::write(cmp::NFT_CMP_NEQ, value, w),
            Expr::AtMost(value) => cmp::write(cmp::NFT_CMP_LTE, value, w),
            Expr::AtLeast(value) => cmp::write(cmp::NFT_CMP_GTE, value, w),
            Expr::Range { not, from, to } => range::write(*not, from, to, w),
            Expr::Lookup { set, id, not } => lookup::write(set, *id, *not, w),
            Expr::Counter => counter::write(w),
            Expr::Immediate { register, value } => immediate::write(*register, value, w),
            Expr::Verdict(verdict) => immediate::write_verdict(verdict, w),
            Expr::Match(extension) => compat::write_match(extension, w),
            Expr::Target(extension) => compat::write_target(extension, w),
            Expr::Redirect => redir::write(w),
            Expr::Tproxy { family, address } => tproxy::write(*family, *address, w),
            Expr::Reject { kind, code } => reject::write(*kind, *code, w),
            Expr::Socket(key) => socket::write(*key, w),
            Expr::Other { .. } => {}
        }
    }

    /// Decodes the expressions of a rule.
    pub(super) fn read_list(bytes: &[u8]) -> Result<Vec<Expr>, Malformed> {
        Attributes::new(bytes)
            .map(|element| Expr::read(element?.1))
            .collect()
    }

    /// Decodes one element of the list.
    pub(super) fn read(bytes: &[u8]) -> Result<Expr, Malformed> {
        let element = AttributeTable::<3>::parse(bytes)?;
        let name = element.string(NFTA_EXPR_NAME)?;
        let data = element.get(NFTA_EXPR_DATA).unwrap_or_default();
        Ok(Expr::read_data(name, data).unwrap_or_else(|_| Expr::Other {
            name: name.to_owned(),
            data: data.to_vec(),
        }))
    }

    fn read_data(name: &str, data: &[u8]) -> Result<Expr, Malformed> {
        let a = Data::exact(data)?;
        match name {
            meta::NAME => meta::read(&a),
            ct::NAME => ct::read(&a),
            payload::NAME => payload::read(&a),
            bitwise::NAME => bitwise::read(&a),
            cmp::NAME => cmp::read(&a),
            range::NAME => range::read(&a),
            lookup::NAME => lookup::read(&a),
            counter::NAME => Ok(Expr::Counter),
            immediate::NAME => immediate::read(&a),
            compat::MATCH => compat::read_match(&a).map(Expr::Match),
            compat::TARGET => compat::read_target(&a).map(Expr::Target),
            redir::NAME => redir::read(&a),
            tproxy::NAME => tproxy::read(&a),
            reject::NAME => reject::read(&a),
            socket::NAME => socket::read(&a),
            _ => Err(Malformed),
        }
    }
}

/// An operand (`enum nft_data_attributes`).
fn write_value(w: &mut Writer, kind: u16, bytes: &[u8]) {
    w.nest(kind, |w| w.bytes(NFTA_DATA_VALUE, bytes));
}

/// Decodes an operand; [`Malformed`] if there is anything but a value.
fn read_value(a: &Data, kind: u16) -> Result<Vec<u8>, Malformed> {
    let value = AttributeTable::<2>::exact(a.bytes(kind)?)?;
    value.bytes(NFTA_DATA_VALUE).map(<[u8]>::to_vec)
}

/// Decodes 0 or 1.
fn read_flag(number: u32) -> Result<bool, Malformed> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

/// Fails unless the attribute is this register.
fn expect_register(a: &Data, kind: u16, register: u32) -> Result<(), Malformed> {
    match a.u32(kind)? == register {
        true => Ok(()),
        false => Err(Malformed),
    }
}

/// Fails if one of these attributes, which would change the meaning, exists.
fn expect_absent(a: &Data, kinds: &[u16]) -> Result<(), Malformed> {
    match kinds.iter().all(|kind| a.get(*kind).is_none()) {
        true => Ok(()),
        false => Err(Malformed),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::meta::{NFT_META_MARK, NFTA_META_DREG, NFTA_META_KEY};
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn through_bytes(exprs: &[Expr]) -> Vec<Expr> {
        let mut w = Writer::default();
        exprs.iter().for_each(|e| e.write(&mut w));
        Expr::read_list(w.as_slice()).expect("our own bytes are sound")
    }

    #[test]
    fn an_attribute_that_is_not_known_makes_the_expression_opaque() {
        let mut w = Writer::default();
        w.nest(NFTA_LIST_ELEM, |w| {
            w.string(NFTA_EXPR_NAME, "meta");
            w.nest(NFTA_EXPR_DATA, |w| {
                w.u32(NFTA_META_KEY, NFT_META_MARK);
                w.u32(NFTA_META_DREG, NFT_REG_1);
                w.u32(9, 1);
            });
        });
        let read = Expr::read_list(w.as_slice()).unwrap();
        assert!(
            matches!(&read[..], [Expr::Other { name, .. }] if name == "meta"),
            "{read:?}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Expr::read_list(&bytes);
            let _ = Expr::read(&bytes);
        }
    }
}
