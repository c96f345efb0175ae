//! The host that we run on: its environment, its files, and what its kernel says.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "asks the host, for everybody else"
)]

use crate::mesh::config::{Host, facts::Ipv6};
use crate::netfilter::rtnetlink;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest file that is read: a list of a hundred thousand users has some 8 MB.
const LONGEST: u64 = 16 << 20;

/// The host we run on.
pub(crate) struct System;

impl Host for System {
    fn env(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        // To open a FIFO or a device may wait for ever, or do something.
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

    fn ipv6(&self) -> io::Result<Ipv6> {
        match rtnetlink::ipv6() {
            Ok(found) => Ok(Ipv6 {
                enabled: found.enabled,
                on_loopback: found.on_loopback,
                addresses: found.addresses,
            }),
            Err(e) => Err(io::Error::other(e)),
        }
    }
}

fn regular(status: &FileStat) -> io::Result<()> {
    match SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => Ok(()),
        _ => Err(io::Error::other("not a regular file")),
    }
}
