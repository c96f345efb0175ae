//! The answer in one sentence.

use super::question::Asked;
use crate::mesh::managed::purpose_of;
use crate::mesh::signature::{Purpose, with_port};
use crate::netfilter::model::{Credentials, Hook, Interface, Match, Owner, Protocol, Test};
use crate::netfilter::trace::{Capture, End, Start, Step, Trace};

/// Who asks, and for what: the sentence's subject.
pub(super) fn subject(asked: &Asked, start: Start, sender: Option<&Credentials>) -> String {
    let protocol = shown(asked.protocol);
    let state = match asked.state.as_str() {
        "NEW" => String::new(),
        state => format!(" ({state})"),
    };
    let who = match (start, sender, asked.from) {
        (Start::Here, Some(sender), _) => format!("uid {}", sender.uid),
        (_, _, Some(from)) => from.ip().to_string(),
        (_, _, None) => "outside".to_owned(),
    };
    format!("{protocol} from {who} to {}{state}", asked.to)
}

/// `TCP` or `UDP`.
pub(super) fn shown(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "UDP",
        _ => "TCP",
    }
}

/// What becomes of it: the rest of the sentence, without its full stop.
pub(super) fn predicate(asked: &Asked, start: Start, trace: &Trace) -> String {
    match &trace.end {
        End::Delivered { by: None, .. } if asked.state.as_str() == "ESTABLISHED" => {
            "goes where the first packet of its connection went: nat is not evaluated again"
                .to_owned()
        }
        End::Delivered { port, by } => {
            let delivered = delivered(asked, start, trace, *port, by.as_ref());
            format!("{}{delivered}", inside(asked, start, trace))
        }
        End::Sent { through, forwarded } => sent(asked, trace, through, *forwarded),
        End::Dropped => format!("is dropped {}", by(trace)),
        End::Rejected(with) => format!("is refused ({}) {}", with.as_str(), by(trace)),
        End::NoRoute => {
            let to = trace.packet.destination.ip();
            format!("goes nowhere: there is no route to {to}")
        }
        End::Unknown => {
            "cannot be followed further: the rule that decides was not decoded".to_owned()
        }
    }
}

fn delivered(
    asked: &Asked,
    start: Start,
    trace: &Trace,
    port: u16,
    by: Option<&Capture>,
) -> String {
    let deciding = deciding(trace);
    let (from, to) = (trace.packet.source.ip(), trace.packet.destination);
    match (by, start) {
        (Some(Capture::Redirect(_)), _) => {
            let original = match asked.protocol {
                Protocol::Tcp => format!(" (original destination {})", asked.to),
                _ => String::new(),
            };
            format!("goes to {}{original}", place(deciding, port))
        }
        (Some(Capture::Tproxy), _) => {
            let place = place(deciding, port);
            format!("goes to {place} (TPROXY), addresses unchanged: from {from} to {to}")
        }
        (None, Start::Here) => format!("goes directly to {}: {}", asked.to, reason(deciding)),
        (None, Start::Outside) => format!("goes directly to port {port}: {}", reason(deciding)),
    }
}

fn sent(asked: &Asked, trace: &Trace, through: &Interface, forwarded: bool) -> String {
    let to = trace.packet.destination;
    let reason = reason(deciding(trace));
    match (forwarded, to == asked.to) {
        (true, true) => format!(
            "is for somebody else: it is forwarded through {through}, if this machine forwards"
        ),
        (false, true) => format!("goes directly to {to} through {through}: {reason}"),
        (true, false) => format!("is forwarded to {to} through {through}: {reason}"),
        (false, false) => format!("goes to {to} through {through}: {reason}"),
    }
}

/// It is worth saying that something stays inside if it was not meant to leave.
fn inside(asked: &Asked, start: Start, trace: &Trace) -> &'static str {
    let stays = trace.passages.iter().any(|p| p.hook == Hook::Prerouting) && start == Start::Here;
    let is_translated = trace.packet.destination != asked.to;
    match stays && (!is_translated || was_for_here(trace)) {
        true => "stays inside: it comes back in through lo and ",
        false => "",
    }
}

/// Whether it was sent to an address of this namespace: what is only redirected is seen to leave
/// through another interface at OUTPUT.
fn was_for_here(trace: &Trace) -> bool {
    let output = trace.passages.iter().find(|p| p.hook == Hook::Output);
    let leaves = output.and_then(|p| p.packet.out_interface.as_ref());
    leaves.is_some_and(|name| name.as_str() == "lo")
}

/// The rule that decided.
fn deciding(trace: &Trace) -> Option<&Step> {
    let mut steps = trace.steps().map(|(_, step)| step);
    steps.find(|step| step.decides)
}

/// What the deciding rule is for, if it is managed.
fn purpose(step: Option<&Step>) -> Option<(Purpose, &str)> {
    purpose_of(step?.rule.id()?)
}

/// Who listens on the port that a rule leads to.
fn place(step: Option<&Step>, port: u16) -> String {
    match purpose(step) {
        Some((Purpose::To(who), _)) => with_port(who, " on port ", port),
        _ => format!("local port {port}"),
    }
}

/// By which rule, or policy.
fn by(trace: &Trace) -> String {
    match (deciding(trace), trace.tables().last()) {
        (Some(step), Some(table)) => {
            let rule = step.rule.text();
            format!("by \"{rule}\" in {} of table {}", step.chain, table.table)
        }
        (None, Some(table)) => format!("by the policy of {} in table {}", table.chain, table.table),
        _ => String::new(),
    }
}

/// Why it is exempt.
fn reason(step: Option<&Step>) -> String {
    let Some(step) = step else {
        return "no rule captures it".to_owned();
    };
    match (purpose(Some(step)), step.rule.id()) {
        (Some((Purpose::Exempt(why), value)), _) => why.replace("{}", value),
        (Some((Purpose::ExemptPassed(why), _)), _) => why.to_owned(),
        (Some((Purpose::ExemptProxy, _)), _) => is_the_proxy(step),
        (_, Some(id)) => format!("matched \"{}\" in {}", id.as_str(), step.chain),
        (_, None) => format!("matched \"{}\" in {}", step.rule.text(), step.chain),
    }
}

fn is_the_proxy(step: &Step) -> String {
    let owner = |m: &Match| match m.test {
        Test::Owner(owner) => Some(owner),
        _ => None,
    };
    match step.rule.matches().iter().find_map(owner) {
        Some(Owner::Uid(uid)) => format!("uid {uid} is the proxy"),
        Some(Owner::Gid(gid)) => format!("gid {gid} is the proxy's"),
        None => "it is the proxy's".to_owned(),
    }
}
