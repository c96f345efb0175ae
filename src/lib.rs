//! Sends the TCP of a pod or a VM through its sidecar proxy, and takes that back.
//!
//! Data goes one way: the command line ([`cli`]) gives raw options; [`config`] resolves them, with
//! the environment, files and facts of the host, into a configuration in which every invariant
//! holds; a [`mesh`] turns that into a [`ruleset`], a pure value; [`ops`] compares it with what a
//! [`backend`] reads from the kernel, as far as that is ours (`ownership`), and hands the difference
//! back to it to be committed. [`packet`] tells what a ruleset does to one connection.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests look for themselves"
    )
)]

pub mod actions;
pub mod engine;
pub mod frontend;
pub mod mesh;
pub mod netfilter;

pub use engine::error::Error;
pub use engine::exit::Exit;

use engine::host::System;
use frontend::log_format::LogFormat;
use frontend::{cli, cni};
use std::ffi::OsString;

/// Runs a whole command line, the program's name first.
pub fn run(args: Vec<OsString>) -> Exit {
    if cni::is_called(&System) {
        return cni::run(&System);
    }
    let exit = run_to_end(args.clone());
    cli::exit_as_called(&args, exit)
}

fn run_to_end(args: Vec<OsString>) -> Exit {
    let json = asks_for_json(&args);
    let cli = match cli::parse(args, &System) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, json),
    };
    cli.log_format.start(cli.log_level, &System);
    let asks = cli.invocation.action.asks();
    match actions::run(cli.invocation, &System, &mut std::io::stdout().lock()) {
        Ok(exit) => exit,
        Err(error) => {
            log::error!("{error}");
            match error.exit() {
                // What could not be told is not an answer.
                Exit::Failed if asks => Exit::BadInput,
                exit => exit,
            }
        }
    }
}

/// Help and version go to standard output and are no error; everything else is bad input, which is
/// a message like all others.
fn usage(error: &clap::Error, json: bool) -> Exit {
    if !error.use_stderr() {
        // Nobody reading it is not our failure.
        let _ = error.print();
        return Exit::Done;
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    match json {
        true => {
            LogFormat::Json.start(log::LevelFilter::Error, &System);
            log::error!("{}", text.split("\n\n").next().unwrap_or(text).trim());
        }
        false => {
            LogFormat::Text.start(log::LevelFilter::Error, &System);
            log::error!("{text}");
        }
    }
    Exit::BadInput
}

/// Whether messages are to be JSON, told before the command line is understood.
fn asks_for_json(args: &[OsString]) -> bool {
    let pair = args
        .windows(2)
        .any(|w| w[0] == "--log-format" && w[1] == "json");
    let whole = ["--log-format=json", "--log_as_json", "--log_as_json=true"];
    pair || args.iter().any(|a| whole.iter().any(|w| a == w))
}
