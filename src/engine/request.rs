//! The request that an action gets, and its resolution on this host.

use crate::engine::backends::BackendChoice;
use crate::engine::error::Error;
use crate::engine::host;
use crate::mesh::config::{ConfigError, FactError, Facts, Options, TextFile};
use crate::mesh::{self, Mesh, Resolved};
use crate::netfilter::netlink::Socket;
use crate::netfilter::rtnetlink::Router;
use std::io;
use std::path::{Path, PathBuf};

/// Options as typed. Every front end makes one.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The mesh, if named by option or by the name of the program; otherwise the environment names
    /// it.
    pub mesh: Option<&'static Mesh>,
    pub options: Options,
    pub env_files: Vec<PathBuf>,
    pub backend: BackendChoice,
    /// The network namespace to enter, a file such as /run/netns/NAME.
    pub network_namespace: Option<PathBuf>,
    pub allow_host_network: bool,
    /// Facts known in advance; [`Request::resolve`] reads the others. A front end that acts for
    /// another host, such as a CNI plugin, fills it.
    pub facts: Facts,
}

impl Request {
    /// Returns the configuration, the desired ruleset and the facts that they were made from.
    ///
    /// # Errors
    /// [`Error::Config`] for bad input; [`Error::Routing`] if the kernel does not list addresses.
    pub fn resolve(&self, router: &mut Router<Socket>) -> Result<(Resolved, Facts), Error> {
        let mut facts = self.facts.clone();
        if facts.ipv6.is_none() {
            facts.ipv6 = Some(host::ipv6(router)?);
        }
        let resolved = self.resolve_on_host(&mut facts, router)?;
        Ok((resolved, facts))
    }

    /// Whether a resolution has failed because nothing asks for any rules: no mesh and no option of one,
    /// nor enough of them by variables.
    pub(crate) fn asks_for_nothing(&self, failure: &Error) -> bool {
        let given = self.mesh.is_some() || self.options.iter().next().is_some();
        !given && matches!(failure, Error::Config(ConfigError::Required { .. }))
    }

    /// Resolves with `facts`; the host adds what is missing.
    pub(crate) fn resolve_on_host(
        &self,
        facts: &mut Facts,
        router: &mut Router<Socket>,
    ) -> Result<Resolved, Error> {
        let resolved = self.resolve_with(facts, host::file)?;
        if resolved.config.dns.is_none() {
            return Ok(resolved);
        }
        facts.bridges = host::bridges(router)?;
        Ok(self.resolve_with(facts, host::file)?)
    }

    /// Resolves with `facts`, adding missing ones by `read`.
    ///
    /// # Errors
    /// [`ConfigError`] for bad input.
    pub fn resolve_with(
        &self,
        facts: &mut Facts,
        read: impl Fn(&Path) -> io::Result<TextFile>,
    ) -> Result<Resolved, ConfigError> {
        gather(facts, read, |facts| {
            mesh::resolve(self.mesh, &self.options, &self.env_files, facts)
        })
    }
}

/// Calls `make` until no fact is missing; each missing file is read once.
pub fn gather<T>(
    facts: &mut Facts,
    read: impl Fn(&Path) -> io::Result<TextFile>,
    make: impl Fn(&Facts) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    loop {
        match make(facts) {
            Err(ConfigError::Fact(FactError::NotGathered(path))) => {
                let text = read(&path);
                facts.learn(path, text);
            }
            made => return made,
        }
    }
}
