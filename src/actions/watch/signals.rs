//! Signals as something to wait for among other things (signalfd(2)).

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// SIGTERM, SIGINT: to end.
    Stop,
    /// SIGHUP: to read the configuration anew.
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP, which from now on do nothing by themselves.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks them in this thread; the process has no other. Programs that are started begin with
    /// none blocked, as the standard library sees to it.
    pub(crate) fn block() -> io::Result<Self> {
        let set: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
            .into_iter()
            .collect();
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals(SignalFd::with_flags(&set, flags)?))
    }

    /// The next one that has come, if any has.
    pub(crate) fn next(&self) -> io::Result<Option<Received>> {
        let info = self.0.read_signal()?;
        Ok(
            info.map(|info| match info.ssi_signo == Signal::SIGHUP as u32 {
                true => Received::Reload,
                false => Received::Stop,
            }),
        )
    }
}

impl AsFd for Signals {
    /// Readable when one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
