//! The messages of one table.

use super::origin::{Operation, Origin, Place, Reason, Unsupported};
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{ChainName, Family, Rule, TableChange, TableName};
use crate::netfilter::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_NONREC, Writer};
use crate::netfilter::nftables::batch::Batch;
use crate::netfilter::nftables::dump;
use crate::netfilter::nftables::expr::Expr;
use crate::netfilter::nftables::hooks;
use crate::netfilter::nftables::native::{self, Lists, Set};
use crate::netfilter::nftables::nf_tables::*;
use crate::netfilter::nftables::xt;

/// Writes messages about one table of one family into a batch.
pub(super) struct TableEncoder<'p, 'a> {
    batch: &'p mut Batch<Origin<'a>>,
    pub kind: TableKind,
    family: Family,
    pub table: TableName,
    /// The table in the dump, if it exists.
    pub found: Option<&'a dump::Table>,
    /// The last set id of the batch.
    last_set: &'p mut u32,
}

impl<'p, 'a> TableEncoder<'p, 'a> {
    pub(super) fn new(
        batch: &'p mut Batch<Origin<'a>>,
        kind: TableKind,
        table: &TableChange,
        found: Option<&'a dump::Table>,
        last_set: &'p mut u32,
    ) -> Self {
        TableEncoder {
            batch,
            kind,
            family: table.family,
            table: table.name,
            found,
            last_set,
        }
    }

    pub(super) fn make_table(&mut self) {
        self.message(NFT_MSG_NEWTABLE, NLM_F_CREATE, Operation::Table, |_| {});
    }

    /// Clears the dormant flag.
    pub(super) fn wake(&mut self, flags: u32) {
        self.message(NFT_MSG_NEWTABLE, 0, Operation::WakeTable, |w| {
            w.u32(NFTA_TABLE_FLAGS, flags & !NFT_TABLE_F_DORMANT);
        });
    }

    /// Sets the policy of a base chain to accept.
    pub(super) fn accept(&mut self, chain: &'a ChainName) {
        let accept = |w: &mut Writer| w.u32(NFTA_CHAIN_POLICY, hooks::NF_ACCEPT);
        self.chain(
            NFT_MSG_NEWCHAIN,
            Operation::Policy(chain),
            chain.as_str(),
            accept,
        );
    }

    /// Removes the table, which must be empty.
    pub(super) fn remove_table(&mut self) {
        self.message(
            NFT_MSG_DELTABLE,
            NLM_F_NONREC,
            Operation::RemoveTable,
            |_| {},
        );
    }

    pub(super) fn make_chain(&mut self, name: &'a ChainName) {
        self.chain(
            NFT_MSG_NEWCHAIN,
            Operation::Chain(name),
            name.as_str(),
            |_| {},
        );
    }

    /// The chain in the dump, if it exists.
    pub(super) fn chain_found(&self, chain: &ChainName) -> Option<&'a dump::Chain> {
        self.found.and_then(|t| t.chain(chain.as_str()))
    }

    /// Flushes a chain and removes its address lists.
    pub(super) fn empty(&mut self, chain: &'a ChainName) {
        self.message(NFT_MSG_DELRULE, 0, Operation::Flush(chain), |w| {
            w.string(NFTA_RULE_CHAIN, chain.as_str())
        });
        let sets = self.found.into_iter().flat_map(|t| t.sets.names());
        for list in sets.filter(|s| native::is_list(s, chain.as_str())) {
            self.message(NFT_MSG_DELSET, 0, Operation::Lists(chain), |w| {
                w.string(NFTA_SET_NAME, list)
            });
        }
    }

    pub(super) fn remove_rule(&mut self, what: Operation<'a>, chain: &ChainName, handle: u64) {
        self.message(NFT_MSG_DELRULE, 0, what, |w| {
            w.string(NFTA_RULE_CHAIN, chain.as_str());
            w.u64(NFTA_RULE_HANDLE, handle);
        });
    }

    /// Removes an empty chain.
    pub(super) fn remove_chain(&mut self, chain: &'a ChainName) {
        let what = Operation::RemoveChain(chain);
        self.chain(NFT_MSG_DELCHAIN, what, chain.as_str(), |_| {});
    }

    /// Removes an empty base chain.
    pub(super) fn remove_base_chain(&mut self, chain: &'a str) {
        let what = Operation::RemoveBaseChain(chain);
        self.chain(NFT_MSG_DELCHAIN, what, chain, |_| {});
    }

    /// Appends rules to a chain.
    pub(super) fn fill(
        &mut self,
        chain: &'a ChainName,
        rules: &[&'a Rule],
    ) -> Result<(), Unsupported<'a>> {
        let lists = match self.kind {
            TableKind::Native => Lists::of(chain.as_str(), rules),
            _ => Lists::none(chain.as_str()),
        };
        for (name, addresses) in lists.all() {
            *self.last_set += 1;
            let set = Set::of_addresses(name, *self.last_set, addresses);
            self.set(Operation::Lists(chain), &set);
        }
        let mut rules = rules.iter();
        rules.try_for_each(|rule| self.rule(chain, rule, &lists, NLM_F_APPEND))
    }

    /// Writes a rule in the encoding of the backend.
    pub(super) fn rule(
        &mut self,
        chain: &'a ChainName,
        rule: &'a Rule,
        lists: &Lists,
        flags: u16,
    ) -> Result<(), Unsupported<'a>> {
        if self.kind != TableKind::Native {
            return self.xt_rule(chain, rule, flags);
        }
        let companion = native::companion(rule);
        let mut both = [Some(rule), companion.as_ref()];
        if flags & NLM_F_APPEND == 0 {
            both.reverse();
        }
        let mut both = both.into_iter().flatten();
        both.try_for_each(|form| {
            self.native_rule(Operation::Rule(chain, rule), form, chain, lists, flags)
        })
    }

    /// Writes a rule as iptables-nft does.
    fn xt_rule(
        &mut self,
        chain: &'a ChainName,
        rule: &'a Rule,
        flags: u16,
    ) -> Result<(), Unsupported<'a>> {
        let what = Operation::Rule(chain, rule);
        let exprs =
            xt::write(rule, self.family).map_err(|_| self.unsupported(what, Reason::NoForm))?;
        let protocol = rule.protocol();
        self.message(NFT_MSG_NEWRULE, NLM_F_CREATE | flags, what, |w| {
            write_rule(w, chain.as_str(), &exprs);
            // xt extensions need the protocol in a separate attribute.
            if let Some(protocol) = protocol {
                w.nest(NFTA_RULE_COMPAT, |w| {
                    w.u32(NFTA_RULE_COMPAT_PROTO, u32::from(protocol.number()));
                    w.u32(NFTA_RULE_COMPAT_FLAGS, 0);
                });
            }
        });
        Ok(())
    }

    /// Writes a rule in native expressions, after its anonymous sets.
    fn native_rule(
        &mut self,
        what: Operation<'a>,
        rule: &Rule,
        chain: &ChainName,
        lists: &Lists,
        flags: u16,
    ) -> Result<(), Unsupported<'a>> {
        let written = native::write(rule, self.family, lists, self.last_set);
        let encoded = written.map_err(|_| self.unsupported(what, Reason::NoForm))?;
        for set in &encoded.sets {
            self.set(what, set);
        }
        self.message(NFT_MSG_NEWRULE, NLM_F_CREATE | flags, what, |w| {
            write_rule(w, chain.as_str(), &encoded.exprs);
            if let Some(id) = &rule.id {
                native::write_comment(w, &id.to_string());
            }
        });
        Ok(())
    }

    /// Writes a set with its elements.
    fn set(&mut self, what: Operation<'a>, set: &Set) {
        self.message(NFT_MSG_NEWSET, NLM_F_CREATE, what, |w| set.write(w));
        for chunk in set.chunks() {
            let fill = |w: &mut Writer| set.write_elements(&chunk, w);
            self.message(NFT_MSG_NEWSETELEM, NLM_F_CREATE, what, fill);
        }
    }

    pub(super) fn chain(
        &mut self,
        number: u16,
        what: Operation<'a>,
        name: &str,
        fill: impl FnOnce(&mut Writer),
    ) {
        let flags = match number {
            NFT_MSG_NEWCHAIN => NLM_F_CREATE,
            _ => 0,
        };
        self.message(number, flags, what, |w| {
            w.string(NFTA_CHAIN_NAME, name);
            fill(w);
        });
    }

    /// Writes a message about an object of the table.
    pub(super) fn message(
        &mut self,
        number: u16,
        flags: u16,
        what: Operation<'a>,
        fill: impl FnOnce(&mut Writer),
    ) {
        let (family, origin) = (hooks::nfproto(self.family), self.origin(what));
        let table = hooks::table_name(self.kind, self.table);
        self.batch.message(number, flags, family, origin, |w| {
            // The table name is the first attribute of all kinds of objects.
            w.string(NFTA_TABLE_NAME, table);
            fill(w);
        });
    }

    pub(super) fn unsupported(&self, what: Operation<'a>, reason: Reason) -> Unsupported<'a> {
        let origin = self.origin(what);
        Unsupported { origin, reason }
    }

    fn origin(&self, what: Operation<'a>) -> Origin<'a> {
        Origin {
            place: Place::Of(self.family, self.table),
            what,
        }
    }
}

fn write_rule(w: &mut Writer, chain: &str, exprs: &[Expr]) {
    w.string(NFTA_RULE_CHAIN, chain);
    w.nest(NFTA_RULE_EXPRESSIONS, |w| {
        exprs.iter().for_each(|e| e.write(w))
    });
}
