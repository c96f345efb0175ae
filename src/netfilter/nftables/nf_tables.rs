//! Constants of linux/netfilter/nf_tables.h and nfnetlink.h by their kernel names, in the width of
//! the messages: for tables, chains, rules and sets. Those of an expression are in its file.

use nix::libc;

/// `enum nf_tables_msg_types`.
pub(super) const NFT_MSG_NEWTABLE: u16 = libc::NFT_MSG_NEWTABLE as u16;
pub(super) const NFT_MSG_GETTABLE: u16 = libc::NFT_MSG_GETTABLE as u16;
pub(super) const NFT_MSG_DELTABLE: u16 = libc::NFT_MSG_DELTABLE as u16;
pub(super) const NFT_MSG_NEWCHAIN: u16 = libc::NFT_MSG_NEWCHAIN as u16;
pub(super) const NFT_MSG_GETCHAIN: u16 = libc::NFT_MSG_GETCHAIN as u16;
pub(super) const NFT_MSG_DELCHAIN: u16 = libc::NFT_MSG_DELCHAIN as u16;
pub(super) const NFT_MSG_NEWRULE: u16 = libc::NFT_MSG_NEWRULE as u16;
pub(super) const NFT_MSG_GETRULE: u16 = libc::NFT_MSG_GETRULE as u16;
pub(super) const NFT_MSG_DELRULE: u16 = libc::NFT_MSG_DELRULE as u16;
pub(super) const NFT_MSG_NEWSET: u16 = libc::NFT_MSG_NEWSET as u16;
pub(super) const NFT_MSG_GETSET: u16 = libc::NFT_MSG_GETSET as u16;
pub(super) const NFT_MSG_DELSET: u16 = libc::NFT_MSG_DELSET as u16;
pub(super) const NFT_MSG_NEWSETELEM: u16 = libc::NFT_MSG_NEWSETELEM as u16;
pub(super) const NFT_MSG_GETSETELEM: u16 = libc::NFT_MSG_GETSETELEM as u16;
pub(super) const NFT_MSG_NEWGEN: u16 = libc::NFT_MSG_NEWGEN as u16;
pub(super) const NFT_MSG_GETGEN: u16 = libc::NFT_MSG_GETGEN as u16;

/// nfnetlink.h: the begin and end of a transaction.
pub(super) const NFNL_SUBSYS_NFTABLES: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
pub(super) const NFNL_MSG_BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
pub(super) const NFNL_MSG_BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
/// `enum nfnl_batch_attributes`.
pub(super) const NFNL_BATCH_GENID: u16 = libc::NFNL_BATCH_GENID as u16;

/// `enum nft_gen_attributes`.
pub(super) const NFTA_GEN_ID: u16 = 1;
pub(super) const NFTA_GEN_PROC_PID: u16 = 2;
pub(super) const NFTA_GEN_PROC_NAME: u16 = 3;

/// `enum nft_table_attributes`.
pub(super) const NFTA_TABLE_NAME: u16 = 1;
pub(super) const NFTA_TABLE_FLAGS: u16 = 2;
pub(super) const NFTA_TABLE_USE: u16 = 3;
/// `enum nft_table_flags`.
pub(super) const NFT_TABLE_F_DORMANT: u32 = 1;
pub(super) const NFT_TABLE_F_OWNER: u32 = 2;

/// `enum nft_chain_attributes`.
pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_CHAIN_HOOK: u16 = 4;
pub(super) const NFTA_CHAIN_POLICY: u16 = 5;
pub(super) const NFTA_CHAIN_USE: u16 = 6;
pub(super) const NFTA_CHAIN_TYPE: u16 = 7;
/// `enum nft_hook_attributes`.
pub(super) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(super) const NFTA_HOOK_PRIORITY: u16 = 2;

/// `enum nft_rule_attributes`.
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_HANDLE: u16 = 3;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(super) const NFTA_RULE_COMPAT: u16 = 5;
pub(super) const NFTA_RULE_USERDATA: u16 = 7;
/// `enum nft_rule_compat_attributes`.
pub(super) const NFTA_RULE_COMPAT_PROTO: u16 = 1;
pub(super) const NFTA_RULE_COMPAT_FLAGS: u16 = 2;

/// `enum nft_list_attributes`.
pub(super) const NFTA_LIST_ELEM: u16 = 1;

/// `enum nft_set_attributes`.
pub(super) const NFTA_SET_TABLE: u16 = 1;
pub(super) const NFTA_SET_NAME: u16 = 2;
pub(super) const NFTA_SET_FLAGS: u16 = 3;
pub(super) const NFTA_SET_KEY_TYPE: u16 = 4;
pub(super) const NFTA_SET_KEY_LEN: u16 = 5;
pub(super) const NFTA_SET_DATA_TYPE: u16 = 6;
pub(super) const NFTA_SET_ID: u16 = 10;
/// `enum nft_set_flags`.
pub(super) const NFT_SET_ANONYMOUS: u32 = libc::NFT_SET_ANONYMOUS as u32;
pub(super) const NFT_SET_CONSTANT: u32 = libc::NFT_SET_CONSTANT as u32;
pub(super) const NFT_SET_INTERVAL: u32 = libc::NFT_SET_INTERVAL as u32;

/// `enum nft_set_elem_list_attributes`.
pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const NFTA_SET_ELEM_LIST_SET_ID: u16 = 4;
/// `enum nft_set_elem_attributes`.
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(super) const NFTA_SET_ELEM_DATA: u16 = 2;
pub(super) const NFTA_SET_ELEM_FLAGS: u16 = 3;
/// `enum nft_set_elem_flags`.
pub(super) const NFT_SET_ELEM_INTERVAL_END: u32 = libc::NFT_SET_ELEM_INTERVAL_END as u32;

/// The data type of verdict maps (`enum nft_data_types`).
pub(super) const NFT_DATA_VERDICT: u32 = libc::NFT_DATA_VERDICT;

/// `enum nft_data_attributes`.
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
