//! Options, environment, files and defaults become a [`Config`].

use super::facts::{self, Host};
use super::values::{self, BadItem};
use super::{
    Config, ConfigError, DefaultValue, Dns, Given, Opt, Options, Origin, Profile, Selection,
};
use super::{resolv_conf, sources};
use ipnet::{IpNet, Ipv4Net};
use std::path::{Path, PathBuf};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// How many groups `--owner-groups` takes: one rule asks for all of them, and a rule has room for
/// so many matches. The limit is istio-iptables'.
const MAX_OWNER_GROUPS: usize = 64;

/// The uid of Istio's proxy where no user of its name exists.
const ISTIO_PROXY_UID: u32 = 1337;

impl Config {
    /// Resolves what was given on the command line, in `env_files` (the weakest first; a leading
    /// `-` means "if it exists"), by `host` and by the mesh's defaults. `meshes` are all there are,
    /// for the message that says which one has an option.
    pub fn resolve(
        flags: Options,
        env_files: &[PathBuf],
        profile: &Profile,
        meshes: &[&Profile],
        host: &dyn Host,
    ) -> Result<Config, ConfigError> {
        for given in flags.iter() {
            if profile.default_of(given.opt).is_none() {
                return Err(not_in_mesh(given, profile, meshes));
            }
        }
        let files = sources::read_files(env_files, profile, host)?;
        let mut options = flags;
        sources::offer_environment(&mut options, profile, host)?;
        sources::offer_files(&mut options, &files, profile);
        Resolver {
            options: &options,
            envoy_user: sources::envoy_user(&files, host),
            profile,
            host,
        }
        .config()
    }
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
    host: &'a dyn Host,
}

impl Resolver<'_> {
    fn config(&self) -> Result<Config, ConfigError> {
        let ipv6 = facts::ipv6(self.host);
        let uids = self.proxy_uids()?;
        let config = Config {
            proxy_port: self.value(Opt::ProxyPort, values::port)?,
            inbound_capture_port: self.value(Opt::InboundCapturePort, values::port)?,
            inbound_tunnel_port: self.value(Opt::InboundTunnelPort, values::port)?,
            proxy_gids: self.proxy_gids(&uids)?,
            proxy_uids: uids,
            outbound_cidrs: self.outbound_cidrs()?,
            outbound_exclude_cidrs: self.list(Opt::OutboundExcludeCidrs, self.cidr())?,
            outbound_ports: self.list(Opt::OutboundPorts, values::port_range)?,
            outbound_exclude_ports: self.list(Opt::OutboundExcludePorts, values::port_range)?,
            owner_groups: self.owner_groups()?,
            owner_groups_exclude: self.list(Opt::OwnerGroupsExclude, |t| self.gid(t))?,
            inbound_ports: self.selection(Opt::InboundPorts, values::port_range)?,
            inbound_exclude_ports: self.list(Opt::InboundExcludePorts, values::port_range)?,
            enable_inbound_ipv6: self.value(Opt::EnableInboundIpv6, values::shell_switch)?,
            mode: self.value(Opt::Mode, values::mode)?,
            tproxy_mark: self.value(Opt::TproxyMark, values::mark)?,
            tproxy_route_table: self.value(Opt::TproxyRouteTable, values::route_table)?,
            exclude_interfaces: self.list(Opt::ExcludeInterfaces, values::interface)?,
            virtual_interfaces: self.list(Opt::VirtualInterfaces, values::interface)?,
            dns: self.dns()?,
            drop_invalid: self.value(Opt::DropInvalid, values::switch)?,
            dual_stack: self.value(Opt::DualStack, values::switch)?,
            has_ipv6: ipv6.enabled,
            has_global_ipv6: ipv6.global,
            loopback_cidr: self.value(Opt::LoopbackCidr, loopback)?,
        };
        if config.dual_stack && !config.has_ipv6 {
            return Err(ConfigError::NoIpv6);
        }
        if config.dual_stack && !config.has_global_ipv6 {
            log::info!("--dual-stack: no interface has a global IPv6 address");
        }
        Ok(config)
    }

    /// What was given for `opt`, or the text of its default. An option that the mesh does not have
    /// gets a harmless value, which the mesh never looks at.
    fn given(&self, opt: Opt) -> Result<Given, ConfigError> {
        if let Some(given) = self.options.get(opt).filter(|given| !given.is_unset()) {
            return Ok(given.clone());
        }
        let default = match self.profile.default_of(opt) {
            Some(DefaultValue::Value(text)) => text,
            Some(DefaultValue::Same(other)) => return self.given(other),
            Some(DefaultValue::Required) => return Err(self.required(opt)),
            Some(DefaultValue::EnvoyUser { .. }) => "",
            // A mesh with one port for everything.
            None if opt == Opt::InboundCapturePort => return self.given(Opt::ProxyPort),
            None => unused(opt),
        };
        Ok(Given {
            opt,
            value: default.to_owned(),
            origin: Origin::Default,
        })
    }

    fn required(&self, opt: Opt) -> ConfigError {
        let spec = opt.spec();
        ConfigError::Required {
            long: spec.long,
            short: spec.short.unwrap_or('-'),
            env: spec.env[0],
            mesh: self.profile.name,
        }
    }

    fn value<T>(
        &self,
        opt: Opt,
        parse: impl Fn(&str) -> Result<T, BadItem>,
    ) -> Result<T, ConfigError> {
        let given = self.given(opt)?;
        parse(&given.value).map_err(|e| bad_value(&given, e))
    }

    fn list<T>(
        &self,
        opt: Opt,
        item: impl Fn(&str) -> Result<T, BadItem>,
    ) -> Result<Vec<T>, ConfigError> {
        self.value(opt, |text| values::list(text, &item))
    }

    fn selection<T>(
        &self,
        opt: Opt,
        item: impl Fn(&str) -> Result<T, BadItem>,
    ) -> Result<Selection<T>, ConfigError> {
        self.value(opt, |text| values::selection(text, &item))
    }

    fn uid(&self, text: &str) -> Result<u32, BadItem> {
        values::id(text, "UID", |name| facts::look_up(self.host, PASSWD, name))
    }

    fn gid(&self, text: &str) -> Result<u32, BadItem> {
        values::id(text, "GID", |name| facts::look_up(self.host, GROUP, name))
    }

    /// The list given, or the mesh's default where it is absent or empty.
    fn proxy_uids(&self) -> Result<Vec<u32>, ConfigError> {
        let uids = self.list(Opt::ProxyUid, |t| self.uid(t))?;
        match self.profile.default_of(Opt::ProxyUid) {
            _ if !uids.is_empty() => Ok(uids),
            Some(DefaultValue::EnvoyUser { and }) => {
                let user = facts::look_up(self.host, PASSWD, &self.envoy_user);
                let mut uids = vec![user.unwrap_or(ISTIO_PROXY_UID)];
                uids.extend(and);
                Ok(uids)
            }
            _ => Err(self.required(Opt::ProxyUid)),
        }
    }

    /// The list given, or the numbers of the users where it is absent or empty.
    fn proxy_gids(&self, uids: &[u32]) -> Result<Vec<u32>, ConfigError> {
        let gids = match self.options.get(Opt::ProxyGid) {
            Some(_) => self.list(Opt::ProxyGid, |t| self.gid(t))?,
            None => Vec::new(),
        };
        Ok(if gids.is_empty() { uids.to_vec() } else { gids })
    }

    fn owner_groups(&self) -> Result<Selection<u32>, ConfigError> {
        let groups = self.selection(Opt::OwnerGroups, |t| self.gid(t))?;
        match &groups {
            Selection::Only(list) if list.len() > MAX_OWNER_GROUPS => {
                let problem = format!(
                    "{} groups are more than one rule can ask for ({MAX_OWNER_GROUPS})",
                    list.len()
                );
                Err(bad_value(&self.given(Opt::OwnerGroups)?, problem))
            }
            _ => Ok(groups),
        }
    }

    /// How a CIDR may be written for this mesh.
    fn cidr(&self) -> fn(&str) -> Result<IpNet, BadItem> {
        match self.profile.bare_addresses {
            true => values::cidr_or_address,
            false => values::cidr,
        }
    }

    /// An empty list means the default where that is "all", as in prepare_proxy.sh.
    fn outbound_cidrs(&self) -> Result<Selection<IpNet>, ConfigError> {
        let cidrs = self.selection(Opt::OutboundCidrs, self.cidr())?;
        let all = self.profile.default_of(Opt::OutboundCidrs) == Some(DefaultValue::Value("*"));
        Ok(if all && cidrs.is_none() {
            Selection::All
        } else {
            cidrs
        })
    }

    fn dns(&self) -> Result<Option<Dns>, ConfigError> {
        let redirect = self.value(Opt::RedirectDns, values::switch)?;
        let all = self.value(Opt::CaptureAllDns, values::switch)?;
        match (redirect, all) {
            (false, _) => Ok(None),
            (true, true) => Ok(Some(Dns::All)),
            (true, false) => {
                let path = Path::new(RESOLV_CONF);
                let text = self
                    .host
                    .file(path)
                    .map_err(|e| sources::file_error(path, e))?;
                let servers = resolv_conf::nameservers(&text);
                if servers.is_empty() {
                    log::warn!("{RESOLV_CONF} names no nameserver: DNS is not redirected");
                    return Ok(None);
                }
                Ok(Some(Dns::Servers(servers)))
            }
        }
    }
}

/// A value for an option that the mesh does not have, so that a [`Config`] is always whole.
fn unused(opt: Opt) -> &'static str {
    match opt {
        Opt::InboundTunnelPort | Opt::TproxyMark | Opt::TproxyRouteTable => "1",
        Opt::OutboundCidrs | Opt::OwnerGroups | Opt::InboundPorts => "*",
        Opt::Mode => "REDIRECT",
        Opt::LoopbackCidr => "127.0.0.1/32",
        Opt::EnableInboundIpv6
        | Opt::RedirectDns
        | Opt::CaptureAllDns
        | Opt::DropInvalid
        | Opt::DualStack => "false",
        _ => "",
    }
}

/// An IPv4 prefix within 127.0.0.0/8.
fn loopback(text: &str) -> Result<Ipv4Net, BadItem> {
    let all = Ipv4Net::new_assert([127, 0, 0, 0].into(), 8);
    match values::cidr(text) {
        Ok(IpNet::V4(net)) if all.contains(&net) => Ok(net.trunc()),
        _ => Err(BadItem::new(text, "a CIDR within 127.0.0.0/8")),
    }
}
