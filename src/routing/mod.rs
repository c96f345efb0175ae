//! Policy routes and loopback addresses, made, found and removed over rtnetlink(7).
//!
//! All is done as iproute2 would do it, and is idempotent: what is there is not made again, and
//! what is not there is not missed. The messages are few and small, so they are written here; a
//! library of all of rtnetlink would make the program half a megabyte larger.

mod links;
mod message;
mod monitor;

pub use monitor::{Event, Monitor};

pub use links::{Hop, Link, hop, links};

use crate::netlink::{Connection, Error, Malformed, Nack, Socket, Transport, Writer};
use crate::ruleset::{Family, LoopbackAddress, PolicyRoute, Routing};
use ipnet::IpNet;
use message::{Item, Route, Rule};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::io;
use thiserror::Error;

/// Why a route or an address could not be read, made or removed.
#[derive(Debug, Error)]
pub enum RoutingError {
    /// CAP_NET_ADMIN is missing in the user namespace that owns the network namespace.
    #[error("{doing}: not permitted")]
    NotPermitted { doing: String },

    /// The kernel does not have this family, or has it switched off.
    #[error("{doing}: this kernel has no {family}, or it is disabled")]
    NoFamily { doing: String, family: Family },

    /// The kernel said no, in its own words.
    #[error("{doing}: {reason}")]
    Refused { doing: String, reason: String },

    /// The conversation with the kernel broke down.
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
}

/// Makes what of `wanted` is not there yet, each once. Returns whether there was anything to do.
///
/// A table whose policy rule stands there several times (older tools add one at each run) keeps one
/// of them.
///
/// # Errors
/// [`RoutingError::NoFamily`] when IPv6 is wanted and not there; what went before stays.
pub fn apply(wanted: &Routing) -> Result<bool, RoutingError> {
    Router::open()?.apply(wanted)
}

/// Removes what of `unwanted` is there, also where it is there several times. Returns whether there
/// was anything.
pub fn remove(unwanted: &Routing) -> Result<bool, RoutingError> {
    Router::open()?.remove(unwanted)
}

/// What may be ours, whatever options made it: every `fwmark` rule, on all bits and on nothing else,
/// to a table that holds just `local default dev lo`; and lo's IPv6 addresses but ::1.
pub fn find() -> Result<Routing, RoutingError> {
    Router::open()?.find()
}

/// rtnetlink, as it can be spoken to through a socket.
pub struct Router<T>(Connection<T>);

impl Router<Socket> {
    fn open() -> Result<Self, RoutingError> {
        match Socket::open(SockProtocol::NetlinkRoute) {
            Ok(socket) => Ok(Router::new(socket)),
            Err(source) => Err(RoutingError::Io {
                doing: "opening an rtnetlink socket".to_owned(),
                source,
            }),
        }
    }
}

impl<T: Transport> Router<T> {
    /// Speaks rtnetlink through this socket.
    pub fn new(transport: T) -> Self {
        Router(Connection::new(transport))
    }

    fn apply(&mut self, wanted: &Routing) -> Result<bool, RoutingError> {
        let mut changed = false;
        for LoopbackAddress(address) in &wanted.loopback_addresses {
            if !self
                .addresses(Family::of(address.addr()))?
                .contains(address)
            {
                self.make(&[Item::Address(*address)])?;
                changed = true;
            }
        }
        for policy in &wanted.policy_routes {
            let rules = self.rules(policy.family)?;
            let routes = self.routes(policy.family)?;
            let mut missing = Vec::new();
            // The route first: the rule must not lead into an empty table.
            if !routes.contains(&Route::to_loopback(policy.table)) {
                missing.push(Item::Route(*policy));
            }
            let present = matching(&rules, policy);
            if present.is_empty() {
                missing.push(Item::Rule(*policy, first_priority(&rules)));
            }
            self.make(&missing)?;
            let extra = present.get(1..).unwrap_or_default();
            changed |= self.unmake(extra)? || !missing.is_empty();
        }
        Ok(changed)
    }

    fn remove(&mut self, unwanted: &Routing) -> Result<bool, RoutingError> {
        let mut present = Vec::new();
        for policy in &unwanted.policy_routes {
            let rules = none_without_family(self.rules(policy.family))?;
            present.extend(matching(&rules, policy));
            let routes = none_without_family(self.routes(policy.family))?;
            if routes.contains(&Route::to_loopback(policy.table)) {
                present.push(Item::Route(*policy));
            }
        }
        for LoopbackAddress(address) in &unwanted.loopback_addresses {
            let family = Family::of(address.addr());
            if none_without_family(self.addresses(family))?.contains(address) {
                present.push(Item::Address(*address));
            }
        }
        self.unmake(&present)
    }

    /// See [`find`].
    pub fn find(&mut self) -> Result<Routing, RoutingError> {
        let mut found = Routing::default();
        for family in Family::ALL {
            let rules = none_without_family(self.rules(family))?;
            let marked: Vec<PolicyRoute> = rules.iter().filter_map(|r| r.marked).collect();
            if marked.is_empty() {
                continue;
            }
            let routes = self.routes(family)?;
            for policy in marked {
                let mut table = routes.iter().filter(|r| r.table == policy.table);
                let ours = table.next().is_some_and(|r| r.to_loopback) && table.next().is_none();
                if ours && !found.policy_routes.contains(&policy) {
                    found.policy_routes.push(policy);
                }
            }
        }
        let addresses = none_without_family(self.addresses(Family::V6))?;
        let added = addresses.into_iter().filter(|a| !a.addr().is_loopback());
        found.loopback_addresses.extend(added.map(LoopbackAddress));
        Ok(found)
    }

    /// The policy rules of a family, in their order.
    fn rules(&mut self, family: Family) -> Result<Vec<Rule>, RoutingError> {
        self.dump(family, "policy rules", Rule::GET, |p| Rule::read(p, family))
    }

    /// The routes of a family, of all tables.
    fn routes(&mut self, family: Family) -> Result<Vec<Route>, RoutingError> {
        self.dump(family, "routes", Route::GET, |p| Route::read(p, family))
    }

    /// The addresses of lo.
    fn addresses(&mut self, family: Family) -> Result<Vec<IpNet>, RoutingError> {
        let read = |p: &[u8]| message::read_loopback_address(p, family);
        self.dump(family, "addresses", message::GET_ADDRESS, read)
    }

    /// Everything that `read` finds; once more if it changed meanwhile, but not for ever.
    fn dump<R>(
        &mut self,
        family: Family,
        what: &str,
        kind: u16,
        read: impl Fn(&[u8]) -> Result<Option<R>, Malformed>,
    ) -> Result<Vec<R>, RoutingError> {
        const TRIES: u32 = 100;
        let mut tries = 0;
        loop {
            let mut found = Vec::new();
            let request = |w: &mut Writer| message::write_dump(w, family);
            let result = self.0.dump(kind, request, |message| {
                found.extend(read(message.payload)?);
                Ok(())
            });
            tries += 1;
            match result {
                Ok(()) => return Ok(found),
                Err(Error::Interrupted) if tries < TRIES => {}
                Err(e) => return Err(error(format!("reading {family} {what}"), family, e)),
            }
        }
    }

    fn make(&mut self, items: &[Item]) -> Result<(), RoutingError> {
        let results = self.tell(items, Item::write_new)?;
        for (item, result) in items.iter().zip(results) {
            match result {
                // Somebody else was faster, or something else stands in its place.
                Err(r) if r.errno == Errno::EEXIST && self.is_there(item)? => {}
                Err(r) => return Err(refused(format!("making {item}"), item.family(), r)),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Returns whether anything was still there.
    fn unmake(&mut self, items: &[Item]) -> Result<bool, RoutingError> {
        const GONE: [Errno; 3] = [Errno::ENOENT, Errno::ESRCH, Errno::EADDRNOTAVAIL];
        let results = self.tell(items, Item::write_delete)?;
        let mut removed = false;
        for (item, result) in items.iter().zip(results) {
            match result {
                Ok(()) => removed = true,
                Err(r) if GONE.contains(&r.errno) => {}
                Err(r) => return Err(refused(format!("removing {item}"), item.family(), r)),
            }
        }
        Ok(removed)
    }

    fn tell(
        &mut self,
        items: &[Item],
        write: fn(&Item, &mut Writer, u32),
    ) -> Result<Vec<Result<(), Nack>>, RoutingError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let family = items[0].family();
        let doing = || format!("changing {}", items[0]);
        self.0
            .tell(items, write)
            .map_err(|e| error(doing(), family, e))
    }

    fn is_there(&mut self, item: &Item) -> Result<bool, RoutingError> {
        Ok(match item {
            Item::Rule(policy, _) => !matching(&self.rules(policy.family)?, policy).is_empty(),
            Item::Route(policy) => {
                let routes = self.routes(policy.family)?;
                routes.contains(&Route::to_loopback(policy.table))
            }
            Item::Address(address) => {
                let addresses = self.addresses(Family::of(address.addr()))?;
                addresses.contains(address)
            }
        })
    }
}

/// The rules that do what the policy says, as what to remove.
fn matching(rules: &[Rule], policy: &PolicyRoute) -> Vec<Item> {
    let same = rules.iter().filter(|r| r.marked == Some(*policy));
    same.map(|r| Item::Rule(*policy, r.priority)).collect()
}

/// The priority that the kernel gives a rule that asks for none: just before all but the first
/// (`fib_default_rule_pref`). Said by us, so that two runs at once cannot make two rules.
fn first_priority(rules: &[Rule]) -> u32 {
    rules.get(1).map_or(0, |r| r.priority.saturating_sub(1))
}

/// Where there is no such family, there is nothing to find.
fn none_without_family<R>(found: Result<Vec<R>, RoutingError>) -> Result<Vec<R>, RoutingError> {
    match found {
        Err(RoutingError::NoFamily { .. }) => Ok(Vec::new()),
        found => found,
    }
}

fn error(doing: String, family: Family, error: Error) -> RoutingError {
    match error {
        Error::Refused(nack) => refused(doing, family, nack),
        Error::Interrupted => RoutingError::Io {
            doing,
            source: io::ErrorKind::Interrupted.into(),
        },
        Error::Io(source) => RoutingError::Io { doing, source },
    }
}

fn refused(doing: String, family: Family, nack: Nack) -> RoutingError {
    match nack.errno {
        Errno::EPERM => RoutingError::NotPermitted { doing },
        Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => RoutingError::NoFamily { doing, family },
        // What an interface says whose IPv6 is disabled.
        Errno::EACCES if family == Family::V6 => RoutingError::NoFamily { doing, family },
        _ => RoutingError::Refused {
            doing,
            reason: nack.reason(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel whose answers are always lost.
    struct Lossy;

    impl Transport for Lossy {
        fn send(&mut self, _: &[&[u8]]) -> io::Result<()> {
            Ok(())
        }

        fn receive(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(Errno::ENOBUFS.into())
        }

        fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
            Ok(wanted)
        }
    }

    #[test]
    fn answers_that_are_always_lost_are_an_error_in_the_end() {
        let error = Router::new(Lossy).find().unwrap_err();
        assert!(
            matches!(&error, RoutingError::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted),
            "{error}"
        );
    }
}
