//! Targets.

use super::names::{ChainName, Family};
use super::packet::{Packet, Tracking};
use super::ports::PortRange;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A rule's target. Names as in iptables-extensions(8).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Target {
    Accept,
    Drop,
    /// Returns to the calling chain, or to the policy of a base chain.
    Return,
    /// Calls a user-defined chain.
    Jump(ChainName),
    /// Redirects to a local port (1-65535); the rule must match a protocol with ports.
    Redirect {
        to_port: u16,
    },
    /// Rejects and notifies the sender.
    Reject(RejectWith),
    /// `MARK --set-xmark`: mark = (mark & !mask) ^ value.
    Mark {
        value: u32,
        mask: u32,
    },
    /// `CONNMARK --save-mark`: the packet's mark becomes the connection's.
    SaveMark {
        nfmask: u32,
        ctmask: u32,
    },
    /// `CONNMARK --restore-mark`: the connection's mark becomes the packet's.
    RestoreMark {
        nfmask: u32,
        ctmask: u32,
    },
    /// Delivers to a transparent socket on `on_port` without changing the packet, and marks it for
    /// the policy route. `on_ip` has the family of the table; unspecified means the destination of
    /// the packet.
    Tproxy {
        on_port: u16,
        on_ip: IpAddr,
        value: u32,
        mask: u32,
    },
    /// `CT --zone`: a conntrack zone of its own.
    CtZone(u16),
    /// Continues in a chain that returns to the caller of this one. This and all following targets
    /// occur in foreign rules only.
    #[serde(skip_deserializing)]
    Goto(ChainName),
    #[serde(skip_deserializing)]
    Dnat(NatTo),
    #[serde(skip_deserializing)]
    Snat(NatTo),
    /// `SNAT` to an address of the outgoing interface.
    #[serde(skip_deserializing)]
    Masquerade,
    /// `REDIRECT` to the same port, or to one of several.
    #[serde(skip_deserializing)]
    RedirectAmong(Option<PortRange>),
    /// `NETMAP`: the first bits of the address become those of this network.
    #[serde(skip_deserializing)]
    Netmap(IpNet),
    /// `CT --notrack`: the packet is not tracked.
    #[serde(skip_deserializing)]
    NoTrack,
    /// `CONNMARK --set-xmark`: as [`Target::Mark`] for the connection's mark.
    #[serde(skip_deserializing)]
    SetConnmark {
        value: u32,
        mask: u32,
    },
    /// Several targets in sequence, as in nft rules. All but the last let the packet continue.
    #[serde(skip_deserializing)]
    Several(Vec<Target>),
}

/// The address and port that NAT sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct NatTo {
    /// The range; `None` leaves it unchanged.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// `None` leaves it unchanged.
    pub ports: Option<PortRange>,
}

impl NatTo {
    /// The translated address and port; the first one of a range.
    pub fn apply(&self, end: SocketAddr) -> SocketAddr {
        SocketAddr::new(
            self.addresses.map_or(end.ip(), |(first, _)| first),
            self.ports.map_or(end.port(), PortRange::first),
        )
    }

    /// Whether it is chosen from a range.
    pub fn is_choice(&self) -> bool {
        let ports = self
            .ports
            .is_some_and(|ports| ports.first() != ports.last());
        ports || self.addresses.is_some_and(|(first, last)| first != last)
    }
}

/// As iptables-save prints it behind `--to-destination`.
impl fmt::Display for NatTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((first, last)) = self.addresses {
            let (open, close) = match Family::of(first) == Family::V6 && self.ports.is_some() {
                true => ("[", "]"),
                false => ("", ""),
            };
            write!(f, "{open}{first}")?;
            if last != first {
                write!(f, "-{last}")?;
            }
            f.write_str(close)?;
        }
        match self.ports {
            Some(ports) => write!(f, ":{}", Dashed(ports)),
            None => Ok(()),
        }
    }
}

/// Ports as targets have them: `8000-8100`.
struct Dashed(PortRange);

impl fmt::Display for Dashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.first())?;
        match self.0.first() == self.0.last() {
            true => Ok(()),
            false => write!(f, "-{}", self.0.last()),
        }
    }
}

/// The reply to a rejected packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectWith {
    IcmpNetUnreachable,
    IcmpHostUnreachable,
    IcmpProtoUnreachable,
    IcmpPortUnreachable,
    IcmpNetProhibited,
    IcmpHostProhibited,
    IcmpAdminProhibited,
    Icmp6NoRoute,
    Icmp6AdmProhibited,
    Icmp6AddrUnreachable,
    Icmp6PortUnreachable,
    Icmp6PolicyFail,
    Icmp6RejectRoute,
    TcpReset,
}

/// A reply, its name, and the family and code of its ICMP message.
type Rejection = (RejectWith, &'static str, Option<(Family, u8)>);

impl RejectWith {
    /// All replies, with their names for `--reject-with` and the family and code of the ICMP
    /// message (linux/icmp.h, linux/icmpv6.h).
    const TABLE: [Rejection; 14] = [
        (
            Self::IcmpNetUnreachable,
            "icmp-net-unreachable",
            Some((Family::V4, 0)),
        ),
        (
            Self::IcmpHostUnreachable,
            "icmp-host-unreachable",
            Some((Family::V4, 1)),
        ),
        (
            Self::IcmpProtoUnreachable,
            "icmp-proto-unreachable",
            Some((Family::V4, 2)),
        ),
        (
            Self::IcmpPortUnreachable,
            "icmp-port-unreachable",
            Some((Family::V4, 3)),
        ),
        (
            Self::IcmpNetProhibited,
            "icmp-net-prohibited",
            Some((Family::V4, 9)),
        ),
        (
            Self::IcmpHostProhibited,
            "icmp-host-prohibited",
            Some((Family::V4, 10)),
        ),
        (
            Self::IcmpAdminProhibited,
            "icmp-admin-prohibited",
            Some((Family::V4, 13)),
        ),
        (Self::Icmp6NoRoute, "icmp6-no-route", Some((Family::V6, 0))),
        (
            Self::Icmp6AdmProhibited,
            "icmp6-adm-prohibited",
            Some((Family::V6, 1)),
        ),
        (
            Self::Icmp6AddrUnreachable,
            "icmp6-addr-unreachable",
            Some((Family::V6, 3)),
        ),
        (
            Self::Icmp6PortUnreachable,
            "icmp6-port-unreachable",
            Some((Family::V6, 4)),
        ),
        (
            Self::Icmp6PolicyFail,
            "icmp6-policy-fail",
            Some((Family::V6, 5)),
        ),
        (
            Self::Icmp6RejectRoute,
            "icmp6-reject-route",
            Some((Family::V6, 6)),
        ),
        (Self::TcpReset, "tcp-reset", None),
    ];

    fn row(self) -> &'static (RejectWith, &'static str, Option<(Family, u8)>) {
        // In the order of the variants.
        &Self::TABLE[self as usize]
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = RejectWith> {
        Self::TABLE.iter().map(|(with, ..)| *with)
    }

    /// The name that iptables-save prints behind `--reject-with`.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The ICMP code, if this is a message of that family.
    pub fn icmp_code(self, family: Family) -> Option<u8> {
        self.row()
            .2
            .filter(|(of, _)| *of == family)
            .map(|(_, code)| code)
    }

    /// The refusal with this ICMP code.
    pub fn of_icmp(family: Family, code: u8) -> Option<Self> {
        Self::all().find(|with| with.icmp_code(family) == Some(code))
    }
}

impl Serialize for RejectWith {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl Target {
    /// Targets of iptables that change nothing that rules test.
    pub const IDLE: [&str; 20] = [
        "AUDIT",
        "CHECKSUM",
        "CLASSIFY",
        "CONNSECMARK",
        "DSCP",
        "ECN",
        "HL",
        "IDLETIMER",
        "LED",
        "LOG",
        "NFLOG",
        "RATEEST",
        "SECMARK",
        "SET",
        "TCPMSS",
        "TCPOPTSTRIP",
        "TEE",
        "TOS",
        "TRACE",
        "TTL",
    ];

    /// `MARK --set-mark VALUE`: all bits are set to `value`.
    pub fn mark(value: u32) -> Self {
        Target::Mark {
            value,
            mask: u32::MAX,
        }
    }

    /// `CONNMARK --save-mark` on all bits.
    pub fn save_mark() -> Self {
        Target::SaveMark {
            nfmask: u32::MAX,
            ctmask: u32::MAX,
        }
    }

    /// `CONNMARK --restore-mark` on all bits.
    pub fn restore_mark() -> Self {
        Target::RestoreMark {
            nfmask: u32::MAX,
            ctmask: u32::MAX,
        }
    }

    /// Changes marks, and the conntrack zone of an untracked packet; the destination is not changed
    /// here.
    pub fn change(&self, packet: &mut Packet) {
        match (self, &mut packet.tracking) {
            (Target::Mark { value, mask } | Target::Tproxy { value, mask, .. }, _) => {
                packet.mark = mixed(packet.mark, *mask, *value);
            }
            (Target::SaveMark { nfmask, ctmask }, Tracking::Known(connection)) => {
                connection.mark = mixed(connection.mark, *ctmask, packet.mark & nfmask);
            }
            (Target::RestoreMark { nfmask, ctmask }, Tracking::Known(connection)) => {
                packet.mark = mixed(packet.mark, *nfmask, connection.mark & ctmask);
            }
            (Target::SetConnmark { value, mask }, Tracking::Known(connection)) => {
                connection.mark = mixed(connection.mark, *mask, *value);
            }
            // Only the first zone takes effect: after it the packet has a template (`xt_ct_target`,
            // `nft_ct_set_zone_eval`).
            (Target::CtZone(zone), Tracking::NotYet) if packet.zone == 0 => packet.zone = *zone,
            (Target::NoTrack, tracking @ Tracking::NotYet) => *tracking = Tracking::Untracked,
            _ => {}
        }
    }
}

/// `(mark & !mask) ^ value`.
fn mixed(mark: u32, mask: u32, value: u32) -> u32 {
    (mark & !mask) ^ value
}

/// The target as iptables-save prints it behind `-j `.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Accept => f.write_str("ACCEPT"),
            Target::Drop => f.write_str("DROP"),
            Target::Return => f.write_str("RETURN"),
            Target::Jump(chain) => write!(f, "{chain}"),
            Target::Redirect { to_port } => write!(f, "REDIRECT --to-ports {to_port}"),
            Target::Reject(with) => write!(f, "REJECT --reject-with {}", with.as_str()),
            Target::Mark { value, mask } => {
                write!(f, "MARK --set-xmark {value:#x}/{mask:#x}")
            }
            Target::SaveMark { nfmask, ctmask } => {
                write!(
                    f,
                    "CONNMARK --save-mark --nfmask {nfmask:#x} --ctmask {ctmask:#x}"
                )
            }
            Target::RestoreMark { nfmask, ctmask } => {
                write!(
                    f,
                    "CONNMARK --restore-mark --nfmask {nfmask:#x} --ctmask {ctmask:#x}"
                )
            }
            Target::Tproxy {
                on_port,
                on_ip,
                value,
                mask,
            } => write!(
                f,
                "TPROXY --on-port {on_port} --on-ip {on_ip} --tproxy-mark {value:#x}/{mask:#x}"
            ),
            Target::CtZone(zone) => write!(f, "CT --zone {zone}"),
            Target::Goto(chain) => write!(f, "{chain}"),
            Target::Dnat(to) => write!(f, "DNAT --to-destination {to}"),
            Target::Snat(to) => write!(f, "SNAT --to-source {to}"),
            Target::Masquerade => f.write_str("MASQUERADE"),
            Target::RedirectAmong(None) => f.write_str("REDIRECT"),
            Target::RedirectAmong(Some(ports)) => {
                write!(f, "REDIRECT --to-ports {}", Dashed(*ports))
            }
            Target::Netmap(net) => write!(f, "NETMAP --to {net}"),
            Target::NoTrack => f.write_str("CT --notrack"),
            Target::SetConnmark { value, mask } => {
                write!(f, "CONNMARK --set-xmark {value:#x}/{mask:#x}")
            }
            Target::Several(targets) => {
                for (i, target) in targets.iter().enumerate() {
                    write!(f, "{}{target}", if i == 0 { "" } else { " -j " })?;
                }
                Ok(())
            }
        }
    }
}
