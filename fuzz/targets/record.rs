//! Records what the kernel answers, as seeds for the targets `netlink` and `routing`: to be run in a
//! network namespace in which rules are, with the directory of the seeds as its argument.

use nix::sys::socket::SockProtocol;
use prepare_proxy::netfilter::nftables::Netlink;
use prepare_proxy::netfilter::backend::{Backend, TableKind};
use prepare_proxy::netfilter::netlink::{Socket, Transport};
use prepare_proxy::netfilter::rtnetlink::Router;
use prepare_proxy::netfilter::model::Routing;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::{env, fs, io};

/// A socket that keeps what it receives, as the targets read it.
struct Recorder {
    socket: Socket,
    answers: Rc<RefCell<Vec<u8>>>,
}

impl Transport for Recorder {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.socket.send(parts)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.socket.receive(buffer)?;
        let short = u16::try_from(length).expect("datagrams are shorter than 32 KiB");
        let mut answers = self.answers.borrow_mut();
        answers.extend_from_slice(&short.to_le_bytes());
        answers.extend_from_slice(&buffer[..length]);
        Ok(length)
    }

    fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
        self.socket.capacity(wanted)
    }
}

fn main() -> io::Result<()> {
    let seeds = env::args_os().nth(1).expect("a directory");
    let seeds = Path::new(&seeds);
    for (first, kind) in [(0, TableKind::Xt), (1, TableKind::Native)] {
        let answers = record(SockProtocol::NetlinkNetFilter, vec![first], |recorder| {
            let observed = Netlink::new(recorder, kind).read();
            observed.expect("nf_tables can be read");
        })?;
        fs::write(seeds.join(format!("netlink/{kind:?}")), answers)?;
    }
    let answers = record(SockProtocol::NetlinkRoute, vec![], |recorder| {
        let looked = Router::new(recorder).look(&Routing::default());
        looked.expect("routes can be read");
    })?;
    fs::write(seeds.join("routing/routes"), answers)
}

fn record(
    protocol: SockProtocol,
    first: Vec<u8>,
    talk: impl FnOnce(Recorder),
) -> io::Result<Vec<u8>> {
    let answers = Rc::new(RefCell::new(first));
    talk(Recorder {
        socket: Socket::open(protocol)?,
        answers: Rc::clone(&answers),
    });
    Ok(answers.take())
}
