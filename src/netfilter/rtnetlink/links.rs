//! Interfaces with their addresses, and routes to an address. Needs no privilege.

use super::message::{self, Hop, Route};
use super::{Router, RoutingError, error, none_without_family, refused};
use crate::netfilter::model::{Family, Interface};
use crate::netfilter::netlink::{Error, Socket, Transport, Writer};
use ipnet::IpNet;
use nix::errno::Errno;
use std::net::IpAddr;

/// An interface with its addresses in kernel order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: Interface,
    pub addresses: Vec<IpNet>,
}

/// All interfaces of this network namespace with their usable addresses.
///
/// # Errors
/// Errors of the kernel.
pub fn links() -> Result<Vec<Link>, RoutingError> {
    Router::open()?.links()
}

/// The route to an address, if any.
pub fn hop(to: IpAddr) -> Result<Option<Hop>, RoutingError> {
    Router::<Socket>::open()?.hop(to)
}

impl<T: Transport> Router<T> {
    /// The bridges of this network namespace. One whose name iptables cannot take is left out.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn bridges(&mut self) -> Result<Vec<Interface>, RoutingError> {
        let names = self.dump(None, "interfaces", message::GET_LINK, message::read_bridge)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Brings lo up if it is down, as in a new network namespace: packets marked by TPROXY and
    /// connections of a pod to itself need it. Returns whether it was down.
    ///
    /// # Errors
    /// When the kernel says no.
    pub fn bring_loopback_up(&mut self) -> Result<bool, RoutingError> {
        if self.loopback_is_up {
            return Ok(false);
        }
        let mut is_up = false;
        let name = |w: &mut Writer| message::write_loopback(w, false);
        let asked = self.kernel.get(message::GET_LINK, name, |answer| {
            is_up = message::read_is_up(answer.payload)?;
            Ok(())
        });
        asked.map_err(|e| error("asking for lo".to_owned(), Family::V4, e))?;
        if is_up {
            return Ok(false);
        }
        let doing = || "bringing lo up".to_owned();
        let write = |(): &(), w: &mut Writer, sequence| message::write_loopback_up(w, sequence);
        let results = self.kernel.send_all(&[()], write);
        match results.map_err(|e| error(doing(), Family::V4, e))?.pop() {
            Some(Err(nack)) => Err(refused(doing(), Family::V4, nack)),
            _ => Ok(true),
        }
    }

    fn links(&mut self) -> Result<Vec<Link>, RoutingError> {
        let read = |payload: &[u8]| message::read_link(payload).map(Some);
        let named = self.dump(None, "interfaces", message::GET_LINK, read)?;
        let mut links: Vec<Link> = named
            .into_iter()
            .map(|(index, name)| Link {
                index,
                name,
                addresses: Vec::new(),
            })
            .collect();
        let read = message::read_address;
        let addresses = self.dump(None, "addresses", message::GET_ADDRESS, read);
        for address in none_without_family(addresses)? {
            let link = links.iter_mut().find(|l| l.index == address.interface);
            if let Some(link) = link.filter(|_| address.is_usable) {
                link.addresses.push(address.net);
            }
        }
        Ok(links)
    }

    fn hop(&mut self, to: IpAddr) -> Result<Option<Hop>, RoutingError> {
        let family = Family::of(to);
        let mut hop = None;
        let asked = self.kernel.get(
            Route::GET,
            |w: &mut Writer| message::write_route_to(w, to),
            |answer| {
                hop = Some(message::read_hop(answer.payload, family)?);
                Ok(())
            },
        );
        match asked {
            Ok(()) => Ok(hop),
            Err(Error::Refused(nack)) if is_no_way(nack.errno) => Ok(None),
            Err(e) => Err(error(format!("asking for the way to {to}"), family, e)),
        }
    }
}

/// Whether the error means that there is no route, or a prohibiting one.
fn is_no_way(errno: Errno) -> bool {
    const NO_WAY: [Errno; 4] = [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EACCES,
        Errno::EINVAL,
    ];
    NO_WAY.contains(&errno)
}
