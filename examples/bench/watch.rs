//! How fast a watch puts back what others take away, who gets past meanwhile, and what it costs to
//! have one.

use crate::world::{fresh, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prepare_proxy::netfilter::nftables::{Monitor, Notification};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// What others do, as shell scripts.
const TAKINGS: &[(&str, &str)] = &[
    ("nft flush ruleset", "nft flush ruleset"),
    ("nft delete table ip nat", "nft delete table ip nat"),
    ("nft flush chain ip nat ISTIO_OUTPUT", "nft flush chain ip nat ISTIO_OUTPUT"),
    ("iptables -t nat -F", "iptables-nft -t nat -F"),
    ("iptables -t nat -D OUTPUT 1", "iptables-nft -t nat -D OUTPUT 1"),
    ("a rule before ours in a chain of ours", "iptables-nft -t nat -I ISTIO_OUTPUT -j RETURN"),
    (
        "the last rule of a chain becomes the first",
        "r=$(iptables-nft -t nat -S ISTIO_OUTPUT | tail -n 1)
         printf '*nat\n-D %s\n-I %s\nCOMMIT\n' \"${r#-A }\" \"${r#-A }\" | iptables-nft-restore --noflush",
    ),
    (
        "iptables-restore, an empty nat table",
        "printf '*nat\nCOMMIT\n' | iptables-nft-restore",
    ),
];

/// Commits that are none of our business.
const FOREIGN_COMMITS: usize = 100_000;

/// As many of them are made by one program.
const COMMITS_OF_ONE: usize = 1000;

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(60);

/// An address of lo: connections to it are outbound, and meet the rules.
const ELSEWHERE: &str = "192.0.2.1:80";
const PROXY: &str = "[::]:15001";

/// Prints all there is to say, with so many takings-away of each kind.
pub fn measure(product: &Path, rounds: usize) -> io::Result<()> {
    fresh(|| takings(product, rounds))?;
    fresh(|| cost(product))
}

/// A watch that has applied its rules.
struct Watch(Child);

impl Watch {
    fn start(product: &Path) -> io::Result<Self> {
        let mut child = Command::new(product)
            .args(["watch", "-p", "15001", "-u", "1337"])
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut said = lines.by_ref().map_while(Result::ok);
        if !said.any(|line| line.contains("; watching")) {
            return Err(io::Error::other("the watch did not begin"));
        }
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Watch(child))
    }

    fn status(&self, name: &str) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text.lines().find_map(|l| l.strip_prefix(name));
        let number = line.and_then(|l| {
            l.trim_matches([':', '\t', ' '])
                .split(' ')
                .next()?
                .parse()
                .ok()
        });
        number.ok_or_else(|| io::Error::other(format!("no {name}")))
    }

    fn switches(&self) -> io::Result<u64> {
        Ok(self.status("voluntary_ctxt_switches")? + self.status("nonvoluntary_ctxt_switches")?)
    }

    fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.0.id()))?.count())
    }

    /// Processor time used so far.
    fn processor(&self) -> io::Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.0.id()))?;
        let nanos = text.split(' ').next().and_then(|n| n.parse().ok());
        Ok(Duration::from_nanos(nanos.unwrap_or_default()))
    }

    fn stop(mut self) -> io::Result<()> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM)?;
        self.0.wait().map(drop)
    }
}

/// Says one letter to everybody who connects.
fn serve(address: &str, word: &'static [u8]) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            // Whoever has gone already is nobody.
            let _ = stream.write_all(word);
        }
    });
    Ok(())
}

/// Whether a new connection reaches the proxy.
fn is_by_proxy() -> io::Result<bool> {
    let target: SocketAddr = ELSEWHERE.parse().expect("an address");
    let limit = Duration::from_millis(500);
    let mut word = [0];
    let mut stream = TcpStream::connect_timeout(&target, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.read_exact(&mut word)?;
    Ok(word == *b"p")
}

/// Connections made all the while.
#[derive(Default)]
struct Load {
    by_proxy: AtomicU64,
    past: AtomicU64,
    failed: AtomicU64,
    over: AtomicBool,
}

impl Load {
    fn connect_all_the_time(&self) {
        while !self.over.load(Ordering::Relaxed) {
            let count = match is_by_proxy() {
                Ok(true) => &self.by_proxy,
                Ok(false) => &self.past,
                Err(_) => &self.failed,
            };
            count.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_micros(500));
        }
    }
}

fn takings(product: &Path, rounds: usize) -> io::Result<()> {
    run("ip", ["addr", "add", "192.0.2.1/32", "dev", "lo"])?;
    serve(PROXY, b"p")?;
    serve(ELSEWHERE, b"d")?;
    let watch = Watch::start(product)?;
    let load = Load::default();
    println!(
        "| taken away, {rounds} times each | median | p99 | longest | connections | past the proxy before it was back | after |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let result = thread::scope(|scope| {
        scope.spawn(|| load.connect_all_the_time());
        let result = TAKINGS
            .iter()
            .try_for_each(|(name, script)| taken(name, script, rounds, &load));
        load.over.store(true, Ordering::Relaxed);
        result
    });
    println!(
        "\nMemory after all that: {} kB (most {} kB), {} files open\n",
        watch.status("VmRSS")?,
        watch.status("VmHWM")?,
        watch.descriptors()?
    );
    watch.stop()?;
    result
}

/// Takes one thing away so often, and prints a line about it.
fn taken(name: &str, script: &str, rounds: usize, load: &Load) -> io::Result<()> {
    let counts = || [&load.by_proxy, &load.past, &load.failed].map(|c| c.load(Ordering::Relaxed));
    let before = counts();
    let mut times = Vec::new();
    let mut late = 0;
    for _ in 0..rounds {
        let monitor = Monitor::open().map_err(io::Error::other)?;
        let answer = thread::scope(|scope| {
            let answer = scope.spawn(|| answer_of(monitor));
            run("sh", ["-ec", script])?;
            answer.join().expect("a measurement does not panic")
        });
        times.push(answer?);
        for _ in 0..3 {
            late += u32::from(!is_by_proxy()?);
        }
        // Not more often than is answered at once.
        sleep(Duration::from_millis(20));
    }
    let [by_proxy, past, failed] = counts();
    times.sort_unstable();
    let at = |part: f64| {
        times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1000.0
    };
    println!(
        "| {name} | {:.2} ms | {:.2} ms | {:.2} ms | {} | {}{} | {late} |",
        at(0.5),
        at(0.99),
        at(1.0),
        by_proxy - before[0] + past - before[1],
        past - before[1],
        match failed - before[2] {
            0 => String::new(),
            n => format!(" ({n} failed)"),
        },
    );
    Ok(())
}

/// From the last commit of others to the one of the watch that answers it, as the kernel told of
/// both. Whoever measures that must not sleep.
fn answer_of(mut monitor: Monitor) -> io::Result<Duration> {
    let limit = Instant::now() + Duration::from_secs(10);
    let (mut theirs, mut ours) = (None, None);
    while ours.is_none() {
        let told = monitor.drain(|notification| {
            if let Notification::Committed(commit) = notification {
                match commit.process.is_some_and(|p| p.name == "prepare-proxy") {
                    true => ours = Some(Instant::now()),
                    false => theirs = Some(Instant::now()),
                }
            }
        });
        told.map_err(io::Error::other)?;
        if Instant::now() > limit {
            return Err(io::Error::other("the watch does not answer"));
        }
    }
    match (theirs, ours) {
        (Some(theirs), Some(ours)) => Ok(ours.saturating_duration_since(theirs)),
        _ => Err(io::Error::other("an answer to nothing")),
    }
}

fn cost(product: &Path) -> io::Result<()> {
    let watch = Watch::start(product)?;
    sleep(Duration::from_secs(1));
    let before = watch.switches()?;
    sleep(IDLE);
    println!(
        "Wake-ups in {} s in which nothing happens: {}",
        IDLE.as_secs(),
        watch.switches()? - before
    );

    let generation = || {
        let monitor = Monitor::open().map_err(io::Error::other);
        monitor?.generation().map_err(io::Error::other)
    };
    commit(
        "add table inet other\nadd chain inet other c\nadd table ip filter\nadd chain ip filter FORWARD\n",
    )?;
    let round = "add rule inet other c counter\nflush chain inet other c\n\
                 add rule ip filter FORWARD counter\nflush chain ip filter FORWARD\n";
    commit(&round.repeat(50))?;
    sleep(Duration::from_millis(200));
    let (first, memory, files) = (generation()?, watch.status("VmRSS")?, watch.descriptors()?);
    let (processor, start) = (watch.processor()?, Instant::now());
    // nft keeps all that it has read: not everything in one.
    for _ in 0..FOREIGN_COMMITS / COMMITS_OF_ONE {
        commit(&round.repeat(COMMITS_OF_ONE / 4))?;
    }
    let took = start.elapsed();
    sleep(Duration::from_millis(200));
    println!(
        "{FOREIGN_COMMITS} foreign commits in {:.1} s: {} commits by the watch, {} kB more memory, {} more files, \
         {:.1} µs of its processor time for each",
        took.as_secs_f64(),
        i64::from(generation()?) - i64::from(first) - FOREIGN_COMMITS as i64,
        watch.status("VmRSS")? as i64 - memory as i64,
        watch.descriptors()? as i64 - files as i64,
        (watch.processor()? - processor).as_secs_f64() * 1e6 / FOREIGN_COMMITS as f64,
    );
    println!(
        "Memory: {} kB (most {} kB)",
        watch.status("VmRSS")?,
        watch.status("VmHWM")?
    );
    watch.stop()
}

/// Each line that nft reads from its input is a commit of its own.
fn commit(lines: &str) -> io::Result<()> {
    let mut nft = Command::new("nft")
        .arg("-i")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = nft.stdin.take().expect("a pipe");
    input.write_all(lines.as_bytes())?;
    drop(input);
    match nft.wait()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("nft failed")),
    }
}
