//! Messages of a watch, for the log and `systemctl status`.

use super::connections::counted;
use super::{errors, summary, verification};
use crate::actions::watch::event::WatchEvent;
use crate::netfilter::nftables::Process;
use log::Level;
use sd_notify::NotifyState;

const MOST_NAMES: usize = 3;

/// Logs an event and updates the status of the service.
pub(super) fn log(event: &WatchEvent) {
    let ((level, kind), words) = (level_and_kind(event), words(event));
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

/// The level, and the kind by which programs know the event.
fn level_and_kind(event: &WatchEvent) -> (Level, &'static str) {
    match event {
        WatchEvent::Waiting(_) => (Level::Info, "waiting"),
        WatchEvent::LockTaken => (Level::Warn, "name-taken"),
        WatchEvent::Installed { .. } => (Level::Info, "installed"),
        WatchEvent::Repaired { limited: true, .. } => (Level::Debug, "repaired"),
        WatchEvent::Repaired { limited: false, .. } => (Level::Warn, "repaired"),
        WatchEvent::Unchanged => (Level::Info, "unchanged"),
        WatchEvent::Refused(error) | WatchEvent::LastGood(error) | WatchEvent::Failed(error) => {
            (Level::Error, errors::kind(error))
        }
        WatchEvent::Recovered => (Level::Info, "recovered"),
        WatchEvent::RateLimitBegins => (Level::Error, "contest-begins"),
        WatchEvent::RateLimitEnds => (Level::Info, "contest-ends"),
        WatchEvent::Ahead { .. } => (Level::Warn, "rule-ahead"),
        WatchEvent::Polling(_) => (Level::Info, "polling"),
        WatchEvent::Stopping => (Level::Info, "stopping"),
    }
}

fn words(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Waiting(pid) => format!("waiting for the watch with pid {pid} to end"),
        WatchEvent::LockTaken => {
            "the abstract socket @prepare-proxy-watch is held by a process that is not a watch of root or this user: \
             a second watch would not be noticed"
                .to_owned()
        }
        WatchEvent::Installed {
            resolved,
            done,
            took,
        } => format!("{}; watching", summary::installed(resolved, done, *took)),
        WatchEvent::Repaired {
            by,
            missing,
            took,
            count,
            ..
        } => format!(
            "{} {}; restored after {} ({} since the start){}",
            names(by),
            changed(*missing),
            summary::milliseconds(*took),
            counted(*count, "repair", "repairs"),
            by_hand(by)
        ),
        WatchEvent::Unchanged => "reloaded, no change".to_owned(),
        WatchEvent::Refused(error) => format!(
            "{}; the configuration is refused, the previous one stays in force",
            errors::words(error)
        ),
        WatchEvent::LastGood(error) => format!(
            "{}; the configuration is refused, the last good one is used",
            errors::words(error)
        ),
        WatchEvent::Failed(error) => format!("{}; retrying", errors::words(error)),
        WatchEvent::Recovered => "recovered".to_owned(),
        WatchEvent::RateLimitBegins => {
            "another program keeps removing rules: from now on they are restored after pauses of up to 1 s, until \
             none was removed for 10 s"
                .to_owned()
        }
        WatchEvent::RateLimitEnds => "no rule was removed for 10 s".to_owned(),
        WatchEvent::Ahead { rule, by } => {
            let by = match by.as_slice() {
                [] => String::new(),
                by => format!(" ({} committed last)", names(by)),
            };
            verification::ahead(rule, &by)
        }
        WatchEvent::Polling(interval) => format!(
            "iptables-legacy's tables are in use; they raise no events and are read every {} s",
            interval.as_secs_f32()
        ),
        WatchEvent::Stopping => {
            "exiting on signal; rules left in place (prepare-proxy clean removes them)".to_owned()
        }
    }
}

/// What happened to the rules.
fn changed(missing: usize) -> String {
    match missing {
        0 => "changed rules".to_owned(),
        1 => "removed 1 rule".to_owned(),
        n => format!("removed {n} rules"),
    }
}

/// How to apply or clean by hand.
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
