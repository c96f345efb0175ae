//! Dumps of nf_tables, for both encodings; the first byte says which.
#![no_main]

mod kernel;

use kernel::Kernel;
use libfuzzer_sys::fuzz_target;
use prepare_proxy::netfilter::nftables::Netlink;
use prepare_proxy::netfilter::backend::{Backend, TableKind};
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::model::Ruleset;

fuzz_target!(|data: &[u8]| {
    let Some((first, answers)) = data.split_first() else {
        return;
    };
    let kind = match first % 2 {
        0 => TableKind::Xt,
        _ => TableKind::Native,
    };
    let mut backend = Netlink::new(Kernel::new(answers), kind);
    if let Ok(observed) = backend.read() {
        let _ = backend.commit(&plan(&observed, &Ruleset::default()));
    }
});
