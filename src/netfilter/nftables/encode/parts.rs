//! The later parts of a chain, where nf_tables needs more chains than the model has.

use super::origin::What;
use super::write::TableEncoder;
use crate::netfilter::backend::Store;
use crate::netfilter::model::{ChainName, Rule};
use crate::netfilter::nftables::dump;
use crate::netfilter::nftables::native::{self, PartNames};
use crate::netfilter::nftables::nf_tables::*;

impl<'a> TableEncoder<'_, 'a> {
    /// The later parts that a chain was dumped with.
    pub(super) fn parts_found(&self, chain: &str) -> Vec<&'a dump::Chain> {
        let table = self.found.filter(|_| self.store == Store::Native);
        table.map_or_else(Vec::new, |t| t.parts(chain))
    }

    /// Makes the parts that the rules of a chain need beside the chain itself.
    pub(super) fn make_parts(&mut self, chain: &'a ChainName, rules: &[&Rule]) {
        let found = self.parts_found(chain.as_str());
        for part in self.parts_needed(chain, rules) {
            if !found.iter().any(|c| c.name == part) {
                self.chain(NFT_MSG_NEWCHAIN, What::Chain(chain), &part, |_| {});
            }
        }
    }

    /// Removes the parts that the rules of a chain do not need any more.
    pub(super) fn remove_parts(&mut self, chain: &'a ChainName, rules: &[&Rule]) {
        let needed = self.parts_needed(chain, rules);
        for part in self.parts_found(chain.as_str()) {
            if !needed.contains(&part.name) {
                let what = What::RemoveChain(chain);
                self.chain(NFT_MSG_DELCHAIN, what, &part.name, |_| {});
            }
        }
    }

    fn parts_needed(&self, chain: &ChainName, rules: &[&Rule]) -> Vec<String> {
        match self.store {
            Store::Native => {
                let parts = native::lower(rules, &self.part_names(chain));
                parts.into_iter().skip(1).map(|p| p.name).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What the parts of a chain are called: as they are already, or as nobody's chain is.
    pub(super) fn part_names(&self, chain: &ChainName) -> PartNames {
        let own = self.parts_found(chain.as_str());
        PartNames::of(chain.as_str(), |name| {
            let there = self.found.is_some_and(|t| t.chain(name).is_some());
            there && !own.iter().any(|c| c.name == name)
        })
    }
}
