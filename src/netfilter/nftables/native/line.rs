//! Rules of the model as rules of nf_tables; the way back is `raise`.
//!
//! One rule is one line, except where nf_tables' expressions say less than x_tables' matches:
//!
//! - `! --uid-owner` holds for a packet without a socket, while `meta skuid != …` never does.
//! - `-m socket` does not see sockets that are bound to any address, but those that are no more than
//!   remembered (TIME_WAIT); `socket wildcard` only knows of whole sockets.
//! - TPROXY drops a packet for which there is no socket, while `tproxy` lets it go on.
//!
//! So from the first rule on that asks such a thing, a chain has two parts: packets of which nf_tables
//! can answer it are sent to a part of their own, in which the rules are written for them, and behind
//! that they are written for all others. A `goto` returns to where the chain was called from, as the
//! chain itself would have. Both questions together make four parts, however many rules there are: the
//! kernel follows no more than 16 chains.

use crate::netfilter::model::{Match, Owner, Rule, Target, Test, Why};

/// A rule of nf_tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub conditions: Vec<Condition>,
    pub action: Action,
    pub why: Option<Why>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// As in the model; that somebody does not own a packet is only asked of what has an owner.
    Match(Match),
    /// The packet has a socket, which is transparent if that is asked for.
    Socket { transparent: bool },
    /// The packet has a whole socket, which is not bound to any address, and transparent if that is
    /// asked for.
    BoundSocket { transparent: bool },
    /// The packet has a whole socket.
    WholeSocket,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Take(Target),
    /// On to another part of the chain.
    Goto(String),
}

/// What nf_tables can tell of some packets only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Who owns the packet.
    Owner,
    /// What its socket is bound to.
    Socket,
}

impl Question {
    pub(super) const ALL: [Question; 2] = [Question::Owner, Question::Socket];

    /// What a match asks.
    fn of(m: &Match) -> Option<Self> {
        match m.test {
            Test::Owner(_) if m.not => Some(Question::Owner),
            Test::Socket { .. } => Some(Question::Socket),
            _ => None,
        }
    }

    /// Holds for packets of which nf_tables can answer it. No user has the number -1 (`INVALID_UID`).
    pub(super) fn can_be_answered(self) -> Condition {
        match self {
            Question::Owner => Condition::Match(!Match::owner(Owner::Uid(u32::MAX))),
            Question::Socket => Condition::WholeSocket,
        }
    }
}

/// Whether a part's packets are those of which nf_tables can answer a question; not told apart yet
/// where it is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answers {
    owner: Option<bool>,
    socket: Option<bool>,
}

impl Answers {
    fn to(self, question: Question) -> Option<bool> {
        match question {
            Question::Owner => self.owner,
            Question::Socket => self.socket,
        }
    }

    pub(super) fn with(self, question: Question, answer: bool) -> Self {
        match question {
            Question::Owner => Answers {
                owner: Some(answer),
                ..self
            },
            Question::Socket => Answers {
                socket: Some(answer),
                ..self
            },
        }
    }
}

/// A part of a chain: the chain itself, or where a `goto` leads to.
#[derive(Debug)]
pub(crate) struct Part {
    pub name: String,
    /// Each with the number of the rule that it comes from.
    pub lines: Vec<(usize, Line)>,
}

/// The names of a chain's parts: the chain's own, and as many more as there can be.
#[derive(Clone, Debug)]
pub(crate) struct PartNames(pub(super) [String; 4]);

impl PartNames {
    /// Names of which nobody else's chain has one.
    pub(crate) fn of(chain: &str, is_taken: impl Fn(&str) -> bool) -> Self {
        let numbered = (1u32..).map(|number| format!("{chain}-{number}"));
        let mut free = numbered.filter(|name| !is_taken(name));
        PartNames(std::array::from_fn(|index| match index {
            0 => chain.to_owned(),
            _ => free.next().unwrap_or_default(),
        }))
    }
}

/// Whether a chain's name says that it can be a later part of `chain`.
pub(crate) fn is_part_name(name: &str, chain: &str) -> bool {
    chain_of_part(name) == Some(chain)
}

/// The chain of which one with this name can be a later part.
pub(crate) fn chain_of_part(name: &str) -> Option<&str> {
    let (chain, number) = name.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(chain)
}

/// A chain's rules as lines, part by part, each before those that it leads to.
pub(crate) fn lower(rules: &[&Rule], names: &PartNames) -> Vec<Part> {
    let mut lowering = Lowering {
        rules,
        names,
        parts: Vec::new(),
    };
    lowering.part(0, Answers::default());
    lowering.parts
}

struct Lowering<'a> {
    rules: &'a [&'a Rule],
    names: &'a PartNames,
    parts: Vec<Part>,
}

impl Lowering<'_> {
    /// Writes the part of the rules from `first` on that is for packets of this kind. Returns its name.
    fn part(&mut self, first: usize, mut answers: Answers) -> String {
        let at = self.parts.len();
        let name = self.names.0[at].clone();
        self.parts.push(Part {
            name: name.clone(),
            lines: Vec::new(),
        });
        let rules = self.rules;
        for (number, rule) in rules.iter().enumerate().skip(first) {
            for question in unanswered(rule, answers) {
                let index = self.parts[at].lines.len();
                let next = self.part(number, answers.with(question, true));
                let gate = Line {
                    conditions: vec![question.can_be_answered()],
                    action: Action::Goto(next),
                    why: rule.why.clone(),
                };
                self.parts[at].lines.insert(index, (number, gate));
                answers = answers.with(question, false);
            }
            let lines = lower_rule(rule, answers).into_iter();
            self.parts[at]
                .lines
                .extend(lines.map(|line| (number, line)));
        }
        name
    }
}

/// What a rule asks and is not answered yet, each once.
pub(super) fn unanswered(rule: &Rule, answers: Answers) -> Vec<Question> {
    let asks = |question: &Question| {
        rule.matches
            .iter()
            .any(|m| Question::of(m) == Some(*question))
    };
    let questions = Question::ALL.into_iter().filter(asks);
    questions.filter(|q| answers.to(*q).is_none()).collect()
}

/// The lines of one rule, for packets of this kind.
pub(super) fn lower_rule(rule: &Rule, answers: Answers) -> Vec<Line> {
    let conditions: Vec<Condition> = rule
        .matches
        .iter()
        .filter_map(|m| lower_match(m, answers))
        .collect();
    let line = |target: &Target| Line {
        conditions: conditions.clone(),
        action: Action::Take(target.clone()),
        why: rule.why.clone(),
    };
    let mut lines = vec![line(&rule.target)];
    if let Target::Tproxy { .. } = rule.target {
        lines.push(line(&Target::Drop));
    }
    lines
}

/// `None` if it holds for all packets of this kind.
fn lower_match(m: &Match, answers: Answers) -> Option<Condition> {
    match m.test {
        // Nobody owns the others, whoever is asked for.
        Test::Owner(_) if m.not && answers.owner == Some(false) => None,
        Test::Socket { transparent } if !m.not => Some(match answers.socket {
            Some(true) => Condition::BoundSocket { transparent },
            _ => Condition::Socket { transparent },
        }),
        _ => Some(Condition::Match(m.clone())),
    }
}
