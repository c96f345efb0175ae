//! What the reading of a value takes besides its text.

use super::facts::{self, Host};
use super::values::{self, BadItem};
use crate::netfilter::model::PortRange;
use ipnet::IpNet;
use std::io;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The names that the host knows, and how a mesh writes its values.
pub(super) struct Reading<'a> {
    pub host: &'a dyn Host,
    /// See [`super::Profile::bare_addresses`].
    pub bare_addresses: bool,
    /// See [`super::Profile::port_ranges`].
    pub port_ranges: char,
}

impl Reading<'_> {
    /// A user, by number or by a name in /etc/passwd.
    pub(super) fn uid(&self, text: &str) -> Result<u32, BadItem> {
        values::id(text, "UID", |name| self.user(name))
    }

    /// A group, by number or by a name in /etc/group.
    pub(super) fn gid(&self, text: &str) -> Result<u32, BadItem> {
        values::id(text, "GID", |name| self.look_up(GROUP, name))
    }

    /// The number of a user in /etc/passwd.
    ///
    /// # Errors
    /// See [`facts::look_up`].
    pub(super) fn user(&self, name: &str) -> io::Result<Option<u32>> {
        self.look_up(PASSWD, name)
    }

    fn look_up(&self, path: &str, name: &str) -> io::Result<Option<u32>> {
        let named = |e: io::Error| match e.kind() {
            // It says which file.
            io::ErrorKind::Other => e,
            kind => io::Error::new(kind, format!("{path}: {e}")),
        };
        facts::look_up(self.host, path, name).map_err(named)
    }

    /// A port, or a range of ports in the way the mesh has it.
    pub(super) fn port_range(&self, text: &str) -> Result<PortRange, BadItem> {
        values::port_range(text, self.port_ranges)
    }

    /// A prefix of either family, in the way the mesh has it.
    pub(super) fn cidr(&self, text: &str) -> Result<IpNet, BadItem> {
        match self.bare_addresses {
            true => values::cidr_or_address(text),
            false => values::cidr(text),
        }
    }
}
