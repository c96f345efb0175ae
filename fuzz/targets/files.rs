//! Files of the host: environment files and resolv.conf.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prepare_proxy::mesh::config::{env_file, resolv_conf};

fuzz_target!(|text: &str| {
    let _ = env_file::parse(text);
    let _ = resolv_conf::nameservers(text);
});
