//! What the rules cost a connection that is captured, beside the same connection without rules.

use crate::world::{ISTIO, file, fresh, median, run};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

/// Outbound connections go to `SERVICE`; the proxy listens on its outbound port.
const SERVICE: &str = "10.77.0.1:7777";
const PROXY: &str = "127.0.0.1:15001";
/// How many connections are made in a row before it is the next way's turn.
const IN_A_ROW: usize = 20;
const ROUNDS: usize = 400;

/// One network namespace with its rules.
struct Way {
    name: &'static str,
    namespace: File,
    /// Where it connects to: without rules straight to the proxy.
    to: SocketAddr,
    /// Microseconds of each round.
    rounds: Vec<f64>,
}

/// Prints one line for each way to have Istio's rules.
pub fn compare(product: &Path) -> io::Result<()> {
    let mut ways = vec![
        way("no rules", PROXY, || Ok(()))?,
        way("iptables-nft", SERVICE, || {
            restored("iptables-nft", product)
        })?,
        way("iptables-legacy", SERVICE, || {
            restored("iptables-legacy", product)
        })?,
        way("**prepare-proxy**, netlink", SERVICE, || {
            apply(product, "netlink")
        })?,
        way("**prepare-proxy**, nftables", SERVICE, || {
            apply(product, "nftables")
        })?,
    ];
    for _ in 0..ROUNDS {
        for way in &mut ways {
            setns(&way.namespace, CloneFlags::CLONE_NEWNET)?;
            way.rounds.push(way.connect()?);
        }
    }
    let (none, rules) = ways.split_first().expect("there are some");
    println!(
        "\nA captured connection: {IN_A_ROW} connect() a round in turns, {ROUNDS} rounds; without rules {:.1} µs:\n",
        middle(none.rounds.clone())
    );
    println!("| Istio's rules by | extra for a connect() | to that of iptables-nft |");
    println!("|---|--:|--:|");
    let extras: Vec<f64> = rules.iter().map(|way| way.extra(none)).collect();
    for (way, extra) in rules.iter().zip(&extras) {
        let (name, relative) = (way.name, extra / extras[0]);
        println!("| {name} | {extra:.1} µs | {relative:.2}× |");
    }
    Ok(())
}

impl Way {
    /// One round: the median of some connections, in microseconds.
    fn connect(&self) -> io::Result<f64> {
        let mut times = Vec::with_capacity(IN_A_ROW);
        for _ in 0..IN_A_ROW {
            let start = Instant::now();
            TcpStream::connect(self.to)?;
            times.push(start.elapsed());
        }
        Ok(median(&mut times).as_secs_f64() * 1e6)
    }

    /// What a connection takes longer than without rules, in microseconds: the median of the rounds,
    /// each compared with its own, so that what else the machine does meets both.
    fn extra(&self, none: &Way) -> f64 {
        let rounds = self.rounds.iter().zip(&none.rounds);
        middle(rounds.map(|(with, without)| with - without).collect())
    }
}

fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// A namespace with a route to the service, a proxy, and these rules.
fn way(
    name: &'static str,
    to: &str,
    install: impl FnOnce() -> io::Result<()> + Send,
) -> io::Result<Way> {
    let namespace = fresh(|| {
        let ip = |args: &str| run("ip", args.split(' ')).map(drop);
        ip("link add eth0 type veth peer name peer0")?;
        ip("addr add 10.77.0.2/24 dev eth0")?;
        ip("link set eth0 up")?;
        ip("link set peer0 up")?;
        install()?;
        let proxy = TcpListener::bind(PROXY)?;
        thread::spawn(move || proxy.incoming().for_each(drop));
        File::open("/proc/thread-self/ns/net")
    })?;
    Ok(Way {
        name,
        namespace,
        to: to.parse().expect("an address"),
        rounds: Vec::new(),
    })
}

fn apply(product: &Path, backend: &str) -> io::Result<()> {
    let options = [&ISTIO[..], &["--quiet", "--backend", backend]].concat();
    run(product, options).map(drop)
}

/// The rules as the tools replaced write them.
fn restored(program: &str, product: &Path) -> io::Result<()> {
    let rules = run(product, ISTIO.iter().chain(&["-n", "--format", "restore"]))?;
    run(format!("{program}-restore"), [&file(&rules)?]).map(drop)
}
