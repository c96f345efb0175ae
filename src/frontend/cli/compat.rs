//! The command lines of the tools replaced, read from the tables of their meshes.
//!
//! Such a line is read when the program is called by one of the tool's names, or behind one of them
//! as a word: `prepare-proxy istio-iptables …`. Before that word only an action (`prepare-proxy diff
//! istio-iptables …`) and general options may stand: options of the mesh belong to the tool's line.

use super::general::{duration, network_namespace};
use super::{Invocation, Line, Word, hint, invalid, options, program};
use crate::actions::{Action, CloseWait, apply, verify};
use crate::engine::backends::BackendChoice;
use crate::frontend::exit::Exit;
use crate::frontend::output::log::LogFormat;
use crate::mesh::compat::{CommandLine, Flag, Means, Takes};
use crate::mesh::config::{
    Environment, Given, Options, Origin, SPECS, Spec, parse_port, parse_switch,
};
use crate::mesh::{MESHES, Mesh};
use clap::{Arg, ArgAction, ArgMatches, Command, Error};
use log::LevelFilter;
use std::ffi::{OsStr, OsString};

/// Every mesh that has such a command line.
fn tools() -> impl Iterator<Item = (&'static Mesh, &'static CommandLine)> {
    MESHES
        .into_iter()
        .filter_map(|mesh| Some((mesh, mesh.command_line?)))
}

/// The flags' names for our options, which our own command line takes too.
pub(super) fn names_of(spec: &Spec) -> impl Iterator<Item = &'static str> {
    let flags = tools().flat_map(|(_, line)| line.flags);
    let first = |flag: &&Flag| flag.means == Means::Option(spec.opt) && flag.name != spec.long;
    flags.filter(first).map(|flag| flag.name).take(1)
}

/// The whole command line of each tool, for help, man page and completions.
pub(super) fn commands() -> impl Iterator<Item = Command> {
    tools().map(|(mesh, line)| command(mesh, line))
}

fn command(mesh: &'static Mesh, line: &'static CommandLine) -> Command {
    let meshes = [mesh.profile.name];
    lean_command(mesh, line)
        .about(line.about)
        .max_term_width(100)
        .mut_args(
            |arg| match specs(line).find(|spec| arg.get_id() == long(spec)) {
                Some(spec) => options::explained(arg, spec, &meshes),
                None => arg,
            },
        )
}

/// The same without the explanations of options, which only the help needs.
fn lean_command(mesh: &'static Mesh, line: &'static CommandLine) -> Command {
    let name = mesh.profile.called[0];
    Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .args_override_self(true)
        .args(specs(line).map(|spec| options::arg(spec, long(spec))))
        .args(line.flags.iter().map(|flag| arg(name, flag)))
}

/// The options that the tool has.
fn specs(line: &'static CommandLine) -> impl Iterator<Item = &'static Spec> {
    SPECS.iter().filter(|spec| line.options.contains(&spec.opt))
}

/// The name that a tool has for an option: Istio's.
fn long(spec: &'static Spec) -> &'static str {
    spec.alias.unwrap_or(spec.long)
}

fn arg(heading: &'static str, flag: &'static Flag) -> Arg {
    let mut arg = Arg::new(flag.name)
        .long(flag.name)
        .help(flag.help)
        .help_heading(heading);
    if let Some(letter) = flag.short {
        arg = arg.short(letter);
    }
    match flag.takes {
        Takes::Switch => options::switch(arg),
        Takes::Value(name) | Takes::Number(name) => {
            arg.value_name(name).allow_negative_numbers(true)
        }
        Takes::List(name) | Takes::Ports(name) => arg.value_name(name).action(ArgAction::Append),
    }
}

/// The exit status that a command line ends with, in the numbers of the tool that it calls. An action
/// that the tool does not have keeps its own.
pub(in crate::frontend) fn exit_as_called(args: &[OsString], exit: Exit) -> Exit {
    let calls = |c: Call| c.line.fails_with_1 && c.before.0.action.is_none();
    match exit != Exit::Done && Call::find(args).is_some_and(calls) {
        true => Exit::Failed,
        false => exit,
    }
}

/// A tool that was called.
pub(super) struct Call<'a> {
    mesh: &'static Mesh,
    line: &'static CommandLine,
    /// As it was called: for the usage.
    name: String,
    /// What stands before the tool's name.
    before: (Line, Options),
    flags: &'a [OsString],
}

impl<'a> Call<'a> {
    /// The tool that these arguments call, if they call one: by the program's name, or by the first
    /// word that is one of its names and is not the value of an option.
    pub(super) fn find(args: &'a [OsString]) -> Option<Self> {
        let by_name = program(args.first()).and_then(named);
        let words = args.iter().enumerate().skip(1);
        let mut by_word = words.filter_map(|(at, word)| {
            let tool = named(word.to_str()?)?;
            Some((tool, at, Line::read(&args[..at]).ok()?))
        });
        let ((mesh, line), at, before) = match by_word.next() {
            Some(call) => call,
            None => (by_name?, 0, Line::read(&args[..1]).ok()?),
        };
        let name = mesh.profile.called[0];
        Some(Call {
            mesh,
            line,
            name: match by_name {
                Some(_) => name.to_owned(),
                None => format!("prepare-proxy {name}"),
            },
            before,
            flags: &args[at + 1..],
        })
    }

    /// Reads the whole line.
    pub(super) fn read(self, environment: &Environment) -> Result<Invocation, Error> {
        let (before, options) = self.before;
        if let Some(surplus) = surplus(&before, &options) {
            let problem = format!("must come after {}", self.mesh.profile.called[0]);
            return Err(invalid(&surplus, problem));
        }
        let called = |command: Command| command.no_binary_name(true).bin_name(&self.name);
        let lean = called(lean_command(self.mesh, self.line));
        let matches = lean.try_get_matches_from(self.flags).or_else(|_| {
            // The help and the refusals are those of the whole.
            let whole = called(command(self.mesh, self.line));
            let again = whole.clone().try_get_matches_from(self.flags);
            again.map_err(|e| hint::improve(e, self.flags, &whole))
        })?;
        let reader = Reader {
            line: self.line,
            matches: &matches,
            environment,
        };
        reader.invocation(before, self.mesh, self.flags)
    }
}

/// What stands before a tool's name and does not belong there.
fn surplus(line: &Line, options: &Options) -> Option<String> {
    let mesh = line.general.mesh.map(|_| "--mesh".to_owned());
    let option = || options.iter().next().map(ToString::to_string);
    mesh.or_else(option)
}

fn named(name: &str) -> Option<(&'static Mesh, &'static CommandLine)> {
    tools().find(|(mesh, _)| mesh.profile.called.contains(&name))
}

/// The flags of a line, and their variables.
struct Reader<'a> {
    line: &'static CommandLine,
    matches: &'a ArgMatches,
    environment: &'a Environment,
}

/// What the flags ask for.
#[derive(Default)]
struct Flags {
    clean: bool,
    check: bool,
    dry_run: bool,
    verify: bool,
    verification: verify::Options,
    close_wait: Option<CloseWait>,
    /// The first flag that names a backend, and its name.
    backend: Option<(&'static str, &'static str)>,
}

impl Reader<'_> {
    fn invocation(
        &self,
        before: Line,
        mesh: &'static Mesh,
        args: &[OsString],
    ) -> Result<Invocation, Error> {
        self.check()?;
        let specs = specs(self.line).map(|spec| (spec, long(spec)));
        let options = options::read(self.matches, args, specs);
        let action = before.action.clone();
        let mut invocation = before.invocation(Some(mesh), options, self.environment);
        let mut flags = Flags {
            dry_run: invocation.dry_run(),
            ..Flags::default()
        };
        for flag in self.line.flags {
            if let Some(value) = self.value(flag)? {
                self.take(flag, value, &mut flags, &mut invocation)?;
            }
        }
        let default = self.line.backend.map(|name| ("backend", name));
        flags.backend = flags.backend.or(default);
        flags.complete(invocation, action)
    }

    fn take(
        &self,
        flag: &'static Flag,
        value: String,
        flags: &mut Flags,
        invocation: &mut Invocation,
    ) -> Result<(), Error> {
        let on = || self.switch(flag, &value);
        match flag.means {
            Means::Option(_) => self.offer(&mut invocation.request.options, flag, value),
            Means::Clean => flags.clean = on()?,
            Means::Check => flags.check = on()?,
            Means::DryRun => flags.dry_run |= on()?,
            Means::Verify => flags.verify = on()?,
            Means::ProbePort => {
                let port = parse_port(&value).map_err(|e| self.bad(flag, e))?;
                flags.verification.probe_port = port;
            }
            Means::ProbeTimeout => {
                let timeout = duration(&value).map_err(|e| self.bad(flag, e))?;
                flags.verification.probe_timeout = timeout;
            }
            Means::Backend(values) => {
                let name = self.one_of(flag, &value, values)?;
                flags.backend.get_or_insert((flag.name, name));
            }
            Means::BackendIs(name) if on()? => {
                flags.backend.get_or_insert((flag.name, name));
            }
            Means::NetworkNamespace => {
                let path = network_namespace(&value).map_err(|e| self.bad(flag, e))?;
                invocation.request.network_namespace = Some(path);
            }
            Means::CloseWait => flags.close_wait = self.close_wait(flag, &value)?,
            Means::LogJson if on()? => invocation.log_format = LogFormat::Json,
            Means::LogFormat if value == "json" => invocation.log_format = LogFormat::Json,
            Means::LogLevel => {
                let level = log_level(&value).map_err(|e| self.bad(flag, e))?;
                invocation.log_level = level.unwrap_or(invocation.log_level);
            }
            Means::NothingOf(values) if !values.contains(&value.as_str()) => {
                return Err(self.bad(flag, format!("\"{value}\" is not {}", any(values))));
            }
            Means::Nothing if flag.takes == Takes::Switch => drop(on()?),
            Means::BackendIs(_)
            | Means::LogJson
            | Means::LogFormat
            | Means::NothingOf(_)
            | Means::Nothing => {}
        }
        Ok(())
    }

    /// What the table says of several flags.
    fn check(&self) -> Result<(), Error> {
        let given = |name: &str| {
            let flag = self.line.flags.iter().find(|flag| flag.name == name);
            let value = flag.map(|flag| self.value(flag)).transpose()?.flatten();
            Ok::<bool, Error>(value.is_some_and(|v| !v.is_empty() && v != "false"))
        };
        let mut missing = Vec::new();
        for name in self.line.required {
            if !given(name)? {
                missing.push(format!("--{name}"));
            }
        }
        if let Some((names, why)) = self.line.one_of {
            let mut any = false;
            for name in names {
                any |= given(name)?;
            }
            if !any {
                let names: Vec<String> = names.iter().map(|name| format!("--{name}")).collect();
                missing.push(format!("{} ({why})", names.join(" or ")));
            }
        }
        if !missing.is_empty() {
            return Err(invalid(&missing.join(", "), "required"));
        }
        for [a, b] in self.line.exclusive {
            if given(a)? && given(b)? {
                return Err(invalid(&format!("--{a}"), format!("excludes --{b}")));
            }
        }
        Ok(())
    }

    /// The flag's value, else that of its variable; an empty one counts as unset.
    fn value(&self, flag: &Flag) -> Result<Option<String>, Error> {
        let given = self.matches.get_many::<String>(flag.name);
        let value = given.map(|values| values.cloned().collect::<Vec<_>>());
        let value = match (value, flag.takes) {
            // No number means none, whatever the mesh has by default.
            (None, Takes::Number(_)) => Some(String::new()),
            (None, _) => self.variable(flag)?,
            (Some(parts), Takes::List(_)) => items(&parts),
            (Some(parts), Takes::Ports(_)) => {
                let list = items(&parts);
                if list.as_ref().is_some_and(|list| list.contains('-')) {
                    return Err(self.bad(flag, "ranges are not accepted here, only single ports"));
                }
                list
            }
            (Some(parts), Takes::Number(_)) => {
                parts.into_iter().next_back().map(none_if_not_positive)
            }
            (Some(parts), _) => parts.into_iter().next_back(),
        };
        let keeps_empty = matches!(flag.takes, Takes::Number(_));
        Ok(value.filter(|v| keeps_empty || !v.is_empty()))
    }

    fn variable(&self, flag: &Flag) -> Result<Option<String>, Error> {
        if !self.line.variables || flag.name.starts_with("log_") {
            return Ok(None);
        }
        let name = flag.name.to_ascii_uppercase().replace('-', "_");
        let value = self.environment.get(OsStr::new(&name));
        let text = value.map(|value| value.clone().into_string());
        let text = text.transpose();
        text.map_err(|_| invalid(&name, "the value is not UTF-8"))
    }

    /// Several flags of one list add up.
    fn offer(&self, options: &mut Options, flag: &Flag, value: String) {
        let Means::Option(opt) = flag.means else {
            return;
        };
        let before = options.get(opt).map(|given| given.value.clone());
        let value = match (flag.takes, before) {
            (Takes::List(_), Some(before)) => format!("{before},{value}"),
            (Takes::Switch, _) => parse_switch(&value).map_or(value, |on| on.to_string()),
            _ => value,
        };
        options.replace(Given {
            opt,
            value,
            origin: Origin::Flag(format!("--{}", flag.name)),
        });
    }

    fn switch(&self, flag: &Flag, value: &str) -> Result<bool, Error> {
        parse_switch(value).map_err(|e| self.bad(flag, e))
    }

    /// What stands behind a value.
    fn one_of(
        &self,
        flag: &Flag,
        value: &str,
        values: &'static [(&'static str, &'static str)],
    ) -> Result<&'static str, Error> {
        let found = values.iter().find(|(name, _)| *name == value);
        found.map(|(_, backend)| *backend).ok_or_else(|| {
            let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            self.bad(flag, format!("\"{value}\" is not {}", any(&names)))
        })
    }

    /// proxy-init sets nothing where this is 0.
    fn close_wait(&self, flag: &Flag, value: &str) -> Result<Option<CloseWait>, Error> {
        let digits = value.bytes().all(|b| b.is_ascii_digit());
        match (digits, value.parse()) {
            (true, Ok(0)) => Ok(None),
            (true, Ok(seconds)) => Ok(Some(CloseWait(seconds))),
            _ => Err(self.bad(flag, format!("\"{value}\" is not a number of seconds"))),
        }
    }

    fn bad(&self, flag: &Flag, problem: impl std::fmt::Display) -> Error {
        invalid(&format!("--{}", flag.name), problem)
    }
}

impl Flags {
    /// The invocation with all of it; `action` is the one before the tool's name.
    fn complete(
        self,
        mut invocation: Invocation,
        action: Option<Word>,
    ) -> Result<Invocation, Error> {
        let backend = &mut invocation.request.backend;
        if let (BackendChoice::Auto, Some((flag, name))) = (*backend, self.backend) {
            *backend = BackendChoice::named(name).ok_or_else(|| {
                let problem = format!("this program was built without the backend {name}");
                invalid(&format!("--{flag}"), problem)
            })?;
        }
        let apply = apply::Options {
            close_wait: self.close_wait,
        };
        let first = match action {
            Some(action) => action.into_action(self.dry_run),
            None if self.clean && self.dry_run => Action::CleanDryRun,
            None if self.clean => Action::Clean,
            None if self.check => Action::Check,
            None if self.dry_run => Action::DryRun(apply),
            None => Action::Apply(apply),
        };
        let verifies = self.verify && !self.dry_run;
        let then = verifies.then_some(Action::Verify(self.verification));
        invocation.actions = [first].into_iter().chain(then).collect();
        Ok(invocation)
    }
}

/// A list with its repetitions, the white space around its items cut off; `None` if it is empty.
fn items(parts: &[String]) -> Option<String> {
    let items = parts.iter().flat_map(|text| text.split(',')).map(str::trim);
    let items: Vec<&str> = items.filter(|item| !item.is_empty()).collect();
    (!items.is_empty()).then(|| items.join(","))
}

/// proxy-init writes no rule for a user or group of 0 or less.
fn none_if_not_positive(value: String) -> String {
    match value.parse::<i64>() {
        Ok(..=0) => String::new(),
        _ => value,
    }
}

/// `legacy, nft or plain`.
fn any(names: &[&str]) -> String {
    match names {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        names => names.concat(),
    }
}

/// The level of a word, or of the scope `default` or `all` among several: `info`,
/// `default:info,dns:debug`; other scopes are those of Istio's other programs.
fn log_level(text: &str) -> Result<Option<LevelFilter>, String> {
    let mut found = None;
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (scope, level) = item.split_once(':').unwrap_or(("default", item));
        let level = match level.to_ascii_lowercase().as_str() {
            "trace" => LevelFilter::Trace,
            "debug" => LevelFilter::Debug,
            "info" => LevelFilter::Info,
            "warn" | "warning" => LevelFilter::Warn,
            "error" | "fatal" | "panic" => LevelFilter::Error,
            "none" => LevelFilter::Off,
            _ => {
                return Err(format!(
                    "\"{item}\" is not a level (none, panic, fatal, error, warn, info, debug, trace), nor a scope \
                     with one (default:info)"
                ));
            }
        };
        if ["default", "all"].contains(&scope) {
            found = Some(level);
        }
    }
    Ok(found)
}
