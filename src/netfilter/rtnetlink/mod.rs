//! Reads, adds and removes policy routes and loopback addresses over rtnetlink(7).
//!
//! Operations are idempotent and equal to those of iproute2. The few messages needed are encoded
//! here; a complete rtnetlink library would add half a megabyte to the program.

mod error;
mod ipv6;
mod links;
mod message;
mod monitor;
mod state;

pub use error::RoutingError;
pub use ipv6::Ipv6;
pub use links::{Link, hop, links};
pub use message::Hop;
pub use monitor::{Event, Monitor};
pub use state::State;

use crate::netfilter::model::{Family, Routing};
use crate::netfilter::netlink::{Connection, Error, Malformed, Nack, Socket, Transport, Writer};
use error::{answers_lost, error, none_without_family, refused};
use ipnet::IpNet;
use message::{Item, Route, Rule};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

/// Reads the state that concerns `desired` or may be managed.
pub fn look(desired: &Routing) -> Result<State, RoutingError> {
    Router::open()?.look(desired)
}

/// What was added, for undoing it.
#[derive(Debug, Default)]
pub struct Made {
    /// Including what may have been added if an acknowledgement was lost.
    items: Vec<Item>,
    /// Surplus copies of rules were removed.
    tidied: bool,
}

impl Made {
    pub fn changed(&self) -> bool {
        self.tidied || !self.items.is_empty()
    }
}

/// How often to retry after concurrent changes or lost replies.
const TRIES: u32 = 100;

/// One socket, and what was seen over it.
pub struct Router<T> {
    kernel: Connection<T>,
    /// lo was seen to be up.
    loopback_is_up: bool,
}

impl Router<Socket> {
    pub fn open() -> Result<Self, RoutingError> {
        match Socket::open(SockProtocol::NetlinkRoute).and_then(Socket::explaining_refusals) {
            Ok(socket) => Ok(Router::new(socket)),
            Err(source) => Err(RoutingError::Io {
                doing: "opening an rtnetlink socket".to_owned(),
                source,
            }),
        }
    }
}

impl<T: Transport> Router<T> {
    pub fn new(transport: T) -> Self {
        Router {
            kernel: Connection::new(transport),
            loopback_is_up: false,
        }
    }

    /// Adds the missing parts of `desired`, all or nothing. `state` is the result of
    /// [`Router::look`].
    ///
    /// Surplus copies of a policy rule (older tools add one at each run) are removed.
    ///
    /// # Errors
    /// [`RoutingError::Occupied`] if a table has foreign routes, [`RoutingError::NoFamily`] if IPv6
    /// is unavailable. What was added before the error is removed; [`RoutingError::Left`] if that
    /// fails.
    pub fn make(&mut self, desired: &Routing, state: State) -> Result<Made, RoutingError> {
        let mut made = Made::default();
        match self.make_all(desired, state, &mut made.items) {
            Ok(state) => {
                made.tidied = self.tidy(&state.surplus(desired));
                Ok(made)
            }
            Err(error) => Err(match self.take_back(&made.items) {
                Ok(()) => error,
                Err(left) => RoutingError::Left {
                    source: Box::new(error),
                    left: Box::new(left),
                },
            }),
        }
    }

    /// Adds what is missing and reads again until nothing is: replies can be lost, and other
    /// programs interfere. Everything that was or may have been added is recorded in `made`.
    fn make_all(
        &mut self,
        desired: &Routing,
        state: State,
        made: &mut Vec<Item>,
    ) -> Result<State, RoutingError> {
        let mut in_the_way = None;
        let mut known = Some(state);
        for _ in 0..TRIES {
            let state = known.take().map_or_else(|| self.look(desired), Ok)?;
            let missing = state.missing(desired)?;
            if missing.is_empty() {
                return Ok(state);
            }
            let missing: Vec<Item> = missing.iter().map(|part| state.to_make(part)).collect();
            // It was reported to exist, but it differs from what is desired.
            if let Some((item, nack)) = in_the_way.take().filter(|(i, _)| missing.contains(i)) {
                return Err(refused(format!("making {item}"), item.family(), nack));
            }
            let Some(results) = self.send_all(&missing, Item::write_new, made)? else {
                continue;
            };
            let mut refusal = None;
            for (item, result) in missing.into_iter().zip(results) {
                match result {
                    Ok(()) => made.push(item),
                    // Added concurrently, or occupied by something else.
                    Err(nack) if nack.errno == Errno::EEXIST => in_the_way = Some((item, nack)),
                    Err(nack) => refusal = refusal.or(Some((item, nack))),
                }
            }
            if let Some((item, nack)) = refusal {
                return Err(refused(format!("making {item}"), item.family(), nack));
            }
        }
        Err(answers_lost("making policy routes"))
    }

    /// Removes what was added, except what is still needed.
    pub fn undo(&mut self, mut made: Made, needed: &Routing) -> Result<(), RoutingError> {
        made.items.retain(|item| !item.is_of(needed));
        self.take_back(&made.items)
    }

    /// Removes what was added, in reverse order.
    fn take_back(&mut self, made: &[Item]) -> Result<(), RoutingError> {
        let items: Vec<Item> = made.iter().rev().copied().collect();
        for _ in 0..TRIES {
            if self.unmake(&items)?.is_some() {
                return Ok(());
            }
        }
        Err(answers_lost("removing policy routes"))
    }

    /// Removes surplus copies of rules, which are harmless if that fails.
    fn tidy(&mut self, surplus: &[Item]) -> bool {
        match self.unmake(surplus) {
            Ok(removed) => removed.unwrap_or(true),
            Err(error) => {
                log::warn!(
                    "{error}; surplus copies of the rule are left in place, which does no harm"
                );
                false
            }
        }
    }

    /// Removes the existing parts of `obsolete` with all copies. A route stays if `desired` needs it
    /// too. Returns whether there was anything.
    pub fn remove(&mut self, obsolete: &Routing, desired: &Routing) -> Result<bool, RoutingError> {
        let mut anything = false;
        if obsolete.is_empty() {
            return Ok(false);
        }
        for _ in 0..TRIES {
            let state = self.look(obsolete)?;
            let present = state.removable(obsolete, desired);
            let items: Vec<Item> = present.iter().flat_map(|p| state.to_remove(p)).collect();
            if items.is_empty() {
                return Ok(anything);
            }
            anything |= self.unmake(&items)?.unwrap_or(true);
        }
        Err(answers_lost("removing policy routes"))
    }

    /// See the function [`look`].
    pub fn look(&mut self, desired: &Routing) -> Result<State, RoutingError> {
        let rules = none_without_family(self.dump(None, "policy rules", Rule::GET, Rule::read))?;
        let mut state = State {
            rules,
            routes: Vec::new(),
            addresses: self.loopback_addresses()?,
        };
        for family in Family::ALL {
            let mut policies = desired.policy_routes.iter();
            let mut rules = state.rules.iter();
            if policies.any(|p| p.family == family)
                || rules.any(|r| r.marked.is_some_and(|p| p.family == family))
            {
                let routes = self.dump(Some(family), "routes", Route::GET, Route::read);
                state.routes.extend(none_without_family(routes)?);
            }
        }
        Ok(state)
    }

    fn loopback_addresses(&mut self) -> Result<Vec<IpNet>, RoutingError> {
        let read = message::read_loopback_address;
        none_without_family(self.dump(None, "addresses", message::GET_ADDRESS, read))
    }

    /// Dumps objects of one family or of all, repeatedly if they change meanwhile.
    fn dump<R>(
        &mut self,
        family: Option<Family>,
        what: &str,
        kind: u16,
        read: impl Fn(&[u8]) -> Result<Option<R>, Malformed>,
    ) -> Result<Vec<R>, RoutingError> {
        let mut tries = 0;
        loop {
            let mut found = Vec::new();
            let request = |w: &mut Writer| message::write_dump(w, family);
            let result = self.kernel.dump(kind, request, |message| {
                found.extend(read(message.payload)?);
                Ok(())
            });
            tries += 1;
            match result {
                Ok(()) => return Ok(found),
                Err(Error::Interrupted) if tries < TRIES => {}
                Err(e) => {
                    let doing = match family {
                        Some(family) => format!("reading {family} {what}"),
                        None => format!("reading {what}"),
                    };
                    return Err(error(doing, family.unwrap_or(Family::V4), e));
                }
            }
        }
    }

    /// Removes items. Returns whether any existed, or `None` if replies were lost.
    fn unmake(&mut self, items: &[Item]) -> Result<Option<bool>, RoutingError> {
        const GONE: [Errno; 3] = [Errno::ENOENT, Errno::ESRCH, Errno::EADDRNOTAVAIL];
        let Some(results) = self.send_all(items, Item::write_delete, &mut Vec::new())? else {
            return Ok(None);
        };
        let mut removed = false;
        let mut refusal = None;
        for (item, result) in items.iter().zip(results) {
            match result {
                Ok(()) => removed = true,
                Err(nack) if GONE.contains(&nack.errno) => {}
                Err(nack) => refusal = refusal.or(Some((item, nack))),
            }
        }
        match refusal {
            Some((item, nack)) => Err(refused(format!("removing {item}"), item.family(), nack)),
            None => Ok(Some(removed)),
        }
    }

    /// Sends all messages in one system call, so that a killed process leaves none unsent. Returns
    /// the result of each, or `None` if replies were lost; items with an unknown result are added
    /// to `uncertain`.
    fn send_all(
        &mut self,
        items: &[Item],
        write: fn(&Item, &mut Writer, u32),
        uncertain: &mut Vec<Item>,
    ) -> Result<Option<Vec<Result<(), Nack>>>, RoutingError> {
        let Some(first) = items.first() else {
            return Ok(Some(Vec::new()));
        };
        match self.kernel.send_all(items, write) {
            Ok(results) => Ok(Some(results)),
            Err(fault) => {
                uncertain.extend(items);
                match fault {
                    Error::Interrupted => Ok(None),
                    fault => Err(error(format!("changing {first}"), first.family(), fault)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// A kernel whose replies are always lost.
    struct Lossy;

    impl Transport for Lossy {
        fn send(&mut self, _: &[&[u8]]) -> io::Result<()> {
            Ok(())
        }

        fn receive(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(Errno::ENOBUFS.into())
        }

        fn capacity(&mut self, desired: usize) -> io::Result<usize> {
            Ok(desired)
        }
    }

    #[test]
    fn permanently_lost_replies_are_an_error() {
        let error = Router::new(Lossy).look(&Routing::default()).unwrap_err();
        assert!(
            matches!(&error, RoutingError::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted),
            "{error}"
        );
    }
}
