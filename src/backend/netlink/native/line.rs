//! Rules of the model as rules of nf_tables, and back.
//!
//! One rule is one line, except where nf_tables' expressions say less than x_tables' matches:
//!
//! - `! --uid-owner` holds for a packet without a socket, while `meta skuid != …` never does. So a
//!   packet of that owner is sent on to the next part of the chain before the rule, and after it
//!   everything else is:
//!   `meta skuid 1337 goto CHAIN-1`, the rule without the match, `goto CHAIN-1`. A `goto` returns to
//!   where the chain was called from, as the chain itself would have.
//! - `-m socket` does not see sockets that are bound to any address, which is another such "not".
//! - TPROXY drops a packet for which there is no socket, while `tproxy` lets it go on.

use crate::ruleset::{Match, Rule, Target, Test, Why};

/// A rule of nf_tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub conditions: Vec<Condition>,
    pub action: Action,
    pub why: Option<Why>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// As in the model, but a negated owner or a socket is nothing that a line can ask for.
    Match(Match),
    /// The packet has a socket, which is transparent if that is asked for.
    Socket { transparent: bool },
    /// The packet has a socket that is bound to any address.
    Wildcard,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Take(Target),
    /// On to another part of the chain.
    Goto(String),
}

/// A part of a chain: the chain itself, or what a `goto` in the part before it leads to.
pub struct Part<'a> {
    pub name: String,
    /// With the rules that they come from.
    pub lines: Vec<(&'a Rule, Line)>,
}

/// The name of a part; the first is the chain itself.
pub fn part_name(chain: &str, index: usize) -> String {
    match index {
        0 => chain.to_owned(),
        _ => format!("{chain}-{index}"),
    }
}

/// The chain of which one with this name is a later part, if its name says so.
pub fn is_part_of(name: &str) -> Option<&str> {
    let (chain, index) = name.rsplit_once('-')?;
    let number = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
    number.then_some(chain)
}

/// Whether a chain's name says that it is a later part of `chain`.
pub fn is_part(name: &str, chain: &str) -> bool {
    is_part_of(name) == Some(chain)
}

/// The names of the parts that these rules need beside the chain itself.
pub fn later_parts(chain: &str, rules: &[&Rule]) -> Vec<String> {
    let gated = rules
        .iter()
        .filter(|rule| rule.matches.iter().any(is_gated));
    (1..=gated.count()).map(|i| part_name(chain, i)).collect()
}

/// Nothing that a line can ask for.
fn is_gated(m: &Match) -> bool {
    match m.test {
        Test::Socket { .. } => true,
        Test::Owner(_) => m.not,
        _ => false,
    }
}

/// A chain's rules as lines.
pub fn lower<'a>(chain: &str, rules: &[&'a Rule]) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let mut part = Part {
        name: chain.to_owned(),
        lines: Vec::new(),
    };
    for &rule in rules {
        let next = part_name(chain, parts.len() + 1);
        let lines = lower_rule(rule, &next);
        let goes_on = goes_on(&lines, &next);
        part.lines
            .extend(lines.into_iter().map(|line| (rule, line)));
        if goes_on {
            let lines = Vec::new();
            parts.push(std::mem::replace(&mut part, Part { name: next, lines }));
        }
    }
    parts.push(part);
    parts
}

/// The lines of one rule; what it does not hold for is sent on to `next`.
fn lower_rule(rule: &Rule, next: &str) -> Vec<Line> {
    let line = |conditions: Vec<Condition>, action: Action| Line {
        conditions,
        action,
        why: rule.why.clone(),
    };
    let (mut conditions, mut sockets, mut gates) = (Vec::new(), Vec::new(), Vec::new());
    for m in &rule.matches {
        match &m.test {
            Test::Socket { transparent } => {
                sockets.push(Condition::Socket {
                    transparent: *transparent,
                });
                gates.push(Condition::Wildcard);
            }
            Test::Owner(_) if m.not => gates.push(Condition::Match(!m.clone())),
            _ => conditions.push(Condition::Match(m.clone())),
        }
    }
    let goto = || Action::Goto(next.to_owned());
    let gated = !gates.is_empty();
    let mut lines: Vec<Line> = gates
        .into_iter()
        .map(|gate| line([conditions.as_slice(), &[gate]].concat(), goto()))
        .collect();
    conditions.extend(sockets);
    lines.push(line(conditions.clone(), Action::Take(rule.target.clone())));
    if let Target::Tproxy { .. } = rule.target {
        lines.push(line(conditions, Action::Take(Target::Drop)));
    }
    if gated {
        lines.push(line(Vec::new(), goto()));
    }
    lines
}

/// The rule that the first of these lines are, and how many they are. Where it sends packets to
/// `next`, nothing may stand behind it.
pub fn raise(lines: &[Option<Line>], next: &str) -> Option<(Rule, usize)> {
    let mut read = lines.iter();
    let mut gates = Vec::new();
    let body = loop {
        let line = read.next()?.as_ref()?;
        match &line.action {
            Action::Goto(to) if to == next => gates.push(line.conditions.last()?),
            Action::Goto(_) => return None,
            Action::Take(_) => break line,
        }
    };
    let mut matches = Vec::new();
    for condition in &body.conditions {
        matches.push(match condition {
            Condition::Match(m) => m.clone(),
            Condition::Socket { transparent } => Match::new(Test::Socket {
                transparent: *transparent,
            }),
            Condition::Wildcard => return None,
        });
    }
    for gate in gates {
        match gate {
            Condition::Match(m) if is_owner(m) => matches.push(!m.clone()),
            Condition::Wildcard => {}
            _ => return None,
        }
    }
    let Action::Take(target) = &body.action else {
        return None;
    };
    let mut rule = Rule::without_comment(matches, target.clone());
    rule.why.clone_from(&body.why);
    // The rule is what these lines say if these lines are what would be written for it.
    let written = lower_rule(&rule, next);
    let (here, behind) = lines.split_at_checked(written.len())?;
    let same = here
        .iter()
        .zip(&written)
        .all(|(l, w)| l.as_ref() == Some(w));
    let ends = behind.is_empty() || !goes_on(&written, next);
    (same && ends).then_some((rule, written.len()))
}

/// Whether everything that comes to the end of these lines goes on in another part.
fn goes_on(lines: &[Line], next: &str) -> bool {
    let to_next = |l: &Line| l.conditions.is_empty() && l.action == Action::Goto(next.to_owned());
    lines.last().is_some_and(to_next)
}

fn is_owner(m: &Match) -> bool {
    !m.not && matches!(m.test, Test::Owner(_))
}
