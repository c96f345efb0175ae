//! Finds, identifies and runs the tools.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "finds the tools in $PATH and starts them"
)]

use super::run::run;
use crate::netfilter::backend::BackendError;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// The kernel interface of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// nf_tables with xt extensions; "(nf_tables)" in the version.
    Nft,
    /// x_tables; "(legacy)" in the version, or nothing before 1.8.
    Legacy,
}

/// Directories searched beside $PATH, which an init container may not have.
const SYSTEM_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// The version of a tool.
pub(super) struct Version {
    pub variant: Variant,
    pub number: (u32, u32, u32),
}

/// Time limit for `--version`.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// The version of a tool, or `None` if it does not exist.
pub(super) fn version(program: &str) -> Result<Option<Version>, BackendError> {
    let Some(path) = look_up(program)? else {
        return Ok(None);
    };
    let doing = || {
        format!(
            "asking {} for its version, without which its rules can be neither read nor written",
            path.display()
        )
    };
    let mut command = tool(&path);
    command.arg("--version");
    let output = run(command, "", VERSION_LIMIT).map_err(|problem| BackendError::Io {
        doing: doing(),
        source: io::Error::other(problem),
    })?;
    let version = parse_version(&output).ok_or_else(|| BackendError::Refused {
        doing: doing(),
        reason: words(&output),
    })?;
    Ok(Some(version))
}

/// Parses `iptables-restore v1.8.9 (nf_tables)`. Before 1.6.2 the option is unknown, and the tool
/// is legacy. Anything else is `None`.
fn parse_version(output: &Output) -> Option<Version> {
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return stderr.contains("option '--version'").then_some(Version {
            variant: Variant::Legacy,
            number: (0, 0, 0),
        });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, digits) = text.split_once(" v")?;
    let end = digits.find([' ', '\n', '(']).unwrap_or(digits.len());
    let mut parts = digits[..end].split('.');
    let first = parts.next()?.parse().ok()?;
    let mut next = || parts.next().and_then(|p| p.parse().ok()).unwrap_or(0);
    Some(Version {
        variant: match text.contains("(nf_tables)") {
            true => Variant::Nft,
            false => Variant::Legacy,
        },
        number: (first, next(), next()),
    })
}

/// The error message of a tool, on one line.
pub(super) fn words(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = stderr.lines().filter(|l| !l.trim().is_empty());
    let said: Vec<&str> = lines.filter(|l| !l.starts_with("Try `")).collect();
    match said.is_empty() {
        true => output.status.to_string(),
        false => said.join("; "),
    }
}

/// A command with a minimal environment: variables, which an env file may set, could make the tool
/// load or run other code.
pub(super) fn tool(path: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", SYSTEM_PATH);
    command
}

/// The path of a program; `None` if no directory has it. Relative and empty directories of $PATH
/// are skipped, as they depend on the working directory. A directory that cannot be read is an
/// error unless another one has the program.
pub(super) fn look_up(program: &str) -> Result<Option<PathBuf>, BackendError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = OsString::from(SYSTEM_PATH);
    let dirs = std::env::split_paths(&path).chain(std::env::split_paths(&system));
    let mut unknown = None;
    for candidate in dirs.filter(|d| d.is_absolute()).map(|d| d.join(program)) {
        match candidate.metadata() {
            Ok(found) if found.is_file() => return Ok(Some(candidate)),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(e) => unknown = unknown.or(Some((candidate, e))),
        }
    }
    match unknown {
        None => Ok(None),
        Some((candidate, source)) => Err(BackendError::Io {
            doing: format!("looking for {}", candidate.display()),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The version that a shell script prints.
    fn said(script: &str) -> Option<(Variant, (u32, u32, u32))> {
        let output = tool(Path::new("/bin/sh")).args(["-c", script]).output();
        parse_version(&output.unwrap()).map(|v| (v.variant, v.number))
    }

    #[test]
    fn versions_of_all_ages_are_parsed() {
        for (script, version) in [
            (
                "echo 'iptables-restore v1.8.9 (nf_tables)'",
                (Variant::Nft, (1, 8, 9)),
            ),
            (
                "echo 'iptables-restore v1.8.9 (legacy)'",
                (Variant::Legacy, (1, 8, 9)),
            ),
            (
                "echo 'iptables-restore v1.6.2'",
                (Variant::Legacy, (1, 6, 2)),
            ),
            (
                "echo \"iptables-restore: unrecognized option '--version'\" >&2; exit 1",
                (Variant::Legacy, (0, 0, 0)),
            ),
        ] {
            assert_eq!(said(script), Some(version), "{script}");
        }
    }

    #[test]
    fn a_program_that_fails_has_no_version() {
        for script in [
            "exit 0",
            "echo iptables-restore",
            "echo 'iptables-restore v?'",
            "echo 'iptables-restore v1.8.9 (legacy)'; exit 1",
            "echo 'error while loading shared libraries: libxtables.so.12' >&2; exit 127",
            "kill -9 $$",
        ] {
            assert_eq!(said(script), None, "{script}");
        }
    }
}
