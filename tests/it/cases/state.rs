//! What a network namespace holds, in a form in which a recording and a kernel can be compared.

use super::recording::strings;
use crate::lab::{Namespace, SavedChain, Variant, without_comments};
use prepare_proxy::netfilter::model::Family;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// The chains of one family, by table and name, each with its rules in order.
pub type Chains = BTreeMap<(String, String), Vec<String>>;

/// Rules, policy routes and loopback addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub v4: Chains,
    /// `None` where IPv6 is not compared.
    pub v6: Option<Chains>,
    /// The `fwmark` lines of `ip rule`, IPv4 and IPv6, without priorities.
    pub rules: [Vec<String>; 2],
    /// The first route of the TPROXY table, IPv4 and IPv6.
    pub routes: [String; 2],
    /// Whether ::6 is on lo.
    pub lo6: bool,
    /// nft's listing, where rules are kept in tables of our own.
    pub native: String,
    /// Whether comments count.
    pub comments: bool,
}

impl State {
    /// The state that a recorded vector expects.
    pub fn recorded(expect: &Value, comments: bool, v6: bool) -> Self {
        let chains = |family: &str| {
            let mut chains = Chains::new();
            for (table, content) in expect[family].as_object().into_iter().flatten() {
                let names = strings(&content["chains"]);
                let rules = strings(&content["rules"]);
                add(&mut chains, table, names, rules, comments);
            }
            chains
        };
        let text = |key: &str| expect[key].as_str().unwrap_or_default().trim().to_owned();
        State {
            v4: chains("v4"),
            v6: v6.then(|| chains("v6")),
            rules: ["rule4", "rule6"].map(|key| fwmarks(&strings(&expect[key]).join("\n"))),
            routes: [text("route4"), text("route6")],
            lo6: expect["lo6"].as_bool().unwrap_or_default(),
            native: String::new(),
            comments,
        }
    }

    /// What a network namespace holds, as the tools that see the rules of a backend list it.
    pub fn of(namespace: &Namespace, backend: &str) -> Self {
        // There may be no such table.
        let ip = |family| {
            let shown = ["rule show", "route show table 133", "addr show dev lo"];
            namespace.ip_batch(&[family, "-force"], &shown).out
        };
        let (v4, v6) = (ip("-4"), ip("-6"));
        let route = |text: &str| {
            let is_route = |line: &&str| line.starts_with(char::is_alphabetic);
            let first = text.lines().find(is_route).unwrap_or_default();
            first.trim().to_owned()
        };
        let save = |family| saved(&namespace.iptables_save(family, Variant::of(backend)));
        State {
            v4: save(Family::V4),
            v6: Some(save(Family::V6)),
            rules: [fwmarks(&v4), fwmarks(&v6)],
            routes: [route(&v4), route(&v6)],
            lo6: v6.contains("::6/128"),
            native: match backend {
                "nftables" => namespace.sh("nft --stateless list ruleset"),
                _ => String::new(),
            },
            comments: true,
        }
    }

    /// Whether there is any rule.
    pub fn is_empty(&self) -> bool {
        let v6 = self.v6.as_ref().is_none_or(Chains::is_empty);
        self.v4.is_empty() && v6 && self.native.is_empty()
    }

    /// The same parts of another state, in the form in which this one can be compared with it.
    pub fn like(&self, other: State) -> State {
        let strip = |chains: &Chains| match self.comments {
            true => chains.clone(),
            false => chains
                .iter()
                .map(|(name, rules)| (name.clone(), without_repeats(rules, false)))
                .collect(),
        };
        State {
            v4: strip(&other.v4),
            v6: self.v6.as_ref().and(other.v6.as_ref().map(strip)),
            comments: self.comments,
            ..other
        }
    }
}

/// The chains in the output of iptables-save: ours and every other one that holds a rule.
fn saved(text: &str) -> Chains {
    let chains = SavedChain::all(text).into_iter();
    let chains = chains.filter(|c| {
        c.name.starts_with("ISTIO") || c.name.starts_with("PROXY_INIT") || !c.rules.is_empty()
    });
    chains
        .map(|c| ((c.table, c.name), without_repeats(&c.rules, true)))
        .collect()
}

/// The `fwmark` lines of `ip rule`, without their priorities.
fn fwmarks(text: &str) -> Vec<String> {
    let line = |l: &str| {
        l.split_once(':')
            .map_or(l, |(_, rest)| rest)
            .trim()
            .to_owned()
    };
    let mut lines: Vec<String> = text
        .lines()
        .filter(|l| l.contains("fwmark"))
        .map(line)
        .collect();
    lines.sort();
    lines
}

fn add(chains: &mut Chains, table: &str, names: Vec<String>, rules: Vec<String>, comments: bool) {
    for name in names {
        chains.entry((table.to_owned(), name)).or_default();
    }
    for rule in rules {
        let chain = rule.split(' ').nth(1).expect("-A CHAIN").to_owned();
        let rules = chains.entry((table.to_owned(), chain)).or_default();
        rules.push(rule);
    }
    for rules in chains.values_mut() {
        *rules = without_repeats(rules, comments);
    }
}

/// A rule repeated at once does nothing; the tools replaced wrote some.
fn without_repeats(rules: &[String], comments: bool) -> Vec<String> {
    let mut rules: Vec<String> = rules
        .iter()
        .map(|r| {
            if comments {
                r.clone()
            } else {
                without_comments(r)
            }
        })
        .collect();
    rules.dedup();
    rules
}

/// As iptables-save prints it, for a person who compares two.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (family, chains) in [("v4", Some(&self.v4)), ("v6", self.v6.as_ref())] {
            for ((table, chain), rules) in chains.into_iter().flatten() {
                writeln!(f, "{family} {table} {chain}")?;
                rules
                    .iter()
                    .try_for_each(|rule| writeln!(f, "    {rule}"))?;
            }
        }
        let mut rest = String::new();
        for text in self.rules.iter().flatten().chain(&self.routes) {
            writeln!(rest, "{text}")?;
        }
        f.write_str(rest.trim_start())?;
        f.write_str(&self.native)?;
        writeln!(f, "::6 on lo: {}", self.lo6)
    }
}
