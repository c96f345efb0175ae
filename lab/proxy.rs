//! A transparent proxy: it learns where each connection was going and passes it
//! on, as a sidecar does.

use crate::net::{self, Options};
use crate::serve::{accept, hop, ready, say};
use clap::ArgMatches;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

/// One port of the proxy and what happens to a connection that arrives there.
#[derive(Clone, Debug)]
pub struct Listener {
    port: u16,
    transparent: bool,
    to: Upstream,
    source: Source,
    mark: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
enum Upstream {
    /// The original destination.
    Original,
    /// The original destination, one's own addresses over loopback.
    Loopback,
    /// Always these, each family's own.
    Fixed(Vec<SocketAddr>),
    /// Nowhere: the proxy's own answer is all there is.
    Nowhere,
}

#[derive(Clone, Debug)]
enum Source {
    /// These addresses, each for its own family; the kernel's choice for others.
    Addresses(Vec<IpAddr>),
    /// The address that the client came from. Not its port: the same addresses
    /// and ports both ways are the client's own connection.
    Peer,
}

impl Listener {
    pub const HELP: &str = "PORT[,OPTION]...: `transparent` (IP_TRANSPARENT, for TPROXY), \
        `to=original` (the default), `to=loopback` (original, own addresses over loopback), `to=ADDRESS:PORT` \
        (may be repeated for the other family), `to=nowhere`, `from=ADDRESS` (may be repeated), `from=peer`, `mark=N`";

    /// `PORT[,OPTION]...`, see [`Listener::HELP`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let (port, options) = text.split_once(',').unwrap_or((text, ""));
        let mut listener = Self {
            port: port
                .parse()
                .map_err(|_| format!("{port:?} is not a port"))?,
            transparent: false,
            to: Upstream::Original,
            source: Source::Addresses(Vec::new()),
            mark: None,
        };
        for option in options.split(',').filter(|o| !o.is_empty()) {
            listener
                .set(option)
                .ok_or_else(|| format!("{option:?} is not an option of a listener"))?;
        }
        Ok(listener)
    }

    fn set(&mut self, option: &str) -> Option<()> {
        match option.split_once('=').unwrap_or((option, "")) {
            ("transparent", "") => self.transparent = true,
            ("to", "original") => self.to = Upstream::Original,
            ("to", "loopback") => self.to = Upstream::Loopback,
            ("to", "nowhere") => self.to = Upstream::Nowhere,
            ("to", address) => match &mut self.to {
                Upstream::Fixed(known) => known.push(address.parse().ok()?),
                other => *other = Upstream::Fixed(vec![address.parse().ok()?]),
            },
            ("from", "peer") => self.source = Source::Peer,
            ("from", ip) => match &mut self.source {
                Source::Addresses(known) => known.push(ip.parse().ok()?),
                other => *other = Source::Addresses(vec![ip.parse().ok()?]),
            },
            ("mark", mark) => self.mark = Some(mark.parse().ok()?),
            _ => return None,
        }
        Some(())
    }

    /// Where to pass on what was going to `original`, or nothing.
    fn upstream(&self, original: SocketAddr) -> Option<SocketAddr> {
        match &self.to {
            Upstream::Original => Some(original),
            Upstream::Loopback if net::is_own_address(original.ip()) => {
                let loopback: IpAddr = match original {
                    SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
                Some((loopback, original.port()).into())
            }
            Upstream::Loopback => Some(original),
            Upstream::Fixed(known) => known
                .iter()
                .copied()
                .find(|a| a.is_ipv4() == original.is_ipv4()),
            Upstream::Nowhere => None,
        }
    }

    fn dial(&self, to: SocketAddr, peer: SocketAddr) -> Options {
        let source = match &self.source {
            Source::Peer => Some(SocketAddr::new(peer.ip(), 0)),
            Source::Addresses(known) => known
                .iter()
                .find(|ip| ip.is_ipv4() == to.is_ipv4())
                .map(|&ip| SocketAddr::new(ip, 0)),
        };
        let transparent = matches!(self.source, Source::Peer);
        Options {
            transparent,
            mark: self.mark,
            source,
            timeout: 5,
        }
    }
}

/// `proxy`: never returns once every port is open.
pub fn run(m: &ArgMatches) -> io::Result<ExitCode> {
    let name: &String = m.get_one("name").expect("has a default");
    let announce = m.get_flag("announce");
    let mut threads = Vec::new();
    for config in crate::values::<Listener>(m, "listener") {
        let options = Options {
            transparent: config.transparent,
            ..Options::default()
        };
        for listener in net::tcp_listeners(&net::wildcards(config.port), &options)? {
            let who: Arc<str> = format!("{name}:{}", config.port).into();
            let config = Arc::new(config.clone());
            threads.push(thread::spawn(move || {
                accept(&listener, |stream| {
                    let (who, config) = (who.clone(), config.clone());
                    thread::spawn(move || pass_on(&who, &config, announce, stream));
                });
            }));
        }
    }
    ready(threads)
}

fn pass_on(who: &str, config: &Listener, announce: bool, mut client: TcpStream) {
    let (Ok(local), Ok(peer), Ok(line)) =
        (client.local_addr(), client.peer_addr(), hop(who, &client))
    else {
        return; // the client has gone already
    };
    if announce && writeln!(client, "{line}").is_err() {
        return;
    }
    // Without NAT, as with TPROXY, the local address is the original one.
    let original = net::original_destination(&client, local).unwrap_or(local);
    let Some(to) = config.upstream(original) else {
        return say(&line);
    };
    match net::tcp_connect(to, &config.dial(to, peer)) {
        Ok(server) => {
            say(&format!("{line} to={to}"));
            join(client, server);
        }
        Err(e) => {
            let failure = format!("to={to} error={}", net::error_word(&e.into()));
            say(&format!("{line} {failure}"));
            if announce {
                let _ = writeln!(client, "{failure}");
            }
        }
    }
}

/// Copies both ways until both sides have said all they have to say.
fn join(client: TcpStream, server: TcpStream) {
    let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let upward = thread::spawn(move || copy(from_client, to_server));
    copy(server, client);
    let _ = upward.join();
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = from.set_read_timeout(None);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
