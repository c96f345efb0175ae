//! The explanation as data: what `--format json` prints (docs/explain.md), and what the text is made
//! from.

use super::answer;
use super::question::Asked;
use crate::netfilter::model::{Credentials, Hook, Packet};
use crate::netfilter::trace::{
    Capture, End, Passage, Step, StepOutcome, TablePassage, Trace, Walk,
};
use serde::Serialize;

/// The answer to one question.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Explanation {
    /// One sentence.
    pub answer: String,
    /// No rule that could not be decoded makes a difference.
    pub determined: bool,
    pub connection: Connection,
    /// What the question leaves open.
    pub assumptions: Vec<String>,
    /// One, or several where rules could not be decoded.
    pub cases: Vec<Case>,
}

/// The packet that is followed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Connection {
    pub protocol: &'static str,
    pub from: String,
    pub to: String,
    /// Of the sender, if that is a process here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Where it comes in, if it comes from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    pub state: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// What happens in one case.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Case {
    /// The end of a sentence about the connection.
    pub answer: String,
    /// The rules that could not be decoded, and whether this case is that they apply.
    pub undecoded: Vec<Undecoded>,
    pub end: Ending,
    pub trace: Vec<Hop>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Undecoded {
    pub table: String,
    pub chain: String,
    pub rule: String,
    pub applies: bool,
}

/// Where it ended.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Ending {
    /// `delivered`, `sent`, `forwarded`, `dropped`, `rejected`, `no-route` or `unknown`.
    pub kind: &'static str,
    /// The address that it has in the end.
    pub to: String,
    pub from: String,
    /// `delivered`: the port of the socket that gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `delivered`: `redirect` or `tproxy`, if a rule led it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'static str>,
    /// `sent` and `forwarded`: where it leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// `rejected`: what the sender is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<&'static str>,
}

/// One hook.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Hop {
    pub hook: &'static str,
    pub from: String,
    pub to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_interface: Option<String>,
    pub mark: u32,
    pub tables: Vec<Table>,
}

/// One base chain there.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    pub table: String,
    pub chain: String,
    /// Why it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<&'static str>,
    pub rules: Vec<Rule>,
    /// `accept` or `drop`, where the base chain's policy decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<&'static str>,
}

/// One rule that it met.
#[derive(Debug, Serialize)]
pub(super) struct Rule {
    pub chain: String,
    /// How many jumps led here.
    pub depth: usize,
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub outcome: Outcome,
    /// What happened, or why nothing did.
    pub says: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub decides: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    PassedOver,
    Taken,
    Undecoded,
}

impl Explanation {
    /// Says what was found. `traces` has at least one.
    pub(super) fn new(asked: Asked, walk: &Walk, traces: &[Trace]) -> Self {
        let sender = walk.packet.owner.as_ref();
        let subject = answer::subject(&asked, walk.start, sender);
        let cases: Vec<Case> = traces.iter().map(|t| Case::new(&asked, walk, t)).collect();
        let mut ends = cases.iter().map(|case| &case.end);
        let first = ends.next();
        let known = first.is_some_and(|end| end.kind != "unknown");
        let determined = known && ends.all(|end| Some(end) == first);
        let answer = match cases.first().filter(|_| determined) {
            Some(only) if cases.len() == 1 => format!("{subject}: {}.", only.answer),
            Some(first) => {
                let first = &first.answer;
                format!("{subject}: {first}, regardless of the rules that could not be decoded.")
            }
            None => format!("{subject}: cannot be determined, {}.", depends(&cases)),
        };
        Explanation {
            answer,
            determined,
            connection: Connection::new(&asked, walk, sender),
            assumptions: asked.assumed,
            cases,
        }
    }
}

fn depends(cases: &[Case]) -> String {
    let mut rules: Vec<(&str, &str)> = cases
        .iter()
        .flat_map(|case| &case.undecoded)
        .map(|u| (u.chain.as_str(), u.rule.as_str()))
        .collect();
    rules.sort_unstable();
    rules.dedup();
    match rules.as_slice() {
        [(chain, rule)] => format!("because a rule of {chain} could not be decoded: {rule}"),
        rules => format!("because {} rules could not be decoded", rules.len()),
    }
}

impl Connection {
    fn new(asked: &Asked, walk: &Walk, sender: Option<&Credentials>) -> Self {
        Connection {
            protocol: answer::shown(asked.protocol),
            from: from(&walk.packet),
            to: asked.to.to_string(),
            user: sender.map(|sender| User {
                uid: sender.uid,
                gid: sender.gid,
                groups: sender.supplementary_groups.clone(),
            }),
            interface: walk.packet.in_interface.as_ref().map(ToString::to_string),
            state: asked.state.as_str(),
        }
    }
}

impl Case {
    fn new(asked: &Asked, walk: &Walk, trace: &Trace) -> Self {
        let undecoded = trace.undecoded.iter().map(|u| Undecoded {
            table: u.table.clone(),
            chain: u.chain.to_string(),
            rule: u.rule.clone(),
            applies: u.applies,
        });
        Case {
            answer: answer::predicate(asked, walk.start, trace),
            undecoded: undecoded.collect(),
            end: Ending::new(trace),
            trace: trace.passages.iter().map(Hop::new).collect(),
        }
    }
}

impl Ending {
    fn new(trace: &Trace) -> Self {
        let nothing = Ending {
            kind: "unknown",
            to: trace.packet.destination.to_string(),
            from: from(&trace.packet),
            port: None,
            by: None,
            through: None,
            with: None,
        };
        match &trace.end {
            End::Delivered { port, by } => Ending {
                kind: "delivered",
                port: Some(*port),
                by: by.map(|by| match by {
                    Capture::Redirect(_) => "redirect",
                    Capture::Tproxy => "tproxy",
                }),
                ..nothing
            },
            End::Sent { through, forwarded } => Ending {
                kind: if *forwarded { "forwarded" } else { "sent" },
                through: Some(through.to_string()),
                ..nothing
            },
            End::Dropped => Ending {
                kind: "dropped",
                ..nothing
            },
            End::Rejected(with) => Ending {
                kind: "rejected",
                with: Some(with.as_str()),
                ..nothing
            },
            End::NoRoute => Ending {
                kind: "no-route",
                ..nothing
            },
            End::Unknown => nothing,
        }
    }
}

impl Hop {
    fn new(passage: &Passage) -> Self {
        let packet = &passage.packet;
        // What lies behind it is not what this hook is about.
        let comes_in = matches!(passage.hook, Hook::Prerouting | Hook::Input | Hook::Forward);
        let came_in = packet.in_interface.as_ref().filter(|_| comes_in);
        Hop {
            hook: passage.hook.as_str(),
            from: from(packet),
            to: packet.destination.to_string(),
            in_interface: came_in.map(ToString::to_string),
            out_interface: packet.out_interface.as_ref().map(ToString::to_string),
            mark: packet.mark,
            tables: passage.tables.iter().map(Table::new).collect(),
        }
    }
}

impl Table {
    fn new(passage: &TablePassage) -> Self {
        Table {
            table: passage.table.clone(),
            chain: passage.chain.to_string(),
            skipped: passage.skipped,
            rules: passage.steps.iter().map(Rule::new).collect(),
            policy: passage.policy.map(|accepts| match accepts {
                true => "accept",
                false => "drop",
            }),
        }
    }
}

impl Rule {
    fn new(step: &Step) -> Self {
        let (outcome, says) = match &step.outcome {
            StepOutcome::PassedOver(reason) => (Outcome::PassedOver, reason.clone()),
            StepOutcome::Taken(effect) => (Outcome::Taken, effect.to_string()),
            StepOutcome::Ignored => (
                Outcome::Undecoded,
                "not decoded; assumed not to apply".to_owned(),
            ),
            StepOutcome::Assumed(None) => (
                Outcome::Undecoded,
                "not decoded; assumed to apply".to_owned(),
            ),
            StepOutcome::Assumed(Some(effect)) => (
                Outcome::Undecoded,
                format!("not decoded; assumed to apply: {effect}"),
            ),
        };
        Rule {
            chain: step.chain.to_string(),
            depth: step.depth,
            rule: step.rule.text(),
            why: step.rule.why().map(|why| why.as_str().to_owned()),
            outcome,
            says,
            decides: step.decides,
        }
    }
}

/// The source, with its port if somebody said one.
fn from(packet: &Packet) -> String {
    match packet.source.port() {
        super::ANY_PORT => packet.source.ip().to_string(),
        _ => packet.source.to_string(),
    }
}
