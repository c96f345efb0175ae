//! The meshes: a folder each, pure functions from a [`Config`] to a [`Ruleset`].
//!
//! A new mesh is a new folder here and its name in [`MESHES`].

pub mod annotations;
pub mod compat;
pub mod config;
mod istio;
mod istio_1_0;
mod linkerd;
pub(crate) mod managed;
mod nginmesh;
mod resolve;
mod shared;
pub(crate) mod signature;
mod warnings;
mod yaml;

pub use resolve::{Resolved, resolve};
pub use warnings::Warning;
pub(crate) use warnings::{captures, with_rules};

use crate::mesh::annotations::Annotations;
use crate::mesh::compat::CommandLine;
use crate::mesh::config::{Config, Opt, Profile};
use crate::mesh::signature::Signature;
use crate::netfilter::model::{Chain, ChainName, Family, Ruleset};
use ipnet::IpNet;

/// All meshes; the first one is the default.
pub static MESHES: [&Mesh; 4] = [
    &nginmesh::MESH,
    &istio_1_0::MESH,
    &istio::MESH,
    &linkerd::MESH,
];

/// A data plane, and the rules that it wants.
#[derive(Debug)]
pub struct Mesh {
    pub profile: Profile,
    /// How its chains and comments are known.
    pub signature: &'static Signature,
    /// Whether it adds an IPv6 address to lo, see `managed::PASSTHROUGH`.
    pub adds_loopback_address: bool,
    /// The command line of the tool that it replaces, where our own is not the same.
    pub command_line: Option<&'static CommandLine>,
    /// Everything wanted, for every family that the configuration calls for; the comments are not
    /// labelled yet.
    rules: fn(&Config) -> Ruleset,
    /// What its injector tells a CNI plugin, if there is such an injector.
    pub annotations: Option<&'static Annotations>,
}

impl Mesh {
    /// Everything wanted, for every family that the configuration calls for.
    pub fn ruleset(&self, config: &Config) -> Ruleset {
        let mut ruleset = (self.rules)(config);
        if config.prerouting_first {
            let chains = ruleset.tables.iter_mut().flat_map(|t| &mut t.chains);
            let prerouting = chains.filter(|c| c.name == ChainName::PREROUTING);
            prerouting.for_each(Chain::keep_first);
        }
        ruleset.labelled(self.signature.comments)
    }

    /// The mesh called `name`.
    pub fn named(name: &str) -> Option<&'static Mesh> {
        MESHES.into_iter().find(|m| m.profile.name == name)
    }

    /// The mesh one of whose tools is called `program`.
    pub fn replacing(program: &str) -> Option<&'static Mesh> {
        MESHES
            .into_iter()
            .find(|m| m.profile.called.contains(&program))
    }

    /// The names of the meshes that have `opt`.
    pub fn having(opt: Opt) -> impl Iterator<Item = &'static str> {
        MESHES
            .into_iter()
            .filter(move |m| m.profile.default_of(opt).is_some())
            .map(|m| m.profile.name)
    }
}

impl Config {
    /// What counts as explicit loopback in a family.
    fn loopback(&self, family: Family) -> IpNet {
        match family {
            Family::V4 => self.loopback_cidr.into(),
            Family::V6 => IpNet::from(std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST)),
        }
    }
}

/// The prefixes of one family, in their order and without host bits.
fn of_family(nets: &[IpNet], family: Family) -> impl Iterator<Item = IpNet> {
    nets.iter()
        .map(IpNet::trunc)
        .filter(move |net| Family::of(net.addr()) == family)
}
