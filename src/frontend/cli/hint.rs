//! Hints for words that no command line has.

use crate::engine::host;
use crate::mesh::config::{SPECS, Spec, parse_shell_switch};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The same refusal with a hint, where one is known. `args` are what `command` was to read.
pub(super) fn improve(error: Error, args: &[OsString], command: &Command) -> Error {
    let hint = match unexpected(&error) {
        Some(word) => for_word(&error, &word, args, command),
        None => missing_value(&error),
    };
    match hint {
        Some(hint) => Error::raw(error.kind(), format!("{hint}\n")),
        None => error,
    }
}

fn for_word(error: &Error, word: &str, args: &[OsString], command: &Command) -> Option<String> {
    let text = |arg: &OsString| arg.to_string_lossy().into_owned();
    let at = args.iter().position(|arg| *arg == *word);
    let before = at
        .and_then(|at| at.checked_sub(1))
        .map(|at| text(&args[at]));
    let before = before.as_deref();
    meant(word, before)
        .or_else(|| list(before?, word))
        .or_else(|| switch(before?, word))
        .or_else(|| negative(before?, word))
        .or_else(|| expanded(word))
        .or_else(|| action(error, word, command))
}

/// What people type, and what it is here.
const MEANT: &[(&[&str], &str)] = &[
    (
        &["--log-level", "--loglevel", "--debug", "--trace"],
        "-v logs more, -vv everything, --quiet errors only; RUST_LOG sets levels in detail",
    ),
    (
        &[
            "--clean",
            "--cleanup",
            "--remove",
            "--uninstall",
            "--delete",
        ],
        "the action clean removes the rules: prepare-proxy clean",
    ),
    (
        &["--force", "--yes", "-y"],
        "not needed, as apply and clean do not ask",
    ),
    (&["--json", "-o=json"], "did you mean --format json?"),
    (&["--port"], "did you mean --proxy-port (-p)?"),
    (&["--uid", "--user"], "did you mean --proxy-uid (-u)?"),
    (&["--gid", "--group"], "did you mean --proxy-gid (-g)?"),
    (&["--ipv6", "-6"], "did you mean --dual-stack?"),
    (
        &["--namespace", "--ns"],
        "did you mean --network-namespace?",
    ),
    (
        &["aply", "install", "add", "start", "run", "setup", "inject"],
        "did you mean the action apply?",
    ),
    (
        &[
            "remove",
            "uninstall",
            "delete",
            "cleanup",
            "flush",
            "reset",
            "undo",
            "stop",
        ],
        "did you mean the action clean?",
    ),
    (
        &["list", "ls", "get", "info", "rules"],
        "did you mean the action status?",
    ),
    (
        &["check", "test", "validate", "prove"],
        "did you mean the action verify, or diff?",
    ),
    (
        &["why", "trace", "debug"],
        "did you mean the action explain?",
    ),
    (&["compare", "plan"], "did you mean the action diff?"),
    (&["monitor", "daemon"], "did you mean the action watch?"),
    (&["version"], "did you mean --version?"),
];

fn meant(word: &str, before: Option<&str>) -> Option<String> {
    let name = word.split('=').next()?;
    let rows = MEANT.iter();
    let mut found = rows.filter(|(words, _)| words.contains(&name));
    let json = word == "json" && before == Some("-o");
    let hint = match json {
        true => Some("did you mean --format json?"),
        false => found.next().map(|(_, hint)| *hint),
    };
    hint.map(|hint| format!("unknown {word:?}: {hint}"))
}

/// `-q` alone, which takes ports here.
fn missing_value(error: &Error) -> Option<String> {
    let arg = match (error.kind(), error.get(ContextKind::InvalidArg)?) {
        (ErrorKind::InvalidValue, ContextValue::String(arg)) => arg,
        _ => return None,
    };
    let empty = matches!(error.get(ContextKind::InvalidValue), Some(ContextValue::String(v)) if v.is_empty());
    (empty && arg.starts_with("--outbound-ports")).then(|| {
        "-q, --outbound-ports: a value is required (PORTS); did you mean --quiet?".to_owned()
    })
}

/// `-u -1`.
fn negative(before: &str, word: &str) -> Option<String> {
    let digits = word.strip_prefix('-')?;
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (number && before.starts_with('-'))
        .then(|| format!("{before}: \"{word}\" is negative, which no value here can be"))
}

/// The word that is one too many.
fn unexpected(error: &Error) -> Option<String> {
    let context = match error.kind() {
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        _ => return None,
    };
    match error.get(context)? {
        ContextValue::String(word) => Some(word.clone()),
        _ => None,
    }
}

/// `10.0.0.0/8, 172.16.0.0/12`.
fn list(before: &str, word: &str) -> Option<String> {
    (before.ends_with(',') || word.starts_with(','))
        .then(|| format!("{word:?}: a list has no spaces between its items: {before}{word}"))
}

/// `--redirect-dns false`.
fn switch(before: &str, word: &str) -> Option<String> {
    let name = before.strip_prefix("--")?;
    let is_it = |spec: &&Spec| spec.value.is_none() && spec.long == name;
    SPECS.iter().find(is_it)?;
    parse_shell_switch(word).ok()?;
    Some(format!(
        "{word:?}: the value of a switch follows \"=\": {before}={word}"
    ))
}

/// `-i *` without quotes, in which the shell has put the names of files.
fn expanded(word: &str) -> Option<String> {
    let missing = |e: io::Error| e.kind() == io::ErrorKind::NotFound;
    let is_file = !word.starts_with('-') && !host::file(Path::new(word)).is_err_and(missing);
    is_file.then(|| {
        format!("{word:?}: this is a file here, which the shell may have put in place of *: quote it, '*'")
    })
}

/// A word in the place of an action.
fn action(error: &Error, word: &str, command: &Command) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    Some(format!(
        "{word:?} is not an action: actions are {} and help",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_told_from_an_option_with_a_value() {
        assert!(switch("--redirect-dns", "false").is_some());
        assert!(switch("--inbound-ports", "false").is_none());
        assert!(switch("--redirect-dns", "surplus").is_none());
    }
}
