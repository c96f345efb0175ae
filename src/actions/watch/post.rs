//! One watch in a network namespace: two would do everything twice.
//!
//! A listening abstract socket stands for the watch that is at work. Like the rules it belongs to the
//! network namespace, needs no file and ends with its process. Who connects learns who listens, and
//! when it ends; nothing is ever said.

use super::signals::Signals;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Uid;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

const NAME: &str = "prepare-proxy-watch";

/// So many may wait for us to end. Anybody in the namespace can connect.
const MOST_VISITORS: usize = 16;

/// The place of the one watch, held.
#[derive(Debug)]
pub(super) struct Post {
    listener: Option<UnixListener>,
    visitors: Vec<UnixStream>,
}

/// Another watch.
#[derive(Debug)]
pub(crate) struct Other {
    /// Its process; 0 where it is in another PID namespace.
    pub process: i32,
    /// Readable when it has ended.
    pub end: UnixStream,
}

impl Other {
    /// Waits until it has ended, or a signal has come. Returns whether it has ended.
    pub(crate) fn has_ended_or(&self, signals: &Signals) -> io::Result<bool> {
        let mut fds =
            [self.end.as_fd(), signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => Ok(fds[0].any().unwrap_or(true)),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            0 => f.write_str("a watch (in another PID namespace)"),
            process => write!(f, "a watch (process {process})"),
        }
    }
}

/// Who has the place of the watch.
#[derive(Debug)]
pub(super) enum Held {
    /// Now we have.
    Ours(Post),
    Taken(Other),
}

impl Post {
    /// Takes the place in the network namespace of this thread, if no other watch has it. Somebody
    /// who is neither root nor our user and holds the name is no watch: it keeps nobody from watching.
    pub(super) fn take() -> io::Result<Held> {
        loop {
            match UnixListener::bind_addr(&address()?) {
                Err(e) if e.kind() == ErrorKind::AddrInUse => {}
                listener => return Post::of(listener?).map(Held::Ours),
            }
            match visit() {
                // It has ended just now.
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
                Ok(Some(other)) => return Ok(Held::Taken(other)),
                Ok(None) | Err(_) => {
                    log::warn!(
                        "the abstract socket @{NAME} is held by somebody who is no watch: a second watch \
                         would not be noticed"
                    );
                    return Ok(Held::Ours(Post {
                        listener: None,
                        visitors: Vec::new(),
                    }));
                }
            }
        }
    }

    fn of(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Post {
            listener: Some(listener),
            visitors: Vec::new(),
        })
    }

    /// Readable when somebody wants to know who we are.
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// Lets all in who wait, and out who have gone; does not wait for more.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        let Some(listener) = &self.listener else {
            return Ok(());
        };
        loop {
            match listener.accept() {
                Ok((visitor, _)) => {
                    visitor.set_nonblocking(true)?;
                    self.visitors.retain_mut(is_there);
                    if self.visitors.len() < MOST_VISITORS {
                        self.visitors.push(visitor);
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }
}

/// The watch that is at work in the network namespace of this thread, if there is one.
pub(crate) fn watch_at_work() -> Option<Other> {
    visit().ok().flatten()
}

/// Visits whoever holds the name; `None` if that is no watch.
fn visit() -> io::Result<Option<Other>> {
    let end = UnixStream::connect_addr(&address()?)?;
    let peer = getsockopt(&end, sockopt::PeerCredentials)?;
    let uid = Uid::from_raw(peer.uid());
    let is_watch = uid.is_root() || uid == Uid::effective();
    Ok(is_watch.then(|| Other {
        process: peer.pid(),
        end,
    }))
}

fn address() -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(NAME)
}

/// Visitors say nothing; one that can be read has gone.
fn is_there(visitor: &mut UnixStream) -> bool {
    matches!(visitor.read(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock)
}
