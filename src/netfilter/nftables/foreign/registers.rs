//! The contents of registers: fields of the packet, constants, map values.

use super::attributes::Attrs;
use crate::netfilter::model::{Family, Field, Side};
use crate::netfilter::nftables::expr::{Expr, ct, meta, payload};
use crate::netfilter::nftables::hooks;
use nix::libc;

/// Fields in a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    pub fields: Vec<Field>,
    /// The loaded length, which may be a prefix of the fields.
    pub length: usize,
    /// value = (field & mask) ^ xor, of a single field.
    pub mask: u128,
    pub xor: u128,
    /// It is in host byte order.
    pub host_order: bool,
    /// It is an interface index instead of a name.
    pub is_index: bool,
}

pub(super) enum Load {
    Fields(Loaded),
    /// A constant for the family.
    Constant(Vec<u8>),
}

impl Load {
    fn of(field: Field, length: usize) -> Self {
        Load::Fields(Loaded {
            length,
            mask: u128::MAX,
            xor: 0,
            host_order: field.is_in_host_order(),
            is_index: false,
            fields: vec![field],
        })
    }

    fn whole(field: Field) -> Self {
        let length = field.length();
        Load::of(field, length)
    }

    /// An unknown field.
    fn other(name: impl Into<String>, length: usize) -> Self {
        Load::of(Field::Other(name.into().into()), length)
    }
}

/// The register that an expression loads, and its content.
pub(super) fn load(expr: &Expr, family: Family) -> Option<(u32, Load)> {
    const NFT_REG_1: u32 = 1;
    Some(match expr {
        Expr::Meta(key) => (NFT_REG_1, of_meta(*key, family)),
        Expr::Ct(key) => (NFT_REG_1, of_ct(*key, None, family)),
        Expr::Payload { base, offset, len } => {
            (NFT_REG_1, of_payload(*base, *offset, *len, family))
        }
        Expr::Socket(key) => {
            let name = match key {
                0 => "socket transparent",
                1 => "socket mark",
                2 => "socket wildcard",
                _ => "socket cgroupv2",
            };
            (NFT_REG_1, Load::other(name, 1))
        }
        Expr::Other { name, data } => other(name, &Attrs::new(data), family)?,
        _ => return None,
    })
}

fn other(name: &str, a: &Attrs, family: Family) -> Option<(u32, Load)> {
    // The attribute that names the register (`NFTA_*_DREG`).
    let register = a.u32(match name {
        "meta" | "ct" | "payload" | "fib" | "numgen" | "rt" | "exthdr" | "osf" | "xfrm" => 1,
        "socket" | "hash" | "tunnel" => 2,
        _ => return None,
    })?;
    let load = match name {
        "meta" => of_meta(a.u32(2)?, family),
        "ct" => of_ct(a.u32(2)?, a.u8(3), family),
        "payload" => of_payload(a.u32(2)?, a.u32(3)?, a.u32(4)?, family),
        "fib" => of_fib(a.u32(2)?, a.u32(3)?),
        "numgen" => {
            let kind = if a.u32(3)? == 1 { "random" } else { "inc" };
            Load::other(format!("numgen {kind} mod {}", a.u32(2)?), 4)
        }
        "hash" if a.u32(7) == Some(1) => Load::other(format!("symhash mod {}", a.u32(4)?), 4),
        "hash" => Load::other(format!("jhash mod {}", a.u32(4)?), 4),
        "rt" => Load::other("rt", 4),
        "exthdr" => Load::other("exthdr", a.u32(4).unwrap_or(1) as usize),
        name => Load::other(name, 16),
    };
    Some((register, load))
}

fn of_meta(key: u32, family: Family) -> Load {
    const IIF: u32 = libc::NFT_META_IIF as u32;
    const OIF: u32 = libc::NFT_META_OIF as u32;
    const PROTOCOL: u32 = libc::NFT_META_PROTOCOL as u32;
    const PKTTYPE: u32 = libc::NFT_META_PKTTYPE as u32;
    const BRI_IIFNAME: u32 = libc::NFT_META_BRI_IIFNAME as u32;
    const BRI_OIFNAME: u32 = libc::NFT_META_BRI_OIFNAME as u32;
    const SECPATH: u32 = 25;
    let index = |field: Field| {
        Load::Fields(Loaded {
            fields: vec![field],
            length: 4,
            mask: u128::MAX,
            xor: 0,
            host_order: true,
            is_index: true,
        })
    };
    match key {
        meta::NFT_META_MARK => Load::whole(Field::Mark),
        meta::NFT_META_SKUID => Load::whole(Field::Uid),
        meta::NFT_META_SKGID => Load::whole(Field::Gid),
        meta::NFT_META_IIFNAME => Load::whole(Field::InInterface),
        meta::NFT_META_OIFNAME => Load::whole(Field::OutInterface),
        meta::NFT_META_L4PROTO => Load::whole(Field::Protocol),
        meta::NFT_META_NFPROTO => Load::Constant(vec![hooks::nfproto(family)]),
        PROTOCOL => Load::Constant(match family {
            Family::V4 => vec![0x08, 0x00],
            Family::V6 => vec![0x86, 0xdd],
        }),
        IIF => index(Field::InInterface),
        OIF => index(Field::OutInterface),
        PKTTYPE => Load::whole(Field::PacketType),
        SECPATH => Load::whole(Field::Ipsec),
        BRI_IIFNAME | BRI_OIFNAME => Load::of(Field::Bridged, 16),
        key => {
            const NAMES: [(u32, &str); 6] = [
                (0, "meta length"),
                (2, "meta priority"),
                (20, "meta cpu"),
                (21, "meta iifgroup"),
                (22, "meta oifgroup"),
                (23, "meta cgroup"),
            ];
            let name = NAMES.iter().find(|(known, _)| *known == key);
            Load::other(name.map_or("meta", |(_, name)| name), 4)
        }
    }
}

fn of_ct(key: u32, direction: Option<u8>, family: Family) -> Load {
    const REPLY: u8 = 1;
    const DIRECTION: u32 = libc::NFT_CT_DIRECTION as u32;
    const STATUS: u32 = libc::NFT_CT_STATUS as u32;
    const L3PROTOCOL: u32 = libc::NFT_CT_L3PROTOCOL as u32;
    const SRC: u32 = libc::NFT_CT_SRC as u32;
    const DST: u32 = libc::NFT_CT_DST as u32;
    const PROTOCOL: u32 = libc::NFT_CT_PROTOCOL as u32;
    const PROTO_SRC: u32 = libc::NFT_CT_PROTO_SRC as u32;
    const PROTO_DST: u32 = libc::NFT_CT_PROTO_DST as u32;
    const SRC_IP: u32 = 19;
    const DST_IP: u32 = 20;
    const SRC_IP6: u32 = 21;
    const DST_IP6: u32 = 22;
    let address = |side| Load::whole(Field::OriginalAddress(family, side));
    match key {
        _ if direction == Some(REPLY) => Load::other("ct reply", 16),
        ct::NFT_CT_STATE => Load::whole(Field::CtState),
        ct::NFT_CT_MARK => Load::whole(Field::Connmark),
        ct::NFT_CT_ZONE => Load::whole(Field::CtZone),
        DIRECTION => Load::whole(Field::CtDirection),
        STATUS => Load::whole(Field::CtStatus),
        L3PROTOCOL => Load::Constant(vec![hooks::nfproto(family)]),
        SRC | SRC_IP | SRC_IP6 => address(Side::Source),
        DST | DST_IP | DST_IP6 => address(Side::Destination),
        PROTOCOL => Load::whole(Field::OriginalProtocol),
        PROTO_SRC => Load::whole(Field::OriginalPort(Side::Source)),
        PROTO_DST => Load::whole(Field::OriginalPort(Side::Destination)),
        _ => Load::other("ct", 16),
    }
}

/// nft loads adjacent fields together.
fn of_payload(base: u32, offset: u32, len: u32, family: Family) -> Load {
    const NFT_PAYLOAD_LL_HEADER: u32 = 0;
    let length = len as usize;
    let fields: &[(u32, Field)] = match (base, family) {
        (NFT_PAYLOAD_LL_HEADER, _) => &[(6, Field::EtherSource)],
        (payload::NFT_PAYLOAD_NETWORK_HEADER, Family::V4) => &[
            (6, Field::FragmentOffset),
            (9, Field::Protocol),
            (12, Field::Address(Family::V4, Side::Source)),
            (16, Field::Address(Family::V4, Side::Destination)),
        ],
        (payload::NFT_PAYLOAD_NETWORK_HEADER, Family::V6) => &[
            (6, Field::Protocol),
            (8, Field::Address(Family::V6, Side::Source)),
            (24, Field::Address(Family::V6, Side::Destination)),
        ],
        (payload::NFT_PAYLOAD_TRANSPORT_HEADER, Family::V4) if (offset, len) == (0, 1) => {
            &[(0, Field::IcmpType(Family::V4))]
        }
        (payload::NFT_PAYLOAD_TRANSPORT_HEADER, Family::V6) if (offset, len) == (0, 1) => {
            &[(0, Field::IcmpType(Family::V6))]
        }
        (payload::NFT_PAYLOAD_TRANSPORT_HEADER, _) => &[
            (0, Field::Port(Side::Source)),
            (2, Field::Port(Side::Destination)),
            (13, Field::TcpFlags),
        ],
        _ => &[],
    };
    let mut covered = 0;
    let mut found = Vec::new();
    for (at, field) in fields {
        if *at == offset + covered && covered < len {
            covered += field.length() as u32;
            found.push(field.clone());
        }
    }
    // A prefix of a single field may suffice.
    let is_whole = covered == len || (found.len() == 1 && covered > len);
    match (is_whole, found.as_slice()) {
        (true, [field]) => Load::of(field.clone(), length),
        (true, [_, ..]) => Load::Fields(Loaded {
            fields: found,
            length,
            mask: u128::MAX,
            xor: 0,
            host_order: false,
            is_index: false,
        }),
        _ => {
            let base = ["ll", "nh", "th"]
                .get(base as usize)
                .copied()
                .unwrap_or("ih");
            Load::other(format!("@{base},{},{}", 8 * offset, 8 * len), length)
        }
    }
}

fn of_fib(result: u32, flags: u32) -> Load {
    const OIF: u32 = 1;
    const ADDRTYPE: u32 = 3;
    const SADDR: u32 = 1;
    const DADDR: u32 = 2;
    const MARK: u32 = 4;
    const IIF: u32 = 8;
    const PRESENT: u32 = 32;
    match (result, flags & !MARK) {
        (ADDRTYPE, SADDR) => Load::whole(Field::AddressType(Side::Source)),
        (ADDRTYPE, DADDR) => Load::whole(Field::AddressType(Side::Destination)),
        (OIF, flags) if flags == SADDR | IIF | PRESENT => Load::of(Field::ReversePath, 1),
        _ => Load::other("fib", 16),
    }
}
