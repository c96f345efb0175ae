//! What is installed: the managed rules in the tables of every backend.

use super::explain::table_name;
use crate::engine::backends::{
    Backends, Foreign, is_absence, is_uninspectable, read_until_unchanged, table_kinds_besides,
};
use crate::engine::error::Error;
use crate::engine::reconcile::plan::plan;
use crate::mesh::managed;
use crate::netfilter::backend::{BackendError, TableKind};
use crate::netfilter::model::{
    ChainName, Change, Family, HookedTable, Observed, ObservedRule, ObservedTable, Ruleset, Table,
    TableName,
};

/// The tables of one backend.
pub(super) struct Installed {
    pub backend: &'static str,
    pub kind: TableKind,
    pub observed: Observed,
    /// What a clean would remove.
    removal: Change,
}

/// A managed chain, or the managed rules of another one.
pub(super) struct ManagedChain<'a> {
    pub table: &'a ObservedTable,
    pub name: &'a ChainName,
    /// The chain itself is managed.
    pub is_managed: bool,
    pub rules: &'a [ObservedRule],
}

/// Reads the tables of every backend, with the counters of rules if they are asked for. What cannot
/// be inspected for lack of a capability or of /proc goes to `unseen`. The second result says what is
/// foreign there.
///
/// # Errors
/// Where tables cannot be read for another reason.
pub(super) fn read(
    counted: bool,
    unseen: &mut dyn FnMut(BackendError),
) -> Result<(Vec<Installed>, Foreign), Error> {
    let mut installed = Vec::new();
    let mut backends = Backends::default();
    for kind in table_kinds_besides(None) {
        let mut backend = match backends.open_used(kind) {
            Err(e) if is_absence(&e) => continue,
            Err(e) if is_uninspectable(&e) => {
                unseen(e);
                continue;
            }
            opened => opened?,
        };
        let observed = read_until_unchanged(|| match counted {
            true => backend.read_counted(),
            false => backend.read(),
        })?;
        installed.push(Installed {
            backend: backend.name(),
            kind,
            removal: plan(&observed, &Ruleset::default()),
            observed,
        });
    }
    let rules = managed::count_foreign_rules(installed.iter().map(|i: &Installed| &i.observed));
    let foreign = backends.foreign(rules);
    Ok((installed, foreign))
}

/// The installed rules as a ruleset, without what cannot be decoded.
pub(super) fn ruleset(installed: &[Installed]) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for chain in installed.iter().flat_map(Installed::chains) {
        let rules = chain.rules.iter().filter_map(|r| r.rule.clone());
        let table = table(&mut ruleset, chain.table.family, chain.table.name);
        table.chain(chain.name.clone()).rules.extend(rules);
    }
    ruleset
}

fn table(ruleset: &mut Ruleset, family: Family, name: TableName) -> &mut Table {
    let mut tables = ruleset.tables.iter();
    let at = tables.position(|t| (t.family, t.name) == (family, name));
    let at = at.unwrap_or_else(|| {
        ruleset.tables.push(Table::new(family, name));
        ruleset.tables.len() - 1
    });
    &mut ruleset.tables[at]
}

impl Installed {
    /// The tables that are in force, with their hooks.
    pub(super) fn hooked(&self) -> impl Iterator<Item = HookedTable> {
        let tables = self.observed.tables.iter().filter(|t| !t.dormant);
        tables.map(|t| HookedTable::observed(table_name(self.kind, t.name), t))
    }

    /// Every chain that holds something managed.
    pub(super) fn chains(&self) -> impl Iterator<Item = ManagedChain<'_>> {
        let changes = self.removal.tables.iter();
        let tables = changes.filter_map(|change| {
            let table = self.observed.table(change.family, change.name)?;
            Some((table, change))
        });
        tables.flat_map(|(table, change)| {
            let base = change.base.iter().map(move |base| ManagedChain {
                table,
                name: &base.chain,
                is_managed: false,
                rules: &base.delete,
            });
            let own = change.remove.iter().filter_map(|name| table.chain(name));
            let own = own.map(move |chain| ManagedChain {
                table,
                name: &chain.name,
                is_managed: true,
                rules: &chain.rules,
            });
            base.chain(own)
        })
    }
}
