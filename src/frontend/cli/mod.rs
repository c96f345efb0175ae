//! The command line: syntax only. What a value may be, and which mesh has an option, is decided in
//! [`crate::mesh::config`].
//!
//! | to add | is |
//! |---|---|
//! | an action | a variant of `Word`, whose doc line is its help, and of [`Action`] |
//! | an option that a mesh decides on | a row in `mesh/config/options.rs` |
//! | an option that no mesh decides on | a row in `general.rs` |
//! | the command line of a tool replaced | a table in the folder of its mesh |
//!
//! Actions are subcommands. General options and those of the meshes are `global`: every action takes
//! them, before its name or after it, and so does the line without an action, which applies. An
//! action's own options stand behind its name and are refused everywhere else.

mod actions;
mod compat;
mod general;
mod hint;
pub mod manual;
mod options;

pub(super) use compat::exit_as_called;

use super::output::log::LogFormat;
use super::output::{Detail, Format};
use crate::actions::Action;
use crate::engine::error::Error;
use crate::engine::request::Request;
use crate::mesh::Mesh;
use crate::mesh::config::{ConfigError, Environment, Facts, Options, SPECS, Spec};
use actions::Word;
use clap::{Arg, Command, FromArgMatches, Subcommand};
use clap_complete::Shell;
use general::General;
use log::LevelFilter;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// A command line, understood but not yet resolved.
#[derive(Debug)]
pub struct Invocation {
    /// What to do, one after the other.
    pub actions: Vec<Action>,
    pub request: Request,
    /// How results are printed, if that was asked for.
    pub format: Option<Format>,
    /// How much of a result is printed as text.
    pub detail: Detail,
    pub log_level: LevelFilter,
    pub log_format: LogFormat,
    /// The shell whose completion script is printed instead of any action.
    pub completions: Option<Shell>,
    dry_run: bool,
}

impl Invocation {
    fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// What may have been meant, where `explain` lacks options of a mesh.
    pub(super) fn hint(&self, error: &Error) -> Option<String> {
        let explains = matches!(
            self.actions.first(),
            Some(Action::Explain(_) | Action::Connections(_))
        );
        let lacks = matches!(error, Error::Config(ConfigError::Required { .. }));
        let user = (explains && lacks).then(|| hint::user(&self.request.options));
        user.flatten()
    }

    /// Refuses a format that no report of these actions has.
    fn check_format(self) -> Result<Self, clap::Error> {
        let Some(format) = self.format else {
            return Ok(self);
        };
        let problem = match self.actions.first() {
            Some(Action::Connections(_)) if format == Format::Mermaid => return Ok(self),
            _ if format == Format::Mermaid => "mermaid is for explain without --to",
            Some(Action::DryRun(_) | Action::Check) if format != Format::Text => return Ok(self),
            Some(Action::DryRun(_)) => "a dry run is printed as restore, commands, nft or json",
            Some(Action::Apply(_) | Action::Clean) => "requires --dry-run, which prints a result",
            Some(Action::Watch(_)) => "watch prints no result",
            _ if matches!(format, Format::Json | Format::Text) => return Ok(self),
            Some(Action::Connections(_)) => "this result is printed as text or json, or mermaid",
            _ => "this result is printed as text or json",
        };
        Err(invalid("--format", problem))
    }
}

/// The whole command line but for the tools replaced, see [`drop_ins`]; also what the man page and
/// the completions are made from.
pub fn command() -> Command {
    let meshes = crate::mesh::MESHES.map(|m| m.profile.name);
    let explained = |spec| options::explained(mesh_arg(spec), spec, &meshes);
    let command = bare().args(general::ROWS.iter().map(general::Row::arg));
    let command = Word::augment_subcommands(command.args(SPECS.iter().map(explained)));
    let command = command.subcommand(super::cni::install::command());
    command
        .about("Redirect a pod's or VM's TCP traffic to its sidecar proxy")
        .long_about(None::<&str>)
        .override_usage(
            "prepare-proxy [ACTION] [OPTIONS]\n       prepare-proxy istio-iptables [FLAGS]\n       \
             prepare-proxy proxy-init [FLAGS]",
        )
        .after_help(manual::after_help())
        .subcommand_help_heading("Actions")
        .subcommand_value_name("ACTION")
        .max_term_width(100)
}

/// The program without its options and actions.
fn bare() -> Command {
    Command::new("prepare-proxy")
        .version(env!("CARGO_PKG_VERSION"))
        .args_override_self(true)
}

/// The same as far as these arguments need it, and without what only the help says: building all of
/// it would take longer than writing the rules.
fn lean_command(args: &[OsString]) -> Command {
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let (mut longs, mut letters) = (Vec::new(), String::new());
    for word in &words {
        match word.strip_prefix("--") {
            Some(word) => longs.extend(word.split('=').next()),
            // Letters may be combined, and a value may follow its letter.
            None if word.starts_with('-') => letters.push_str(word),
            None => {}
        }
    }
    let is_there = |long: &str, short: Option<char>| {
        longs.contains(&long) || short.is_some_and(|c| letters.contains(c))
    };
    let general = general::ROWS
        .iter()
        .filter(|row| is_there(row.long, row.short));
    let specs = SPECS.iter().filter(|spec| {
        let alias = spec.alias.is_some_and(|alias| is_there(alias, None));
        is_there(spec.long, spec.short) || alias
    });
    let command = bare()
        .disable_help_subcommand(true)
        .args(general.map(general::Row::arg))
        .args(specs.map(mesh_arg));
    let named = actions::FREQUENT
        .iter()
        .filter(|(name, _)| words.contains(name));
    command.subcommands(named.map(|(name, own_options)| own_options(Command::new(name))))
}

/// An option that a mesh decides on, under all its names.
fn mesh_arg(spec: &'static Spec) -> Arg {
    let arg = options::arg(spec, spec.long).global(true);
    arg.visible_aliases(spec.alias.into_iter().chain(compat::names_of(spec)))
}

/// The command lines of the tools replaced.
pub fn drop_ins() -> impl Iterator<Item = Command> {
    compat::commands()
}

/// Reads a command line, the program's name first, and the variables that a tool replaced has for its
/// flags.
///
/// # Errors
/// A message for a person, or the help or the version that was asked for.
pub fn parse(args: &[OsString], environment: &Environment) -> Result<Invocation, clap::Error> {
    if let Some(call) = compat::Call::find(args) {
        return call.read(environment)?.check_format();
    }
    hint::check(args)?;
    let (line, options) =
        Line::read(args).map_err(|error| hint::improve(error, args, &command()))?;
    line.check(&options)?;
    let called_as = program(args.first()).and_then(Mesh::replacing);
    let mesh = line.general.mesh.or(called_as);
    line.invocation(mesh, options, environment).check_format()
}

/// The completion script for a shell.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "prepare-proxy", &mut script);
    // For bash, clap_complete spells a name with a hyphen in two ways, so that no action's options
    // would be completed.
    String::from_utf8_lossy(&script).replace("prepare__subcmd__proxy", "prepare__proxy")
}

/// What stands on the line besides the options of a mesh.
#[derive(Debug)]
struct Line {
    general: General,
    action: Option<Word>,
}

impl Line {
    /// Splits the arguments, the program's name first.
    fn read(args: &[OsString]) -> Result<(Line, Options), clap::Error> {
        let matches = match lean_command(args).try_get_matches_from(args) {
            Ok(matches) => matches,
            // The help and the refusals are those of the whole.
            Err(_) => command().try_get_matches_from(args)?,
        };
        let specs = SPECS.iter().map(|spec| (spec, spec.long));
        let line = Line {
            general: General::read(&matches)?,
            action: match matches.subcommand_name() {
                None => None,
                Some(_) => Some(Word::from_arg_matches(&matches)?),
            },
        };
        Ok((line, options::read(&matches, args, specs)))
    }

    /// Refuses what does not go with the options of `explain`.
    fn check(&self, options: &Options) -> Result<(), clap::Error> {
        let Some(action) = &self.action else {
            return Ok(());
        };
        if action.is_short() {
            self.check_short()?;
        }
        if action.is_live() {
            self.check_live(options)?;
        }
        Ok(())
    }

    fn check_short(&self) -> Result<(), clap::Error> {
        match (self.general.verbose, self.general.format) {
            (1.., _) => Err(invalid("--short", "excludes --verbose")),
            (_, Some(Format::Json)) => Err(invalid(
                "--short",
                "is for text; JSON has the sentence as \"answer\"",
            )),
            _ => Ok(()),
        }
    }

    fn check_live(&self, options: &Options) -> Result<(), clap::Error> {
        let (name, remedy) = match (self.general.mesh, options.iter().next()) {
            (Some(_), _) => ("--mesh".to_owned(), None),
            (None, Some(option)) => (option.to_string(), hint::user(options)),
            (None, None) => return Ok(()),
        };
        let remedy = remedy.unwrap_or_else(|| "omit one of them".to_owned());
        let problem = format!(
            "belongs to the rules of a mesh, and --live follows those in the kernel: {remedy}"
        );
        Err(invalid(&name, problem))
    }

    fn invocation(
        self,
        mesh: Option<&'static Mesh>,
        options: Options,
        environment: &Environment,
    ) -> Invocation {
        let general = self.general;
        let completions = match &self.action {
            Some(Word::Completions { shell }) => Some(*shell),
            _ => None,
        };
        let action = self.action.unwrap_or(Word::Apply);
        let detail = match general.verbose > 0 {
            true => Detail::Everything,
            false if action.is_short() => Detail::Answer,
            false => Detail::Usual,
        };
        Invocation {
            log_level: general.log_level(),
            log_format: general.log_format,
            actions: vec![action.into_action(general.dry_run)],
            format: general.format,
            detail,
            completions,
            dry_run: general.dry_run,
            request: Request {
                mesh,
                backend: general.backend,
                options,
                env_files: general.env_file,
                network_namespace: general.network_namespace,
                allow_host_network: general.allow_host_network,
                facts: Facts::of(environment.clone()),
            },
        }
    }
}

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
    use super::*;

    #[test]
    fn every_command_line_is_sound() {
        command().debug_assert();
        drop_ins().for_each(Command::debug_assert);
    }

    #[test]
    fn the_lean_command_line_has_the_frequent_actions() {
        for (name, _) in actions::FREQUENT {
            let words = ["prepare-proxy", name].map(OsString::from);
            let [lean, whole] = [lean_command(&words), command()].map(|command| {
                let matches = command.try_get_matches_from(&words).unwrap();
                format!("{:?}", Word::from_arg_matches(&matches).unwrap())
            });
            assert_eq!(lean, whole);
        }
    }

    /// What is read in the lean way is what the whole command line reads.
    #[test]
    fn the_lean_command_line_has_the_options_and_actions_that_are_named() {
        let words = ["prepare-proxy", "diff", "-p", "1", "--mesh=istio", "-nv"];
        let words = words.map(OsString::from);
        let (line, options) = Line::read(&words).unwrap();
        assert_eq!(options.iter().count(), 1);
        assert!(line.general.dry_run && line.general.verbose == 1);
        assert_eq!(line.general.mesh.map(|m| m.profile.name), Some("istio"));
        assert!(matches!(line.action, Some(Word::Diff(_))));
        assert!(lean_command(&words).try_get_matches_from(&words).is_ok());
    }
}
