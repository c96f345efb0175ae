//! Runs the program in a network namespace and reads its state.

use crate::lab::{Done, Namespace, SavedChain, Variant, product};
use prepare_proxy::netfilter::model::Family;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Two sets of options without a common chain or jump.
pub const SOME: &str = "-p 15001 -u 1337 --dual-stack";
pub const OTHER: &str = "-p 15999 -u 2000,3000 -i 10.0.0.0/8,192.168.0.0/16";

/// All features of mesh istio: TPROXY with its own mark and table, DNS, interfaces.
pub const ISTIO: &str = "--mesh istio -m TPROXY -b * -i * -t 77 -r 99 -c eth1,docker0 -k br0 \
    --drop-invalid --redirect-dns --capture-all-dns";

/// Runs the program with a line of arguments.
pub fn run(namespace: &Namespace, line: &str) -> Done {
    namespace.run(product().args(line.split_whitespace()))
}

/// The program under test.
pub fn the_program() -> PathBuf {
    product().get_program().into()
}

/// Runs the program under a wrapper command.
pub fn run_under(namespace: &Namespace, wrapper: &str, program: &Path, line: &str) -> Done {
    let mut words = wrapper.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).arg(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    namespace.run(command.args(line.split_whitespace()))
}

/// Applies, and fails unless that succeeds.
pub fn apply(namespace: &Namespace, backend: &str, options: &str) -> Result<Done, String> {
    run(namespace, &format!("--backend {backend} {options}")).expect(0, options)
}

/// All rules of all backends, one paragraph a chain, without base chains that are empty, so that
/// namespaces can be compared.
pub fn rules(namespace: &Namespace) -> String {
    let (mut chains, routing) = seen(namespace);
    chains.sort();
    let texts = chains.into_iter().map(|(_, text)| text);
    texts.collect::<String>() + &routing
}

/// Chains with their tables (`iptables-nft nat`), and routing.
pub fn seen(namespace: &Namespace) -> (Vec<(String, String)>, String) {
    let mut chains = Vec::new();
    for family in Family::ALL {
        for variant in [Variant::Nft, Variant::Legacy] {
            let tool = variant.tool(family, "");
            let all = SavedChain::all(&namespace.iptables_save(family, variant));
            let shown = all.iter().filter(|c| c.is_custom || !c.rules.is_empty());
            chains.extend(shown.map(|chain| {
                let table = format!("{tool} {}", chain.table);
                let rules: String = chain.rules.iter().map(|r| format!("    {r}\n")).collect();
                (table.clone(), format!("{table} {}\n{rules}", chain.name))
            }));
        }
    }
    chains.extend(native(&namespace.sh("nft list ruleset")));
    (chains, desired_routing(namespace))
}

/// Chains and sets of own tables, and of those of Istio.
fn native(ruleset: &str) -> Vec<(String, String)> {
    let of_mesh = |t: &&str| t.contains(" prepare-proxy-") || t.contains(" istio-proxy-");
    let tables = ruleset.split("\n}\n").filter(of_mesh);
    let parts = tables.flat_map(|table| {
        let (name, body) = table.split_once(" {\n").unwrap_or((table, ""));
        body.split("\n\n")
            .map(move |part| (name.to_owned(), format!("{name}\n{part}\n")))
    });
    parts.collect()
}

/// A namespace with an IPv6 address that others can reach.
pub fn with_ipv6() -> Namespace {
    let namespace = Namespace::new();
    namespace.sh("ip addr add fd00::1/128 dev lo nodad");
    namespace
}

/// Policy routes and addresses of lo.
fn desired_routing(namespace: &Namespace) -> String {
    let routing = namespace.routing();
    let of_mesh = |line: &&str| {
        let parts = ["fwmark", "local default", "local ::/0", "::6/"];
        parts.iter().any(|part| line.contains(part))
    };
    let lines = routing.lines().filter(of_mesh);
    lines.map(|line| format!("{line}\n")).collect()
}

/// The whole state of netfilter and routing, with handles: unchanged means that nothing was
/// written.
pub fn everything(namespace: &Namespace) -> String {
    let saves = Family::ALL.map(|f| namespace.iptables_save(f, Variant::Legacy));
    saves.concat() + &namespace.sh("nft -a list ruleset") + &namespace.routing()
}
