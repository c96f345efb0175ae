//! Many connections, each made by somebody else, from one process.

use crate::client;
use crate::net::{self, Options};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid, setgroups};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::thread;

/// One line of standard input.
struct Line {
    udp: bool,
    to: SocketAddr,
    options: Options,
    uid: Uid,
    groups: Vec<Gid>,
    /// What a datagram says.
    id: String,
}

pub const HELP: &str = "Read connections from standard input, one a line: \
    `tcp|udp TO [user=UID:GID[,GID...]] [source=ADDRESS[:PORT]] [mark=N] [id=WORD]`, and print what \
    was answered to each; a datagram says its id and is not waited for";

/// `batch`
pub fn run(timeout: u64) -> io::Result<ExitCode> {
    let mut lines = Vec::new();
    for line in io::stdin().lines() {
        let line = line?;
        let line = Line::parse(&line, timeout)
            .ok_or_else(|| io::Error::other(format!("{line:?} is no connection")))?;
        lines.push((line.socket(), line));
    }
    // Only now: a change of groups interrupts every thread.
    let threads: Vec<_> = lines
        .into_iter()
        .map(|(socket, line)| thread::spawn(move || line.connect(socket?)))
        .collect();
    for thread in threads {
        let answer = thread.join().expect("a client ends");
        println!(
            "{}",
            answer.unwrap_or_else(|e| format!("error={}", net::error_word(&e)))
        );
    }
    Ok(ExitCode::SUCCESS)
}

impl Line {
    fn parse(text: &str, timeout: u64) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut line = Line {
            udp: words.next()? == "udp",
            to: words.next()?.parse().ok()?,
            options: Options {
                timeout,
                ..Options::default()
            },
            uid: Uid::from_raw(0),
            groups: vec![Gid::from_raw(0)],
            id: String::new(),
        };
        for word in words {
            match word.split_once('=')? {
                ("user", ids) => line.set_user(ids)?,
                ("source", source) => line.options.source = net::parse_source(source).ok(),
                ("id", id) => line.id = id.to_owned(),
                ("mark", mark) => line.options.mark = mark.parse().ok(),
                _ => return None,
            }
        }
        Some(line)
    }

    fn set_user(&mut self, ids: &str) -> Option<()> {
        let (uid, gids) = ids.split_once(':')?;
        let gids = gids.split(',').map(|gid| gid.parse().map(Gid::from_raw));
        self.groups = gids.collect::<Result<_, _>>().ok()?;
        self.uid = Uid::from_raw(uid.parse().ok()?);
        Some(())
    }

    /// Makes the socket as somebody else: a socket belongs to who makes it, by the ids that files
    /// are made with. Capabilities stay.
    fn socket(&self) -> io::Result<OwnedFd> {
        setgroups(&self.groups[1..])?;
        setfsgid(self.groups[0]);
        setfsuid(self.uid);
        let socket = match self.udp {
            true => self.udp_socket(),
            false => net::tcp_socket(self.to, &self.options).map_err(Into::into),
        };
        setfsuid(Uid::from_raw(0));
        setfsgid(Gid::from_raw(0));
        socket
    }

    fn udp_socket(&self) -> io::Result<OwnedFd> {
        let any = net::wildcards(0)[usize::from(self.to.is_ipv6())];
        let source = self.options.source.unwrap_or(any);
        Ok(net::udp_socket(source, &self.options)?.into())
    }

    fn connect(self, socket: OwnedFd) -> io::Result<String> {
        if self.udp {
            UdpSocket::from(socket).send_to(self.id.as_bytes(), self.to)?;
            return Ok("sent".to_owned());
        }
        client::heard(net::connected(socket, self.to)?)
    }
}
