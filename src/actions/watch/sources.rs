//! Everything that a watch waits for, and what of it concerns the rules.

use super::files::{Change, Files};
use super::post::Post;
use super::signals::{Asked, Signals};
use crate::engine::error::Error;
use crate::mesh::managed::is_our_chain;
use crate::netfilter::backend::{BackendError, Store};
use crate::netfilter::model::{ChainName, Ruleset};
use crate::netfilter::netlink::Arrived;
use crate::netfilter::nftables::{Monitor, Notification, Object, Process, Touched};
use crate::netfilter::rtnetlink;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What has happened since the last time.
#[derive(Debug, Default)]
pub(super) struct Happened {
    pub stop: bool,
    pub reload: bool,
    /// Somebody committed something that concerns the rules, or may have.
    pub rules: bool,
    /// Those who did, as far as the kernel says so; each once.
    pub processes: Vec<Process>,
    /// A policy rule or a route that concerns ours came or went.
    pub routes: bool,
    /// IPv6 addresses came or went.
    pub addresses: bool,
    /// Files that are followed.
    pub files: BTreeMap<PathBuf, Change>,
}

/// All that is waited for.
#[derive(Debug)]
pub(super) struct Sources {
    signals: Signals,
    /// Nothing where the kernel has no nf_tables.
    rules: Option<Monitor>,
    routes: rtnetlink::Monitor,
    files: Files,
    post: Post,
    /// What has been told of the commit whose end was not told yet.
    concerned: bool,
}

impl Sources {
    /// Begins to listen: to what concerns the routes of `wanted` too.
    pub(super) fn open(signals: Signals, post: Post, wanted: &Ruleset) -> Result<Self, Error> {
        let rules = match Monitor::open() {
            Ok(monitor) => Some(monitor),
            Err(e @ BackendError::Missing { .. }) => {
                log::debug!("{e}");
                None
            }
            Err(e) => return Err(e.into()),
        };
        Ok(Sources {
            signals,
            rules,
            routes: rtnetlink::Monitor::open(&wanted.routing)?,
            files: Files::new().map_err(waiting)?,
            post,
            concerned: false,
        })
    }

    /// From now on listens to what concerns other rules; what was told and not heard is lost.
    pub(super) fn listen_to(&mut self, wanted: &Ruleset) -> Result<(), Error> {
        self.routes = rtnetlink::Monitor::open(&wanted.routing)?;
        Ok(())
    }

    /// From now on follows just these files; see [`Files::follow`].
    pub(super) fn follow(&mut self, files: BTreeSet<PathBuf>) -> Result<bool, Error> {
        self.files.follow(files).map_err(waiting)
    }

    /// The number of the last commit, where there are such.
    pub(super) fn generation(&mut self) -> Result<Option<u32>, Error> {
        let rules = self.rules.as_mut();
        Ok(rules.map(Monitor::generation).transpose()?)
    }

    /// Sleeps until something happens, at most until `wake`.
    pub(super) fn wait(&self, wake: Option<Instant>) -> Result<(), Error> {
        let mut fds = vec![
            self.signals.as_fd(),
            self.routes.as_fd(),
            self.files.as_fd(),
        ];
        fds.extend(self.rules.as_ref().map(AsFd::as_fd));
        fds.extend(self.post.as_fd());
        let mut fds: Vec<PollFd> = fds
            .into_iter()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout(wake)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(waiting(errno.into())),
        }
    }

    /// Takes in all that has happened, and keeps what concerns `wanted` and came after the commit
    /// `known`.
    pub(super) fn take_in(
        &mut self,
        wanted: &Ruleset,
        known: Option<u32>,
    ) -> Result<Happened, Error> {
        let mut happened = Happened::default();
        while let Some(asked) = self.signals.next().map_err(waiting)? {
            match asked {
                Asked::Stop => happened.stop = true,
                Asked::Reload => happened.reload = true,
            }
        }
        self.post.receive().map_err(waiting)?;
        happened.files = self.files.drain().map_err(waiting)?;
        self.take_in_routes(wanted, &mut happened)?;
        self.take_in_rules(wanted, known, &mut happened)?;
        Ok(happened)
    }

    fn take_in_routes(&mut self, wanted: &Ruleset, happened: &mut Happened) -> Result<(), Error> {
        let arrived = self.routes.drain(|event| match event {
            rtnetlink::Event::Address => happened.addresses = true,
            rtnetlink::Event::Rule(_) => happened.routes = true,
            rtnetlink::Event::Route(family, table) => {
                let mut routes = wanted.routing.policy_routes.iter();
                happened.routes |= routes.any(|r| (r.family, r.table) == (family, table));
            }
        })?;
        if arrived == Arrived::WithGaps {
            happened.addresses = true;
            happened.routes = true;
        }
        Ok(())
    }

    fn take_in_rules(
        &mut self,
        wanted: &Ruleset,
        known: Option<u32>,
        happened: &mut Happened,
    ) -> Result<(), Error> {
        let Some(rules) = &mut self.rules else {
            return Ok(());
        };
        let concerned = &mut self.concerned;
        let arrived = rules.drain(|notification| match notification {
            Notification::Touched(touched) => *concerned |= concerns(wanted, &touched),
            Notification::Committed(commit) => {
                let news = known.is_none_or(|known| is_later(commit.generation, known));
                if std::mem::take(concerned) && news {
                    happened.rules = true;
                    let new = |p: &Process| !happened.processes.contains(p);
                    happened.processes.extend(commit.process.filter(new));
                }
            }
        })?;
        if arrived == Arrived::WithGaps {
            log::debug!("notifications of nf_tables were lost: looking at everything");
            self.concerned = false;
            happened.rules = true;
        }
        Ok(())
    }
}

/// Whether rules that are wanted, or chains of ours, may have been touched.
fn concerns(wanted: &Ruleset, touched: &Touched<'_>) -> bool {
    let table = || wanted.table(touched.family, touched.table);
    match (touched.store, touched.object) {
        // There only we write.
        (Store::Native, _) => true,
        (_, Object::Table) => table().is_some(),
        (_, Object::Chain(name)) => {
            let ours = || ChainName::new(name).is_ok_and(|name| is_our_chain(&name));
            let holds = |t: &crate::netfilter::model::Table| {
                t.chains.iter().any(|c| c.name.as_str() == name)
            };
            table().is_some_and(holds) || ours()
        }
        (_, Object::Other) => false,
    }
}

/// Commits are counted around, without 0.
fn is_later(generation: u32, known: u32) -> bool {
    generation.wrapping_sub(known) as i32 > 0
}

/// For poll(2), which counts whole milliseconds: never too short, so that nothing is looked for
/// before its time.
fn timeout(wake: Option<Instant>) -> PollTimeout {
    let Some(wake) = wake else {
        return PollTimeout::NONE;
    };
    let left = wake.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return PollTimeout::ZERO;
    }
    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}

fn waiting(source: io::Error) -> Error {
    Error::Watch {
        doing: "waiting for changes",
        source,
    }
}
