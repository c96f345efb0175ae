//! Parses the output of iptables-save.
//!
//! A rule that the model cannot express exactly is kept as text, by which it can be deleted.

use super::extensions;
use super::options::{hex, marked, reject_with};
use super::words::words;
use crate::netfilter::backend::BackendError;
use crate::netfilter::model::{
    ChainName, Counters, Family, Match, ObservedChain, ObservedRule, ObservedTable, Rule, RuleId,
    TableName, Target, Test,
};

/// Parses the output of `iptables-save` or `ip6tables-save`, without tables and chains that are
/// never managed (`security`, names that iptables does not accept). Fails if rules cannot be
/// distinguished from text in them, or if the tool omitted a table.
pub fn parse_save(family: Family, text: &str) -> Result<Vec<ObservedTable>, BackendError> {
    let mut tables: Vec<ObservedTable> = Vec::new();
    let mut skipping = false;
    // Where the last rule was added: those of a chain follow one another.
    let mut last = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (counters, uncounted) = counted(rest);
        let line = whole_line(uncounted).ok_or_else(|| unreadable(family, text, uncounted));
        let (line, after) = line?;
        rest = after;
        if let Some(name) = line.strip_prefix('*') {
            let name = TableName::parse(name);
            skipping = name.is_none();
            tables.extend(name.map(|name| ObservedTable {
                family,
                name,
                dormant: false,
                chains: Vec::new(),
            }));
        } else if line.contains("is incompatible, use 'nft' tool") && !is_rule(line) {
            return Err(BackendError::Refused {
                doing: format!("reading {family} rules with iptables"),
                reason: format!(
                    "{}; --backend netlink can read it",
                    line.trim_start_matches(['#', ' '])
                ),
            });
        } else if let Some(table) = tables.last_mut().filter(|_| !skipping) {
            if let Some(declaration) = line.strip_prefix(':') {
                declare(table, declaration);
            } else if let Some(rule) = line.strip_prefix("-A ") {
                append(table, rule, counters, &mut last);
            }
        }
    }
    Ok(tables)
}

/// The counters before a rule with `-c`, `[PACKETS:BYTES] `, and the rest.
fn counted(text: &str) -> (Option<Counters>, &str) {
    let counters = || {
        let (inside, rest) = text.strip_prefix('[')?.split_once("] ")?;
        let (packets, bytes) = inside.split_once(':')?;
        let counters = Counters {
            packets: packets.parse().ok()?,
            bytes: bytes.parse().ok()?,
        };
        Some((Some(counters), rest))
    };
    counters().unwrap_or((None, text))
}

/// The first line, which may have quoted newlines, and the rest. `None` if its end cannot be
/// determined.
fn whole_line(text: &str) -> Option<(&str, &str)> {
    let end = match is_rule(text) {
        true => text.len() - words(text).ok()?.1.len(),
        false => text.find('\n').unwrap_or(text.len()),
    };
    let (line, rest) = text.split_at(end);
    Some((line, rest.strip_prefix('\n').unwrap_or(rest)))
}

fn is_rule(line: &str) -> bool {
    line.starts_with("-A ")
}

/// The error for a rule, at the start of `rest`, whose end cannot be determined.
fn unreadable(family: Family, text: &str, rest: &str) -> BackendError {
    let before = &text[..text.len() - rest.len()];
    let line = rest.lines().next().unwrap_or_default();
    BackendError::Refused {
        doing: format!("reading {family} rules with iptables"),
        reason: format!(
            "line {}, {line:?}, has a quotation mark in a name, so that the end of the rule cannot be determined; \
             --backend netlink can read it",
            before.matches('\n').count() + 1
        ),
    }
}

fn declare(table: &mut ObservedTable, declaration: &str) {
    let mut words = declaration.split(' ');
    if let Ok(name) = ChainName::new(words.next().unwrap_or_default()) {
        table.chains.push(ObservedChain {
            name,
            drops: words.next() == Some("DROP"),
            rules: Vec::new(),
        });
    }
}

fn append(table: &mut ObservedTable, line: &str, counters: Option<Counters>, last: &mut usize) {
    let (chain, spec) = line.split_once(' ').unwrap_or((line, ""));
    let mut places = (*last..table.chains.len()).chain(0..*last);
    let place = places.find(|at| {
        table
            .chains
            .get(*at)
            .is_some_and(|c| c.name.as_str() == chain)
    });
    if let Some(at) = place {
        *last = at;
        table.chains[at].rules.push(ObservedRule {
            counters,
            ..parse_rule(spec, table.family)
        });
    }
}

/// Parses a rule after `-A CHAIN `.
fn parse_rule(spec: &str, family: Family) -> ObservedRule {
    let (words, _) = words(spec).unwrap_or_default();
    let words: Vec<String> = words.into_iter().map(|w| w.meant.into_owned()).collect();
    let parts = Parts::of(&words);
    let matches = parts.matches(family);
    let target = parts.target();
    let understood = matches.iter().all(Match::is_decoded);
    let rule = target
        .clone()
        .filter(|_| understood && parts.is_exact())
        .and_then(|target| {
            let rule = Rule::without_comment(matches.clone(), target);
            let id = parts.comment.and_then(RuleId::from_comment);
            let does_something = rule.target != Target::Several(Vec::new());
            (does_something && rule.has_protocol_of_ports()).then_some(Rule { id, ..rule })
        });
    let jump = match &rule {
        Some(Rule {
            target: Target::Jump(name) | Target::Goto(name),
            ..
        }) => Some(name.clone()),
        Some(_) => None,
        None => parts
            .verb
            .and_then(|(_, name, _)| ChainName::new(name).ok()),
    };
    let matches = match rule {
        Some(_) => Vec::new(),
        None => matches,
    };
    ObservedRule {
        target: target.filter(|_| rule.is_none()),
        rule,
        matches,
        comment: parts.comment.map(str::to_owned),
        jump,
        text: spec.to_owned(),
        handles: Vec::new(),
        counters: None,
    }
}

/// A rule split into words before the first module, modules with options, and target with options.
struct Parts<'w> {
    header: &'w [String],
    modules: Vec<(&'w str, &'w [String])>,
    comment: Option<&'w str>,
    /// `-j` or `-g`, the name, and its options.
    verb: Option<(&'w str, &'w str, &'w [String])>,
}

impl<'w> Parts<'w> {
    fn of(words: &'w [String]) -> Self {
        let begins = |words: &[String]| {
            let first = |w: &String| ["-m", "-j", "-g"].contains(&w.as_str());
            words.iter().position(first).unwrap_or(words.len())
        };
        let (header, mut rest) = words.split_at(begins(words));
        let mut parts = Parts {
            header,
            modules: Vec::new(),
            comment: None,
            verb: None,
        };
        while let [verb, name, behind @ ..] = rest {
            match (verb.as_str(), name.as_str(), behind) {
                ("-m", "comment", [option, comment, behind @ ..]) if option == "--comment" => {
                    parts.comment = Some(comment);
                    rest = behind;
                }
                ("-m", name, behind) => {
                    let (options, behind) = behind.split_at(begins(behind));
                    parts.modules.push((name, options));
                    rest = behind;
                }
                (verb, name, options) => {
                    parts.verb = Some((verb, name, options));
                    break;
                }
            }
        }
        parts
    }

    /// The matches; an unknown module is one undecoded match.
    fn matches(&self, family: Family) -> Vec<Match> {
        let modules = [("", self.header)]
            .into_iter()
            .chain(self.modules.iter().copied());
        let module = |(name, options): (&str, &[String])| {
            extensions::module(name, options, family).unwrap_or_else(|| {
                let text = format!("-m {name} {}", options.join(" "));
                vec![Match::new(Test::Undecoded(text))]
            })
        };
        modules.flat_map(module).collect()
    }

    fn target(&self) -> Option<Target> {
        let Some((verb, name, options)) = self.verb else {
            return Some(Target::Several(Vec::new()));
        };
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        if verb == "-g" {
            return ChainName::new(name).ok().map(Target::Goto);
        }
        target(name, &options).or_else(|| extensions::target(name, &options))
    }

    /// Whether nothing relevant was omitted.
    fn is_exact(&self) -> bool {
        let chooses = |o: &String| extensions::OF_CHOICE.contains(&o.as_str());
        self.verb
            .is_some_and(|(_, _, options)| !options.iter().any(chooses))
    }
}

/// Parses a target that managed rules may have.
fn target(name: &str, options: &[&str]) -> Option<Target> {
    Some(match (name, options) {
        ("ACCEPT", []) => Target::Accept,
        ("DROP", []) => Target::Drop,
        ("RETURN", []) => Target::Return,
        ("REJECT", ["--reject-with", with]) => Target::Reject(reject_with(with)?),
        ("MARK", ["--set-xmark", mark]) => {
            let (value, mask) = marked(mark)?;
            Target::Mark { value, mask }
        }
        ("CONNMARK", ["--save-mark", "--nfmask", nfmask, "--ctmask", ctmask]) => Target::SaveMark {
            nfmask: hex(nfmask)?,
            ctmask: hex(ctmask)?,
        },
        ("CONNMARK", ["--restore-mark", "--nfmask", nfmask, "--ctmask", ctmask]) => {
            Target::RestoreMark {
                nfmask: hex(nfmask)?,
                ctmask: hex(ctmask)?,
            }
        }
        ("TPROXY", ["--on-port", port, "--on-ip", address, "--tproxy-mark", mark]) => {
            let (value, mask) = marked(mark)?;
            Target::Tproxy {
                on_port: port.parse().ok()?,
                on_ip: address.parse().ok()?,
                value,
                mask,
            }
        }
        ("CT", ["--zone", zone]) => Target::CtZone(zone.parse().ok()?),
        // Target names are upper case, as are some chains.
        (chain, []) if !extensions::is_target(chain) => Target::Jump(ChainName::new(chain).ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::model::strategy;

    fn rule(spec: &str) -> ObservedRule {
        parse_rule(spec, Family::V4)
    }

    #[test]
    fn a_decoded_rule_prints_as_it_was_read() {
        for spec in [
            "! -d 127.0.0.1/32 -o lo -m comment --comment \"istio/redirect-implicit-loopback\" -j ISTIO_REDIRECT",
            "! -d ::1/128 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT",
            "-p tcp -m multiport ! --dports 53,15008:15010 -m owner ! --gid-owner 0 -j RETURN",
            "-p tcp -m tcp --dport 80 -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT",
            "-i lo -p tcp -m mark ! --mark 0x53a/0xff -j RETURN",
            "-p tcp -m connmark --mark 0x539 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
            "-p tcp -m tcp --dport 80 -m socket --transparent -j ISTIO_DIVERT",
            "-p tcp -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff",
            "-p udp -m udp --sport 53 -j CT --zone 1",
            "-p ipv6-icmp -j ACCEPT",
            "-m addrtype --dst-type LOCAL -j DOCKER",
            "-m addrtype ! --src-type LOCAL,BROADCAST -g DOCKER",
            "-m owner ! --uid-owner 1000-2000 -j RETURN",
            "-m owner --socket-exists -j RETURN",
            "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP",
            "-m conntrack --ctstatus DNAT -m conntrack --ctdir ORIGINAL -j ACCEPT",
            "-m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
            "-m conntrack --ctorigdst 10.0.0.0/24 -m conntrack --ctorigdstport 80 -j ACCEPT",
            "-m iprange --src-range 10.0.0.5-10.0.0.9 -j DROP",
            "-m pkttype --pkt-type broadcast -j DROP",
            "-m mac --mac-source 52:54:00:12:34:56 -j ACCEPT",
            "-p esp ! -f -j ACCEPT",
            "-p tcp -j DNAT --to-destination 10.0.0.5-10.0.0.9:80-90",
            "-o eth0 -j SNAT --to-source 10.0.0.1",
            "-o eth0 -j MASQUERADE",
            "-p tcp -j REDIRECT",
            "-j CT --notrack",
            "-j CONNMARK --set-xmark 0x1/0xff",
            "-d 10.9.0.0/24 -j NETMAP --to 10.8.0.0/24",
            "-j REJECT --reject-with icmp-admin-prohibited",
            "-j REJECT --reject-with icmp6-port-unreachable",
        ] {
            let read = rule(spec)
                .rule
                .unwrap_or_else(|| panic!("undecoded: {spec}"));
            assert_eq!(read.to_string(), spec);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_rule_comes_back_from_its_text(
            v4 in strategy::rule(Family::V4),
            v6 in strategy::rule(Family::V6),
        ) {
            for wanted in [v4, v6] {
                proptest::prop_assert_eq!(rule(&wanted.to_string()).rule, Some(wanted));
            }
        }

        #[test]
        fn parsing_any_text_does_not_panic(text in "(-A [A-Z]+|[*:!\"\\\\a-z0-9 /-]|\n)*") {
            let _ = parse_save(Family::V4, &text);
        }
    }

    #[test]
    fn an_unknown_rule_is_not_decoded() {
        for spec in [
            "-m recent --name ssh --rcheck -j DROP",
            "-p tcp -j REDIRECT --to-ports 15001 --random",
            "-j NFQUEUE --queue-num 1",
            "-j LOG",
            "-s 10.0.0.0/255.0.255.0 -j ACCEPT",
            "-m socket --nowildcard -j ACCEPT",
            "-p tcp",
            "",
        ] {
            let read = rule(spec);
            assert_eq!(read.rule, None, "{spec}");
            assert_eq!(read.text, spec);
        }
        assert_eq!(rule("-p tcp -g ISTIO_X").jump.unwrap().as_str(), "ISTIO_X");
    }

    #[test]
    fn comments_of_any_origin_are_kept() {
        let odd = rule(r#"-m comment --comment "say \"hi\" \\ -j ISTIO_X" -j ACCEPT"#);
        assert_eq!(odd.comment.as_deref(), Some(r#"say "hi" \ -j ISTIO_X"#));
        assert_eq!(odd.jump, None);
        assert_eq!(odd.rule.unwrap().id, None);
    }

    /// A rule comment must not be able to inject lines.
    #[test]
    fn newlines_in_comments_make_no_rules() {
        let comment = "x\n-A ISTIO_OUTPUT -j DROP\nCOMMIT\n*nat\n:ISTIO_X - [0:0]\n# is incompatible, use 'nft' tool";
        let text = format!(
            "*nat\n:OUTPUT ACCEPT [0:0]\n:ISTIO_OUTPUT - [0:0]\n\
             -A OUTPUT -m comment --comment \"{comment}\" -j ACCEPT\n-A OUTPUT -j ISTIO_OUTPUT\nCOMMIT\n"
        );
        let tables = parse_save(Family::V4, &text).unwrap();
        assert_eq!(tables.len(), 1);
        let [output, managed] = &tables[0].chains[..] else {
            panic!("{tables:?}")
        };
        assert_eq!((output.rules.len(), managed.rules.len()), (2, 0));
        assert_eq!(output.rules[0].comment.as_deref(), Some(comment));
    }

    #[test]
    fn a_quotation_mark_in_a_name_is_refused() {
        let text = "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -o \"x -j ACCEPT\n-A OUTPUT -m comment --comment \" \n*nat\" -j ACCEPT\nCOMMIT\n";
        let error = parse_save(Family::V4, text).unwrap_err().to_string();
        assert!(
            error.contains("line 3") && error.contains("--backend netlink"),
            "{error}"
        );
    }

    #[test]
    fn state_is_conntrack() {
        let old = rule("-m state --state ESTABLISHED -j ACCEPT").rule.unwrap();
        assert_eq!(
            old.to_string(),
            "-m conntrack --ctstate ESTABLISHED -j ACCEPT"
        );
    }

    #[test]
    fn only_tables_and_chains_that_may_be_managed_are_read() {
        let text = "*security\n:ISTIO_X - [0:0]\n-A ISTIO_X -j DROP\nCOMMIT\n*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j ACCEPT\nCOMMIT\n";
        let tables = parse_save(Family::V4, text).unwrap();
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].name, TableName::Nat);
        assert_eq!(tables[0].chains[0].rules.len(), 1);
    }
}
