//! How what a mesh writes is recognised: by the names of its chains and the comments of its rules.

use crate::netfilter::model::ChainName;

/// How a mesh, and the tools that it replaces, name what they write.
#[derive(Debug)]
pub struct Signature {
    /// The mesh of today that writes them.
    pub mesh: &'static str,
    /// The prefix of the names of their chains.
    pub chains: &'static str,
    /// Tables of nf_tables' family `inet` that are theirs as a whole.
    pub inet_tables: &'static [&'static str],
    /// What stands before the slash in the comments of their rules.
    pub comments: &'static str,
    /// What their rule ids stand for.
    pub purposes: Purposes,
}

impl Signature {
    /// Whether a chain is theirs, by its name.
    pub(super) fn names(&self, chain: &ChainName) -> bool {
        chain.as_str().starts_with(self.chains)
    }
}

/// What a rule with an id is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It redirects to a port; who listens there.
    To(&'static str),
    /// It exempts; why. `{}` is the rest of the id behind its stem.
    Exempt(&'static str),
    /// It exempts the proxy's own traffic, by its owner.
    ExemptProxy,
    /// It exempts the proxy's own traffic, by something else; why.
    ExemptPassed(&'static str),
}

/// Who listens, with the port: "the proxy on port 15001", if that is how it is joined. A listener that is
/// called a port takes the number behind it.
pub(crate) fn with_port(listener: &str, joined: &str, port: u16) -> String {
    let joined = if listener.ends_with(" port") {
        " "
    } else {
        joined
    };
    format!("{listener}{joined}{port}")
}

/// Rule ids, each as the stem that it begins with.
pub(crate) type Purposes = &'static [(&'static str, Purpose)];

/// The purpose of a rule id, and the rest of the id behind the stem.
pub(super) fn purpose(purposes: Purposes, id: &str) -> Option<(Purpose, &str)> {
    let mut found = purposes
        .iter()
        .filter_map(|(stem, purpose)| Some((*purpose, id.strip_prefix(stem)?)));
    found.next()
}
