//! Writes the man pages and the shell completions, generated from the command line's own definition, into a directory.
//!
//! `cargo run --example manual -- DIRECTORY`
#![forbid(unsafe_code)]

use clap_complete::Shell;
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let directory =
        PathBuf::from(env::args_os().nth(1).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "usage: manual DIRECTORY")
        })?);
    fs::create_dir_all(&directory)?;
    let mut command = prepare_proxy::frontend::cli::command();
    clap_mangen::generate_to(command.clone(), &directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "prepare-proxy", &directory)?;
    }
    for drop_in in prepare_proxy::frontend::cli::drop_ins() {
        clap_mangen::generate_to(drop_in, &directory)?;
    }
    Ok(())
}
