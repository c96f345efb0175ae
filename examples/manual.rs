//! Writes the man pages and the shell completions, generated from the command line's own definition, into a directory.
//!
//! `cargo run --example manual -- DIRECTORY`
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "writing files is what it is for")]

use clap_complete::Shell;
use clap_mangen::Man;
use prepare_proxy::frontend::cli::manual;
use std::io::Write;
use std::path::PathBuf;
use std::{env, fs, io};

/// The page of the program itself, with the sections that clap_mangen does not know.
fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let command = command.clone().after_help(None::<&str>);
    // As generate_to() does: there is no page of the action help.
    let man = Man::new(command.disable_help_subcommand(true));
    man.render(&mut page)?;
    for (title, entries) in manual::sections() {
        writeln!(page, ".SH {title}")?;
        for (term, meaning) in entries {
            writeln!(page, ".TP\n\\fB{}\\fR\n{}", roff(&term), roff(&meaning))?;
        }
    }
    Ok(page)
}

/// Text as roff prints it: a line must not begin with a full stop or an apostrophe.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

fn main() -> io::Result<()> {
    let directory =
        PathBuf::from(env::args_os().nth(1).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "usage: manual DIRECTORY")
        })?);
    fs::create_dir_all(&directory)?;
    let mut command = prepare_proxy::frontend::cli::command();
    clap_mangen::generate_to(command.clone(), &directory)?;
    fs::write(directory.join("prepare-proxy.1"), page(&command)?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "prepare-proxy", &directory)?;
    }
    for drop_in in prepare_proxy::frontend::cli::drop_ins() {
        clap_mangen::generate_to(drop_in, &directory)?;
    }
    Ok(())
}
