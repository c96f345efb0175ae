//! What a dry run prints, run by those who read it: a shell, iptables-restore, nft. With any name
//! that an interface can have it leaves what an apply leaves.

use crate::lab::{Namespace, product, same};
use prepare_proxy::netfilter::model::Interface;
use proptest::prelude::*;
use std::process::Command;

/// Names as options take them (no `*`, which a reader may think stands for any rest), most of them
/// made to be misunderstood.
fn names() -> impl Strategy<Value = Vec<String>> {
    let legal = |name: &String| name.parse::<Interface>().is_ok() && !name.contains('*');
    let any = "[!-~]{1,15}".prop_filter("a legal name", legal);
    let odd = prop::sample::select(vec![
        "$(id)",
        "`id`",
        "$HOME",
        "a;b",
        "a&b",
        "a|b",
        "a>b",
        "(a)",
        "#a",
        "{a,b}",
        "~",
        "[a-z]",
        "x?",
        "lo",
        "eth0+",
        "<a",
        "a=b",
        "@a",
        "%s",
        "a:b",
        "^a$",
        "abcdefghijklmno",
    ]);
    let name = prop_oneof![any, odd.prop_map(str::to_owned)];
    // The lists of options are separated by commas.
    let listable = |name: &String| !name.contains(',');
    prop::collection::vec(name.prop_filter("no comma", listable), 2..12)
}

/// A dry run with these names as excluded and as virtual interfaces, which stand in every table.
fn options(names: &[String]) -> Vec<String> {
    let half = names.len() / 2;
    let words = "--mesh istio -u 1337 -b * -i * --redirect-dns --capture-all-dns --dual-stack -c";
    let mut options: Vec<String> = words.split(' ').map(str::to_owned).collect();
    options.push(names[..half].join(","));
    options.extend(["-k".to_owned(), names[half..].join(",")]);
    options
}

fn printed(namespace: &Namespace, names: &[String], format: &str) -> crate::lab::Done {
    let mut command = product();
    command
        .args(["--dry-run", "--format", format])
        .args(options(names));
    namespace.run(&mut command)
}

fn applied(names: &[String], backend: &str) -> Namespace {
    let namespace = with_address();
    let mut command = product();
    command.args(["--backend", backend]).args(options(names));
    namespace.run(&mut command).must(backend);
    namespace
}

/// A namespace with an address of each family that others can reach.
fn with_address() -> Namespace {
    let namespace = Namespace::new();
    namespace.sh("ip link set lo up; ip addr add fd66::2/64 dev lo nodad");
    namespace
}

fn iptables(namespace: &Namespace) -> String {
    namespace.sh("iptables-nft-save | grep -v '^#'; ip6tables-nft-save | grep -v '^#'")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_shell_and_nft_do_what_an_apply_does(names in names()) {
        let by_shell = with_address();
        let script = printed(&by_shell, &names, "commands").must("commands");
        by_shell.run_with_input(Command::new("sh").env("PATH", "/usr/sbin:/usr/bin"), &script).must(&script);
        same(&iptables(&applied(&names, "netlink")), &iptables(&by_shell), &script).unwrap();

        let by_nft = with_address();
        let text = printed(&by_nft, &names, "nft").must("nft");
        by_nft.nft_load(&text);
        let list = |namespace: &Namespace| namespace.sh("nft list ruleset");
        same(&list(&applied(&names, "nftables")), &list(&by_nft), &text).unwrap();
    }
}
