//! Parses what was typed and prints what was found: the only floor that knows clap, standard input
//! and output, flags and remedies.

pub mod cli;
pub mod cni;
mod exit;
pub mod output;

pub use exit::Exit;

use crate::actions::{self, Action, Report};
use crate::engine::error::Error;
use crate::engine::host;
use crate::mesh::config::Environment;
use cli::Invocation;
use output::log::LogFormat;
use std::ffi::OsString;
use std::io::Write;

/// Runs a whole command line, the program's name first.
pub fn run(args: &[OsString]) -> Exit {
    let environment = host::environment();
    if cni::is_called(&environment) {
        return cni::run(&environment);
    }
    if cni::install::is_asked_for(args) {
        let installed = cni::install::run(args, &environment);
        return installed.unwrap_or_else(|error| usage(&error, args, &environment));
    }
    let exit = match cli::parse(args, &environment) {
        Ok(invocation) => execute(&invocation, &environment),
        Err(error) => usage(&error, args, &environment),
    };
    cli::exit_as_called(args, exit)
}

fn execute(invocation: &Invocation, environment: &Environment) -> Exit {
    invocation
        .log_format
        .start(invocation.log_level, environment);
    if let Some(shell) = invocation.completions {
        return finish(
            print(&mut std::io::stdout(), &cli::completions(shell)),
            None,
            None,
        );
    }
    for action in &invocation.actions {
        let exit = match perform(action, invocation, &mut std::io::stdout().lock()) {
            Ok(exit) => exit,
            Err(error) => {
                let hint = invocation.hint(&error);
                finish(Err(error), Some(action), hint)
            }
        };
        if exit != Exit::Done {
            return exit;
        }
    }
    Exit::Done
}

/// Performs one action; its result goes to `out`, everything else to the log.
///
/// # Errors
/// As those of [`actions::run`]; [`Error::Output`] where the result cannot be written.
pub fn perform(
    action: &Action,
    invocation: &Invocation,
    out: &mut dyn Write,
) -> Result<Exit, Error> {
    let mut tell = |event| output::tell(&event, invocation.format, out);
    let report = actions::run(action, &invocation.request, &mut tell)?;
    let text = output::text(&report, invocation.format, invocation.detail);
    print(out, &text)?;
    output::log_report(&report);
    Ok(Exit::from(&report))
}

/// Logs an error. Of an action that answers by its exit status, a failure is no answer: 2.
fn finish(result: Result<(), Error>, action: Option<&Action>, hint: Option<String>) -> Exit {
    let Err(error) = result else {
        return Exit::Done;
    };
    output::errors::log(&error, hint);
    let answers = matches!(
        action,
        Some(
            Action::Diff(_)
                | Action::Differences(_)
                | Action::Explain(_)
                | Action::Connections(_)
                | Action::Status
                | Action::Verify(_)
        )
    );
    match Exit::from(&error) {
        Exit::Failed if answers => Exit::BadInput,
        exit => exit,
    }
}

/// Writes a result. A reader that has closed the pipe (EPIPE) is not an error.
fn print(out: &mut dyn Write, text: &str) -> Result<(), Error> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Output(e)),
        _ => Ok(()),
    }
}

/// Help and version go to standard output and are no error; everything else is bad input, logged as
/// all other errors.
fn usage(error: &clap::Error, args: &[OsString], environment: &Environment) -> Exit {
    if !error.use_stderr() {
        let _ = error.print();
        return Exit::Done;
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (format, text) = match asks_for_json(args) {
        true => (
            LogFormat::Json,
            text.split("\n\n").next().unwrap_or(text).trim(),
        ),
        false => (LogFormat::Text, text),
    };
    format.start(log::LevelFilter::Error, environment);
    log::error!(kind = "usage"; "{text}");
    Exit::BadInput
}

/// Whether messages are to be JSON, found before the command line is understood.
fn asks_for_json(args: &[OsString]) -> bool {
    let pair = args
        .windows(2)
        .any(|w| w[0] == "--log-format" && w[1] == "json");
    let whole = ["--log-format=json", "--log_as_json", "--log_as_json=true"];
    pair || args.iter().any(|a| whole.iter().any(|w| a == w))
}

/// The report of a dry run, for tests.
impl Report {
    /// The desired ruleset of a dry run.
    pub fn into_desired(self) -> Option<crate::netfilter::model::Ruleset> {
        match self {
            Report::DryRun(dry_run) => Some(dry_run.desired),
            _ => None,
        }
    }
}
