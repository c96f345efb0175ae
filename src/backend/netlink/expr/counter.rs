//! `counter`: counts packets and bytes (`enum nft_counter_attributes`). What it has counted is not
//! read.

use crate::netlink::Writer;

pub const NAME: &str = "counter";

const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// From nothing.
pub fn write(w: &mut Writer) {
    w.u64(NFTA_COUNTER_BYTES, 0);
    w.u64(NFTA_COUNTER_PACKETS, 0);
}
