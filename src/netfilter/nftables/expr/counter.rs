//! `counter`: counts packets and bytes (`enum nft_counter_attributes`). What it has counted says
//! nothing of the rule, and is read apart from it.

use super::{Data, NFTA_EXPR_DATA, NFTA_EXPR_NAME};
use crate::netfilter::model::Counters;
use crate::netfilter::netlink::{AttributeTable, Attributes, Malformed, Writer};

pub(crate) const NAME: &str = "counter";

const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// From nothing.
pub(crate) fn write(w: &mut Writer) {
    w.u64(NFTA_COUNTER_BYTES, 0);
    w.u64(NFTA_COUNTER_PACKETS, 0);
}

/// What the last counter in a rule's list of expressions has counted, if there is one.
pub(crate) fn read(expressions: &[u8]) -> Result<Option<Counters>, Malformed> {
    let mut counters = None;
    for element in Attributes::new(expressions) {
        let element = AttributeTable::<3>::parse(element?.1)?;
        if element.string(NFTA_EXPR_NAME)? == NAME {
            let data = Data::parse(element.bytes(NFTA_EXPR_DATA)?)?;
            counters = Some(Counters {
                packets: data.u64(NFTA_COUNTER_PACKETS)?,
                bytes: data.u64(NFTA_COUNTER_BYTES)?,
            });
        }
    }
    Ok(counters)
}
