//! Options, environment, files and defaults become a [`Config`].

use super::facts::Host;
use super::options::{Typed, typed};
use super::reading::Reading;
use super::{Config, ConfigError, DefaultValue, Dns, Given, Mode, Opt, Options, Origin, Profile};
use super::{EnvFiles, Selection, Tproxy, resolv_conf, sources};
use ipnet::IpNet;
use std::io;
use std::path::Path;

/// How many groups `--owner-groups` takes: one rule asks for all of them, and a rule has room for
/// so many matches. The limit is istio-iptables'.
const MAX_OWNER_GROUPS: usize = 64;

/// The uid of Istio's proxy where no user of its name exists.
const ISTIO_PROXY_UID: u32 = 1337;

impl Config {
    /// Resolves what was given on the command line, in env files, by `host` and by the mesh's
    /// defaults. `meshes` are all there are, for the message that says which one has an option.
    pub fn resolve(
        flags: Options,
        env_files: EnvFiles,
        profile: &Profile,
        meshes: &[&Profile],
        host: &dyn Host,
    ) -> Result<Config, ConfigError> {
        for given in flags.iter() {
            if profile.default_of(given.opt).is_none() {
                return Err(not_in_mesh(given, profile, meshes));
            }
        }
        let files = env_files.with_own(profile, host)?;
        let mut options = flags;
        sources::offer_environment(&mut options, profile, host)?;
        sources::offer_files(&mut options, &files, profile);
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
            envoy_user: sources::envoy_user(&files, host)?,
            profile,
            names: Reading {
                host,
                bare_addresses: profile.bare_addresses,
                port_ranges: profile.port_ranges,
            },
        }
        .config()
    }
}

/// The options that must be given and are not. A user who is nobody (`-u ,`) is not given.
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
    let has: Vec<&str> = meshes
        .iter()
        .filter(|m| m.default_of(given.opt).is_some())
        .map(|m| m.name)
        .collect();
    ConfigError::NotInMesh {
        option: given.to_string(),
        mesh: profile.name,
        has: format!("--mesh {} has it", has.join(" or --mesh ")),
    }
}

fn cannot_tell(what: &str, error: io::Error) -> ConfigError {
    ConfigError::CannotTell {
        what: what.to_owned(),
        reason: error.to_string(),
    }
}

fn bad_value(given: &Given, problem: impl ToString) -> ConfigError {
    ConfigError::BadValue {
        option: given.to_string(),
        problem: problem.to_string(),
    }
}

/// Turns text into values, one option at a time.
struct Resolver<'a> {
    options: &'a Options,
    envoy_user: String,
    profile: &'a Profile,
    names: Reading<'a>,
}

impl Resolver<'_> {
    fn config(&self) -> Result<Config, ConfigError> {
        let ipv6 = self.names.host.ipv6();
        let ipv6 = ipv6.map_err(|e| cannot_tell("whether there is IPv6 here", e))?;
        let uids = self.proxy_uids()?;
        let mut config = Config {
            proxy_port: self.value(typed::ProxyPort)?,
            inbound_capture_port: self.value(typed::InboundCapturePort)?,
            inbound_tunnel_port: self.any(typed::InboundTunnelPort)?,
            proxy_gids: self.proxy_gids(&uids)?,
            proxy_uids: uids,
            outbound_cidrs: self.outbound_cidrs()?,
            outbound_exclude_cidrs: self.or_none(typed::OutboundExcludeCidrs)?,
            outbound_ports: self.or_none(typed::OutboundPorts)?,
            outbound_exclude_ports: self.or_none(typed::OutboundExcludePorts)?,
            owner_groups: self.owner_groups()?,
            owner_groups_exclude: self.or_none(typed::OwnerGroupsExclude)?,
            inbound_ports: self.value(typed::InboundPorts)?,
            inbound_exclude_ports: self.or_none(typed::InboundExcludePorts)?,
            inbound_exclude_cidrs: self.or_none(typed::InboundExcludeCidrs)?,
            enable_inbound_ipv6: self.or_none(typed::EnableInboundIpv6)?,
            tproxy: self.tproxy()?,
            exclude_interfaces: self.or_none(typed::ExcludeInterfaces)?,
            virtual_interfaces: self.or_none(typed::VirtualInterfaces)?,
            dns: self.dns()?,
            drop_invalid: self.or_none(typed::DropInvalid)?,
            dual_stack: self.or_none(typed::DualStack)?,
            has_ipv6: ipv6.enabled,
            has_ipv6_on_loopback: ipv6.on_loopback,
            has_global_ipv6: ipv6.is_global(),
            loopback_cidr: self.value(typed::LoopbackCidr)?,
        };
        let asked_for = config.dual_stack && self.options.get(Opt::DualStack).is_some();
        if asked_for && !config.has_ipv6 {
            return Err(ConfigError::NoIpv6);
        }
        // A mesh that has it by default does without where there is none.
        config.dual_stack &= config.has_ipv6;
        if asked_for && !config.has_global_ipv6 {
            log::info!("--dual-stack: no interface has a global IPv6 address");
        }
        Ok(config)
    }

    /// What was given for `opt`, else what holds in this mesh without it; `None` if the mesh knows
    /// nothing of it.
    fn given(&self, opt: Opt) -> Result<Option<Given>, ConfigError> {
        if let Some(given) = self.options.get(opt).filter(|given| !given.is_unset()) {
            return Ok(Some(given.clone()));
        }
        let holds = self.profile.default_of(opt);
        let value = match holds.or_else(|| self.profile.fixed_value_of(opt)) {
            None => return Ok(None),
            Some(DefaultValue::Value(text)) => text,
            Some(DefaultValue::Same(other)) => return self.given(other),
            Some(DefaultValue::Required) => return Err(self.required(opt)),
            Some(DefaultValue::EnvoyUser { .. }) => "",
        };
        Ok(Some(Given {
            opt,
            value: value.to_owned(),
            origin: Origin::Default,
        }))
    }

    fn required(&self, opt: Opt) -> ConfigError {
        ConfigError::Required {
            missing: vec![opt],
            variables: self.profile.variables,
            mesh: self.profile.name,
        }
    }

    /// The option's value; `None` if the mesh knows nothing of it.
    fn any<O: Typed>(&self, _: O) -> Result<Option<O::Value>, ConfigError> {
        let Some(given) = self.given(O::OPT)? else {
            return Ok(None);
        };
        log::trace!(
            "{}: {:?} ({})",
            O::OPT.spec().long,
            given.value,
            given.origin
        );
        let value = O::parse(&given.value, &self.names).map_err(|e| bad_value(&given, e))?;
        Ok(Some(value))
    }

    /// The value of an option that every mesh has or fixes.
    fn value<O: Typed>(&self, option: O) -> Result<O::Value, ConfigError> {
        let value = self.any(option)?;
        Ok(value.unwrap_or_else(|| panic!("{} says nothing of {:?}", self.profile.name, O::OPT)))
    }

    /// A list or a switch. A mesh without the option does nothing of the kind: the list is empty,
    /// the switch is off.
    fn or_none<O: Typed<Value: Default>>(&self, option: O) -> Result<O::Value, ConfigError> {
        Ok(self.any(option)?.unwrap_or_default())
    }

    /// The list given, or the mesh's default where it is absent or empty.
    fn proxy_uids(&self) -> Result<Vec<u32>, ConfigError> {
        let uids = self.value(typed::ProxyUid)?;
        match self.profile.default_of(Opt::ProxyUid) {
            _ if !uids.is_empty() => {
                self.warn_of_root(&uids);
                Ok(uids)
            }
            Some(DefaultValue::EnvoyUser { and }) => {
                let user = self.names.user(&self.envoy_user);
                let user = user.map_err(|e| {
                    let what = format!("the uid of {:?}, the proxy's user", self.envoy_user);
                    cannot_tell(&what, e)
                })?;
                let mut uids = vec![user.unwrap_or(ISTIO_PROXY_UID)];
                uids.extend(and);
                Ok(uids)
            }
            // A proxy that is known by its group alone.
            _ if !self.or_none(typed::ProxyGid)?.is_empty() => Ok(uids),
            _ => Err(self.required(Opt::ProxyUid)),
        }
    }

    fn warn_of_root(&self, uids: &[u32]) {
        if let Some(given) = self
            .options
            .get(Opt::ProxyUid)
            .filter(|_| uids.contains(&0))
        {
            log::warn!("{given}: whatever runs as root (uid 0) is left alone, not only the proxy");
        }
    }

    /// The list given; where it is absent or empty, and the default is that of the users, their
    /// numbers: these, not their names, which would be other groups'.
    fn proxy_gids(&self, uids: &[u32]) -> Result<Vec<u32>, ConfigError> {
        let given = self.options.get(Opt::ProxyGid).filter(|g| !g.is_unset());
        let gids = match given {
            Some(_) => self.or_none(typed::ProxyGid)?,
            None => Vec::new(),
        };
        let same = Some(DefaultValue::Same(Opt::ProxyUid));
        let as_users = self.profile.default_of(Opt::ProxyGid) == same;
        Ok(match as_users && gids.is_empty() {
            true => uids.to_vec(),
            false => gids,
        })
    }

    /// Mark and table are checked even where nothing uses them.
    fn tproxy(&self) -> Result<Option<Tproxy>, ConfigError> {
        let mark = self.any(typed::TproxyMark)?;
        let table = self.any(typed::TproxyRouteTable)?;
        Ok(match (self.any(typed::Mode)?, mark, table) {
            (Some(Mode::Tproxy), Some(mark), Some(route_table)) => Some(Tproxy {
                mark,
                route_table,
                port: self.tproxy_port()?,
            }),
            _ => None,
        })
    }

    fn tproxy_port(&self) -> Result<u16, ConfigError> {
        let given = self.options.get(Opt::InboundCapturePort);
        let by_flag = given.is_some_and(|g| matches!(g.origin, Origin::Flag(_)));
        match self.profile.tproxy_to_proxy_port && !by_flag {
            true => self.value(typed::ProxyPort),
            false => self.value(typed::InboundCapturePort),
        }
    }

    fn owner_groups(&self) -> Result<Selection<u32>, ConfigError> {
        let groups = self.value(typed::OwnerGroups)?;
        match (&groups, self.options.get(Opt::OwnerGroups)) {
            (Selection::Only(list), Some(given)) if list.len() > MAX_OWNER_GROUPS => {
                let problem = format!(
                    "{} groups are more than one rule can ask for ({MAX_OWNER_GROUPS})",
                    list.len()
                );
                Err(bad_value(given, problem))
            }
            _ => Ok(groups),
        }
    }

    /// An empty list means the default where that is "all", as in prepare_proxy.sh.
    fn outbound_cidrs(&self) -> Result<Selection<IpNet>, ConfigError> {
        let cidrs = self.value(typed::OutboundCidrs)?;
        let all = self.profile.default_of(Opt::OutboundCidrs) == Some(DefaultValue::Value("*"));
        Ok(if all && cidrs.is_none() {
            Selection::All
        } else {
            cidrs
        })
    }

    fn dns(&self) -> Result<Option<Dns>, ConfigError> {
        let redirect = self.or_none(typed::RedirectDns)?;
        let all = self.or_none(typed::CaptureAllDns)?;
        match (redirect, all) {
            (false, _) => Ok(None),
            (true, true) => Ok(Some(Dns::All)),
            (true, false) => {
                let path = Path::new(resolv_conf::PATH);
                let text = self
                    .names
                    .host
                    .file(path)
                    .map_err(|e| sources::file_error(path, e))?;
                let servers = resolv_conf::nameservers(&text);
                if servers.is_empty() {
                    log::warn!(
                        "{} names no nameserver: DNS is not redirected",
                        resolv_conf::PATH
                    );
                    return Ok(None);
                }
                Ok(Some(Dns::Servers(servers)))
            }
        }
    }
}
