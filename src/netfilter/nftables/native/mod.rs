//! Rules in nf_tables' own expressions, with lists in sets.

pub(super) mod action;
mod line;
mod merge;
mod raise;
mod render;
mod sets;

use super::NoForm;
use super::expr::socket::{NFT_SOCKET_TRANSPARENT, NFT_SOCKET_WILDCARD};
use super::expr::{Expr, Verdict, ct, meta, payload};
use super::header::{self, Style};
use super::nf_tables::NFTA_RULE_USERDATA;
use crate::netfilter::model::{ConnState, Family, Match, Owner, Side, Test, Why};
use crate::netfilter::netlink::Writer;
pub(crate) use line::Line;
use line::{Action, Condition};
pub(crate) use line::{Part, PartNames, chain_of_part, is_part_name, lower};
pub(crate) use merge::merged_into_sets;
pub(crate) use raise::raise;
pub use render::{Unprintable, render};
pub(crate) use sets::{Lists, Set, Sets, is_list};

/// The expressions of a line, and the sets without a name that must be there before it.
#[derive(Default)]
pub(super) struct Encoded {
    pub exprs: Vec<Expr>,
    pub sets: Vec<Set>,
}

/// The expressions of a line. `lists` names the chain's address lists, `id` is the last number that a
/// set of this batch was given.
pub(super) fn write(
    line: &Line,
    family: Family,
    lists: &Lists,
    id: &mut u32,
) -> Result<Encoded, NoForm> {
    let mut encoded = Encoded::default();
    for condition in &line.conditions {
        match condition {
            Condition::Match(m) => write_match(m, family, lists, id, &mut encoded)?,
            Condition::Socket { transparent } => encoded.exprs.extend(any_socket(*transparent)),
            Condition::BoundSocket { transparent } => {
                encoded
                    .exprs
                    .extend([Expr::Socket(NFT_SOCKET_WILDCARD), equal(&[0])]);
                let transparent = transparent.then(|| any_socket(true));
                encoded.exprs.extend(transparent.into_iter().flatten());
            }
            Condition::WholeSocket => encoded.exprs.extend(whole_socket()),
        }
    }
    encoded.exprs.push(Expr::Counter);
    match &line.action {
        Action::Take(target) => action::write(target, family, &mut encoded.exprs)?,
        Action::Goto(part) => encoded
            .exprs
            .push(Expr::Verdict(Verdict::Goto(part.clone()))),
    }
    Ok(encoded)
}

fn write_match(
    m: &Match,
    family: Family,
    lists: &Lists,
    id: &mut u32,
    encoded: &mut Encoded,
) -> Result<(), NoForm> {
    let exprs = &mut encoded.exprs;
    if header::write(m, Style::Nft, exprs) {
        return Ok(());
    }
    match &m.test {
        Test::DestinationSet(set) if set.family() == family => exprs.extend([
            header::address(family, Side::Destination, u32::from(family.bits() / 8)),
            Expr::Lookup {
                set: lists.name(set).ok_or(NoForm)?,
                id: None,
                not: m.not,
            },
        ]),
        Test::Multiport { side, ports } => {
            *id += 1;
            let lookup = Expr::Lookup {
                set: sets::NAMELESS.to_owned(),
                id: Some(*id),
                not: m.not,
            };
            exprs.extend([header::port(*side), lookup]);
            encoded.sets.push(Set::of_ports(*id, ports));
        }
        Test::Owner(owner) => {
            let (key, id) = match owner {
                Owner::Uid(id) => (meta::NFT_META_SKUID, id),
                Owner::Gid(id) => (meta::NFT_META_SKGID, id),
            };
            let value = id.to_ne_bytes().to_vec();
            exprs.extend([Expr::Meta(key), Expr::Cmp { not: m.not, value }]);
        }
        Test::ConnState(states) => {
            let bits = states.iter().fold(0, |bits, s| bits | state_bit(*s));
            exprs.push(Expr::Ct(ct::NFT_CT_STATE));
            exprs.push(Expr::Bitwise {
                mask: bits.to_ne_bytes().to_vec(),
                xor: vec![0; 4],
            });
            exprs.push(Expr::Cmp {
                not: !m.not,
                value: vec![0; 4],
            });
        }
        Test::Connmark { value, mask } => {
            exprs.push(Expr::Ct(ct::NFT_CT_MARK));
            header::compare_mark(*value, *mask, m.not, exprs);
        }
        _ => return Err(NoForm),
    }
    Ok(())
}

/// libnftnl's udata.h: what a rule's user data says is a comment, and how long that may be with its
/// NUL.
pub(super) const NFTNL_UDATA_RULE_COMMENT: u8 = 0;
const NFTNL_UDATA_COMMENT_MAXLEN: usize = 128;

/// The attribute of a rule in which nft keeps its comment: type, length and value of a byte each.
/// What is longer than nft would take is cut.
pub(super) fn write_comment(w: &mut Writer, comment: &str) {
    let longest = comment.len().min(NFTNL_UDATA_COMMENT_MAXLEN - 1);
    let mut ends = (0..=longest).rev();
    let end = ends.find(|i| comment.is_char_boundary(*i)).unwrap_or(0);
    let mut data = vec![NFTNL_UDATA_RULE_COMMENT, end as u8 + 1];
    data.extend_from_slice(&comment.as_bytes()[..end]);
    data.push(0);
    w.bytes(NFTA_RULE_USERDATA, &data);
}

/// Reads a line; `None` if it is none that [`write`] writes.
pub(super) fn read(
    exprs: &[Expr],
    comment: Option<&str>,
    family: Family,
    found: &Sets,
) -> Option<Line> {
    let counter = exprs.iter().position(|e| *e == Expr::Counter)?;
    let (mut tests, action) = (&exprs[..counter], &exprs[counter + 1..]);
    let mut conditions = Vec::new();
    while !tests.is_empty() {
        let (condition, used) = read_condition(tests, family, found)?;
        conditions.push(condition);
        tests = tests.get(used..)?;
    }
    let action = match action {
        [Expr::Verdict(Verdict::Goto(part))] => Action::Goto(part.clone()),
        exprs => Action::Take(action::read(exprs, family)?),
    };
    let why = match comment {
        Some(comment) => Some(Why::from_comment(comment)?),
        None => None,
    };
    Some(Line {
        conditions,
        action,
        why,
    })
}

/// Reads one condition off the front, and says how many expressions it took.
fn read_condition(exprs: &[Expr], family: Family, found: &Sets) -> Option<(Condition, usize)> {
    if let [Expr::Socket(_), ..] = exprs {
        return read_socket(exprs);
    }
    let (m, used) = match read_extension(exprs, family, found) {
        None => header::read(exprs, family)?,
        Some(read) => read,
    };
    Some((Condition::Match(m), used))
}

/// The packet has a socket, which is transparent if that is asked for: the key says yes or no where
/// there is a socket, and nothing where there is none.
fn any_socket(transparent: bool) -> [Expr; 2] {
    let answer = match transparent {
        true => equal(&[1]),
        false => Expr::AtMost(vec![1]),
    };
    [Expr::Socket(NFT_SOCKET_TRANSPARENT), answer]
}

/// The packet has a socket that is more than remembered: only of such the key says anything.
fn whole_socket() -> [Expr; 2] {
    [Expr::Socket(NFT_SOCKET_WILDCARD), Expr::AtMost(vec![1])]
}

fn read_socket(exprs: &[Expr]) -> Option<(Condition, usize)> {
    let (first, rest) = exprs.split_first_chunk::<2>()?;
    let bound = [Expr::Socket(NFT_SOCKET_WILDCARD), equal(&[0])];
    if *first == bound {
        let transparent = rest.starts_with(&any_socket(true));
        let used = if transparent { 4 } else { 2 };
        return Some((Condition::BoundSocket { transparent }, used));
    }
    let others = [true, false].map(|t| (any_socket(t), Condition::Socket { transparent: t }));
    let other = others.iter().find(|(exprs, _)| exprs == first);
    match other {
        Some((_, condition)) => Some((condition.clone(), 2)),
        None => (*first == whole_socket()).then_some((Condition::WholeSocket, 2)),
    }
}

/// A match on more than what the packet itself says, or with a set.
fn read_extension(exprs: &[Expr], family: Family, found: &Sets) -> Option<(Match, usize)> {
    match exprs {
        [load, Expr::Lookup { set, not, .. }, ..] => {
            let test = read_lookup(load, set, family, found)?;
            Some((Match { not: *not, test }, 2))
        }
        [
            Expr::Meta(key @ (meta::NFT_META_SKUID | meta::NFT_META_SKGID)),
            Expr::Cmp { not, value },
            ..,
        ] => {
            let id = header::word(value)?;
            let owner = match *key {
                meta::NFT_META_SKUID => Owner::Uid(id),
                _ => Owner::Gid(id),
            };
            let test = Test::Owner(owner);
            Some((Match { not: *not, test }, 2))
        }
        [
            Expr::Ct(ct::NFT_CT_STATE),
            Expr::Bitwise { mask, xor },
            Expr::Cmp { not, value },
            ..,
        ] => {
            let bits = header::word(mask)?;
            let states: Vec<ConnState> = ConnState::ALL
                .into_iter()
                .filter(|s| bits & state_bit(*s) != 0)
                .collect();
            let all = states.iter().fold(0, |bits, s| bits | state_bit(*s));
            let plain = header::word(xor)? == 0 && header::word(value)? == 0 && all == bits;
            let m = Match {
                not: !not,
                ..Match::state(states)
            };
            plain.then_some((m, 3))
        }
        [Expr::Ct(ct::NFT_CT_MARK), rest @ ..] => {
            let (value, mask, not, used) = header::read_mark(rest)?;
            let test = Test::Connmark { value, mask };
            Some((Match { not, test }, 1 + used))
        }
        _ => None,
    }
}

fn read_lookup(load: &Expr, set: &str, family: Family, found: &Sets) -> Option<Test> {
    match load {
        Expr::Payload {
            base: payload::NFT_PAYLOAD_TRANSPORT_HEADER,
            offset,
            len,
        } => Some(Test::Multiport {
            side: header::port_side(*offset, *len)?,
            ports: found.ports(set)?,
        }),
        load => {
            let whole = u32::from(family.bits() / 8);
            let destination = header::address(family, Side::Destination, whole);
            let set = found
                .addresses(set, family)
                .filter(|_| *load == destination)?;
            Some(Test::DestinationSet(set))
        }
    }
}

fn equal(value: &[u8]) -> Expr {
    Expr::Cmp {
        not: false,
        value: value.to_vec(),
    }
}

/// `NF_CT_STATE_BIT` of linux/netfilter/nf_conntrack_common.h, and the bits with names of their own.
fn state_bit(state: ConnState) -> u32 {
    match state {
        ConnState::Invalid => 1,
        ConnState::Established => 1 << 1,
        ConnState::Related => 1 << 2,
        ConnState::New => 1 << 3,
        ConnState::Untracked => 1 << 6,
        // These are no states to nf_tables.
        ConnState::Snat | ConnState::Dnat => 0,
    }
}

#[cfg(test)]
mod tests;
