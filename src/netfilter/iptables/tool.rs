//! iptables-legacy as a backend.

use super::program::{Variant, look_up, tool, version, words};
use super::run::run;
use super::{parse_save, restore};
use crate::netfilter::backend::{Backend, BackendError, TableKind};
use crate::netfilter::model::{Change, Family, Observed};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::AccessFlags;
use std::io::{self, ErrorKind, Read};
use std::process::Output;
use std::time::Duration;

/// How long iptables-legacy waits for the xtables lock.
const LOCK_WAIT_SECONDS: &str = "10";

/// Time limit for reading or writing the rules of a family: the wait for the lock, and ten times
/// what 100,000 rules took on one processor.
const LIMIT: Duration = Duration::from_secs(60);

/// The message of iptables-legacy after the wait for the lock.
const LOCKED: &str = "xtables lock";

/// The tools of iptables-legacy and their version.
pub struct Iptables {
    /// The suffix `-legacy`, or nothing if only plain names exist.
    infix: &'static str,
    /// Whether `…-restore` supports `-w` (since 1.6.2).
    waits: bool,
    /// The state that changes are based on.
    last: Observed,
}

impl Backend for Iptables {
    fn name(&self) -> &'static str {
        "iptables-legacy"
    }

    fn kind(&self) -> TableKind {
        TableKind::Legacy
    }

    fn detects_concurrent_commits(&self) -> bool {
        false
    }

    fn read(&mut self) -> Result<Observed, BackendError> {
        self.last = self.saved(&[])?;
        Ok(self.last.clone())
    }

    fn read_counted(&mut self) -> Result<Observed, BackendError> {
        self.saved(&["-c"])
    }

    /// Atomic per table, as iptables-restore commits; families one after the other. Concurrent
    /// changes are only detected if they conflict.
    fn commit(&mut self, change: &Change) -> Result<(), BackendError> {
        may_be_said(change)?;
        for family in Family::ALL {
            let text = restore(change, family);
            if !text.is_empty() {
                self.write(family, &text)?;
            }
        }
        Ok(())
    }
}

impl Iptables {
    /// Finds the tools by their own or plain names. Only `--version` is run, so the kernel is
    /// unchanged. [`BackendError::NoProgram`] if they are missing.
    pub fn find() -> Result<Self, BackendError> {
        for infix in ["-legacy", ""] {
            let Some(version) = version(&format!("iptables{infix}-restore"))? else {
                continue;
            };
            if version.variant == Variant::Legacy {
                return Ok(Iptables {
                    infix,
                    waits: version.number >= (1, 6, 2),
                    last: Observed::default(),
                });
            }
        }
        Err(BackendError::NoProgram(
            "iptables-legacy-restore".to_owned(),
        ))
    }

    /// The parsed output of `…-save` with these options, for both families.
    fn saved(&self, options: &[&str]) -> Result<Observed, BackendError> {
        let mut observed = Observed::default();
        for family in Family::ALL {
            if let Some(text) = self.save(family, options)? {
                observed.tables.extend(parse_save(family, &text)?);
            }
        }
        Ok(observed)
    }

    /// The output of `…-save`, or `None` if the kernel lacks the family.
    fn save(&self, family: Family, options: &[&str]) -> Result<Option<String>, BackendError> {
        let program = self.program(family, "save");
        let doing = format!("reading {family} rules with {program}");
        let output = self.run(&doing, &program, options, "")?;
        if output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            return Ok(Some(text));
        }
        if family == Family::V6 && kernel_lacks_ipv6() {
            return Ok(None);
        }
        Err(refused(doing, &output, ""))
    }

    /// Writes rules of a family. A refusal is an interruption if the rules have changed since the
    /// change was planned. They may also have changed and changed back while the tool waited for the
    /// lock, so a refusal counts only when the tool repeats it.
    fn write(&self, family: Family, text: &str) -> Result<(), BackendError> {
        let mut written = Ok(());
        for _ in 0..2 {
            written = self.restore(family, text);
            let Err(BackendError::Refused { doing, reason }) = &written else {
                break;
            };
            if self.saved(&[])? != self.last {
                log::debug!("{doing}: {reason}");
                return Err(BackendError::Interrupted {
                    doing: doing.clone(),
                });
            }
        }
        written
    }

    /// Feeds `text` to `…-restore --noflush`.
    fn restore(&self, family: Family, text: &str) -> Result<(), BackendError> {
        let program = self.program(family, "restore");
        let doing = format!("writing {family} rules with {program}");
        let wait = if self.waits {
            &["-w", LOCK_WAIT_SECONDS][..]
        } else {
            &[]
        };
        let args = [&["--noflush"], wait].concat();
        let output = self.run(&doing, &program, &args, text)?;
        if output.status.success() {
            return Ok(());
        }
        Err(refused(doing, &output, text))
    }

    fn program(&self, family: Family, verb: &str) -> String {
        let base = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{base}{}-{verb}", self.infix)
    }

    /// Runs a tool; `doing` is for error messages.
    fn run(
        &self,
        doing: &str,
        program: &str,
        args: &[&str],
        input: &str,
    ) -> Result<Output, BackendError> {
        let path = look_up(program)?.ok_or_else(|| BackendError::NoProgram(program.to_owned()))?;
        let mut command = tool(&path);
        command.args(args);
        command.envs(lock_without_a_file().map(|lock| ("XTABLES_LOCKFILE", lock)));
        run(command, input, LIMIT).map_err(|problem| BackendError::Io {
            doing: doing.to_owned(),
            source: io::Error::other(problem),
        })
    }
}

/// Refuses changes that iptables-restore cannot express: it reads lines, so a rule whose comment
/// has a line break cannot be deleted by text.
fn may_be_said(change: &Change) -> Result<(), BackendError> {
    let base = change.tables.iter().flat_map(|t| &t.base);
    let deleted = base.flat_map(|b| b.delete.iter().map(move |rule| (&b.chain, rule)));
    match deleted
        .into_iter()
        .find(|(_, rule)| rule.text.contains('\n'))
    {
        None => Ok(()),
        Some((chain, rule)) => Err(BackendError::Refused {
            doing: format!("removing a managed rule from chain {chain}"),
            reason: format!(
                "its comment {:?} has a line break, which iptables-restore cannot read; delete it by its number",
                rule.comment.as_deref().unwrap_or_default()
            ),
        }),
    }
}

/// Whether the kernel lacks IPv6 (`ipv6.disable=1`).
fn kernel_lacks_ipv6() -> bool {
    let made = socket(
        AddressFamily::Inet6,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    matches!(made, Err(Errno::EAFNOSUPPORT))
}

/// Whether iptables-legacy has tables of this family in this network namespace. Reading the file
/// creates none. It is absent without x_tables in the kernel. [`BackendError::LegacyUnknown`] if it
/// cannot be read.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "of this process and thread, not of a host that a test makes up"
)]
pub fn legacy_tables_in_use(family: Family) -> Result<bool, BackendError> {
    let names = match family {
        Family::V4 => "/proc/self/net/ip_tables_names",
        Family::V6 => "/proc/self/net/ip6_tables_names",
    };
    let first = std::fs::File::open(names).and_then(|mut file| file.read(&mut [0]));
    let first = first.or_else(|e| match e.kind() {
        // This file exists in every network namespace.
        ErrorKind::NotFound => std::fs::metadata("/proc/self/net/dev").map(|_| 0),
        _ => Err(e),
    });
    match first {
        Ok(length) => Ok(length > 0),
        Err(source) => Err(BackendError::LegacyUnknown {
            path: names,
            source,
        }),
    }
}

/// The lock file to use where iptables-legacy cannot create its own (read-only root): the network
/// namespace, which is what the lock protects.
fn lock_without_a_file() -> Option<&'static str> {
    let may = |path, flags| nix::unistd::access(path, flags).is_ok();
    let file = "/run/xtables.lock";
    let usable = match may(file, AccessFlags::F_OK) {
        true => may(file, AccessFlags::R_OK),
        false => may("/run", AccessFlags::W_OK),
    };
    (!usable).then_some("/proc/self/ns/net")
}

/// The error message of a tool, with the line of input that it refers to.
fn refused(doing: String, output: &Output, input: &str) -> BackendError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut reason = words(output);
    if let Some(line) = line_number(&stderr).and_then(|n| input.lines().nth(n - 1)) {
        reason = format!("{reason} (the line is: {line})");
    }
    if stderr.contains("Permission denied") || stderr.contains("Operation not permitted") {
        return BackendError::NotPermitted {
            doing: format!(
                "{doing} ({reason}; programs that are started do not have the file capabilities of this one)"
            ),
        };
    }
    if stderr.contains(LOCKED) {
        return BackendError::Locked {
            doing,
            reason: format!(
                "{reason}; find who holds the lock, or use --backend netlink, which needs none"
            ),
        };
    }
    BackendError::Refused { doing, reason }
}

/// The line number in `line 12 failed` or `Error occurred at line: 12`.
fn line_number(stderr: &str) -> Option<usize> {
    let (_, rest) = stderr.split_once("line")?;
    let digits = rest.trim_start_matches([':', ' ']);
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok().filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_point_at_their_line() {
        assert_eq!(line_number("iptables-restore: line 12 failed"), Some(12));
        assert_eq!(line_number("Error occurred at line: 3\nTry"), Some(3));
        assert_eq!(line_number("Another app is holding the xtables lock"), None);
    }
}
