//! Dumps of policy rules, routes and addresses.
#![no_main]

mod kernel;

use kernel::Kernel;
use libfuzzer_sys::fuzz_target;
use prepare_proxy::netfilter::rtnetlink::Router;
use prepare_proxy::netfilter::model::Routing;

fuzz_target!(|data: &[u8]| {
    let _ = Router::new(Kernel::new(data)).look(&Routing::default());
});
