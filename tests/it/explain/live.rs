//! `explain --live` among the rules of others: what can be decoded counts, what cannot be leaves
//! both cases open, and never is anything guessed.

use super::table::list;
use crate::lab::{APP, Done, Lab, Namespace, PROXY, ROOT, Server, lab, product};
use serde_json::{Value, json};

/// A pod whose TCP goes to the proxy, and somebody else's rules.
struct Pod {
    lab: Lab,
    _servers: [Server; 2],
}

impl Pod {
    fn with(others: &str) -> Self {
        let lab = Lab::new();
        lab.pod
            .output(product().args(["-p", "15001", "-u", "1337"]));
        lab.pod.sh(others);
        let _servers = [
            Server::start(
                &lab.pod,
                PROXY,
                &["proxy", "--announce", "15001,to=nowhere"],
            ),
            Server::start(&lab.peer, ROOT, &["serve", "80", "443", "8080"]),
        ];
        Pod { lab, _servers }
    }

    fn explain(&self, question: &str) -> Done {
        let mut explain = product();
        explain
            .args(["explain", "--live"])
            .args(question.split(' '));
        self.lab.pod.run(&mut explain)
    }

    /// The answer, which must be one.
    fn explanation(&self, question: &str) -> Value {
        self.asked(question, 0)
    }

    /// What is answered, with this exit status.
    fn asked(&self, question: &str, status: i32) -> Value {
        let done = self.explain(&format!("{question} --format json"));
        let text = done
            .expect(status, question)
            .unwrap_or_else(|e| panic!("{e}"))
            .out;
        serde_json::from_str(&text).expect("an explanation is JSON")
    }

    /// Whether the app's connection ends in this way, by `explain` and really.
    fn agrees(&self, to: &str, kind: &str, seen: &str) {
        let explanation = self.explanation(&format!("--user 1000:1000 --to {to}"));
        assert_eq!(
            explanation["cases"][0]["end"]["kind"], kind,
            "{explanation:#}"
        );
        let answer = self
            .lab
            .pod
            .run(lab(APP).args(["connect", "--timeout=1", to]))
            .out;
        assert!(answer.contains(seen), "{to}: {answer}");
    }
}

/// Firewalls as people write them for nft: another family, sets, policies, names of their own.
const FIREWALL: &str = "nft 'table inet firewall {
    chain incoming {
        type filter hook input priority 0; policy drop;
        ct state established,related accept;
        iifname lo accept;
        tcp dport { 22, 15001 } accept;
    };
    chain outgoing {
        type filter hook output priority filter; policy accept;
        limit rate 5/second log;
        meta nfproto ipv6 drop;
        ip daddr 203.0.113.10 goto past;
        ip daddr { 203.0.113.64/26, 198.51.100.9, 203.0.113.10 } jump far;
    };
    chain past {
        tcp dport 22 drop;
    };
    chain far {
        tcp dport 443 reject with tcp reset;
        counter drop;
    };
    chain first {
        type nat hook output priority -110;
        ip daddr 203.0.113.5 tcp dport 80 accept;
        ip daddr 203.0.113.6 tcp dport 80 redirect to :80;
    };
}'";

#[test]
fn a_firewall_is_understood() {
    let pod = Pod::with(FIREWALL);
    pod.agrees("203.0.113.9:443", "delivered", "by=proxy:15001");
    // What is redirected goes to an address that the firewall lets by.
    pod.agrees("203.0.113.65:443", "delivered", "by=proxy:15001");
    pod.agrees("203.0.113.6:80", "delivered", "error=refused");
    pod.agrees("203.0.113.5:80", "delivered", "by=proxy:15001");
    let end = |question: &str| pod.explanation(question)["cases"][0]["end"]["kind"].clone();
    assert_eq!(end("--user 1337:1337 --to 203.0.113.65:443"), "rejected");
    assert_eq!(end("--user 1337:1337 --to 203.0.113.65:80"), "dropped");
    assert_eq!(end("--user 1337:1337 --to 203.0.113.9:80"), "sent");
    assert_eq!(end("--user 1337:1337 --to 203.0.113.10:80"), "sent");
    assert_eq!(end("--user 1337:1337 --to 203.0.113.10:22"), "dropped");
    assert_eq!(end("--user 1337:1337 --to [2001:db8:113::9]:80"), "dropped");
    assert_eq!(end("--from 10.66.0.1 --to 10.66.0.2:8080"), "delivered");
    assert_eq!(end("--from 10.66.0.1 --to 10.66.0.2:8080 --udp"), "dropped");
}

#[test]
fn what_cannot_be_decoded_leaves_both_cases_open() {
    let pod = Pod::with(
        "iptables -t nat -I OUTPUT -m recent --name seen --rcheck -j ACCEPT
         iptables -t nat -I OUTPUT -p udp -m recent --name seen --rcheck -j RETURN",
    );
    let explanation = pod.asked("--user 1000:1000 --to 203.0.113.9:443", 2);
    assert_eq!(explanation["determined"], false);
    let undecoded = explanation["undecoded"].as_array().expect("a list");
    let [rule] = undecoded.as_slice() else {
        panic!("the rule about UDP is not about TCP: {undecoded:?}");
    };
    assert_eq!(
        (&rule["table"], &rule["chain"]),
        (&"nat".into(), &"OUTPUT".into())
    );
    assert!(rule["handle"].is_u64(), "{rule}");
    let ends: Vec<&Value> = explanation["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .map(|c| &c["end"]["kind"])
        .collect();
    assert_eq!(ends, ["delivered", "sent"]);
    // Nothing that this rule might do matters to who is exempt.
    let explanation = pod.explanation("--user 1337:1337 --to 203.0.113.9:443");
    assert_eq!(explanation["cases"][0]["end"]["kind"], "sent");
}

/// Nothing shows which of two chains of nat with one priority comes first: if they differ, it cannot be
/// determined; one at another priority is followed in its order, whatever nat's is.
#[test]
fn the_order_of_chains_of_one_priority_is_not_guessed() {
    let redirect = "iptables-legacy -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 8080";
    let pod = Pod::with(redirect);
    let explanation = pod.asked("--user 1000:1000 --to 203.0.113.9:443", 2);
    let order = |case: usize| {
        explanation["cases"][case]["order"][0]["chains"]
            .as_array()
            .expect("chains")
            .clone()
    };
    assert!(order(0).iter().rev().eq(order(1).iter()), "{explanation:#}");
    let pod = Pod::with(
        "nft 'table ip late { chain out { type nat hook output priority -50; tcp dport 443 redirect to :8080; }; };
         table ip mangled { chain out { type route hook output priority -90; tcp dport 15001 drop; }; }'",
    );
    pod.agrees("203.0.113.9:443", "dropped", "error=");
}

#[test]
fn an_interface_that_is_not_there_is_bad_input() {
    let pod = Pod::with(":");
    let done = pod.explain("--from 10.66.0.1 --to 10.66.0.2:80 --interface eth7");
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(done.out.is_empty(), "{}", done.out);
}

/// Where no option of a mesh is given, the rules in the kernel are followed; one sentence is printed, if
/// that is asked for.
#[test]
fn the_rules_in_the_kernel_are_followed_unless_options_ask_for_others() {
    let pod = Pod::with("iptables -t nat -I OUTPUT -d 203.0.113.9 -p tcp --dport 3306 -j ACCEPT");
    let answer = |line: &str| pod.lab.pod.run(product().args(line.split(' '))).must(line);
    let live = answer("explain --live --short --user 1000:1000 203.0.113.9:3306");
    assert_eq!(live.lines().count(), 1, "{live}");
    assert_eq!(
        answer("explain --short --user 1000:1000 203.0.113.9:3306"),
        live
    );
    let options = "explain --short --user 1000:1000 203.0.113.9:3306 -p 15001 -u 1337";
    assert_ne!(answer(options), live);
    let all = |line: &str| answer(&format!("{line} --format json"));
    let sections = |line: &str| {
        all(line)
            .split_once("\"sections\"")
            .map(|(_, s)| s.to_owned())
    };
    assert_eq!(sections("explain"), sections("explain --live"));
}

/// iptables takes no such name, so that no rule is about it.
#[test]
fn an_interface_whose_name_is_not_text_is_in_nobodys_way() {
    let pod = Pod::with(r"ip link add $(printf 'e\377') type bridge");
    pod.explanation("--user 1000:1000 --to 203.0.113.9:443");
    let line = "--mesh istio -i * --redirect-dns --capture-all-dns";
    pod.lab.pod.run(product().args(line.split(' '))).must(line);
}

#[test]
fn addresses_of_an_interface_with_any_name_are_its_own() {
    let pod = Namespace::new();
    for (nr, name) in ["e\\377\\376", "e\\033[31m", "\\342\\200\\256e"]
        .iter()
        .enumerate()
    {
        pod.sh(&format!(
            "n=$(printf '{name}'); ip link add \"$n\" type veth peer name p{nr}
             ip link set \"$n\" up; ip link set p{nr} up; ip addr add 10.9.{nr}.1/24 dev \"$n\""
        ));
        let question = format!("explain --live --from 192.0.2.9 --to 10.9.{nr}.1:80 --format json");
        let done = pod.run(product().args(question.split(' ')));
        let answer: Value = serde_json::from_str(&done.must(name)).expect("JSON");
        assert_eq!(answer["cases"][0]["end"]["kind"], "delivered", "{answer:#}");
    }
}

#[test]
fn policy_rules_of_others_are_named() {
    let pod = Pod::with("ip rule add from 10.9.0.0/16 lookup 700 priority 4711");
    let explanation = pod.explanation("--user 1000:1000 --to 203.0.113.9:443");
    let assumptions = explanation["assumptions"].as_array().expect("assumptions");
    let named = |a: &Value| a.as_str().is_some_and(|a| a.contains("4711"));
    assert!(assumptions.iter().any(named), "{assumptions:?}");
}

#[test]
fn a_secondary_address_is_connected_to_from_the_primary_one() {
    let pod = Pod::with("ip addr add 10.66.0.3/24 dev eth0");
    let explanation = pod.explanation("--user 1000:1000 --to 10.66.0.3:80");
    assert_eq!(explanation["cases"][0]["end"]["from"], "10.66.0.2");
}

/// The kernel ends what it shows of a chain before a rule of more than 32 KiB.
#[test]
fn what_the_kernel_does_not_show_leaves_both_cases_open() {
    let huge = "-m u32 --u32 0=0 ".repeat(17);
    let pod = Pod::with(&format!("iptables -t nat -I OUTPUT {huge} -j RETURN"));
    pod.explain("--user 1000:1000 --to 203.0.113.9:443")
        .must_exit(2, "OUTPUT is cut short");
    let pod = Pod::with(&format!(
        "iptables -t nat -N OTHER; iptables -t nat -I OUTPUT -j OTHER; iptables -t nat -A OTHER {huge} -j ACCEPT"
    ));
    pod.explain("--user 1000:1000 --to 203.0.113.9:443")
        .must_exit(2, "a chain that OUTPUT jumps to is");
    // What is cut short elsewhere changes nothing.
    let pod = Pod::with(&format!(
        "iptables -t nat -N OTHER; iptables -t nat -A OTHER {huge} -j ACCEPT"
    ));
    pod.agrees("203.0.113.9:443", "delivered", "by=proxy:15001");
}

/// The rows of one section of the table.
fn rows(pod: &Namespace, direction: &str, family: &str) -> Vec<Value> {
    let mut explain = product();
    explain.args(["explain", "--live", "--format", "json"]);
    let table: Value = serde_json::from_str(&pod.run(&mut explain).must("explain")).expect("JSON");
    let mut sections = list(&table["sections"]).iter();
    let section = sections
        .find(|s| s["direction"] == direction && list(&s["families"]).iter().any(|f| f == family));
    list(&section.expect("a section")["rows"]).to_vec()
}

#[test]
fn a_policy_that_drops_is_named_apart_from_rules() {
    let lab_ = Lab::new();
    let options = ["--mesh", "istio", "-u", "1337", "-i", "*", "-b", "*"];
    lab_.pod.output(product().args(options));
    lab_.pod.sh("iptables -P INPUT DROP
         iptables -A INPUT -p udp --dport 7 -j DROP
         iptables -A INPUT -p udp --dport 53 -j ACCEPT");
    let _proxy = Server::start(&lab_.pod, PROXY, &["proxy", "15006"]);
    let mut connect = lab(ROOT);
    connect.args(["connect", "--timeout=1", "10.66.0.2:80"]);
    let answer = lab_.peer.run(&mut connect).out;
    assert!(answer.contains("error="), "{answer}");
    let rows = rows(&lab_.pod, "inbound", "ipv4");
    let policy = json!({ "table": "filter", "chain": "INPUT" });
    let of_policy = |row: &&Value| row["fate"] == "dropped" && row["policy"] == policy;
    let mut redirected = rows.iter().filter(of_policy).map(|r| &r["redirected_to"]);
    assert!(redirected.any(|port| *port == 15006), "{rows:#?}");
    assert!(redirected.any(Value::is_null), "{rows:#?}");
    for (fate, named) in [("dropped", "--dport 7 "), ("direct", "--dport 53 ")] {
        let by_rule = |row: &Value| match list(&row["rules"]) {
            [rule] => rule["rule"].as_str().is_some_and(|r| r.contains(named)),
            _ => false,
        };
        let found = rows.iter().find(|row| by_rule(row)).expect(named);
        assert_eq!(found["fate"], fate, "{found}");
        assert!(found["policy"].is_null(), "{found}");
    }
}

#[test]
fn what_chance_decides_is_determined_in_the_table_too() {
    let lab_ = Lab::new();
    let service = "iptables -t nat -A OUTPUT -d 10.96.0.9/32 -p tcp --dport 80";
    lab_.pod.sh(&format!(
        "{service} -m statistic --mode random --probability 0.5 -j DNAT --to-destination 203.0.113.8:8080
         {service} -j DNAT --to-destination 203.0.113.9:8080"
    ));
    let rows = rows(&lab_.pod, "outbound", "ipv4");
    let by_chance: Vec<&Value> = rows.iter().filter(|r| r["fate"] == "by-chance").collect();
    let [row] = by_chance.as_slice() else {
        panic!("{rows:#?}");
    };
    let mut among: Vec<&Value> = list(&row["among"]).iter().map(|f| &f["address"]).collect();
    among.sort_by_key(|address| address.to_string());
    assert_eq!(among, ["203.0.113.8", "203.0.113.9"]);
    assert_eq!(list(&row["rules"]).len(), 1, "{row}");
    let mut explain = product();
    explain.args("explain --live --user 1000:1000 --to 10.96.0.9:80 --format json".split(' '));
    let text = lab_.pod.run(&mut explain).must("explain");
    let explanation: Value = serde_json::from_str(&text).expect("JSON");
    let rules = &explanation["cases"][0]["trace"][0]["tables"][0]["rules"];
    assert_eq!(rules[0]["outcome"], "by-chance", "{explanation:#}");
}

#[test]
fn types_of_icmp_are_decoded() {
    let rulesets = [
        "iptables -A INPUT -p icmp -m icmp --icmp-type 3 -j REJECT
         iptables -A INPUT -p icmp -m icmp --icmp-type 8 -j DROP",
        "iptables-legacy -A INPUT -p icmp -m icmp --icmp-type 3 -j REJECT
         iptables-legacy -A INPUT -p icmp -m icmp --icmp-type 8 -j DROP",
        "nft 'table inet firewall { chain incoming {
            type filter hook input priority 0;
            icmp type destination-unreachable reject;
            icmp type { echo-request, timestamp-request } drop;
            icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept;
        }; }'",
    ];
    for rules in rulesets {
        let lab_ = Lab::new();
        lab_.pod.sh(rules);
        let rows = self::rows(&lab_.pod, "inbound", "ipv4");
        let dropped: Vec<&Value> = rows.iter().filter(|r| r["fate"] == "dropped").collect();
        let [row] = dropped.as_slice() else {
            panic!("{rules}: {rows:#?}");
        };
        let protocol = json!([[{ "field": "protocol", "values": ["icmp"] }]]);
        assert_eq!(row["packets"], protocol, "{rules}");
        assert!(rows.iter().all(|r| r["fate"] != "refused"), "{rows:#?}");
    }
}

/// nft loads type and code together, like a port.
#[test]
fn a_code_of_icmp_is_no_port() {
    let pod = Pod::with(
        "nft 'table inet firewall { chain incoming {
            type filter hook input priority 0;
            icmp type echo-request icmp code 0 drop;
        }; }'",
    );
    let mut explain = product();
    explain.args(["explain", "--live", "--format", "json"]);
    let done = pod.lab.pod.run(&mut explain).must_exit(2, "explain");
    let table: Value = serde_json::from_str(&done.out).expect("JSON");
    assert!(!table.to_string().contains("sport"), "{table:#}");
}

#[test]
fn rules_of_iptables_legacy_count() {
    let pod =
        Pod::with("iptables-legacy -P OUTPUT DROP; iptables-legacy -A OUTPUT -o lo -j ACCEPT");
    pod.agrees("203.0.113.9:443", "dropped", "error=");
    let answer = pod.explanation("--user 1000:1000 --to 203.0.113.9:443")["answer"].clone();
    let text = "by the policy of OUTPUT in table filter (iptables-legacy)";
    assert!(
        answer.as_str().is_some_and(|a| a.contains(text)),
        "{answer}"
    );
}

#[test]
fn without_the_capability_it_says_so() {
    let pod = Pod::with(":");
    let mut explain = product();
    explain.args(["explain", "--live", "--to", "203.0.113.9:443"]);
    let mut poor = pod.lab.pod.own_root("+net_raw", &explain);
    let done = pod.lab.pod.run(&mut poor);
    assert!(done.err.contains("CAP_NET_ADMIN"), "{}", done.err);
    done.expect(3, "no privilege")
        .unwrap_or_else(|e| panic!("{e}"));
}
