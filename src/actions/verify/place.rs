//! Where connections are tried: the addresses of this network namespace, and the ways out of it.

use super::probe::Probe;
use super::probes::{Place, Users};
use super::socket::User;
use crate::engine::error::Error;
use crate::netfilter::model::{Family, Interface, Routing};
use crate::netfilter::rtnetlink;
use crate::netfilter::trace::{Link, Network, Way};
use ipnet::IpNet;

/// This namespace as connections know it that are made by whomever we may be.
pub(super) fn here(links: &[rtnetlink::Link], port: u16) -> Place {
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
    links: Vec<rtnetlink::Link>,
    probes: &[Probe],
    wanted: &Routing,
) -> Result<Network, Error> {
    let mut routes = Vec::new();
    for to in probes.iter().map(|probe| probe.to.ip()) {
        let Some(hop) = rtnetlink::hop(to)? else {
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
