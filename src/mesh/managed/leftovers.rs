//! What istio-iptables writes into base chains besides jumps to its own chains: in TPROXY mode and
//! for interfaces today, and for DNS in Istio 1.8–1.17.

use crate::netfilter::model::{
    ChainName, Hook, Match, Protocol, Rule, Side, TableName, Target, Test,
};

const ALL_BITS: u32 = u32::MAX;

/// On what the proxy sends to the pod's own address.
const OUTBOUND_MARK: u32 = 1338;

const DNS: u16 = 53;
/// Where the proxy's agent answers DNS.
const DNS_AGENT: u16 = 15053;

/// Whether istio-iptables writes such a rule into a base chain, with some options or other.
pub(super) fn writes(table: TableName, chain: &ChainName, rule: &Rule) -> bool {
    let Some(hook) = chain.hook() else {
        return false;
    };
    match table {
        TableName::Nat => interface(hook, rule) || old_dns_redirect(hook, rule),
        TableName::Mangle => interface(hook, rule) || tproxy(hook, rule),
        TableName::Raw => old_dns_zone(hook, rule),
        TableName::Filter => false,
    }
}

/// An excluded interface, or one of a virtual machine.
fn interface(hook: Hook, rule: &Rule) -> bool {
    let [Match { not: false, test }] = rule.matches.as_slice() else {
        return false;
    };
    let interface = matches!(
        (hook, test),
        (Hook::Prerouting, Test::InInterface(_)) | (Hook::Output, Test::OutInterface(_))
    );
    interface && rule.target == Target::Return
}

/// The rules about marks, whatever mark was chosen.
fn tproxy(hook: Hook, rule: &Rule) -> bool {
    let all_bits = |test: &Test| match test {
        Test::Mark { mask, .. } | Test::Connmark { mask, .. } => *mask == ALL_BITS,
        _ => true,
    };
    let tests: Vec<(bool, &Test)> = rule.matches.iter().map(|m| (m.not, &m.test)).collect();
    let shape = match (hook, tests.as_slice()) {
        (Hook::Prerouting, [TCP, (false, Test::Mark { .. })]) => rule.target == Target::save_mark(),
        (
            Hook::Output,
            [
                (false, Test::OutInterface(lo)),
                TCP,
                (false, Test::Mark { .. }),
            ],
        ) => lo.as_str() == "lo" && rule.target == Target::Return,
        (
            Hook::Output,
            [
                (true, Test::Destination(net)),
                (false, Test::OutInterface(lo)),
                TCP,
                (false, Test::Owner(_)),
            ],
        ) => {
            let to_itself = net.addr().is_loopback() && lo.as_str() == "lo";
            to_itself && rule.target == Target::mark(OUTBOUND_MARK)
        }
        (Hook::Output, [TCP, (false, Test::Connmark { .. })]) => {
            rule.target == Target::restore_mark()
        }
        _ => false,
    };
    shape && rule.matches.iter().all(|m| all_bits(&m.test))
}

const TCP: (bool, &Test) = (false, &Test::Protocol(Protocol::Tcp));

/// UDP from or to this port.
fn udp(rule: &Rule, side: Side, port: u16) -> bool {
    let test = Test::Port {
        side,
        ports: port.into(),
    };
    rule.protocol() == Some(Protocol::Udp) && rule.matches.contains(&Match::new(test))
}

fn old_dns_redirect(hook: Hook, rule: &Rule) -> bool {
    let by_owner = rule
        .matches
        .iter()
        .any(|m| matches!(m.test, Test::Owner(_)));
    let target = match rule.target {
        Target::Redirect { to_port } => to_port == DNS_AGENT,
        Target::Return => by_owner,
        _ => false,
    };
    hook == Hook::Output && target && udp(rule, Side::Destination, DNS)
}

fn old_dns_zone(hook: Hook, rule: &Rule) -> bool {
    let ports = match hook {
        Hook::Prerouting => udp(rule, Side::Source, DNS),
        Hook::Output => udp(rule, Side::Destination, DNS) || udp(rule, Side::Source, DNS_AGENT),
        _ => false,
    };
    ports && matches!(rule.target, Target::CtZone(1 | 2))
}

#[cfg(feature = "iptables")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::iptables::parse_save;
    use crate::netfilter::model::Family;

    /// Whether the only rule of a table, as iptables-save prints it, is known.
    fn is_known(table: &str, rule: &str) -> bool {
        let text = format!("*{table}\n{rule}\nCOMMIT\n");
        let chain = rule.split(' ').nth(1).expect("-A CHAIN");
        let text = text.replacen('\n', &format!("\n:{chain} - [0:0]\n"), 1);
        let family = match text.contains("::") {
            true => Family::V6,
            false => Family::V4,
        };
        let tables = parse_save(family, &text).expect("a table");
        let chain = &tables[0].chains[0];
        let rule = chain.rules[0].rule.as_ref().expect("the model has it");
        writes(tables[0].name, &chain.name, rule)
    }

    #[test]
    fn what_istio_iptables_writes_is_known() {
        for (table, rule) in [
            ("nat", "-A PREROUTING -i eth1 -j RETURN"),
            ("mangle", "-A OUTPUT -o eth1 -j RETURN"),
            (
                "mangle",
                "-A PREROUTING -p tcp -m mark --mark 0x7 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
            ),
            (
                "mangle",
                "-A OUTPUT -o lo -p tcp -m mark --mark 0x7 -j RETURN",
            ),
            (
                "mangle",
                "-A OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m owner --gid-owner 5 -j MARK --set-xmark 0x53a/0xffffffff",
            ),
            (
                "mangle",
                "-A OUTPUT -p tcp -m connmark --mark 0x7 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
            ),
            (
                "nat",
                "-A OUTPUT -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053",
            ),
            (
                "nat",
                "-A OUTPUT -p udp -m udp --dport 53 -m owner --gid-owner 5 -j RETURN",
            ),
            ("raw", "-A OUTPUT -p udp -m udp --dport 53 -j CT --zone 2"),
        ] {
            assert!(is_known(table, rule), "{rule}");
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
            ("raw", "-A OUTPUT -p udp -m udp --dport 53 -j CT --zone 7"),
        ] {
            assert!(!is_known(table, rule), "{rule}");
        }
    }
}
