//! `diff`: what an apply would change, in the order of the rules. Nothing is written.

use super::verify::{self, Ahead};
use crate::engine::backends::{
    BackendChoice, Backends, Foreign, is_absence, read_tables, table_kinds_besides,
};
use crate::engine::error::Error;
use crate::engine::privilege;
use crate::engine::reconcile::plan::plan;
use crate::engine::request::Request;
use crate::mesh::managed;
use crate::netfilter::backend::{Backend, BackendError};
use crate::netfilter::model::{
    ChainName, Family, InetTable, Observed, ObservedRule, RoutingPart, Rule, Ruleset, TableChange,
    TableName,
};
use crate::netfilter::netlink::Socket;
use crate::netfilter::rtnetlink::Router;
use serde::Serialize;
use similar::{Algorithm, ChangeTag, capture_diff_slices};
use std::collections::BTreeSet;

/// Everything that differs; empty when the kernel holds just what is wanted.
#[derive(Debug, Default, Serialize)]
pub struct Diff {
    pub differs: bool,
    /// The backend that an apply would write with.
    pub backend: &'static str,
    /// Tables in which nothing is in force, though it stands there.
    pub dormant: Vec<DormantTable>,
    pub chains: Vec<ChainDiff>,
    /// Tables of another tool that go as a whole (`inet istio-proxy-nat`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inet_tables: Vec<InetTable>,
    /// Policy routes and addresses that come or go, as ip(8) commands that make them.
    pub routing: Vec<Line>,
    /// Foreign rules that take precedence over managed ones, as an apply finds them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<Ahead>,
}

/// The options of `diff`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Foreign rules that take precedence are a difference too.
    pub strict: bool,
}

/// A table that has the flag `dormant`.
#[derive(Debug, Serialize)]
pub struct DormantTable {
    /// The backend in whose tables the table is.
    pub backend: &'static str,
    pub family: Family,
    pub table: TableName,
}

/// One chain in which something differs.
#[derive(Debug, Serialize)]
pub struct ChainDiff {
    /// The backend in whose tables the chain is.
    pub backend: &'static str,
    pub family: Family,
    pub table: TableName,
    pub chain: ChainName,
    /// Whether the chain itself stays, goes or comes.
    pub action: LineAction,
    pub rules: Vec<Line>,
}

/// A managed rule that stays, is removed or is added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub action: LineAction,
    /// The rule as iptables-save prints it, without its comment.
    pub rule: String,
    /// What it is for, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LineAction {
    Keep,
    Remove,
    Add,
}

/// Compares the observed state with what the options ask for.
pub(super) fn diff(options: Options, request: &Request) -> Result<Diff, Error> {
    let mut router = Router::open()?;
    let (resolved, _) = request.resolve(&mut router)?;
    privilege::require_net_admin()?;
    let (mut diff, foreign) = against(&resolved.desired, request.backend, &mut router)?;
    diff.ahead = match verify::rules_ahead(&resolved.desired, foreign) {
        Err(e) if !options.strict => {
            log::debug!("cannot look for foreign rules that take precedence: {e}");
            Vec::new()
        }
        ahead => ahead?.into_iter().collect(),
    };
    diff.differs |= options.strict && !diff.ahead.is_empty();
    Ok(diff)
}

/// Compares the observed state with nothing at all: what a clean would remove.
pub(super) fn of_clean(request: &Request) -> Result<Diff, Error> {
    privilege::require_net_admin()?;
    let mut router = Router::open()?;
    Ok(against(&Ruleset::default(), request.backend, &mut router)?.0)
}

/// Compares the tables of every backend with what is desired in them: everything in those that an
/// apply would write to, nothing in the others. The second result says what is foreign there.
fn against(
    wanted: &Ruleset,
    choice: BackendChoice,
    router: &mut Router<Socket>,
) -> Result<(Diff, Foreign), Error> {
    let mut diff = Diff::default();
    let mut marks = BTreeSet::new();
    let (opened, foreign) = read_all(choice)?;
    for (at, (backend, observed)) in opened.into_iter().enumerate() {
        match at {
            0 => {
                diff.backend = backend.name();
                diff.add(backend.name(), &observed, &backend.normalised(wanted));
            }
            _ => diff.add(backend.name(), &observed, &Ruleset::default()),
        }
        marks.extend(managed::tproxy_marks(&observed));
    }
    let routing = router.look(&wanted.routing)?;
    let unneeded = managed::unneeded_routing(&routing.candidates(), &marks, &wanted.routing);
    let going = routing.removable(&unneeded, &wanted.routing);
    diff.add_routing(going, LineAction::Remove);
    diff.add_routing(routing.missing(&wanted.routing)?, LineAction::Add);
    let rules = diff.dormant.is_empty() && diff.chains.is_empty() && diff.inet_tables.is_empty();
    diff.differs = !rules || !diff.routing.is_empty();
    Ok((diff, foreign))
}

type Opened = (Box<dyn Backend>, Observed);

/// The tables of every backend that can be read: first those that an apply would write to.
pub(super) fn read_all(choice: BackendChoice) -> Result<(Vec<Opened>, Foreign), Error> {
    let mut backends = Backends::default();
    let first = target(choice, &mut backends)?;
    let besides = table_kinds_besides(Some(first.0.kind()));
    let mut opened = vec![first];
    for kind in besides {
        match read(backends.open_used(kind)) {
            // An apply would leave them alone too.
            Err(Error::Backend(e @ BackendError::LegacyUnknown { .. })) => log::warn!("{e}"),
            read => opened.extend(read?),
        }
    }
    let rules = managed::count_foreign_rules(opened.iter().map(|(_, observed)| observed));
    let foreign = backends.foreign(rules);
    Ok((opened, foreign))
}

/// Reads what was opened, or `None` where this machine cannot have it.
fn read(backend: Result<Box<dyn Backend>, BackendError>) -> Result<Option<Opened>, Error> {
    let opened = backend.and_then(|mut backend| {
        let observed = read_tables(&mut *backend)?;
        Ok((backend, observed))
    });
    match opened {
        Err(e) if is_absence(&e) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

/// The backend that an apply would try first, of those that there are.
fn target(choice: BackendChoice, backends: &mut Backends) -> Result<Opened, Error> {
    for candidate in choice.candidates(backends)? {
        if let Some(opened) = read(backends.open(candidate.kind))? {
            return Ok(opened);
        }
    }
    Err(Error::NoBackend)
}

impl Diff {
    /// Adds the difference between the tables of one backend and what is desired in them.
    fn add(&mut self, backend: &'static str, observed: &Observed, wanted: &Ruleset) {
        let change = plan(observed, wanted);
        self.inet_tables.extend(change.remove);
        for table in &change.tables {
            self.dormant.extend(table.wake.then_some(DormantTable {
                backend,
                family: table.family,
                table: table.name,
            }));
            let before = |name: &ChainName| {
                let chain = observed.table(table.family, table.name)?.chain(name)?;
                Some(chain.rules.as_slice())
            };
            let made_of = |(chain, action, rules)| ChainDiff {
                backend,
                family: table.family,
                table: table.name,
                chain,
                action,
                rules,
            };
            self.chains
                .extend(chains(table, before).into_iter().map(made_of));
        }
    }

    fn add_routing(&mut self, parts: Vec<RoutingPart>, action: LineAction) {
        let line = |part: RoutingPart| Line {
            action,
            rule: part.to_string(),
            id: None,
        };
        self.routing.extend(parts.into_iter().map(line));
    }
}

/// The chains of one table that change, each with its rules before and after.
fn chains<'a>(
    table: &TableChange,
    before: impl Fn(&ChainName) -> Option<&'a [ObservedRule]>,
) -> Vec<(ChainName, LineAction, Vec<Line>)> {
    let stays_or_comes = |name: &ChainName| match before(name) {
        Some(_) => LineAction::Keep,
        None => LineAction::Add,
    };
    let policies = table.accept.iter().map(|name| {
        let policy = |action, rule: &str| Line {
            action,
            rule: rule.to_owned(),
            id: None,
        };
        let lines = vec![
            policy(LineAction::Remove, "policy DROP"),
            policy(LineAction::Add, "policy ACCEPT"),
        ];
        (name.clone(), LineAction::Keep, lines)
    });
    let base = table.base.iter().map(|chain| {
        let wanted: Vec<&Rule> = chain.head.iter().chain(&chain.tail).collect();
        let (name, action) = (chain.chain.clone(), stays_or_comes(&chain.chain));
        (name, action, lines(&chain.delete, &wanted))
    });
    let rewritten = table.rewrite.iter().map(|chain| {
        let wanted: Vec<&Rule> = chain.rules.iter().collect();
        let old = before(&chain.name).unwrap_or_default();
        let (name, action) = (chain.name.clone(), stays_or_comes(&chain.name));
        (name, action, lines(old, &wanted))
    });
    let removed = table.remove.iter().map(|name| {
        let old = before(name).unwrap_or_default();
        (name.clone(), LineAction::Remove, lines(old, &[]))
    });
    policies
        .chain(base)
        .chain(rewritten)
        .chain(removed)
        .collect()
}

/// The shortest way from the old rules to the new ones. What stays is shown too: the first match
/// wins, so a rule's place is part of its meaning.
fn lines(old: &[ObservedRule], new: &[&Rule]) -> Vec<Line> {
    let before: Vec<Line> = old.iter().map(Line::of_observed).collect();
    let after: Vec<Line> = new.iter().map(|r| Line::of_rule(r)).collect();
    let texts = |lines: &[Line]| lines.iter().map(|l| l.rule.clone()).collect::<Vec<_>>();
    let steps = capture_diff_slices(Algorithm::Myers, &texts(&before), &texts(&after));
    let changes = steps.iter().flat_map(|step| {
        step.iter_changes(&before, &after)
            .map(|change| change.value().with(change.tag()))
            .collect::<Vec<_>>()
    });
    changes.collect()
}

impl Line {
    fn of_observed(observed: &ObservedRule) -> Line {
        match &observed.rule {
            Some(rule) => Line::of_rule(rule),
            None => Line {
                action: LineAction::Keep,
                rule: observed.text.clone(),
                id: None,
            },
        }
    }

    fn of_rule(rule: &Rule) -> Line {
        Line {
            action: LineAction::Keep,
            rule: rule.text(),
            id: rule.id.as_ref().map(|w| w.as_str().to_owned()),
        }
    }

    fn with(&self, tag: ChangeTag) -> Line {
        Line {
            action: match tag {
                ChangeTag::Equal => LineAction::Keep,
                ChangeTag::Delete => LineAction::Remove,
                ChangeTag::Insert => LineAction::Add,
            },
            rule: self.rule.clone(),
            id: self.id.clone(),
        }
    }
}
