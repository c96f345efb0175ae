//! The difference between what is there and what is wanted, ready for a backend to commit.

use super::names::{ChainName, Family, TableName};
use super::{InetTable, LiveRule, Rule};

/// What one commit does. Nothing in it concerns a foreign rule or chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub tables: Vec<TableChange>,
    /// Tables that go with all that is in them.
    pub remove: Vec<InetTable>,
}

impl Change {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.remove.is_empty()
    }
}

/// The change of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    pub family: Family,
    pub name: TableName,
    /// The table is dormant, and is not to be.
    pub wake: bool,
    /// Base chains whose policy is to drop, and is to be to accept.
    pub accept: Vec<ChainName>,
    /// Chains of ours whose content is replaced as a whole.
    pub rewrite: Vec<ChainRewrite>,
    /// Chains of ours that go, once nothing jumps to them any more.
    pub remove: Vec<ChainName>,
    /// Chains that are not ours but hold rules of ours.
    pub base: Vec<BaseChange>,
}

impl TableChange {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let chains = self.rewrite.is_empty() && self.remove.is_empty() && self.base.is_empty();
        chains && !self.wake && self.accept.is_empty()
    }
}

/// A chain of ours, emptied if it exists and made if it does not, then filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRewrite {
    pub name: ChainName,
    pub exists: bool,
    pub rules: Vec<Rule>,
}

/// Rules of ours in a chain that is not ours: the old ones go, the new ones come at its head and at
/// its tail, and everything else keeps its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChange {
    pub chain: ChainName,
    pub delete: Vec<LiveRule>,
    /// In the order in which they are to stand.
    pub head: Vec<Rule>,
    pub tail: Vec<Rule>,
}
