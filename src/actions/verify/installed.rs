//! The rules that are to hold: those that the options ask for, or, where none are given, those that
//! are installed.

use crate::actions::event::{Event, resolve};
use crate::actions::installed;
use crate::engine::error::Error;
use crate::engine::privilege;
use crate::engine::request::Request;
use crate::mesh::managed::{self, tproxy_marks};
use crate::netfilter::model::Ruleset;
use crate::netfilter::netlink::Socket;
use crate::netfilter::rtnetlink::Router;

/// The desired rules, or the installed ones where no mesh and no option of one is given, nor enough
/// of them by variables.
pub(super) fn or_desired(
    request: &Request,
    report: &mut dyn FnMut(Event),
) -> Result<Ruleset, Error> {
    let mut router = Router::open()?;
    match resolve(request, &mut router, report) {
        Err(e) if request.asks_for_nothing(&e) => installed(&mut router),
        resolved => Ok(resolved?.desired),
    }
}

fn installed(router: &mut Router<Socket>) -> Result<Ruleset, Error> {
    privilege::require_net_admin()?;
    let (installed, _) = installed::read(false, &mut |e| log::debug!("skipped: {e}"))?;
    let marks = installed.iter().flat_map(|i| tproxy_marks(&i.observed));
    let found = router.look(&Default::default())?.candidates();
    Ok(Ruleset {
        routing: managed::routing(&found, &marks.collect()),
        ..installed::ruleset(&installed)
    })
}
