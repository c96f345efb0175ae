//! What nft lists; a table is read the same when its last lines are only comments.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prepare_proxy::netfilter::nftables::read_listing;

fuzz_target!(|text: &str| {
    let Ok(listing) = read_listing(text) else {
        return;
    };
    let again = read_listing(&format!("{text}\n# a comment {{\n")).expect("a comment is no rule");
    assert_eq!(listing.rules, again.rules);
});
