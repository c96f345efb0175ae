//! xt matches: names and revisions as iptables-nft uses them, layouts from linux/netfilter/xt_*.h.
//!
//! Only what would be written with the same bytes is decoded.

use super::info::{Fields, Info};
use crate::netfilter::model::{ConnState, Match, Owner, PortRange, PortSet, Side, Test};
use crate::netfilter::nftables::expr::Extension;

/// The longest comment that fits, with its NUL (xt_comment.h).
const XT_MAX_COMMENT_LEN: usize = 256;

/// Encodes a match as `match` expression. `None` if x_tables cannot express it: a negated `socket`,
/// or too many ports for `multiport`.
pub(crate) fn write(m: &Match) -> Option<Extension> {
    let not = u8::from(m.not);
    let (info, name, revision) = match &m.test {
        Test::Owner(owner) => (owner_info(*owner, m.not), "owner", 1),
        Test::Connmark { value, mask } => {
            let info = Info::default().u32(*value).u32(*mask).u8(not);
            (info, "connmark", 1)
        }
        Test::ConnState(states) => (conntrack_info(states, m.not), "conntrack", 3),
        Test::Multiport { side, ports } => (multiport_info(*side, ports, not)?, "multiport", 1),
        Test::Socket { transparent } if !m.not => {
            (Info::default().u8(u8::from(*transparent)), "socket", 3)
        }
        _ => return None,
    };
    Some(info.finish(name, revision))
}

/// Decodes what [`write`] writes, and `-m state` of iptables.
pub(crate) fn read(extension: &Extension) -> Option<Match> {
    let info = Fields(&extension.info);
    let (not, test) = match extension.name.as_ref() {
        "owner" => read_owner(info)?,
        "connmark" => {
            let (value, mask) = (info.u32(0)?, info.u32(4)?);
            (info.u8(8)? != 0, Test::Connmark { value, mask })
        }
        "conntrack" => (info.u16(INVERTED)? != 0, states(info.u16(STATES)?).test),
        "multiport" => read_multiport(info)?,
        "socket" => {
            let transparent = info.u8(0)? != 0;
            (false, Test::Socket { transparent })
        }
        _ => return None,
    };
    let m = Match { not, test };
    (write(&m)? == under_its_new_name(extension)).then_some(m)
}

pub(super) fn states(bits: u16) -> Match {
    let all = ConnState::ALL.into_iter().chain(ConnState::TRANSLATED);
    Match::state(all.filter(|s| bits & bit(*s) != 0))
}

/// `-m state` is `conntrack` with a flag for printing only.
fn under_its_new_name(extension: &Extension) -> Extension {
    const XT_CONNTRACK_STATE_ALIAS: u16 = 1 << 13;
    let mut plain = extension.clone();
    if extension.name == "conntrack"
        && let Some(compared) = plain.info.get_mut(COMPARED..COMPARED + 2)
    {
        let bits = u16::from_ne_bytes([compared[0], compared[1]]);
        compared.copy_from_slice(&(bits & !XT_CONNTRACK_STATE_ALIAS).to_ne_bytes());
    }
    plain
}

/// Encodes a comment; `None` if it is too long or contains NUL.
pub(crate) fn write_comment(comment: &str) -> Option<Extension> {
    let fits = comment.len() < XT_MAX_COMMENT_LEN && !comment.contains('\0');
    let info = Info::default()
        .bytes(comment.as_bytes())
        .to(XT_MAX_COMMENT_LEN);
    fits.then(|| info.finish("comment", 0))
}

/// Decodes a comment.
pub(crate) fn read_comment(extension: &Extension) -> Option<String> {
    let text = extension.info.split(|b| *b == 0).next()?;
    let comment = std::str::from_utf8(text).ok()?;
    (write_comment(comment)? == *extension).then(|| comment.to_owned())
}

/// Bits of compared and, likewise, of inverted fields (xt_owner.h).
const XT_OWNER_UID: u8 = 1;
const XT_OWNER_GID: u8 = 2;

fn owner_info(owner: Owner, not: bool) -> Info {
    let (uid, gid, what) = match owner {
        Owner::Uid(id) => (id, 0, XT_OWNER_UID),
        Owner::Gid(id) => (0, id, XT_OWNER_GID),
    };
    let info = Info::default().u32(uid).u32(uid).u32(gid).u32(gid);
    info.u8(what).u8(if not { what } else { 0 })
}

fn read_owner(info: Fields) -> Option<(bool, Test)> {
    let owner = match info.u8(16)? {
        XT_OWNER_UID => Owner::Uid(info.u32(0)?),
        XT_OWNER_GID => Owner::Gid(info.u32(8)?),
        _ => return None,
    };
    Some((info.u8(17)? != 0, Test::Owner(owner)))
}

/// Offsets in `struct xt_conntrack_mtinfo3` of compared fields, inverted fields and states.
const COMPARED: usize = 146;
const INVERTED: usize = 148;
const STATES: usize = 150;
/// Its length in bytes.
const CONNTRACK_INFO: usize = 164;

fn conntrack_info(states: &[ConnState], not: bool) -> Info {
    const XT_CONNTRACK_STATE: u16 = 1;
    let bits = states.iter().fold(0, |bits, s| bits | bit(*s));
    Info::default()
        .to(COMPARED)
        .u16(XT_CONNTRACK_STATE)
        .u16(if not { XT_CONNTRACK_STATE } else { 0 })
        .u16(bits)
        .to(CONNTRACK_INFO)
}

/// `XT_CONNTRACK_STATE_BIT` of a state, and bits with own names.
fn bit(state: ConnState) -> u16 {
    match state {
        ConnState::Invalid => 1,
        ConnState::Established => 1 << 1,
        ConnState::Related => 1 << 2,
        ConnState::New => 1 << 3,
        ConnState::Snat => 1 << 6,
        ConnState::Dnat => 1 << 7,
        ConnState::Untracked => 1 << 8,
    }
}

/// A range takes two slots, the first with a flag.
fn multiport_info(side: Side, ports: &PortSet, not: u8) -> Option<Info> {
    let mut slots = Vec::new();
    for range in ports.as_slice() {
        let more = range.first() != range.last();
        slots.push((range.first(), more));
        slots.extend(more.then_some((range.last(), false)));
    }
    let count = u8::try_from(slots.len()).ok()?;
    if slots.len() > PortSet::SLOTS {
        return None;
    }
    slots.resize(PortSet::SLOTS, (0, false));
    let side = match side {
        Side::Source => 0,
        Side::Destination => 1,
    };
    let info = Info::default().u8(side).u8(count);
    let info = slots.iter().fold(info, |info, (port, _)| info.u16(*port));
    let info = slots
        .iter()
        .fold(info, |info, (_, more)| info.u8(u8::from(*more)));
    Some(info.u8(not))
}

fn read_multiport(info: Fields) -> Option<(bool, Test)> {
    let side = match info.u8(0)? {
        0 => Side::Source,
        1 => Side::Destination,
        _ => return None,
    };
    let count = usize::from(info.u8(1)?).min(PortSet::SLOTS);
    let port = |slot: usize| info.u16(2 + 2 * slot);
    let mut ranges = Vec::new();
    let mut slot = 0;
    while slot < count {
        let more = info.u8(32 + slot)? != 0;
        let last = if more { slot + 1 } else { slot };
        ranges.push(PortRange::new(port(slot)?, port(last)?)?);
        slot = last + 1;
    }
    let ports = PortSet::new(ranges)?;
    Some((info.u8(47)? != 0, Test::Multiport { side, ports }))
}
