//! Dumps of policy rules, routes and addresses.
#![no_main]

mod kernel;

use kernel::Kernel;
use libfuzzer_sys::fuzz_target;
use prepare_proxy::routing::Router;
use prepare_proxy::ruleset::Routing;

fuzz_target!(|data: &[u8]| {
    let _ = Router::new(Kernel::new(data)).look(&Routing::default());
});
