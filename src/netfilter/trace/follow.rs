//! Follows a packet through the rules in every case that they leave open, and marks the rule that decides.

use super::JumpLoop;
use super::network::Network;
use super::passage::{Capture, Effect, End, Step, StepOutcome, Trace};
use super::tracer::{CONNTRACK, Probe, Start, Tracer};
use crate::netfilter::model::{Base, Hook, Rules, Side, Tie};
use std::collections::VecDeque;

/// How many cases are followed where rules could not be decoded; the others are not.
const CASES: usize = 32;

/// Follows a packet in every case that is left open: by rules that could not be decoded, first as if none of
/// them applied, and by chains of which nothing shows which is evaluated first.
pub fn every_trace(
    probe: &Probe,
    rules: &Rules,
    network: &Network,
) -> Result<Vec<Trace>, JumpLoop> {
    let mut traces = every_case(probe, rules, network)?;
    let mut ties = rules.ties(probe.packet.family());
    if ties.is_empty() {
        return Ok(traces);
    }
    let mut others = every_case(probe, &rules.in_the_other_order(), network)?;
    others.retain(|other| traces.iter().all(|trace| trace.end != other.end));
    if others.is_empty() {
        return Ok(traces);
    }
    ties.retain(|tie| {
        traces
            .iter()
            .chain(&others)
            .any(|trace| applies(tie, trace))
    });
    traces
        .iter_mut()
        .for_each(|trace| trace.order.clone_from(&ties));
    let other_order = |tie: &Tie| Tie {
        chains: tie.chains.iter().rev().cloned().collect(),
        ..tie.clone()
    };
    for trace in &mut others {
        trace.order = ties.iter().map(other_order).collect();
    }
    traces.extend(others);
    Ok(traces)
}

/// Whether some rule of these chains applies to the packet.
fn applies(tie: &Tie, trace: &Trace) -> bool {
    let here = trace
        .passages
        .iter()
        .filter(|passage| passage.hook == tie.hook);
    let tables = here.flat_map(|passage| &passage.tables);
    let mut tied = tables.filter(|t| tie.chains.contains(&(t.table.clone(), t.chain.clone())));
    tied.any(|t| {
        t.steps
            .iter()
            .any(|s| !matches!(s.outcome, StepOutcome::PassedOver(_)))
    })
}

fn every_case(probe: &Probe, rules: &Rules, network: &Network) -> Result<Vec<Trace>, JumpLoop> {
    let mut traces = Vec::new();
    let mut open = VecDeque::from([Vec::new()]);
    while let Some(assumed) = open.pop_front().filter(|_| traces.len() < CASES) {
        let trace = follow(probe, rules, network, &assumed)?;
        // One more case for each rule that nothing was assumed of: that it applies after all.
        for at in assumed.len()..trace.undecoded.len() {
            let before = trace.undecoded[..at].iter().map(|u| u.applies);
            open.push_back(before.chain([true]).collect());
        }
        traces.push(trace);
    }
    Ok(traces)
}

/// Follows a packet. Of the rules that could not be decoded, the first ones apply as `assumed` says, the
/// others do not.
pub fn follow(
    probe: &Probe,
    rules: &Rules,
    network: &Network,
    assumed: &[bool],
) -> Result<Trace, JumpLoop> {
    let mut tracer = Tracer::new(probe, rules, network, assumed);
    let end = match probe.start {
        Start::Here => tracer.go_out(),
        Start::Outside => tracer.come_in(),
    }?;
    let mut trace = tracer.finish(end);
    mark_deciding_rule(&mut trace);
    Ok(trace)
}

/// The rule that captured, refused or dropped the packet. Where none did, the last one of those that
/// might have captured it but sent it back out of a chain or accepted it.
fn mark_deciding_rule(trace: &mut Trace) {
    let end = trace.end.clone();
    let translated = trace.packet.is_translated(Side::Destination);
    let decides = |effect: &Effect| match &end {
        End::Delivered {
            by: Some(Capture::Redirect(_)),
            ..
        } => matches!(effect, Effect::Redirected(_) | Effect::Translated { .. }),
        End::Sent { .. } if translated => matches!(effect, Effect::Translated { .. }),
        End::Delivered {
            by: Some(Capture::Tproxy),
            ..
        } => matches!(effect, Effect::Tproxied { .. }),
        End::Dropped => matches!(effect, Effect::Dropped | Effect::NoAddress),
        End::Rejected(_) => matches!(effect, Effect::Rejected(_)),
        End::Delivered { by: None, .. } | End::Sent { .. } | End::NoRoute | End::Unknown => {
            matches!(effect, Effect::Returned(_) | Effect::Accepted)
        }
    };
    let stopped = matches!(end, End::Dropped | End::Rejected(_));
    let tables = trace.passages.iter_mut().flat_map(|p| &mut p.tables);
    let tables = tables.filter(|t| stopped || may_capture(&t.base));
    let steps: Vec<&mut Step> = tables.flat_map(|t| &mut t.steps).collect();
    let mut steps = steps.into_iter().rev();
    if let Some(step) = steps.find(|s| s.outcome.effect().is_some_and(decides)) {
        step.decides = true;
    }
}

/// Whether a packet can be given another destination or socket there.
pub(super) fn may_capture(base: &Base) -> bool {
    match base.hook {
        Hook::Output => base.is_nat,
        Hook::Prerouting => base.priority > CONNTRACK,
        Hook::Input | Hook::Forward | Hook::Postrouting => false,
    }
}
