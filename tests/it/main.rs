//! All that the program promises, tried with the program itself: against the real kernel, in network
//! namespaces of the tests' own, beside the tools that it replaces. `cargo test --test it MODULE`
//! runs one part.
#![forbid(unsafe_code)]

mod cases;
mod every_match;
mod lab;

mod architecture;
mod bad_input;
mod command_lines;
mod goldens;
mod kernel;
mod lifecycle;
mod netlink;
mod no_leaks;
mod routing;
mod traffic;
