//! What somebody may have meant by a word that no command line has.

use crate::engine::host;
use crate::mesh::config::{SPECS, Spec, parse_shell_switch};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The same refusal in words that help, where they can be found. `args` are what `command` was to
/// read.
pub(super) fn improve(error: Error, args: &[OsString], command: &Command) -> Error {
    let Some(word) = unexpected(&error) else {
        return error;
    };
    let text = |arg: &OsString| arg.to_string_lossy().into_owned();
    let at = args.iter().position(|arg| *arg == *word);
    let before = at
        .and_then(|at| at.checked_sub(1))
        .map(|at| text(&args[at]));
    let hint = log_level(&word)
        .or_else(|| list(before.as_deref()?, &word))
        .or_else(|| switch(before.as_deref()?, &word))
        .or_else(|| expanded(&word))
        .or_else(|| action(&error, &word, command));
    match hint {
        Some(hint) => Error::raw(error.kind(), format!("{hint}\n")),
        None => error,
    }
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

fn log_level(word: &str) -> Option<String> {
    let names = ["--log-level", "--loglevel", "--debug", "--trace"];
    let name = word.split('=').next()?;
    names.contains(&name).then(|| {
        format!(
            "{word}: -v says more, -vv still more, --quiet less; RUST_LOG sets levels in detail"
        )
    })
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
        "{word:?}: the value of a switch stands behind \"=\": {before}={word}"
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
        "{word:?} is not an action: there are {}, and help",
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
