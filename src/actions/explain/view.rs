//! The explanation as data: what `--format json` prints (docs/explain.md), and what the text is made
//! from.

use super::answer;
use super::question::Asked;
use crate::netfilter::model::{Credentials, Hook, Packet};
use crate::netfilter::trace::{
    self, Capture, End, Passage, Probe, Step, StepOutcome, TablePassage, Trace,
};
use serde::Serialize;

/// The answer to one question.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explanation {
    /// One sentence.
    pub answer: String,
    /// No rule that could not be decoded makes a difference.
    pub determined: bool,
    pub connection: Connection,
    /// What the question leaves open.
    pub assumptions: Vec<String>,
    /// Every rule that could not be decoded but may apply.
    pub undecoded: Vec<Undecoded>,
    /// One, or several where rules could not be decoded.
    pub cases: Vec<Case>,
}

/// The packet that is followed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Connection {
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
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// What happens in one case.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Case {
    /// The end of a sentence about the connection.
    pub answer: String,
    /// Those of the rules that could not be decoded which are assumed to apply here, by their places
    /// in the list of all.
    pub applying: Vec<usize>,
    /// Base chains of one priority, in the order that is assumed here; where it makes a difference.
    pub order: Vec<Order>,
    pub end: Ending,
    pub trace: Vec<Hop>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Undecoded {
    pub table: String,
    pub chain: String,
    /// nf_tables' handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    pub rule: String,
    /// It was decoded, but applies by chance.
    pub by_chance: bool,
}

/// Base chains of different tables with one priority at one hook.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Order {
    pub hook: &'static str,
    /// `CHAIN of table TABLE`, the first one in front.
    pub chains: Vec<String>,
}

/// Where it ended.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ending {
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
    /// `rejected`: what the sender gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<&'static str>,
    /// `to` or `from` is one of several that nat may take.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub one_of_several: bool,
}

/// One hook.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hop {
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
pub struct Table {
    pub table: String,
    pub chain: String,
    /// Why it was not evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<&'static str>,
    pub rules: Vec<Rule>,
    /// `accept` or `drop`, where the base chain's policy decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<&'static str>,
}

/// One rule that was evaluated.
#[derive(Debug, Serialize)]
pub struct Rule {
    pub chain: String,
    /// How many jumps led here.
    pub depth: usize,
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub outcome: Outcome,
    /// What happened, or why nothing did.
    pub says: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub decides: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    PassedOver,
    Taken,
    Undecoded,
    /// Whether it applies is chance.
    ByChance,
}

impl Explanation {
    /// Says what was found. `traces` has at least one.
    pub fn new(asked: Asked, probe: &Probe, traces: &[Trace]) -> Self {
        let sender = probe.packet.owner.as_ref();
        let subject = answer::subject(&asked, probe.start, sender);
        let undecoded = all_undecoded(traces);
        let case = |trace| Case::new(&asked, probe, trace, &undecoded);
        let cases: Vec<Case> = traces.iter().map(case).collect();
        let alike = cases.iter().all(|case| case.end == cases[0].end);
        let known = cases.iter().all(|case| case.end.kind != "unknown");
        let by_chance = undecoded.iter().all(|u| u.by_chance) && cases[0].order.is_empty();
        let determined = known && (alike || by_chance);
        let answer = match (determined, cases.as_slice()) {
            (true, [only]) => only.answer.clone(),
            (true, [first, ..]) if alike => {
                let first = &first.answer;
                format!("{first}, regardless of the rules that could not be decoded")
            }
            (true, cases) => chances(cases),
            (false, cases) => format!("cannot be determined, {}", depends(cases, &undecoded)),
        };
        Explanation {
            answer: format!("{subject}: {answer}."),
            determined,
            connection: Connection::new(&asked, probe, sender),
            assumptions: asked.assumed,
            undecoded,
            cases,
        }
    }
}

/// Every rule that was not decoded in some trace, each once.
fn all_undecoded(traces: &[Trace]) -> Vec<Undecoded> {
    let mut all: Vec<Undecoded> = Vec::new();
    for undecoded in traces.iter().flat_map(|t| &t.undecoded).map(Undecoded::of) {
        if !all.contains(&undecoded) {
            all.push(undecoded);
        }
    }
    all
}

/// What may happen by chance.
fn chances(cases: &[Case]) -> String {
    const SHOWN: usize = 4;
    let mut answers: Vec<&str> = cases.iter().map(|case| case.answer.as_str()).collect();
    answers.sort_unstable();
    answers.dedup();
    let more = match answers.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; or {more} other ends"),
    };
    answers.truncate(SHOWN);
    format!("by chance it {}{more}", answers.join("; or it "))
}

/// What the answer depends on.
fn depends(cases: &[Case], undecoded: &[Undecoded]) -> String {
    match (undecoded, cases[0].order.as_slice()) {
        ([], [first, ..]) => format!(
            "because nothing shows which is evaluated first at {}: {}",
            first.hook,
            first.chains.join(" or ")
        ),
        ([only], _) => {
            let (chain, rule) = (&only.chain, &only.rule);
            format!("because a rule of {chain} could not be decoded: {rule}")
        }
        (several, _) => format!("because {} rules could not be decoded", several.len()),
    }
}

impl Connection {
    fn new(asked: &Asked, probe: &Probe, sender: Option<&Credentials>) -> Self {
        Connection {
            protocol: answer::shown(asked.protocol),
            from: from(&probe.packet),
            to: asked.to.to_string(),
            user: sender.map(|sender| User {
                uid: sender.uid,
                gid: sender.gid,
                groups: sender.supplementary_groups.clone(),
            }),
            interface: probe.packet.in_interface.as_ref().map(ToString::to_string),
            state: asked.state.as_str(),
        }
    }
}

impl Case {
    fn new(asked: &Asked, probe: &Probe, trace: &Trace, undecoded: &[Undecoded]) -> Self {
        let applying = trace
            .undecoded
            .iter()
            .filter(|u| u.applies)
            .map(Undecoded::of);
        let place = |one| undecoded.iter().position(|u| *u == one);
        let order = trace.order.iter().map(|tie| Order {
            hook: tie.hook.as_str(),
            chains: tie
                .chains
                .iter()
                .map(|(table, chain)| format!("{chain} of table {table}"))
                .collect(),
        });
        Case {
            answer: answer::predicate(asked, probe.start, trace),
            applying: applying.filter_map(place).collect(),
            order: order.collect(),
            end: Ending::new(trace),
            trace: trace.passages.iter().map(Hop::new).collect(),
        }
    }
}

impl Undecoded {
    fn of(found: &trace::Undecoded) -> Self {
        Undecoded {
            table: found.table.clone(),
            chain: found.chain.to_string(),
            handle: found.handle,
            rule: found.rule.clone(),
            by_chance: found.by_chance,
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
            one_of_several: trace.has_choice(),
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
        let (open, why) = match step.rule.is_by_chance() {
            true => (Outcome::ByChance, "by chance"),
            false => (Outcome::Undecoded, "not decoded"),
        };
        let (outcome, says) = match &step.outcome {
            StepOutcome::PassedOver(reason) => (Outcome::PassedOver, reason.clone()),
            StepOutcome::Taken(effect) => (Outcome::Taken, effect.to_string()),
            StepOutcome::Ignored => (open, format!("{why}; assumed not to apply")),
            StepOutcome::Assumed(None) => (open, format!("{why}; assumed to apply")),
            StepOutcome::Assumed(Some(effect)) => {
                (open, format!("{why}; assumed to apply: {effect}"))
            }
        };
        Rule {
            chain: step.chain.to_string(),
            depth: step.depth,
            rule: step.rule.text(),
            id: step.rule.id().map(|id| id.as_str().to_owned()),
            outcome,
            says,
            decides: step.decides,
        }
    }
}

/// The source, with its port if one is given.
fn from(packet: &Packet) -> String {
    match packet.source.port() {
        super::ANY_PORT => packet.source.ip().to_string(),
        _ => packet.source.to_string(),
    }
}
