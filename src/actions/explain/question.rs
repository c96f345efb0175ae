//! What is asked: the options of `explain`, and what holds where they say nothing.

use crate::mesh::config::{ConfigError, Host, facts, parse_port};
use crate::netfilter::model::{ConnState, Credentials, FoundSocket, Interface, Protocol};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The options of `explain`, as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "The connection")]
pub struct Question {
    /// Where it is sent
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: String,

    /// Who sends it: a process here, with numbers or names; supplementary groups come last
    #[arg(long, value_name = "UID[:GID[,GID...]]")]
    user: Option<String>,

    /// Where it comes from; without --user from outside, unless the address is one of our own
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    from: Option<String>,

    /// Where it comes in [default: where the address that it is sent to is]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,

    /// UDP instead of TCP
    #[arg(long)]
    udp: bool,

    /// What conntrack makes of it
    #[arg(
        long,
        value_name = "STATE",
        value_enum,
        ignore_case = true,
        default_value_t
    )]
    ct_state: State,

    /// The mark that it is sent or comes in with, decimal or 0x...
    #[arg(long, value_name = "MARK", default_value = "0")]
    mark: String,

    /// The mark of its connection, decimal or 0x...
    #[arg(long, value_name = "MARK", default_value = "0")]
    ct_mark: String,

    /// The open socket, bound to one address, that is found for it
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    socket: Socket,

    /// An address of the pod or VM, on eth0 or the interface named; may be repeated [default: those
    /// of this network namespace]
    #[arg(
        long,
        value_name = "ADDRESS[/LENGTH][%INTERFACE]",
        value_delimiter = ','
    )]
    local_address: Vec<String>,

    /// Ask the rules that are in the kernel, whoever wrote them, instead of the options
    #[arg(long, conflicts_with = "local_address")]
    pub live: bool,
}

/// The states that a packet can be said to be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum State {
    #[default]
    New,
    Related,
    Established,
    Invalid,
    Untracked,
}

/// What `-m socket` finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Socket {
    #[default]
    None,
    Plain,
    Transparent,
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

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

impl Question {
    /// Checks every value.
    pub fn read(&self, host: &dyn Host) -> Result<Asked, ConfigError> {
        let to: SocketAddr = read(
            "--to",
            &self.to,
            "ADDRESS:PORT, as 10.1.2.3:443 or [fd00::1]:443",
        )?;
        parse_port(&to.port().to_string()).map_err(|e| bad("--to", e))?;
        let mut assumed = Vec::new();
        let from = self.from.as_deref().map(source).transpose()?;
        if from.is_some_and(|from| from.is_ipv4() != to.is_ipv4()) {
            return Err(bad("--from", "is not of the family that --to is of"));
        }
        let sender = match (&self.user, from) {
            (Some(text), _) => Some(user(text, host, &mut assumed)?),
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
            state: match self.ct_state {
                State::New => ConnState::New,
                State::Related => ConnState::Related,
                State::Established => ConnState::Established,
                State::Invalid => ConnState::Invalid,
                State::Untracked => ConnState::Untracked,
            },
            mark: mark("--mark", &self.mark)?,
            ct_mark: mark("--ct-mark", &self.ct_mark)?,
            socket: match self.socket {
                Socket::None => FoundSocket::None,
                Socket::Plain => FoundSocket::Plain,
                Socket::Transparent => FoundSocket::Transparent,
            },
            local: self
                .local_address
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
    Credentials {
        uid: APP,
        gid: APP,
        supplementary_groups: Vec::new(),
    }
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
fn user(
    text: &str,
    host: &dyn Host,
    assumed: &mut Vec<String>,
) -> Result<Credentials, ConfigError> {
    let id = |kind: &str, path: &str, word: &str| {
        let known = word.parse().ok().filter(|id| *id != u32::MAX);
        let known = match known {
            Some(id) => Some(id),
            None => facts::look_up(host, path, word).map_err(|e| bad("--user", e.to_string()))?,
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
            let gid = facts::primary_group(host, number);
            let gid = gid
                .map_err(|e| bad("--user", e.to_string()))?
                .unwrap_or(number);
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
fn local(text: &str) -> Result<(Interface, IpNet), ConfigError> {
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
