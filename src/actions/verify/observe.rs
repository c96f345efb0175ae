//! Makes connections, many at once, and gathers what is seen of each.

use super::evidence::{Answer, Evidence, Nat, View, locate};
use super::interrupt::Interrupt;
use super::listeners::{Listener, Listeners, ProxyPort};
use super::report::{Found, Reason};
use super::socket::{self, User};
use crate::netfilter::conntrack::{self, Conntrack};
use crate::netfilter::model::{Family, Protocol, Ruleset};
use crate::netfilter::sock_diag;
use crate::netfilter::trace::{Network, Probe};
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long an answer is awaited. What stays on this machine is there before connect(2) returns.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(100);

/// How many connections are made at once: a process may have 1024 open files.
pub(super) const AT_ONCE: usize = 128;

/// What connections are observed with.
pub(super) struct Observer {
    listeners: Listeners,
    /// Where it may be read.
    conntrack: Option<Conntrack>,
    ports: Vec<ProxyPort>,
}

/// A connection that is being made.
struct Trial {
    protocol: Protocol,
    to: SocketAddr,
    fd: Option<OwnedFd>,
    local: Option<SocketAddr>,
    evidence: Evidence,
}

impl Observer {
    /// Listens where the proxy would.
    ///
    /// # Errors
    /// What the kernel says of sockets that can be had.
    pub(super) fn new(desired: &Ruleset) -> io::Result<Self> {
        let ports = ProxyPort::of(desired);
        Ok(Observer {
            listeners: Listeners::open(&ports)?,
            conntrack: conntrack()?,
            ports,
        })
    }

    /// Makes these connections, at most [`AT_ONCE`], and says of each what was seen, or why it could
    /// not be made.
    ///
    /// # Errors
    /// A failure of the observer's own sockets; EINTR when a signal has come.
    pub(super) fn observe(
        &mut self,
        probes: &[&Probe],
        network: &Network,
        interrupt: &Interrupt,
    ) -> io::Result<Vec<Result<Evidence, Reason>>> {
        let sockets = sock_diag::sockets().ok();
        let mut avoid = self.used_ports(sockets.as_deref().unwrap_or_default())?;
        let mut destinations: Vec<(Protocol, SocketAddr, Listener)> = Vec::new();
        let mut trials = Vec::new();
        for probe in probes {
            let (protocol, to) = (
                probe.packet.protocol,
                socket::scoped(probe.packet.destination, network),
            );
            let known = |(p, t, _): &(Protocol, SocketAddr, Listener)| (*p, *t) == (protocol, to);
            let own = network.is_own(to.ip());
            if own && !destinations.iter().any(known) {
                destinations.extend(Listener::at(protocol, to).map(|l| (protocol, to, l)));
            }
            let destination = destinations.iter().any(known);
            let listens = |s: &sock_diag::Entry| s.takes(protocol, to);
            let view = View {
                own,
                destination,
                occupied: !destination && sockets.as_ref().is_none_or(|s| s.iter().any(listens)),
                ..self.view(to, protocol)
            };
            let trial = Trial::begin(probe, to, view, network, &avoid);
            // A refusal frees the port, though the socket is still there.
            let made = trial.as_ref().ok().and_then(|trial| trial.local);
            avoid.extend(made.map(|local| local.port()));
            trials.push(trial);
        }
        let listeners: Vec<&Listener> = self.listeners.open.iter().collect();
        let listeners = [listeners, destinations.iter().map(|(_, _, l)| l).collect()].concat();
        let until = Instant::now() + ANSWER_TIMEOUT;
        gather(&mut trials, &listeners, Instant::now(), interrupt)?;
        add_nat(&mut trials, &mut self.conntrack, network)?;
        if trials.iter().any(Trial::is_undecided) {
            gather(&mut trials, &listeners, until, interrupt)?;
            add_nat(&mut trials, &mut self.conntrack, network)?;
        }
        add_accepted_at(&mut trials);
        Ok(trials.into_iter().map(|t| t.map(|t| t.evidence)).collect())
    }

    /// The ports of connections that are over, but known still: of sockets in TIME_WAIT, and of conntrack's
    /// entries, which send a new connection with the same ends where they sent the old one.
    fn used_ports(&mut self, sockets: &[sock_diag::Entry]) -> io::Result<BTreeSet<u16>> {
        let mut ports: BTreeSet<u16> = sockets.iter().map(|s| s.peer.port()).collect();
        if let Some(conntrack) = &mut self.conntrack {
            ports.extend(conntrack.entries()?.iter().map(|e| e.original.from.port()));
        }
        Ok(ports)
    }

    /// What can be seen of any connection to there.
    fn view(&self, to: SocketAddr, protocol: Protocol) -> View {
        let family = Family::of(to.ip());
        View {
            proxy: self.listeners.are_complete(family, protocol),
            tproxy: self
                .ports
                .iter()
                .any(|p| p.transparent && p.family == family),
            ..View::default()
        }
    }
}

/// Adds where NAT sends each, by conntrack's entries.
fn add_nat(
    trials: &mut Trials,
    conntrack: &mut Option<Conntrack>,
    network: &Network,
) -> io::Result<()> {
    let Some(conntrack) = conntrack else {
        return Ok(());
    };
    let entries = conntrack.entries()?;
    for trial in trials.iter_mut().flatten() {
        let is_it = |e: &&conntrack::Entry| {
            e.original.protocol == trial.protocol.number()
                && Some(unscoped(e.original.from)) == trial.local.map(unscoped)
                && unscoped(e.original.to) == unscoped(trial.to)
        };
        trial.evidence.nat = entries.iter().find(is_it).map(|e| match e.answers {
            end if unscoped(end) == unscoped(trial.to) => Nat::Untranslated,
            end if network.is_own(end.ip()) => Nat::ToHere(end),
            end => Nat::Elsewhere(end),
        });
    }
    Ok(())
}

type Trials = [Result<Trial, Reason>];

/// Without the scope of a link-local address, which conntrack and sock_diag do not have.
fn unscoped(address: SocketAddr) -> (std::net::IpAddr, u16) {
    (address.ip(), address.port())
}

impl Trial {
    /// Connects, without waiting.
    fn begin(
        probe: &Probe,
        to: SocketAddr,
        view: View,
        network: &Network,
        avoid: &BTreeSet<u16>,
    ) -> Result<Self, Reason> {
        let packet = &probe.packet;
        let owner = packet.owner.as_ref().ok_or(Reason::NoSuchUser)?;
        let user = User {
            uid: owner.uid,
            gid: owner.gid,
        };
        let next_hop = network.route(to.ip(), packet.mark);
        let usual = next_hop.and_then(|next_hop| network.source(to.ip(), &next_hop));
        let from = Some(packet.source.ip()).filter(|from| usual != Some(*from));
        let mut trial = Trial {
            protocol: packet.protocol,
            to,
            fd: None,
            local: None,
            evidence: Evidence {
                view,
                ..Evidence::default()
            },
        };
        match socket::connecting(user, packet.protocol, from, packet.mark, to, avoid) {
            Ok((fd, local)) => (trial.fd, trial.local) = (Some(fd), Some(local)),
            Err(Errno::ECONNREFUSED) => trial.evidence.answer = Some(Answer::Refused),
            Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => return Err(Reason::NoRoute),
            Err(Errno::EPERM) => return Err(Reason::NoSuchUser),
            Err(errno) => return Err(Reason::NotMade(errno.desc().to_owned())),
        }
        Ok(trial)
    }

    /// Whether what was seen does not prove yet where it ended, and more may come.
    fn is_undecided(result: &Result<Self, Reason>) -> bool {
        let on_its_way = |t: &Trial| match locate(&t.evidence, t.to) {
            Ok((found, _)) => matches!(found, Found::Lost(_) | Found::Undelivered),
            Err(_) => true,
        };
        result.as_ref().is_ok_and(on_its_way)
    }

    /// Takes the answer, if one has come.
    fn look(&mut self) {
        if self.evidence.answer.is_none()
            && let Some(fd) = &self.fd
        {
            self.evidence.answer = socket::answer(fd, self.protocol);
        }
    }
}

/// Takes what arrives until the time is over, or every connection has ended somewhere.
fn gather(
    trials: &mut Trials,
    listeners: &[&Listener],
    until: Instant,
    interrupt: &Interrupt,
) -> io::Result<()> {
    loop {
        trials.iter_mut().flatten().for_each(Trial::look);
        for listener in listeners {
            while let Some(arrival) = listener.take()? {
                let is_it = |t: &&mut Trial| t.local.map(unscoped) == Some(unscoped(arrival.from));
                if let Some(trial) = trials.iter_mut().flatten().find(is_it) {
                    trial.evidence.arrived = Some(listener.meaning(arrival, trial.to));
                }
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        let open = trials.iter().flatten();
        let open = open.filter(|t| t.evidence.arrived.is_none() && t.evidence.answer.is_none());
        let open = open.filter_map(|t| Some((t.fd.as_ref()?, t.protocol)));
        let mut fds: Vec<PollFd> = open
            .map(|(fd, protocol)| PollFd::new(fd.as_fd(), socket::waits_for(protocol)))
            .collect();
        if fds.is_empty() || left.is_zero() {
            return interrupt.check();
        }
        let input = |fd| PollFd::new(fd, PollFlags::POLLIN);
        fds.extend(listeners.iter().map(|l| input(l.as_fd())));
        fds.push(input(interrupt.as_fd()));
        match poll(
            &mut fds,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(Errno::EINTR) => interrupt.check()?,
            Err(e) => return Err(e.into()),
        }
    }
}

/// Adds which other socket of this network namespace holds the other end.
fn add_accepted_at(trials: &mut Trials) {
    let open = |t: &&mut Trial| t.evidence.arrived.is_none() && t.protocol == Protocol::Tcp;
    let mut open = trials.iter_mut().flatten().filter(open).peekable();
    if open.peek().is_none() {
        return;
    }
    let sockets = sock_diag::sockets().unwrap_or_default();
    for trial in open {
        let is_it = |s: &&sock_diag::Entry| {
            s.protocol == Protocol::Tcp && Some(unscoped(s.peer)) == trial.local.map(unscoped)
        };
        trial.evidence.accepted_at = sockets.iter().find(is_it).map(|s| match s.local {
            at if unscoped(at) == unscoped(trial.to) => trial.to,
            at => at,
        });
    }
}

/// conntrack, if it may be read.
fn conntrack() -> io::Result<Option<Conntrack>> {
    match caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN) {
        Ok(true) => Conntrack::open().map(Some),
        _ => Ok(None),
    }
}
