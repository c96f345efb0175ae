//! nf_tables' expressions as values, as far as either encoding needs them.
//!
//! Attribute numbers are those of linux/netfilter/nf_tables.h. Everything passes through the first
//! register, as it does with iptables-nft; an expression with an attribute or a register that is
//! not known here is [`Expr::Other`].

mod read;
mod write;

use std::borrow::Cow;

/// The register that values pass through, and the one beside it for a second operand.
pub const REGISTER: u32 = 1;
pub const SECOND: u32 = 2;
const VERDICT_REGISTER: u32 = 0;
/// `NFT_CMP_LTE` and `NFT_CMP_GTE`.
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

const NAME: u16 = 1;
const DATA: u16 = 2;
const LIST_ELEMENT: u16 = 1;

/// `NFT_META_*`.
pub mod meta {
    pub const MARK: u32 = 3;
    pub const IIFNAME: u32 = 6;
    pub const OIFNAME: u32 = 7;
    pub const SKUID: u32 = 10;
    pub const SKGID: u32 = 11;
    pub const L4PROTO: u32 = 16;
}

/// `NFT_CT_*`.
pub mod ct {
    pub const STATE: u32 = 0;
    pub const MARK: u32 = 3;
    pub const ZONE: u32 = 17;
}

/// `NFT_SOCKET_*`.
pub mod socket {
    pub const TRANSPARENT: u32 = 0;
    pub const WILDCARD: u32 = 2;
}

/// `NFT_PAYLOAD_*`.
pub mod base {
    pub const NETWORK: u32 = 1;
    pub const TRANSPORT: u32 = 2;
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Drop,
    Accept,
    Return,
    Jump(String),
    Goto(String),
}

/// An x_tables match or target with its binary argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    pub name: Cow<'static, str>,
    pub revision: u32,
    pub info: Vec<u8>,
}

/// One step of a rule; a rule goes on as long as its steps hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads a `meta` key.
    Meta(u32),
    /// Stores to a `meta` key.
    MetaSet(u32),
    /// Loads a `ct` key.
    Ct(u32),
    /// Stores to a `ct` key.
    CtSet(u32),
    /// Loads bytes of a header.
    Payload {
        base: u32,
        offset: u32,
        len: u32,
    },
    /// value = (value & mask) ^ xor.
    Bitwise {
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Holds if the value is (`not`: is not) this.
    Cmp {
        not: bool,
        value: Vec<u8>,
    },
    /// Holds if the value is not greater than this, in the network's order.
    AtMost(Vec<u8>),
    /// Holds if the value is not less than this.
    AtLeast(Vec<u8>),
    /// Holds if the value lies (`not`: does not lie) between these, both included.
    Range {
        not: bool,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// Holds if the value is (`not`: is not) in a set. The id names a set of the same batch.
    Lookup {
        set: String,
        id: Option<u32>,
        not: bool,
    },
    Counter,
    /// Loads a constant into a register.
    Immediate {
        register: u32,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    Match(Extension),
    Target(Extension),
    /// Redirects to the port in the register.
    Redirect,
    /// Hands to a transparent socket on the port in the register; with an address, that is in the
    /// register and the port in the second one.
    Tproxy {
        family: u32,
        address: bool,
    },
    /// Refuses: `NFT_REJECT_*` and an ICMP code.
    Reject {
        kind: u32,
        code: u8,
    },
    /// Loads what is known of the packet's socket (`NFT_SOCKET_*`).
    Socket(u32),
    /// Not understood; its name.
    Other(String),
}

impl Expr {
    /// The name by which the kernel knows the expression.
    pub fn name(&self) -> &str {
        match self {
            Expr::Meta(_) | Expr::MetaSet(_) => "meta",
            Expr::Ct(_) | Expr::CtSet(_) => "ct",
            Expr::Payload { .. } => "payload",
            Expr::Bitwise { .. } => "bitwise",
            Expr::Cmp { .. } | Expr::AtMost(_) | Expr::AtLeast(_) => "cmp",
            Expr::Range { .. } => "range",
            Expr::Lookup { .. } => "lookup",
            Expr::Counter => "counter",
            Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
            Expr::Match(_) => "match",
            Expr::Target(_) => "target",
            Expr::Redirect => "redir",
            Expr::Tproxy { .. } => "tproxy",
            Expr::Reject { .. } => "reject",
            Expr::Socket(_) => "socket",
            Expr::Other(name) => name,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::netlink::Writer;
    use proptest::prelude::*;

    /// The expressions as they come back from the bytes that were written.
    pub fn through_bytes(exprs: &[Expr]) -> Vec<Expr> {
        let mut w = Writer::default();
        exprs.iter().for_each(|e| e.write(&mut w));
        Expr::read_list(w.as_slice()).expect("our own bytes are sound")
    }

    #[test]
    fn an_attribute_that_is_not_known_makes_the_expression_opaque() {
        let mut w = Writer::default();
        w.nest(LIST_ELEMENT, |w| {
            w.string(NAME, "meta");
            w.nest(DATA, |w| {
                for (kind, value) in [(2, meta::MARK), (1, REGISTER), (9, 1)] {
                    w.u32(kind, value);
                }
            });
        });
        let read = Expr::read_list(w.as_slice()).unwrap();
        assert_eq!(read, [Expr::Other("meta".to_owned())]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Expr::read_list(&bytes);
            let _ = Expr::read(&bytes);
        }
    }
}
