//! Serialises runs, and allows one watch, in a network namespace: best effort, by abstract sockets.
//!
//! An abstract socket belongs to the network namespace as the rules do, needs no file, and is
//! closed with its process. Any process in the namespace can bind the name, so correctness does not
//! depend on it: commits are guarded by nf_tables' generation id, and the rules are read again
//! after each write. A holder that is neither root nor our user is ignored, and nothing here waits
//! without a deadline.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept, bind, connect, getsockopt,
    listen, socket, sockopt,
};
use nix::unistd::geteuid;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A name that one process at a time holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockName {
    /// Held while rules are changed.
    Run,
    /// Held by a watch.
    Watch,
}

/// Releases the name when dropped.
#[derive(Debug)]
pub(crate) struct Lock(Option<OwnedFd>);

/// Another process of root or our user that holds a name; the connection is closed when it ends.
#[derive(Debug)]
pub(crate) struct Holder {
    pid: i32,
    connection: OwnedFd,
}

/// The result of [`LockName::take`].
#[derive(Debug)]
pub(crate) enum LockResult {
    Acquired(Lock),
    HeldBy(Holder),
    /// Held by another user's process, or by one that does not answer: ignored.
    Ignored,
}

impl LockName {
    fn address(self) -> nix::Result<UnixAddr> {
        UnixAddr::new_abstract(match self {
            LockName::Run => b"prepare-proxy",
            LockName::Watch => b"prepare-proxy-watch",
        })
    }

    /// Takes the name, or returns its holder, without waiting.
    pub(crate) fn take(self) -> LockResult {
        match self.bind() {
            Ok(socket) => LockResult::Acquired(Lock(Some(socket))),
            Err(Errno::EADDRINUSE) => self
                .holder()
                .map_or(LockResult::Ignored, LockResult::HeldBy),
            Err(e) => {
                log::debug!("cannot bind an abstract socket: {e}");
                LockResult::Ignored
            }
        }
    }

    /// The process that holds the name, if it is root's or our user's and answers at once.
    pub(crate) fn holder(self) -> Option<Holder> {
        let connection = stream(SockFlag::SOCK_CLOEXEC).ok()?;
        connect(connection.as_raw_fd(), &self.address().ok()?).ok()?;
        let peer = getsockopt(&connection, sockopt::PeerCredentials).ok()?;
        let trusted = [0, geteuid().as_raw()].contains(&peer.uid());
        trusted.then(|| Holder {
            pid: peer.pid(),
            connection,
        })
    }

    fn bind(self) -> nix::Result<OwnedFd> {
        let socket = stream(match self {
            // Started tools inherit it: if this process is killed, the next run also waits for them,
            // as they may still write a change planned from an older state.
            LockName::Run => SockFlag::empty(),
            LockName::Watch => SockFlag::SOCK_CLOEXEC,
        })?;
        bind(socket.as_raw_fd(), &self.address()?)?;
        listen(&socket, Backlog::MAXALLOWABLE)?;
        Ok(socket)
    }

    /// Takes the name within `limit`; goes on without it afterwards.
    pub(crate) fn take_within(self, limit: Duration) -> Lock {
        let until = Instant::now() + limit;
        loop {
            match self.take() {
                LockResult::Acquired(lock) => return lock,
                LockResult::Ignored => return Lock::NONE,
                LockResult::HeldBy(holder) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !holder.ends_within(left) {
                        log::debug!("{holder} is changing rules too: continuing beside it");
                        return Lock::NONE;
                    }
                }
            }
        }
    }
}

fn stream(flags: SockFlag) -> nix::Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

impl Lock {
    /// Used where the name cannot be taken.
    pub(crate) const NONE: Lock = Lock(None);

    /// Drops some pending connections of other runs, so that the queue does not fill up.
    pub(crate) fn drain(&self) {
        const FEW: usize = 64;
        if let Lock(Some(socket)) = self {
            for _ in 0..FEW {
                match accept(socket.as_raw_fd()) {
                    Ok(fd) => drop(nix::unistd::close(fd)),
                    Err(_) => break,
                }
            }
        }
    }
}

impl Holder {
    /// Waits until the process has ended, at most for `limit`. Returns whether it has.
    fn ends_within(&self, limit: Duration) -> bool {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.connection.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, timeout), Ok(1..))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

/// Readable when the process has ended.
impl AsFd for Holder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => f.write_str("a process of another PID namespace"),
            pid => write!(f, "process {pid}"),
        }
    }
}
