//! Rules of nf_tables as rules of the model: what `line` writes, and nothing else.

use super::line::{
    Action, Answers, Condition, Line, Part, PartNames, Question, lower, lower_rule, unanswered,
};
use crate::netfilter::model::{Match, Rule, Test};

/// A rule that was read, or a line that is none, with its lines: their parts, and their places there.
pub(crate) struct Raised {
    pub rule: Option<Rule>,
    pub lines: Vec<(usize, usize)>,
}

/// The rules of a chain from the lines of all its parts, in the order of [`lower`].
///
/// Rules are read from where they are written in full, for packets that have all that is asked for. If
/// the other parts do not say the same, a last one that is no rule stands for that.
pub(crate) fn raise(names: &[&str], parts: &[Vec<Option<Line>>]) -> Vec<Raised> {
    let mut raised = Vec::new();
    let (mut part, mut at, mut answers) = (0, 0, Answers::default());
    while let Some(line) = parts[part].get(at) {
        if let Some((question, next)) = line.as_ref().and_then(|l| gate(l, names)) {
            (part, at, answers) = (next, 0, answers.with(question, true));
            continue;
        }
        let (rule, used) = match raise_rule(&parts[part][at..], answers) {
            Some((rule, used)) => (Some(rule), used),
            None => (None, 1),
        };
        let lines = (at..at + used).map(|line| (part, line)).collect();
        raised.push(Raised { rule, lines });
        at += used;
    }
    if parts.len() > 1 {
        check_all(names, parts, &mut raised);
    }
    raised
}

/// The question that a line asks for a whole part, and the number of that part.
fn gate(line: &Line, names: &[&str]) -> Option<(Question, usize)> {
    let Action::Goto(to) = &line.action else {
        return None;
    };
    let [condition] = line.conditions.as_slice() else {
        return None;
    };
    let mut questions = Question::ALL.into_iter();
    let question = questions.find(|q| q.can_be_answered() == *condition)?;
    let part = names.iter().position(|name| name == to)?;
    // Lines lead on, never back.
    (part > 0).then_some((question, part))
}

/// The rule that the first of these lines are, and how many they are.
fn raise_rule(lines: &[Option<Line>], answers: Answers) -> Option<(Rule, usize)> {
    let line = lines.first()?.as_ref()?;
    let Action::Take(target) = &line.action else {
        return None;
    };
    let matches: Option<Vec<Match>> = line.conditions.iter().map(raise_condition).collect();
    let mut rule = Rule::without_comment(matches?, target.clone());
    rule.why.clone_from(&line.why);
    // The rule is what these lines say if these lines are what would be written for it.
    let written = lower_rule(&rule, answers);
    let here = lines.get(..written.len())?;
    let same = here.iter().map(Option::as_ref).eq(written.iter().map(Some));
    (same && unanswered(&rule, answers).is_empty()).then_some((rule, written.len()))
}

fn raise_condition(condition: &Condition) -> Option<Match> {
    match condition {
        Condition::Match(m) => Some(m.clone()),
        Condition::Socket { transparent } | Condition::BoundSocket { transparent } => {
            Some(Match::new(Test::Socket {
                transparent: *transparent,
            }))
        }
        Condition::WholeSocket => None,
    }
}

/// Gives each rule its lines in all parts, if these are what would be written.
fn check_all(names: &[&str], parts: &[Vec<Option<Line>>], raised: &mut Vec<Raised>) {
    let rules: Option<Vec<&Rule>> = raised.iter().map(|r| r.rule.as_ref()).collect();
    let written = rules.map(|rules| {
        let names = PartNames(std::array::from_fn(|i| {
            names.get(i).copied().unwrap_or_default().to_owned()
        }));
        lower(&rules, &names)
    });
    let same = |written: &Vec<Part>| {
        let wanted = written
            .iter()
            .map(|p| p.lines.iter().map(|(_, line)| Some(line)));
        let found = parts.iter().map(|p| p.iter().map(Option::as_ref));
        written.len() == parts.len() && wanted.zip(found).all(|(w, f)| w.eq(f))
    };
    match written.filter(same) {
        Some(written) => {
            raised.iter_mut().for_each(|r| r.lines.clear());
            for (part, lines) in written.iter().enumerate() {
                for (at, (rule, _)) in lines.lines.iter().enumerate() {
                    raised[*rule].lines.push((part, at));
                }
            }
        }
        None => raised.push(Raised {
            rule: None,
            lines: Vec::new(),
        }),
    }
}
