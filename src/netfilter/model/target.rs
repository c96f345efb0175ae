//! What a rule does with a packet.

use super::names::ChainName;
use super::packet::{Packet, Tracking};
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// A rule's target. Names as in iptables-extensions(8).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Target {
    Accept,
    Drop,
    /// Back to the calling chain; in a base chain, on to its policy.
    Return,
    /// On to a user-defined chain.
    Jump(ChainName),
    /// To a local port (1-65535); the rule must ask for a protocol that has ports.
    Redirect {
        to_port: u16,
    },
    /// Refused, and the sender told.
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
    /// To a transparent socket on `on_port` without changing the packet, which is marked for the
    /// policy route. `on_ip` of the table's family; unspecified means the packet's own.
    Tproxy {
        on_port: u16,
        on_ip: IpAddr,
        value: u32,
        mask: u32,
    },
    /// `CT --zone`: a conntrack zone of its own.
    CtZone(u16),
}

/// How a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum RejectWith {
    #[serde(rename = "icmp-port-unreachable")]
    IcmpPortUnreachable,
    #[serde(rename = "icmp6-port-unreachable")]
    Icmp6PortUnreachable,
    #[serde(rename = "tcp-reset")]
    TcpReset,
}

impl RejectWith {
    /// All of them.
    pub const ALL: [RejectWith; 3] = [
        RejectWith::IcmpPortUnreachable,
        RejectWith::Icmp6PortUnreachable,
        RejectWith::TcpReset,
    ];

    /// The name that iptables-save prints behind `--reject-with`.
    pub fn as_str(self) -> &'static str {
        match self {
            RejectWith::IcmpPortUnreachable => "icmp-port-unreachable",
            RejectWith::Icmp6PortUnreachable => "icmp6-port-unreachable",
            RejectWith::TcpReset => "tcp-reset",
        }
    }
}

impl Target {
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

    /// What it changes of a packet, but for its destination: marks, and the conntrack zone of what
    /// conntrack has not seen yet.
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
            // The first one counts: behind it the packet has a template (`xt_ct_target`,
            // `nft_ct_set_zone_eval`).
            (Target::CtZone(zone), Tracking::NotYet) if packet.zone == 0 => packet.zone = *zone,
            _ => {}
        }
    }
}

/// The mark without the bits of `mask`, and those of `value` turned over in it.
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
        }
    }
}
