//! Rules as iptables-nft writes them: header matches as native expressions, others as xt matches,
//! then a counter, then the verdict or target.

pub(super) mod foreign;
mod info;
pub(super) mod matches;
pub(super) mod target;

use super::NoForm;
use super::expr::Expr;
use super::header::{self, Style};
use super::verdict;
use crate::netfilter::model::{Family, Match, Rule, RuleId, Test};

/// Encodes a rule in the order of iptables-nft.
pub(super) fn write(rule: &Rule, family: Family) -> Result<Vec<Expr>, NoForm> {
    let mut matches: Vec<&Match> = rule.matches.iter().collect();
    matches.sort_by_key(|m| rank(m));
    let mut exprs = Vec::with_capacity(3 * matches.len() + 4);
    for m in matches {
        if !header::write(m, Style::Iptables, &mut exprs) {
            exprs.push(Expr::Match(matches::write(m).ok_or(NoForm)?));
        }
    }
    if let Some(id) = &rule.id {
        let comment = matches::write_comment(&id.to_string()).ok_or(NoForm)?;
        exprs.push(Expr::Match(comment));
    }
    exprs.push(Expr::Counter);
    exprs.push(match verdict::write(&rule.target) {
        Some(verdict) => Expr::Verdict(verdict),
        None => Expr::Target(target::write(&rule.target, family).ok_or(NoForm)?),
    });
    Ok(exprs)
}

/// A decoded rule, and its comment of any origin.
pub(super) struct Understood {
    pub rule: Rule,
    pub comment: Option<String>,
}

/// Decodes a rule; `None` if the model cannot express it exactly.
pub(super) fn read(exprs: &[Expr], family: Family) -> Option<Understood> {
    let counter = exprs.iter().position(|e| *e == Expr::Counter)?;
    let (mut tests, target) = (&exprs[..counter], &exprs[counter + 1..]);
    let mut matches = Vec::new();
    let mut comment = None;
    while let Some(expr) = tests.first() {
        let used = match expr {
            Expr::Match(extension) if is_comment(expr) && comment.is_none() => {
                comment = Some(matches::read_comment(extension)?);
                1
            }
            Expr::Match(extension) if foreign::asks_nothing(extension) => 1,
            Expr::Match(extension) => {
                matches.push(matches::read(extension)?);
                1
            }
            _ => {
                let (m, used) = header::read(tests, family)?;
                matches.push(m);
                used
            }
        };
        tests = tests.get(used..)?;
    }
    let target = match target {
        [Expr::Verdict(verdict)] => verdict::read(verdict)?,
        [Expr::Target(extension)] => target::read(extension, family)
            .or_else(|| foreign::read_translation(extension, family))?,
        _ => return None,
    };
    let mut rule = Rule::without_comment(matches, target);
    if !rule.has_protocol_of_ports() {
        return None;
    }
    rule.id = comment.as_deref().and_then(RuleId::from_comment);
    Some(Understood { rule, comment })
}

/// The comment of an undecoded rule.
pub(super) fn comment(exprs: &[Expr]) -> Option<String> {
    exprs.iter().find_map(|e| match e {
        Expr::Match(extension) if is_comment(e) => matches::read_comment(extension),
        _ => None,
    })
}

/// Whether this is a comment match.
pub(super) fn is_comment(expr: &Expr) -> bool {
    matches!(expr, Expr::Match(extension) if extension.name == "comment")
}

/// The order of iptables-nft, which differs from that of iptables-save.
fn rank(m: &Match) -> u8 {
    match m.test {
        Test::InInterface(_) => 0,
        Test::OutInterface(_) => 1,
        Test::Protocol(_) => 2,
        Test::Source(_) => 3,
        Test::Destination(_) => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::model::strategy;
    use crate::netfilter::nftables::expr;
    use proptest::prelude::*;

    fn through_bytes(rule: &Rule, family: Family) -> Option<Understood> {
        let exprs = write(rule, family).expect("iptables has a form for it");
        read(&expr::tests::through_bytes(&exprs), family)
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(
            (family, rule) in prop::sample::select(&Family::ALL[..])
                .prop_flat_map(|f| (Just(f), strategy::rule(f)))
        ) {
            let back = through_bytes(&rule, family).expect("our own rule is understood");
            prop_assert_eq!(back.comment, rule.id.as_ref().map(RuleId::to_string));
            prop_assert_eq!(back.rule, rule);
        }

        /// A changed byte of an extension is decoded as what it means, or not at all.
        #[test]
        fn a_changed_byte_is_noticed(
            rule in strategy::rule(Family::V4),
            (at, to) in (any::<prop::sample::Index>(), any::<u8>()),
        ) {
            let mut exprs = write(&rule, Family::V4).expect("iptables has a form for it");
            let mut infos: Vec<&mut Vec<u8>> = exprs.iter_mut().filter_map(|e| match e {
                Expr::Match(e) | Expr::Target(e) => Some(&mut e.info),
                _ => None,
            }).collect();
            prop_assume!(!infos.is_empty());
            let which = at.index(infos.len());
            let info = &mut infos[which];
            let byte = at.index(info.len());
            prop_assume!(info[byte] != to);
            info[byte] = to;
            if let Some(Understood { rule: read, comment }) = read(&exprs, Family::V4) {
                let known = RuleId::from_comment(comment.as_deref().unwrap_or_default());
                prop_assert_eq!(&read.id, &known);
                if known.is_some() || comment.is_none() {
                    prop_assert_eq!(write(&read, Family::V4).unwrap(), exprs);
                }
            }
        }
    }
}
