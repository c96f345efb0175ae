//! How fast a watch restores what other programs remove, alone and beside many foreign rules, which
//! connections bypass the proxy meanwhile, and what it costs to have one.

use crate::world::{fresh, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prepare_proxy::netfilter::model::{Family, PolicyRoute, Routing};
use prepare_proxy::netfilter::netlink::Delivery;
use prepare_proxy::netfilter::nftables::{Monitor, Notification};
use prepare_proxy::netfilter::rtnetlink;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// What other programs do, as shell scripts.
const CHANGES: &[(&str, &str)] = &[
    ("nft flush ruleset", "nft flush ruleset"),
    ("nft delete table ip nat", "nft delete table ip nat"),
    ("nft flush chain ip nat ISTIO_OUTPUT", "nft flush chain ip nat ISTIO_OUTPUT"),
    ("iptables -t nat -F", "iptables-nft -t nat -F"),
    ("iptables -t nat -D OUTPUT 1", "iptables-nft -t nat -D OUTPUT 1"),
    ("iptables -t nat -I ISTIO_OUTPUT -j RETURN", "iptables-nft -t nat -I ISTIO_OUTPUT -j RETURN"),
    ("iptables -t nat -E ISTIO_REDIRECT GONE", "iptables-nft -t nat -E ISTIO_REDIRECT GONE"),
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

/// What other programs do to TPROXY's routing.
const ROUTING_CHANGES: &[(&str, &str)] = &[
    ("ip rule del fwmark 1337", "ip rule del fwmark 1337"),
    ("ip route flush table 133", "ip route flush table 133"),
];

/// How many foreign rules there are in `ip nat`.
const FOREIGN_RULES: usize = 10_000;

/// Commits that are none of our business.
const FOREIGN_COMMITS: usize = 100_000;

/// As many of them are made by one program.
const COMMITS_OF_ONE: usize = 1000;

/// Against hangs alone.
const HANGS: Duration = Duration::from_secs(60);

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(60);

/// An address of lo: connections to it are outbound, and meet the rules.
const ELSEWHERE: &str = "192.0.2.1:80";
const PROXY: &str = "[::]:15001";

/// Prints all there is to say, with so many takings-away of each kind.
pub fn measure(product: &Path, rounds: usize) -> io::Result<()> {
    println!("Alone\n");
    fresh(|| repairs(product, rounds, 0))?;
    println!("Beside {FOREIGN_RULES} foreign rules in the same table\n");
    fresh(|| repairs(product, rounds, FOREIGN_RULES))?;
    fresh(|| routing_repairs(product, rounds))?;
    fresh(|| cost(product))
}

/// A watch that has applied its rules.
struct Watch(Child);

impl Watch {
    fn start(product: &Path) -> io::Result<Self> {
        Self::start_with(product, &["-p", "15001", "-u", "1337"])
    }

    fn start_with(product: &Path, options: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(product)
            .arg("watch")
            .args(options)
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

fn repairs(product: &Path, rounds: usize, foreign: usize) -> io::Result<()> {
    run("ip", ["addr", "add", "192.0.2.1/32", "dev", "lo"])?;
    serve(PROXY, b"p")?;
    serve(ELSEWHERE, b"d")?;
    let rules = foreign_rules(foreign)?;
    let watch = Watch::start(product)?;
    let load = Load::default();
    println!(
        "| change, {rounds} times each | p50 | p99 | longest | connections | bypassed the proxy until the repair | after it |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let result = thread::scope(|scope| {
        scope.spawn(|| load.connect_all_the_time());
        let result = CHANGES
            .iter()
            .try_for_each(|(name, script)| changed(name, script, rounds, &rules, &load));
        load.over.store(true, Ordering::Relaxed);
        result
    });
    println!(
        "\nMemory afterwards: {} kB (most {} kB), {} open files\n",
        watch.status("VmRSS")?,
        watch.status("VmHWM")?,
        watch.descriptors()?
    );
    watch.stop()?;
    result
}

/// A file that makes so many rules in a chain of `ip nat`, whatever was there.
fn foreign_rules(count: usize) -> io::Result<NamedFile> {
    let mut text =
        "add table ip nat\nadd chain ip nat FOREIGN\nflush chain ip nat FOREIGN\n".to_owned();
    for n in 0..count {
        let (high, low) = (n >> 8, n & 255);
        text += &format!("add rule ip nat FOREIGN ip daddr 10.9.{high}.{low} counter accept\n");
    }
    let path = std::env::temp_dir().join(format!(
        "prepare-proxy-bench-{}-{count}",
        std::process::id()
    ));
    fs::write(&path, text)?;
    Ok(NamedFile(path))
}

/// A file that is removed when this is dropped.
struct NamedFile(PathBuf);

impl Drop for NamedFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes one change so often, and prints a line about it.
fn changed(
    name: &str,
    script: &str,
    rounds: usize,
    foreign: &NamedFile,
    load: &Load,
) -> io::Result<()> {
    let counts = || [&load.by_proxy, &load.past, &load.failed].map(|c| c.load(Ordering::Relaxed));
    let (mut connections, mut times, mut late) = ([0; 3], Vec::new(), 0);
    for _ in 0..rounds {
        // Some changes remove them, or leave a chain of another name.
        run("nft", ["-f".as_ref(), foreign.0.as_os_str()])?;
        run(
            "sh",
            [
                "-c",
                "nft 'flush chain ip nat GONE; delete chain ip nat GONE' 2>/dev/null; sleep 0.05",
            ],
        )?;
        let before = counts();
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
        let after = counts();
        for (sum, (before, after)) in connections.iter_mut().zip(before.iter().zip(after)) {
            *sum += after - before;
        }
    }
    let [by_proxy, past, failed] = connections;
    let failed = if failed == 0 {
        String::new()
    } else {
        format!(" ({failed} failed)")
    };
    println!(
        "| {name} | {} | {} | {past}{failed} | {late} |",
        percentiles(&mut times),
        by_proxy + past
    );
    Ok(())
}

/// The median, the 99th percentile and the longest, as cells.
fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| {
        times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1000.0
    };
    format!("{:.2} ms | {:.2} ms | {:.2} ms", at(0.5), at(0.99), at(1.0))
}

/// From the notification of a removal to the one of its repair.
fn routing_repairs(product: &Path, rounds: usize) -> io::Result<()> {
    let options = [
        "--mesh", "istio", "-m", "TPROXY", "-u", "1337", "-i", "*", "-b", "*",
    ];
    let watch = Watch::start_with(product, &options)?;
    let (family, mark, table) = (Family::V4, 1337, 133);
    let desired = Routing {
        policy_routes: vec![PolicyRoute {
            family,
            mark,
            table,
        }],
        loopback_addresses: Vec::new(),
    };
    println!("| change of routing, {rounds} times each | p50 | p99 | longest |\n|---|--:|--:|--:|");
    for (name, script) in ROUTING_CHANGES {
        let mut times = Vec::new();
        for _ in 0..rounds {
            sleep(Duration::from_millis(50));
            let mut monitor = rtnetlink::Monitor::open(&desired).map_err(io::Error::other)?;
            let limit = Instant::now() + HANGS;
            let answer = thread::scope(|scope| {
                let answer = scope.spawn(move || {
                    let mut events = Vec::new();
                    while events.len() < 2 && Instant::now() < limit {
                        let drained = monitor.drain(|_| events.push(Instant::now()));
                        drained.map_err(io::Error::other)?;
                    }
                    match events[..] {
                        [removed, restored, ..] => Ok(restored - removed),
                        _ => Err(io::Error::other("the watch does not answer")),
                    }
                });
                run("sh", ["-ec", script])?;
                answer.join().expect("a measurement does not panic")
            });
            times.push(answer?);
        }
        println!("| {name} | {} |", percentiles(&mut times));
    }
    println!();
    watch.stop()
}

/// From the last commit of others to the one of the watch that answers it, as the kernel told of
/// both. Whoever measures that must not sleep.
fn answer_of(mut monitor: Monitor) -> io::Result<Duration> {
    let limit = Instant::now() + HANGS;
    let (mut theirs, mut ours) = (None, None);
    while ours.is_none() {
        let told = monitor.drain(|notification| {
            if let Notification::Commit(commit) = notification {
                match commit.process.is_some_and(|p| p.name == "prepare-proxy") {
                    true => ours = Some(Instant::now()),
                    false => theirs = Some(Instant::now()),
                }
            }
        });
        // Of the removal of very many rules not every notification fits into the socket.
        if told.map_err(io::Error::other)? == Delivery::WithGaps {
            theirs = theirs.or(Some(Instant::now()));
        }
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
