//! `verify`: real connections prove that the redirection holds.
//!
//! Which connections are worth trying is derived from the rules; what is to become of each is found by
//! following it through the desired rules ([`crate::netfilter::trace`]); what becomes of it is observed by
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
    Check, Connection, Expected, Found, Means, Outcome, ReadFailure, Reason, Report, Rule, Sender,
    Verdict,
};

use super::event::Event;
use crate::engine::error::Error;
use crate::engine::request::Request;
use crate::netfilter::model::{
    ConnState, Connection as Connected, Protocol, Rules, Ruleset, Tracking,
};
use crate::netfilter::rtnetlink;
use crate::netfilter::trace::{Probe, Start};
use evidence::{Evidence, agrees, locate};
use interrupt::Interrupt;
use observe::{AT_ONCE, Observer};
use probes::Vantage;
use rules::{Fate, Judgement, Place};
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

/// Tries what the desired rules are about, in the network namespace that this process is in; `report`
/// gets each check when its result is final.
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
    report: &mut dyn FnMut(Event),
) -> Result<Report, Error> {
    let desired = installed::or_desired(request, report)?;
    let mut run = Run {
        observer: Observer::new(&desired).map_err(Error::Probe)?,
        interrupt: Interrupt::hold().map_err(Error::Probe)?,
        desired: &desired,
        options,
        finished: Vec::new(),
        report: Report {
            nothing_installed: desired.rule_count() == 0,
            ..Report::default()
        },
    };
    let until = Instant::now() + options.probe_timeout;
    while !run.pass(until, report)? {}
    Ok(run.report.judged())
}

/// All that is tried.
struct Run<'a> {
    observer: Observer,
    interrupt: Interrupt,
    desired: &'a Ruleset,
    options: &'a Options,
    finished: Vec<Probe>,
    report: Report,
}

impl Run<'_> {
    /// Tries everything that is not finished. Returns whether that was the last time.
    fn pass(&mut self, until: Instant, report: &mut dyn FnMut(Event)) -> Result<bool, Error> {
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
        let mut probes = self.probes(&desired, in_kernel.as_ref().ok());
        probes.retain(|probe| {
            !self.finished.contains(probe) && (in_kernel.is_ok() || can_be_made(probe))
        });
        let tried = self
            .attempt(&probes, &desired, in_kernel.as_ref().ok(), until, report)
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
    fn probes(&self, desired: &Place, in_kernel: Option<&Place>) -> Vec<Probe> {
        let vantage = Vantage {
            network: &desired.network,
            only: (!User::can_be_chosen())
                .then(User::current)
                .map(|u| (u.uid, u.gid)),
            port: self.options.probe_port,
        };
        probes::derive_all(desired, in_kernel, &vantage)
    }

    /// Tries these, and finishes those that need not be tried again. Returns whether that is all.
    fn attempt(
        &mut self,
        probes: &[Probe],
        desired: &Place,
        in_kernel: Option<&Place>,
        until: Instant,
        report: &mut dyn FnMut(Event),
    ) -> io::Result<bool> {
        let mut all = true;
        for probes in probes.chunks(AT_ONCE) {
            let observed = self.observed(probes, desired)?;
            let last = Instant::now() >= until;
            for (probe, observed) in probes.iter().zip(observed) {
                let outcome = outcome(probe, observed, desired, in_kernel);
                match outcome.is_final() || last {
                    true => self.finish(probe, outcome, report)?,
                    false => all = false,
                }
            }
        }
        Ok(all)
    }

    /// What was observed of each, where it is one that can be made.
    fn observed(
        &mut self,
        probes: &[Probe],
        desired: &Place,
    ) -> io::Result<Vec<Option<Observation>>> {
        let made: Vec<&Probe> = probes.iter().filter(|probe| can_be_made(probe)).collect();
        let observed = self
            .observer
            .observe(&made, &desired.network, &self.interrupt)?;
        let mut observed = observed.into_iter();
        Ok(probes
            .iter()
            .map(|probe| can_be_made(probe).then(|| observed.next()).flatten())
            .collect())
    }

    fn finish(
        &mut self,
        probe: &Probe,
        outcome: Outcome,
        report: &mut dyn FnMut(Event),
    ) -> io::Result<()> {
        let check = Check {
            connection: Connection::of(probe),
            outcome,
        };
        self.finished.push(probe.clone());
        self.report.checks.push(check.clone());
        self.interrupt.released(|| report(Event::Checked(check)))
    }
}

/// What was observed of a connection, or why it was not made.
type Observation = Result<Evidence, Reason>;

/// What conntrack knows of a connection that begins.
const NEW: Connected = Connected {
    state: ConnState::New,
    mark: 0,
};

/// Whether a connection can be made from here that begins so.
fn can_be_made(probe: &Probe) -> bool {
    let packet = &probe.packet;
    probe.start == Start::Here
        && packet.owner.is_some()
        && packet.protocol != Protocol::Icmpv6
        && probe.tracking == Tracking::Known(NEW)
        && packet.source.port() == report::ANY_PORT
}

/// What became of a connection: what was observed decides, and the rules where that proves nothing.
fn outcome(
    probe: &Probe,
    observed: Option<Observation>,
    desired: &Place,
    in_kernel: Option<&Place>,
) -> Outcome {
    let Some(fate) = Fate::desired(probe, desired) else {
        let reason = match desired.network.route(probe.packet.destination.ip(), 0) {
            None => Reason::NoRoute,
            Some(_) => Reason::NotDesired,
        };
        return Outcome::Inconclusive {
            expected: None,
            reason,
        };
    };
    let by_rules = in_kernel.map(|place| rules::judge(probe, fate, place));
    match observed {
        Some(observed) => combined(by_observation(probe, fate, observed), fate, by_rules),
        None => by_rules.map_or_else(
            || inconclusive(fate, Reason::NotDesired),
            |judged| judged.outcome(fate),
        ),
    }
}

/// What a real connection alone says.
fn by_observation(probe: &Probe, fate: Fate, observed: Observation) -> Outcome {
    let expected = fate.end;
    let located = observed.and_then(|evidence| locate(&evidence, probe.packet.destination));
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

/// What was observed, and what the rules say of it.
fn combined(observed: Outcome, fate: Fate, judged: Option<Judgement>) -> Outcome {
    match (observed, judged) {
        (observed, None) => observed,
        (
            Outcome::Fails {
                means: Means::Answer,
                ..
            },
            Some(judged @ Judgement::Refused(_)),
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
        (Outcome::Holds { .. }, Some(judged @ Judgement::Differs { .. })) => judged.outcome(fate),
        (holds @ Outcome::Holds { .. }, _) => holds,
        // The rules say that it arrives, and it did not.
        (
            observed @ Outcome::Inconclusive {
                reason: Reason::NotArrived,
                ..
            },
            Some(Judgement::AsDesired),
        ) => observed,
        (_, Some(judged)) => judged.outcome(fate),
    }
}

fn inconclusive(fate: Fate, reason: Reason) -> Outcome {
    Outcome::Inconclusive {
        expected: Some(fate.end),
        reason,
    }
}
