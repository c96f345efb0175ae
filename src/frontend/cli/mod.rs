//! The command line: syntax only. What a value may be, and which mesh has an option, is decided in
//! [`crate::mesh::config`].
//!
//! | to add | is |
//! |---|---|
//! | an action | a variant of [`Action`]: its doc line is the help, its own options are a struct with `#[derive(clap::Args)]` in the variant; and what it does, in `ops::run` |
//! | an option that a mesh decides on | a row in `config/options.rs` |
//! | an option that no mesh decides on | a field of `general::General` |
//! | the command line of a tool that we stand in for | a file here and a row in `drop_in::DROP_INS` |
//!
//! Actions are subcommands. General options and those of the meshes are `global`: every action takes
//! them, before its name or after it, and so does the line without an action, which applies. An
//! action's own options stand behind its name and are refused everywhere else.

mod drop_in;
mod general;
mod hint;
mod istio_iptables;
mod mesh_options;
mod proxy_init;

use crate::actions::{Action, Invocation};
use crate::frontend::log_format::LogFormat;
use crate::mesh::config::{Host, Opt, Options, SPECS, Spec};
use crate::mesh::{MESHES, Mesh};
use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use general::General;
use log::LevelFilter;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// A parsed command line, with what it says about logging.
#[derive(Debug)]
pub struct Cli {
    pub invocation: Invocation,
    pub log_level: LevelFilter,
    pub log_format: LogFormat,
}

/// Sends the TCP of a pod or a VM through its sidecar proxy
#[derive(Debug, Parser)]
#[command(
    name = "prepare-proxy",
    version,
    override_usage = "prepare-proxy [ACTION] [OPTIONS]\n       prepare-proxy istio-iptables [FLAGS]\n       prepare-proxy proxy-init [FLAGS]",
    after_help = EXAMPLES,
    subcommand_help_heading = "Actions",
    subcommand_value_name = "ACTION",
    args_override_self = true,
    max_term_width = 100
)]
struct Line {
    #[command(flatten)]
    general: General,
    /// Read by itself, see [`lean_command`].
    #[arg(skip)]
    action: Option<Action>,
}

/// What can stand in the place of ACTION.
#[derive(Debug, Subcommand)]
enum Word {
    #[command(flatten)]
    Action(Action),
    /// Print a script that completes this command line in a shell
    Completions { shell: Shell },
}

const EXAMPLES: &str = "\
Examples:
  prepare-proxy -p 15001 -u 1337
      All inbound and outbound TCP to port 15001, but for the traffic of uid 1337
  prepare-proxy -p 15001 -u 1337 -i 10.0.0.0/8,172.16.0.0/12
      The same, but outbound only to these destinations
  prepare-proxy --dry-run -p 15001 -u 1337
      Show the rules; needs no privilege
  prepare-proxy --dry-run --format commands -p 15001 -u 1337 | less
      The same as iptables commands
  prepare-proxy completions bash >/etc/bash_completion.d/prepare-proxy
      Complete words in bash; likewise in elvish, fish, powershell and zsh

Exit status:
  0  done                      1  the kernel or a tool refused
  2  bad input, nothing done   3  a capability is missing
  126  the rules are not there (istio-iptables --run-validation)

Without ACTION it applies. Options are taken from the command line, else from the environment, else
from --env-file, else from the mesh. RUST_LOG sets log levels in detail.";

/// The whole command line but for the drop-ins, see [`drop_ins`]; also what the man page and the
/// completions are made from.
pub fn command() -> Command {
    let meshes = MESHES.map(|m| m.profile.name);
    let explained = |spec| mesh_options::explained(mesh_arg(spec), spec, &meshes);
    let command = Line::command().args(SPECS.iter().map(explained));
    Word::augment_subcommands(command)
}

/// The same as far as these arguments need it, and without what only the help says: most runs name no
/// action, and each one would be given a copy of every option.
fn lean_command(args: &[OsString]) -> Command {
    let is_there = |c: &&Command| args.iter().any(|arg| arg == c.get_name());
    let actions = Word::augment_subcommands(Command::new("actions"));
    let named: Vec<Command> = actions
        .get_subcommands()
        .filter(is_there)
        .cloned()
        .collect();
    Line::command()
        .args(SPECS.iter().map(mesh_arg))
        .subcommands(named)
}

/// An option that a mesh decides on, under all its names.
fn mesh_arg(spec: &'static Spec) -> Arg {
    let names = drop_in::DROP_INS.iter().flat_map(|d| d.names);
    let names = names.filter(|(opt, _)| *opt == spec.opt).map(|(_, n)| *n);
    let arg = mesh_options::arg(spec, spec.long).global(true);
    arg.visible_aliases(spec.alias.into_iter().chain(names))
}

/// The command lines of the tools that we stand in for.
pub fn drop_ins() -> impl Iterator<Item = Command> {
    drop_in::DROP_INS.iter().map(drop_in::DropIn::command)
}

/// Reads a command line, the program's name first, and what the environment says for it.
///
/// An error is a message for a person, or the help or the version that was asked for.
pub fn parse(args: Vec<OsString>, host: &dyn Host) -> Result<Cli, clap::Error> {
    if let Some(call) = drop_in::Call::find(&args) {
        return call.read(host);
    }
    let (line, options) =
        Line::read(&args).map_err(|error| hint::improve(error, &args, &command(), host))?;
    let called_as = program(args.first()).and_then(Mesh::replacing);
    let mesh = line.general.mesh.or(called_as);
    Ok(line.cli(mesh, options))
}

impl From<Word> for Action {
    fn from(word: Word) -> Action {
        match word {
            Word::Action(action) => action,
            Word::Completions { shell } => Action::Tell(completions(shell)),
        }
    }
}

/// The script for a shell. It takes 65 KB of the program; the scripts themselves would take 220.
fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "prepare-proxy", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

impl Line {
    /// Splits the arguments, the program's name first: into what no mesh decides on, and the rest.
    fn read(args: &[OsString]) -> Result<(Line, Options), clap::Error> {
        let matches = match lean_command(args).try_get_matches_from(args) {
            Ok(matches) => matches,
            // The help and the refusals are those of the whole.
            Err(_) => command().try_get_matches_from(args)?,
        };
        let specs = SPECS.iter().map(|spec| (spec, spec.long));
        let options = mesh_options::read(&matches, specs);
        let mut line = Line::from_arg_matches(&matches)?;
        line.action = match matches.subcommand_name() {
            None => None,
            Some(_) => Some(Word::from_arg_matches(&matches)?.into()),
        };
        Ok((line, options))
    }

    fn cli(self, mesh: Option<&'static Mesh>, options: Options) -> Cli {
        let general = self.general;
        Cli {
            log_level: general.log_level(),
            log_format: general.log_format,
            invocation: Invocation {
                action: self.action.unwrap_or_default(),
                mesh,
                backend: general.backend,
                options,
                env_files: general.env_file,
                network_namespace: general.network_namespace,
                allow_host_network: general.allow_host_network,
                dry_run: general.dry_run,
                format: general.format,
                verbose: general.verbose > 0,
                close_wait: None,
                verify: None,
            },
        }
    }
}

/// The option that has this long name, be it ours or that of a tool replaced.
pub(super) fn option_named(name: &str) -> Option<Opt> {
    let ours = SPECS
        .iter()
        .find(|s| s.long == name || s.alias == Some(name));
    let mut theirs = drop_in::DROP_INS.iter().flat_map(|d| d.names);
    let theirs = theirs.find(|(_, n)| *n == name);
    ours.map(|spec| spec.opt).or(theirs.map(|(opt, _)| *opt))
}

/// See [`drop_in::exit_as_called`].
pub use drop_in::exit_as_called;

/// The name, without its directory, that a program was called by.
fn program(arg: Option<&OsString>) -> Option<&str> {
    Path::new(arg?).file_name().and_then(OsStr::to_str)
}

/// A value that is refused.
fn invalid(option: &str, problem: impl std::fmt::Display) -> clap::Error {
    let message = format!("{option}: {problem}\n");
    clap::Error::raw(clap::error::ErrorKind::InvalidValue, message)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_command_line_is_sound() {
        super::command().debug_assert();
        super::drop_ins().for_each(clap::Command::debug_assert);
    }

    /// What is read in the lean way is what the whole command line reads.
    #[test]
    fn the_lean_command_line_has_every_option_and_the_actions_that_are_named() {
        let ids = |command: &clap::Command| -> Vec<String> {
            let ids = command.get_arguments().map(|a| a.get_id().to_string());
            ids.collect()
        };
        let words = ["prepare-proxy", "diff", "-p", "1"].map(std::ffi::OsString::from);
        let lean = super::lean_command(&words);
        assert_eq!(ids(&lean), ids(&super::command()));
        let actions: Vec<&str> = lean.get_subcommands().map(|c| c.get_name()).collect();
        assert_eq!(actions, ["diff"]);
    }
}
