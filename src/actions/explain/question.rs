//! What is asked: the options of `explain`, and what holds where they say nothing.

use crate::mesh::config::facts::{GROUP, PASSWD};
use crate::mesh::config::{ConfigError, FactError, Facts, parse_port};
use crate::netfilter::model::{ConnState, Credentials, FoundSocket, Interface, Protocol};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The options of `explain`, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The destination, `ADDRESS:PORT`.
    pub to: String,
    /// The sender, a process here: `UID[:GID[,GID...]]`, numbers or names.
    pub user: Option<String>,
    /// The source, `ADDRESS[:PORT]`; without a user from outside, unless the address is an own one.
    pub from: Option<String>,
    /// The interface that it comes in through.
    pub interface: Option<String>,
    /// UDP instead of TCP.
    pub udp: bool,
    pub state: ConnState,
    /// The packet mark, decimal or `0x…`.
    pub mark: String,
    /// The mark of its connection, decimal or `0x…`.
    pub ct_mark: String,
    /// The open socket, bound to one address, that `-m socket` finds for it.
    pub socket: FoundSocket,
    /// Addresses of the pod or VM, `ADDRESS[/LENGTH][%INTERFACE]`; those of this network namespace
    /// without any.
    pub local_addresses: Vec<String>,
    /// Follow the rules in the kernel, whoever wrote them, instead of those of the options.
    pub live: bool,
}

/// The question, understood.
#[derive(Debug)]
pub struct Asked {
    pub protocol: Protocol,
    pub to: SocketAddr,
    /// Nothing: what the kernel picks. Port 0: any.
    pub from: Option<SocketAddr>,
    pub sender: Option<Credentials>,
    pub interface: Option<Interface>,
    pub state: ConnState,
    pub mark: u32,
    pub ct_mark: u32,
    pub socket: FoundSocket,
    pub local: Vec<(Interface, IpNet)>,
    /// What nobody said, in sentences without their full stop.
    pub assumed: Vec<String>,
}

/// Who connects if nobody says.
const APP: u32 = 1000;

impl Question {
    /// Checks every value.
    pub fn read(&self, facts: &Facts) -> Result<Asked, ConfigError> {
        let to = destination(&self.to)?;
        parse_port(&to.port().to_string()).map_err(|e| bad("--to", e))?;
        let mut assumed = Vec::new();
        let from = self.from.as_deref().map(source).transpose()?;
        if from.is_some_and(|from| from.is_ipv4() != to.is_ipv4()) {
            return Err(bad("--from", "is not of the family that --to is of"));
        }
        let sender = match (&self.user, from) {
            (Some(text), _) => Some(user(text, facts, &mut assumed)?),
            (None, Some(_)) => None,
            (None, None) => Some(app(&mut assumed)),
        };
        let interface = self.interface.as_deref().map(interface).transpose()?;
        Ok(Asked {
            protocol: match self.udp {
                true => Protocol::Udp,
                false => Protocol::Tcp,
            },
            to,
            from,
            sender,
            interface,
            state: self.state,
            mark: mark("--mark", &self.mark)?,
            ct_mark: mark("--ct-mark", &self.ct_mark)?,
            socket: self.socket,
            local: self
                .local_addresses
                .iter()
                .map(|a| local(a))
                .collect::<Result<_, _>>()?,
            assumed,
        })
    }
}

/// The app that stands for whoever connects.
pub(super) fn app(assumed: &mut Vec<String>) -> Credentials {
    assumed.push(format!(
        "an app with uid {APP} and gid {APP} connects (--user)"
    ));
    Credentials::new(APP, APP)
}

fn destination(text: &str) -> Result<SocketAddr, ConfigError> {
    let allowed = "ADDRESS:PORT, as 10.1.2.3:443 or [fd00::1]:443";
    match host_name(text) {
        Some(name) => Err(bad(
            "--to",
            format!(
                "\"{text}\" is not {allowed}; names are not resolved: getent ahosts {name} prints the addresses"
            ),
        )),
        None => read("--to", text, allowed),
    }
}

/// The name in `example.com:443`, `example.com` and `https://example.com/`.
fn host_name(text: &str) -> Option<&str> {
    let (_, host) = text.split_once("://").unwrap_or(("", text));
    let name = host.split([':', '/']).next()?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let alone = !host.contains("::") && name.bytes().all(is_name);
    (alone && name.bytes().any(|b| b.is_ascii_alphabetic())).then_some(name)
}

fn bad(option: &str, problem: impl ToString) -> ConfigError {
    ConfigError::BadValue {
        option: option.to_owned(),
        problem: problem.to_string(),
    }
}

/// A value, or that it is not what is `allowed`.
fn read<T: std::str::FromStr>(option: &str, text: &str, allowed: &str) -> Result<T, ConfigError> {
    text.parse()
        .map_err(|_| bad(option, format!("\"{text}\" is not {allowed}")))
}

fn interface(name: &str) -> Result<Interface, ConfigError> {
    match name.parse::<Interface>() {
        Ok(name) if name.prefix().is_none() => Ok(name),
        Ok(_) => Err(bad(
            "--interface",
            format!("\"{name}\" is not one interface"),
        )),
        Err(e) => Err(bad("--interface", e)),
    }
}

/// An address, with a port or without.
fn source(text: &str) -> Result<SocketAddr, ConfigError> {
    let alone = text
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    match alone {
        Ok(address) => Ok(SocketAddr::new(address, 0)),
        Err(_) => read("--from", text, "ADDRESS or ADDRESS:PORT"),
    }
}

/// `1000`, `1000:1000`, `app:app,staff`.
fn user(text: &str, facts: &Facts, assumed: &mut Vec<String>) -> Result<Credentials, ConfigError> {
    let id = |kind: &str, path: &'static str, word: &str| {
        let known = word.parse().ok().filter(|id| *id != u32::MAX);
        let known = match known {
            Some(id) => Some(id),
            None => facts.look_up(path, word).map_err(unknown)?,
        };
        known.ok_or_else(|| {
            let allowed = format!("a {kind} (0–4294967294, or a name in {path})");
            bad("--user", format!("{word:?} is not {allowed}"))
        })
    };
    let (uid, gids) = text.split_once(':').unwrap_or((text, ""));
    let number = id("UID", PASSWD, uid)?;
    let words = gids.split(',').filter(|word| !word.is_empty());
    let gids: Vec<u32> = words
        .map(|w| id("GID", GROUP, w))
        .collect::<Result<_, _>>()?;
    let (gid, supplementary) = match gids.split_first() {
        Some((gid, others)) => (*gid, others.to_vec()),
        None => {
            let gid = facts.primary_group(number).map_err(unknown)?;
            let gid = gid.unwrap_or(number);
            assumed.push(format!("uid {number} has gid {gid} (--user {number}:GID)"));
            (gid, Vec::new())
        }
    };
    Ok(Credentials {
        uid: number,
        gid,
        supplementary_groups: supplementary,
    })
}

/// A fact that is still to be read, or else the name that is wrong.
fn unknown(error: FactError) -> ConfigError {
    match error {
        FactError::NotGathered(_) => error.into(),
        error => bad("--user", error),
    }
}

fn mark(option: &str, text: &str) -> Result<u32, ConfigError> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    value.ok_or_else(|| {
        bad(
            option,
            format!("\"{text}\" is not a mark (0–4294967295, or 0x0–0xffffffff)"),
        )
    })
}

/// `10.244.1.17`, `10.244.1.17/24`, `10.67.0.2/24%br0`.
pub(super) fn local(text: &str) -> Result<(Interface, IpNet), ConfigError> {
    const OPTION: &str = "--local-address";
    let (address, name) = text.split_once('%').unwrap_or((text, "eth0"));
    let net = match address.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => read(OPTION, address, "ADDRESS or ADDRESS/LENGTH")?,
    };
    match name.parse::<Interface>() {
        Ok(name) if name.prefix().is_none() => Ok((name, net)),
        _ => Err(bad(
            OPTION,
            format!("\"{name}\" is not an interface's name"),
        )),
    }
}
