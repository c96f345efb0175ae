//! `verify`: real connections prove that the redirection holds.
//!
//! Which connections are worth trying is derived from the rules; what is to become of each is found by
//! following it through the desired rules ([`crate::netfilter::trace`]); what becomes of it is seen by
//! real connections (`observe`, `evidence`), and by the rules in the kernel where those may be read
//! (`rules`). Nothing goes further than one hop, and nothing is changed.

pub(super) mod ahead;
mod evidence;
mod installed;
mod interrupt;
#[expect(clippy::disallowed_types, reason = "a probe is a connection")]
mod listeners;
#[cfg(test)]
mod mutations;
mod observe;
mod place;
mod probes;
pub(super) mod report;
mod rules;
#[expect(clippy::disallowed_types, reason = "a probe is a connection")]
mod socket;

pub use ahead::Ahead;
pub(super) use ahead::rules_ahead;
pub use report::{
    Check, Connection, Expected, Found, Means, Outcome, Reason, Report, Rule, Sender, Unread,
    Verdict,
};

use super::event::Event;
use crate::engine::error::Error;
use crate::engine::request::Request;
use crate::netfilter::model::{
    ConnState, Connection as Connected, Protocol, Rules, Ruleset, Tracking,
};
use crate::netfilter::rtnetlink;
use crate::netfilter::trace::{Start, Walk};
use evidence::{Evidence, agrees, locate};
use interrupt::Interrupt;
use observe::{AT_ONCE, Observer};
use probes::Vantage;
use rules::{Fate, Judged, Place};
use socket::User;
use std::io;
use std::time::{Duration, Instant};

/// The options of `verify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The port that probes connect to where the rules name none.
    pub probe_port: u16,
    /// How long what does not hold is tried again.
    pub probe_timeout: Duration,
}

impl Options {
    /// istio-iptables' own.
    pub const PORT: u16 = 15002;
}

/// Istio's defaults.
impl Default for Options {
    fn default() -> Self {
        Options {
            probe_port: Self::PORT,
            probe_timeout: Duration::from_secs(5),
        }
    }
}

/// How long what failed is left alone before it is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Tries what the desired rules are about, in the network namespace that this process is in; `tell`
/// gets each check when it is settled.
///
/// What fails is tried again until the time is over: in Istio's CNI mode rules may come a moment
/// later than the container that waits for them.
///
/// # Errors
/// [`Error::Probe`] where our own sockets fail, [`Error::Routing`] where the kernel does not list
/// addresses and routes. That a connection does not do what it should is none.
pub(super) fn verify(
    request: &Request,
    options: &Options,
    tell: &mut dyn FnMut(Event),
) -> Result<Report, Error> {
    let desired = installed::or_desired(request, tell)?;
    let mut run = Run {
        observer: Observer::new(&desired).map_err(Error::Probe)?,
        interrupt: Interrupt::hold().map_err(Error::Probe)?,
        desired: &desired,
        options,
        settled: Vec::new(),
        report: Report {
            nothing_installed: desired.rule_count() == 0,
            ..Report::default()
        },
    };
    let until = Instant::now() + options.probe_timeout;
    while !run.round(until, tell)? {}
    Ok(run.report.judged())
}

/// All that is tried.
struct Run<'a> {
    observer: Observer,
    interrupt: Interrupt,
    desired: &'a Ruleset,
    options: &'a Options,
    settled: Vec<Walk>,
    report: Report,
}

impl Run<'_> {
    /// Tries everything that is not settled. Returns whether that was the last time.
    fn round(&mut self, until: Instant, tell: &mut dyn FnMut(Event)) -> Result<bool, Error> {
        let routing = &self.desired.routing;
        let missing = rtnetlink::look(routing)?.missing(routing)?;
        self.report.missing = missing.iter().map(ToString::to_string).collect();
        let rules = Rules::of(self.desired);
        let in_kernel = rules::in_kernel();
        let read = in_kernel.as_ref().ok().map(|(rules, _)| rules);
        let network = place::of_rules(&rules, read, routing)?;
        let in_kernel = in_kernel.map(|(rules, routing)| Place::observed(rules, routing, &network));
        let desired = Place { rules, network };
        self.report.rules_unread = in_kernel.as_ref().err().cloned();
        let mut walks = self.walks(&desired, in_kernel.as_ref().ok());
        walks.retain(|walk| !self.settled.contains(walk) && (in_kernel.is_ok() || is_made(walk)));
        let tried = self
            .attempt(&walks, &desired, in_kernel.as_ref().ok(), until, tell)
            .and_then(|all| {
                match (all && self.report.missing.is_empty()) || Instant::now() >= until {
                    true => Ok(true),
                    false => self.interrupt.pause(PAUSE).map(|()| false),
                }
            });
        match tried {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                self.report.interrupted = true;
                Ok(true)
            }
            tried => tried.map_err(Error::Probe),
        }
    }

    /// Connections that the desired rules make a difference to, and those in the kernel.
    fn walks(&self, desired: &Place, in_kernel: Option<&Place>) -> Vec<Walk> {
        let vantage = Vantage {
            network: &desired.network,
            only: (!User::can_be_chosen())
                .then(User::current)
                .map(|u| (u.uid, u.gid)),
            port: self.options.probe_port,
        };
        probes::derive_all(desired, in_kernel, &vantage)
    }

    /// Tries these, and settles those that need not be tried again. Returns whether that is all.
    fn attempt(
        &mut self,
        walks: &[Walk],
        desired: &Place,
        in_kernel: Option<&Place>,
        until: Instant,
        tell: &mut dyn FnMut(Event),
    ) -> io::Result<bool> {
        let mut all = true;
        for walks in walks.chunks(AT_ONCE) {
            let seen = self.seen(walks, desired)?;
            let last = Instant::now() >= until;
            for (walk, seen) in walks.iter().zip(seen) {
                let outcome = outcome(walk, seen, desired, in_kernel);
                match outcome.is_final() || last {
                    true => self.settle(walk, outcome, tell)?,
                    false => all = false,
                }
            }
        }
        Ok(all)
    }

    /// What was seen of each, where it is one that can be made.
    fn seen(&mut self, walks: &[Walk], desired: &Place) -> io::Result<Vec<Option<Seen>>> {
        let made: Vec<&Walk> = walks.iter().filter(|walk| is_made(walk)).collect();
        let seen = self
            .observer
            .observe(&made, &desired.network, &self.interrupt)?;
        let mut seen = seen.into_iter();
        Ok(walks
            .iter()
            .map(|walk| is_made(walk).then(|| seen.next()).flatten())
            .collect())
    }

    fn settle(
        &mut self,
        walk: &Walk,
        outcome: Outcome,
        tell: &mut dyn FnMut(Event),
    ) -> io::Result<()> {
        let check = Check {
            connection: Connection::of(walk),
            outcome,
        };
        self.settled.push(walk.clone());
        self.report.checks.push(check.clone());
        self.interrupt.released(|| tell(Event::Checked(check)))
    }
}

/// What was seen of a connection, or why it was not made.
type Seen = Result<Evidence, Reason>;

/// What conntrack knows of a connection that begins.
const FIRST: Connected = Connected {
    state: ConnState::New,
    mark: 0,
};

/// Whether a connection can be made from here that begins so.
fn is_made(walk: &Walk) -> bool {
    let packet = &walk.packet;
    walk.start == Start::Here
        && packet.owner.is_some()
        && packet.protocol != Protocol::Icmpv6
        && walk.tracking == Tracking::Known(FIRST)
        && packet.source.port() == report::ANY_PORT
}

/// What became of a connection: what was seen decides, and the rules where that proves nothing.
fn outcome(walk: &Walk, seen: Option<Seen>, desired: &Place, in_kernel: Option<&Place>) -> Outcome {
    let Some(fate) = Fate::desired(walk, desired) else {
        let reason = match desired.network.route(walk.packet.destination.ip(), 0) {
            None => Reason::NoRoute,
            Some(_) => Reason::NotDesired,
        };
        return Outcome::Inconclusive {
            expected: None,
            reason,
        };
    };
    let by_rules = in_kernel.map(|place| rules::judge(walk, fate, place));
    match seen {
        Some(seen) => together(sight(walk, fate, seen), fate, by_rules),
        None => by_rules.map_or_else(
            || inconclusive(fate, Reason::NotDesired),
            |judged| judged.outcome(fate),
        ),
    }
}

/// What a real connection alone says.
fn sight(walk: &Walk, fate: Fate, seen: Seen) -> Outcome {
    let expected = fate.end;
    let located = seen.and_then(|evidence| locate(&evidence, walk.packet.destination));
    match located {
        Err(reason) => inconclusive(fate, reason),
        Ok((found, means)) => match agrees(expected, found) {
            Some(true) => Outcome::Holds { expected, means },
            Some(false) => Outcome::Fails {
                expected,
                found,
                means,
                by: None,
            },
            None => inconclusive(fate, Reason::NoAnswer),
        },
    }
}

/// What was seen, and what the rules say of it.
fn together(seen: Outcome, fate: Fate, judged: Option<Judged>) -> Outcome {
    match (seen, judged) {
        (seen, None) => seen,
        (
            Outcome::Fails {
                means: Means::Answer,
                ..
            },
            Some(judged @ Judged::Refused(_)),
        ) => judged.outcome(fate),
        (
            Outcome::Fails {
                expected,
                found,
                means,
                ..
            },
            Some(judged),
        ) => Outcome::Fails {
            expected,
            found,
            means,
            by: judged.rule(),
        },
        // A packet can get another mark or zone than is desired, and still arrive.
        (Outcome::Holds { .. }, Some(judged @ Judged::Otherwise { .. })) => judged.outcome(fate),
        (holds @ Outcome::Holds { .. }, _) => holds,
        // The rules say that it arrives, and it did not.
        (
            seen @ Outcome::Inconclusive {
                reason: Reason::NotArrived,
                ..
            },
            Some(Judged::AsDesired),
        ) => seen,
        (_, Some(judged)) => judged.outcome(fate),
    }
}

fn inconclusive(fate: Fate, reason: Reason) -> Outcome {
    Outcome::Inconclusive {
        expected: Some(fate.end),
        reason,
    }
}
