//! The meshes: one file each, pure functions from a [`Config`] to a [`Ruleset`].
//!
//! A new mesh is a new file here and a line in [`MESHES`].

mod istio;
mod istio_1_0;
mod nginmesh;
mod shared;

pub use istio::MESH as ISTIO;
pub use shared::INBOUND;

use crate::config::{Config, Opt, Profile};
use crate::ruleset::{ChainName, Family, Rule, Ruleset, TableName};
use ipnet::IpNet;

/// All meshes; the first one is the default.
pub static MESHES: [&Mesh; 3] = [&nginmesh::MESH, &istio_1_0::MESH, &istio::MESH];

/// The mark and the routing table of TPROXY where no other ones were asked for.
pub const TPROXY_MARK_AND_TABLE: (u32, u32) = (1337, 133);

/// A data plane, and the rules that it wants.
#[derive(Debug)]
pub struct Mesh {
    pub profile: Profile,
    /// Everything wanted, for every family that the configuration calls for.
    pub ruleset: fn(&Config) -> Ruleset,
    /// Whether this mesh, or the tool it replaces, writes such a rule into a base chain: for rules
    /// that neither carry one of our comments nor jump to one of our chains.
    pub writes: fn(TableName, &ChainName, &Rule) -> bool,
    /// What the tool replaced makes of a base chain that it flushes first, or nothing.
    pub begins: fn(Family, TableName, &ChainName) -> Vec<Rule>,
}

impl Mesh {
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

/// Whether some mesh writes such a rule into a base chain, see [`Mesh::writes`].
pub fn any_writes(table: TableName, chain: &ChainName, rule: &Rule) -> bool {
    MESHES.iter().any(|m| (m.writes)(table, chain, rule))
}

/// What the tools replaced leave in a base chain that they have flushed, see [`Mesh::begins`].
pub fn beginnings(family: Family, table: TableName, chain: &ChainName) -> Vec<Vec<Rule>> {
    let begins = MESHES.iter().map(|m| (m.begins)(family, table, chain));
    begins.filter(|rules| !rules.is_empty()).collect()
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
