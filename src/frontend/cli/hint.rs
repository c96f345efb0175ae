//! Hints for words that no command line has.

use super::general;
use crate::engine::host;
use crate::mesh::config::{Opt, Options, SPECS, Spec, parse_shell_switch};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The same refusal with a hint, where one is known. `args` are what `command` was to read.
pub(super) fn improve(mut error: Error, args: &[OsString], command: &Command) -> Error {
    let hint = match unexpected(&error) {
        Some(word) => for_word(&error, &word, args, command),
        None => missing_value(&error),
    };
    match hint {
        Some(hint) => Error::raw(error.kind(), format!("{hint}\n")),
        // That the word may be passed as a value, which is never what was meant.
        None => {
            error.insert(ContextKind::Suggested, ContextValue::None);
            error
        }
    }
}

/// The sender of a connection, of whom `-u` is thought.
pub(super) fn user(options: &Options) -> Option<String> {
    let given = options.get(Opt::ProxyUid)?;
    Some(format!("did you mean --user {}?", given.value))
}

fn for_word(error: &Error, word: &str, args: &[OsString], command: &Command) -> Option<String> {
    let text = |arg: &OsString| arg.to_string_lossy().into_owned();
    let words: Vec<String> = args.iter().map(text).collect();
    let at = words.iter().position(|arg| arg == word);
    let before = at.and_then(|at| at.checked_sub(1)).map(|at| &*words[at]);
    let action = words.iter().find(|word| is_action(command, word));
    let action = action.map_or("", String::as_str);
    meant(word, action)
        .or_else(|| other_spelling(word, command))
        .or_else(|| second(action, word, command))
        .or_else(|| connection(action, before?, word))
        .or_else(|| list(before?, word))
        .or_else(|| switch(before?, word))
        .or_else(|| negative(before?, word))
        .or_else(|| old_rules(action, word))
        .or_else(|| expanded(word))
        .or_else(|| actions(error, word, command))
}

/// Refuses what would be read as something else than it was meant: a long name behind one hyphen, and
/// `-o json`, as other programs have it.
pub(super) fn check(args: &[OsString]) -> Result<(), Error> {
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let general = || general::ROWS.iter().map(|row| row.long);
    let is_long = |name: &str| {
        general()
            .chain(SPECS.iter().map(|s| s.long))
            .any(|l| l == name)
    };
    for (at, word) in words.iter().enumerate().skip(1) {
        let name = word
            .strip_prefix('-')
            .and_then(|name| name.split('=').next());
        if let Some(name) = name.filter(|name| is_long(name)) {
            return Err(super::invalid(word, format!("did you mean --{name}?")));
        }
        let next = words.get(at + 1).copied().unwrap_or_default();
        let formats = ["json", "yaml", "text", "wide"];
        if *word == "-o" && formats.contains(&next) || ["-o=json", "-ojson"].contains(word) {
            return Err(super::invalid(word, "did you mean --format json?"));
        }
    }
    Ok(())
}

/// What people type, after which action, if that matters, and what it is here.
#[rustfmt::skip]
const MEANT: &[(&str, &[&str], &str)] = &[
    ("explain", &["--uid", "--sender", "--owner", "--uid-owner"], "did you mean --user?"),
    ("explain", &["--src", "--source", "-s"], "did you mean --from?"),
    ("explain", &["--dst", "--dest", "--destination"], "did you mean --to?"),
    ("explain", &["--port", "--dport"], "the port is part of the destination, ADDRESS:PORT"),
    ("explain", &["--iface", "--in-interface", "--dev", "--device"], "did you mean --interface?"),
    ("explain", &["--proto", "--protocol", "--tcp"], "TCP is the default, --udp is for UDP"),
    ("explain", &["--all"], "without a destination all connections are explained"),
    ("verify", &["--port"], "did you mean --probe-port?"),
    ("verify", &["--timeout"], "did you mean --probe-timeout?"),
    ("watch", &["--once", "--oneshot"], "did you mean the action apply?"),
    ("watch", &["--daemon", "--background", "--foreground"], "watch stays in the foreground, for a service manager"),
    ("clean", &["all", "--all"], "not needed, as clean removes all managed rules"),
    ("", &["--log-level", "--loglevel", "--debug", "--trace"], "-v logs more, -vv everything, --quiet errors only; RUST_LOG sets levels in detail"),
    ("", &["--silent", "-s"], "did you mean --quiet?"),
    ("", &["--clean", "--cleanup", "--remove", "--uninstall", "--delete", "--flush", "-F", "-X"], "the action clean removes the rules: prepare-proxy clean"),
    ("", &["--list", "--show", "--status", "-L", "-S"], "the action status shows the rules: prepare-proxy status"),
    ("", &["--force", "--yes", "-f", "-y"], "not needed, as apply and clean do not ask"),
    ("", &["--json", "--output"], "did you mean --format json?"),
    ("", &["--dryrun", "--simulate", "--noop", "--print"], "did you mean --dry-run (-n)?"),
    ("", &["--config", "--env"], "did you mean --env-file?"),
    ("", &["--port"], "did you mean --proxy-port (-p)?"),
    ("", &["--uid", "--user"], "did you mean --proxy-uid (-u)?"),
    ("", &["--gid", "--group"], "did you mean --proxy-gid (-g)?"),
    ("", &["--inbound", "--inbound-port"], "did you mean --inbound-ports (-b)?"),
    ("", &["--outbound"], "did you mean --outbound-cidrs (-i), or --outbound-ports (-q)?"),
    ("", &["--exclude-ports"], "did you mean --inbound-exclude-ports (-d), or --outbound-exclude-ports (-o)?"),
    ("", &["--exclude", "--exclude-cidrs"], "did you mean --outbound-exclude-cidrs (-x)?"),
    ("", &["--dns", "--dns-capture"], "did you mean --redirect-dns?"),
    ("", &["--ipv6", "-6"], "did you mean --dual-stack?"),
    ("", &["--ipv4", "-4"], "not needed, as there are always rules for IPv4"),
    ("", &["--namespace", "--ns"], "did you mean --network-namespace?"),
    ("", &["aply", "install", "add", "start", "run", "setup", "inject", "restart", "reload", "update"], "did you mean the action apply?"),
    ("", &["remove", "uninstall", "delete", "cleanup", "flush", "reset", "undo", "stop"], "did you mean the action clean?"),
    ("", &["list", "ls", "get", "info", "rules", "dump", "save", "print"], "did you mean the action status?"),
    ("", &["check", "test", "validate", "prove"], "did you mean the action verify, or diff?"),
    ("", &["why", "trace", "debug"], "did you mean the action explain?"),
    ("", &["compare", "plan"], "did you mean the action diff?"),
    ("", &["monitor", "daemon"], "did you mean the action watch?"),
    ("", &["completion"], "did you mean the action completions?"),
    ("", &["istio-init", "pilot-agent"], "did you mean istio-iptables?"),
    ("", &["linkerd-init"], "did you mean proxy-init?"),
    ("", &["version"], "did you mean --version?"),
];

fn meant(word: &str, action: &str) -> Option<String> {
    let name = word.split('=').next()?;
    let mut rows = MEANT.iter();
    let found =
        rows.find(|(of, words, _)| (of.is_empty() || *of == action) && words.contains(&name));
    found.map(|(_, _, hint)| format!("unknown {word:?}: {hint}"))
}

/// `--proxy_port`, `--Mesh`, `Apply`; and `diff --live`, an option of another action.
fn other_spelling(word: &str, command: &Command) -> Option<String> {
    let typed = word.split('=').next()?;
    let spelling = typed.to_ascii_lowercase().replace('_', "-");
    let Some(name) = spelling.strip_prefix("--") else {
        let is_action = spelling != typed && is_action(command, &spelling);
        return is_action.then(|| format!("unknown {word:?}: did you mean the action {spelling}?"));
    };
    let has = |command: &Command| {
        let names = command
            .get_arguments()
            .filter_map(Arg::get_long_and_visible_aliases);
        names.flatten().any(|long| long == name)
    };
    let mut actions = command.get_subcommands();
    match actions.find(|action| has(action)) {
        Some(action) if spelling == typed => Some(format!(
            "unknown {word:?}: it is an option of {}",
            action.get_name()
        )),
        action if action.is_some() || has(command) => {
            Some(format!("unknown {word:?}: did you mean {spelling}?"))
        }
        _ => None,
    }
}

fn is_action(command: &Command, word: &str) -> bool {
    command.find_subcommand(word).is_some()
}

/// `apply clean`.
fn second(action: &str, word: &str, command: &Command) -> Option<String> {
    let are_two = !action.is_empty() && is_action(command, word);
    are_two.then(|| format!("{word:?}: one action at a time, and {action} comes first"))
}

/// `explain 10.0.0.1 80`.
fn connection(action: &str, before: &str, word: &str) -> Option<String> {
    let address: IpAddr = before.parse().ok()?;
    let port: u16 = word.parse().ok()?;
    let to = SocketAddr::new(address, port);
    (action == "explain").then(|| format!("{word:?}: did you mean {to}?"))
}

/// `diff old.rules`.
fn old_rules(action: &str, word: &str) -> Option<String> {
    let is_file = action == "diff" && !word.starts_with('-');
    is_file.then(|| format!("{word:?}: rules in a file follow --connections --against"))
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
    let comma = before.ends_with(',') || word.starts_with(',');
    let is_item = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let before = before.trim_end_matches(',');
    let behind = word.trim_start_matches(',');
    (comma || is_item(before) && is_item(word))
        .then(|| format!("{word:?}: a list has no spaces between its items: {before},{behind}"))
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
fn actions(error: &Error, word: &str, command: &Command) -> Option<String> {
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
