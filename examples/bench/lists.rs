//! Long lists of exempt CIDRs: how long they take to load and to compare, and what a connection past
//! all of them costs.

use crate::world::{fresh, median, run};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

const LENGTHS: [usize; 4] = [10, 1_000, 10_000, 100_000];
const CONNECTIONS: usize = 301;
const SERVER: &str = "10.77.0.1:7777";

/// The backends, and how each keeps a list.
const WAYS: [(&str, &str); 3] = [
    ("netlink", "rules"),
    ("iptables-legacy", "rules"),
    ("nftables", "sets"),
];

/// Prints one line for each length.
pub fn compare(product: &Path) -> io::Result<()> {
    println!(
        "Exempt CIDRs, time to apply them / of a diff / median of {CONNECTIONS} connect() past all of them:\n"
    );
    let names = WAYS.map(|(backend, kept)| format!("{backend} ({kept})"));
    println!("| CIDRs | {} |", names.join(" | "));
    println!("|--:|{}", "--:|".repeat(WAYS.len()));
    for length in LENGTHS {
        let list = list(length)?;
        let cells: io::Result<Vec<String>> = WAYS
            .iter()
            .map(|(backend, _)| {
                let [apply, diff, connect] = fresh(|| measure(product, backend, &list))?;
                Ok(format!(
                    "{:.0} ms / {:.0} ms / {:.0} µs",
                    apply.as_secs_f64() * 1e3,
                    diff.as_secs_f64() * 1e3,
                    connect.as_secs_f64() * 1e6
                ))
            })
            .collect();
        println!("| {length} | {} |", cells?.join(" | "));
    }
    Ok(())
}

/// An environment file with a list of CIDRs that do not touch one another. A command line could not
/// hold it.
fn list(length: usize) -> io::Result<NamedTempFile> {
    let cidr = |i: usize| {
        let [_, a, b, c] = (2 * i as u32).to_be_bytes();
        format!("{}.{b}.{c}.0/24", 20 + a)
    };
    let cidrs: Vec<String> = (0..length).map(cidr).collect();
    let mut file = NamedTempFile::new()?;
    writeln!(file, "ISTIO_SERVICE_EXCLUDE_CIDR={}", cidrs.join(","))?;
    Ok(file)
}

fn measure(product: &Path, backend: &str, list: &NamedTempFile) -> io::Result<[Duration; 3]> {
    let server: SocketAddr = SERVER.parse().expect("an address");
    serve(server)?;
    let list = list.path().to_string_lossy();
    let timed = |action: &str| {
        let options = ["--mesh", "istio", "--backend", backend, "--env-file", &list];
        let start = Instant::now();
        run(product, [&[action], &options[..]].concat())?;
        io::Result::Ok(start.elapsed())
    };
    let [apply, diff] = [timed("apply")?, timed("diff")?];
    let mut times = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let start = Instant::now();
        TcpStream::connect(server)?;
        times.push(start.elapsed());
    }
    Ok([apply, diff, median(&mut times)])
}

/// A server in a namespace of its own, at the other end of a veth pair; gone with this thread's
/// namespace.
fn serve(address: SocketAddr) -> io::Result<()> {
    let here = File::open("/proc/thread-self/ns/net")?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), here.as_raw_fd());
    let server = thread::spawn(move || -> io::Result<TcpListener> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let ip = |args: &str| run("ip", args.split(' ')).map(drop);
        ip(&format!(
            "link add eth0 type veth peer name eth0 netns {path}"
        ))?;
        ip("addr add 10.77.0.1/24 dev eth0")?;
        ip("link set eth0 up")?;
        TcpListener::bind(address)
    });
    let listener = server.join().expect("a server does not panic")?;
    setns(&here, CloneFlags::CLONE_NEWNET)?;
    let ip = |args: &str| run("ip", args.split(' ')).map(drop);
    ip("addr add 10.77.0.2/24 dev eth0")?;
    ip("link set eth0 up")?;
    thread::spawn(move || listener.incoming().for_each(drop));
    Ok(())
}
