//! The options that no mesh decides on.

use crate::engine::backends::BackendChoice;
use crate::frontend::output::Format;
use crate::frontend::output::log::LogFormat;
use crate::mesh::config::parse_duration;
use crate::mesh::{MESHES, Mesh};
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches};
use log::LevelFilter;
use std::any::Any;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was given for them.
#[derive(Clone, Debug, Default)]
pub(super) struct General {
    pub mesh: Option<&'static Mesh>,
    pub backend: BackendChoice,
    pub network_namespace: Option<PathBuf>,
    pub env_file: Vec<PathBuf>,
    pub dry_run: bool,
    pub format: Option<Format>,
    pub allow_host_network: bool,
    pub log_format: LogFormat,
    pub verbose: u8,
    pub quiet: bool,
}

/// One of them: its long name and letter, and what else there is to it.
pub(super) struct Row {
    pub long: &'static str,
    pub short: Option<char>,
    with: fn(Arg) -> Arg,
}

const fn row(long: &'static str, short: Option<char>, with: fn(Arg) -> Arg) -> Row {
    Row { long, short, with }
}

/// All of them, in the order of the help.
pub(super) const ROWS: &[Row] = &[
    row("mesh", None, |arg| {
        arg.value_name("MESH")
            .help("Mesh to write rules for [env: PREPARE_PROXY_MESH] [default: nginmesh]")
            .ignore_case(true)
            .value_parser(meshes())
    }),
    row("backend", None, |arg| {
        arg.value_name("BACKEND")
            .help("What writes the rules to the kernel [default: auto]")
            .ignore_case(true)
            .value_parser(named(BackendChoice::NAMES))
    }),
    row("network-namespace", None, |arg| {
        arg.value_name("PATH|NAME|PID")
            .alias("netns")
            .alias("pid")
            .help("Enter this network namespace first: a file, a name in /run/netns, or a process")
            .value_parser(OsStringValueParser::new().try_map(namespace_of))
    }),
    row("env-file", None, |arg| {
        arg.value_name("PATH")
            .help("Read options from KEY=value lines; -/PATH if the file may be absent; may be repeated")
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
            .value_parser(OsStringValueParser::new().try_map(env_file))
    }),
    row("dry-run", Some('n'), |arg| {
        arg.help("Print the rules, change nothing")
            .action(ArgAction::SetTrue)
    }),
    row("format", None, |arg| {
        arg.value_name("FORMAT")
            .help("Format of a dry run [default: restore]; text or json for other results")
            .ignore_case(true)
            .value_parser(named(Format::NAMES))
    }),
    row("allow-host-network", None, |arg| {
        arg.help("Install rules even in the network namespace of a Kubernetes node")
            .action(ArgAction::SetTrue)
    }),
    row("log-format", None, |arg| {
        arg.value_name("FORMAT")
            .help("Format of messages on standard error [default: text]")
            .ignore_case(true)
            .value_parser(named(LogFormat::NAMES))
    }),
    row("verbose", Some('v'), |arg| {
        arg.help("Log more; -vv logs everything")
            .action(ArgAction::Count)
    }),
    row("quiet", None, |arg| {
        arg.help("Log errors only").action(ArgAction::SetTrue)
    }),
];

impl Row {
    pub(super) fn arg(&self) -> Arg {
        let arg = Arg::new(self.long).long(self.long).global(true);
        let arg = match self.short {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        (self.with)(arg).help_heading("General")
    }
}

impl General {
    /// What was given; an option that these matches do not know was not.
    pub(super) fn read(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let general = General {
            mesh: one(matches, "mesh"),
            backend: one(matches, "backend").unwrap_or_default(),
            network_namespace: one(matches, "network-namespace"),
            env_file: match matches.try_get_many("env-file") {
                Ok(Some(paths)) => paths.cloned().collect(),
                _ => Vec::new(),
            },
            dry_run: one(matches, "dry-run").unwrap_or_default(),
            format: one(matches, "format"),
            allow_host_network: one(matches, "allow-host-network").unwrap_or_default(),
            log_format: one(matches, "log-format").unwrap_or_default(),
            verbose: one(matches, "verbose").unwrap_or_default(),
            quiet: one(matches, "quiet").unwrap_or_default(),
        };
        match general.quiet && general.verbose > 0 {
            true => Err(super::invalid("--quiet", "excludes --verbose")),
            false => Ok(general),
        }
    }

    /// The least important message that is logged.
    pub(super) fn log_level(&self) -> LevelFilter {
        match self.verbose {
            _ if self.quiet => LevelFilter::Error,
            0 => LevelFilter::Info,
            1 => LevelFilter::Debug,
            _ => LevelFilter::Trace,
        }
    }
}

fn one<T: Any + Clone + Send + Sync>(matches: &ArgMatches, name: &str) -> Option<T> {
    matches.try_get_one::<T>(name).ok().flatten().cloned()
}

/// One of these names stands for a value.
pub(super) fn named<T: Copy + Send + Sync + 'static>(
    names: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names.iter().map(|(name, _)| *name)).try_map(move |name| {
        let found = names.iter().find(|(n, _)| n.eq_ignore_ascii_case(&name));
        found.map(|(_, value)| *value).ok_or("not one of them")
    })
}

fn meshes() -> impl TypedValueParser<Value = &'static Mesh> {
    PossibleValuesParser::new(MESHES.map(|m| m.profile.name))
        .try_map(|name| Mesh::named(&name.to_ascii_lowercase()).ok_or("not a mesh"))
}

fn namespace_of(value: OsString) -> Result<PathBuf, String> {
    match value.to_str() {
        Some(text) => network_namespace(text),
        None => Ok(PathBuf::from(value)),
    }
}

/// The path of a network namespace. A number is a process, a name without a directory one that
/// ip-netns(8) has given.
pub(super) fn network_namespace(value: &str) -> Result<PathBuf, String> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    match value {
        "" => Err("is empty: PATH, NAME or PID is expected".to_owned()),
        path if path.contains('/') => Ok(PathBuf::from(path)),
        pid if digits => Ok(PathBuf::from(format!("/proc/{pid}/ns/net"))),
        name => Ok(Path::new("/run/netns").join(name)),
    }
}

/// The path of an env file. What begins with `-` may be the next option, after a path that was left
/// out; as with systemd, only an absolute path follows a `-` that means "if it exists".
fn env_file(value: OsString) -> Result<PathBuf, String> {
    let behind = value.as_encoded_bytes().strip_prefix(b"-");
    match behind.is_none_or(|path| path.starts_with(b"/")) {
        true => Ok(PathBuf::from(value)),
        false => Err("after a leading - an absolute path is required".to_owned()),
    }
}

/// A length of time, `5s`, `1m30s`, `500ms`; a number alone is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let text = match seconds {
        true => format!("{text}s"),
        false => text.to_owned(),
    };
    parse_duration(&text).map_err(|e| e.to_string())
}
