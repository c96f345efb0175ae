//! `--timeout-close-wait-secs`: how long conntrack keeps a connection that only one side has closed.
//!
//! /proc/sys is writable in a privileged container only. Whoever requested the timeout and does not get
//! it must not learn so under load: as with proxy-init, that ends the run with an error. What can be
//! known beforehand is said before anything is touched.

use crate::engine::error::Error;
use std::io::ErrorKind;

/// Seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseWait(pub u32);

/// Of the network namespace that we are in.
const PATH: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";

impl CloseWait {
    /// Whether it can be set. Where conntrack is not loaded yet, as rules of nat do, that is not
    /// known before they are there.
    pub fn check(self) -> Result<(), Error> {
        match open() {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            opened => opened.map(drop).map_err(|source| self.error(source, false)),
        }
    }

    /// Sets it, when the rules are there.
    pub fn set(self) -> Result<(), Error> {
        let write = || std::io::Write::write_all(&mut open()?, self.0.to_string().as_bytes());
        write().map_err(|source| self.error(source, true))
    }

    /// As a command line of sysctl(8).
    pub fn command(self) -> String {
        let key = PATH.trim_start_matches("/proc/sys/").replace('/', ".");
        format!("sysctl -w {key}={}", self.0)
    }

    fn error(self, source: std::io::Error, installed: bool) -> Error {
        Error::CloseWait {
            path: PATH,
            installed,
            source,
        }
    }
}

#[expect(clippy::disallowed_types, reason = "a sysctl is a file")]
fn open() -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().write(true).open(PATH)
}
