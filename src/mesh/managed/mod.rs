//! What is managed: the code counterpart of docs/limits.md.
//!
//! A chain is managed by its name; a rule in another chain by its comment, by the chain that it
//! jumps to, or by its looks while a tool that we replace has left its traces. A policy route
//! is managed by the mark of managed rules, or by the numbers that every mesh uses; an address by its value.
//! Everything else is foreign and is never touched.

mod routing;
mod rules;

pub(crate) use routing::{PASSTHROUGH, relied_on, routing, tproxy_marks, unneeded_routing};
pub(crate) use rules::{ManagedRules, count_foreign_rules, is_signed};

use crate::mesh::MESHES;
use crate::mesh::signature::{Purpose, Signature, purpose};
use crate::netfilter::model::{ChainName, Entry, RuleId, Ruleset, Target};

/// Whose chains and rules are managed. Several meshes may share one.
fn signatures() -> impl Iterator<Item = &'static Signature> {
    MESHES.iter().map(|mesh| mesh.signature)
}

/// What the id of a managed rule stands for, and the rest of the id behind its stem.
pub(crate) fn purpose_of(id: &RuleId) -> Option<(Purpose, &str)> {
    let signature = signatures().find(|s| id.label() == Some(s.comments))?;
    purpose(signature.purposes, id.as_str())
}

/// The id of a rule without the value at its end, if it is one of ours.
pub(crate) fn stem_of(id: &RuleId) -> &str {
    let value = purpose_of(id).map_or("", |(_, rest)| rest);
    let id = id.as_str();
    &id[..id.len() - value.len()]
}

/// Whether a chain belongs to us, by its name.
pub(crate) fn is_managed_chain(name: &ChainName) -> bool {
    signatures().any(|s| s.names(name))
}

/// Whether a rule is managed: by its chain, by its comment, or by the chain that it jumps to.
pub(crate) fn is_managed_entry(chain: &ChainName, rule: &Entry) -> bool {
    let jumps = || matches!(rule.target(), Some(Target::Jump(to)) if is_managed_chain(to));
    is_managed_chain(chain) || rule.id().is_some_and(is_managed_id) || jumps()
}

/// The meshes whose names chains have, each once.
pub(crate) fn meshes<'a>(chains: impl Iterator<Item = &'a ChainName>) -> Vec<&'static str> {
    let chains: Vec<&ChainName> = chains.collect();
    let has_chains = |s: &&Signature| chains.iter().any(|name| s.names(name));
    let mut meshes: Vec<&str> = signatures().filter(has_chains).map(|s| s.mesh).collect();
    meshes.dedup();
    meshes
}

/// Rules with the label of the mesh that names chains so: the JSON of a dry run has the ids alone.
pub(crate) fn labelled(ruleset: Ruleset) -> Ruleset {
    let chains = || ruleset.tables.iter().flat_map(|table| &table.chains);
    let has_chains = |s: &&Signature| chains().any(|chain| s.names(&chain.name));
    match signatures().find(has_chains) {
        Some(signature) => ruleset.labelled(signature.comments),
        None => ruleset,
    }
}

/// Whether a table of nf_tables' family `inet` belongs to us as a whole, by its name.
pub(crate) fn is_managed_inet_table(name: &str) -> bool {
    signatures().any(|s| s.inet_tables.contains(&name))
}

/// Whether a rule with this comment is managed: `istio/bypass-envoy`.
fn is_managed_comment(comment: &str) -> bool {
    RuleId::from_comment(comment).is_some_and(|id| is_managed_id(&id))
}

/// Whether a rule with this id is managed, by its label.
fn is_managed_id(id: &RuleId) -> bool {
    signatures().any(|s| id.label() == Some(s.comments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_and_comments_are_known_by_what_they_begin_with() {
        let chain = |name| is_managed_chain(&ChainName::fixed(name));
        assert!(chain("ISTIO_OUTPUT") && chain("ISTIO_") && chain("PROXY_INIT_OUTPUT"));
        assert!(
            !chain("OUTPUT")
                && !chain("PROXY_OUTPUT")
                && !chain("NOT_ISTIO_OUTPUT")
                && !chain("ISTIO")
        );
        assert!(is_managed_comment("istio/bypass-ip-range-10.0.0.0/8"));
        assert!(is_managed_comment(
            "proxy-init/install-proxy-init-output/1600000000"
        ));
        for foreign in [
            "istio",
            "istio/",
            "istio-x/y",
            "x/istio/y",
            "istio/two words",
            "",
        ] {
            assert!(!is_managed_comment(foreign), "{foreign}");
        }
    }
}
