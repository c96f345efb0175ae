//! One run at a time, and one watch, in a network namespace: best effort, by abstract sockets.
//!
//! An abstract socket belongs to the network namespace as the rules do, needs no file, and ends with
//! its process. Anyone in the namespace can bind such a name, so nothing relies on it: a commit is
//! guarded by nf_tables' generation id, and who writes reads again. A holder that is neither root nor
//! our user is ignored, and nothing here waits without a deadline.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
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
pub(crate) enum Name {
    /// Held while rules are changed.
    Run,
    /// Held by a watch.
    Watch,
}

/// The name, held as long as this lives.
#[derive(Debug)]
pub(crate) struct Held(Option<OwnedFd>);

/// Another process that holds a name, root's or our user's; the connection ends when it does.
#[derive(Debug)]
pub(crate) struct Holder {
    pid: i32,
    connection: OwnedFd,
}

/// What came of taking a name.
#[derive(Debug)]
pub(crate) enum Taken {
    Held(Held),
    By(Holder),
    /// Another user's process holds it, or one that does not answer: it is ignored.
    Ignored,
}

impl Name {
    fn address(self) -> nix::Result<UnixAddr> {
        UnixAddr::new_abstract(match self {
            Name::Run => b"prepare-proxy",
            Name::Watch => b"prepare-proxy-watch",
        })
    }

    /// Takes the name, or says who has it. Never waits.
    pub(crate) fn take(self) -> Taken {
        match self.bind() {
            Ok(socket) => Taken::Held(Held(Some(socket))),
            Err(Errno::EADDRINUSE) => self.holder().map_or(Taken::Ignored, Taken::By),
            Err(e) => {
                log::debug!("cannot bind an abstract socket: {e}");
                Taken::Ignored
            }
        }
    }

    /// The process that holds the name, if it is root's or our user's and answers at once.
    pub(crate) fn holder(self) -> Option<Holder> {
        let connection = stream().ok()?;
        connect(connection.as_raw_fd(), &self.address().ok()?).ok()?;
        let peer = getsockopt(&connection, sockopt::PeerCredentials).ok()?;
        let trusted = [0, geteuid().as_raw()].contains(&peer.uid());
        trusted.then(|| Holder {
            pid: peer.pid(),
            connection,
        })
    }

    fn bind(self) -> nix::Result<OwnedFd> {
        let socket = stream()?;
        bind(socket.as_raw_fd(), &self.address()?)?;
        listen(&socket, Backlog::MAXALLOWABLE)?;
        Ok(socket)
    }

    /// Takes the name within `limit`; goes on without it afterwards.
    pub(crate) fn take_within(self, limit: Duration) -> Held {
        let until = Instant::now() + limit;
        loop {
            match self.take() {
                Taken::Held(held) => {
                    held.inherit();
                    return held;
                }
                Taken::Ignored => return Held::NONE,
                Taken::By(holder) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !holder.ends_within(left) {
                        log::debug!("{holder} is changing rules too: continuing beside it");
                        return Held::NONE;
                    }
                }
            }
        }
    }
}

fn stream() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

impl Held {
    /// Without the name, where it cannot be had.
    pub(crate) const NONE: Held = Held(None);

    /// Drops a few of the connections of those who asked, so that the queue does not fill up.
    pub(crate) fn drain(&self) {
        const FEW: usize = 64;
        if let Held(Some(socket)) = self {
            for _ in 0..FEW {
                match accept(socket.as_raw_fd()) {
                    Ok(fd) => drop(nix::unistd::close(fd)),
                    Err(_) => break,
                }
            }
        }
    }

    /// Lets tools that are started inherit the socket: if this process is killed, the next run waits
    /// for them too, as they may still write what was planned from an older state.
    fn inherit(&self) {
        if let Held(Some(socket)) = self
            && let Err(e) = fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty()))
        {
            log::debug!("tools will not hold the lock: {e}");
        }
    }
}

impl Holder {
    /// Waits until the process has ended, at most for `limit`.
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
