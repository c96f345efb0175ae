//! What a watch has to say.

use crate::actions::verify::ahead::Ahead;
use crate::engine::error::Error;
use crate::engine::reconcile::Reconciled;
use crate::mesh::Resolved;
use crate::netfilter::nftables::Process;
use std::time::Duration;

/// Something worth saying.
#[derive(Debug)]
pub enum WatchEvent {
    /// Another watch is running (its pid); this one waits for it to end.
    Waiting(i32),
    /// The name that watches recognise each other by is held by a process that is not one.
    NameTaken,
    /// The desired rules are installed, at the start or since they have changed.
    Installed {
        resolved: Box<Resolved>,
        done: Reconciled,
        took: Duration,
    },
    /// Rules that another program removed or changed are restored.
    Repaired {
        by: Vec<Process>,
        /// How many rules were missing.
        missing: usize,
        took: Duration,
        /// How often that was necessary since the start.
        count: u64,
        /// It is one of many: said once already.
        contest: bool,
    },
    /// The configuration was read again, and asks for the same.
    Unchanged,
    /// The configuration was read again and is refused: the one before stays.
    Refused(Error),
    /// The configuration is refused at the start: the last good one is used.
    LastGood(Error),
    /// Something cannot be done; it is retried. Said once.
    Failed(Error),
    Recovered,
    /// Another program keeps removing rules: repairs are limited from now on.
    ContestBegins,
    ContestEnds,
    /// A foreign rule precedes managed ones and decides before them.
    Ahead {
        rule: Ahead,
        by: Vec<Process>,
    },
    /// Tables without events are read every so often.
    Polling(Duration),
    Stopping,
}
