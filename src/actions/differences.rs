//! `diff --connections`: which connections the options treat differently from what is installed, or
//! from the rules in a file. Nothing is written.

use super::diff::read_all;
use super::explain;
use super::explain::connections::Direction;
use super::explain::connections::conditions::{Conditions, described};
use super::explain::connections::rows::Fate;
use super::explain::place::{self, Place};
use crate::engine::backends::BackendChoice;
use crate::engine::error::Error;
use crate::engine::host;
use crate::engine::reconcile::plan::plan;
use crate::engine::request::Request;
use crate::mesh::config::ConfigError;
use crate::mesh::managed;
use crate::mesh::signature::Purpose;
use crate::netfilter::backend::{BackendError, TableKind};
use crate::netfilter::model::{Family, HookedTable, Observed, Routing, Rules, Ruleset, Target};
use crate::netfilter::nftables::{self, Listing};
use crate::netfilter::trace::Network;
use crate::netfilter::trace::classes::{Ended, STEPS, Set, Space, Stopped, differing, follow_all};
use crate::netfilter::{iptables, rtnetlink};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The options of `diff --connections`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The rules to compare with, instead of those that are installed.
    pub against: Option<PathBuf>,
    /// As [`super::explain::Question::local_addresses`].
    pub local_addresses: Vec<String>,
}

/// Everything that is treated differently.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Differences {
    pub differs: bool,
    /// Whether no rule that could not be decoded makes a difference.
    pub determined: bool,
    /// What nobody said, in sentences without their full stop.
    pub assumptions: Vec<String>,
    pub connections: Vec<Difference>,
}

/// Packets that are treated differently in one way.
#[derive(Debug, Serialize)]
pub struct Difference {
    pub direction: Direction,
    pub family: Family,
    pub packets: Conditions,
    /// Among them new connections of which no rule has marked anything yet, if there are any, in
    /// conditions that are enough for such.
    #[serde(rename = "new-connections", skip_serializing_if = "Option::is_none")]
    pub new_connections: Option<Conditions>,
    pub before: End,
    pub after: End,
}

/// What happens to packets, and with which marks they arrive where those are the same for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct End {
    #[serde(flatten)]
    pub fate: Fate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ct_mark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
}

/// Rules, with the routes that they rely on.
#[derive(Clone)]
struct State {
    rules: Rules,
    routing: Routing,
    /// Nothing says what routes there are.
    has_assumed_routing: bool,
}

/// Compares what is there with what an apply would make of it.
pub(super) fn differences(options: &Options, request: &Request) -> Result<Differences, Error> {
    let local = explain::local_addresses(&options.local_addresses)?;
    let desired = explain::resolved(&local, request)?.desired;
    let (before, after) = match &options.against {
        Some(path) => from_file(path, request, &desired)?,
        None => from_kernel(request, &desired)?,
    };
    let live = options.against.is_none();
    let Place {
        network,
        mut assumed,
    } = place::whole(&local, &before.routing, live)?;
    if before.has_assumed_routing {
        assumed.push("the policy routes of the options are in place".to_owned());
    }
    let new_network = place::whole(&local, &after.routing, live)?.network;
    let mut found = Differences {
        differs: false,
        determined: true,
        assumptions: assumed,
        connections: Vec::new(),
    };
    let (before, after) = ((&before.rules, &network), (&after.rules, &new_network));
    // What is the same treats every packet alike, whatever it is.
    let mut steps = STEPS;
    if before != after {
        for family in explain::connections::families(&network) {
            found.add(family, before, after, &mut steps)?;
        }
    }
    found.differs = !found.connections.is_empty();
    Ok(found)
}

/// The rules in a file, and what an apply would make of them.
fn from_file(path: &Path, request: &Request, desired: &Ruleset) -> Result<(State, State), Error> {
    let unknown = |problem: String| ConfigError::File {
        path: path.to_owned(),
        problem,
    };
    let text = host::file(path).map_err(|e| unknown(e.to_string()))?.text;
    let is_of_nft = text.lines().any(|line| line.starts_with("table "));
    let (before, found) = match text.trim_start().starts_with('{') {
        true => (dry_run(&text).map_err(unknown)?, Listing::default()),
        false => {
            let found = match is_of_nft {
                true => nftables::read_listing(&text).map_err(|e| unknown(e.to_string()))?,
                false => saved(&text).map_err(|e| unknown(e.to_string()))?,
            };
            let before = State {
                rules: found.rules.clone(),
                // Rules say nothing of routes.
                routing: desired.routing.clone(),
                has_assumed_routing: true,
            };
            (before, found)
        }
    };
    if before.rules.tables.is_empty() && !is_of_nft {
        let formats =
            "it is not of iptables-save, of nft list ruleset or of --dry-run (restore, nft, json)";
        return Err(unknown(formats.to_owned()).into());
    }
    let mut tables = [(TableKind::Xt, found.xt), (TableKind::Native, found.native)];
    if request.backend == BackendChoice::Nftables {
        tables.reverse();
    }
    let after = State {
        rules: applied(found.rules, &tables, desired),
        routing: desired.routing.clone(),
        ..before.clone()
    };
    Ok((before, after))
}

/// The rules in the JSON of a dry run.
fn dry_run(text: &str) -> Result<State, String> {
    let ruleset: Ruleset = serde_json::from_str(text)
        .map_err(|e| format!("--dry-run --format json did not print it: {e}"))?;
    let ruleset = managed::labelled(ruleset);
    Ok(State {
        rules: Rules::of(&ruleset),
        routing: ruleset.routing,
        has_assumed_routing: false,
    })
}

/// What an apply makes of rules: it writes the desired ones to the first of these tables, and removes
/// managed ones from the others.
fn applied(mut rules: Rules, tables: &[(TableKind, Observed)], desired: &Ruleset) -> Rules {
    for (at, (kind, observed)) in tables.iter().enumerate() {
        let change = match at {
            0 => plan(observed, &nftables::normalised(*kind, desired)),
            _ => plan(observed, &Ruleset::default()),
        };
        rules.apply(observed, &change, |table| explain::table_name(*kind, table));
    }
    rules
}

/// The tables of both families: comments say which tool has printed what follows, iptables-save if
/// none does. A dry run does not declare the base chains, and inserts at their heads, in order and
/// before it appends.
fn saved(text: &str) -> Result<Listing, BackendError> {
    let (mut parts, mut family) = ([String::new(), String::new()], Family::V4);
    let mut declared = BTreeSet::new();
    for line in text.split_inclusive('\n').map(appended) {
        let line = &*line;
        let chain = |behind: &str| {
            let line = line.strip_prefix(behind)?;
            line.split_whitespace().next().map(str::to_owned)
        };
        let part = &mut parts[usize::from(family == Family::V6)];
        match line.as_bytes().first() {
            Some(b'#') if line.contains("ip6tables") => family = Family::V6,
            Some(b'#') if line.contains("iptables") => family = Family::V4,
            Some(b'*') => declared.clear(),
            _ => {}
        }
        if let Some(chain) = chain("-A ").filter(|chain| !declared.contains(chain)) {
            *part += &format!(":{chain} - [0:0]\n");
            declared.insert(chain);
        }
        declared.extend(chain(":"));
        *part += line;
    }
    let [v4, v6] = parts;
    let mut tables = iptables::parse_save(Family::V4, &v4)?;
    tables.extend(iptables::parse_save(Family::V6, &v6)?);
    let hooked = tables.iter();
    let hooked = hooked.map(|table| HookedTable::observed(table.name.to_string(), table));
    Ok(Listing {
        rules: Rules {
            tables: hooked.collect(),
        },
        xt: Observed {
            tables,
            ..Observed::default()
        },
        ..Listing::default()
    })
}

/// `-A CHAIN RULE` of `-I CHAIN NUMBER RULE`.
fn appended(line: &str) -> Cow<'_, str> {
    let mut words = line.splitn(4, ' ');
    match [words.next(), words.next(), words.next(), words.next()] {
        [Some("-I"), Some(chain), Some(_), Some(rule)] => format!("-A {chain} {rule}").into(),
        _ => line.into(),
    }
}

/// What is installed, with everything foreign, and what an apply would make of it.
fn from_kernel(request: &Request, desired: &Ruleset) -> Result<(State, State), Error> {
    let (rules, routing) = explain::live_rules()?;
    let opened = read_all(request.backend)?.0.into_iter();
    let tables: Vec<(TableKind, Observed)> = opened
        .map(|(backend, observed)| (backend.kind(), observed))
        .collect();
    let marks = tables.iter();
    let marks = marks.flat_map(|(_, observed)| managed::tproxy_marks(observed));
    let marks: BTreeSet<u32> = marks.collect();
    let candidates = rtnetlink::look(&desired.routing)?.candidates();
    let unneeded = managed::unneeded_routing(&candidates, &marks, &desired.routing);
    let before = State {
        rules,
        routing,
        has_assumed_routing: false,
    };
    let after = State {
        rules: applied(before.rules.clone(), &tables, desired),
        routing: before
            .routing
            .without(&unneeded)
            .with(desired.routing.clone()),
        ..before.clone()
    };
    Ok((before, after))
}

/// Rules, and where they are.
type Rulebook<'a> = (&'a Rules, &'a Network);

impl Differences {
    /// Adds what is different for the packets of a family.
    fn add(
        &mut self,
        family: Family,
        before: Rulebook,
        after: Rulebook,
        steps: &mut u32,
    ) -> Result<(), Stopped> {
        let listeners = [listeners(before.0), listeners(after.0)];
        for direction in Direction::ALL {
            let start = direction.start();
            let mut space = Space::new(family, [before, after], *steps);
            let within = explain::connections::through_known_interfaces(&mut space);
            let old = follow_all(&mut space, start, before.0, before.1, within)?;
            let new = follow_all(&mut space, start, after.0, after.1, within)?;
            let unclear = space.or(old.undetermined, new.undetermined);
            self.determined &= space.is_empty(unclear);
            let mut kinds: Vec<(End, End, Set)> = Vec::new();
            for difference in differing(&mut space, &old, &new) {
                let (one, other) = (difference.before, difference.after);
                let one_end = End::of(one, other, &listeners[0]);
                let other_end = End::of(other, one, &listeners[1]);
                let same =
                    |kind: &&mut (End, End, Set)| (&kind.0, &kind.1) == (&one_end, &other_end);
                match kinds.iter_mut().find(same) {
                    Some(kind) => kind.2 = space.or(kind.2, difference.packets),
                    None => kinds.push((one_end, other_end, difference.packets)),
                }
            }
            let care = space.and(old.all, new.all);
            let beginning = space.new_connections();
            let new_care = space.and(care, beginning);
            for (before, after, packets) in kinds {
                let new = space.and(packets, beginning);
                let mut described =
                    |packets, care| described(&mut space, packets, care, old.network);
                self.connections.push(Difference {
                    direction,
                    family,
                    packets: described(packets, care),
                    new_connections: (new != Set::NONE).then(|| described(new, new_care)),
                    before,
                    after,
                });
            }
            space.check()?;
            *steps = space.steps_left();
        }
        Ok(())
    }
}

type Listeners = BTreeMap<u16, &'static str>;

/// Who listens on the ports that managed rules lead to.
fn listeners(rules: &Rules) -> Listeners {
    let listeners = rules.entries().filter_map(|entry| {
        let port = match entry.target()? {
            Target::Redirect { to_port } => *to_port,
            Target::Tproxy { on_port, .. } => *on_port,
            _ => return None,
        };
        match managed::purpose_of(entry.id()?)? {
            (Purpose::To(who), _) => Some((port, who)),
            _ => None,
        }
    });
    listeners.collect()
}

impl End {
    /// An end, with the marks in which it differs from another one.
    fn of(ended: &Ended, other: &Ended, listeners: &Listeners) -> Self {
        let (mine, others) = (ended.marks(), other.marks());
        let same = ended.fate == other.fate;
        End {
            fate: Fate::of(ended, |port| listeners.get(&port).copied()),
            mark: mine.0.filter(|_| same && mine.0 != others.0),
            ct_mark: mine.1.filter(|_| same && mine.1 != others.1),
            zone: mine.2.filter(|_| same && mine.2 != others.2),
        }
    }
}
