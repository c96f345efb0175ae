//! Dumps of nf_tables, for both encodings; the first byte says which.
#![no_main]

mod kernel;

use kernel::Kernel;
use libfuzzer_sys::fuzz_target;
use prepare_proxy::backend::netlink::Netlink;
use prepare_proxy::backend::{Backend, Store};
use prepare_proxy::ops::plan;
use prepare_proxy::ruleset::Ruleset;

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
