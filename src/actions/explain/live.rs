//! The rules that a packet meets now, in the tables of every backend, whoever wrote them.

use crate::engine::backends::{Backends, is_absence, read_until_unchanged};
use crate::engine::error::Error;
use crate::engine::privilege;
use crate::netfilter::backend::{Backend, BackendError, TableKind};
use crate::netfilter::model::{Family, HookedTable, Routing, Rules, TableName};
use crate::netfilter::rtnetlink;

/// Reads everything, with the policy routes.
///
/// # Errors
/// Where tables cannot be read that may hold rules: nothing would be certain.
pub(crate) fn rules() -> Result<(Rules, Routing), Error> {
    privilege::require_net_admin()?;
    let mut backends = Backends::default();
    let mut tables = nf_tables(&mut backends)?;
    match backends.open_used(TableKind::Legacy) {
        Ok(backend) => tables.extend(legacy(backend)?),
        Err(e) if is_absence(&e) => {}
        Err(e) => return Err(e.into()),
    }
    Ok((
        Rules { tables },
        rtnetlink::look(&Routing::default())?.in_effect(),
    ))
}

/// What is assumed where others have policy rules: their priorities are named.
pub(super) fn policy_rules_of_others(family: Family) -> Result<Option<String>, Error> {
    let others = rtnetlink::look(&Routing::default())?.other_rules(family);
    let priorities: Vec<String> = others.iter().map(ToString::to_string).collect();
    Ok((!others.is_empty()).then(|| {
        let priorities = priorities.join(", ");
        format!("foreign policy rules do not apply (ip rule: {priorities})")
    }))
}

fn nf_tables(backends: &mut Backends) -> Result<Vec<HookedTable>, BackendError> {
    let open = backends.nf_tables();
    match open.and_then(|tables| read_until_unchanged(|| tables.read_hooked())) {
        Err(e) if is_absence(&e) => Ok(Vec::new()),
        read => read,
    }
}

/// The name of a table of some kind.
pub(crate) fn table_name(kind: TableKind, table: TableName) -> String {
    match kind {
        TableKind::Xt => table.to_string(),
        TableKind::Native => format!("prepare-proxy-{table}"),
        TableKind::Legacy => format!("{table} (iptables-legacy)"),
    }
}

fn legacy(mut backend: Box<dyn Backend>) -> Result<Vec<HookedTable>, BackendError> {
    let observed = backend.read()?;
    let named = observed
        .tables
        .iter()
        .map(|table| HookedTable::observed(table_name(TableKind::Legacy, table.name), table));
    Ok(named.collect())
}
