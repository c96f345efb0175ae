//! iptables-save's text back into the model.
//!
//! A rule that the model cannot say exactly is kept as opaque text: it may be replayed or deleted
//! by that text, but nothing is guessed about it.

use super::words::words;
use crate::netfilter::backend::BackendError;
use crate::netfilter::model::{
    ChainName, ConnState, Counters, Family, LiveChain, LiveRule, LiveTable, Match, Owner,
    PortRange, PortSet, Protocol, RejectWith, Rule, Side, TableName, Target, Test, Why,
};
use ipnet::IpNet;
use std::iter::Peekable;
use std::vec::IntoIter;

/// The tables in the output of `iptables-save` or `ip6tables-save`. Tables and chains that are
/// never ours (`security`, names that iptables does not take) are left out. Refused where it cannot
/// be told what is a rule and what is text in one, or where the tool left a table out.
pub fn parse_save(family: Family, text: &str) -> Result<Vec<LiveTable>, BackendError> {
    let mut tables: Vec<LiveTable> = Vec::new();
    let mut skipping = false;
    let mut rest = text;
    while !rest.is_empty() {
        let (counters, uncounted) = counted(rest);
        let line = whole_line(uncounted).ok_or_else(|| unreadable(family, text, uncounted));
        let (line, after) = line?;
        rest = after;
        if let Some(name) = line.strip_prefix('*') {
            let name = TableName::parse(name);
            skipping = name.is_none();
            tables.extend(name.map(|name| LiveTable {
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
                append(table, rule, counters);
            }
        }
    }
    Ok(tables)
}

/// What stands before a rule with `-c`, `[PACKETS:BYTES] `, and what is behind it.
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

/// The first line of `text`, and what is behind it; a rule may have newlines in its quotes. `None`
/// where that cannot be told.
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

/// The error for a rule, at the start of `rest`, that cannot be told from what follows it.
fn unreadable(family: Family, text: &str, rest: &str) -> BackendError {
    let before = &text[..text.len() - rest.len()];
    let line = rest.lines().next().unwrap_or_default();
    BackendError::Refused {
        doing: format!("reading {family} rules with iptables"),
        reason: format!(
            "line {}, {line:?}, has a quotation mark in a name, so that it cannot be told where the rule ends; \
             --backend netlink can read it",
            before.matches('\n').count() + 1
        ),
    }
}

fn declare(table: &mut LiveTable, declaration: &str) {
    let mut words = declaration.split(' ');
    if let Ok(name) = ChainName::new(words.next().unwrap_or_default()) {
        table.chains.push(LiveChain {
            name,
            drops: words.next() == Some("DROP"),
            rules: Vec::new(),
        });
    }
}

fn append(table: &mut LiveTable, line: &str, counters: Option<Counters>) {
    let (chain, spec) = line.split_once(' ').unwrap_or((line, ""));
    if let Some(chain) = table.chains.iter_mut().find(|c| c.name.as_str() == chain) {
        chain.rules.push(LiveRule {
            counters,
            ..parse_rule(spec)
        });
    }
}

/// One rule as it stands behind `-A CHAIN `.
fn parse_rule(spec: &str) -> LiveRule {
    let (words, _) = words(spec).unwrap_or_default();
    let words: Vec<String> = words.into_iter().map(|w| w.meant.into_owned()).collect();
    let after = |options: &[&str]| {
        let at = words.iter().position(|w| options.contains(&w.as_str()))?;
        words.get(at + 1).cloned()
    };
    let comment = after(&["--comment"]);
    let jump = after(&["-j", "-g"]).and_then(|name| ChainName::new(&name).ok());
    let mut words = Words::new(words);
    let rule = words.rule();
    let jump = match &rule {
        Some(rule) if !matches!(rule.target, Target::Jump(_)) => None,
        _ => jump,
    };
    LiveRule {
        matches: match rule {
            Some(_) => Vec::new(),
            // A socket match has more to say that is not understood.
            None => {
                let plain = |m: &Match| !matches!(m.test, Test::Socket { .. });
                words.matches.into_iter().filter(plain).collect()
            }
        },
        rule,
        comment,
        jump,
        text: spec.to_owned(),
        handles: Vec::new(),
        counters: None,
    }
}

/// The words of a rule, read from the left.
struct Words {
    rest: Peekable<IntoIter<String>>,
    /// The match module that was loaded last, for options such as `--mark` that several have.
    module: String,
    matches: Vec<Match>,
    why: Option<Why>,
}

impl Words {
    fn new(words: Vec<String>) -> Self {
        Words {
            rest: words.into_iter().peekable(),
            module: String::new(),
            matches: Vec::new(),
            why: None,
        }
    }

    /// The rule, or `None` at the first word that the model has no place for.
    fn rule(&mut self) -> Option<Rule> {
        while self.rest.peek()? != "-j" {
            self.one_match()?;
        }
        self.rest.next();
        let target = self.target()?;
        if self.rest.next().is_some() {
            return None;
        }
        let rule = Rule::without_comment(self.matches.clone(), target);
        if !rule.has_protocol_of_ports() {
            return None;
        }
        Some(match self.why.take() {
            Some(why) => rule.commented(why),
            None => rule,
        })
    }

    fn one_match(&mut self) -> Option<()> {
        let mut option = self.rest.next()?;
        let not = option == "!";
        if not {
            option = self.rest.next()?;
        }
        match option.as_str() {
            "-m" => self.module = self.rest.next()?,
            "--comment" => {
                let comment = self.rest.next()?;
                self.why = Why::from_comment(&comment);
                return Some(());
            }
            "--transparent" => return self.socket_is_transparent(),
            option => {
                let value = self.rest.next()?;
                let test = test(&self.module, option, &value)?;
                self.matches.push(Match { not, test });
                return Some(());
            }
        }
        // The one module that matches without an option.
        if self.module == "socket" {
            self.matches.push(Match::socket());
        }
        (!not).then_some(())
    }

    fn socket_is_transparent(&mut self) -> Option<()> {
        match &mut self.matches.last_mut()?.test {
            Test::Socket { transparent } => {
                *transparent = true;
                Some(())
            }
            _ => None,
        }
    }

    fn target(&mut self) -> Option<Target> {
        let name = self.rest.next()?;
        Some(match name.as_str() {
            "ACCEPT" => Target::Accept,
            "DROP" => Target::Drop,
            "RETURN" => Target::Return,
            "REDIRECT" => Target::Redirect {
                to_port: self.value("--to-ports")?.parse().ok()?,
            },
            "REJECT" => Target::Reject(reject_with(&self.value("--reject-with")?)?),
            "MARK" => {
                let (value, mask) = marked(&self.value("--set-xmark")?)?;
                Target::Mark { value, mask }
            }
            "CONNMARK" => self.connmark()?,
            "TPROXY" => self.tproxy()?,
            "CT" => Target::CtZone(self.value("--zone")?.parse().ok()?),
            _ if self.rest.peek().is_some() => return None,
            chain => Target::Jump(ChainName::new(chain).ok()?),
        })
    }

    /// The value of `option`, if that is what comes next.
    fn value(&mut self, option: &str) -> Option<String> {
        self.rest.next_if(|word| word == option)?;
        self.rest.next()
    }

    fn connmark(&mut self) -> Option<Target> {
        let verb = self.rest.next()?;
        let nfmask = hex(&self.value("--nfmask")?)?;
        let ctmask = hex(&self.value("--ctmask")?)?;
        match verb.as_str() {
            "--save-mark" => Some(Target::SaveMark { nfmask, ctmask }),
            "--restore-mark" => Some(Target::RestoreMark { nfmask, ctmask }),
            _ => None,
        }
    }

    fn tproxy(&mut self) -> Option<Target> {
        let on_port = self.value("--on-port")?.parse().ok()?;
        let on_ip = self.value("--on-ip")?.parse().ok()?;
        let (value, mask) = marked(&self.value("--tproxy-mark")?)?;
        Some(Target::Tproxy {
            on_port,
            on_ip,
            value,
            mask,
        })
    }
}

/// One option of a match with its value.
fn test(module: &str, option: &str, value: &str) -> Option<Test> {
    Some(match (module, option) {
        (_, "-s") => Match::source(value.parse::<IpNet>().ok()?).test,
        (_, "-d") => Match::destination(value.parse::<IpNet>().ok()?).test,
        (_, "-i") => Test::InInterface(value.parse().ok()?),
        (_, "-o") => Test::OutInterface(value.parse().ok()?),
        (_, "-p") => Test::Protocol(protocol(value)?),
        ("tcp" | "udp", "--sport") => port(Side::Source, value)?,
        ("tcp" | "udp", "--dport") => port(Side::Destination, value)?,
        ("multiport", "--sports") => multiport(Side::Source, value)?,
        ("multiport", "--dports") => multiport(Side::Destination, value)?,
        ("owner", "--uid-owner") => Test::Owner(Owner::Uid(value.parse().ok()?)),
        ("owner", "--gid-owner") => Test::Owner(Owner::Gid(value.parse().ok()?)),
        ("conntrack", "--ctstate") | ("state", "--state") => states(value)?,
        ("mark", "--mark") => {
            let (value, mask) = marked(value)?;
            Test::Mark { value, mask }
        }
        ("connmark", "--mark") => {
            let (value, mask) = marked(value)?;
            Test::Connmark { value, mask }
        }
        _ => return None,
    })
}

fn protocol(name: &str) -> Option<Protocol> {
    Protocol::ALL
        .into_iter()
        .find(|p| p.as_str() == name || p.number().to_string() == name)
}

fn port(side: Side, text: &str) -> Option<Test> {
    let ports = port_range(text)?;
    Some(Test::Port { side, ports })
}

fn multiport(side: Side, text: &str) -> Option<Test> {
    let ports: Option<Vec<PortRange>> = text.split(',').map(port_range).collect();
    let ports = PortSet::new(ports?)?;
    Some(Test::Multiport { side, ports })
}

fn port_range(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    PortRange::new(first.parse().ok()?, last.parse().ok()?)
}

fn states(text: &str) -> Option<Test> {
    let state = |name| ConnState::ALL.into_iter().find(|s| s.as_str() == name);
    let states: Option<Vec<ConnState>> = text.split(',').map(state).collect();
    Some(Match::state(states?).test)
}

fn reject_with(name: &str) -> Option<RejectWith> {
    RejectWith::ALL.into_iter().find(|w| w.as_str() == name)
}

/// `0x539` or `0x539/0xff`.
fn marked(text: &str) -> Option<(u32, u32)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((hex(value)?, hex(mask)?)),
        None => Some((hex(text)?, u32::MAX)),
    }
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::model::strategy;

    fn rule(spec: &str) -> LiveRule {
        parse_rule(spec)
    }

    #[test]
    fn what_is_understood_prints_itself_again() {
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
            "-j REJECT --reject-with icmp6-port-unreachable",
        ] {
            let read = rule(spec).rule.unwrap_or_else(|| panic!("opaque: {spec}"));
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
        fn any_text_is_read_or_left_alone(text in "(-A [A-Z]+|[*:!\"\\\\a-z0-9 /-]|\n)*") {
            let _ = parse_save(Family::V4, &text);
        }
    }

    #[test]
    fn what_is_not_understood_stays_opaque() {
        for spec in [
            "-m addrtype --dst-type LOCAL -j DOCKER",
            "-m owner --uid-owner 1000-2000 -j RETURN",
            "-p tcp -j REDIRECT --to-ports 15001 --random",
            "-p tcp -g ISTIO_OUTPUT",
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
    fn comments_are_kept_whoever_wrote_them() {
        let odd = rule(r#"-m comment --comment "say \"hi\" \\ -j ISTIO_X" -j ACCEPT"#);
        assert_eq!(odd.comment.as_deref(), Some(r#"say "hi" \ -j ISTIO_X"#));
        assert_eq!(odd.jump, None);
        assert_eq!(odd.rule.unwrap().why, None);
    }

    /// Whoever can give a rule a comment must not be able to write lines of his own.
    #[test]
    fn newlines_in_comments_make_no_rules() {
        let comment = "x\n-A ISTIO_OUTPUT -j DROP\nCOMMIT\n*nat\n:ISTIO_X - [0:0]\n# is incompatible, use 'nft' tool";
        let text = format!(
            "*nat\n:OUTPUT ACCEPT [0:0]\n:ISTIO_OUTPUT - [0:0]\n\
             -A OUTPUT -m comment --comment \"{comment}\" -j ACCEPT\n-A OUTPUT -j ISTIO_OUTPUT\nCOMMIT\n"
        );
        let tables = parse_save(Family::V4, &text).unwrap();
        assert_eq!(tables.len(), 1);
        let [output, ours] = &tables[0].chains[..] else {
            panic!("{tables:?}")
        };
        assert_eq!((output.rules.len(), ours.rules.len()), (2, 0));
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
    fn only_tables_and_chains_that_can_be_ours_are_read() {
        let text = "*security\n:ISTIO_X - [0:0]\n-A ISTIO_X -j DROP\nCOMMIT\n*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j ACCEPT\nCOMMIT\n";
        let tables = parse_save(Family::V4, text).unwrap();
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].name, TableName::Nat);
        assert_eq!(tables[0].chains[0].rules.len(), 1);
    }
}
