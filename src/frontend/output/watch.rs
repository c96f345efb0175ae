//! The messages of a watch, for the log and for `systemctl status`.

use super::{errors, summary, verification};
use crate::actions::watch::event::WatchEvent;
use crate::netfilter::nftables::Process;
use log::Level;
use sd_notify::NotifyState;

/// How many processes are named.
const MOST_NAMES: usize = 3;

/// Logs an event, and shows the state in `systemctl status`.
pub(super) fn log(event: &WatchEvent) {
    let (level, kind, words) = message(event);
    log::log!(level, kind = kind; "{words}");
    let shown = matches!(
        event,
        WatchEvent::Installed { .. } | WatchEvent::Repaired { .. } | WatchEvent::Failed(_)
    );
    if shown {
        // Without a service manager nothing is notified.
        let _ = sd_notify::notify(&[NotifyState::Status(&words)]);
    }
}

fn message(event: &WatchEvent) -> (Level, &'static str, String) {
    match event {
        WatchEvent::Waiting(pid) => (
            Level::Info,
            "waiting",
            format!("waiting for the watch with pid {pid} to end"),
        ),
        WatchEvent::NameTaken => (
            Level::Warn,
            "name-taken",
            "the abstract socket @prepare-proxy-watch is held by a process that is not a watch of root or this user: \
             a second watch would not be noticed"
                .to_owned(),
        ),
        WatchEvent::Installed {
            resolved,
            done,
            took,
        } => (
            Level::Info,
            "installed",
            format!("{}; watching", summary::installed(resolved, done, *took)),
        ),
        WatchEvent::Repaired {
            by,
            missing,
            took,
            count,
            contest,
        } => {
            let what = match missing {
                0 => "changed rules".to_owned(),
                1 => "removed 1 rule".to_owned(),
                n => format!("removed {n} rules"),
            };
            let level = if *contest { Level::Debug } else { Level::Warn };
            let words = format!(
                "{} {what}; restored after {} ({count} repairs since the start){}",
                names(by),
                summary::milliseconds(*took),
                by_hand(by)
            );
            (level, "repaired", words)
        }
        WatchEvent::Unchanged => (Level::Info, "unchanged", "reloaded, no change".to_owned()),
        WatchEvent::Refused(error) => (
            Level::Error,
            errors::kind(error),
            format!(
                "{}; the configuration is refused, the previous one stays in force",
                errors::words(error)
            ),
        ),
        WatchEvent::LastGood(error) => (
            Level::Error,
            errors::kind(error),
            format!(
                "{}; the configuration is refused, the last good one is used",
                errors::words(error)
            ),
        ),
        WatchEvent::Failed(error) => (
            Level::Error,
            errors::kind(error),
            format!("{}; retrying", errors::words(error)),
        ),
        WatchEvent::Recovered => (Level::Info, "recovered", "recovered".to_owned()),
        WatchEvent::ContestBegins => (
            Level::Error,
            "contest-begins",
            "another program keeps removing rules: from now on they are restored after pauses of up to 1 s, until \
             none was removed for 10 s"
                .to_owned(),
        ),
        WatchEvent::ContestEnds => (
            Level::Info,
            "contest-ends",
            "no rule was removed for 10 s".to_owned(),
        ),
        WatchEvent::Ahead { rule, by } => {
            let by = match by.as_slice() {
                [] => String::new(),
                by => format!(" ({} committed last)", names(by)),
            };
            (Level::Warn, "rule-ahead", verification::ahead(rule, &by))
        }
        WatchEvent::Polling(interval) => (
            Level::Info,
            "polling",
            format!(
                "tables of iptables-legacy are in use, which raise no events: they are read every {} s",
                interval.as_secs_f32()
            ),
        ),
        WatchEvent::Stopping => (
            Level::Info,
            "stopping",
            "exiting on signal; rules left in place (prepare-proxy clean removes them)".to_owned(),
        ),
    }
}

/// What to do instead of an apply or a clean by hand.
fn by_hand(by: &[Process]) -> &'static str {
    // The kernel keeps 15 bytes of a name.
    match by.iter().any(|p| p.name == "prepare-proxy") {
        true => {
            "; stop this watch before an apply or a clean by hand (systemctl stop prepare-proxy)"
        }
        false => "",
    }
}

/// `firewalld (pid 812) and nft (pid 813)`.
fn names(by: &[Process]) -> String {
    let name = |p: &Process| format!("{} (pid {})", p.name.escape_debug(), p.id);
    let named: Vec<String> = by.iter().take(MOST_NAMES).map(name).collect();
    match by.len() {
        0 => "a program".to_owned(),
        n if n > MOST_NAMES => format!("{} and others", named.join(", ")),
        _ => named.join(" and "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_processes_are_named_and_their_names_escaped() {
        let process = |name: &str, id| Process {
            id,
            name: name.to_owned(),
        };
        let three = [
            process("firewalld", 812),
            process("a\nb", 7),
            process("c", 8),
        ];
        assert_eq!(names(&three[..2]), "firewalld (pid 812) and a\\nb (pid 7)");
        assert_eq!(names(&[]), "a program");
        let many = [&three[..], &three[..1]].concat();
        assert!(names(&many).ends_with("c (pid 8) and others"));
    }
}
