//! Renders rules as nft(8) reads and prints them.

use super::companion;
use super::merge::merged_into_sets;
use super::sets::Lists;
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{
    AddressSet, Chain, Family, Hook, Interface, Match, Owner, Place, PortRange, Protocol,
    RejectWith, Rule, Ruleset, Side, Table, TableName, Target, Test,
};
use crate::netfilter::nftables::hooks::{Base, base, table_name};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// Input for `nft -f` that has the same result as the backend `nftables` in an empty namespace.
pub fn render(ruleset: &Ruleset) -> String {
    let merged = merged_into_sets(ruleset);
    let mut text = String::new();
    for family in Family::ALL {
        for table in TableName::ALL
            .iter()
            .filter_map(|n| merged.table(family, *n))
        {
            // Writing to a string does not fail.
            let _ = write_table(&mut text, table);
        }
    }
    text
}

fn write_table(text: &mut String, table: &Table) -> fmt::Result {
    let family = match table.family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let name = table_name(TableKind::Native, table.name);
    writeln!(text, "table {family} {name} {{")?;
    for chain in &table.chains {
        let rules = in_place(chain);
        for (name, list) in Lists::of(chain.name.as_str(), &rules).all() {
            write_list(text, &name, list)?;
        }
    }
    // In the order of the backend: regular chains first.
    let (hooked, called): (Vec<&Chain>, _) =
        table.chains.iter().partition(|c| c.name.hook().is_some());
    for chain in called.into_iter().chain(hooked) {
        write_chain(text, table, chain)?;
    }
    writeln!(text, "}}")
}

/// The rules of a chain in evaluation order.
fn in_place(chain: &Chain) -> Vec<&Rule> {
    let mut rules: Vec<&Rule> = chain.rules.iter().collect();
    rules.sort_by_key(|r| r.place == Place::Tail);
    rules
}

fn write_list(text: &mut String, name: &str, list: &AddressSet) -> fmt::Result {
    let kind = match list.family() {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    let elements: Vec<String> = list.ranges().map(|(a, z)| range(a, z)).collect();
    writeln!(text, "\tset {name} {{")?;
    writeln!(text, "\t\ttype {kind}")?;
    writeln!(text, "\t\tflags interval")?;
    writeln!(text, "\t\telements = {{ {} }}", elements.join(", "))?;
    writeln!(text, "\t}}\n")
}

fn write_chain(text: &mut String, table: &Table, chain: &Chain) -> fmt::Result {
    let hook = chain.name.hook();
    let rules = in_place(chain);
    let lists = Lists::of(chain.name.as_str(), &rules);
    writeln!(text, "\tchain {} {{", chain.name)?;
    if let Some(hook) = hook {
        write_hook(text, table.name, hook)?;
    }
    for rule in rules {
        let printer = Printer {
            family: table.family,
            protocol: rule.protocol(),
            lists: &lists,
        };
        printer.rule(text, rule)?;
        companion(rule).map_or(Ok(()), |second| printer.rule(text, &second))?;
    }
    writeln!(text, "\t}}\n")
}

fn write_hook(text: &mut String, table: TableName, hook: Hook) -> fmt::Result {
    let Base { priority, kind, .. } = base(TableKind::Native, table, hook);
    let hook = hook.as_str().to_lowercase();
    writeln!(
        text,
        "\t\ttype {kind} hook {hook} priority {priority}; policy accept;"
    )
}

struct Printer<'a> {
    family: Family,
    protocol: Option<Protocol>,
    lists: &'a Lists<'a>,
}

impl Printer<'_> {
    fn rule(&self, text: &mut String, rule: &Rule) -> fmt::Result {
        text.write_str("\t\t")?;
        for m in &rule.matches {
            self.test(text, m)?;
        }
        text.write_str("counter ")?;
        self.target(text, &rule.target)?;
        match &rule.id {
            Some(id) => writeln!(text, " comment \"{id}\""),
            None => writeln!(text),
        }
    }

    /// Writes a match and a space.
    fn test(&self, text: &mut String, m: &Match) -> fmt::Result {
        let not = if m.not { "!= " } else { "" };
        let ip = match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        match &m.test {
            Test::Source(net) => write!(text, "{ip} saddr {not}{net} "),
            Test::Destination(net) => write!(text, "{ip} daddr {not}{net} "),
            Test::DestinationSet(set) => {
                let name = self.lists.name(set).unwrap_or_default();
                write!(text, "{ip} daddr {not}@{name} ")
            }
            Test::InInterface(name) => write_interface(text, "iifname", not, name),
            Test::OutInterface(name) => write_interface(text, "oifname", not, name),
            Test::Protocol(p) => write!(text, "meta l4proto {not}{p} "),
            Test::Port { side, ports } => {
                let field = self.port(*side);
                write!(text, "{field} {not}{} ", port_range(*ports))
            }
            Test::Multiport { side, ports } => {
                let ports: Vec<String> = ports.as_slice().iter().copied().map(port_range).collect();
                let field = self.port(*side);
                write!(text, "{field} {not}{{ {} }} ", ports.join(", "))
            }
            Test::Owner(Owner::Uid(id)) => write!(text, "meta skuid {not}{id} "),
            Test::Owner(Owner::Gid(id)) => write!(text, "meta skgid {not}{id} "),
            Test::ConnState(states) => {
                let states: Vec<String> =
                    states.iter().map(|s| s.as_str().to_lowercase()).collect();
                let not = if m.not { "! " } else { "" };
                write!(text, "ct state {not}{} ", states.join(","))
            }
            Test::Mark { value, mask } => mark(text, "meta mark", *value, *mask, m.not),
            Test::Connmark { value, mask } => mark(text, "ct mark", *value, *mask, m.not),
            Test::Socket { transparent } => text.write_str(match transparent {
                true => "socket wildcard 0 socket transparent 1 ",
                false => "socket wildcard 0 ",
            }),
            // No mesh uses such a match.
            Test::Fields(_) | Test::Undecoded(_) => Err(fmt::Error),
        }
    }

    fn port(&self, side: Side) -> String {
        let protocol = self.protocol.map_or("th".into(), Protocol::as_str);
        match side {
            Side::Source => format!("{protocol} sport"),
            Side::Destination => format!("{protocol} dport"),
        }
    }

    fn target(&self, text: &mut String, target: &Target) -> fmt::Result {
        match target {
            Target::Accept => text.write_str("accept"),
            Target::Drop => text.write_str("drop"),
            Target::Return => text.write_str("return"),
            Target::Jump(chain) => write!(text, "jump {chain}"),
            Target::Redirect { to_port } => write!(text, "redirect to :{to_port}"),
            Target::Reject(with) => write!(text, "reject with {}", reply(*with)),
            Target::Mark { value, mask } => set_mark(text, *value, *mask),
            Target::SaveMark { nfmask, .. } => {
                write!(text, "ct mark set {}", masked("meta mark", *nfmask))
            }
            Target::RestoreMark { ctmask, .. } => {
                write!(text, "meta mark set {}", masked("ct mark", *ctmask))
            }
            Target::Tproxy {
                on_port,
                on_ip,
                value,
                mask,
            } => {
                match on_ip {
                    ip if *ip == self.family.unspecified() => {
                        write!(text, "tproxy to :{on_port} ")?
                    }
                    IpAddr::V4(ip) => write!(text, "tproxy to {ip}:{on_port} ")?,
                    IpAddr::V6(ip) => write!(text, "tproxy to [{ip}]:{on_port} ")?,
                }
                set_mark(text, *value, *mask)?;
                text.write_str(" accept")
            }
            Target::CtZone(zone) => write!(text, "ct zone set {zone}"),
            // No mesh uses other targets.
            _ => Err(fmt::Error),
        }
    }
}

/// What nft prints behind `reject with`: the protocol of the reply, and its name.
pub(in crate::netfilter::nftables) fn reply(with: RejectWith) -> String {
    let name = with.as_str().replacen('-', " ", 1);
    let name = name.replace("icmp6 ", "icmpv6 ");
    name.replace("proto-", "prot-").replace("adm-", "admin-")
}

fn range(first: IpAddr, last: IpAddr) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}

fn port_range(ports: PortRange) -> String {
    match ports.first() == ports.last() {
        true => ports.first().to_string(),
        false => format!("{}-{}", ports.first(), ports.last()),
    }
}

fn write_interface(text: &mut String, field: &str, not: &str, name: &Interface) -> fmt::Result {
    write!(text, "{field} {not}\"{}\" ", interface(name))
}

/// A quoted interface name, where a trailing `*` is a wildcard. No option accepts a name with `*`.
fn interface(name: &Interface) -> String {
    match name.prefix() {
        Some(prefix) => format!("{prefix}*"),
        None => name.to_string(),
    }
}

fn mark(text: &mut String, field: &str, value: u32, mask: u32, not: bool) -> fmt::Result {
    let compare = if not { "!=" } else { "==" };
    write!(text, "{} {compare} {value:#x} ", masked(field, mask))
}

fn masked(field: &str, mask: u32) -> String {
    match mask {
        u32::MAX => field.to_owned(),
        mask => format!("{field} & {mask:#x}"),
    }
}

/// mark = (mark & !mask) ^ value.
fn set_mark(text: &mut String, value: u32, mask: u32) -> fmt::Result {
    match mask {
        u32::MAX => write!(text, "meta mark set {value:#x}"),
        mask => write!(text, "meta mark set meta mark & {:#x} ^ {value:#x}", !mask),
    }
}
