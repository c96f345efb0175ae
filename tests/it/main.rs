//! All that the program promises, tried with the program itself: against the real kernel, in network
//! namespaces of the tests' own, beside the tools that it replaces. `cargo test --test it MODULE`
//! runs one part.
#![forbid(unsafe_code)]
#![allow(unreachable_pub, reason = "nobody imports this")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bans are for what is shipped"
)]

mod cases;
mod every_match;
mod lab;

mod architecture;
mod bad_input;
mod cni;
mod command_lines;
mod completions;
mod explain;
mod goldens;
mod iptables_crate;
mod kernel;
mod lifecycle;
mod linkerd;
mod messages;
mod netlink;
mod no_leaks;
mod printed;
mod routing;
mod status;
mod traffic;
mod verify;
mod watch;
