//! Lists of plugins: an entry that is put in can be taken out, and what is not ours keeps every byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prepare_proxy::frontend::cni::install::list::{Kind, edit, entry, kind, network};

const OURS: &str = r#"{"type":"us"}"#;

fuzz_target!(|text: &str| {
    let _ = network(text);
    let Ok(edited) = edit(text, "us", Some(OURS)) else {
        return;
    };
    assert_eq!(entry(&edited, "us").unwrap().as_deref().map(|_| ()), Some(()));
    assert_eq!(edit(&edited, "us", Some(OURS)).unwrap(), edited);
    if kind(text) == Ok(Kind::List) && entry(text, "us").unwrap().is_none() {
        assert_eq!(edit(&edited, "us", None).unwrap(), text);
    }
});
