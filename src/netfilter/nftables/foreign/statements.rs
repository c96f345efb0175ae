//! Decodes statements, the actions of a rule.

use super::attributes::Attrs;
use super::{Held, Reading, place, target_of};
use crate::netfilter::model::{
    AddressSet, Family, Field, Match, NatTo, PortRange, RejectWith, Target, TargetMap, Test,
};
use crate::netfilter::nftables::expr::{Expr, ct, meta};
use crate::netfilter::nftables::xt;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NFT_REG_1: u32 = 1;

impl Reading<'_> {
    pub(super) fn statement(&mut self, expr: &Expr) {
        let done = match expr {
            Expr::Counter => Some(()),
            Expr::Immediate { register, value } => {
                self.registers
                    .insert(place(*register), Held::Constant(value.clone()));
                Some(())
            }
            Expr::Verdict(verdict) => self.act(target_of(verdict)),
            Expr::MetaSet(meta::NFT_META_MARK) => self.set_mark(NFT_REG_1),
            Expr::MetaSet(_) => Some(()),
            Expr::CtSet(key) => self.set_ct(*key, NFT_REG_1),
            Expr::Redirect => self.redirect(Some(NFT_REG_1), None),
            Expr::Tproxy { address, .. } => {
                self.tproxy(address.then_some(NFT_REG_1), if *address { 2 } else { 1 })
            }
            Expr::Reject { kind, code } => self.reject(*kind, *code),
            Expr::Target(extension) => {
                let target = xt::foreign::read_target(extension, self.context.family);
                match target {
                    Ok(target) => target.map_or(Some(()), |target| self.act(target)),
                    Err(text) => {
                        self.unknown = Some(format!("-j {text}"));
                        Some(())
                    }
                }
            }
            Expr::Other { name, data } => self.by_name(name, &Attrs::new(data)),
            _ => None,
        };
        if done.is_none() {
            self.unknown.get_or_insert_with(|| expr.name().to_owned());
        }
    }

    /// `None` for an unknown statement.
    fn by_name(&mut self, name: &str, a: &Attrs) -> Option<()> {
        const NFTA_META_SREG: u16 = 3;
        const NFTA_EXTHDR_SREG: u16 = 7;
        match name {
            "log" | "last" | "dup" | "flow_offload" | "counter" => Some(()),
            "notrack" => self.act(Target::NoTrack),
            "immediate" => {
                let value = a.value(2)?.to_vec();
                self.registers
                    .insert(place(a.u32(1)?), Held::Constant(value));
                Some(())
            }
            "meta" => match a.u32(2)? {
                meta::NFT_META_MARK => self.set_mark(a.u32(NFTA_META_SREG)?),
                _ => Some(()),
            },
            "ct" => self.set_ct(a.u32(2)?, a.u32(4)?),
            "exthdr" => a.u32(NFTA_EXTHDR_SREG).map(|_| ()),
            "payload" => changes_no_end(a),
            "nat" => self.nat(a),
            "masq" => self.act(Target::Masquerade),
            "redir" => self.redirect(a.u32(1), a.u32(2)),
            "reject" => self.reject(a.u32(1)?, a.u8(2).unwrap_or(0)),
            "tproxy" => self.tproxy(a.u32(2), a.u32(3)?),
            "limit" | "quota" | "connlimit" => self.depends(limit_text(name, a)),
            // A set element with a rate limit.
            "dynset" if a.get(7).is_some() || a.get(10).is_some() => {
                self.depends(format!("update @{} with a limit", a.text(1)?))
            }
            "dynset" => Some(()),
            "objref" => match a.u32(1) {
                Some(2 | 4 | 5) => self.depends("a named limit or quota".to_owned()),
                Some(10) => None,
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn depends(&mut self, text: String) -> Option<()> {
        self.condition(Match::new(Test::Undecoded(text)));
        Some(())
    }

    fn act(&mut self, target: Target) -> Option<()> {
        match &mut self.map {
            // Later statements act on the values of the map.
            Some(map) => {
                let then = |before: &mut Target| {
                    let mut both = match std::mem::replace(before, Target::Accept) {
                        Target::Several(all) => all,
                        one => vec![one],
                    };
                    both.push(target.clone());
                    *before = Target::Several(both);
                };
                map.targets
                    .iter_mut()
                    .chain(&mut map.default)
                    .for_each(then);
            }
            None => self.targets.push(target),
        }
        Some(())
    }

    /// Adds an action that depends on a register, possibly with values of a map.
    fn act_on(
        &mut self,
        registers: &[u32],
        target: impl Fn(&[&[u8]]) -> Option<Target>,
    ) -> Option<()> {
        let held: Vec<_> = registers
            .iter()
            .map(|r| self.value(*r))
            .collect::<Option<_>>()?;
        let keys = held.iter().find_map(|(keys, _)| *keys).cloned();
        let count = held
            .iter()
            .map(|(_, values)| values.len())
            .max()
            .unwrap_or(1);
        let of = |at: usize| {
            let bytes: Vec<&[u8]> = held.iter().map(|(_, v)| v[at.min(v.len() - 1)]).collect();
            target(&bytes)
        };
        match keys {
            None => {
                let target = of(0)?;
                self.act(target)
            }
            Some(keys) => {
                let targets = (0..keys.values.len().min(count))
                    .map(of)
                    .collect::<Option<_>>()?;
                self.map = Some(TargetMap {
                    keys,
                    targets,
                    default: None,
                });
                Some(())
            }
        }
    }

    /// mark = (field & mask) ^ xor.
    fn set_mark(&mut self, register: u32) -> Option<()> {
        match self.held(register)?.clone() {
            Held::Fields(loaded) => {
                let (mask, xor) = (loaded.mask as u32, loaded.xor as u32);
                match loaded.fields.as_slice() {
                    [Field::Mark] => self.act(Target::Mark {
                        value: xor,
                        mask: !mask,
                    }),
                    [Field::Connmark] => {
                        self.act(Target::RestoreMark {
                            nfmask: u32::MAX,
                            ctmask: mask,
                        })?;
                        match xor {
                            0 => Some(()),
                            value => self.act(Target::Mark { value, mask: 0 }),
                        }
                    }
                    _ => None,
                }
            }
            _ => self.act_on(&[register], |bytes| {
                Some(Target::mark(u32::from_ne_bytes(first(bytes[0])?)))
            }),
        }
    }

    fn set_ct(&mut self, key: u32, register: u32) -> Option<()> {
        match (key, self.held(register)?.clone()) {
            (ct::NFT_CT_MARK, Held::Fields(loaded)) => {
                let (mask, xor) = (loaded.mask as u32, loaded.xor as u32);
                match loaded.fields.as_slice() {
                    [Field::Connmark] => self.act(Target::SetConnmark {
                        value: xor,
                        mask: !mask,
                    }),
                    [Field::Mark] => {
                        self.act(Target::SaveMark {
                            nfmask: mask,
                            ctmask: u32::MAX,
                        })?;
                        match xor {
                            0 => Some(()),
                            value => self.act(Target::SetConnmark { value, mask: 0 }),
                        }
                    }
                    _ => None,
                }
            }
            (ct::NFT_CT_MARK, _) => self.act_on(&[register], |bytes| {
                let value = u32::from_ne_bytes(first(bytes[0])?);
                Some(Target::SetConnmark {
                    value,
                    mask: u32::MAX,
                })
            }),
            (ct::NFT_CT_ZONE, Held::Constant(_)) => self.act_on(&[register], |bytes| {
                Some(Target::CtZone(u16::from_ne_bytes(first(bytes[0])?)))
            }),
            (ct::NFT_CT_ZONE, _) => None,
            _ => Some(()),
        }
    }

    fn redirect(&mut self, from: Option<u32>, to: Option<u32>) -> Option<()> {
        match from {
            None => self.act(Target::RedirectAmong(None)),
            Some(from) => self.act_on(&[from, to.unwrap_or(from)], |bytes| {
                let ports = ports(bytes[0], bytes[1])?;
                Some(match ports.first() == ports.last() {
                    true => Target::Redirect {
                        to_port: ports.first(),
                    },
                    false => Target::RedirectAmong(Some(ports)),
                })
            }),
        }
    }

    fn nat(&mut self, a: &Attrs) -> Option<()> {
        const NFT_NAT_SNAT: u32 = 0;
        const NF_NAT_RANGE_NETMAP: u32 = 1 << 6;
        let family = self.context.family;
        let is_source = a.u32(1)? == NFT_NAT_SNAT;
        let is_network = a.u32(7).unwrap_or(0) & NF_NAT_RANGE_NETMAP != 0;
        let (from, to) = (a.u32(3), a.u32(4));
        let (first_port, last_port) = (a.u32(5), a.u32(6));
        let addresses = from.map(|from| [from, to.unwrap_or(from)]);
        let numbers = first_port.map(|port| [port, last_port.unwrap_or(port)]);
        let registers: Vec<u32> = addresses.into_iter().chain(numbers).flatten().collect();
        let target = |bytes: &[&[u8]]| {
            let (addressed, bytes) = bytes.split_at(if addresses.is_some() { 2 } else { 0 });
            let addresses = match addressed {
                [first, last] => Some((address(family, first)?, address(family, last)?)),
                _ => None,
            };
            let ports = match bytes {
                [first, last] => Some(ports(first, last)?),
                _ => None,
            };
            let to = NatTo { addresses, ports };
            Some(match (is_network, is_source) {
                (true, _) => Target::Netmap(network(addresses?)?),
                (false, true) => Target::Snat(to),
                (false, false) => Target::Dnat(to),
            })
        };
        self.act_on(&registers, target)
    }

    fn reject(&mut self, kind: u32, code: u8) -> Option<()> {
        const NFT_REJECT_TCP_RST: u32 = 1;
        const NFT_REJECT_ICMPX_UNREACH: u32 = 2;
        let family = self.context.family;
        let code = match (kind, family) {
            (NFT_REJECT_TCP_RST, _) => return self.act(Target::Reject(RejectWith::TcpReset)),
            // no-route, port, host and admin-prohibited (`nft_reject_icmpx_code`).
            (NFT_REJECT_ICMPX_UNREACH, Family::V4) => *[0, 3, 1, 13].get(usize::from(code))?,
            (NFT_REJECT_ICMPX_UNREACH, Family::V6) => *[0, 4, 3, 1].get(usize::from(code))?,
            _ => code,
        };
        self.act(Target::Reject(RejectWith::of_icmp(family, code)?))
    }

    fn tproxy(&mut self, address_in: Option<u32>, port: u32) -> Option<()> {
        let family = self.context.family;
        let registers: Vec<u32> = [port].into_iter().chain(address_in).collect();
        self.act_on(&registers, |bytes| {
            Some(Target::Tproxy {
                on_port: u16::from_be_bytes(first(bytes[0])?),
                on_ip: match bytes.get(1) {
                    Some(bytes) => address(family, bytes)?,
                    None => family.unspecified(),
                },
                value: 0,
                mask: 0,
            })
        })
    }
}

/// `tproxy` of nft does not mark the packet; a later statement does.
pub(in super::super) fn merge_tproxy(targets: &mut Vec<Target>) {
    let at = targets
        .iter()
        .position(|t| matches!(t, Target::Tproxy { .. }));
    let Some(at) = at else { return };
    if let [
        Target::Tproxy { value, mask, .. },
        Target::Mark { value: v, mask: m },
        ..,
    ] = &mut targets[at..]
    {
        (*value, *mask) = (*v, *m);
    }
    targets.truncate(at + 1);
}

/// Header changes matter only for addresses, ports and the protocol.
fn changes_no_end(a: &Attrs) -> Option<()> {
    const NETWORK: u32 = 1;
    let (base, offset) = (a.u32(2)?, a.u32(3)?);
    (base == NETWORK && offset < 8 && a.u32(5).is_some()).then_some(())
}

fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}

fn address(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    Some(match family {
        Family::V4 => Ipv4Addr::from(first::<4>(bytes)?).into(),
        Family::V6 => Ipv6Addr::from(first::<16>(bytes)?).into(),
    })
}

fn ports(from: &[u8], to: &[u8]) -> Option<PortRange> {
    PortRange::new(
        u16::from_be_bytes(first(from)?),
        u16::from_be_bytes(first(to)?),
    )
}

/// The network between its first and last address.
fn network((from, to): (IpAddr, IpAddr)) -> Option<IpNet> {
    let nets = AddressSet::from_ranges([(from, to)])?;
    match nets.as_slice() {
        [net] => Some(*net),
        _ => None,
    }
}

fn limit_text(name: &str, a: &Attrs) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1, "second"),
        (60, "minute"),
        (3600, "hour"),
        (86400, "day"),
    ];
    let number = |kind| Some(u64::from_be_bytes(a.get(kind)?.try_into().ok()?));
    match (name, number(1), number(2)) {
        ("limit", Some(rate), Some(unit)) => {
            let unit = UNITS.iter().find(|(seconds, _)| *seconds == unit);
            let over = if a.u32(5).unwrap_or(0) & 1 != 0 {
                "over "
            } else {
                ""
            };
            format!(
                "limit rate {over}{rate}/{}",
                unit.map_or("second", |(_, name)| name)
            )
        }
        ("connlimit", ..) => format!("ct count {}", a.u32(1).unwrap_or(0)),
        ("quota", Some(bytes), _) => format!("quota {bytes} bytes"),
        (name, ..) => name.to_owned(),
    }
}
