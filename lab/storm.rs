//! Many connections, counted by who answered.

use crate::client::{Job, answer};
use crate::{life, net};
use clap::ArgMatches;
use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

type Totals = Arc<Mutex<BTreeMap<String, u64>>>;

/// `storm`: prints `total=N WHO=N… error.WORD=N…` when it ends. "Who" is the
/// first to have answered on a connection.
pub fn run(m: &ArgMatches) -> io::Result<ExitCode> {
    let job = Arc::new(Job::new(m));
    let limit = m.get_one::<u64>("number").copied().unwrap_or(u64::MAX);
    let begun = Arc::new(AtomicU64::new(0));
    let totals = Totals::default();
    let shown = totals.clone();
    life::set_last_words(move || print(&shown));
    println!("ready");
    let workers: Vec<_> = (0..*m.get_one::<usize>("threads").expect("has a default"))
        .map(|_| {
            let (job, begun, totals) = (job.clone(), begun.clone(), totals.clone());
            thread::spawn(move || connect_all_the_time(&job, &begun, limit, &totals))
        })
        .collect();
    for worker in workers {
        let _ = worker.join();
    }
    life::end()
}

fn connect_all_the_time(job: &Job, begun: &AtomicU64, limit: u64, totals: &Totals) {
    for &target in job.targets.iter().cycle() {
        if begun.fetch_add(1, Ordering::Relaxed) >= limit {
            return;
        }
        let who = match answer(target, &job.options) {
            Ok(said) => first_hop(&said).to_owned(),
            Err(e) => format!("error.{}", net::error_word(&e)),
        };
        *totals.lock().unwrap().entry(who).or_default() += 1;
    }
}

fn first_hop(said: &str) -> &str {
    let field = said.split(' ').next().unwrap_or_default();
    field.strip_prefix("by=").unwrap_or(field)
}

fn print(totals: &Totals) {
    let totals = totals.lock().unwrap();
    let sum: u64 = totals.values().sum();
    let parts: String = totals
        .iter()
        .map(|(who, n)| format!(" {who}={n}"))
        .collect();
    println!("total={sum}{parts}");
}
