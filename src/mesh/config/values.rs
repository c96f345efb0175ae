//! Values as they are typed on a command line, checked item by item.

use super::unknown::FactError;
use crate::netfilter::model::{Interface, PortRange};
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;
use std::time::Duration;
use thiserror::Error;

/// An item that was refused, and what would have been allowed.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{item:?} is not {allowed}")]
pub struct BadItem {
    pub item: String,
    /// Completes the sentence `"item" is not …`.
    pub allowed: String,
    /// The fact of the host that is not known, where that is why.
    pub unknown: Option<FactError>,
}

impl BadItem {
    pub fn new(item: &str, allowed: impl Into<String>) -> Self {
        BadItem {
            item: item.to_owned(),
            allowed: allowed.into(),
            unknown: None,
        }
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

/// The items of a comma separated list, in their order; white space around them and empty ones are
/// dropped. One that is there
/// twice stays twice, as its rules do with the tools replaced.
pub(super) fn list<T>(
    text: &str,
    item: impl Fn(&str) -> Result<T, BadItem>,
) -> Result<Vec<T>, BadItem> {
    let items = text.split(',').map(str::trim).filter(|w| !w.is_empty());
    items
        .map(|word| match word {
            _ if word.contains(char::is_whitespace) => Err(BadItem::new(
                word,
                "one item: a comma separates items, not a space",
            )),
            _ if word.contains(['\'', '"', '\\']) => Err(BadItem::new(
                word,
                "one item: its quotes are part of it, as no shell has removed them",
            )),
            word => item(word),
        })
        .collect()
}

/// A list, or `*`, which stands alone.
pub(super) fn selection<T>(
    text: &str,
    item: impl Fn(&str) -> Result<T, BadItem>,
) -> Result<Selection<T>, BadItem> {
    match text.trim() {
        "*" => Ok(Selection::All),
        "all" | "ALL" | "any" => Err(BadItem::new(text, "a list (* stands for all)")),
        text if text.split(',').any(|w| w.trim() == "*") => {
            Err(BadItem::new(text, "a list (* stands alone)"))
        }
        text => list(text, item).map(Selection::Only),
    }
}

/// A decimal number without sign. Leading zeros are refused: to iptables they mean octal.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let octal = text.len() > 1 && text.starts_with('0');
    (digits && !octal).then(|| text.parse().ok()).flatten()
}

fn port_number(text: &str) -> Option<u16> {
    number(text).filter(|port| *port > 0)
}

/// A port, 1–65535, white space around it allowed.
pub fn port(text: &str) -> Result<u16, BadItem> {
    port_number(text.trim()).ok_or_else(|| BadItem::new(text, "a port (1–65535)"))
}

/// A port or a range of ports, `8000:8100` with another separator or that one, white space around it
/// allowed.
pub(super) fn port_range(text: &str, separator: char) -> Result<PortRange, BadItem> {
    let Some((first, last)) = text.trim().split_once(separator) else {
        let allowed = format!("a port (1–65535) or a range (80{separator}90)");
        return port(text)
            .map(PortRange::from)
            .map_err(|_| BadItem::new(text, allowed));
    };
    let ends = port_number(first).zip(port_number(last));
    let range = ends.and_then(|(first, last)| PortRange::new(first, last));
    range.ok_or_else(|| {
        let allowed =
            format!("a range of ports (FIRST{separator}LAST, each 1–65535, FIRST not above LAST)");
        BadItem::new(text, allowed)
    })
}

/// A prefix of either family as iptables takes it: also an address, which stands for itself alone,
/// an IPv4 netmask (`10.0.0.0/255.0.0.0`), and white space around it.
pub(super) fn cidr_or_address(text: &str) -> Result<IpNet, BadItem> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    match netmask(text) {
        Some(net) => Ok(net.into()),
        None => cidr(text),
    }
}

fn netmask(text: &str) -> Option<Ipv4Net> {
    let (address, mask) = text.split_once('/')?;
    Ipv4Net::with_netmask(address.parse().ok()?, mask.parse().ok()?).ok()
}

/// A prefix of either family, as typed, host bits included. White space is refused, as by istio-iptables.
pub(super) fn cidr(text: &str) -> Result<IpNet, BadItem> {
    prefix(text).ok_or_else(|| BadItem::new(text, "a CIDR (10.0.0.0/8, 192.0.2.7/32, fd00::/8)"))
}

fn prefix(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    IpNet::new(address.parse().ok()?, number(length)?).ok()
}

/// An IPv4 prefix within 127.0.0.0/8.
pub(super) fn loopback(text: &str) -> Result<Ipv4Net, BadItem> {
    let all = Ipv4Net::new_assert([127, 0, 0, 0].into(), 8);
    match cidr(text) {
        Ok(IpNet::V4(net)) if all.contains(&net) => Ok(net.trunc()),
        _ => Err(BadItem::new(text, "a CIDR within 127.0.0.0/8")),
    }
}

/// An interface name as iptables takes it, white space around it allowed.
pub(super) fn interface(text: &str) -> Result<Interface, BadItem> {
    let wildcard = text.contains('*');
    let name = text.trim().parse().ok().filter(|_| !wildcard);
    name.ok_or_else(|| match text.trim().strip_suffix('*') {
        Some(stem) if !stem.is_empty() => BadItem::new(
            text,
            format!("an interface name (a final + stands for any rest: {stem}+)"),
        ),
        _ => BadItem::new(
            text,
            "an interface name (at most 15 bytes, \"+\" only at the end and not alone)",
        ),
    })
}

/// A packet mark, decimal or `0x…`; not 0, which every packet has.
pub(super) fn mark(text: &str) -> Result<u32, BadItem> {
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
pub(super) fn route_table(text: &str) -> Result<u32, BadItem> {
    match number(text) {
        Some(table) if table > 0 && !(253..=255).contains(&table) => Ok(table),
        _ => Err(BadItem::new(
            text,
            "the number of a free routing table (1–4294967295, but not 253–255)",
        )),
    }
}

/// `REDIRECT`, which an empty value means too, or `TPROXY`, in any case.
pub(super) fn mode(text: &str) -> Result<Mode, BadItem> {
    match text.to_ascii_uppercase().as_str() {
        "REDIRECT" | "" => Ok(Mode::Redirect),
        "TPROXY" => Ok(Mode::Tproxy),
        _ => Err(BadItem::new(text, "a mode (REDIRECT or TPROXY)")),
    }
}

/// A switch's value, as Go's strconv.ParseBool reads it.
pub fn switch(text: &str) -> Result<bool, BadItem> {
    match text {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(false),
        _ => Err(BadItem::new(text, "true or false")),
    }
}

/// A length of time as Go's time.ParseDuration reads it: numbers with units, `5s`, `1m30s`, `500ms`.
pub fn duration(text: &str) -> Result<Duration, BadItem> {
    let bad = || BadItem::new(text, "a duration (5s, 1m30s, 500ms)");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (part, after) = one_duration(rest).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = after;
    }
    match text.is_empty() {
        true => Err(bad()),
        false => Ok(total),
    }
}

/// A number with its unit, and what stands behind it.
fn one_duration(text: &str) -> Option<(Duration, &str)> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text[..text.len() - unit.len()].parse().ok()?;
    UNITS.iter().find_map(|(name, seconds)| {
        let after = unit.strip_prefix(name)?;
        Some((Duration::try_from_secs_f64(number * seconds).ok()?, after))
    })
}

/// The value of a switch that a shell script looks at: people write words there.
pub fn shell_switch(text: &str) -> Result<bool, BadItem> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" => Ok(true),
        "no" | "off" => Ok(false),
        word => switch(word).map_err(|_| BadItem::new(text, "true or false")),
    }
}

/// The number of a user or group; 4294967295 means "none" to the kernel.
pub(super) fn id_number(text: &str) -> Option<u32> {
    number(text).filter(|id| *id != u32::MAX)
}

/// A user or group id: a number, or a name that `lookup` knows; white space around it allowed.
pub(super) fn id(
    text: &str,
    kind: &str,
    lookup: impl Fn(&str) -> Result<Option<u32>, FactError>,
) -> Result<u32, BadItem> {
    let bad = || {
        let allowed = format!(
            "a {kind} (0–4294967294, or a name in /etc/{})",
            file_of(kind)
        );
        BadItem::new(text, allowed)
    };
    let word = text.trim();
    if word.bytes().all(|b| b.is_ascii_digit()) {
        return id_number(word).ok_or_else(bad);
    }
    let known = lookup(word).map_err(|e| BadItem {
        unknown: Some(e.clone()),
        ..BadItem::new(text, format!("a {kind} that can be looked up: {e}"))
    })?;
    known.ok_or_else(bad)
}

fn file_of(kind: &str) -> &'static str {
    if kind == "GID" { "group" } else { "passwd" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_items_are_dropped_and_doubles_kept() {
        let range = |text: &str| port_range(text, ':');
        let ports = list("15090,15021,, 15090 ,", range).unwrap();
        assert_eq!(ports, [15090.into(), 15021.into(), 15090.into()]);
        assert_eq!(list("", range), Ok(vec![]));
        assert_eq!(list("80, ", range), Ok(vec![80.into()]));
        assert!(list("80 443", range).is_err());
    }

    #[test]
    fn a_star_stands_alone() {
        assert_eq!(selection("*", port), Ok(Selection::All));
        assert_eq!(selection(" * ", port), Ok(Selection::All));
        for bad in ["*,80", "80,*", "**"] {
            assert!(selection(bad, port).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_plain_decimals() {
        for bad in ["+80", "-1", "0", "080", "65536", "8e1", "８０", "0x50", ""] {
            assert!(port(bad).is_err(), "{bad}");
        }
        for bad in ["80:", ":80", "90:80", "1:2:3", "80-90", "80: 90"] {
            assert!(port_range(bad, ':').is_err(), "{bad}");
        }
        assert_eq!(port_range("80-90", '-').unwrap().last(), 90);
        assert!(port_range("80:90", '-').is_err());
    }

    #[test]
    fn a_prefix_has_an_address_and_a_length() {
        let mask = |text: &str| cidr_or_address(text).unwrap().to_string();
        assert_eq!(cidr("10.1.2.3/8").unwrap().to_string(), "10.1.2.3/8");
        assert_eq!(mask("::1"), "::1/128");
        assert_eq!(mask(" 10.0.0.0/255.240.0.0"), "10.0.0.0/12");
        for bad in [
            "10.0.0.1",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "10.0.0.0/255.0.0.0",
        ] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
        for bad in [
            "10.0.0.0/33",
            "example.com",
            "10.0.0/8",
            "fd00::/129",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/08",
            "010.0.0.0/8",
            "10.0.0.0/255.0.255.0",
        ] {
            assert!(cidr_or_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn switches_are_those_of_go_or_of_a_script() {
        assert_eq!(switch("True"), Ok(true));
        assert_eq!(shell_switch("No"), Ok(false));
        for bad in ["yes", "off", "tRuE", " true", "2", ""] {
            assert!(switch(bad).is_err(), "{bad}");
        }
        assert!(shell_switch("often").is_err());
    }

    #[test]
    fn durations_are_those_of_go() {
        for (good, milliseconds) in [
            ("5s", 5000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("0", 0),
            ("10us", 0),
        ] {
            assert_eq!(duration(good).unwrap().as_millis(), milliseconds, "{good}");
        }
        for bad in [
            "",
            "5",
            "s",
            "5 s",
            "1d",
            "-5s",
            "1.2.3s",
            "5sx",
            "99999999999999999999h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_looked_up_by_name_only() {
        let lookup = |name: &str| Ok((name == "istio-proxy").then_some(1337));
        assert_eq!(id("istio-proxy", "UID", lookup), Ok(1337));
        assert_eq!(id("0", "UID", lookup), Ok(0));
        for bad in ["4294967295", "4294967296", "nobody-here", "-1", "010", " "] {
            assert!(id(bad, "UID", lookup).is_err(), "{bad}");
        }
    }
}
