//! The rows of the table: classes of packets with one fate, in the reader's order.

use super::conditions::{Condition, Conditions, described};
use crate::mesh::managed::{purpose_of, stem_of};
use crate::mesh::signature::Purpose;
use crate::netfilter::model::{Entry, Owner, Rules, Test};
use crate::netfilter::trace::Start;
use crate::netfilter::trace::classes::{
    self, Class, Dimension, Ended, Hit, Picture, Set, Space, Stopped,
};
use serde::Serialize;
use std::collections::HashMap;

/// Packets with one fate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub group: Group,
    pub packets: Conditions,
    #[serde(flatten)]
    pub fate: Fate,
    /// The rules that decide; none where no rule does.
    pub rules: Vec<Decider>,
    /// The base chain whose policy drops them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// Whose packets they are, in the reader's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// What the proxy sends.
    Proxy,
    Exempt,
    Captured,
    Other,
}

/// What happens to them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
pub enum Fate {
    /// To the proxy.
    Proxy {
        /// Who listens there, if it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        listener: Option<&'static str>,
        port: u16,
        /// By TPROXY: addresses stay as they are.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        transparent: bool,
    },
    /// The proxy's own connection to elsewhere is sent to the proxy.
    Loop {
        port: u16,
    },
    /// To where it is for.
    Direct,
    /// To another destination; what is the same for all.
    Translated {
        address: Option<String>,
        port: Option<u16>,
    },
    Refused {
        with: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        redirected_to: Option<u16>,
    },
    Dropped {
        /// The port that a rule sent them to before.
        #[serde(skip_serializing_if = "Option::is_none")]
        redirected_to: Option<u16>,
    },
    NoRoute,
    /// One of these, by chance.
    ByChance {
        among: Vec<Fate>,
    },
    /// By a rule that could not be decoded, or an order of chains that nothing shows.
    Undetermined,
}

/// A rule that decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decider {
    pub table: String,
    pub chain: String,
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A base chain whose policy decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    pub table: String,
    pub chain: String,
}

impl Policy {
    fn of(hit: &Hit) -> Option<Self> {
        hit.rules.is_empty().then(|| Policy {
            table: hit.table.name.clone(),
            chain: hit.chain.name.to_string(),
        })
    }
}

impl Decider {
    fn of(hit: Hit) -> impl Iterator<Item = Self> {
        hit.rules.iter().map(move |rule| Decider {
            table: hit.table.name.clone(),
            chain: hit.chain.name.to_string(),
            rule: rule.text(),
            id: rule.id().map(|id| id.as_str().to_owned()),
        })
    }

    fn is_alike(&self, other: &Decider) -> bool {
        let same = match self.id.is_some() {
            true => self.id == other.id,
            false => self.rule == other.rule,
        };
        same && (&self.table, &self.chain) == (&other.table, &other.chain)
    }
}

impl Row {
    /// Whether the rows differ in addresses only.
    pub(super) fn is_alike(&self, other: &Row) -> bool {
        let shape = |row: &Row| {
            let lists = row.packets.iter().flatten();
            lists
                .map(|list| list.iter().map(Condition::shape).collect())
                .collect::<Vec<Vec<_>>>()
        };
        let rules = self.rules.len() == other.rules.len()
            && self
                .rules
                .iter()
                .zip(&other.rules)
                .all(|(a, b)| a.is_alike(b));
        (self.group, &self.fate, &self.policy) == (other.group, &other.fate, &other.policy)
            && rules
            && shape(self) == shape(other)
    }

    /// Adds the addresses of a row that is alike.
    pub(super) fn add(&mut self, other: &Row) {
        let mine = self.packets.iter_mut().flatten().flatten();
        let more = other.packets.iter().flatten().flatten();
        for (condition, more) in mine.zip(more).filter(|(c, _)| c.field.is_address()) {
            condition.values.extend(more.values.iter().cloned());
            condition.except.extend(more.except.iter().cloned());
        }
    }
}

/// What rows are put together by: of managed rules what they are for, of others and of policies their
/// chain.
type Key = (Group, Fate, String);

/// A row on its way.
struct Gathered<'a> {
    set: Set,
    rules: Vec<Hit<'a>>,
    /// Where the first of its rules is met.
    first: usize,
}

/// The rows of a picture with these classes.
pub(super) fn rows(
    space: &mut Space,
    picture: &Picture,
    classes: &[Class],
    rules: &Rules,
) -> Result<Vec<Row>, Stopped> {
    let order: HashMap<_, usize> = picture
        .hits
        .iter()
        .enumerate()
        .map(|(at, hit)| ((hit.place(), hit.set), at))
        .collect();
    let proxy = match picture.start {
        Start::Here => proxy(space, rules),
        Start::Outside => Set::NONE,
    };
    let own = space.own_at(picture.network, Dimension::Destination);
    let mut gathered: HashMap<Key, Gathered> = HashMap::new();
    for class in classes {
        for (set, group, fate) in divided(space, class, proxy, own) {
            let parts = match class.by {
                None if fate == Fate::Direct => picture.admitted(space, set),
                by => vec![(set, by)],
            };
            for (set, by) in parts {
                let key = (group, fate.clone(), stem(by));
                let row = gathered.entry(key).or_insert(Gathered {
                    set,
                    rules: Vec::new(),
                    first: usize::MAX,
                });
                row.set = space.or(row.set, set);
                row.rules.extend(by);
                let at = by.and_then(|hit| order.get(&(hit.place(), hit.set)));
                row.first = row.first.min(at.copied().unwrap_or(usize::MAX));
            }
        }
    }
    for (set, fate) in chances(space, picture) {
        let more = unclear(space, picture, set, Entry::is_by_chance);
        let key = (Group::Other, fate, "by chance".to_owned());
        match gathered.get_mut(&key) {
            Some(row) => {
                row.set = space.or(row.set, set);
                row.rules.extend(more.rules);
            }
            None => drop(gathered.insert(key, more)),
        }
    }
    let undetermined = space.without(picture.undetermined, picture.by_chance);
    if !space.is_empty(undetermined) {
        let key = (Group::Other, Fate::Undetermined, String::new());
        let is_undecoded = |entry: &Entry| matches!(entry, Entry::Undecoded { .. });
        let row = unclear(space, picture, undetermined, is_undecoded);
        gathered.insert(key, row);
    }
    let mut ordered: Vec<(Key, Gathered)> = gathered.into_iter().collect();
    ordered.sort_by_key(|((group, _, _), row)| (*group, row.first));
    let mut care = picture.all;
    let mut rows = Vec::new();
    while !ordered.is_empty() {
        let ((group, fate, _), row) = ordered.remove(next(space, &ordered, care));
        let packets = described(space, row.set, care, picture.network);
        care = space.without(care, row.set);
        let policy = row.rules.iter().find_map(Policy::of);
        let mut rules: Vec<Decider> = Vec::new();
        for rule in row.rules.into_iter().flat_map(Decider::of) {
            if rules.last() != Some(&rule) {
                rules.push(rule);
            }
        }
        rows.push(Row {
            group,
            packets,
            fate,
            rules,
            policy,
        });
    }
    space.check()?;
    Ok(rows)
}

/// The row that comes next: the first one, or of the last two of one group the one that is described
/// in fewer parts, so that the other one is the rest.
fn next(space: &mut Space, ordered: &[(Key, Gathered)], care: Set) -> usize {
    let [((group, ..), one), ((other_group, ..), other)] = ordered else {
        return 0;
    };
    if group != other_group {
        return 0;
    }
    let mut parts = |row: &Gathered| space.parts(row.set, care).map_or(usize::MAX, |p| p.len());
    usize::from(parts(other) < parts(one))
}

/// The packets of the users and groups that rules exempt as the proxy's.
fn proxy(space: &mut Space, rules: &Rules) -> Set {
    let mut proxy = Set::NONE;
    for entry in rules.entries() {
        let owner = entry.matches().iter().find_map(|m| match m.test {
            Test::Owner(owner) if !m.not => Some(owner),
            _ => None,
        });
        if let (Some((Purpose::ExemptProxy, _)), Some(owner)) = (purpose(entry), owner) {
            let (dimension, id) = match owner {
                Owner::Uid(id) => (Dimension::Uid, id),
                Owner::Gid(id) => (Dimension::Gid, id),
            };
            let owned = space.having(dimension, (id.into(), id.into()));
            proxy = space.or(proxy, owned);
        }
    }
    proxy
}

fn purpose(entry: &Entry) -> Option<(Purpose, &str)> {
    purpose_of(entry.id()?)
}

/// What rows are put together by, of the rule that decides.
fn stem(by: Option<Hit>) -> String {
    let Some(hit) = by else {
        return String::new();
    };
    let place = format!("{} {}", hit.table.name, hit.chain.name);
    let Some(rule) = hit.rules.first() else {
        return format!("policy {place}");
    };
    rule.id().map_or(place, |id| stem_of(id).to_owned())
}

/// The parts of a class that differ in whose packets they are.
fn divided(space: &mut Space, class: &Class, proxy: Set, own: Set) -> Vec<(Set, Group, Fate)> {
    let fate = fate(class);
    let set = class.packets;
    let mine = space.and(set, proxy);
    let others = space.without(set, proxy);
    let parts = match &fate {
        Fate::Direct => {
            let purpose = class.by.and_then(|hit| purpose(hit.rules.first()?));
            let group = match purpose {
                Some((Purpose::ExemptProxy | Purpose::ExemptPassed(_), _)) => Group::Proxy,
                _ if class.by.is_none() => Group::Other,
                _ => Group::Exempt,
            };
            vec![(set, group, fate)]
        }
        Fate::Proxy { port, listener, .. } => {
            let to_itself = space.and(mine, own);
            let elsewhere = space.without(mine, own);
            let looping = match listener {
                Some(_) => Fate::Loop { port: *port },
                None => fate.clone(),
            };
            vec![
                (to_itself, Group::Proxy, fate.clone()),
                (elsewhere, Group::Proxy, looping),
                (others, Group::Captured, fate),
            ]
        }
        Fate::Translated { .. } => vec![(set, Group::Captured, fate)],
        _ => vec![(set, Group::Other, fate)],
    };
    parts
        .into_iter()
        .filter(|(set, _, _)| !space.is_empty(*set))
        .collect()
}

fn fate(class: &Class) -> Fate {
    let purpose = class.by.and_then(|hit| purpose(hit.rules.first()?));
    Fate::of(class.end, |_| match purpose {
        Some((Purpose::To(who), _)) => Some(who),
        _ => None,
    })
}

impl Fate {
    /// The fate of packets with one end; `listener` is who listens on a port.
    pub(in crate::actions) fn of(
        end: &Ended,
        listener: impl Fn(u16) -> Option<&'static str>,
    ) -> Self {
        let proxy = |port, transparent| Fate::Proxy {
            listener: listener(port),
            port,
            transparent,
        };
        match (&end.fate, end.destination()) {
            (classes::Fate::Tproxied { port }, _) => proxy(*port, true),
            (classes::Fate::Redirected, (_, Some(port))) => proxy(port, false),
            (classes::Fate::Redirected, (address, None))
            | (classes::Fate::Sent { .. }, (address @ Some(_), None)) => Fate::Translated {
                address: address.map(|a| a.to_string()),
                port: None,
            },
            (classes::Fate::Sent { .. }, (address, port @ Some(_))) => Fate::Translated {
                address: address.map(|a| a.to_string()),
                port,
            },
            (classes::Fate::Direct | classes::Fate::Sent { .. }, _) => Fate::Direct,
            (classes::Fate::Dropped, _) => Fate::Dropped {
                redirected_to: end.lost,
            },
            (classes::Fate::Rejected(with), _) => Fate::Refused {
                with: with.as_str(),
                redirected_to: end.lost,
            },
            (classes::Fate::NoRoute, _) => Fate::NoRoute,
            (classes::Fate::Unknown, _) => Fate::Undetermined,
        }
    }
}

/// The packets of which chance decides, by what may happen to them.
fn chances(space: &mut Space, picture: &Picture) -> Vec<(Set, Fate)> {
    let chances = picture.chances(space).into_iter().map(|(set, ends)| {
        let mut among: Vec<Fate> = Vec::new();
        for fate in ends.into_iter().map(|end| Fate::of(end, |_| None)) {
            if !among.contains(&fate) {
                among.push(fate);
            }
        }
        let fate = match among.as_slice() {
            [one] => one.clone(),
            _ => Fate::ByChance { among },
        };
        (set, fate)
    });
    chances.filter(|(set, _)| *set != Set::NONE).collect()
}

/// Packets of which the rules alone do not decide, with those rules.
fn unclear<'a>(
    space: &mut Space,
    picture: &Picture<'a>,
    set: Set,
    by: fn(&Entry) -> bool,
) -> Gathered<'a> {
    let mut rules = Vec::new();
    for hit in &picture.hits {
        let concerned = space.and(hit.set, set);
        if hit.rules.iter().any(by) && !space.is_empty(concerned) {
            rules.push(*hit);
        }
    }
    Gathered {
        set,
        rules,
        first: 0,
    }
}
