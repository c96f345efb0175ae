//! Dumps the list of tables.

use super::text;
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{Family, TableName};
use crate::netfilter::netlink::{AttributeTable, Error, Malformed, Transport};
use crate::netfilter::nftables::hooks;
use crate::netfilter::nftables::kernel::Kernel;
use crate::netfilter::nftables::nf_tables::*;

/// The attributes of a table.
#[derive(Clone, Debug)]
pub(crate) struct TableHead {
    /// `NFPROTO_*`.
    pub family: u8,
    pub name: String,
    /// `enum nft_table_flags`.
    pub flags: u32,
    /// The number of chains, sets and other objects (`NFTA_TABLE_USE`).
    pub uses: u32,
}

impl TableHead {
    /// Its chains are not in force.
    pub(crate) fn is_dormant(&self) -> bool {
        self.flags & NFT_TABLE_F_DORMANT != 0
    }

    /// Owned by another program (since Linux 5.12), which alone may change it.
    pub(crate) fn is_owned(&self) -> bool {
        self.flags & NFT_TABLE_F_OWNER != 0
    }

    /// The name of a table of the family `inet`.
    pub(crate) fn inet_name(&self) -> Option<&str> {
        (self.family == hooks::INET).then_some(&*self.name)
    }

    /// Which table of a backend it is.
    pub(crate) fn place(&self, kind: TableKind) -> Option<(Family, TableName)> {
        let family = hooks::family(self.family)?;
        Some((family, hooks::table_of(kind, self.name.as_bytes())?))
    }
}

pub(crate) fn table_heads<T: Transport>(kernel: &mut Kernel<T>) -> Result<Vec<TableHead>, Error> {
    let mut heads = Vec::new();
    kernel.dump(
        NFT_MSG_GETTABLE,
        0,
        |_| {},
        |family, a| {
            heads.push(read_head(family, a)?);
            Ok(())
        },
    )?;
    Ok(heads)
}

fn read_head(family: u8, attributes: &[u8]) -> Result<TableHead, Malformed> {
    let a = AttributeTable::<4>::parse(attributes)?;
    Ok(TableHead {
        family,
        name: text(a.bytes(NFTA_TABLE_NAME)?).into_owned(),
        flags: match a.get(NFTA_TABLE_FLAGS) {
            Some(_) => a.u32(NFTA_TABLE_FLAGS)?,
            None => 0,
        },
        uses: a.u32(NFTA_TABLE_USE)?,
    })
}
