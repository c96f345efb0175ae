//! Life on a host: rules of every origin converge, others' rules stay as they are, and whatever
//! happens in between, the kernel ends up with the wanted state or the one before.
#![forbid(unsafe_code)]

#[path = "../lab/mod.rs"]
mod lab;

mod auto;
mod capabilities;
mod clean;
mod converge;
mod diff;
mod kill;
mod node;
mod polite;
mod poor;
mod recorded;
mod ssh;
mod starts;
mod together;
mod traces;
mod world;

/// Every backend that writes; each test here is made for all of them.
const BACKENDS: &[&str] = &["netlink", "nftables", "iptables-nft", "iptables-legacy"];

/// Runs a check on every backend, and tells of all that fail.
fn on_every_backend(check: impl Fn(&'static str) -> Result<(), String>) {
    let failed: Vec<String> = BACKENDS
        .iter()
        .filter_map(|backend| Some(format!("{backend}: {}", check(backend).err()?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
