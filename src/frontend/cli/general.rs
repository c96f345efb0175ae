//! The options that no mesh decides on.

use crate::actions::{Choice, Format};
use crate::frontend::log_format::LogFormat;
use crate::mesh::{MESHES, Mesh};
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};
use log::LevelFilter;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(next_help_heading = "General")]
pub(super) struct General {
    /// Whose rules to write [env: PREPARE_PROXY_MESH] [default: nginmesh]
    #[arg(long, global = true, value_name = "MESH", value_parser = meshes())]
    pub mesh: Option<&'static Mesh>,

    /// How the rules reach the kernel
    #[arg(
        long,
        global = true,
        value_name = "BACKEND",
        value_enum,
        default_value_t
    )]
    pub backend: Choice,

    /// Enter this network namespace first; a name is one of /run/netns
    #[arg(long, global = true, value_name = "PATH",
        value_parser = OsStringValueParser::new().map(namespace))]
    pub network_namespace: Option<PathBuf>,

    /// Read KEY=value lines; -/PATH means "if it exists"; may be repeated
    #[arg(long, global = true, value_name = "PATH", allow_hyphen_values = true,
        value_parser = OsStringValueParser::new().try_map(env_file))]
    pub env_file: Vec<PathBuf>,

    /// Print the rules, touch nothing
    #[arg(short = 'n', long, global = true)]
    pub dry_run: bool,

    /// How a dry run is printed [default: restore]; json also for other results
    #[arg(long, global = true, value_name = "FORMAT", value_enum)]
    pub format: Option<Format>,

    /// Work even in the network namespace of a Kubernetes node
    #[arg(long, global = true)]
    pub allow_host_network: bool,

    /// How messages are printed on standard error
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    pub log_format: LogFormat,

    /// Say more; twice: everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// Print nothing but errors
    #[arg(long, global = true)]
    pub quiet: bool,
}

impl General {
    /// The least important message that is printed.
    pub(super) fn log_level(&self) -> LevelFilter {
        match self.verbose {
            _ if self.quiet => LevelFilter::Error,
            0 => LevelFilter::Info,
            1 => LevelFilter::Debug,
            _ => LevelFilter::Trace,
        }
    }
}

fn meshes() -> impl TypedValueParser<Value = &'static Mesh> {
    PossibleValuesParser::new(MESHES.map(|m| m.profile.name))
        .try_map(|name| Mesh::named(&name).ok_or("no such mesh"))
}

/// The path of a network namespace. A name without a directory is one that ip-netns(8) has given.
pub(super) fn namespace(value: OsString) -> PathBuf {
    match value.as_encoded_bytes().contains(&b'/') {
        true => PathBuf::from(value),
        false => Path::new("/run/netns").join(value),
    }
}

/// The path of an env file. What begins with `-` may be the next option, after a path that was left
/// out; as with systemd, only an absolute path comes behind a `-` that means "if it exists".
fn env_file(value: OsString) -> Result<PathBuf, String> {
    let behind = value.as_encoded_bytes().strip_prefix(b"-");
    match behind.is_none_or(|path| path.starts_with(b"/")) {
        true => Ok(PathBuf::from(value)),
        false => Err("behind a leading - there must be an absolute path".to_owned()),
    }
}
