//! A small network laboratory in one program: the transparent proxy, the
//! application and the clients that the demo, the tests and the pod image need.
//!
//! Every result is one line of `key=value` fields on stdout. A server names
//! itself in the answer it gives (`by=NAME:PORT peer=… local=… orig=…`); where
//! a proxy stands in between, its own line comes first, so that a client sees
//! the whole way its connection took: `by=proxy:15001 … > by=app:8080 …`.
#![forbid(unsafe_code)]
#![allow(unreachable_pub, reason = "nobody imports this")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bans are for what is shipped"
)]

mod batch;
mod client;
mod life;
mod net;
mod proxy;
mod serve;
mod storm;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

fn main() -> ExitCode {
    let matches = command().get_matches();
    run(&matches).unwrap_or_else(|e| {
        eprintln!("lab: {e}");
        ExitCode::from(2)
    })
}

fn run(matches: &ArgMatches) -> io::Result<ExitCode> {
    if let Some(&(uid, gid)) = matches.get_one("user") {
        life::become_user(uid, gid)?;
    }
    life::watch(matches.get_flag("lifeline"))?;
    match matches.subcommand() {
        Some(("proxy", m)) => proxy::run(m),
        Some(("serve", m)) => serve::run(m),
        Some(("connect", m)) => client::connect(m),
        Some(("query", m)) => client::query(m),
        Some(("storm", m)) => storm::run(m),
        Some(("batch", m)) => batch::run(*m.get_one("timeout").expect("has a default")),
        _ => unreachable!("clap requires a sub-command"),
    }
}

fn command() -> Command {
    Command::new("lab")
        .about("Transparent proxy, servers and clients that say who they talked to")
        .subcommand_required(true)
        .arg(
            Arg::new("lifeline")
                .long("lifeline")
                .global(true)
                .action(ArgAction::SetTrue)
                .help("End when stdin closes: when whoever started this program is gone"),
        )
        .arg(
            Arg::new("user")
                .long("user")
                .global(true)
                .value_name("UID:GID")
                .value_parser(parse_user)
                .help("Become this user before anything else"),
        )
        .subcommand(proxy_command())
        .subcommand(serve_command())
        .subcommand(
            client_command("connect")
                .about("Connect and print what was answered (exit 1 when a target did not answer)"),
        )
        .subcommand(
            client_command("query")
                .about("Send a datagram, print the reply and who sent it (exit 1 without a reply)"),
        )
        .subcommand(storm_command())
        .subcommand(
            Command::new("batch")
                .about("Make many connections, each as another user")
                .after_help(batch::HELP)
                .arg(timeout_arg()),
        )
}

fn proxy_command() -> Command {
    Command::new("proxy")
        .about("Accept redirected connections and pass them on")
        .arg(name_arg("proxy"))
        .arg(
            Arg::new("announce")
                .long("announce")
                .action(ArgAction::SetTrue)
                .help("Send the client one line about this hop first"),
        )
        .arg(
            Arg::new("listener")
                .num_args(1..)
                .required(true)
                .value_parser(proxy::Listener::parse)
                .help(proxy::Listener::HELP),
        )
}

fn serve_command() -> Command {
    Command::new("serve")
        .about("Answer each connection or datagram with one line that says who was reached")
        .arg(name_arg("app"))
        .arg(
            Arg::new("endpoint")
                .num_args(1..)
                .required(true)
                .value_parser(serve::Endpoint::parse)
                .help("[tcp:|udp:][ADDRESS:]PORT; without an address, both families"),
        )
}

fn storm_command() -> Command {
    client_command("storm")
        .about("Connect all the time and count who answered, until SIGTERM or -n")
        .arg(
            Arg::new("number")
                .short('n')
                .value_parser(value_parser!(u64))
                .help("Stop after so many connections"),
        )
        .arg(
            Arg::new("threads")
                .short('j')
                .default_value("2")
                .value_parser(value_parser!(usize))
                .help("How many connect at once"),
        )
}

fn name_arg(default: &'static str) -> Arg {
    Arg::new("name")
        .long("name")
        .default_value(default)
        .help("What this server calls itself")
}

fn client_command(name: &'static str) -> Command {
    Command::new(name)
        .arg(
            Arg::new("source")
                .long("source")
                .value_parser(net::parse_source)
                .help("ADDRESS or ADDRESS:PORT to send from"),
        )
        .arg(timeout_arg())
        .arg(
            Arg::new("target")
                .num_args(1..)
                .required(true)
                .value_parser(value_parser!(SocketAddr))
                .help("ADDRESS:PORT"),
        )
}

fn timeout_arg() -> Arg {
    Arg::new("timeout")
        .long("timeout")
        .default_value("5")
        .value_parser(value_parser!(u64))
        .help("Seconds to wait for a connection and for an answer")
}

fn parse_user(text: &str) -> Result<(u32, u32), String> {
    let ids = text
        .split_once(':')
        .map(|(uid, gid)| (uid.parse(), gid.parse()));
    match ids {
        Some((Ok(uid), Ok(gid))) => Ok((uid, gid)),
        _ => Err(format!("{text:?} is not UID:GID")),
    }
}

/// The values of a repeatable argument that clap has already parsed.
fn values<'a, T: Clone + Send + Sync + 'static>(
    m: &'a ArgMatches,
    id: &str,
) -> impl Iterator<Item = &'a T> {
    m.get_many::<T>(id).into_iter().flatten()
}
