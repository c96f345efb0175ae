//! Reads what `nft list ruleset` prints, and what [`render`](super::render) does.
//!
//! Rules are read as far as the model has their expressions; what follows is undecoded. A text that
//! nft cannot have printed is an error.

mod comparison;
mod rule;
#[cfg(test)]
mod tests;
mod tokens;

use super::decode::observed_chain;
use super::hooked::{NFPROTO_NETDEV, base_of, full_name};
use super::hooks::{self, Base, INET};
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{
    ChainName, Entry, Family, Hook, HookedChain, HookedTable, Observed, ObservedChain,
    ObservedRule, ObservedTable, Rules, TableName,
};
use std::collections::BTreeMap;
use tokens::Token::{self, Group, Word};
pub use tokens::Unreadable;
use tokens::statements;

/// What a listing says.
#[derive(Debug, Default)]
pub struct Listing {
    /// All that an IP packet traverses.
    pub rules: Rules,
    /// The tables of iptables-nft, as far as nft shows their rules.
    pub xt: Observed,
    /// Own tables.
    pub native: Observed,
}

/// The elements of each set.
type Sets<'t> = BTreeMap<&'t str, &'t [Token<'t>]>;

/// Where rules are.
struct Context<'t> {
    /// `NFPROTO_*` of the table.
    nfproto: u8,
    /// The family whose packets are evaluated.
    family: Family,
    /// The kind and the name of a table of this program or of iptables.
    place: Option<(TableKind, TableName)>,
    sets: Sets<'t>,
    lines: &'t [&'t str],
}

/// Reads a listing.
///
/// # Errors
/// If the text is not one of nft: the line, and what was expected there.
pub fn read(text: &str) -> Result<Listing, Unreadable> {
    let tokens = tokens::tokens(text)?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    // `nft --terse` omits the elements of all sets.
    let is_whole = text.contains("elements = {");
    let mut listing = Listing::default();
    for (line, statement) in statements(&tokens) {
        let expected = "table FAMILY NAME { … }";
        let unreadable = Unreadable { line, expected };
        let (nfproto, name, body) = table(statement).ok_or(unreadable)?;
        for family in families(nfproto) {
            let mut kinds = [TableKind::Native, TableKind::Xt].into_iter();
            let kind = kinds.find_map(|k| Some((k, hooks::table_of(k, name.as_bytes())?)));
            let context = Context {
                nfproto,
                family,
                place: kind.filter(|_| hooks::family(nfproto).is_some()),
                sets: sets(body, is_whole),
                lines: &lines,
            };
            listing.add(name, body, &context)?;
        }
    }
    // Among chains of equal priority the one hooked last runs first.
    listing.rules.tables.reverse();
    Ok(listing)
}

/// The family, name and body of `table FAMILY NAME { … }`.
fn table<'t>(statement: &'t [Token<'t>]) -> Option<(u8, &'t str, &'t [Token<'t>])> {
    let (family, name, body) = match statement {
        [Word("table"), Word(name), Group(body)] => ("ip", name, body),
        [Word("table"), Word(family), Word(name), Group(body)] => (*family, name, body),
        _ => return None,
    };
    let nfproto = match family {
        "ip" => hooks::nfproto(Family::V4),
        "ip6" => hooks::nfproto(Family::V6),
        "inet" => INET,
        "netdev" => NFPROTO_NETDEV,
        "arp" | "bridge" => 0,
        _ => return None,
    };
    Some((nfproto, name, body))
}

/// The families whose packets traverse a table.
fn families(nfproto: u8) -> Vec<Family> {
    match hooks::family(nfproto) {
        Some(family) => vec![family],
        None if [INET, NFPROTO_NETDEV].contains(&nfproto) => Family::ALL.to_vec(),
        None => Vec::new(),
    }
}

/// The sets of a table. Those without elements are omitted unless the listing is whole.
fn sets<'t>(body: &'t [Token<'t>], is_whole: bool) -> Sets<'t> {
    let elements = |set: &'t [Token<'t>]| {
        let listed = statements(set).find_map(|(_, statement)| match statement {
            [Word("elements"), Word("="), Group(elements)] => Some(elements.as_slice()),
            _ => None,
        });
        listed.or(is_whole.then_some(&[]))
    };
    let sets = statements(body).filter_map(|(_, statement)| match statement {
        [Word("set"), Word(name), Group(set)] => Some((*name, elements(set)?)),
        _ => None,
    });
    sets.collect()
}

impl Listing {
    fn add(&mut self, name: &str, body: &[Token], context: &Context) -> Result<(), Unreadable> {
        let (mut chains, mut observed, mut dormant) = (Vec::new(), Vec::new(), false);
        for (line, statement) in statements(body) {
            match statement {
                [Word("chain"), Word(name), Group(body)] => {
                    let (base, rules) = chain(body, context)?;
                    let (hooked, known) = read_chain(name, base, rules, context);
                    chains.push(hooked);
                    observed.extend(known);
                }
                [Word("flags"), flags @ ..] => dormant = flags.contains(&Word("dormant")),
                // Sets, and objects that rules refer to.
                [Word("comment"), _] | [Word(_), Word(_), .., Group(_)] => {}
                _ => {
                    let expected = "a chain, a set or another object of a table";
                    return Err(Unreadable { line, expected });
                }
            }
        }
        // As tables: the chain hooked last comes first.
        chains.reverse();
        if let Some((kind, name)) = context.place {
            let tables = match kind {
                TableKind::Native => &mut self.native.tables,
                _ => &mut self.xt.tables,
            };
            tables.push(ObservedTable {
                family: context.family,
                name,
                dormant,
                chains: observed,
            });
        }
        self.rules.tables.extend((!dormant).then(|| HookedTable {
            name: full_name(context.nfproto, name),
            family: Some(context.family),
            chains,
        }));
        Ok(())
    }
}

/// The hook of a chain and its rules, without those for the other family.
fn chain(
    body: &[Token],
    context: &Context,
) -> Result<(Option<Base>, Vec<ObservedRule>), Unreadable> {
    let (mut base, mut rules) = (None, Vec::new());
    for (line, statement) in statements(body) {
        match statement {
            [Word("type"), Word(kind), ..] => {
                let expected = "type TYPE hook HOOK priority PRIORITY";
                let hooked = hook(context.nfproto, kind, statement);
                base = Some(hooked.ok_or(Unreadable { line, expected })?);
            }
            [Word("policy"), policy] => {
                let accepts = *policy == Word("accept");
                base.iter_mut()
                    .for_each(|base: &mut Base| base.accepts = accepts);
            }
            [Word("comment"), _] | [Word("devices" | "flags"), ..] => {}
            rule => rules.extend(rule::read(rule, context.lines[line - 1], context)),
        }
    }
    Ok((base, rules))
}

/// `hook HOOK … priority PRIORITY`.
fn hook(nfproto: u8, kind: &str, statement: &[Token]) -> Option<Base> {
    let after = |name| {
        let at = statement.iter().position(|token| *token == Word(name))?;
        statement.get(at + 1..)
    };
    let hook = match (after("hook")?, nfproto) {
        ([Word("ingress"), ..], INET) => Hook::ALL.len() as u32,
        ([Word("ingress"), ..], NFPROTO_NETDEV) => 0,
        ([Word("egress"), ..], NFPROTO_NETDEV) => 1,
        ([Word(name), ..], _) => Hook::named(&name.to_uppercase())? as u32,
        _ => return None,
    };
    let (named, offset) = match after("priority")? {
        [Word(named)] => (named, 0),
        [Word(named), Word(sign), Word(offset)] => (named, format!("{sign}{offset}").parse().ok()?),
        _ => return None,
    };
    let priority: i32 = match *named {
        "raw" => -300,
        "mangle" => -150,
        "dstnat" => -100,
        "filter" => 0,
        "security" => 50,
        "srcnat" => 100,
        number => number.parse().ok()?,
    };
    Some(Base {
        hook,
        priority: priority.checked_add(offset)?,
        kind: kind.to_owned().into(),
        accepts: true,
    })
}

/// A chain as packets traverse it, and as the backend that it belongs to reads it.
fn read_chain(
    name: &str,
    base: Option<Base>,
    rules: Vec<ObservedRule>,
    context: &Context,
) -> (HookedChain, Option<ObservedChain>) {
    let mut entries: Vec<Entry> = rules.iter().map(Entry::observed).collect();
    let observed = context.place.and_then(|(kind, table)| {
        let name = ChainName::new(name).ok()?;
        let observed = observed_chain(kind, table, name, base.as_ref(), rules);
        if kind == TableKind::Native {
            entries = observed.rules.iter().map(Entry::observed).collect();
        }
        Some(observed)
    });
    if context.nfproto == NFPROTO_NETDEV {
        // The device is not known.
        entries = entries.into_iter().map(Entry::undetermined).collect();
    }
    let hooked = HookedChain {
        name: ChainName::of_nf_tables(name),
        base: base.and_then(|base| base_of(context.nfproto, &base)),
        rules: entries,
    };
    (hooked, observed)
}
