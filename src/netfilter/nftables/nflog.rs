//! What a rule logs to a group of nfnetlink_log, as iptables-save prints it: xt's target NFLOG, and
//! `log`, which iptables-nft writes instead since 1.8.8.

use super::expr::Expr;
use super::rule::text;
use crate::netfilter::netlink::{AttributeTable, u32_ne};

/// `enum nft_log_attributes`.
const NFTA_LOG_GROUP: u16 = 1;
const NFTA_LOG_PREFIX: u16 = 2;
const NFTA_LOG_SNAPLEN: u16 = 3;

/// The target that an expression stands for.
pub(super) fn target(expr: &Expr) -> Option<String> {
    let (prefix, group, size) = match expr {
        Expr::Other { name, data } if name == "log" => log(data)?,
        Expr::Target(target) if target.name == "NFLOG" => xt_nflog_info(&target.info)?,
        _ => return None,
    };
    let prefix = text(prefix.split(|byte| *byte == 0).next()?);
    Some(format!(
        "-j NFLOG --nflog-prefix {prefix} --nflog-group {group} --nflog-size {size}"
    ))
}

type Logged<'a> = (&'a [u8], u16, u32);

fn log(data: &[u8]) -> Option<Logged<'_>> {
    let a = AttributeTable::<8>::parse(data).ok()?;
    let group = a.get(NFTA_LOG_GROUP)?.try_into().ok()?;
    let size = a.u32(NFTA_LOG_SNAPLEN).ok()?;
    Some((a.get(NFTA_LOG_PREFIX)?, u16::from_be_bytes(group), size))
}

/// The structure of that name: length, group, threshold, flags, padding, prefix.
fn xt_nflog_info(info: &[u8]) -> Option<Logged<'_>> {
    let group = info.get(4..6)?.try_into().ok()?;
    let prefix = info.get(12..76)?;
    Some((prefix, u16::from_ne_bytes(group), u32_ne(info, 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::netlink::Writer;
    use crate::netfilter::nftables::expr::Extension;

    #[test]
    fn both_kinds_are_printed_alike() {
        let mut info = vec![0; 80];
        info[0] = 20;
        info[4..6].copy_from_slice(&1337_u16.to_ne_bytes());
        info[12..23].copy_from_slice(b"JumpInbound");
        let xt = Expr::Target(Extension {
            name: "NFLOG".into(),
            revision: 0,
            info,
        });
        let mut w = Writer::default();
        w.bytes(NFTA_LOG_GROUP, &1337_u16.to_be_bytes());
        w.string(NFTA_LOG_PREFIX, "JumpInbound");
        w.u32(NFTA_LOG_SNAPLEN, 20);
        let native = Expr::Other {
            name: "log".to_owned(),
            data: w.as_slice().to_vec(),
        };
        let printed = "-j NFLOG --nflog-prefix JumpInbound --nflog-group 1337 --nflog-size 20";
        for expr in [xt, native] {
            assert_eq!(target(&expr).as_deref(), Some(printed));
        }
    }
}
