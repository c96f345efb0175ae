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
    /// SIGHUP: to read the configuration again.
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP, which have no effect of their own while this exists.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Keeps a SIGHUP that comes before the others are waited for: it is for the loop, and does not
    /// end the process.
    pub(crate) fn defer_reload() {
        if let Err(e) = SigSet::from(Signal::SIGHUP).thread_block() {
            log::debug!("cannot block SIGHUP: {e}");
        }
    }

    /// Blocks them in this thread, once there is something that receives them; the process has no
    /// other thread. The standard library unblocks them in programs that it starts.
    pub(crate) fn open() -> io::Result<Self> {
        let set: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
            .into_iter()
            .collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&set, flags)?;
        set.thread_block()?;
        Ok(Signals(descriptor))
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
