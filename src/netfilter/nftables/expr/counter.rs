//! `counter`: counts packets and bytes (`enum nft_counter_attributes`). The counts are not part of
//! the rule and read separately.

use super::{Data, Expr, NFTA_EXPR_DATA};
use crate::netfilter::model::Counters;
use crate::netfilter::netlink::{AttributeTable, Attributes, Malformed, Writer};

pub(crate) const NAME: &str = "counter";

const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// A counter at zero.
pub(crate) fn write(w: &mut Writer) {
    w.u64(NFTA_COUNTER_BYTES, 0);
    w.u64(NFTA_COUNTER_PACKETS, 0);
}

/// The counts of the last counter of a rule, if any. `exprs` is what its list was read as.
pub(crate) fn read(exprs: &[Expr], list: &[u8]) -> Result<Option<Counters>, Malformed> {
    let elements = exprs.iter().zip(Attributes::new(list));
    let counters = elements.filter(|(expr, _)| expr.name() == NAME);
    let Some((_, element)) = counters.last() else {
        return Ok(None);
    };
    let element = AttributeTable::<3>::parse(element?.1)?;
    let data = Data::parse(element.bytes(NFTA_EXPR_DATA)?)?;
    Ok(Some(Counters {
        packets: data.u64(NFTA_COUNTER_PACKETS)?,
        bytes: data.u64(NFTA_COUNTER_BYTES)?,
    }))
}
