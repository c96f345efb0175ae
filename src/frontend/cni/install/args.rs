//! The command line of the installer.

use super::super::entry::ANNOTATIONS;
use super::{NAME, Trouble, check};
use crate::frontend::output::log::LogFormat;
use clap::{Args, Command, FromArgMatches, Subcommand};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::path::PathBuf;

/// The installer's command line, for the help of the whole program too.
pub(in crate::frontend) fn command() -> Command {
    let command = Command::new("cni")
        .about("Install, remove or check the CNI plugin, which gives pods their rules without an init container")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100);
    Word::augment_subcommands(command)
}

/// What was asked for.
pub(super) struct Line {
    pub verb: Verb,
    pub log_format: LogFormat,
}

pub(super) enum Verb {
    Install {
        place: Place,
        entry: String,
        drop_in: bool,
        watch: bool,
    },
    Remove {
        place: Place,
        binary: bool,
    },
    Status {
        place: Place,
        json: bool,
    },
}

/// The folders of the container runtime.
#[derive(Clone, Debug, Args)]
pub(super) struct Place {
    /// Folder of plugins
    #[arg(long, value_name = "PATH", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,

    /// Folder of their lists
    #[arg(long, value_name = "PATH", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Word {
    /// Install the plugin and enter it in the list that the runtime uses
    Install(Install),
    /// Remove the plugin from all lists
    Remove {
        #[command(flatten)]
        place: Place,
        /// Remove the binary too; the node's pods must have ended
        #[arg(long)]
        binary: bool,
    },
    /// Show what is installed; exit status 0 if the plugin gives pods their rules
    Status {
        #[command(flatten)]
        place: Place,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Install {
    #[command(flatten)]
    place: Place,

    /// Mesh whose pods are given rules: istio, linkerd; may be repeated
    #[arg(long, value_name = "MESH", required = true, value_delimiter = ',')]
    mesh: Vec<String>,

    /// Namespaces whose pods are left alone [default: kube-system]
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "kube-system",
        hide_default_value = true
    )]
    exclude_namespaces: Vec<String>,

    /// Option that annotations do not give, under its long name; may be repeated
    #[arg(long = "default", value_name = "OPTION=VALUE", value_parser = pair)]
    defaults: Vec<(String, String)>,

    /// The same for the pods of one namespace
    #[arg(long, value_name = "NAMESPACE/OPTION=VALUE", value_parser = namespaced)]
    namespace_default: Vec<(String, (String, String))>,

    /// What writes the rules to the kernel [default: auto]
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,

    /// Where the plugin logs: journal, or stderr, which is the runtime's log
    #[arg(long, value_name = "WHERE", default_value = "journal")]
    log: String,

    /// Put the entry into a file of its own, which no other plugin rewrites (containerd 2.1, CRI-O 1.33)
    #[arg(long)]
    drop_in: bool,

    /// Keep running, and enter it again when another program rewrites the list
    #[arg(long)]
    watch: bool,

    /// Log JSON
    #[arg(long)]
    log_json: bool,
}

impl Line {
    /// Reads the words from `cni` on.
    pub(super) fn read(words: &[OsString]) -> Result<Self, clap::Error> {
        let matches = command()
            .bin_name("prepare-proxy cni")
            .try_get_matches_from(words)?;
        let word = Word::from_arg_matches(&matches)?;
        let mut log_format = LogFormat::Text;
        let verb = match word {
            Word::Remove { place, binary } => Verb::Remove { place, binary },
            Word::Status { place, json } => Verb::Status { place, json },
            Word::Install(install) => {
                if install.log_json {
                    log_format = LogFormat::Json;
                }
                let entry = install.entry();
                check(&entry).map_err(|e| {
                    let kind = clap::error::ErrorKind::InvalidValue;
                    clap::Error::raw(kind, format!("{}\n", Trouble::Entry(e)))
                })?;
                let Install {
                    place,
                    drop_in,
                    watch,
                    ..
                } = install;
                Verb::Install {
                    place,
                    entry,
                    drop_in,
                    watch,
                }
            }
        };
        Ok(Line { verb, log_format })
    }
}

impl Install {
    /// The plugin's entry.
    fn entry(&self) -> String {
        let text = |pairs: &[(String, String)]| -> Value {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (name.clone(), value.clone().into()));
            pairs.collect::<Map<_, _>>().into()
        };
        let mut entry = json!({
            "type": NAME,
            "capabilities": {ANNOTATIONS: true, "dns": true},
            "mesh": self.mesh,
            "excludeNamespaces": self.exclude_namespaces,
            "log": self.log,
        });
        if !self.defaults.is_empty() {
            entry["defaults"] = text(&self.defaults);
        }
        for (namespace, pair) in &self.namespace_default {
            entry["namespaces"][namespace][&pair.0] = pair.1.clone().into();
        }
        if let Some(backend) = &self.backend {
            entry["backend"] = backend.clone().into();
        }
        entry.to_string()
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not OPTION=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn namespaced(text: &str) -> Result<(String, (String, String)), String> {
    let (namespace, rest) = text.split_once('/').ok_or("not NAMESPACE/OPTION=VALUE")?;
    Ok((namespace.to_owned(), pair(rest)?))
}
