//! Clients that print who answered them.

use crate::net::{self, Options};
use clap::ArgMatches;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// What a client command was asked to do.
pub struct Job {
    pub targets: Vec<SocketAddr>,
    pub options: Options,
}

impl Job {
    pub fn new(m: &ArgMatches) -> Self {
        let options = Options {
            source: m.get_one("source").copied(),
            timeout: *m.get_one("timeout").expect("has a default"),
            ..Options::default()
        };
        Self {
            targets: crate::values(m, "target").copied().collect(),
            options,
        }
    }

    /// Prints `to=TARGET` and the answer or the error, for each target.
    fn ask_each(&self, ask: fn(SocketAddr, &Options) -> io::Result<String>) -> ExitCode {
        let mut code = ExitCode::SUCCESS;
        for &target in &self.targets {
            let answer = ask(target, &self.options).unwrap_or_else(|e| {
                code = ExitCode::FAILURE;
                format!("error={}", net::error_word(&e))
            });
            println!("to={target} {answer}");
        }
        code
    }
}

/// `connect`
pub fn connect(m: &ArgMatches) -> io::Result<ExitCode> {
    Ok(Job::new(m).ask_each(answer))
}

/// `query`
pub fn query(m: &ArgMatches) -> io::Result<ExitCode> {
    Ok(Job::new(m).ask_each(datagram))
}

/// Everything that is said on one connection, its lines joined by ` > `.
pub fn answer(target: SocketAddr, options: &Options) -> io::Result<String> {
    heard(net::tcp_connect(target, options)?)
}

/// The same of a connection that is there.
pub fn heard(mut stream: TcpStream) -> io::Result<String> {
    let mut said = String::new();
    let end = stream.read_to_string(&mut said);
    match end {
        Err(e) if said.is_empty() => return Err(e),
        Err(e) => said += &format!("error={}", net::error_word(&e)),
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => {}
    }
    Ok(said.trim_end().replace('\n', " > "))
}

/// The first reply, whoever sends it: a reply from another address than the one
/// that was asked is just what a test wants to see.
fn datagram(target: SocketAddr, options: &Options) -> io::Result<String> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = net::udp_socket(options.source.unwrap_or(any), options)?;
    socket.set_read_timeout(Some(Duration::from_secs(options.timeout)))?;
    socket.send_to(b"who is there?", target)?;
    let mut reply = [0; 512];
    let (length, from) = socket.recv_from(&mut reply)?;
    Ok(format!(
        "{} from={from}",
        String::from_utf8_lossy(&reply[..length])
    ))
}
