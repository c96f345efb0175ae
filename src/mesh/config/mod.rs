//! From options as typed to a configuration in which every invariant holds.
//!
//! A value is taken from the command line, else from the environment, else from the env files, else
//! from the mesh's defaults, and is checked here. Nothing behind this module meets text any more.

pub mod env_file;
pub mod facts;
mod given;
mod options;
mod reading;
pub mod resolv_conf;
mod resolve;
mod sources;
mod unknown;
mod values;

pub use facts::{Environment, Facts, Ipv6, TextFile};
pub use given::{Given, Options, Origin};
pub use options::{Config, Opt, SPECS, Spec};
pub use sources::EnvFiles;
pub(in crate::mesh) use sources::misspelt;
pub use unknown::{FactError, Unreadable};
pub use values::{
    BadItem, Mode, Selection, duration as parse_duration, port as parse_port,
    shell_switch as parse_shell_switch, switch as parse_switch,
};

use std::net::IpAddr;
use std::path::PathBuf;
use thiserror::Error;

/// What a mesh has: its name, its options with their defaults, and the files it reads.
#[derive(Debug)]
pub struct Profile {
    pub name: &'static str,
    /// The names of the programs that it replaces; called by one of them, we are that mesh.
    pub called: &'static [&'static str],
    /// The options it has. One that is not listed is bad input on the command line, and is not
    /// looked for anywhere else.
    pub options: &'static [(Opt, DefaultValue)],
    /// What holds although there is no option for it: its chains could say something else, and do
    /// not.
    pub fixed: &'static [(Opt, DefaultValue)],
    /// Whether an address alone or with a netmask may stand for a CIDR: iptables takes it, Istio's
    /// program does not.
    pub bare_addresses: bool,
    /// Whether TPROXY hands packets to the port for outbound TCP whatever $INBOUND_CAPTURE_PORT
    /// says, as Istio 1.0's script does; the flag `-z`, which that has not, moves both ports.
    pub tproxy_to_proxy_port: bool,
    /// What stands between the ends of a range of ports: iptables writes `8000:8100`.
    pub port_ranges: char,
    /// Whether its options may also come from variables, of the environment and of env files.
    pub variables: bool,
    /// Env files that are read when they exist, the weakest first: the variable that holds the
    /// path, and the path when it is not set.
    pub env_files: &'static [(&'static str, &'static str)],
}

impl Profile {
    /// The default of `opt`, or `None` if the mesh has no such option.
    pub fn default_of(&self, opt: Opt) -> Option<DefaultValue> {
        find(self.options, opt)
    }

    /// What holds for `opt`, which is not among the mesh's options, or `None` if its rules know of
    /// no such thing.
    pub fn fixed_value_of(&self, opt: Opt) -> Option<DefaultValue> {
        find(self.fixed, opt)
    }
}

fn find(values: &[(Opt, DefaultValue)], opt: Opt) -> Option<DefaultValue> {
    let found = values.iter().find(|(o, _)| *o == opt);
    found.map(|(_, value)| *value)
}

/// What holds when an option is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// It must be given.
    Required,
    /// This value, read as if it had been typed.
    Value(&'static str),
    /// Whatever the other option is.
    Same(Opt),
    /// The uid of the user that $ENVOY_USER names (istio-proxy), else 1337, and these as well.
    EnvoyUser { and: &'static [u32] },
}

/// DNS capture, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dns {
    /// Queries to any nameserver.
    All,
    /// Queries to these nameservers, at least one, in resolv.conf's order.
    Servers(Vec<IpAddr>),
}

/// TPROXY: how packets are delivered to the proxy's transparent socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tproxy {
    /// The packet mark that the policy route looks for; not 0.
    pub mark: u32,
    /// The routing table with the route to lo.
    pub route_table: u32,
    /// The proxy's port that packets are handed to.
    pub port: u16,
}

/// Input that was refused before anything was touched, or a fact that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// `option` is named as it was typed.
    #[error("{option}: {problem}")]
    BadValue { option: String, problem: String },

    #[error("{option}: mesh {mesh} has no such option")]
    NotInMesh {
        option: String,
        mesh: &'static str,
        /// The meshes that have it.
        having: Vec<&'static str>,
    },

    #[error("mesh {mesh}: required options are missing")]
    Required {
        missing: Vec<Opt>,
        /// Whether the mesh takes them from variables too.
        variables: bool,
        mesh: &'static str,
    },

    /// A fact of the host that cannot be read, which is not the same as its absence.
    #[error(transparent)]
    Fact(FactError),

    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: String },

    /// A file that was named on the command line.
    #[error("{}: no such file", path.display())]
    NoEnvFile { path: PathBuf },

    #[error("{option}: the network namespace has no IPv6")]
    NoIpv6 { option: String },
}

impl ConfigError {
    fn bad_value(given: &Given, problem: impl ToString) -> Self {
        ConfigError::BadValue {
            option: given.to_string(),
            problem: problem.to_string(),
        }
    }

    fn of_item(given: &Given, item: BadItem) -> Self {
        match item.unknown {
            Some(fact @ FactError::NotGathered(_)) => ConfigError::Fact(fact),
            _ => ConfigError::bad_value(given, item),
        }
    }
}
