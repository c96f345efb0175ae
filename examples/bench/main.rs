//! Measures what installing rules costs, and what they cost afterwards: this program against the
//! tools it replaces. Prints tables in Markdown.
//!
//! Everything happens in network namespaces of its own, a fresh one for each measurement; ways that
//! are compared take turns, so that what else the machine does meets all of them.
#![forbid(unsafe_code)]
#![allow(unreachable_pub, reason = "nobody imports this")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bans are for what is shipped"
)]

mod beside;
mod inside;
mod lists;
mod path;
mod tools;
mod watch;
mod world;

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let product = args.next().map(PathBuf::from);
    let empty = args.next().map(PathBuf::from);
    let rounds = args.next().and_then(|n| n.to_str()?.parse().ok());
    let what = args.next();
    let (Some(product), Some(empty), Some(rounds)) = (product, empty, rounds) else {
        let usage = "usage: bench PROGRAM EMPTY-PROGRAM ROUNDS [watch|path]";
        return Err(io::Error::other(usage));
    };
    match what.as_deref().and_then(OsStr::to_str) {
        Some("watch") => return watch::measure(&product, rounds),
        Some("path") => return path::compare(&product),
        _ => {}
    }
    tools::compare(&product, &empty, rounds)?;
    inside::share(rounds)?;
    lists::compare(&product)?;
    beside::compare(&product)?;
    path::compare(&product)
}
