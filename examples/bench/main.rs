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

mod inside;
mod lists;
mod tools;
mod watch;
mod world;

use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let product = args.next().map(PathBuf::from);
    let rounds = args.next().and_then(|n| n.to_str()?.parse().ok());
    let what = args.next();
    let (Some(product), Some(rounds)) = (product, rounds) else {
        return Err(io::Error::other("usage: bench PROGRAM ROUNDS [watch]"));
    };
    if what.is_some_and(|what| what == "watch") {
        return watch::measure(&product, rounds);
    }
    tools::compare(&product, rounds)?;
    inside::share(rounds)?;
    lists::compare(&product)
}
