//! The difference between observed and desired state, ready for a backend to commit.

use super::names::{ChainName, Family, TableName};
use super::{InetTable, ObservedRule, Rule};

/// One commit. It never concerns foreign rules or chains.
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
    /// The table is dormant and must be in force.
    pub wake: bool,
    /// Base chains whose policy drops and must accept.
    pub accept: Vec<ChainName>,
    /// Managed chains whose content is replaced.
    pub rewrite: Vec<ChainRewrite>,
    /// Managed chains to remove, once nothing jumps to them.
    pub remove: Vec<ChainName>,
    /// Base chains that hold managed rules.
    pub base: Vec<BaseChange>,
}

impl TableChange {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let chains = self.rewrite.is_empty() && self.remove.is_empty() && self.base.is_empty();
        chains && !self.wake && self.accept.is_empty()
    }
}

/// A managed chain: created, or flushed if it exists, then filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRewrite {
    pub name: ChainName,
    pub exists: bool,
    pub rules: Vec<Rule>,
}

/// Managed rules in a base chain: old ones are deleted, new ones added at its head and tail.
/// Foreign rules keep their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChange {
    pub chain: ChainName,
    pub delete: Vec<ObservedRule>,
    /// In evaluation order.
    pub head: Vec<Rule>,
    pub tail: Vec<Rule>,
}
