//! The host that we run on: its environment, its files, and what its kernel says.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one place that reads files and the environment"
)]

use crate::engine::error::Error;
use crate::mesh::config::Ipv6;
use crate::netfilter::rtnetlink;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest file that is read: a list of a hundred thousand users has some 8 MB.
const LONGEST: u64 = 16 << 20;

/// The environment, whatever its bytes.
pub fn environment() -> BTreeMap<OsString, OsString> {
    std::env::vars_os().collect()
}

/// IPv6 in the network namespace.
///
/// # Errors
/// When the kernel does not list its addresses.
pub(crate) fn ipv6() -> Result<Ipv6, Error> {
    let found = rtnetlink::ipv6()?;
    Ok(Ipv6 {
        enabled: found.enabled,
        on_loopback: found.on_loopback,
        addresses: found.addresses,
    })
}

/// A text file, whole; bytes that are not UTF-8 come as U+FFFD.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] for an absent one, [`io::ErrorKind::FileTooLarge`] beyond 16 MiB;
/// what is not a regular file is an error too.
pub fn file(path: &Path) -> io::Result<String> {
    // Opening a FIFO or a device can block, or have an effect.
    regular(&stat(path)?)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    regular(&fstat(&file)?)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        let problem = format!("longer than {} MiB", LONGEST >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn regular(status: &FileStat) -> io::Result<()> {
    match SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => Ok(()),
        _ => Err(io::Error::other("not a regular file")),
    }
}
