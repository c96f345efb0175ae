//! Reading beside the rules of others: nat OUTPUT, where ours begin, full of foreign ones.

use crate::world::{ISTIO, file, fresh, median, run};
use std::io;
use std::path::Path;
use std::time::Instant;

const FOREIGN: usize = 60_000;
const ROUNDS: usize = 3;

/// Prints one line for each reader.
pub fn compare(product: &Path) -> io::Result<()> {
    let product = product.to_string_lossy();
    let lines = [
        vec!["iptables-nft-save"],
        [&[&*product, "diff"], &ISTIO[..]].concat(),
        [&[&*product, "apply"], &ISTIO[..]].concat(),
        vec![&*product, "status"],
    ];
    let times = fresh(|| {
        fill()?;
        run(lines[2][0], &lines[2][1..])?;
        let mut times = vec![Vec::new(); lines.len()];
        for _ in 0..ROUNDS {
            for (line, times) in lines.iter().zip(&mut times) {
                let start = Instant::now();
                run(line[0], &line[1..])?;
                times.push(start.elapsed());
            }
        }
        Ok(times)
    })?;
    println!(
        "\nBeside {FOREIGN} foreign rules in nat OUTPUT, with the rules in place, median of {ROUNDS}:\n"
    );
    println!("| reader | time | to iptables-nft-save |");
    println!("|---|--:|--:|");
    let names = [
        "iptables-nft-save",
        "**prepare-proxy** diff",
        "**prepare-proxy** apply, again",
        "**prepare-proxy** status",
    ];
    let medians: Vec<f64> = times
        .into_iter()
        .map(|mut times| median(&mut times).as_secs_f64())
        .collect();
    for (name, time) in names.iter().zip(&medians) {
        println!("| {name} | {time:.2} s | {:.2}× |", time / medians[0]);
    }
    Ok(())
}

/// The rules of others, as kube-proxy or a firewall would write them.
fn fill() -> io::Result<()> {
    let rules: String = (0..FOREIGN as u32)
        .map(|i| {
            let [_, a, b, c] = i.to_be_bytes();
            format!("-A OUTPUT -d 172.{a}.{b}.{c}/32 -p tcp -m tcp --dport 80 -j RETURN\n")
        })
        .collect();
    let rules = file(&format!("*nat\n{rules}COMMIT\n"))?;
    run("iptables-nft-restore", [&rules]).map(drop)
}
