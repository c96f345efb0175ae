//! Values as they are typed on a command line, checked item by item.

use crate::ruleset::{Interface, PortRange};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// An item that was refused, and what would have been allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct BadItem {
    pub item: String,
    /// Completes the sentence `"item" is not …`.
    pub allowed: String,
}

impl BadItem {
    pub fn new(item: &str, allowed: impl Into<String>) -> Self {
        BadItem {
            item: item.to_owned(),
            allowed: allowed.into(),
        }
    }
}

impl fmt::Display for BadItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not {}", self.item, self.allowed)
    }
}

/// Everything, or only what is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection<T> {
    All,
    Only(Vec<T>),
}

impl<T> Selection<T> {
    /// Whether nothing is selected.
    pub fn is_none(&self) -> bool {
        matches!(self, Selection::Only(items) if items.is_empty())
    }
}

/// How inbound TCP reaches the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Redirect,
    Tproxy,
}

/// The items of a comma separated list; white space around them and empty items are dropped, and
/// so is what was there before.
pub fn list<T: PartialEq>(
    text: &str,
    item: impl Fn(&str) -> Result<T, BadItem>,
) -> Result<Vec<T>, BadItem> {
    let mut items = Vec::new();
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        let value = item(word)?;
        if !items.contains(&value) {
            items.push(value);
        }
    }
    Ok(items)
}

/// A list, or `*`, which stands alone.
pub fn selection<T: PartialEq>(
    text: &str,
    item: impl Fn(&str) -> Result<T, BadItem>,
) -> Result<Selection<T>, BadItem> {
    match text.trim() {
        "*" => Ok(Selection::All),
        text if text.split(',').any(|w| w.trim() == "*") => {
            Err(BadItem::new(text, "a list (* stands alone)"))
        }
        text => list(text, item).map(Selection::Only),
    }
}

/// A decimal number without sign or leading `+`, as every item here is written.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A port, 1–65535.
pub fn port(text: &str) -> Result<u16, BadItem> {
    match number(text.trim()) {
        Some(port) if port > 0 => Ok(port),
        _ => Err(BadItem::new(text, "a port (1–65535)")),
    }
}

/// A port or a range of ports, `8000:8100`.
pub fn port_range(text: &str) -> Result<PortRange, BadItem> {
    let Some((first, last)) = text.split_once(':') else {
        return port(text).map(PortRange::from);
    };
    let bad = || {
        BadItem::new(
            text,
            "a range of ports (FIRST:LAST, each 1–65535, FIRST not above LAST)",
        )
    };
    let (first, last) = (
        port(first).map_err(|_| bad())?,
        port(last).map_err(|_| bad())?,
    );
    PortRange::new(first, last).ok_or_else(bad)
}

/// A prefix of either family, or an address, which stands for itself alone.
pub fn cidr_or_address(text: &str) -> Result<IpNet, BadItem> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => cidr(text),
    }
}

/// A prefix of either family. Host bits are cut off, with a note in the log.
pub fn cidr(text: &str) -> Result<IpNet, BadItem> {
    let net: IpNet = text
        .parse()
        .map_err(|_| BadItem::new(text, "a CIDR (10.0.0.0/8, 192.0.2.7/32, fd00::/8)"))?;
    if net != net.trunc() {
        log::warn!("{net}: host bits are ignored, {} is used", net.trunc());
    }
    Ok(net.trunc())
}

/// An interface name as iptables takes it.
pub fn interface(text: &str) -> Result<Interface, BadItem> {
    text.parse().map_err(|_| {
        BadItem::new(
            text,
            "an interface name (at most 15 bytes, \"+\" only at the end)",
        )
    })
}

/// A packet mark, decimal or `0x…`; not 0, which every packet has.
pub fn mark(text: &str) -> Result<u32, BadItem> {
    let value = match text.strip_prefix("0x") {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u32::from_str_radix(hex, 16).ok()
        }
        Some(_) => None,
        None => number(text),
    };
    match value {
        Some(value) if value > 0 => Ok(value),
        _ => Err(BadItem::new(
            text,
            "a mark (1–4294967295, or 0x1–0xffffffff)",
        )),
    }
}

/// A routing table by number; the kernel's own (253 default, 254 main, 255 local) are not for us.
pub fn route_table(text: &str) -> Result<u32, BadItem> {
    match number(text) {
        Some(table) if table > 0 && !(253..=255).contains(&table) => Ok(table),
        _ => Err(BadItem::new(
            text,
            "the number of a free routing table (1–4294967295, but not 253–255)",
        )),
    }
}

/// `REDIRECT`, which an empty value means too, or `TPROXY`.
pub fn mode(text: &str) -> Result<Mode, BadItem> {
    match text {
        "REDIRECT" | "" => Ok(Mode::Redirect),
        "TPROXY" => Ok(Mode::Tproxy),
        _ => Err(BadItem::new(text, "a mode (REDIRECT or TPROXY)")),
    }
}

/// A switch's value.
pub fn switch(text: &str) -> Result<bool, BadItem> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" | "yes" | "on" => Ok(true),
        "false" | "0" | "f" | "no" | "off" => Ok(false),
        _ => Err(BadItem::new(text, "true or false")),
    }
}

/// A user or group id: a number (4294967295 means "none" to the kernel), or a name that `lookup`
/// knows.
pub fn id(text: &str, kind: &str, lookup: impl Fn(&str) -> Option<u32>) -> Result<u32, BadItem> {
    let bad = || {
        let allowed = format!(
            "a {kind} (0–4294967294, or a name in /etc/{})",
            file_of(kind)
        );
        BadItem::new(text, allowed)
    };
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return number(text).filter(|id| *id != u32::MAX).ok_or_else(bad);
    }
    lookup(text).ok_or_else(bad)
}

fn file_of(kind: &str) -> &'static str {
    if kind == "GID" { "group" } else { "passwd" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_items_are_dropped_and_doubles_kept_once() {
        let ports = list("15090,15021,, 15090 ,", port_range).unwrap();
        assert_eq!(ports, [15090.into(), 15021.into()]);
        assert_eq!(list("", port_range), Ok(vec![]));
    }

    #[test]
    fn a_star_stands_alone() {
        assert_eq!(selection("*", port_range), Ok(Selection::All));
        assert!(selection("*,80", port_range).is_err());
    }

    #[test]
    fn numbers_are_plain_decimals() {
        for bad in ["+80", "-1", "0", "65536", "8e1", "８０", "0x50", ""] {
            assert!(port(bad).is_err(), "{bad}");
        }
        for bad in ["80:", ":80", "90:80", "1:2:3", "80-90"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_bits_are_cut_off() {
        assert_eq!(cidr("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(cidr_or_address("::1").unwrap().to_string(), "::1/128");
        assert!(cidr("10.0.0.1").is_err());
        for bad in [
            "10.0.0.0/33",
            "example.com",
            "10.0.0/8",
            "fd00::/129",
            "/8",
            "10.0.0.0/",
        ] {
            assert!(cidr_or_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_looked_up_by_name_only() {
        let lookup = |name: &str| (name == "istio-proxy").then_some(1337);
        assert_eq!(id("istio-proxy", "UID", lookup), Ok(1337));
        assert_eq!(id("0", "UID", lookup), Ok(0));
        for bad in ["4294967295", "4294967296", "nobody-here", "-1"] {
            assert!(id(bad, "UID", lookup).is_err(), "{bad}");
        }
    }
}
