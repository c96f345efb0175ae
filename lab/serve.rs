//! Servers that say who they are to whoever asks.

use crate::net::{self, Options};
use clap::ArgMatches;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;

/// Where a server waits, and for what.
#[derive(Clone, Debug)]
pub enum Endpoint {
    Tcp(Vec<SocketAddr>),
    Udp(Vec<SocketAddr>),
}

impl Endpoint {
    /// `[tcp:|udp:][ADDRESS:]PORT`
    pub fn parse(text: &str) -> Result<Self, String> {
        let (udp, rest) = match text.split_once(':') {
            Some(("udp", rest)) => (true, rest),
            Some(("tcp", rest)) => (false, rest),
            _ => (false, text),
        };
        let addresses = match (rest.parse::<u16>(), rest.parse::<SocketAddr>()) {
            (Ok(port), _) => net::wildcards(port).to_vec(),
            (_, Ok(address)) => vec![address],
            _ => return Err(format!("{rest:?} is neither PORT nor ADDRESS:PORT")),
        };
        Ok(if udp {
            Self::Udp(addresses)
        } else {
            Self::Tcp(addresses)
        })
    }
}

/// `serve`: never returns once every endpoint listens.
pub fn run(m: &ArgMatches) -> io::Result<ExitCode> {
    let name: &String = m.get_one("name").expect("has a default");
    let mut threads = Vec::new();
    for endpoint in crate::values::<Endpoint>(m, "endpoint") {
        match endpoint {
            Endpoint::Tcp(addresses) => {
                for listener in net::tcp_listeners(addresses, &Options::default())? {
                    let who = format!("{name}:{}", listener.local_addr()?.port());
                    threads.push(thread::spawn(move || {
                        accept(&listener, |stream| greet(&who, stream))
                    }));
                }
            }
            Endpoint::Udp(addresses) => {
                for &address in addresses {
                    let socket = net::udp_socket(address, &Options::default())?;
                    let name = name.clone();
                    threads.push(thread::spawn(move || reply(&name, &socket)));
                }
            }
        }
    }
    ready(threads)
}

/// Says that every listener is there, and waits for ever.
pub fn ready(threads: Vec<thread::JoinHandle<()>>) -> io::Result<ExitCode> {
    println!("ready");
    for thread in threads {
        let _ = thread.join();
    }
    Ok(ExitCode::FAILURE)
}

/// Hands every connection to `each`; a connection that failed before it was
/// accepted is nobody's loss.
pub fn accept(listener: &TcpListener, each: impl Fn(TcpStream)) {
    for stream in listener.incoming().flatten() {
        each(stream);
    }
}

/// One hop of a connection, in the form that clients print.
/// `who` names the server by the port it listens on: under TPROXY the local port
/// of a connection is another one.
pub fn hop(who: &str, stream: &TcpStream) -> io::Result<String> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let original = net::original_destination(stream, local);
    let original = original.map_or("none".into(), |o| o.to_string());
    Ok(format!(
        "by={who} peer={peer} local={local} orig={original}"
    ))
}

fn greet(who: &str, mut stream: TcpStream) {
    if let Ok(line) = hop(who, &stream) {
        say(&line);
        let _ = writeln!(stream, "{line}");
    }
}

fn reply(name: &str, socket: &UdpSocket) {
    let mut datagram = [0; 512];
    while let (Ok((length, peer)), Ok(local)) =
        (socket.recv_from(&mut datagram), socket.local_addr())
    {
        let line = format!(
            "by={name}:{} peer={peer} local={local} orig=none",
            local.port()
        );
        let said = String::from_utf8_lossy(&datagram[..length]);
        say(&format!(
            "{line} said={}",
            said.replace(char::is_whitespace, "-")
        ));
        let _ = socket.send_to(line.as_bytes(), peer);
    }
}

/// A line on stdout, whole even when several threads speak; a reader that has
/// gone is no reason to stop serving.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
