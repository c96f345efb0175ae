//! How much of an apply's own work is the kernel's.

use crate::world::{fresh, median};
use nix::sys::socket::SockProtocol;
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::backend::{Backend, TableKind};
use prepare_proxy::netfilter::model::{
    ChainName, Family, Match, Owner, Protocol, Ruleset, Table, TableName, Target,
};
use prepare_proxy::netfilter::netlink::{Socket, Transport};
use prepare_proxy::netfilter::nftables::Netlink;
use std::cell::Cell;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A socket that counts the time spent in the commit.
struct Clock {
    socket: Socket,
    commit: Rc<Cell<Duration>>,
}

impl Transport for Clock {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let start = Instant::now();
        let result = self.socket.send(parts);
        // Only a commit has parts.
        if parts.len() > 1 {
            self.commit.set(start.elapsed());
        }
        result
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.receive(buffer)
    }

    fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
        self.socket.capacity(wanted)
    }
}

/// Prints the time from a ruleset to rules in the kernel, beside that of the bare commit.
pub fn share(rounds: usize) -> io::Result<()> {
    let wanted = nginmesh();
    let (mut all, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (took, commit) = fresh(|| apply(&wanted))?;
        all.push(took);
        bare.push(commit);
    }
    let (all, bare) = (median(&mut all), median(&mut bare));
    println!(
        "\nOpening the socket, reading, planning and writing take {:.0} µs, of which the kernel's \
         commit is {:.0} µs: {:.1}×.\n",
        all.as_secs_f64() * 1e6,
        bare.as_secs_f64() * 1e6,
        all.as_secs_f64() / bare.as_secs_f64(),
    );
    Ok(())
}

fn apply(wanted: &Ruleset) -> io::Result<(Duration, Duration)> {
    let start = Instant::now();
    let commit = Rc::new(Cell::new(Duration::ZERO));
    let clock = Clock {
        socket: Socket::open(SockProtocol::NetlinkNetFilter)?,
        commit: Rc::clone(&commit),
    };
    let mut backend = Netlink::new(clock, TableKind::Xt);
    let observed = backend.read().map_err(io::Error::other)?;
    let change = plan(&observed, wanted);
    backend.commit(&change).map_err(io::Error::other)?;
    Ok((start.elapsed(), commit.get()))
}

/// nginmesh's rules for IPv4.
fn nginmesh() -> Ruleset {
    const REDIRECT: ChainName = ChainName::fixed("ISTIO_REDIRECT");
    const OUTPUT: ChainName = ChainName::fixed("ISTIO_OUTPUT");
    let loopback = || {
        Match::destination(ipnet::IpNet::from(std::net::IpAddr::from(
            Ipv4Addr::LOCALHOST,
        )))
    };
    let tcp = || Match::protocol(Protocol::Tcp);
    let lo = Match::out_interface("lo".parse().expect("a name"));
    let mut table = Table::new(Family::V4, TableName::Nat);
    let redirect = Target::Redirect { to_port: 15001 };
    table.chain(REDIRECT).rule("redirect", [tcp()], redirect);
    let output = table.chain(OUTPUT);
    output.rule("loopback", [!loopback(), lo], Target::Jump(REDIRECT));
    let proxy = Match::owner(Owner::Uid(1337));
    output.rule("proxy", [proxy], Target::Return);
    output.rule("explicit", [loopback()], Target::Return);
    output.rule("rest", [], Target::Jump(REDIRECT));
    let prerouting = table.chain(ChainName::PREROUTING);
    prerouting.rule("in", [], Target::Jump(REDIRECT));
    table
        .chain(ChainName::OUTPUT)
        .rule("out", [tcp()], Target::Jump(OUTPUT));
    Ruleset {
        tables: vec![table],
        ..Ruleset::default()
    }
    .labelled("istio")
}
