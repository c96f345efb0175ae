//! nf_tables' expressions as values, as far as either encoding needs them.
//!
//! Attribute numbers are those of linux/netfilter/nf_tables.h. Everything passes through the first
//! register, as it does with iptables-nft; an expression with an attribute or a register that is
//! not known here is [`Expr::Other`].

mod read;

use crate::netlink::Writer;
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

    /// Writes the expression as an element of a rule's list. [`Expr::Other`] has no form to write
    /// and is left to the kernel to refuse.
    pub fn write(&self, w: &mut Writer) {
        w.nest(LIST_ELEMENT, |w| {
            w.string(NAME, self.name());
            w.nest(DATA, |w| self.write_data(w));
        });
    }

    fn write_data(&self, w: &mut Writer) {
        match self {
            Expr::Meta(key) | Expr::Ct(key) => numbers(w, &[(2, *key), (1, REGISTER)]),
            Expr::MetaSet(key) => numbers(w, &[(2, *key), (3, REGISTER)]),
            Expr::CtSet(key) => numbers(w, &[(2, *key), (4, REGISTER)]),
            Expr::Payload { base, offset, len } => {
                numbers(w, &[(1, REGISTER), (2, *base), (3, *offset), (4, *len)]);
            }
            Expr::Bitwise { mask, xor } => {
                numbers(w, &[(1, REGISTER), (2, REGISTER), (3, mask.len() as u32)]);
                value(w, 4, mask);
                value(w, 5, xor);
            }
            Expr::Cmp { not, value: v } => {
                numbers(w, &[(1, REGISTER), (2, u32::from(*not))]);
                value(w, 3, v);
            }
            Expr::AtMost(v) | Expr::AtLeast(v) => {
                let operation = match self {
                    Expr::AtMost(_) => AT_MOST,
                    _ => AT_LEAST,
                };
                numbers(w, &[(1, REGISTER), (2, operation)]);
                value(w, 3, v);
            }
            Expr::Range { not, from, to } => {
                numbers(w, &[(1, REGISTER), (2, u32::from(*not))]);
                value(w, 3, from);
                value(w, 4, to);
            }
            Expr::Lookup { set, id, not } => {
                w.string(1, set);
                numbers(w, &[(2, REGISTER), (5, u32::from(*not))]);
                if let Some(id) = id {
                    w.u32(4, *id);
                }
            }
            Expr::Counter => {
                w.u64(1, 0);
                w.u64(2, 0);
            }
            Expr::Immediate { register, value: v } => {
                w.u32(1, *register);
                value(w, 2, v);
            }
            Expr::Verdict(verdict) => {
                w.u32(1, VERDICT_REGISTER);
                w.nest(2, |w| verdict.write(w));
            }
            Expr::Match(extension) | Expr::Target(extension) => extension.write(w),
            Expr::Redirect => w.u32(1, REGISTER),
            Expr::Tproxy {
                family,
                address: true,
            } => numbers(w, &[(1, *family), (2, REGISTER), (3, SECOND)]),
            Expr::Tproxy {
                family,
                address: false,
            } => numbers(w, &[(1, *family), (3, REGISTER)]),
            Expr::Reject { kind, code } => {
                w.u32(1, *kind);
                w.bytes(2, &[*code]);
            }
            Expr::Socket(key) => numbers(w, &[(1, *key), (2, REGISTER)]),
            Expr::Other(_) => {}
        }
    }
}

impl Verdict {
    const DROP: u32 = 0;
    const ACCEPT: u32 = 1;
    const RETURN: u32 = -5i32 as u32;
    const GOTO: u32 = -4i32 as u32;
    const JUMP: u32 = -3i32 as u32;

    fn write(&self, w: &mut Writer) {
        let (code, chain) = match self {
            Verdict::Drop => (Self::DROP, None),
            Verdict::Accept => (Self::ACCEPT, None),
            Verdict::Return => (Self::RETURN, None),
            Verdict::Jump(chain) => (Self::JUMP, Some(chain)),
            Verdict::Goto(chain) => (Self::GOTO, Some(chain)),
        };
        w.nest(2, |w| {
            w.u32(1, code);
            if let Some(chain) = chain {
                w.string(2, chain);
            }
        });
    }
}

impl Extension {
    fn write(&self, w: &mut Writer) {
        w.string(1, &self.name);
        w.u32(2, self.revision);
        w.bytes(3, &self.info);
    }
}

fn numbers(w: &mut Writer, attributes: &[(u16, u32)]) {
    for (kind, number) in attributes {
        w.u32(*kind, *number);
    }
}

fn value(w: &mut Writer, kind: u16, bytes: &[u8]) {
    w.nest(kind, |w| w.bytes(1, bytes));
}

#[cfg(test)]
pub mod tests {
    use super::*;
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
                numbers(w, &[(2, meta::MARK), (1, REGISTER), (9, 1)]);
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
