//! Targets as native expressions, and back.

use crate::netfilter::model::{Family, RejectWith, Target};
use crate::netfilter::nftables::expr::reject::{NFT_REJECT_ICMP_UNREACH, NFT_REJECT_TCP_RST};
use crate::netfilter::nftables::expr::{Expr, NFT_REG_1, NFT_REG_2, Verdict, ct, meta};
use crate::netfilter::nftables::header::{address_of, octets, word};
use crate::netfilter::nftables::{NoForm, hooks, verdict};

/// Encodes a target.
///
/// # Errors
/// If nf_tables cannot express it: copying a masked part of one mark into another needs a bitwise
/// expression with two registers, which kernels before 6.13 lack.
pub(crate) fn write(target: &Target, family: Family, exprs: &mut Vec<Expr>) -> Result<(), NoForm> {
    if let Some(verdict) = verdict::write(target) {
        exprs.push(Expr::Verdict(verdict));
        return Ok(());
    }
    match target {
        Target::Redirect { to_port } => {
            exprs.extend([constant(&to_port.to_be_bytes()), Expr::Redirect]);
        }
        Target::Reject(with) => exprs.push(reject(*with, family).ok_or(NoForm)?),
        Target::Mark { value, mask } => set_mark(*value, *mask, exprs),
        Target::SaveMark {
            nfmask,
            ctmask: u32::MAX,
        } => {
            exprs.push(Expr::Meta(meta::NFT_META_MARK));
            exprs.extend(masked(*nfmask));
            exprs.push(Expr::CtSet(ct::NFT_CT_MARK));
        }
        Target::RestoreMark {
            nfmask: u32::MAX,
            ctmask,
        } => {
            exprs.push(Expr::Ct(ct::NFT_CT_MARK));
            exprs.extend(masked(*ctmask));
            exprs.push(Expr::MetaSet(meta::NFT_META_MARK));
        }
        Target::Tproxy {
            on_port,
            on_ip,
            value,
            mask,
        } => {
            let port = on_port.to_be_bytes();
            let address = *on_ip != family.unspecified();
            if address {
                exprs.push(constant(&octets(*on_ip)));
                exprs.push(Expr::Immediate {
                    register: NFT_REG_2,
                    value: port.to_vec(),
                });
            } else {
                exprs.push(constant(&port));
            }
            let family = u32::from(hooks::nfproto(family));
            exprs.push(Expr::Tproxy { family, address });
            set_mark(*value, *mask, exprs);
            exprs.push(Expr::Verdict(Verdict::Accept));
        }
        Target::CtZone(zone) => {
            exprs.extend([constant(&zone.to_ne_bytes()), Expr::CtSet(ct::NFT_CT_ZONE)]);
        }
        _ => return Err(NoForm),
    }
    Ok(())
}

/// Decodes what [`write`] writes.
pub(crate) fn read(exprs: &[Expr], family: Family) -> Option<Target> {
    let target = match exprs {
        [Expr::Verdict(v)] => verdict::read(v)?,
        [port, Expr::Redirect] => Target::Redirect {
            to_port: u16::from_be_bytes(value_of(port)?),
        },
        [reject @ Expr::Reject { .. }] => {
            let mut all = RejectWith::all();
            Target::Reject(all.find(|w| self::reject(*w, family).as_ref() == Some(reject))?)
        }
        [
            Expr::Meta(meta::NFT_META_MARK),
            mask @ ..,
            Expr::CtSet(ct::NFT_CT_MARK),
        ] => Target::SaveMark {
            nfmask: read_masked(mask)?,
            ctmask: u32::MAX,
        },
        [
            Expr::Ct(ct::NFT_CT_MARK),
            mask @ ..,
            Expr::MetaSet(meta::NFT_META_MARK),
        ] => Target::RestoreMark {
            nfmask: u32::MAX,
            ctmask: read_masked(mask)?,
        },
        [zone, Expr::CtSet(ct::NFT_CT_ZONE)] => Target::CtZone(u16::from_ne_bytes(value_of(zone)?)),
        [mark @ .., Expr::Verdict(Verdict::Accept)] => read_tproxy(mark, family)?,
        mark => {
            let (value, mask) = read_mark(mark)?;
            Target::Mark { value, mask }
        }
    };
    Some(target)
}

fn read_tproxy(exprs: &[Expr], family: Family) -> Option<Target> {
    let (port, on_ip, mark) = match exprs {
        [
            Expr::Immediate {
                register: NFT_REG_1,
                value: address,
            },
            Expr::Immediate {
                register: NFT_REG_2,
                value: port,
            },
            Expr::Tproxy { address: true, .. },
            mark @ ..,
        ] => (
            port.as_slice().try_into().ok()?,
            address_of(family, address)?,
            mark,
        ),
        [port, Expr::Tproxy { address: false, .. }, mark @ ..] => {
            (value_of(port)?, family.unspecified(), mark)
        }
        _ => return None,
    };
    let (value, mask) = read_mark(mark)?;
    Some(Target::Tproxy {
        on_port: u16::from_be_bytes(port),
        on_ip,
        value,
        mask,
    })
}

/// mark = (mark & !mask) ^ value.
fn set_mark(value: u32, mask: u32, exprs: &mut Vec<Expr>) {
    if mask == u32::MAX {
        exprs.push(constant(&value.to_ne_bytes()));
    } else {
        exprs.push(Expr::Meta(meta::NFT_META_MARK));
        exprs.push(Expr::Bitwise {
            mask: (!mask).to_ne_bytes().to_vec(),
            xor: value.to_ne_bytes().to_vec(),
        });
    }
    exprs.push(Expr::MetaSet(meta::NFT_META_MARK));
}

/// Value and mask of what [`set_mark`] writes.
fn read_mark(exprs: &[Expr]) -> Option<(u32, u32)> {
    match exprs {
        [value, Expr::MetaSet(meta::NFT_META_MARK)] => {
            Some((u32::from_ne_bytes(value_of(value)?), u32::MAX))
        }
        [
            Expr::Meta(meta::NFT_META_MARK),
            Expr::Bitwise { mask, xor },
            Expr::MetaSet(meta::NFT_META_MARK),
        ] => Some((word(xor)?, !word(mask)?)),
        _ => None,
    }
}

/// Masks a loaded mark; `None` for a full mask.
fn masked(mask: u32) -> Option<Expr> {
    (mask != u32::MAX).then(|| Expr::Bitwise {
        mask: mask.to_ne_bytes().to_vec(),
        xor: vec![0; 4],
    })
}

fn read_masked(exprs: &[Expr]) -> Option<u32> {
    match exprs {
        [] => Some(u32::MAX),
        [Expr::Bitwise { mask, xor }] if word(xor)? == 0 => word(mask),
        _ => None,
    }
}

fn constant(bytes: &[u8]) -> Expr {
    Expr::Immediate {
        register: NFT_REG_1,
        value: bytes.to_vec(),
    }
}

fn value_of<const N: usize>(expr: &Expr) -> Option<[u8; N]> {
    match expr {
        Expr::Immediate {
            register: NFT_REG_1,
            value,
        } => value.as_slice().try_into().ok(),
        _ => None,
    }
}

/// `None` if the family has no such reply.
fn reject(with: RejectWith, family: Family) -> Option<Expr> {
    let (kind, code) = match with {
        RejectWith::TcpReset => (NFT_REJECT_TCP_RST, 0),
        with => (NFT_REJECT_ICMP_UNREACH, with.icmp_code(family)?),
    };
    Some(Expr::Reject { kind, code })
}
