//! Events of a watch.

use crate::actions::verify::ahead::Ahead;
use crate::engine::error::Error;
use crate::engine::reconcile::Reconciled;
use crate::mesh::Resolved;
use crate::netfilter::nftables::Process;
use std::time::Duration;

#[derive(Debug)]
pub enum WatchEvent {
    /// Another watch with this pid is running; this one waits for it to end.
    Waiting(i32),
    /// The lock of watches is held by a process that is not a watch.
    LockTaken,
    /// The desired rules are installed, at start or after a change.
    Installed {
        resolved: Box<Resolved>,
        done: Reconciled,
        took: Duration,
    },
    /// Rules that another program removed or changed were restored.
    Repaired {
        by: Vec<Process>,
        /// How many rules were missing.
        missing: usize,
        took: Duration,
        /// Repairs since the start.
        count: usize,
        /// Repairs are rate limited, which was reported already.
        limited: bool,
    },
    /// The configuration was reloaded without a change.
    Unchanged,
    /// The configuration was reloaded and refused: the previous one stays in force.
    Refused(Error),
    /// The configuration was refused at start: the last good one is used.
    LastGood(Error),
    /// A failure that is retried; reported once.
    Failed(Error),
    Recovered,
    /// Another program keeps removing rules: repairs are rate limited from now on.
    RateLimitBegins,
    RateLimitEnds,
    /// A foreign rule precedes managed ones and takes precedence.
    Ahead {
        rule: Ahead,
        by: Vec<Process>,
    },
    /// Tables without events are polled.
    Polling(Duration),
    Stopping,
}
