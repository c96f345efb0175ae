//! Policy routes and loopback addresses, made, found and removed over rtnetlink(7).
//!
//! All is done as iproute2 would do it, and is idempotent: what is there is not made again, and
//! what is not there is not missed. The messages are few and small, so they are written here; a
//! library of all of rtnetlink would make the program half a megabyte larger.

mod error;
mod ipv6;
mod links;
mod message;
mod monitor;
mod state;

pub use error::RoutingError;
pub use ipv6::{Ipv6, ipv6};
pub use links::{Link, bridges, hop, links};
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

/// Reads what there is, as far as it has to do with `wanted` or may be ours.
pub fn look(wanted: &Routing) -> Result<State, RoutingError> {
    Router::open()?.look(wanted)
}

/// What was made, to be taken back if nothing comes to need it.
#[derive(Debug, Default)]
pub struct Made {
    /// Also what may have been made, where the kernel's answer was lost.
    items: Vec<Item>,
    /// Further copies of rules were removed.
    tidied: bool,
}

impl Made {
    /// Whether there was anything to do.
    pub fn changed(&self) -> bool {
        self.tidied || !self.items.is_empty()
    }
}

/// How often is tried again what others change at the same time, or what the kernel's answers were
/// lost to.
const TRIES: u32 = 100;

/// rtnetlink, as it can be spoken to through a socket.
pub struct Router<T>(Connection<T>);

impl Router<Socket> {
    /// Opens a socket in the network namespace of this thread.
    pub fn open() -> Result<Self, RoutingError> {
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

    /// Makes what of `wanted` is not there yet, each once: all of it or nothing. `state` is what
    /// [`Router::look`] has found for it.
    ///
    /// A table whose policy rule stands there several times (older tools add one at each run) keeps one
    /// of them.
    ///
    /// # Errors
    /// [`RoutingError::Occupied`] when a table holds routes of others, [`RoutingError::NoFamily`] when
    /// IPv6 is wanted and not there. What was made before the error is taken back;
    /// [`RoutingError::Left`] where that fails too.
    pub fn make(&mut self, wanted: &Routing, state: State) -> Result<Made, RoutingError> {
        let mut made = Made::default();
        match self.make_all(wanted, state, &mut made.items) {
            Ok(state) => {
                made.tidied = self.tidy(&state.surplus(wanted));
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

    /// Makes what is missing, and looks again until nothing is: answers can be lost, and others be at
    /// work. Whatever was made, or may have been, is added to `made`.
    fn make_all(
        &mut self,
        wanted: &Routing,
        state: State,
        made: &mut Vec<Item>,
    ) -> Result<State, RoutingError> {
        let mut in_the_way = None;
        let mut known = Some(state);
        for _ in 0..TRIES {
            let state = known.take().map_or_else(|| self.look(wanted), Ok)?;
            let missing = state.missing(wanted)?;
            if missing.is_empty() {
                return Ok(state);
            }
            let missing: Vec<Item> = missing.iter().map(|part| state.to_make(part)).collect();
            // It was said to exist, and yet it is not what is wanted.
            if let Some((item, nack)) = in_the_way.take().filter(|(i, _)| missing.contains(i)) {
                return Err(refused(format!("making {item}"), item.family(), nack));
            }
            let Some(results) = self.tell(&missing, Item::write_new, made)? else {
                continue;
            };
            let mut refusal = None;
            for (item, result) in missing.into_iter().zip(results) {
                match result {
                    Ok(()) => made.push(item),
                    // Somebody else was faster, or something else stands in its place.
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

    /// Takes back what was made, but for what is needed after all.
    pub fn undo(&mut self, mut made: Made, needed: &Routing) -> Result<(), RoutingError> {
        made.items.retain(|item| !item.is_of(needed));
        self.take_back(&made.items)
    }

    /// Takes back what was made, the last first.
    fn take_back(&mut self, made: &[Item]) -> Result<(), RoutingError> {
        let items: Vec<Item> = made.iter().rev().copied().collect();
        for _ in 0..TRIES {
            if self.unmake(&items)?.is_some() {
                return Ok(());
            }
        }
        Err(answers_lost("removing policy routes"))
    }

    /// Removes further copies of rules, as far as that can be had: they do no harm.
    fn tidy(&mut self, surplus: &[Item]) -> bool {
        match self.unmake(surplus) {
            Ok(removed) => removed.unwrap_or(true),
            Err(error) => {
                log::warn!("{error}; it is there more than once, which does no harm");
                false
            }
        }
    }

    /// Removes what of `unwanted` is there, also where it is there several times. The route of a table
    /// stays where `wanted` needs it too. Returns whether there was anything.
    pub fn remove(&mut self, unwanted: &Routing, wanted: &Routing) -> Result<bool, RoutingError> {
        let mut anything = false;
        if unwanted.is_empty() {
            return Ok(false);
        }
        for _ in 0..TRIES {
            let state = self.look(unwanted)?;
            let present = state.removable(unwanted, wanted);
            let items: Vec<Item> = present.iter().flat_map(|p| state.to_remove(p)).collect();
            if items.is_empty() {
                return Ok(anything);
            }
            anything |= self.unmake(&items)?.unwrap_or(true);
        }
        Err(answers_lost("removing policy routes"))
    }

    /// See [`look`].
    pub fn look(&mut self, wanted: &Routing) -> Result<State, RoutingError> {
        let mut state = State::default();
        for family in Family::ALL {
            let rules = none_without_family(self.rules(family))?;
            let mut policies = wanted.policy_routes.iter();
            let concerned =
                policies.any(|p| p.family == family) || rules.iter().any(|r| r.marked.is_some());
            if concerned {
                let routes = none_without_family(self.routes(family))?;
                state.routes.extend(routes);
            }
            state.rules.extend(rules);
            let addresses = none_without_family(self.addresses(family))?;
            state.addresses.extend(addresses);
        }
        Ok(state)
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

    /// Returns whether anything was still there, or `None` where the kernel's answers were lost.
    fn unmake(&mut self, items: &[Item]) -> Result<Option<bool>, RoutingError> {
        const GONE: [Errno; 3] = [Errno::ENOENT, Errno::ESRCH, Errno::EADDRNOTAVAIL];
        let Some(results) = self.tell(items, Item::write_delete, &mut Vec::new())? else {
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

    /// Sends all messages in one system call, so that a process killed meanwhile leaves none undone.
    /// Says how each went, or `None` where answers were lost; whatever cannot be told goes to
    /// `uncertain`.
    fn tell(
        &mut self,
        items: &[Item],
        write: fn(&Item, &mut Writer, u32),
        uncertain: &mut Vec<Item>,
    ) -> Result<Option<Vec<Result<(), Nack>>>, RoutingError> {
        let Some(first) = items.first() else {
            return Ok(Some(Vec::new()));
        };
        match self.0.tell(items, write) {
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
        let error = Router::new(Lossy).look(&Routing::default()).unwrap_err();
        assert!(
            matches!(&error, RoutingError::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted),
            "{error}"
        );
    }
}
