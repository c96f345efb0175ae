//! The rules that a packet meets now, in every store, whoever wrote them.

use super::super::may_change_rules;
use crate::engine::backends::{Backends, is_absence, read_until_unchanged};
use crate::engine::error::Error;
use crate::mesh::config::Host;
use crate::netfilter::backend::{Backend, BackendError, Store};
use crate::netfilter::model::{HookedTable, Routing, Rules};
use crate::netfilter::rtnetlink;

/// Reads everything, with the policy routes.
///
/// # Errors
/// Where a store cannot be read that may hold rules: nothing would be certain.
pub(crate) fn rules(host: &dyn Host) -> Result<(Rules, Routing), Error> {
    may_change_rules(host)?;
    let mut backends = Backends::default();
    let mut tables = nf_tables(&mut backends)?;
    match backends.open_used(Store::Legacy) {
        Ok(backend) => tables.extend(legacy(backend)?),
        Err(e) if is_absence(&e) => {}
        Err(e) => return Err(e.into()),
    }
    Ok((
        Rules { tables },
        rtnetlink::look(&Routing::default())?.in_effect(),
    ))
}

fn nf_tables(backends: &mut Backends) -> Result<Vec<HookedTable>, BackendError> {
    let open = backends.nf_tables();
    match open.and_then(|tables| read_until_unchanged(|| tables.read_hooked())) {
        Err(e) if is_absence(&e) => Ok(Vec::new()),
        read => read,
    }
}

fn legacy(mut backend: Box<dyn Backend>) -> Result<Vec<HookedTable>, BackendError> {
    let live = backend.read()?;
    let named = live.tables.iter().map(|table| {
        let name = format!("{} (iptables-legacy)", table.name);
        HookedTable::live(name, table)
    });
    Ok(named.collect())
}
