//! Rules in native expressions, with address lists in sets.

pub(super) mod action;
mod merge;
mod render;
mod sets;

use super::NoForm;
use super::expr::socket::{NFT_SOCKET_TRANSPARENT, NFT_SOCKET_WILDCARD};
use super::expr::{Expr, ct, meta, payload};
use super::header::{self, Style};
use super::nf_tables::NFTA_RULE_USERDATA;
use crate::netfilter::model::{ConnState, Family, Match, Owner, Rule, RuleId, Side, Target, Test};
use crate::netfilter::netlink::Writer;
pub(crate) use merge::merged_into_sets;
pub use render::render;
pub(super) use render::reply;
pub(crate) use sets::{Lists, Set, Sets, is_list};

/// The second rule that TPROXY needs: xt TPROXY drops a packet without a socket, native `tproxy`
/// lets it continue, so a second rule drops packets that begin a connection. (Others may belong to
/// a socket in TIME_WAIT, which `socket` does not find.)
pub(super) fn companion(rule: &Rule) -> Option<Rule> {
    let Target::Tproxy { .. } = rule.target else {
        return None;
    };
    let open = !Match::state([ConnState::Related, ConnState::Established]);
    let matches = rule.matches.iter().cloned().chain([open]);
    Some(Rule {
        id: rule.id.clone(),
        ..Rule::without_comment(matches, Target::Drop)
    })
}

/// The expressions of a rule, and its anonymous sets.
#[derive(Default)]
pub(super) struct Encoded<'a> {
    pub exprs: Vec<Expr>,
    pub sets: Vec<Set<'a>>,
}

/// Encodes a rule. `lists` names the address lists of the chain, `id` is the last set id of the
/// batch.
pub(super) fn write<'a>(
    rule: &'a Rule,
    family: Family,
    lists: &Lists,
    id: &mut u32,
) -> Result<Encoded<'a>, NoForm> {
    let mut encoded = Encoded::default();
    for m in &rule.matches {
        write_match(m, family, lists, id, &mut encoded)?;
    }
    encoded.exprs.push(Expr::Counter);
    action::write(&rule.target, family, &mut encoded.exprs)?;
    Ok(encoded)
}

fn write_match<'a>(
    m: &'a Match,
    family: Family,
    lists: &Lists,
    id: &mut u32,
    encoded: &mut Encoded<'a>,
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
        Test::Socket { transparent } if !m.not => exprs.extend(bound_socket(*transparent)),
        _ => return Err(NoForm),
    }
    Ok(())
}

/// The user data type of a comment, and its maximum length with NUL (udata.h of libnftnl).
pub(super) const NFTNL_UDATA_RULE_COMMENT: u8 = 0;
const NFTNL_UDATA_COMMENT_MAXLEN: usize = 128;

/// Writes the comment as nft does: type, length and value of a byte each. Longer comments are cut.
pub(super) fn write_comment(w: &mut Writer, comment: &str) {
    let longest = comment.len().min(NFTNL_UDATA_COMMENT_MAXLEN - 1);
    let mut ends = (0..=longest).rev();
    let end = ends.find(|i| comment.is_char_boundary(*i)).unwrap_or(0);
    let mut data = vec![NFTNL_UDATA_RULE_COMMENT, end as u8 + 1];
    data.extend_from_slice(&comment.as_bytes()[..end]);
    data.push(0);
    w.bytes(NFTA_RULE_USERDATA, &data);
}

/// Decodes a rule; `None` if [`write`] would not have written it.
pub(super) fn read(
    exprs: &[Expr],
    comment: Option<&str>,
    family: Family,
    found: &Sets,
) -> Option<Rule> {
    let counter = exprs.iter().position(|e| *e == Expr::Counter)?;
    let (mut tests, action) = (&exprs[..counter], &exprs[counter + 1..]);
    let mut matches = Vec::new();
    while !tests.is_empty() {
        let (m, used) = read_any_match(tests, family, found)?;
        matches.push(m);
        tests = tests.get(used..)?;
    }
    let id = match comment {
        Some(comment) => Some(RuleId::from_comment(comment)?),
        None => None,
    };
    let rule = Rule::without_comment(matches, action::read(action, family)?);
    Some(Rule { id, ..rule })
}

/// Decodes one match from the start and returns how many expressions it took.
fn read_any_match(exprs: &[Expr], family: Family, found: &Sets) -> Option<(Match, usize)> {
    read_extension(exprs, family, found).or_else(|| header::read(exprs, family))
}

/// Tests for a socket that is not bound to any address, transparent if asked for, as
/// iptables-translate does.
fn bound_socket(transparent: bool) -> Vec<Expr> {
    let mut exprs = vec![Expr::Socket(NFT_SOCKET_WILDCARD), equal(&[0])];
    if transparent {
        exprs.extend([Expr::Socket(NFT_SOCKET_TRANSPARENT), equal(&[1])]);
    }
    exprs
}

/// Decodes a match other than on headers, or with a set.
fn read_extension(exprs: &[Expr], family: Family, found: &Sets) -> Option<(Match, usize)> {
    match exprs {
        [load, Expr::Lookup { set, not, .. }, ..] => {
            let test = read_lookup(load, set, family, found)?;
            Some((Match { not: *not, test }, 2))
        }
        [Expr::Socket(_), ..] => {
            let mut forms = [true, false].into_iter();
            let transparent = forms.find(|t| exprs.starts_with(&bound_socket(*t)))?;
            let used = bound_socket(transparent).len();
            Some((Match::new(Test::Socket { transparent }), used))
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

/// `NF_CT_STATE_BIT` of linux/netfilter/nf_conntrack_common.h, and bits with own names.
fn state_bit(state: ConnState) -> u32 {
    match state {
        ConnState::Invalid => 1,
        ConnState::Established => 1 << 1,
        ConnState::Related => 1 << 2,
        ConnState::New => 1 << 3,
        ConnState::Untracked => 1 << 6,
        // Not states in nf_tables.
        ConnState::Snat | ConnState::Dnat => 0,
    }
}

#[cfg(test)]
mod tests;
