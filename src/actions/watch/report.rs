//! What is said of repairs: who it was, what it was, how long it took.

use crate::netfilter::nftables::Process;
use std::time::Duration;

/// The name of this program as the kernel knows it (`comm`, 15 bytes).
const US: &str = "prepare-proxy";

/// How many are named.
const MOST_NAMES: usize = 3;

/// `firewalld (812) removed 9 rules of ours; back after 1.1 ms`.
pub(super) fn repair(by: &[Process], lost: usize, took: Duration) -> String {
    let what = match lost {
        0 => "changed rules of ours".to_owned(),
        1 => "removed 1 rule of ours".to_owned(),
        n => format!("removed {n} rules of ours"),
    };
    let millis = took.as_secs_f64() * 1000.0;
    let hint = match by.iter().any(|p| p.name == US) {
        true => format!(
            ". A watch is at work here: end it before an apply or a clean by hand \
             (systemctl stop prepare-proxy, or SIGTERM to process {})",
            std::process::id()
        ),
        false => String::new(),
    };
    format!("{} {what}; back after {millis:.1} ms{hint}", names(by))
}

/// `firewalld (812) and nft (813)`.
pub(super) fn names(by: &[Process]) -> String {
    let name = |p: &Process| format!("{} ({})", p.name.escape_debug(), p.id);
    let named: Vec<String> = by.iter().take(MOST_NAMES).map(name).collect();
    match by.len() {
        0 => "somebody".to_owned(),
        n if n > MOST_NAMES => format!("{} and others", named.join(", ")),
        _ => named.join(" and "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, id: u32) -> Process {
        Process {
            id,
            name: name.to_owned(),
        }
    }

    #[test]
    fn it_says_who_and_what() {
        let took = Duration::from_micros(1100);
        let firewalld = process("firewalld", 812);
        assert_eq!(
            repair(std::slice::from_ref(&firewalld), 9, took),
            "firewalld (812) removed 9 rules of ours; back after 1.1 ms"
        );
        assert_eq!(
            repair(&[], 0, took),
            "somebody changed rules of ours; back after 1.1 ms"
        );
        let evil = process("a\nb", 7);
        assert_eq!(names(&[firewalld, evil]), "firewalld (812) and a\\nb (7)");
        assert!(repair(&[process(US, 1)], 1, took).contains("systemctl stop"));
    }
}
