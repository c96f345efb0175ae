//! The programs: where they are, what they say of themselves, and how they are run.

use crate::backend::BackendError;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Which kernel interface the tools speak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// nf_tables with xt extensions; "(nf_tables)" in the version.
    Nft,
    /// The old x_tables; "(legacy)" in the version, or nothing before 1.8.
    Legacy,
}

impl Variant {
    /// The backend's name.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Nft => "iptables-nft",
            Variant::Legacy => "iptables-legacy",
        }
    }
}

/// Where the tools are looked for besides $PATH, which an init container may not have.
const SYSTEM_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// What a program says of itself.
pub struct Version {
    pub variant: Variant,
    pub number: (u32, u32, u32),
}

/// What the program says of itself, or `None` if it is not there.
pub fn version(program: &str) -> Result<Option<Version>, BackendError> {
    let Some(path) = look_up(program) else {
        return Ok(None);
    };
    let mut command = Command::new(path);
    command.arg("--version");
    let output = feed(command, "").map_err(|source| BackendError::Program {
        program: program.to_owned(),
        source,
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Some(parse_version(&text)))
}

/// Reads `iptables-restore v1.8.9 (nf_tables)`.
fn parse_version(text: &str) -> Version {
    let digits = text.split_once(" v").map_or("", |(_, rest)| rest);
    let end = digits.find([' ', '\n', '(']).unwrap_or(digits.len());
    let mut parts = digits[..end].split('.').map(|p| p.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    Version {
        variant: match text.contains("(nf_tables)") {
            true => Variant::Nft,
            false => Variant::Legacy,
        },
        number: (next(), next(), next()),
    }
}

/// The path of a program. A directory that is relative (or empty, as in a $PATH that is not set)
/// would be somebody's working directory, and is not looked into.
pub fn look_up(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = OsString::from(SYSTEM_PATH);
    let dirs = std::env::split_paths(&path).chain(std::env::split_paths(&system));
    dirs.filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}

/// The error for a program that is not there.
pub fn not_found(program: &str) -> BackendError {
    BackendError::Program {
        program: program.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    }
}

/// Runs a program to its end, with something to read.
pub fn feed(mut command: Command, input: &str) -> io::Result<Output> {
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // A tool that gives up early closes its input; its own words say why, not the broken pipe.
    let written = child
        .stdin
        .take()
        .map(|mut i| i.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    match written {
        Some(Err(e)) if output.status.success() => Err(e),
        _ => Ok(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_ages_are_told_apart() {
        let nft = parse_version("iptables-restore v1.8.9 (nf_tables)\n");
        assert_eq!((nft.variant, nft.number), (Variant::Nft, (1, 8, 9)));
        let legacy = parse_version("iptables-restore v1.8.9 (legacy)\n");
        assert_eq!(
            (legacy.variant, legacy.number),
            (Variant::Legacy, (1, 8, 9))
        );
        let old = parse_version("iptables-restore v1.6.1\n");
        assert_eq!((old.variant, old.number), (Variant::Legacy, (1, 6, 1)));
    }
}
