//! Decodes any nf_tables rule as far as its effect on IP packets is certain.
//!
//! Rules are evaluated symbolically: registers hold known values, so each comparison is known when
//! it is reached.

mod attributes;
mod compare;
mod registers;
mod sets;
mod statements;

use super::expr::{Expr, Verdict};
use super::rule;
use super::xt;
use crate::netfilter::model::{
    ChainName, ECHO_REQUESTS, Entry, Family, FieldTest, Match, Rule, RuleId, Target, TargetMap,
    Test,
};
pub(super) use compare::{low_bits, name_number, simplified};
use registers::{Load, Loaded};
use sets::Data;
pub(super) use sets::Sets;
pub(super) use statements::merge_tproxy;
use std::collections::BTreeMap;

#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub family: Family,
    pub sets: &'a Sets,
    /// Interface names by index.
    pub interfaces: &'a BTreeMap<u32, String>,
}

/// A rule as evaluated for a family; `None` if it is for the other family only.
pub(super) fn entry(rule: &rule::Rule, context: Context) -> Option<Entry> {
    let mut reading = Reading::new(context);
    for expr in &rule.exprs {
        reading.step(expr)?;
    }
    let comment = xt::comment(&rule.exprs).or_else(|| rule.comment.clone());
    Some(reading.finish(
        rule.handle,
        comment.as_deref().and_then(RuleId::from_comment),
    ))
}

/// The content of a register.
#[derive(Clone)]
enum Held {
    Fields(Loaded),
    Constant(Vec<u8>),
    /// The values of a map for these keys.
    Mapped(FieldTest, Vec<Vec<u8>>),
}

/// A partially decoded rule.
struct Reading<'a> {
    context: Context<'a>,
    /// By the offset of their first byte.
    registers: BTreeMap<u32, Held>,
    matches: Vec<Match>,
    /// Its actions in order.
    targets: Vec<Target>,
    map: Option<TargetMap>,
    /// The nft name of an unknown statement.
    unknown: Option<String>,
}

/// A comparison that never matches for this family.
struct Never;

impl<'a> Reading<'a> {
    fn new(context: Context<'a>) -> Self {
        Reading {
            context,
            registers: BTreeMap::new(),
            matches: Vec::new(),
            targets: Vec::new(),
            map: None,
            unknown: None,
        }
    }

    /// Evaluates one expression; `None` if the rule is not for this family.
    fn step(&mut self, expr: &Expr) -> Option<()> {
        if let Some((register, load)) = registers::load(expr, self.context.family) {
            let held = match load {
                Load::Fields(fields) => Held::Fields(fields),
                Load::Constant(bytes) => Held::Constant(bytes),
            };
            self.registers.insert(place(register), held);
            return Some(());
        }
        match self.compare(expr) {
            Some(Ok(())) => return Some(()),
            Some(Err(Never)) => return None,
            None => {}
        }
        match expr {
            Expr::Match(extension) if extension.name == "comment" => {}
            Expr::Match(extension) => {
                let read = xt::foreign::read_match(extension, self.context.family);
                read.into_iter().for_each(|m| self.condition(m));
            }
            expr => self.statement(expr),
        }
        Some(())
    }

    /// Adds a condition for the rest of the rule.
    fn condition(&mut self, m: Match) {
        // Earlier actions are taken regardless of this condition.
        if !self.targets.is_empty() || self.map.is_some() {
            self.unknown.get_or_insert_with(|| "…".to_owned());
        }
        self.matches.push(m);
    }

    fn held(&self, register: u32) -> Option<&Held> {
        self.registers.get(&place(register))
    }

    /// The bytes of a constant, or the values of a map with its test.
    fn value(&self, register: u32) -> Option<(Option<&FieldTest>, Vec<&[u8]>)> {
        let place = place(register);
        let (start, held) = self.registers.range(..=place).next_back()?;
        let behind = (place - start) as usize;
        match held {
            Held::Constant(bytes) => Some((None, vec![bytes.get(behind..)?])),
            Held::Mapped(keys, values) => {
                let values: Option<Vec<&[u8]>> = values.iter().map(|v| v.get(behind..)).collect();
                Some((Some(keys), values?))
            }
            Held::Fields(_) => None,
        }
    }

    fn finish(self, handle: u64, id: Option<RuleId>) -> Entry {
        let Reading {
            matches,
            mut targets,
            map,
            unknown,
            ..
        } = self;
        let mut matches: Vec<Match> = matches.into_iter().map(simplified).collect();
        without_ports_of_icmp(&mut matches);
        merge_tproxy(&mut targets);
        if let Some(name) = unknown {
            let shown = targets.iter().map(ToString::to_string).chain([name]);
            return Entry::Undecoded {
                text: Rule::text_of(&matches, &shown.collect::<Vec<_>>().join(" ")),
                handle: Some(handle),
                target: None,
                matches,
            };
        }
        match (map, targets.len()) {
            (Some(map), 0) => Entry::Map { matches, map },
            (Some(map), _) => Entry::Map {
                map: after(&targets, map),
                matches,
            },
            (None, 0) => Entry::Idle {
                text: Rule::text_of(&matches, ""),
            },
            (None, 1) => with_target(matches, targets.remove(0), handle, id),
            (None, _) => with_target(matches, Target::Several(targets), handle, id),
        }
    }
}

/// ICMP has its type and code where other protocols have a port.
fn without_ports_of_icmp(matches: &mut [Match]) {
    let is_icmp = |m: &Match| match m.test {
        Test::Protocol(protocol) => !m.not && ECHO_REQUESTS.iter().any(|(p, _)| *p == protocol),
        _ => false,
    };
    if matches.iter().any(is_icmp) {
        let of_ports =
            |m: &&mut Match| matches!(m.test, Test::Port { .. } | Test::Multiport { .. });
        for m in matches.iter_mut().filter(of_ports) {
            *m = Match::new(Test::Undecoded("@th,0,16 …".to_owned()));
        }
    }
}

fn with_target(matches: Vec<Match>, target: Target, handle: u64, id: Option<RuleId>) -> Entry {
    let rule = Rule::without_comment(matches.iter().cloned(), target);
    match matches.iter().all(Match::is_decoded) {
        true => Entry::Known(Rule { id, ..rule }),
        false => Entry::Undecoded {
            text: rule.to_string(),
            handle: Some(handle),
            target: Some(rule.target),
            matches,
        },
    }
}

/// The map, with actions that stand before it: they are taken regardless of it.
fn after(before: &[Target], mut map: TargetMap) -> TargetMap {
    let with = |target: &Target| match target {
        Target::Several(then) => Target::Several([before, then].concat()),
        target => Target::Several([before, std::slice::from_ref(target)].concat()),
    };
    map.targets
        .iter_mut()
        .for_each(|target| *target = with(target));
    let default = map.default.take();
    map.default = Some(with(&default.unwrap_or(Target::Several(Vec::new()))));
    map
}

/// The offset of a register: four registers have 16 bytes, each of which is also four of 4 bytes
/// (`nft_parse_register`).
fn place(register: u32) -> u32 {
    const NFT_REG32_00: u32 = 8;
    match register.checked_sub(NFT_REG32_00) {
        Some(number) => 4 * number,
        None => 16 * register.saturating_sub(1),
    }
}

/// A verdict as a target; `continue` does nothing.
fn target_of(verdict: &Verdict) -> Target {
    let chain = |name: &str| ChainName::of_nf_tables(name);
    match verdict {
        Verdict::Accept => Target::Accept,
        Verdict::Drop => Target::Drop,
        Verdict::Return => Target::Return,
        Verdict::Jump(name) => Target::Jump(chain(name)),
        Verdict::Goto(name) => Target::Goto(chain(name)),
    }
}
