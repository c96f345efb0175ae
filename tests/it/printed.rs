//! What a dry run prints, run by those who read it: a shell, iptables-restore, nft. With any name
//! that an interface can have it leaves what an apply leaves.

use crate::lab::{Namespace, product, same};
use proptest::prelude::*;
use std::process::Command;

/// Names as Linux and iptables take them, most of them made to be misunderstood.
fn names() -> impl Strategy<Value = Vec<String>> {
    let legal = |name: &String| {
        !name.contains('*')
            && name
                .parse::<prepare_proxy::netfilter::model::Interface>()
                .is_ok()
    };
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
        "abcdefghijklm*+",
    ]);
    let name = prop_oneof![any, odd.prop_map(str::to_owned)];
    // The lists of options are separated by commas, and "*" alone stands for a whole list.
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

/// Names that nft cannot write are refused by the dry run, and said.
fn nft_cannot_write(name: &str) -> bool {
    name.len() == 15 && name.ends_with('*')
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_shell_and_nft_do_what_an_apply_does(names in names()) {
        let alone = names.iter().any(|n| n == "*") && names.len() > 2;
        let names: Vec<String> = names.into_iter().filter(|n| !alone || n != "*").collect();
        prop_assume!(names.len() >= 2);

        let by_shell = with_address();
        let script = printed(&by_shell, &names, "commands").must("commands");
        by_shell.run_with_input(Command::new("sh").env("PATH", "/usr/sbin:/usr/bin"), &script).must(&script);
        same(&iptables(&applied(&names, "netlink")), &iptables(&by_shell), &script).unwrap();

        let by_nft = with_address();
        let text = printed(&by_nft, &names, "nft");
        if names.iter().any(|n| nft_cannot_write(n)) {
            let refused = text.expect(2, "a name that nft cannot write").unwrap();
            prop_assert!(refused.err.contains("nft has no way to write the interface name"), "{}", refused.err);
            return Ok(());
        }
        let text = text.must("nft");
        by_nft.nft_load(&text);
        let list = |namespace: &Namespace| namespace.sh("nft list ruleset");
        same(&list(&applied(&names, "nftables")), &list(&by_nft), &text).unwrap();
    }
}
