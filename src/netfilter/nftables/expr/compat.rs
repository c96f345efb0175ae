//! `match` and `target`: extensions of x_tables, through nft_compat (nf_tables_compat.h).

use super::Data;
use crate::netfilter::netlink::{Malformed, Writer};
use std::borrow::Cow;

pub(crate) const MATCH: &str = "match";
pub(crate) const TARGET: &str = "target";

/// `enum nft_match_attributes`.
const NFTA_MATCH_NAME: u16 = 1;
const NFTA_MATCH_REV: u16 = 2;
const NFTA_MATCH_INFO: u16 = 3;
/// `enum nft_target_attributes`.
const NFTA_TARGET_NAME: u16 = 1;
const NFTA_TARGET_REV: u16 = 2;
const NFTA_TARGET_INFO: u16 = 3;

/// An x_tables match or target with its binary argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    pub name: Cow<'static, str>,
    pub revision: u32,
    pub info: Vec<u8>,
}

pub(crate) fn write_match(extension: &Extension, w: &mut Writer) {
    w.string(NFTA_MATCH_NAME, &extension.name);
    w.u32(NFTA_MATCH_REV, extension.revision);
    w.bytes(NFTA_MATCH_INFO, &extension.info);
}

pub(crate) fn read_match(a: &Data) -> Result<Extension, Malformed> {
    Ok(Extension {
        name: Cow::Owned(a.string(NFTA_MATCH_NAME)?.to_owned()),
        revision: a.u32(NFTA_MATCH_REV)?,
        info: a.bytes(NFTA_MATCH_INFO)?.to_vec(),
    })
}

pub(crate) fn write_target(extension: &Extension, w: &mut Writer) {
    w.string(NFTA_TARGET_NAME, &extension.name);
    w.u32(NFTA_TARGET_REV, extension.revision);
    w.bytes(NFTA_TARGET_INFO, &extension.info);
}

pub(crate) fn read_target(a: &Data) -> Result<Extension, Malformed> {
    Ok(Extension {
        name: Cow::Owned(a.string(NFTA_TARGET_NAME)?.to_owned()),
        revision: a.u32(NFTA_TARGET_REV)?,
        info: a.bytes(NFTA_TARGET_INFO)?.to_vec(),
    })
}
