//! The rules that are to hold: those that the options ask for, or, where none are given, those that
//! are installed.

use crate::actions::event::{Event, resolve};
use crate::engine::backends::{
    Backends, is_absence, is_uninspectable, read_tables, table_kinds_besides,
};
use crate::engine::error::Error;
use crate::engine::privilege;
use crate::engine::reconcile::plan::plan;
use crate::engine::request::Request;
use crate::mesh::managed::{self, tproxy_marks};
use crate::netfilter::model::{Observed, ObservedRule, Ruleset, Table, TableChange};
use crate::netfilter::rtnetlink;
use std::collections::BTreeSet;

/// The desired rules, or the installed ones where no mesh and no option of one is given, nor enough
/// of them by variables.
pub(super) fn or_desired(request: &Request, tell: &mut dyn FnMut(Event)) -> Result<Ruleset, Error> {
    match resolve(request, tell) {
        Err(e) if request.asks_for_nothing(&e) => installed(),
        resolved => Ok(resolved?.desired),
    }
}

/// What a clean would remove.
fn installed() -> Result<Ruleset, Error> {
    privilege::require_net_admin()?;
    let mut ruleset = Ruleset::default();
    let mut marks = BTreeSet::new();
    let mut backends = Backends::default();
    for kind in table_kinds_besides(None) {
        let mut backend = match backends.open_used(kind) {
            Err(e) if is_absence(&e) || is_uninspectable(&e) => continue,
            opened => opened?,
        };
        let observed = read_tables(&mut *backend)?;
        marks.extend(tproxy_marks(&observed));
        for change in &plan(&observed, &Ruleset::default()).tables {
            add(&mut ruleset, &observed, change);
        }
    }
    let found = rtnetlink::look(&ruleset.routing)?.candidates();
    ruleset.routing = managed::routing(&found, &marks);
    Ok(ruleset)
}

/// Adds the managed rules of one table.
fn add(ruleset: &mut Ruleset, observed: &Observed, change: &TableChange) {
    let mut table = Table::new(change.family, change.name);
    let known = |rules: &[ObservedRule]| rules.iter().filter_map(|r| r.rule.clone()).collect();
    for base in &change.base {
        table.chain(base.chain.clone()).rules = known(&base.delete);
    }
    let observed = observed.table(change.family, change.name);
    for chain in change
        .remove
        .iter()
        .filter_map(|name| observed?.chain(name))
    {
        table.chain(chain.name.clone()).rules = known(&chain.rules);
    }
    match ruleset
        .tables
        .iter_mut()
        .find(|t| (t.family, t.name) == (table.family, table.name))
    {
        Some(there) => there.chains.append(&mut table.chains),
        None => ruleset.tables.push(table),
    }
}
