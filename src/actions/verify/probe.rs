//! One connection, really tried, and what became of it.

use super::listeners::{Arrival, Destination, Listeners};
use super::socket::{User, departing, failure};
use crate::netfilter::conntrack::Conntrack;
use crate::netfilter::model::{Family, Protocol};
use nix::errno::Errno;
use nix::sys::socket::SockType;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long an answer is awaited that could only come from this very machine, where all of it
/// happens before connect(2) returns.
const PATIENCE: Duration = Duration::from_millis(100);

/// Who connects to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) user: User,
    pub(super) protocol: Protocol,
    pub(super) to: SocketAddr,
}

/// What was seen, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A listener of ours has it: on a proxy's port, or at the destination itself.
    Arrived(Arrival),
    /// conntrack sent it there.
    Sent(SocketAddr),
    /// It reached none of our listeners, which have every port that the rules lead to.
    WentElsewhere,
    /// It was refused at once.
    Refused,
    /// It could not even begin, or nothing that came of it was to be seen: why.
    Unknown(String),
}

/// What probes are observed with.
pub(super) struct Observer {
    pub(super) listeners: Listeners,
    /// Where we may look.
    pub(super) conntrack: Option<Conntrack>,
}

impl Observer {
    /// Tries it once.
    ///
    /// # Errors
    /// A failure of our own sockets or of the conversation with the kernel; that a connection cannot be
    /// made is none.
    pub(super) fn observe(&mut self, probe: &Probe) -> io::Result<Seen> {
        // Without somebody at the destination, what goes there as it should is not seen to arrive.
        let destination = Destination::open(probe.protocol, probe.to).ok();
        let kind = match probe.protocol {
            Protocol::Udp => SockType::Datagram,
            _ => SockType::Stream,
        };
        let (fd, local) = match departing(probe.user, kind, probe.to) {
            Ok(departed) => departed,
            Err(Errno::ECONNREFUSED) => return Ok(Seen::Refused),
            Err(e) => return Ok(Seen::Unknown(cannot_begin(probe.user, e))),
        };
        if probe.protocol == Protocol::Udp {
            send(&fd)?;
        }
        if let Some(arrival) = self
            .listeners
            .wait_for(local, destination.as_ref(), PATIENCE)?
        {
            return Ok(Seen::Arrived(arrival));
        }
        self.without_arrival(probe, &fd, local)
    }

    /// What can be told of a connection that none of our listeners has got.
    fn without_arrival(
        &mut self,
        probe: &Probe,
        fd: &OwnedFd,
        local: SocketAddr,
    ) -> io::Result<Seen> {
        if let Some(conntrack) = &mut self.conntrack
            && let Some(to) = conntrack.destination(probe.protocol, local, probe.to)?
        {
            return Ok(Seen::Sent(to));
        }
        let refused = failure(fd).is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        let family = Family::of(probe.to.ip());
        Ok(match self.listeners.are_complete(family, probe.protocol) {
            _ if refused => Seen::Refused,
            true => Seen::WentElsewhere,
            false => Seen::Unknown(
"not all of the proxy's ports are free here, and conntrack, which would tell, needs CAP_NET_ADMIN".to_owned(),
            ),
        })
    }
}

fn cannot_begin(user: User, errno: Errno) -> String {
    match errno {
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => "there is no route to it".to_owned(),
        Errno::EPERM => format!("uid {} and gid {} cannot be taken here", user.uid, user.gid),
        errno => errno.desc().to_owned(),
    }
}

/// A datagram, which a nameserver would drop as too short.
fn send(fd: &OwnedFd) -> io::Result<()> {
    match nix::unistd::write(fd, &[0]) {
        Ok(_) | Err(Errno::ECONNREFUSED | Errno::EPERM) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
