//! What was proved, what was not, and how: for people line by line, for programs as JSON.

use super::probe::Probe;
use super::socket::User;
use serde::Serialize;
use std::fmt;
use std::net::SocketAddr;

/// Where a connection is to end, as the options want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Expected {
    /// At this port of the proxy.
    Proxy(u16),
    /// Where it was going.
    Straight,
    Refused,
    Dropped,
}

/// How something was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Means {
    /// A listener got the connection.
    Listener,
    /// conntrack's entry said where it was sent.
    Conntrack,
    /// It came to none of the listeners, which had every port of the proxy.
    Silence,
    /// The kernel refused it.
    Refusal,
    /// The rules in the kernel were read and followed.
    Rules,
}

/// What became of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub(super) enum Outcome {
    Holds {
        expected: Expected,
        means: Means,
    },
    Fails {
        expected: Expected,
        means: Means,
        came: String,
    },
    Unknown {
        why: String,
    },
}

impl Outcome {
    /// Whether something is not as it should be.
    pub(super) fn fails(&self) -> bool {
        matches!(self, Outcome::Fails { .. })
    }
}

/// One connection, what the options want of it, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// Who connects to what, for people.
    pub(super) connection: String,
    pub(super) to: SocketAddr,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

impl Check {
    /// What became of a probe.
    pub(super) fn new(probe: &Probe, outcome: Outcome) -> Self {
        let User { uid, gid } = probe.user;
        Check {
            connection: format!("uid {uid}, gid {gid} to {} ({})", probe.to, probe.protocol),
            to: probe.to,
            outcome,
        }
    }
}

/// Whether the redirection holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something was proved, and nothing is wrong.
    Holds,
    Fails,
    /// Nothing was proved.
    Inconclusive,
}

/// Everything that was tried.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(super) checks: Vec<Check>,
}

impl Report {
    fn count(&self, which: fn(&Outcome) -> bool) -> usize {
        self.checks.iter().filter(|c| which(&c.outcome)).count()
    }

    fn failed(&self) -> usize {
        self.count(Outcome::fails)
    }

    fn held(&self) -> usize {
        self.count(|o| matches!(o, Outcome::Holds { .. }))
    }

    /// What all checks together say.
    pub fn verdict(&self) -> Verdict {
        match (self.failed(), self.held()) {
            (0, 0) => Verdict::Inconclusive,
            (0, _) => Verdict::Holds,
            _ => Verdict::Fails,
        }
    }

    /// One sentence.
    pub fn summary(&self) -> String {
        let (held, failed) = (self.held(), self.failed());
        let untold = match self.checks.len() - held - failed {
            0 => String::new(),
            n => format!(", {n} could not be told"),
        };
        match (failed, held) {
            (0, 0) => format!("nothing could be proved{untold}"),
            (0, _) => format!("the redirection holds: {held} checks proved{untold}"),
            _ => format!(
                "the redirection does not hold: {failed} of {} checks failed{untold}",
                self.checks.len()
            ),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self
            .checks
            .iter()
            .map(|c| c.connection.chars().count())
            .max();
        let width = widest.unwrap_or_default();
        for check in &self.checks {
            let connection = &check.connection;
            match &check.outcome {
                Outcome::Holds { expected, means } => {
                    writeln!(f, "✓ {connection:width$}  {expected} ({means})")?
                }
                Outcome::Fails {
                    expected,
                    means,
                    came,
                } => {
                    writeln!(
                        f,
                        "✗ {connection:width$}  expected: {expected}; but it {came} ({means})"
                    )?;
                }
                Outcome::Unknown { why } => writeln!(f, "– {connection:width$}  not told: {why}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Proxy(port) => write!(f, "goes to the proxy on port {port}"),
            Expected::Straight => f.write_str("goes straight there"),
            Expected::Refused => f.write_str("is refused"),
            Expected::Dropped => f.write_str("is dropped"),
        }
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Means::Listener => "it arrived",
            Means::Conntrack => "by conntrack",
            Means::Silence => "it did not come to the proxy",
            Means::Refusal => "by the kernel's answer",
            Means::Rules => "by the rules in the kernel",
        })
    }
}
