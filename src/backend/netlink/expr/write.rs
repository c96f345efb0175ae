//! Expressions on their way to the kernel.

use super::{
    AT_LEAST, AT_MOST, DATA, Expr, Extension, LIST_ELEMENT, NAME, REGISTER, SECOND,
    VERDICT_REGISTER, Verdict,
};
use crate::netlink::Writer;

impl Expr {
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
            Expr::Cmp { not, value } => compare(w, u32::from(*not), value),
            Expr::AtMost(value) => compare(w, AT_MOST, value),
            Expr::AtLeast(value) => compare(w, AT_LEAST, value),
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
    pub(super) const DROP: u32 = 0;
    pub(super) const ACCEPT: u32 = 1;
    pub(super) const RETURN: u32 = -5i32 as u32;
    pub(super) const GOTO: u32 = -4i32 as u32;
    pub(super) const JUMP: u32 = -3i32 as u32;

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

fn compare(w: &mut Writer, operation: u32, bytes: &[u8]) {
    numbers(w, &[(1, REGISTER), (2, operation)]);
    value(w, 3, bytes);
}

fn numbers(w: &mut Writer, attributes: &[(u16, u32)]) {
    for (kind, number) in attributes {
        w.u32(*kind, *number);
    }
}

fn value(w: &mut Writer, kind: u16, bytes: &[u8]) {
    w.nest(kind, |w| w.bytes(1, bytes));
}
