//! xt targets; see `matches`.

use super::info::{Fields, Info};
use crate::netfilter::model::{Family, RejectWith, Target};
use crate::netfilter::nftables::expr::Extension;
use crate::netfilter::nftables::header::octets;

/// Encodes a target that is not a verdict. `None` if x_tables cannot express it in this family.
pub(crate) fn write(target: &Target, family: Family) -> Option<Extension> {
    let info = Info::default();
    let (info, name, revision) = match target {
        Target::Redirect { to_port } => (redirect_info(*to_port, family), "REDIRECT", 0),
        Target::Reject(with) => (info.u32(reject_code(*with, family)?).to(8), "REJECT", 0),
        Target::Mark { value, mask } => (info.u32(*value).u32(*mask), "MARK", 2),
        Target::SaveMark { nfmask, ctmask } => (
            connmark_info(*nfmask, *ctmask, XT_CONNMARK_SAVE),
            "CONNMARK",
            2,
        ),
        Target::RestoreMark { nfmask, ctmask } => (
            connmark_info(*nfmask, *ctmask, XT_CONNMARK_RESTORE),
            "CONNMARK",
            2,
        ),
        Target::Tproxy {
            on_port,
            on_ip,
            value,
            mask,
        } if Family::of(*on_ip) == family => {
            let info = info.u32(*mask).u32(*value).bytes(&octets(*on_ip));
            (info.to(24).port(*on_port), "TPROXY", 1)
        }
        Target::CtZone(zone) => (info.u16(0).u16(*zone).to(72), "CT", 2),
        _ => return None,
    };
    Some(info.finish(name, revision))
}

/// Decodes what [`write`] writes.
pub(crate) fn read(extension: &Extension, family: Family) -> Option<Target> {
    let info = Fields(&extension.info);
    let target = match extension.name.as_ref() {
        "REDIRECT" => Target::Redirect {
            to_port: info.port(match family {
                Family::V4 => 16,
                Family::V6 => 36,
            })?,
        },
        "REJECT" => {
            let code = info.u32(0)?;
            Target::Reject(RejectWith::all().find(|w| reject_code(*w, family) == Some(code))?)
        }
        "MARK" => Target::Mark {
            value: info.u32(0)?,
            mask: info.u32(4)?,
        },
        "CONNMARK" => {
            let (ctmask, nfmask) = (info.u32(4)?, info.u32(8)?);
            match info.u8(14)? {
                XT_CONNMARK_SAVE => Target::SaveMark { nfmask, ctmask },
                XT_CONNMARK_RESTORE => Target::RestoreMark { nfmask, ctmask },
                _ => return None,
            }
        }
        "TPROXY" => Target::Tproxy {
            mask: info.u32(0)?,
            value: info.u32(4)?,
            on_ip: info.address(8, family)?,
            on_port: info.port(24)?,
        },
        "CT" => Target::CtZone(info.u16(2)?),
        _ => return None,
    };
    (write(&target, family)? == *extension).then_some(target)
}

/// One range with one port (linux/netfilter/nf_nat.h): `struct nf_nat_ipv4_multi_range_compat`,
/// `struct nf_nat_range`.
fn redirect_info(port: u16, family: Family) -> Info {
    const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;
    let info = match family {
        Family::V4 => Info::default()
            .u32(1)
            .u32(NF_NAT_RANGE_PROTO_SPECIFIED)
            .to(16),
        Family::V6 => Info::default().u32(NF_NAT_RANGE_PROTO_SPECIFIED).to(36),
    };
    info.port(port).port(port)
}

/// xt_connmark.h.
const XT_CONNMARK_SAVE: u8 = 1;
const XT_CONNMARK_RESTORE: u8 = 2;

fn connmark_info(nfmask: u32, ctmask: u32, mode: u8) -> Info {
    // The shift fields are not used.
    let info = Info::default().u32(0).u32(ctmask).u32(nfmask);
    info.u8(0).u8(0).u8(mode)
}

/// `enum ipt_reject_with` (ipt_REJECT.h) and `enum ip6t_reject_with` (ip6t_REJECT.h).
fn reject_code(with: RejectWith, family: Family) -> Option<u32> {
    use RejectWith::*;
    const V4: [(RejectWith, u32); 8] = [
        (IcmpNetUnreachable, 0),
        (IcmpHostUnreachable, 1),
        (IcmpProtoUnreachable, 2),
        (IcmpPortUnreachable, 3),
        (IcmpNetProhibited, 5),
        (IcmpHostProhibited, 6),
        (TcpReset, 7),
        (IcmpAdminProhibited, 8),
    ];
    const V6: [(RejectWith, u32); 7] = [
        (Icmp6NoRoute, 0),
        (Icmp6AdmProhibited, 1),
        (Icmp6AddrUnreachable, 3),
        (Icmp6PortUnreachable, 4),
        (TcpReset, 6),
        (Icmp6PolicyFail, 7),
        (Icmp6RejectRoute, 8),
    ];
    let codes = match family {
        Family::V4 => V4.as_slice(),
        Family::V6 => V6.as_slice(),
    };
    codes
        .iter()
        .find(|(known, _)| *known == with)
        .map(|(_, code)| *code)
}
