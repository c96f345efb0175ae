//! The log: one line a pod, in systemd's journal.

use super::entry::Log as Target;
use crate::frontend::output::log::plain;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;
use std::os::unix::net::UnixDatagram;

/// Where the journal listens, see systemd's JOURNAL_NATIVE_PROTOCOL.
const SOCKET: &str = "/run/systemd/journal/socket";

struct Journal {
    /// `None`: standard error.
    socket: Option<UnixDatagram>,
    /// What every line begins with.
    pod: String,
}

/// Starts the log for a call that is about `pod`. What can be done before a network namespace is
/// entered is done here, though a path leads to the journal from every one.
pub(super) fn start(target: Target, pod: String) {
    let socket = match target {
        Target::Journal => connect().ok(),
        Target::Stderr => None,
    };
    // A second start can only happen in tests; the first one stands.
    if log::set_boxed_logger(Box::new(Journal { socket, pod })).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

fn connect() -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SOCKET)?;
    // A journal that does not read must not hold pods up.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = plain(&format!("{}: {}", self.pod, record.args())).replace('\n', " ");
        let (priority, word) = match record.level() {
            Level::Error => (3, "error: "),
            Level::Warn => (4, "warning: "),
            _ => (6, ""),
        };
        let entry =
            format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=prepare-proxy\nMESSAGE={message}\n");
        let sent = self
            .socket
            .as_ref()
            .map(|socket| socket.send(entry.as_bytes()));
        if !matches!(sent, Some(Ok(_))) {
            // Nobody reading it is not our failure.
            let _ = writeln!(std::io::stderr(), "prepare-proxy: {word}{message}");
        }
    }

    fn flush(&self) {}
}
