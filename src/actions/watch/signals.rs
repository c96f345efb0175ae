//! Signals as a file descriptor (signalfd(2)).

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalAction {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// Blocks SIGTERM, SIGINT and SIGHUP and receives them.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks SIGHUP early, so that it is pending for the main loop and does not end the process.
    pub(crate) fn defer_reload() {
        if let Err(e) = SigSet::from(Signal::SIGHUP).thread_block() {
            log::debug!("cannot block SIGHUP: {e}");
        }
    }

    /// Blocks the signals in this thread, the only one. The standard library unblocks them in child
    /// processes.
    pub(crate) fn open() -> io::Result<Self> {
        let set: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
            .into_iter()
            .collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&set, flags)?;
        set.thread_block()?;
        Ok(Signals(descriptor))
    }

    /// The next pending signal.
    pub(crate) fn next(&self) -> io::Result<Option<SignalAction>> {
        let info = self.0.read_signal()?;
        Ok(
            info.map(|info| match info.ssi_signo == Signal::SIGHUP as u32 {
                true => SignalAction::Reload,
                false => SignalAction::Stop,
            }),
        )
    }
}

impl AsFd for Signals {
    /// Readable when a signal is pending.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
