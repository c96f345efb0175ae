//! The text of `verify`: a line for each connection when its result is final, and at the end what is wrong
//! and what to do about it.

use super::escape::Foreign;
use crate::actions::verify::{
    Ahead, Check, Connection, Expected, Found, Means, Outcome, ReadFailure, Reason, Report, Rule,
    Sender, Verdict,
};
use std::fmt::Write;
use std::net::SocketAddr;

/// The line of one connection.
pub(super) fn line(check: &Check) -> String {
    let connection = connection(&check.connection);
    match &check.outcome {
        Outcome::Holds { expected, means } => {
            format!("✓ {connection}: {} ({})", end(*expected), proof(*means))
        }
        Outcome::Fails { .. } => format!("✗ {connection}: {}", wrong(&check.outcome)),
        Outcome::Refused { by, .. } => format!("– {connection}: refused by {}", rule(by)),
        Outcome::Inconclusive { reason, .. } => {
            format!("– {connection}: inconclusive: {}", why(reason))
        }
    }
}

/// What stands behind the lines: what fails once more, first, with the remedy.
pub(super) fn summary(report: &Report) -> String {
    let mut text = String::new();
    let failed = report
        .checks
        .iter()
        .filter(|c| matches!(c.outcome, Outcome::Fails { .. }));
    for check in failed {
        let _ = writeln!(text, "\n{}\n  {}", line(check), remedy(check));
    }
    for command in &report.missing {
        let _ = writeln!(
            text,
            "\n✗ missing: {command}\n  Run prepare-proxy apply with the same options."
        );
    }
    if report.nothing_installed {
        text.push_str("\n✗ no rules are installed\n  Run prepare-proxy apply, or give verify the options of a mesh.\n");
    }
    if let Some(unread) = &report.rules_unread {
        let _ = writeln!(
            text,
            "\n– connections from outside: not verified: {}",
            unread_words(unread)
        );
    }
    text
}

/// The one sentence of the log.
pub(super) fn sentence(report: &Report) -> String {
    let held = report.count(|o| matches!(o, Outcome::Holds { .. }));
    let failed = report.count(|o| matches!(o, Outcome::Fails { .. }));
    let refused = report.count(|o| matches!(o, Outcome::Refused { .. }));
    let open = report.checks.len() - held - failed - refused;
    let mut text = match report.verdict {
        Verdict::Holds => format!("the redirection holds: {held} connections verified"),
        Verdict::Fails if report.nothing_installed => {
            "the redirection does not hold: no rules are installed".to_owned()
        }
        Verdict::Fails => format!(
            "the redirection does not hold: {} of {} checks failed",
            failed + report.missing.len(),
            report.checks.len() + report.missing.len()
        ),
        Verdict::Inconclusive => {
            "inconclusive: not every kind of captured connection could be verified".to_owned()
        }
    };
    if refused > 0 {
        let _ = write!(text, ", {refused} refused by a firewall");
    }
    if open > 0 {
        let _ = write!(text, ", {open} inconclusive");
    }
    if report.interrupted {
        text.push_str(" (interrupted)");
    }
    text
}

fn connection(c: &Connection) -> String {
    let Connection { protocol, to, .. } = c;
    let protocol = protocol.to_string().to_uppercase();
    let state = c.state.map(|s| format!(" ({s})")).unwrap_or_default();
    let from = match c.from_port {
        Some(port) => SocketAddr::new(c.from, port).to_string(),
        None => c.from.to_string(),
    };
    let sender = match &c.sender {
        Sender::User { uid, gid } => format!("uid {uid}, gid {gid} at {from}"),
        Sender::Interface(name) => format!("{from} through {name}"),
    };
    let mark = |name, mark| match mark {
        0 => String::new(),
        mark => format!(", {name} {mark:#x}"),
    };
    let marks = mark("mark", c.mark) + &mark("connection mark", c.connection_mark);
    format!("{protocol}{state} from {sender}{marks} to {to}")
}

fn end(expected: Expected) -> String {
    match expected {
        Expected::Captured(port) => format!("captured, to the proxy on port {port}"),
        Expected::Exempt => "direct".to_owned(),
        Expected::Refused => "rejected".to_owned(),
        Expected::Dropped => "dropped".to_owned(),
    }
}

fn proof(means: Means) -> &'static str {
    match means {
        Means::Listener => "it arrived",
        Means::SocketTable => "by the socket table",
        Means::Conntrack => "by conntrack",
        Means::Answer => "it was answered, and the proxy's port received nothing",
        Means::Rules => "by the rules in the kernel",
    }
}

/// What was expected, and what came.
fn wrong(outcome: &Outcome) -> String {
    let Outcome::Fails {
        expected,
        found,
        means,
        by,
    } = outcome
    else {
        return String::new();
    };
    let by = by.as_ref().map(|by| format!(", by {}", rule(by)));
    format!(
        "expected {}, but {} ({}){}",
        end(*expected),
        came(*found),
        proof(*means),
        by.unwrap_or_default()
    )
}

fn came(found: Found) -> String {
    match found {
        Found::Captured(Some(port)) => format!("it went to port {port}"),
        Found::Captured(None) => "it went to the proxy".to_owned(),
        Found::WrongOriginal { port, original } => {
            format!("port {port} got it with the original destination {original}")
        }
        Found::Exempt => "it bypassed the proxy".to_owned(),
        Found::Either => "it went to the proxy's own port".to_owned(),
        Found::Lost(port) => format!("it was sent to port {port} and did not arrive"),
        Found::Undelivered => "it did not arrive".to_owned(),
        Found::Translated(to) => format!("it was sent to {to}"),
        Found::Refused => "it was rejected".to_owned(),
        Found::Dropped => "it was dropped".to_owned(),
        Found::OtherMark => "it got another mark or conntrack zone".to_owned(),
    }
}

/// The sentence about a foreign rule that keeps connections from the proxy, and who may have written it.
pub(super) fn ahead(ahead: &Ahead, by: &str) -> String {
    if let Some(port) = ahead.redirected_to {
        return format!(
            "connections redirected to port {port} are blocked by {}{by}; let the firewall accept port {port}",
            rule(&ahead.rule)
        );
    }
    let keeps = match ahead.decoded {
        true => "keeps connections from the proxy",
        false => "may keep connections from the proxy (it cannot be decoded)",
    };
    let (at, remedy) = match ahead.in_prerouting {
        true => (
            " in PREROUTING",
            "; --prerouting-first keeps the managed rules before it",
        ),
        false => ("", ""),
    };
    format!(
        "a foreign rule before ours{at} takes precedence and {keeps}{by}: {}{remedy}",
        rule(&ahead.rule)
    )
}

fn rule(rule: &Rule) -> String {
    let (table, chain) = (Foreign(&rule.table), Foreign(&rule.chain));
    match &rule.rule {
        Some(text) => format!("\"{}\" in {table} {chain}", Foreign(text)),
        None => format!("the policy of {table} {chain}"),
    }
}

fn why(reason: &Reason) -> String {
    match reason {
        Reason::NoAnswer => "no answer".to_owned(),
        Reason::NotArrived => "no answer, and nothing arrived at the proxy's port".to_owned(),
        Reason::RefusedBySomebody => {
            "refused; what refused it can only be determined as root".to_owned()
        }
        Reason::Occupied => {
            "another program listens there; where the connection ended can only be determined as root"
                .to_owned()
        }
        Reason::NoRoute => "no route to host".to_owned(),
        Reason::NoSuchUser => "sockets of this user require CAP_SETUID and CAP_SETGID, and a user namespace that maps it".to_owned(),
        Reason::NotMade(error) => error.clone(),
        Reason::Undecoded(by) => format!("it depends on {}, which cannot be decoded", rule(by)),
        Reason::UnreadRules(unread) => unread_words(unread),
        Reason::NotDesired => "the rules do not determine it".to_owned(),
    }
}

pub(super) fn unread_words(unread: &ReadFailure) -> String {
    match unread {
        ReadFailure::NetAdmin => "reading the rules requires CAP_NET_ADMIN".to_owned(),
        ReadFailure::Legacy => "whether iptables-legacy has rules is readable by root or with CAP_DAC_READ_SEARCH only, \
                           and its rules with CAP_NET_RAW"
            .to_owned(),
        ReadFailure::Kernel(error) => error.clone(),
    }
}

/// What to do about a connection that fails.
fn remedy(check: &Check) -> String {
    let Connection {
        sender,
        protocol,
        from,
        to,
        ..
    } = &check.connection;
    let explain = match sender {
        Sender::User { uid, gid } => format!("--user {uid}:{gid} --to {to}"),
        Sender::Interface(_) => format!("--from {from} --to {to}"),
    };
    let protocol = match protocol {
        crate::netfilter::model::Protocol::Udp => " --udp",
        _ => "",
    };
    let explain =
        format!("prepare-proxy explain --live {explain}{protocol} shows it rule by rule.");
    match &check.outcome {
        Outcome::Fails {
            found: Found::Lost(port),
            by: Some(by),
            ..
        } if !by.managed => {
            format!(
                "Let the firewall accept port {port}, before {}. {explain}",
                rule(by)
            )
        }
        Outcome::Fails { by: Some(by), .. } if !by.managed => {
            format!("Remove that rule, or move it behind those of the mesh. {explain}")
        }
        _ => format!(
            "prepare-proxy diff shows what differs, prepare-proxy apply repairs it. {explain}"
        ),
    }
}
