//! Options, environment, files and defaults become a [`Config`].

use super::facts::{self, Host};
use super::values::{self, BadItem};
use super::{Config, ConfigError, Default, Dns, Given, Opt, Options, Origin, Profile, SPECS};
use super::{Selection, env_file};
use ipnet::{IpNet, Ipv4Net};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

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
        let mut options = flags;
        offer_environment(&mut options, profile, host)?;
        offer_files(&mut options, env_files, profile, host)?;
        Resolver {
            options: &options,
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

/// Adds what the environment says; an empty variable counts as unset, as it does for the tools
/// replaced.
fn offer_environment(
    options: &mut Options,
    profile: &Profile,
    host: &dyn Host,
) -> Result<(), ConfigError> {
    for (opt, name) in variables(profile) {
        let Some(value) = host.env(name).filter(|v| !v.is_empty()) else {
            continue;
        };
        let value = value.into_string().map_err(|_| ConfigError::BadValue {
            option: name.to_owned(),
            problem: "the value is not UTF-8".to_owned(),
        })?;
        let origin = Origin::Env(name);
        options.offer(Given { opt, value, origin });
    }
    Ok(())
}

/// Every variable that means something to this mesh.
fn variables(profile: &Profile) -> impl Iterator<Item = (Opt, &'static str)> {
    SPECS
        .iter()
        .filter(|s| profile.default_of(s.opt).is_some())
        .flat_map(|s| s.env.iter().map(|name| (s.opt, *name)))
}

/// Adds what the env files say: those of the command line are stronger than the mesh's own.
fn offer_files(
    options: &mut Options,
    env_files: &[PathBuf],
    profile: &Profile,
    host: &dyn Host,
) -> Result<(), ConfigError> {
    let own = profile.env_files.iter().map(|(variable, path)| {
        let path = host
            .env(variable)
            .map_or(PathBuf::from(path), PathBuf::from);
        (path, true)
    });
    let named = env_files.iter().map(|path| optional(path));
    let files: Vec<(PathBuf, bool)> = own.chain(named).collect();
    for (path, optional) in files.into_iter().rev() {
        let text = match host.file(&path) {
            Ok(text) => text,
            Err(e) if optional && e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(file_error(&path, e)),
        };
        let assignments = env_file::parse(&text).map_err(|e| file_error(&path, e))?;
        for (name, value) in assignments.into_iter().rev() {
            let found = variables(profile).find(|(_, variable)| *variable == name);
            if let Some((opt, name)) = found.filter(|_| !value.is_empty()) {
                let origin = Origin::File(name, path.clone());
                options.offer(Given { opt, value, origin });
            }
        }
    }
    Ok(())
}

/// A path of `--env-file`, and whether the file may be absent (a leading `-`, as in systemd).
fn optional(path: &Path) -> (PathBuf, bool) {
    match path.to_str().and_then(|p| p.strip_prefix('-')) {
        Some(rest) => (PathBuf::from(rest), true),
        None => (path.to_owned(), false),
    }
}

fn file_error(path: &Path, problem: impl ToString) -> ConfigError {
    ConfigError::File {
        path: path.to_owned(),
        problem: problem.to_string(),
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
    profile: &'a Profile,
    host: &'a dyn Host,
}

impl Resolver<'_> {
    fn config(&self) -> Result<Config, ConfigError> {
        let uids = self.proxy_uids()?;
        let config = Config {
            proxy_port: self.value(Opt::ProxyPort, values::port)?,
            inbound_capture_port: self.value(Opt::InboundCapturePort, values::port)?,
            inbound_tunnel_port: self.value(Opt::InboundTunnelPort, values::port)?,
            proxy_gids: self.proxy_gids(&uids)?,
            proxy_uids: uids,
            outbound_cidrs: self.outbound_cidrs()?,
            outbound_exclude_cidrs: self.list(Opt::OutboundExcludeCidrs, values::cidr)?,
            outbound_ports: self.list(Opt::OutboundPorts, values::port_range)?,
            outbound_exclude_ports: self.list(Opt::OutboundExcludePorts, values::port_range)?,
            owner_groups: self.selection(Opt::OwnerGroups, |t| self.gid(t))?,
            owner_groups_exclude: self.list(Opt::OwnerGroupsExclude, |t| self.gid(t))?,
            inbound_ports: self.selection(Opt::InboundPorts, values::port_range)?,
            inbound_exclude_ports: self.list(Opt::InboundExcludePorts, values::port_range)?,
            enable_inbound_ipv6: self.value(Opt::EnableInboundIpv6, values::switch)?,
            mode: self.value(Opt::Mode, values::mode)?,
            tproxy_mark: self.value(Opt::TproxyMark, values::mark)?,
            tproxy_route_table: self.value(Opt::TproxyRouteTable, values::route_table)?,
            exclude_interfaces: self.list(Opt::ExcludeInterfaces, values::interface)?,
            virtual_interfaces: self.list(Opt::VirtualInterfaces, values::interface)?,
            dns: self.dns()?,
            drop_invalid: self.value(Opt::DropInvalid, values::switch)?,
            dual_stack: self.value(Opt::DualStack, values::switch)?,
            has_ipv6: facts::has_ipv6(self.host),
            has_global_ipv6: facts::has_global_ipv6(self.host).map_err(ConfigError::Addresses)?,
            loopback_cidr: self.value(Opt::LoopbackCidr, loopback)?,
        };
        if config.dual_stack && !config.has_ipv6 {
            return Err(ConfigError::NoIpv6);
        }
        Ok(config)
    }

    /// What was given for `opt`, or the text of its default. An option that the mesh does not have
    /// gets a harmless value, which the mesh never looks at.
    fn given(&self, opt: Opt) -> Result<Given, ConfigError> {
        if let Some(given) = self.options.get(opt) {
            return Ok(given.clone());
        }
        let default = match self.profile.default_of(opt) {
            Some(Default::Value(text)) => text,
            Some(Default::Same(other)) => return self.given(other),
            Some(Default::Required) => return Err(self.required(opt)),
            Some(Default::EnvoyUser { .. }) => "",
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
        parse(given.value.trim()).map_err(|e| bad_value(&given, e))
    }

    fn list<T: PartialEq>(
        &self,
        opt: Opt,
        item: impl Fn(&str) -> Result<T, BadItem>,
    ) -> Result<Vec<T>, ConfigError> {
        self.value(opt, |text| values::list(text, &item))
    }

    fn selection<T: PartialEq>(
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
            Some(Default::EnvoyUser { and }) => {
                let mut uids = vec![self.envoy_user()];
                uids.extend(and);
                Ok(uids)
            }
            _ => Err(self.required(Opt::ProxyUid)),
        }
    }

    fn envoy_user(&self) -> u32 {
        let name = self
            .host
            .env("ENVOY_USER")
            .and_then(|n| n.into_string().ok());
        let name = name.filter(|n| !n.is_empty());
        let name = name.as_deref().unwrap_or("istio-proxy");
        facts::look_up(self.host, PASSWD, name).unwrap_or(ISTIO_PROXY_UID)
    }

    /// The list given, or the numbers of the users where it is absent or empty.
    fn proxy_gids(&self, uids: &[u32]) -> Result<Vec<u32>, ConfigError> {
        let gids = match self.options.get(Opt::ProxyGid) {
            Some(_) => self.list(Opt::ProxyGid, |t| self.gid(t))?,
            None => Vec::new(),
        };
        Ok(if gids.is_empty() { uids.to_vec() } else { gids })
    }

    /// An empty list means the default where that is "all", as in prepare_proxy.sh.
    fn outbound_cidrs(&self) -> Result<Selection<IpNet>, ConfigError> {
        let cidrs = self.selection(Opt::OutboundCidrs, values::cidr)?;
        let all = self.profile.default_of(Opt::OutboundCidrs) == Some(Default::Value("*"));
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
                let text = self.host.file(path).map_err(|e| file_error(path, e))?;
                Ok(Some(Dns::Servers(nameservers(&text))))
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
        Ok(IpNet::V4(net)) if all.contains(&net) => Ok(net),
        _ => Err(BadItem::new(text, "a CIDR within 127.0.0.0/8")),
    }
}

/// The nameservers of a resolv.conf(5), each once, without scopes; what is no address is skipped
/// with a warning.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let word = words.next().unwrap_or_default();
        let address = word.split('%').next().unwrap_or_default();
        match address.parse::<IpAddr>() {
            Ok(address) if !servers.contains(&address) => servers.push(address),
            Ok(_) => {}
            Err(_) => {
                log::warn!("{RESOLV_CONF}: \"{word}\" is not an address, the line is skipped")
            }
        }
    }
    servers
}
