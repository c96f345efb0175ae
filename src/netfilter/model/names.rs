//! Names and enumerations of netfilter: families, tables, hooks, chains, interfaces.

use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use thiserror::Error;

/// A name that netfilter does not accept.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    #[error(
        "\"{0}\" is not an interface name (1 to 15 bytes without spaces, \"/\" or \"!\", \"+\" only at the end)"
    )]
    Interface(String),
    #[error(
        "\"{0}\" is not a chain name (1 to 28 bytes, printable, not starting with \"-\" or \"!\")"
    )]
    Chain(String),
}

/// The address family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both, in output order.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// The unspecified address: 0.0.0.0 or ::.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The length of an address in bits.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// `ipv4` or `ipv6`.
impl Serialize for Family {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        })
    }
}

/// The iptables tables that may be written, in traversal order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableName {
    Raw,
    Mangle,
    Nat,
    Filter,
}

impl TableName {
    /// All of them, in their order.
    pub const ALL: [TableName; 4] = [
        TableName::Raw,
        TableName::Mangle,
        TableName::Nat,
        TableName::Filter,
    ];

    /// The name by which iptables and the kernel know it.
    pub fn as_str(self) -> &'static str {
        match self {
            TableName::Raw => "raw",
            TableName::Mangle => "mangle",
            TableName::Nat => "nat",
            TableName::Filter => "filter",
        }
    }

    /// The table called `name`; `None` for tables that are never written (`security`).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == name)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The hooks that iptables' base chains are named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Hook {
    /// In the order of the kernel's `enum nf_inet_hooks`.
    pub const ALL: [Hook; 5] = [
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ];

    /// The hook whose base chain is called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|h| h.as_str() == name)
    }

    /// The base chain's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::Prerouting => "PREROUTING",
            Hook::Input => "INPUT",
            Hook::Forward => "FORWARD",
            Hook::Output => "OUTPUT",
            Hook::Postrouting => "POSTROUTING",
        }
    }
}

/// The name of a chain, base chain or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ChainName(Cow<'static, str>);

impl ChainName {
    pub const PREROUTING: ChainName = ChainName::fixed("PREROUTING");
    pub const INPUT: ChainName = ChainName::fixed("INPUT");
    pub const OUTPUT: ChainName = ChainName::fixed("OUTPUT");

    /// A name known at compile time; it must be one that iptables accepts.
    pub const fn fixed(name: &'static str) -> Self {
        ChainName(Cow::Borrowed(name))
    }

    /// The maximum length in bytes.
    const LONGEST: usize = 28;

    /// A name read from a kernel or text: 1 to 28 printable bytes (`XT_EXTENSION_MAXNAMELEN`) that
    /// do not start like an option.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let plain = name.bytes().all(|b| b.is_ascii_graphic());
        if name.is_empty() || name.len() > Self::LONGEST || !plain || name.starts_with(['-', '!']) {
            return Err(NameError::Chain(name.to_owned()));
        }
        Ok(ChainName(Cow::Owned(name.to_owned())))
    }

    /// A name read from nf_tables, which may be longer and have any bytes.
    pub fn of_nf_tables(name: &str) -> Self {
        ChainName(Cow::Owned(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hook, if this is one of iptables' base chains.
    pub fn hook(&self) -> Option<Hook> {
        Hook::named(&self.0)
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The protocols that rules match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Icmpv6,
    /// Any other, by number; in foreign rules only.
    Other(u8),
}

/// Further names that iptables-save prints after `-p`, and those of nft.
const PROTOCOLS: [(u8, &str); 8] = [
    (1, "icmp"),
    (2, "igmp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (132, "sctp"),
    (136, "udplite"),
];

impl Protocol {
    /// Protocols of desired rules.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmpv6];

    /// The number of the IANA registry.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmpv6 => 58,
            Protocol::Other(number) => number,
        }
    }

    /// The protocol with this number.
    pub fn of(number: u8) -> Self {
        let mut known = Self::ALL.into_iter();
        let known = known.find(|p| p.number() == number);
        known.unwrap_or(Protocol::Other(number))
    }

    /// Parses a name or number as iptables does.
    pub fn named(name: &str) -> Option<Self> {
        let others = PROTOCOLS.map(|(number, _)| Protocol::Other(number));
        let mut known = Self::ALL.into_iter().chain(others);
        let known = known.find(|p| p.as_str() == name);
        known.or_else(|| name.parse().ok().map(Self::of))
    }

    /// What iptables-save prints behind `-p`.
    pub fn as_str(self) -> Cow<'static, str> {
        match self {
            Protocol::Tcp => "tcp".into(),
            Protocol::Udp => "udp".into(),
            Protocol::Icmpv6 => "ipv6-icmp".into(),
            Protocol::Other(number) => {
                let name = PROTOCOLS.iter().find(|(known, _)| *known == number);
                name.map_or(number.to_string().into(), |(_, name)| (*name).into())
            }
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str())
    }
}

/// An interface name for `-i` and `-o` of iptables: up to 15 bytes; a trailing `+` is a wildcard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Interface(Cow<'static, str>);

impl Interface {
    /// The loopback interface.
    pub const LOOPBACK: Interface = Interface(Cow::Borrowed("lo"));
    /// The first interface of pods and most machines.
    pub const ETH0: Interface = Interface(Cow::Borrowed("eth0"));

    /// The name of an interface that exists, which may be one that iptables does not take.
    pub fn observed(name: String) -> Self {
        Interface(Cow::Owned(name))
    }

    /// The name, with its `+` if any.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the `+`, if the name ends in one.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('+')
    }
}

impl FromStr for Interface {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let stem = name.strip_suffix('+').unwrap_or(name);
        let plain = stem
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/!+\"'\\".contains(&b));
        let dots = stem == "." || stem == "..";
        if stem.is_empty() || name.len() > 15 || !plain || dots || name.starts_with('-') {
            return Err(NameError::Interface(name.to_owned()));
        }
        Ok(Interface(Cow::Owned(name.to_owned())))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule id: a short stable name such as `bypass-envoy`, and the mesh whose rule it is. Comments
/// in the kernel, plans and explanations all derive from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleId {
    /// The part before the slash of the comment; `None` until the ruleset is
    /// [labelled](super::Ruleset::labelled).
    label: Option<Cow<'static, str>>,
    id: Cow<'static, str>,
}

impl RuleId {
    /// Reads a comment `LABEL/ID` of any origin. Both parts must be printable without quotes or
    /// backslashes, so that every tool prints the comment in the same way.
    pub fn from_comment(comment: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_graphic() && !b"\"'\\".contains(&b);
        let (label, id) = comment.split_once('/')?;
        let whole = !label.is_empty() && !id.is_empty() && comment.bytes().all(plain);
        whole.then(|| RuleId {
            label: Some(Cow::Owned(label.to_owned())),
            id: Cow::Owned(id.to_owned()),
        })
    }

    /// The id alone.
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// The part before the slash of the comment.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The same id with this label.
    pub fn labelled(self, label: &'static str) -> Self {
        RuleId {
            label: Some(Cow::Borrowed(label)),
            ..self
        }
    }

    /// Another id with the same label.
    pub fn with_id(&self, id: impl Into<Cow<'static, str>>) -> Self {
        RuleId {
            label: self.label.clone(),
            id: id.into(),
        }
    }
}

impl From<&'static str> for RuleId {
    fn from(id: &'static str) -> Self {
        RuleId {
            label: None,
            id: Cow::Borrowed(id),
        }
    }
}

impl From<String> for RuleId {
    fn from(id: String) -> Self {
        RuleId {
            label: None,
            id: Cow::Owned(id),
        }
    }
}

/// The whole comment: `LABEL/ID`.
impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(label) = &self.label {
            write!(f, "{label}/")?;
        }
        f.write_str(&self.id)
    }
}

/// The id alone: the label follows from the ruleset.
impl Serialize for RuleId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.id)
    }
}
