//! The main process of a DaemonSet: keeps binary and entry where they belong until SIGTERM, which
//! removes nothing.

use super::args::Place;
use super::{Changed, Trouble, install};
use crate::frontend::Exit;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Another program that takes the entry out more often than this within [`A_WHILE`] is fought no
/// faster than it is worth.
const OFTEN: usize = 5;
const A_WHILE: Duration = Duration::from_secs(60);

/// How long is waited before the entry is put back in a fight.
const PAUSE: Duration = Duration::from_secs(10);

/// How long after a failure is tried again, though nothing has changed.
const AGAIN: Duration = Duration::from_secs(10);

pub(super) fn run(place: &Place, entry: &str, drop_in: bool) -> Result<Exit, Trouble> {
    let events = Events::follow(place).map_err(|source| Trouble::File {
        doing: "watching",
        path: place.conf_dir.clone(),
        source: source.into(),
    })?;
    let mut repairs = Repairs::default();
    let mut trouble = String::new();
    loop {
        let wait = match install(place, entry, drop_in) {
            Ok(changed) => {
                trouble.clear();
                repairs.note(&changed)
            }
            Err(e) => {
                // Said once, however often it is tried.
                if trouble != e.to_string() {
                    log::warn!("not ready: {e}");
                    trouble = e.to_string();
                }
                Some(AGAIN)
            }
        };
        if events.wait(wait, repairs.is_fight()) == Woken::ToEnd {
            log::info!("exiting on SIGTERM; the plugin stays installed");
            return Ok(Exit::Done);
        }
    }
}

/// When the entry was put back.
#[derive(Default)]
struct Repairs {
    times: Vec<Instant>,
    ready: bool,
}

impl Repairs {
    /// Logs what was done, and says how long to wait before the next look if not for an event.
    fn note(&mut self, changed: &Changed) -> Option<Duration> {
        let Some(list) = &changed.list else {
            if !self.ready {
                log::info!("ready: the plugin is in the list");
            }
            self.ready = true;
            return self.is_fight().then_some(PAUSE);
        };
        let again = if self.ready { "again " } else { "" };
        log::info!("ready: the plugin is {again}in {}", list.display());
        self.ready = true;
        let now = Instant::now();
        self.times
            .retain(|time| now.duration_since(*time) < A_WHILE);
        self.times.push(now);
        if self.times.len() == OFTEN {
            log::warn!(
                "{}: another program has rewritten the list {OFTEN} times within a minute; the plugin is put back every \
                 {} s from now on. Tell that program to leave other plugins in place (Cilium: cni.exclusive=false), or \
                 install with --drop-in",
                list.display(),
                PAUSE.as_secs()
            );
        }
        self.is_fight().then_some(PAUSE)
    }

    fn is_fight(&self) -> bool {
        let lately = self.times.iter().filter(|time| time.elapsed() < A_WHILE);
        lately.count() >= OFTEN
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    ToLook,
    ToEnd,
}

/// What wakes the process up.
struct Events {
    inotify: Inotify,
    signals: SignalFd,
}

impl Events {
    fn follow(place: &Place) -> Result<Self, Errno> {
        let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        signals.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&signals, flags)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        for folder in [&place.conf_dir, &place.bin_dir] {
            inotify.add_watch(folder, changes)?;
        }
        Ok(Events { inotify, signals })
    }

    /// Waits for a change in the folders or a signal, at most `limit`; in a fight changes are not
    /// looked at before that.
    fn wait(&self, limit: Option<Duration>, fight: bool) -> Woken {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if !fight {
            fds.push(PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN));
        }
        let timeout = limit.map_or(PollTimeout::NONE, |limit| {
            PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)
        });
        // An interruption is a reason to look, too.
        let _ = poll(&mut fds, timeout);
        let forgotten = std::iter::from_fn(|| self.inotify.read_events().ok());
        forgotten.for_each(drop);
        match self.signals.read_signal() {
            Ok(Some(_)) => Woken::ToEnd,
            _ => Woken::ToLook,
        }
    }
}
