//! Expressions from a dump.

use super::{
    AT_LEAST, AT_MOST, DATA, Expr, Extension, NAME, REGISTER, SECOND, VERDICT_REGISTER, Verdict,
};
use crate::netlink::{AttributeTable, Attributes, Malformed};
use std::borrow::Cow;

type Data<'a> = AttributeTable<'a, 8>;

impl Expr {
    /// Reads the list of a rule's expressions.
    pub fn read_list(bytes: &[u8]) -> Result<Vec<Expr>, Malformed> {
        Attributes::new(bytes)
            .map(|element| Expr::read(element?.1))
            .collect()
    }

    /// Reads one expression: the content of an element of a rule's list.
    pub fn read(bytes: &[u8]) -> Result<Expr, Malformed> {
        let element = AttributeTable::<3>::parse(bytes)?;
        let name = element.string(NAME)?;
        let data = element.get(DATA).unwrap_or_default();
        Ok(read_data(name, data).unwrap_or_else(|_| Expr::Other(name.to_owned())))
    }
}

fn read_data(name: &str, data: &[u8]) -> Result<Expr, Malformed> {
    let a = Data::exact(data)?;
    match name {
        "meta" => read_keyed(&a, 3, Expr::Meta, Expr::MetaSet),
        "ct" => read_keyed(&a, 4, Expr::Ct, Expr::CtSet),
        "payload" => read_payload(&a),
        "bitwise" => read_bitwise(&a),
        "cmp" if a.u32(2)? == AT_MOST => {
            register(&a, 1, REGISTER)?;
            read_value(a.bytes(3)?).map(Expr::AtMost)
        }
        "cmp" if a.u32(2)? == AT_LEAST => {
            register(&a, 1, REGISTER)?;
            read_value(a.bytes(3)?).map(Expr::AtLeast)
        }
        "cmp" => Ok(Expr::Cmp {
            not: read_comparison(&a)?,
            value: read_value(a.bytes(3)?)?,
        }),
        "range" => Ok(Expr::Range {
            not: read_comparison(&a)?,
            from: read_value(a.bytes(3)?)?,
            to: read_value(a.bytes(4)?)?,
        }),
        "lookup" => read_lookup(&a),
        "counter" => Ok(Expr::Counter),
        "immediate" => read_immediate(&a),
        "match" => Extension::read(&a).map(Expr::Match),
        "target" => Extension::read(&a).map(Expr::Target),
        "redir" => read_redirect(&a),
        "tproxy" => read_tproxy(&a),
        "reject" => Ok(Expr::Reject {
            kind: a.u32(1)?,
            code: a
                .get(2)
                .map_or(Ok(0), |c| c.first().copied().ok_or(Malformed))?,
        }),
        "socket" => {
            register(&a, 2, REGISTER)?;
            absent(&a, 3)?;
            a.u32(1).map(Expr::Socket)
        }
        _ => Err(Malformed),
    }
}

/// `meta` and `ct`: a key that is loaded to a register or stored from one.
fn read_keyed(
    a: &Data,
    source: u16,
    load: fn(u32) -> Expr,
    store: fn(u32) -> Expr,
) -> Result<Expr, Malformed> {
    let key = a.u32(2)?;
    // A direction of ct.
    if source == 4 {
        absent(a, 3)?;
    }
    if a.get(1).is_some() {
        absent(a, source)?;
        register(a, 1, REGISTER)?;
        Ok(load(key))
    } else {
        register(a, source, REGISTER)?;
        Ok(store(key))
    }
}

fn read_payload(a: &Data) -> Result<Expr, Malformed> {
    register(a, 1, REGISTER)?;
    for write_only in 5..8 {
        absent(a, write_only)?;
    }
    Ok(Expr::Payload {
        base: a.u32(2)?,
        offset: a.u32(3)?,
        len: a.u32(4)?,
    })
}

fn read_bitwise(a: &Data) -> Result<Expr, Malformed> {
    register(a, 1, REGISTER)?;
    register(a, 2, REGISTER)?;
    // Mask and xor is the operation without a number, and the only one of old kernels.
    if a.get(6).is_some() && a.u32(6)? != 0 {
        return Err(Malformed);
    }
    absent(a, 7)?;
    Ok(Expr::Bitwise {
        mask: read_value(a.bytes(4)?)?,
        xor: read_value(a.bytes(5)?)?,
    })
}

fn read_lookup(a: &Data) -> Result<Expr, Malformed> {
    register(a, 2, REGISTER)?;
    absent(a, 3)?;
    Ok(Expr::Lookup {
        set: a.string(1)?.to_owned(),
        id: None,
        not: match a.get(5) {
            None => false,
            Some(_) => flag(a.u32(5)?)?,
        },
    })
}

fn read_immediate(a: &Data) -> Result<Expr, Malformed> {
    let to = a.u32(1)?;
    let data = AttributeTable::<3>::exact(a.bytes(2)?)?;
    match (to, data.get(1), data.get(2)) {
        (VERDICT_REGISTER, None, Some(verdict)) => Verdict::read(verdict).map(Expr::Verdict),
        (REGISTER | SECOND, Some(value), None) => Ok(Expr::Immediate {
            register: to,
            value: value.to_vec(),
        }),
        _ => Err(Malformed),
    }
}

fn read_redirect(a: &Data) -> Result<Expr, Malformed> {
    /// `NF_NAT_RANGE_PROTO_SPECIFIED`: there is a port.
    const PORT: u32 = 2;
    register(a, 1, REGISTER)?;
    if a.get(2).is_some() {
        register(a, 2, REGISTER)?;
    }
    match a.get(3) {
        Some(_) if a.u32(3)? != PORT => Err(Malformed),
        _ => Ok(Expr::Redirect),
    }
}

fn read_tproxy(a: &Data) -> Result<Expr, Malformed> {
    let address = a.get(2).is_some();
    if address {
        register(a, 2, REGISTER)?;
    }
    register(a, 3, if address { SECOND } else { REGISTER })?;
    Ok(Expr::Tproxy {
        family: a.u32(1)?,
        address,
    })
}

impl Verdict {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let a = AttributeTable::<3>::exact(bytes)?;
        let chain = || a.string(2).map(str::to_owned);
        match a.u32(1)? {
            Self::DROP => Ok(Verdict::Drop),
            Self::ACCEPT => Ok(Verdict::Accept),
            Self::RETURN => Ok(Verdict::Return),
            Self::JUMP => chain().map(Verdict::Jump),
            Self::GOTO => chain().map(Verdict::Goto),
            _ => Err(Malformed),
        }
    }
}

impl Extension {
    fn read(a: &Data) -> Result<Self, Malformed> {
        Ok(Extension {
            name: Cow::Owned(a.string(1)?.to_owned()),
            revision: a.u32(2)?,
            info: a.bytes(3)?.to_vec(),
        })
    }
}

/// The value in an attribute of nf_tables' data.
fn read_value(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    AttributeTable::<2>::exact(bytes)?
        .bytes(1)
        .map(<[u8]>::to_vec)
}

/// The register and the operation of `cmp` and `range`: whether it is "not equal"; others than that
/// and "equal" are not used.
fn read_comparison(a: &Data) -> Result<bool, Malformed> {
    register(a, 1, REGISTER)?;
    flag(a.u32(2)?)
}

fn flag(number: u32) -> Result<bool, Malformed> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn register(a: &Data, kind: u16, wanted: u32) -> Result<(), Malformed> {
    if a.u32(kind)? == wanted {
        Ok(())
    } else {
        Err(Malformed)
    }
}

fn absent(a: &Data, kind: u16) -> Result<(), Malformed> {
    if a.get(kind).is_none() {
        Ok(())
    } else {
        Err(Malformed)
    }
}
