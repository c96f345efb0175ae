//! Options, environment, files and defaults become a [`Config`].

use super::facts::Facts;
use super::reading::{Reading, Resolver};
use super::unknown::FactError;
use super::values::Mode;
use super::{Config, ConfigError, DefaultValue, Dns, Given, Opt, Options, Origin, Profile};
use super::{EnvFiles, Selection, Tproxy, resolv_conf, sources};
use crate::netfilter::model::Interface;
use std::path::Path;

/// The most groups that `--owner-groups` takes: one rule has a match for each of them, and a rule has
/// room for so many. The limit is istio-iptables'.
const MAX_OWNER_GROUPS: usize = 64;

/// The uid of Istio's proxy where no user of its name exists.
const ISTIO_PROXY_UID: u32 = 1337;

impl Config {
    /// Resolves what was given on the command line, in env files, in the environment and by the
    /// mesh's defaults; the files include the mesh's own. `meshes` are all there are, for the error that says which one has an option.
    ///
    /// # Errors
    /// Bad input; or a fact that is not known, see [`FactError`].
    pub fn resolve(
        flags: Options,
        env_files: &EnvFiles,
        profile: &Profile,
        meshes: &[&Profile],
        facts: &Facts,
    ) -> Result<Config, ConfigError> {
        for given in flags.iter() {
            if profile.default_of(given.opt).is_none() {
                return Err(not_in_mesh(given, profile, meshes));
            }
        }
        let mut options = flags;
        sources::offer_environment(&mut options, profile, facts)?;
        sources::offer_files(&mut options, env_files, profile, facts)?;
        let missing = missing(&options, profile);
        if !missing.is_empty() {
            return Err(ConfigError::Required {
                variables: profile.variables,
                missing,
                mesh: profile.name,
            });
        }
        Resolver {
            options: &options,
            envoy_user: sources::envoy_user(env_files, facts)?,
            reading: Reading { facts, profile },
        }
        .config()
    }
}

/// The options that must be given and are not. A user list without a user (`-u ,`) is not given.
fn missing(options: &Options, profile: &Profile) -> Vec<Opt> {
    let is_there = |opt| {
        let value = options.get(opt).filter(|given| !given.is_unset());
        value.is_some_and(|given| opt != Opt::ProxyUid || !given.value.trim_matches(',').is_empty())
    };
    let required = profile.options.iter();
    let required = required.filter(|(_, default)| *default == DefaultValue::Required);
    required
        .map(|(opt, _)| *opt)
        .filter(|opt| !is_there(*opt))
        .collect()
}

fn not_in_mesh(given: &Given, profile: &Profile, meshes: &[&Profile]) -> ConfigError {
    let having = meshes.iter().filter(|m| m.default_of(given.opt).is_some());
    ConfigError::NotInMesh {
        option: given.to_string(),
        mesh: profile.name,
        having: having.map(|m| m.name).collect(),
    }
}

/// What depends on several options, or on facts.
impl Resolver<'_> {
    fn config(&self) -> Result<Config, ConfigError> {
        let mut config = self.fields()?;
        self.proxy_users(&mut config)?;
        self.owner_groups(&config)?;
        // An empty list means the default where that is "all", as in prepare_proxy.sh.
        if self.default_of(Opt::OutboundCidrs) == Some(DefaultValue::Value("*"))
            && config.outbound_cidrs.is_none()
        {
            config.outbound_cidrs = Selection::All;
        }
        config.tproxy = self.tproxy(&config);
        config.dns = self.dns(&config)?;
        config.docker_dns = self.docker_dns(&config)?;
        config.dns_passes = self.dns_passes(&config);
        self.dual_stack(&mut config)?;
        Ok(config)
    }

    fn default_of(&self, opt: Opt) -> Option<DefaultValue> {
        self.reading.profile.default_of(opt)
    }

    fn was_given(&self, opt: Opt) -> bool {
        self.options.get(opt).is_some_and(|given| !given.is_unset())
    }

    /// Users: the list given, or the mesh's default where it is absent or empty. Groups: where they
    /// are absent or empty and the default is that of the users, the users' numbers, not their names,
    /// which would be other groups'.
    fn proxy_users(&self, config: &mut Config) -> Result<(), ConfigError> {
        if !self.was_given(Opt::ProxyGid) {
            config.proxy_gids.clear();
        }
        if config.proxy_uids.is_empty() {
            config.proxy_uids = match self.default_of(Opt::ProxyUid) {
                Some(DefaultValue::EnvoyUser { and }) => {
                    let user = self.reading.user(&self.envoy_user)?;
                    let user = user.unwrap_or(ISTIO_PROXY_UID);
                    [&[user], and].concat()
                }
                // A proxy that is known by its group alone.
                _ if !config.proxy_gids.is_empty() => Vec::new(),
                _ => return Err(self.required(Opt::ProxyUid)),
            };
        }
        let same = Some(DefaultValue::Same(Opt::ProxyUid));
        if config.proxy_gids.is_empty() && self.default_of(Opt::ProxyGid) == same {
            config.proxy_gids.clone_from(&config.proxy_uids);
        }
        Ok(())
    }

    fn owner_groups(&self, config: &Config) -> Result<(), ConfigError> {
        match (&config.owner_groups, self.options.get(Opt::OwnerGroups)) {
            (Selection::Only(list), Some(given)) if list.len() > MAX_OWNER_GROUPS => {
                let problem = format!(
                    "{} groups are more than one rule can match ({MAX_OWNER_GROUPS})",
                    list.len()
                );
                Err(ConfigError::bad_value(given, problem))
            }
            _ => Ok(()),
        }
    }

    fn tproxy(&self, config: &Config) -> Option<Tproxy> {
        let (Some(mark), Some(route_table)) = (config.tproxy_mark, config.tproxy_route_table)
        else {
            return None;
        };
        let given = self.options.get(Opt::InboundCapturePort);
        let by_flag = given.is_some_and(|g| matches!(g.origin, Origin::Flag(_)));
        let port = match self.reading.profile.tproxy_to_proxy_port && !by_flag {
            true => config.proxy_port,
            false => config.inbound_capture_port,
        };
        (config.mode == Some(Mode::Tproxy)).then_some(Tproxy {
            mark,
            route_table,
            port,
        })
    }

    /// With no nameserver, nothing is captured: [`super::Config::redirect_dns`] stays on, and a
    /// warning says so.
    fn dns(&self, config: &Config) -> Result<Option<Dns>, ConfigError> {
        match (config.redirect_dns, config.capture_all_dns) {
            (false, _) => Ok(None),
            (true, true) => Ok(Some(Dns::All)),
            (true, false) => {
                let path = Path::new(resolv_conf::PATH);
                let absent = || ConfigError::File {
                    path: path.to_owned(),
                    problem: "no such file".to_owned(),
                };
                let text = self.reading.facts.file(path)?.ok_or_else(absent)?;
                let servers = resolv_conf::nameservers(text);
                Ok((!servers.is_empty()).then_some(Dns::Servers(servers)))
            }
        }
    }

    /// Whether DNS is captured that docker's nameserver answers.
    fn docker_dns(&self, config: &Config) -> Result<bool, ConfigError> {
        if config.dns.is_none() {
            return Ok(false);
        }
        match self.reading.facts.file(Path::new(resolv_conf::PATH)) {
            Err(FactError::Unreadable { .. }) => Ok(false),
            text => Ok(text?.is_some_and(resolv_conf::names_docker)),
        }
    }

    /// The interfaces that are exempt, those of virtual machines, and bridges.
    fn dns_passes(&self, config: &Config) -> Vec<Interface> {
        if config.dns.is_none() {
            return Vec::new();
        }
        let named = [&config.exclude_interfaces, &config.virtual_interfaces];
        let mut all: Vec<Interface> = Vec::new();
        for name in named
            .into_iter()
            .flatten()
            .chain(&self.reading.facts.bridges)
        {
            if !all.contains(name) {
                all.push(name.clone());
            }
        }
        all
    }

    /// Asked for by name it must be there; a mesh that has it by default does without.
    fn dual_stack(&self, config: &mut Config) -> Result<(), ConfigError> {
        match self.options.get(Opt::DualStack) {
            Some(given) if config.dual_stack && !config.ipv6.enabled => Err(ConfigError::NoIpv6 {
                option: given.to_string(),
            }),
            _ => {
                config.dual_stack &= config.ipv6.enabled;
                Ok(())
            }
        }
    }
}

impl From<FactError> for ConfigError {
    fn from(error: FactError) -> Self {
        ConfigError::Fact(error)
    }
}
