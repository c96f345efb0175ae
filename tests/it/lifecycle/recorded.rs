//! Recorded states of the tools replaced.

use crate::cases::recording::{self, strings};
use crate::lab::{Namespace, Variant};
use prepare_proxy::netfilter::model::Family;
use serde_json::Value;

/// A recorded state.
pub struct Recorded {
    pub name: String,
    expect: Value,
}

/// All recordings that are not empty.
pub fn all() -> Vec<Recorded> {
    let tools = ["nginmesh", "istio-1.0", "istio", "istio-leftovers"];
    let mut all: Vec<Recorded> = tools.into_iter().flat_map(of_tool).collect();
    all.retain(|r| Family::ALL.iter().any(|f| !r.restore_text(*f).is_empty()));
    all
}

fn of_tool(tool: &str) -> Vec<Recorded> {
    let recorded = |vector: &Value| Recorded {
        name: recording::name(tool, vector),
        expect: vector["expect"].clone(),
    };
    recording::vectors(tool).iter().map(recorded).collect()
}

impl Recorded {
    /// Restores rules, policy routes and addresses as recorded.
    pub fn put_back(&self, namespace: &Namespace, backend: &str) {
        for family in Family::ALL {
            namespace.iptables_restore(family, Variant::of(backend), &self.restore_text(family));
        }
        for (ip, key) in [("ip", "4"), ("ip -6", "6")] {
            for rule in strings(&self.expect[format!("rule{key}")]) {
                let (_, rule) = rule.split_once("from all ").expect("PRIORITY: from all …");
                namespace.sh(&format!("{ip} rule add {rule}"));
            }
            if let Some(route) = self.expect[format!("route{key}")]
                .as_str()
                .filter(|r| !r.is_empty())
            {
                namespace.sh(&format!("{ip} route add {route} table 133"));
            }
        }
        if self.expect["lo6"] == true {
            namespace.sh("ip addr add ::6/128 dev lo");
        }
    }

    fn restore_text(&self, family: Family) -> String {
        let key = match family {
            Family::V4 => "v4",
            Family::V6 => "v6",
        };
        let tables = self.expect[key].as_object().into_iter().flatten();
        let text = tables.map(|(table, content)| {
            let chains = strings(&content["chains"]).into_iter();
            let chains: String = chains.map(|c| format!(":{c} - [0:0]\n")).collect();
            let rules = strings(&content["rules"]).join("\n");
            format!("*{table}\n{chains}{rules}\nCOMMIT\n")
        });
        text.collect()
    }
}
