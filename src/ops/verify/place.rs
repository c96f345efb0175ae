//! Where connections are tried: the addresses of this network namespace, and the ways out of it.

use super::probe::Probe;
use super::probes::{Place, Users};
use super::socket::User;
use crate::error::Error;
use crate::packet::{Link, Network, Way};
use crate::routing;
use crate::ruleset::{Family, Interface, Routing};
use ipnet::IpNet;

/// This namespace as connections know it that are made by whomever we may be.
pub(super) fn here(links: &[routing::Link], port: u16) -> Place {
    let others = links.iter().filter(|link| link.name != Interface::LOOPBACK);
    Place {
        own: others
            .flat_map(|link| &link.addresses)
            .map(IpNet::addr)
            .collect(),
        users: match User::can_be_chosen() {
            true => Users::Everybody,
            false => Users::Only(User::current()),
        },
        port,
    }
}

/// The ways to where the probes go, as the kernel tells them to whoever asks.
///
/// # Errors
/// When it does not.
pub(super) fn network(
    links: Vec<routing::Link>,
    probes: &[Probe],
    wanted: &Routing,
) -> Result<Network, Error> {
    let mut routes = Vec::new();
    for to in probes.iter().map(|probe| probe.to.ip()) {
        let Some(hop) = routing::hop(to)? else {
            continue;
        };
        let through = links.iter().find(|link| link.index == hop.through);
        let way = match (hop.is_local, through) {
            (true, _) => Way::Here,
            (false, Some(link)) => Way::Out {
                through: link.name.clone(),
                source: hop.source,
            },
            (false, None) => continue,
        };
        routes.push((IpNet::new_assert(to, Family::of(to).bits()), way));
    }
    let links = links.into_iter().map(|link| Link {
        name: link.name,
        addresses: link.addresses,
    });
    Ok(Network {
        links: links.collect(),
        routes,
        policy_routes: wanted.policy_routes.clone(),
    })
}
