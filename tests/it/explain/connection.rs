//! Random connections between the pod, its neighbour and a guest behind it.

use super::options::Options;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Pod,
    Peer,
    Guest,
}

impl Place {
    pub const ALL: [Place; 3] = [Place::Pod, Place::Peer, Place::Guest];
}

/// One connection, or one datagram.
#[derive(Clone, Debug)]
pub struct Connection {
    pub place: Place,
    pub udp: bool,
    pub to: SocketAddr,
    pub source: Option<IpAddr>,
    /// What only counts in the pod.
    pub user: String,
    pub mark: u32,
}

/// The ports on which there is somebody, in the pod and outside.
pub const PORTS: &[u16] = &[
    22, 53, 80, 443, 4140, 4143, 8080, 9090, 15001, 15006, 15008, 15020, 15053, 25001, 25006, 25008,
];

/// The pod's addresses, as `--local-address` takes them.
pub const LOCAL: &str = "10.66.0.2/24%eth0,fd66::2/64%eth0,10.68.0.2/24%net1,fd68::2/64%net1,\
                         10.67.0.2/24%br0,fd67::2/64%br0";

const OUTSIDE: &[&str] = &[
    "203.0.113.9",
    "203.0.113.200",
    "198.51.100.9",
    "10.96.0.10",
    "10.66.0.1",
    "10.68.0.1",
    "2001:db8:113::9",
    "2001:db8:113:1::9",
    "fd66::1",
    "fd68::1",
];
const OWN: &[&str] = &[
    "10.66.0.2",
    "10.68.0.2",
    "10.67.0.2",
    "fd66::2",
    "fd68::2",
    "fd67::2",
];
const LOOPBACK: &[&str] = &["127.0.0.1", "127.0.0.6", "127.1.2.3", "::1"];

fn address(of: &'static [&'static str]) -> impl Strategy<Value = IpAddr> {
    select(of).prop_map(|text| text.parse().expect("an address"))
}

/// Whether it is an address of the pod.
fn is_here(address: IpAddr) -> bool {
    let mut own = OWN.iter().chain(LOOPBACK);
    own.any(|text| text.parse() == Ok(address))
}

fn from_pod() -> impl Strategy<Value = (Place, IpAddr, Option<IpAddr>)> {
    let to = prop_oneof![3 => address(OUTSIDE), 3 => address(OWN), 2 => address(LOOPBACK)];
    // What the proxy comes from when it connects to the app.
    let passthrough = "127.0.0.6".parse().expect("an address");
    (to, weighted(0.1, Just(passthrough))).prop_map(|(to, source)| {
        let source: Option<IpAddr> = source;
        (
            Place::Pod,
            to,
            source.filter(|_| to.is_ipv4() && is_here(to)),
        )
    })
}

fn from_peer() -> impl Strategy<Value = (Place, IpAddr, Option<IpAddr>)> {
    address(OWN).prop_map(|to| (Place::Peer, to, None))
}

fn from_guest() -> impl Strategy<Value = (Place, IpAddr, Option<IpAddr>)> {
    let to = address(&[
        "10.67.0.2",
        "10.66.0.2",
        "203.0.113.9",
        "10.96.0.10",
        "fd67::2",
        "2001:db8:113::9",
    ]);
    to.prop_map(|to| (Place::Guest, to, None))
}

/// Any connection.
pub fn connection() -> impl Strategy<Value = Connection> {
    const IDS: &[&str] = &["0", "1000", "1337", "4242"];
    let ends = prop_oneof![5 => from_pod(), 3 => from_peer(), 1 => from_guest()];
    let groups = (select(IDS), subsequence(IDS, 0..=2));
    let user = (select(IDS), groups).prop_map(|(uid, (gid, others))| {
        let groups = [&[gid], others.as_slice()].concat();
        format!("{uid}:{}", groups.join(","))
    });
    let mark = prop_oneof![6 => Just(0), 1 => select(vec![7u32, 42, 1337, 1338])];
    (
        ends,
        select(PORTS),
        proptest::bool::weighted(0.2),
        user,
        mark,
    )
        .prop_map(|((place, to, source), port, udp, user, mark)| Connection {
            place,
            udp,
            to: SocketAddr::new(to, port),
            source,
            user,
            // A mark that leads here what is for elsewhere loses the way back: of TCP nothing would
            // be seen.
            mark: if udp || is_here(to) { mark } else { 0 },
        })
}

impl Connection {
    /// It comes from outside and is for outside.
    pub fn goes_through(&self) -> bool {
        self.place != Place::Pod && !is_here(self.to.ip())
    }

    /// The same where it can be seen how it ends. Under TPROXY the answers to what is forwarded are
    /// taken for the proxy's, and no such connection comes about: a datagram needs no answer.
    pub fn under(mut self, options: &Options) -> Self {
        let tproxy = options.given.iter().any(|(_, value)| value == "TPROXY");
        self.udp |= tproxy && self.place == Place::Guest && !is_here(self.to.ip());
        self
    }

    fn protocol(&self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }

    /// As `explain` is asked.
    pub fn question(&self) -> Vec<String> {
        let mut args = vec![format!("--to={}", self.to)];
        args.extend(self.udp.then(|| "--udp".to_owned()));
        match self.place {
            Place::Pod => {
                args.push(format!("--user={}", self.user));
                args.push(format!("--mark={}", self.mark));
                args.extend(self.source.map(|source| format!("--from={source}")));
            }
            _ => {
                let (source, interface) = self.comes_from();
                args.push(format!("--from={source}"));
                args.push(format!("--interface={interface}"));
            }
        }
        args
    }

    /// Where it comes from and where it comes in.
    fn comes_from(&self) -> (&'static str, &'static str) {
        let to = self.to.ip().to_string();
        match (self.place, self.to.is_ipv4()) {
            (Place::Guest, true) => ("10.67.0.1", "br0"),
            (Place::Guest, false) => ("fd67::1", "br0"),
            (_, true) if to.starts_with("10.68.") => ("10.68.0.1", "net1"),
            (_, false) if to.starts_with("fd68:") => ("fd68::1", "net1"),
            (_, true) => ("10.66.0.1", "eth0"),
            (_, false) => ("fd66::1", "eth0"),
        }
    }

    /// As `lab batch` reads it. No two connections have the same port, so that no one is taken for
    /// another.
    pub fn line(&self, id: usize, port: u16) -> String {
        let any = IpAddr::from(match self.to {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED,
        });
        let source = SocketAddr::new(self.source.unwrap_or(any.to_canonical()), port);
        let mark = match self.place {
            Place::Pod if self.mark != 0 => format!(" mark={}", self.mark),
            _ => String::new(),
        };
        let (protocol, to, user) = (self.protocol(), self.to, &self.user);
        format!("{protocol} {to} user={user} source={source}{mark} id={id}\n")
    }
}

/// The command that explains it.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "explain {} --local-address {LOCAL}",
            self.question().join(" ")
        )
    }
}
