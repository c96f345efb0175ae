//! Signals that end a run early, as something to wait for among other things (signalfd(2)).

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// SIGINT and SIGTERM, held back while this lives, so that what is known can still be reported.
pub(super) struct Interrupt {
    signals: SigSet,
    pending: SignalFd,
}

impl Interrupt {
    /// Holds them back in this thread.
    pub(super) fn hold() -> io::Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let pending = SignalFd::with_flags(&signals, flags)?;
        signals.thread_block()?;
        Ok(Interrupt { signals, pending })
    }

    /// # Errors
    /// EINTR if one has come.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.pending.read_signal()? {
            Some(_) => Err(Errno::EINTR.into()),
            None => Ok(()),
        }
    }

    /// Waits, but for no signal.
    ///
    /// # Errors
    /// As [`Interrupt::check`].
    pub(super) fn pause(&self, pause: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => self.check(),
            Err(e) => Err(e.into()),
        }
    }

    /// Does what may block, such as writing to a pipe, with the signals doing what they do.
    ///
    /// # Errors
    /// As [`Interrupt::check`].
    pub(super) fn released(&self, work: impl FnOnce()) -> io::Result<()> {
        self.check()?;
        self.signals.thread_unblock()?;
        work();
        Ok(self.signals.thread_block()?)
    }
}

impl AsFd for Interrupt {
    /// Readable when one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pending.as_fd()
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        let _ = self.signals.thread_unblock();
    }
}
