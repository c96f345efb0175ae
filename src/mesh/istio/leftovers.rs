//! What the versions of istio-iptables wrote into base chains without a comment, besides jumps to chains
//! of their own.

use crate::netfilter::model::{ChainName, Rule, TableName};

/// Each kind of rule as iptables-save prints it, by table, and by the versions of Istio that wrote it.
/// `{}` stands for what was chosen, to the end of its word.
#[rustfmt::skip]
const WRITTEN: &[(TableName, &str)] = &[
    // Interfaces of virtual machines, since 1.0, and those exempt, since 1.12.
    (TableName::Nat, "-A PREROUTING -i {} -j RETURN"),
    (TableName::Nat, "-A OUTPUT -o {} -j RETURN"),
    (TableName::Mangle, "-A PREROUTING -i {} -j RETURN"),
    (TableName::Mangle, "-A OUTPUT -o {} -j RETURN"),
    // TPROXY, 1.6 to 1.8.
    (TableName::Mangle, "-A OUTPUT -s 127.0.0.1/32 ! -d 127.0.0.1/32 -p tcp -j MARK --set-xmark {}/0xffffffff"),
    // TPROXY, since 1.9.
    (TableName::Mangle, "-A PREROUTING -p tcp -m mark --mark {} -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff"),
    (TableName::Mangle, "-A OUTPUT -p tcp -m connmark --mark {} -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff"),
    (TableName::Mangle, "-A OUTPUT -o lo -p tcp -m mark --mark {} -j RETURN"),
    (TableName::Mangle, "-A OUTPUT ! -d 127.{}/{} -o lo -p tcp -m owner --uid-owner {} -j MARK --set-xmark 0x53a/0xffffffff"),
    (TableName::Mangle, "-A OUTPUT ! -d 127.{}/{} -o lo -p tcp -m owner --gid-owner {} -j MARK --set-xmark 0x53a/0xffffffff"),
    (TableName::Mangle, "-A OUTPUT ! -d ::1/128 -o lo -p tcp -m owner --uid-owner {} -j MARK --set-xmark 0x53a/0xffffffff"),
    (TableName::Mangle, "-A OUTPUT ! -d ::1/128 -o lo -p tcp -m owner --gid-owner {} -j MARK --set-xmark 0x53a/0xffffffff"),
    // DNS, 1.6 to 1.17: what the agent and Envoy ask for themselves.
    (TableName::Nat, "-A OUTPUT -p udp -m udp --dport 53 -m owner --uid-owner {} -j RETURN"),
    (TableName::Nat, "-A OUTPUT -p udp -m udp --dport 53 -m owner --gid-owner {} -j RETURN"),
    // DNS, 1.6: to Envoy.
    (TableName::Nat, "-A OUTPUT -p udp -m udp --dport 53 -j REDIRECT --to-ports 15013"),
    // DNS, 1.7: to Envoy or the agent; 1.8: to the agent.
    (TableName::Nat, "-A OUTPUT -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.1:15013"),
    (TableName::Nat, "-A POSTROUTING -p udp -m udp --dport 15013 -j SNAT --to-source 127.0.0.1"),
    (TableName::Nat, "-A OUTPUT -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.1:15053"),
    (TableName::Nat, "-A OUTPUT -d {}/{} -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.1:15053"),
    (TableName::Nat, "-A POSTROUTING -p udp -m udp --dport 15053 -j SNAT --to-source 127.0.0.1"),
    // DNS, 1.8 to 1.17: to the agent, of all nameservers or those of resolv.conf, in zones of their own.
    (TableName::Nat, "-A OUTPUT -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053"),
    (TableName::Nat, "-A OUTPUT -d {}/{} -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053"),
    (TableName::Raw, "-A OUTPUT -p udp -m udp --dport 53 -m owner --uid-owner {} -j CT --zone 1"),
    (TableName::Raw, "-A OUTPUT -p udp -m udp --dport 53 -m owner --gid-owner {} -j CT --zone 1"),
    (TableName::Raw, "-A OUTPUT -p udp -m udp --sport 15053 -m owner --uid-owner {} -j CT --zone 2"),
    (TableName::Raw, "-A OUTPUT -p udp -m udp --sport 15053 -m owner --gid-owner {} -j CT --zone 2"),
    (TableName::Raw, "-A OUTPUT -p udp -m udp --dport 53 -j CT --zone 2"),
    (TableName::Raw, "-A OUTPUT -d {}/{} -p udp -m udp --dport 53 -j CT --zone 2"),
    (TableName::Raw, "-A PREROUTING -p udp -m udp --sport 53 -j CT --zone 1"),
    (TableName::Raw, "-A PREROUTING -s {}/{} -p udp -m udp --sport 53 -j CT --zone 1"),
    (TableName::Raw, "-A PREROUTING -d {}/{} -p udp -m udp --sport 53 -j CT --zone 1"),
];

/// What `--iptables-trace-logging` (1.5 to 1.22) wrote before other rules, by the name of what they do.
const LOGGED: &[&str] = &[
    "JumpInbound",
    "JumpOutbound",
    "KubevirtCommand",
    "ExcludeInterfaceCommand",
];

/// Whether a rule, as iptables-save or a backend prints it, is one that only logs.
pub(in crate::mesh) fn only_logs(text: &str) -> bool {
    let target =
        |name| format!("-j NFLOG --nflog-prefix {name} --nflog-group 1337 --nflog-size 20");
    LOGGED.iter().any(|name| text.contains(&target(name)))
}

/// Whether a version of istio-iptables writes such a rule into a base chain, with some options or other.
pub(in crate::mesh) fn writes(table: TableName, chain: &ChainName, rule: &Rule) -> bool {
    let printed = format!("-A {chain} {rule}");
    let mut kinds = WRITTEN.iter().filter(|(of, _)| *of == table);
    kinds.any(|(_, kind)| fits(kind, &printed))
}

/// Whether a rule is of a kind: word by word, and a prefix in both its parts.
fn fits(kind: &str, printed: &str) -> bool {
    let words = |text| str::split(text, [' ', '/']);
    let begins = |kind: &str, word: &str| {
        let fixed = kind.strip_suffix("{}");
        fixed.is_some_and(|fixed| word.starts_with(fixed))
    };
    let (mut kind, mut printed) = (words(kind), words(printed));
    loop {
        match (kind.next(), printed.next()) {
            (None, None) => return true,
            (Some(k), Some(p)) if k == p || begins(k, p) => {}
            _ => return false,
        }
    }
}

#[cfg(feature = "iptables")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::iptables::parse_save;
    use crate::netfilter::model::Family;

    /// The only rule of a table, as iptables-save prints it.
    fn read(table: &str, rule: &str) -> (TableName, ChainName, Rule) {
        let chain = rule.split(' ').nth(1).expect("-A CHAIN");
        let text = format!("*{table}\n:{chain} - [0:0]\n{rule}\nCOMMIT\n");
        let family = match text.contains("::") {
            true => Family::V6,
            false => Family::V4,
        };
        let mut tables = parse_save(family, &text).expect("a table");
        let table = tables.remove(0);
        let chain = &table.chains[0];
        let rule = chain.rules[0].rule.as_ref().expect("the model has it");
        (table.name, chain.name.clone(), rule.clone())
    }

    /// Whether the only rule of a table is known.
    fn is_known(table: &str, rule: &str) -> bool {
        let (table, chain, rule) = read(table, rule);
        writes(table, &chain, &rule)
    }

    /// A row that the model prints in another way would never be found.
    #[test]
    fn each_kind_is_what_iptables_save_prints() {
        for (table, kind) in WRITTEN {
            let numbers = kind.replace("127.{}/{}", "127.0.0.0/16");
            let numbers = numbers.replace("{}/{}", "10.0.0.10/32");
            let rule = numbers
                .replace("{}/0x", "0x7/0x")
                .replace("mark {}", "mark 0x7");
            let rule = rule.replace("owner {}", "owner 5").replace("{}", "eth1");
            assert!(is_known(table.as_str(), &rule), "{rule}");
        }
    }

    #[test]
    fn what_others_write_is_not() {
        for (table, rule) in [
            ("nat", "-A PREROUTING -i eth1 -j ACCEPT"),
            ("nat", "-A PREROUTING ! -i eth1 -j RETURN"),
            ("nat", "-A PREROUTING -i eth1 -p tcp -j RETURN"),
            ("nat", "-A DOCKER -i eth1 -j RETURN"),
            ("filter", "-A INPUT -i eth1 -j RETURN"),
            (
                "mangle",
                "-A PREROUTING -p tcp -m mark --mark 0x7/0xff -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
            ),
            (
                "mangle",
                "-A PREROUTING -m conntrack --ctstate INVALID -j DROP",
            ),
            (
                "mangle",
                "-A OUTPUT ! -d ::6/128 -o lo -p tcp -m owner --uid-owner 5 -j MARK --set-xmark 0x53a/0xffffffff",
            ),
            (
                "nat",
                "-A OUTPUT -p udp -m udp --dport 53 -j REDIRECT --to-ports 5353",
            ),
            ("nat", "-A OUTPUT -p udp -m udp --dport 53 -j RETURN"),
            (
                "nat",
                "-A OUTPUT -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.53:15053",
            ),
            (
                "nat",
                "-A POSTROUTING -p tcp -m tcp --dport 15053 -j SNAT --to-source 127.0.0.1",
            ),
            (
                "mangle",
                "-A OUTPUT -s 127.0.0.1/32 -p tcp -j MARK --set-xmark 0x539/0xffffffff",
            ),
            ("raw", "-A OUTPUT -p udp -m udp --dport 53 -j CT --zone 7"),
        ] {
            assert!(!is_known(table, rule), "{rule}");
        }
    }
}
