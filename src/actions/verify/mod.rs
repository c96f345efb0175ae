//! `verify`: real connections prove that the redirection holds.
//!
//! What the rules ask about says which connections are worth trying (`probes`); what is to become
//! of each is told by following it through the rules that the options want ([`crate::netfilter::trace`]); what
//! becomes of it is seen by listening where the proxy would, or in conntrack (`probe`). Nothing
//! goes further than one hop, and nothing is changed.

mod expect;
mod inbound;
mod judge;
#[expect(clippy::disallowed_types, reason = "a probe is a connection")]
mod listeners;
mod place;
mod probe;
mod probes;
mod report;
#[expect(clippy::disallowed_types, reason = "a probe is a connection")]
mod socket;

use super::event::{Event, resolve};
use crate::engine::error::Error;
use crate::engine::request::Request;
use crate::netfilter::conntrack::Conntrack;
use crate::netfilter::model::Rules;
use crate::netfilter::rtnetlink;
use caps::{CapSet, Capability};
use expect::{expected, proxy_ports};
use judge::judge;
use listeners::Listeners;
use probe::{Observer, Probe};
use report::{Check, Expected, Outcome};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use report::{Report, Verdict};

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

/// Tries what `wanted` is about, in the network namespace that this process is in.
///
/// What fails is tried again until the time is over: in Istio's CNI mode rules may come a moment
/// later than the container that waits for them.
///
/// # Errors
/// [`Error::Probe`] where our own sockets fail, [`Error::Routing`] where the kernel does not tell
/// addresses and routes. That a connection does not do what it should is none.
pub(super) fn verify(
    request: &Request,
    options: &Options,
    tell: &mut dyn FnMut(Event),
) -> Result<Report, Error> {
    let wanted = &resolve(request, tell)?.desired;
    let until = Instant::now() + options.probe_timeout;
    let links = rtnetlink::links()?;
    let place = place::here(&links, options.probe_port);
    let probes = probes::probes(wanted, &place);
    let network = place::network(links, &probes, &wanted.routing)?;
    let rules = Rules::of(wanted);
    let mut observer = Observer {
        listeners: Listeners::open(&proxy_ports(wanted)).map_err(Error::Probe)?,
        conntrack: conntrack().map_err(Error::Probe)?,
    };
    let mut tried = Vec::new();
    for probe in probes {
        let expected = expected(&probe, &rules, &network);
        let outcome = attempt(&mut observer, &probe, expected)?;
        tried.push((probe, expected, outcome));
    }
    while tried.iter().any(|(_, _, o)| o.fails()) && Instant::now() < until {
        sleep(PAUSE);
        for (probe, expected, outcome) in tried.iter_mut().filter(|(_, _, o)| o.fails()) {
            *outcome = attempt(&mut observer, probe, *expected)?;
        }
    }
    let outbound = tried.into_iter();
    let mut checks: Vec<Check> = outbound
        .map(|(probe, _, outcome)| Check::new(&probe, outcome))
        .collect();
    let inbound = probes::inbound(wanted, &place);
    checks.extend(inbound::checks(inbound, &rules, &network));
    Ok(Report { checks })
}

/// Tries it, if there is a way to its destination.
fn attempt(
    observer: &mut Observer,
    probe: &Probe,
    expected: Option<Expected>,
) -> Result<Outcome, Error> {
    let Some(expected) = expected else {
        let why = "there is no route to it".to_owned();
        return Ok(Outcome::Unknown { why });
    };
    let seen = observer.observe(probe).map_err(Error::Probe)?;
    Ok(judge(probe, expected, seen))
}

/// conntrack, if it may be asked.
fn conntrack() -> std::io::Result<Option<Conntrack>> {
    match caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN) {
        Ok(true) => Conntrack::open().map(Some),
        _ => Ok(None),
    }
}
