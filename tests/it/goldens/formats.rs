//! Every format says the same: what is printed for one program, read as that program reads it, is
//! the ruleset.

use super::{dry_run, json, wanted};
use crate::every_match;
use crate::{cases, lab::Done};
use prepare_proxy::frontend::output::{Format, render};
use prepare_proxy::netfilter::model::{RuleId, Ruleset};
use std::process::Command;

/// Checks one property of every case that writes, and of the ruleset with every match and target.
pub fn always(format: Format, holds: impl Fn(&Ruleset, &str, &str) -> Result<(), String>) {
    let check = |wanted: &Ruleset, printed: &str| {
        let restore = render(wanted, Format::Restore);
        holds(wanted, &restore, printed)
    };
    let everything = every_match::everything();
    let printed = render(&everything, format);
    check(&everything, &printed).unwrap();
    for case in cases::all().iter().filter(|c| c.writes()) {
        let result = dry_run(case, format).and_then(|printed| check(&wanted(case)?, &printed));
        result.unwrap_or_else(|e| panic!("{}: {e}", case.name));
    }
}

/// Fails with both unless they are equal.
pub fn equal<T: PartialEq + std::fmt::Debug>(wanted: T, found: T) -> Result<(), String> {
    match wanted == found {
        true => Ok(()),
        false => Err(format!("wanted {wanted:#?}\nfound {found:#?}")),
    }
}

#[test]
fn json_read_back_is_the_ruleset() {
    always(Format::Json, |wanted, _, printed| {
        let value = serde_json::from_str(printed).map_err(|e| e.to_string())?;
        equal(&without_labels(wanted), &json::ruleset(&value))
    });
}

/// Whose rules they are is said once, by the mesh that was asked for, and not in each rule.
fn without_labels(wanted: &Ruleset) -> Ruleset {
    let mut plain = wanted.clone();
    let chains = plain.tables.iter_mut().flat_map(|t| &mut t.chains);
    for rule in chains.flat_map(|c| &mut c.rules) {
        rule.id = rule
            .id
            .take()
            .map(|id| RuleId::from(id.as_str().to_owned()));
    }
    plain
}

/// A shell makes the same words of each command as iptables-restore of the line.
#[test]
fn commands_are_the_restore_lines_one_by_one() {
    always(Format::Commands, |_, restore, printed| {
        let tell = r#"tell() { for word; do printf '%s\0' "$word"; done; echo; }
            ip() { tell ip "$@"; }
            iptables() { tell iptables "$@"; }
            ip6tables() { tell ip6tables "$@"; }
            sysctl() { :; }
            "#;
        let script = format!("{tell}{printed}");
        let run = Done::of(Command::new("sh").args(["-c", &script])).expect(0, "sh")?;
        let words = |line: &str| line.split_terminator('\0').map(str::to_owned).collect();
        let found: Vec<Vec<String>> = run.out.lines().map(words).collect();
        equal(as_commands(restore), found)
    });
}

/// The words of each command that the lines of a text for iptables-restore stand for.
fn as_commands(restore: &str) -> Vec<Vec<String>> {
    let (mut program, mut table) = ("", "");
    let mut commands = Vec::new();
    for line in restore.lines() {
        match line.split_at(1) {
            ("#", " IPv4: iptables-restore --noflush") => program = "iptables",
            ("#", " IPv6: ip6tables-restore --noflush") => program = "ip6tables",
            ("#", command) => commands.push(command.trim().split(' ').map(str::to_owned).collect()),
            ("*", name) => table = name,
            (":", chain) => {
                let chain = chain.split(' ').next().unwrap_or_default();
                commands.push(
                    [program, "-t", table, "-N", chain]
                        .map(str::to_owned)
                        .into(),
                );
            }
            ("-", _) => {
                let command = [program, "-t", table].map(str::to_owned);
                commands.push(command.into_iter().chain(words(line)).collect());
            }
            _ => assert_eq!(line, "COMMIT"),
        }
    }
    commands
}

/// The words of a line as iptables-restore splits it: `"` groups, and nothing of ours needs more.
fn words(line: &str) -> Vec<String> {
    assert!(!line.contains('\\'), "{line}");
    let parts = line.split('"').enumerate();
    let words = parts.flat_map(|(i, part)| match i % 2 {
        0 => part.split(' ').filter(|w| !w.is_empty()).collect(),
        _ => vec![part],
    });
    words.map(str::to_owned).collect()
}
