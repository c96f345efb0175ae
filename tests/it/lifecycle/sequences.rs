//! Random sequences of applies and cleans with all backends: the last apply has the same result as
//! alone, and a clean leaves nothing.

use super::world::{ISTIO, OTHER, SOME, apply, everything, rules, run, with_ipv6};
use crate::lab::{BACKENDS, same};
use std::collections::HashMap;
use std::fmt;

/// Options of all meshes, with different marks, tables and ports.
const OPTIONS: &[&str] = &[
    SOME,
    OTHER,
    ISTIO,
    "--mesh istio-1.0 -b * -i 10.0.0.0/8",
    "--mesh istio-1.0 -m TPROXY -b *",
    "--mesh istio-1.0 -m TPROXY -b 80 -t 2",
    "--mesh istio-1.0 -m TPROXY -b * -t 2147483648 -r 77",
    "--mesh istio -b * -i * --redirect-dns --capture-all-dns",
    "--mesh istio -m TPROXY",
    "--mesh istio -m TPROXY -b *",
    "--mesh istio -m TPROXY -b 80,443 -t 7",
    "--mesh istio -m TPROXY -b * -t 2147483648",
    "--mesh istio -m TPROXY -b * -t 2 -r 77",
    "--mesh linkerd",
    "--mesh linkerd -u 2102 -d 4190,4191 -o 443 -x 10.0.0.0/8",
];

/// The number of sequences, unless the variable sets it.
const MORE: (&str, u64) = ("PREPARE_PROXY_SEQUENCES", 28);

/// Reproducible pseudo-random numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// An apply, after a clean or not.
#[derive(Clone, Copy)]
struct Step {
    after_clean: bool,
    backend: &'static str,
    options: &'static str,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let clean = if self.after_clean { "clean, then " } else { "" };
        write!(f, "{clean}--backend {} {}", self.backend, self.options)
    }
}

/// The sequence with this number.
fn sequence(number: u64) -> Vec<Step> {
    let mut numbers = Numbers(number);
    let length = 2 + numbers.below(3);
    let step = |_| Step {
        after_clean: numbers.below(4) == 0,
        backend: numbers.one_of(&BACKENDS),
        options: numbers.one_of(OPTIONS),
    };
    (0..length).map(step).collect()
}

/// The result of a step in an empty namespace.
type Alone = HashMap<(&'static str, &'static str), (String, String)>;

fn go(steps: &[Step], alone: &mut Alone) -> Result<(), String> {
    let namespace = with_ipv6();
    let untouched = namespace.routing();
    for step in steps {
        if step.after_clean {
            run(&namespace, "clean").expect(0, "clean in between")?;
        }
        apply(&namespace, step.backend, step.options)?;
    }
    let Some(Step {
        backend, options, ..
    }) = steps.last()
    else {
        return Ok(());
    };
    let (desired, routing) = alone.entry((backend, options)).or_insert_with(|| {
        let fresh = with_ipv6();
        apply(&fresh, backend, options).expect("options that can be applied");
        (rules(&fresh), fresh.routing())
    });
    same(desired, &rules(&namespace), "rules")?;
    same(routing, &namespace.routing(), "routing")?;
    let diff = format!("diff --backend {backend} {options}");
    run(&namespace, &diff).expect(0, "diff")?;
    let before = everything(&namespace);
    let again = apply(&namespace, backend, options)?;
    if !again.err.contains("already in place") {
        return Err(format!("the second apply did something: {}", again.err));
    }
    same(&before, &everything(&namespace), "a second apply wrote")?;
    run(&namespace, "clean").expect(0, "clean")?;
    same("", &rules(&namespace), "rules after clean")?;
    same(&untouched, &namespace.routing(), "routing after clean")
}

#[test]
fn the_result_depends_only_on_the_last_apply() {
    let (variable, usual) = MORE;
    let count = match std::env::var(variable) {
        Ok(count) => count.parse().expect("a number of sequences"),
        Err(_) => usual,
    };
    let mut alone = Alone::new();
    let failed: Vec<String> = (0..count)
        .filter_map(|number| {
            let steps = sequence(number);
            let problem = go(&steps, &mut alone).err()?;
            let steps: Vec<String> = steps.iter().map(Step::to_string).collect();
            Some(format!(
                "sequence {number}:\n{}\n{problem}",
                steps.join("\n")
            ))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
