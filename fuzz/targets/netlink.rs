//! Dumps of nf_tables, for both encodings; the first byte says which.
#![no_main]

mod kernel;

use kernel::Kernel;
use libfuzzer_sys::fuzz_target;
use prepare_proxy::netfilter::nftables::Netlink;
use prepare_proxy::netfilter::backend::{Backend, Store};
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::model::Ruleset;

fuzz_target!(|data: &[u8]| {
    let Some((first, answers)) = data.split_first() else {
        return;
    };
    let store = match first % 2 {
        0 => Store::Xt,
        _ => Store::Native,
    };
    let mut backend = Netlink::new(Kernel::new(answers), store);
    if let Ok(live) = backend.read() {
        let _ = backend.commit(&plan(&live, &Ruleset::default()));
    }
});
