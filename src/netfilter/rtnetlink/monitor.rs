//! Notifications of rtnetlink: addresses, policy rules and routes.

use super::RoutingError;
use super::message::{self, Route};
use crate::netfilter::model::{Family, Routing};
use crate::netfilter::netlink::{Delivery, Malformed, Message, Subscription};
use nix::libc;
use nix::sys::socket::SockProtocol;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The multicast groups of policy rules and routes of a family.
fn groups(family: Family) -> [u32; 2] {
    match family {
        Family::V4 => [libc::RTNLGRP_IPV4_RULE, libc::RTNLGRP_IPV4_ROUTE],
        Family::V6 => [libc::RTNLGRP_IPV6_RULE, libc::RTNLGRP_IPV6_ROUTE],
    }
}

/// An added, removed or changed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An IPv6 address, `::6` of lo or a global one.
    Address,
    /// A policy rule.
    Rule(Family),
    /// A route in this table.
    Route(Family, u32),
}

/// Receives notifications of rtnetlink.
#[derive(Debug)]
pub struct Monitor(Subscription);

impl Monitor {
    /// Subscribes in the network namespace of this thread to IPv6 addresses, and to rules and
    /// routes of the families of `desired`. Others are omitted, as a machine that speaks BGP changes
    /// routes all the time.
    pub fn open(desired: &Routing) -> Result<Self, RoutingError> {
        let families = Family::ALL.into_iter().filter(|family| {
            let mut routes = desired.policy_routes.iter();
            routes.any(|policy| policy.family == *family)
        });
        let addresses = [libc::RTNLGRP_IPV6_IFADDR];
        let groups: Vec<u32> = addresses
            .into_iter()
            .chain(families.flat_map(groups))
            .collect();
        let subscription = Subscription::open(SockProtocol::NetlinkRoute, &groups);
        subscription.map(Monitor).map_err(broken)
    }

    /// Passes pending notifications to a callback. Unreadable ones count as lost.
    pub fn drain(&mut self, mut each: impl FnMut(Event)) -> Result<Delivery, RoutingError> {
        let mut unreadable = false;
        let arrived = self.0.drain(|message| match read(message) {
            Ok(event) => event.into_iter().for_each(&mut each),
            Err(_) => unreadable = true,
        });
        match arrived {
            Ok(_) if unreadable => Ok(Delivery::WithGaps),
            arrived => arrived.map_err(broken),
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn broken(source: io::Error) -> RoutingError {
    RoutingError::Io {
        doing: "listening to rtnetlink".to_owned(),
        source,
    }
}

/// Reads a message; `None` for other families.
fn read(message: Message<'_>) -> Result<Option<Event>, Malformed> {
    let Some(family) = message::family_of(message.payload) else {
        return Ok(None);
    };
    Ok(match message.kind {
        libc::RTM_NEWADDR | libc::RTM_DELADDR if family == Family::V6 => Some(Event::Address),
        libc::RTM_NEWRULE | libc::RTM_DELRULE => Some(Event::Rule(family)),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            let route = Route::read(message.payload)?;
            route.map(|route| Event::Route(family, route.table))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::model::PolicyRoute;
    use crate::netfilter::netlink::Writer;
    use crate::netfilter::rtnetlink::message::Item;

    fn decode(item: Item, write: fn(&Item, &mut Writer, u32)) -> Option<Event> {
        let mut w = Writer::default();
        write(&item, &mut w, 1);
        let bytes = w.as_slice();
        read(Message {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            flags: 0,
            sequence: 0,
            payload: &bytes[16..],
        })
        .unwrap()
    }

    #[test]
    fn added_and_removed_objects_are_the_same_event() {
        let family = Family::V6;
        let policy = PolicyRoute {
            family,
            mark: 1337,
            table: 133,
        };
        for write in [Item::write_new, Item::write_delete] {
            let address = Item::Address("::6/128".parse().unwrap());
            assert_eq!(decode(address, write), Some(Event::Address));
            let rule = Item::Rule(policy, 7);
            assert_eq!(decode(rule, write), Some(Event::Rule(family)));
            let route = Item::Route(policy);
            assert_eq!(decode(route, write), Some(Event::Route(family, 133)));
        }
    }

    #[test]
    fn unknown_and_irrelevant_messages_are_ignored() {
        let decode = |kind, payload: &[u8]| {
            read(Message {
                kind,
                flags: 0,
                sequence: 0,
                payload,
            })
        };
        assert_eq!(decode(16, &[2; 16]).unwrap(), None);
        assert_eq!(decode(24, &[7; 12]).unwrap(), None);
        assert_eq!(decode(24, &[]).unwrap(), None);
        assert!(decode(24, &[2; 3]).is_err());
    }
}
