//! The messages of rtnetlink that are needed (rtnetlink(7), linux/fib_rules.h, linux/rtnetlink.h,
//! linux/if_addr.h). Numbers are in host byte order.

use crate::netfilter::model::{Family, Interface, PolicyRoute, Routing};
use crate::netfilter::netlink::{
    AttributeTable, Malformed, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, Writer, u32_ne,
};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

pub(super) const GET_ADDRESS: u16 = 22;
pub(super) const GET_LINK: u16 = 18;

/// The index of lo in every network namespace (`LOOPBACK_IFINDEX`).
pub(super) const LOOPBACK: u32 = 1;

/// An object that can be added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The `fwmark` rule, with its priority.
    Rule(PolicyRoute, u32),
    /// The route in the rule's table.
    Route(PolicyRoute),
    /// An address of lo.
    Address(IpNet),
}

impl Item {
    pub(super) fn family(&self) -> Family {
        match self {
            Item::Rule(policy, _) | Item::Route(policy) => policy.family,
            Item::Address(address) => Family::of(address.addr()),
        }
    }

    /// Whether it is part of this routing.
    pub(super) fn is_of(&self, routing: &Routing) -> bool {
        match self {
            Item::Rule(policy, _) | Item::Route(policy) => routing.policy_routes.contains(policy),
            Item::Address(address) => {
                let mut addresses = routing.loopback_addresses.iter();
                addresses.any(|a| a.0 == *address)
            }
        }
    }

    pub(super) fn write_new(&self, w: &mut Writer, sequence: u32) {
        self.write(w, sequence, 0, NLM_F_CREATE | NLM_F_EXCL);
    }

    pub(super) fn write_delete(&self, w: &mut Writer, sequence: u32) {
        self.write(w, sequence, 1, 0);
    }

    /// Types come in fours: new, delete, get, set.
    fn write(&self, w: &mut Writer, sequence: u32, action: u16, flags: u16) {
        let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
        let get = match self {
            Item::Rule(..) => Rule::GET,
            Item::Route(_) => Route::GET,
            Item::Address(_) => GET_ADDRESS,
        };
        w.message(get - 2 + action, flags, sequence, |w| match self {
            Item::Rule(policy, priority) => write_rule(w, policy, *priority),
            Item::Route(policy) => write_route(w, policy),
            Item::Address(address) => write_address(w, *address),
        });
    }
}

/// As iproute2 shows it.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Rule(PolicyRoute { mark, table, .. }, _) => {
                write!(
                    f,
                    "the {} rule \"fwmark {mark:#x} lookup {table}\"",
                    self.family()
                )
            }
            Item::Route(PolicyRoute { table, .. }) => {
                let family = self.family();
                write!(
                    f,
                    "the {family} route \"local default dev lo table {table}\""
                )
            }
            Item::Address(address) => write!(f, "the address {address} of lo"),
        }
    }
}

/// Requests a dump of one family or of all, with the longest header, that of routes.
pub(super) fn write_dump(w: &mut Writer, family: Option<Family>) {
    const AF_UNSPEC: u8 = 0;
    w.raw(&[family.map_or(AF_UNSPEC, number_of)]);
    w.raw(&[0; HEADER - 1]);
}

/// The header of rules and routes.
const HEADER: usize = 12;

/// `FRA_*`.
mod fra {
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const MARK: u16 = 10;
    pub(super) const SUPPRESS_PREFIX: u16 = 14;
    pub(super) const TABLE: u16 = 15;
    pub(super) const MASK: u16 = 16;
    pub(super) const PAD: u16 = 18;
    pub(super) const PROTOCOL: u16 = 21;

    /// Attributes that do not restrict a rule.
    pub(super) const PLAIN: [u16; 7] =
        [PRIORITY, MARK, SUPPRESS_PREFIX, TABLE, MASK, PAD, PROTOCOL];
}

/// `RTA_*`.
mod rta {
    pub(super) const DESTINATION: u16 = 1;
    pub(super) const OUT: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const SOURCE: u16 = 7;
    pub(super) const MULTIPATH: u16 = 9;
    pub(super) const TABLE: u16 = 15;
    pub(super) const VIA: u16 = 18;
    pub(super) const NEXT_HOP: u16 = 30;
}

/// `IFA_*`.
mod ifa {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    /// IFA_F_NODAD: no duplicate address detection, which is pointless on lo and keeps the address
    /// from being bound until it is done.
    pub(super) const NO_DAD: u8 = 2;
}

/// A policy rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub family: Family,
    pub priority: u32,
    /// The table that it looks up, if any.
    pub table: Option<u32>,
    /// Its policy, if it only matches a mark and looks up a table.
    pub marked: Option<PolicyRoute>,
}

impl Rule {
    pub(super) const GET: u16 = 34;
    /// `FR_ACT_TO_TBL`.
    const TO_TABLE: u8 = 1;

    /// Decodes a rule; `None` for other families.
    pub(super) fn read(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        /// `FIB_RULE_INVERT`.
        const INVERTED: u8 = 2;
        let (header, attributes) = payload.split_at_checked(HEADER).ok_or(Malformed)?;
        let a = AttributeTable::<32>::parse(attributes)?;
        let Some(family) = family_of(header) else {
            return Ok(None);
        };
        let narrowed =
            header[1..4] != [0; 3] || u32_ne(header, 8).ok_or(Malformed)? as u8 & INVERTED != 0;
        let plain = a.is_complete()
            && a.kinds().all(|kind| fra::PLAIN.contains(&kind))
            && read_number(&a, fra::SUPPRESS_PREFIX).is_none_or(|n| n == u32::MAX)
            && read_number(&a, fra::MASK) == Some(u32::MAX)
            && header[7] == Self::TO_TABLE
            && !narrowed;
        let table = read_number(&a, fra::TABLE).unwrap_or(u32::from(header[4]));
        let mark = read_number(&a, fra::MARK).filter(|_| plain);
        Ok(Some(Rule {
            family,
            table: (header[7] == Self::TO_TABLE).then_some(table),
            priority: read_number(&a, fra::PRIORITY).unwrap_or(0),
            marked: mark.map(|mark| PolicyRoute {
                family,
                mark,
                table,
            }),
        }))
    }
}

fn write_rule(w: &mut Writer, policy: &PolicyRoute, priority: u32) {
    w.raw(&[number_of(policy.family), 0, 0, 0, 0, 0, 0, Rule::TO_TABLE]);
    w.raw(&[0; 4]);
    write_number(w, fra::PRIORITY, priority);
    write_number(w, fra::MARK, policy.mark);
    write_number(w, fra::TABLE, policy.table);
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub family: Family,
    pub table: u32,
    /// It is `local default dev lo`.
    pub to_loopback: bool,
}

impl Route {
    pub(super) const GET: u16 = 26;
    /// `RTN_LOCAL`.
    const LOCAL: u8 = 2;

    /// Decodes a route; `None` for other families and cached copies.
    pub(super) fn read(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        /// `RTM_F_CLONED`.
        const CLONED: u32 = 0x200;
        const ELSEWHERE: [u16; 4] = [rta::GATEWAY, rta::MULTIPATH, rta::VIA, rta::NEXT_HOP];
        let (header, attributes) = payload.split_at_checked(HEADER).ok_or(Malformed)?;
        let a = AttributeTable::<32>::parse(attributes)?;
        let cloned = u32_ne(header, 8).ok_or(Malformed)? & CLONED != 0;
        let Some(family) = family_of(header).filter(|_| !cloned) else {
            return Ok(None);
        };
        let default = header[1..4] == [0; 3];
        Ok(Some(Route {
            family,
            table: read_number(&a, rta::TABLE).unwrap_or(u32::from(header[4])),
            to_loopback: default
                && header[7] == Self::LOCAL
                && read_number(&a, rta::OUT) == Some(LOOPBACK)
                && a.kinds().all(|kind| !ELSEWHERE.contains(&kind)),
        }))
    }
}

fn write_route(w: &mut Writer, policy: &PolicyRoute) {
    /// `RTPROT_BOOT` and `RT_SCOPE_HOST`, as iproute2 uses them for local routes.
    const BOOT: u8 = 3;
    const HOST: u8 = 254;
    w.raw(&[
        number_of(policy.family),
        0,
        0,
        0,
        0,
        BOOT,
        HOST,
        Route::LOCAL,
    ]);
    w.raw(&[0; 4]);
    write_number(w, rta::OUT, LOOPBACK);
    write_number(w, rta::TABLE, policy.table);
}

/// Decodes an address of lo; `None` for other interfaces and families.
pub(super) fn read_loopback_address(payload: &[u8]) -> Result<Option<IpNet>, Malformed> {
    let found = read_address(payload)?;
    Ok(found.filter(|a| a.interface == LOOPBACK).map(|a| a.net))
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The interface index.
    pub interface: u32,
    pub net: IpNet,
    /// Duplicate address detection has succeeded.
    pub is_usable: bool,
}

/// Decodes an address; `None` for other families.
pub(super) fn read_address(payload: &[u8]) -> Result<Option<Address>, Malformed> {
    /// IFA_F_TENTATIVE and IFA_F_DADFAILED.
    const UNUSABLE: u8 = 0x40 | 0x08;
    let (header, attributes) = payload.split_at_checked(8).ok_or(Malformed)?;
    let Some(family) = family_of(header) else {
        return Ok(None);
    };
    let a = AttributeTable::<16>::parse(attributes)?;
    let bytes = a.get(ifa::LOCAL).or(a.get(ifa::ADDRESS)).ok_or(Malformed)?;
    let net = IpNet::new(address_of(family, bytes)?, header[1]);
    Ok(Some(Address {
        interface: u32_ne(header, 4).ok_or(Malformed)?,
        net: net.map_err(|_| Malformed)?,
        is_usable: header[2] & UNUSABLE == 0,
    }))
}

fn address_of(family: Family, bytes: &[u8]) -> Result<IpAddr, Malformed> {
    let address = match family {
        Family::V4 => <[u8; 4]>::try_from(bytes).map(IpAddr::from),
        Family::V6 => <[u8; 16]>::try_from(bytes).map(IpAddr::from),
    };
    address.map_err(|_| Malformed)
}

/// Decodes the index and name of an interface; bytes of the name that are not UTF-8 become U+FFFD.
pub(super) fn read_link(payload: &[u8]) -> Result<(u32, Interface), Malformed> {
    /// `IFLA_IFNAME`.
    const NAME: u16 = 3;
    let (header, attributes) = payload.split_at_checked(16).ok_or(Malformed)?;
    let a = AttributeTable::<4>::parse(attributes)?;
    let index = u32_ne(header, 4).ok_or(Malformed)?;
    Ok((index, Interface::observed(name(&a, NAME)?)))
}

/// Reads the name of an interface that is a bridge; `None` if it is something else.
pub(super) fn read_bridge(payload: &[u8]) -> Result<Option<String>, Malformed> {
    /// `IFLA_IFNAME`, `IFLA_LINKINFO`, and in that `IFLA_INFO_KIND`.
    const NAME: u16 = 3;
    const LINK_INFO: u16 = 18;
    const KIND: u16 = 1;
    let (_, attributes) = payload.split_at_checked(16).ok_or(Malformed)?;
    let a = AttributeTable::<19>::parse(attributes)?;
    let Some(info) = a.get(LINK_INFO) else {
        return Ok(None);
    };
    let info = AttributeTable::<2>::parse(info)?;
    let is_bridge = info.get(KIND).is_some() && info.string(KIND)? == "bridge";
    is_bridge.then(|| name(&a, NAME)).transpose()
}

/// The name of an interface, which may be any bytes.
fn name<const N: usize>(a: &AttributeTable<N>, kind: u16) -> Result<String, Malformed> {
    let bytes = a.bytes(kind)?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// `IFF_UP`.
const UP: u32 = 1;

/// Refers to lo, to request it or to bring it up.
pub(super) fn write_loopback(w: &mut Writer, up: bool) {
    let flags = if up { UP } else { 0 };
    w.raw(&[0; 4]);
    w.raw(&LOOPBACK.to_ne_bytes());
    // The flags, and the mask of flags to change.
    w.raw(&flags.to_ne_bytes());
    w.raw(&flags.to_ne_bytes());
}

pub(super) fn write_loopback_up(w: &mut Writer, sequence: u32) {
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    w.message(GET_LINK - 2, flags, sequence, |w| write_loopback(w, true));
}

/// Whether the interface in a message is up.
pub(super) fn read_is_up(payload: &[u8]) -> Result<bool, Malformed> {
    Ok(u32_ne(payload, 8).ok_or(Malformed)? & UP != 0)
}

/// The IPv6 setting of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ipv6Switch {
    pub is_loopback: bool,
    pub on: bool,
}

/// Decodes it; `None` if the message has no IPv6 data, as in kernels without IPv6.
///
/// The kernel replies for AF_INET6 with `IFLA_PROTINFO`, which contains `IFLA_INET6_CONF`, an array
/// of the values of `net.ipv6.conf.NAME` (linux/if_link.h, linux/ipv6.h).
pub(super) fn read_ipv6_switch(payload: &[u8]) -> Result<Option<Ipv6Switch>, Malformed> {
    const PROTINFO: u16 = 12;
    const INET6_CONF: u16 = 2;
    const DEVCONF_DISABLE_IPV6: usize = 26;
    let (header, attributes) = payload.split_at_checked(16).ok_or(Malformed)?;
    if header[0] != number_of(Family::V6) {
        return Ok(None);
    }
    let link = AttributeTable::<16>::parse(attributes)?;
    let Some(protocol) = link.get(PROTINFO) else {
        return Ok(None);
    };
    let protocol = AttributeTable::<8>::parse(protocol)?;
    let conf = protocol.get(INET6_CONF);
    let disabled = conf.and_then(|conf| u32_ne(conf, 4 * DEVCONF_DISABLE_IPV6));
    Ok(disabled.map(|disabled| Ipv6Switch {
        is_loopback: u32_ne(header, 4) == Some(LOOPBACK),
        on: disabled == 0,
    }))
}

/// Requests the route to an address.
pub(super) fn write_route_to(w: &mut Writer, to: IpAddr) {
    let family = Family::of(to);
    w.raw(&[number_of(family), family.bits()]);
    w.raw(&[0; HEADER - 2]);
    match to {
        IpAddr::V4(a) => w.bytes(rta::DESTINATION, &a.octets()),
        IpAddr::V6(a) => w.bytes(rta::DESTINATION, &a.octets()),
    }
}

/// The route to an address, as `ip route get` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The destination is local.
    pub is_local: bool,
    /// The index of the outgoing interface.
    pub through: u32,
    /// The source address if the sender sets none.
    pub source: Option<IpAddr>,
}

pub(super) fn read_hop(payload: &[u8], family: Family) -> Result<Hop, Malformed> {
    let (header, attributes) = payload.split_at_checked(HEADER).ok_or(Malformed)?;
    let a = AttributeTable::<32>::parse(attributes)?;
    let source = a.get(rta::SOURCE).map(|bytes| address_of(family, bytes));
    Ok(Hop {
        is_local: header[7] == Route::LOCAL,
        through: read_number(&a, rta::OUT).ok_or(Malformed)?,
        source: source.transpose()?,
    })
}

fn write_address(w: &mut Writer, address: IpNet) {
    w.raw(&[
        number_of(Family::of(address.addr())),
        address.prefix_len(),
        ifa::NO_DAD,
        0,
    ]);
    w.raw(&LOOPBACK.to_ne_bytes());
    for kind in [ifa::LOCAL, ifa::ADDRESS] {
        match address.addr() {
            IpAddr::V4(a) => w.bytes(kind, &a.octets()),
            IpAddr::V6(a) => w.bytes(kind, &a.octets()),
        }
    }
}

/// The family that a header begins with, if it is one of IP.
pub(super) fn family_of(header: &[u8]) -> Option<Family> {
    let is_its = |family: &Family| header.first() == Some(&number_of(*family));
    Family::ALL.into_iter().find(is_its)
}

/// `AF_INET` or `AF_INET6`.
pub(super) fn number_of(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn write_number(w: &mut Writer, kind: u16, value: u32) {
    w.bytes(kind, &value.to_ne_bytes());
}

fn read_number<const N: usize>(a: &AttributeTable<N>, kind: u16) -> Option<u32> {
    a.get(kind).and_then(|bytes| u32_ne(bytes, 0))
}
