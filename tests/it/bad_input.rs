//! Bad input of every kind: each line is refused with exit status 2 and a message that names the
//! option and the item, and the kernel is left untouched.

use crate::lab::{Done, Namespace, product};
use crate::lifecycle::everything;
use std::io::Write;

/// One line: what is given, and all that the message must say.
struct Bad {
    args: &'static str,
    env: &'static [(&'static str, &'static str)],
    says: &'static [&'static str],
}

const fn bad(args: &'static str, says: &'static [&'static str]) -> Bad {
    let env = &[];
    Bad { args, env, says }
}

const fn bad_env(
    args: &'static str,
    env: &'static [(&'static str, &'static str)],
    says: &'static [&'static str],
) -> Bad {
    Bad { args, env, says }
}

#[rustfmt::skip]
const TABLE: &[Bad] = &[
    // Ports.
    bad("--mesh istio -p 0", &["-p: ", "\"0\"", "1–65535"]),
    bad("--mesh istio -p 65536", &["-p: ", "\"65536\""]),
    bad("--mesh istio -p -1", &["-1"]),
    bad("--mesh istio -p +80", &["-p: ", "\"+80\""]),
    bad("--mesh istio -p http", &["-p: ", "\"http\""]),
    bad("--mesh istio -p ''", &["-p: ", "\"\""]),
    bad("--mesh istio -p 80,81", &["-p: ", "\"80,81\""]),
    bad("--mesh istio -z 15006x", &["-z: ", "\"15006x\""]),
    bad("--mesh istio -e 15008:15009", &["-e: ", "\"15008:15009\""]),
    bad("--mesh istio -b 70000", &["-b: ", "\"70000\""]),
    bad("--mesh istio -b 80,https", &["-b: ", "\"https\""]),
    bad("--mesh istio -b *,80", &["-b: ", "\"*,80\"", "stands alone"]),
    bad("--mesh istio -b 90:80", &["-b: ", "\"90:80\"", "FIRST:LAST"]),
    bad("--mesh istio -b 80:", &["-b: ", "\"80:\""]),
    bad("--mesh istio -b 80-90", &["-b: ", "\"80-90\"", "80:90"]),
    bad("--mesh istio -b http", &["-b: ", "\"http\"", "80:90"]),
    bad("--mesh istio -b 80;90", &["-b: ", "\"80;90\""]),
    bad("--mesh istio -d 15090,*", &["-d: ", "\"*\""]),
    bad("--mesh istio -o 1:2:3", &["-o: ", "\"1:2:3\""]),
    bad("--mesh istio -q 0x50", &["-q: ", "\"0x50\""]),
    bad("--mesh istio -b ８０", &["-b: ", "\"８０\""]),
    bad("--mesh istio -b 010", &["-b: ", "\"010\""]),
    // Destinations.
    bad("--mesh istio -i 10.0.0.0/33", &["-i: ", "\"10.0.0.0/33\""]),
    bad("--mesh istio -i example.com", &["-i: ", "\"example.com\""]),
    bad("--mesh istio -i 10.0.0.1", &["-i: ", "\"10.0.0.1\"", "192.0.2.7/32"]),
    bad("--mesh istio -i fd00::/129", &["-i: ", "\"fd00::/129\""]),
    bad("--mesh istio -i 10.0.0.0/255.0.0.0", &["-i: ", "\"10.0.0.0/255.0.0.0\""]),
    bad("--mesh istio -i fe80::1%eth0/64", &["-i: ", "\"fe80::1%eth0/64\""]),
    bad("--mesh istio -i 10.0.0.0/08", &["-i: ", "\"10.0.0.0/08\""]),
    bad("--mesh istio-1.0 -i 010.0.0.0/8", &["-i: ", "\"010.0.0.0/8\""]),
    bad("--mesh istio-1.0 -i 10.0.0.0/255.0.255.0", &["-i: ", "\"10.0.0.0/255.0.255.0\""]),
    bad("--mesh istio -i *,10.0.0.0/8", &["-i: ", "stands alone"]),
    bad("--mesh istio -x *", &["-x: ", "\"*\""]),
    bad("--mesh istio -x 10.0.0.0/8,10.0.0.256/32", &["-x: ", "\"10.0.0.256/32\""]),
    bad("--mesh istio-1.0 -i 10.0.0", &["-i: ", "\"10.0.0\""]),
    bad("--mesh istio --loopback-cidr 10.0.0.0/8", &["--loopback-cidr", "\"10.0.0.0/8\"", "127.0.0.0/8"]),
    bad("--mesh istio --loopback-cidr 127.0.0.0/7", &["--loopback-cidr", "\"127.0.0.0/7\""]),
    bad("--mesh istio --loopback-cidr ::1/128", &["--loopback-cidr", "\"::1/128\""]),
    bad("--mesh istio --loopback-cidr 127.0.0.1", &["--loopback-cidr", "\"127.0.0.1\""]),
    // Users and groups.
    bad("--mesh istio -u nobody-of-that-name", &["-u: ", "\"nobody-of-that-name\"", "/etc/passwd"]),
    bad("--mesh istio -u 4294967295", &["-u: ", "\"4294967295\""]),
    bad("--mesh istio -u 010", &["-u: ", "\"010\""]),
    bad("--mesh istio -u 1000-2000", &["-u: ", "\"1000-2000\""]),
    bad("--mesh istio -g no-such-group", &["-g: ", "\"no-such-group\"", "/etc/group"]),
    bad("--mesh istio --owner-groups *,5", &["--owner-groups", "stands alone"]),
    bad("--mesh istio --owner-groups-exclude *", &["--owner-groups-exclude", "\"*\""]),
    bad("--mesh istio --owner-groups 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65", &["--owner-groups", "65 groups", "64"]),
    // Interfaces.
    bad("--mesh istio -c eth0,averylongname0.1", &["-c: ", "\"averylongname0.1\"", "15 bytes"]),
    bad("--mesh istio -c +eth", &["-c: ", "\"+eth\""]),
    bad("--mesh istio -c +", &["-c: ", "\"+\"", "not alone"]),
    bad("--mesh istio -k eth/0", &["-k: ", "\"eth/0\""]),
    bad("--mesh istio -k !eth0", &["-k: ", "\"!eth0\""]),
    // Modes, marks, tables, switches.
    bad("--mesh istio -m NONE", &["-m: ", "\"NONE\"", "REDIRECT or TPROXY"]),
    bad("--mesh istio -m TPROXY -t 0", &["-t: ", "\"0\""]),
    bad("--mesh istio -m TPROXY -t 0x1g", &["-t: ", "\"0x1g\""]),
    bad("--mesh istio -m TPROXY -t 4294967296", &["-t: ", "\"4294967296\""]),
    bad("--mesh istio -m TPROXY -r 254", &["-r: ", "\"254\""]),
    bad("--mesh istio -m TPROXY -r main", &["-r: ", "\"main\""]),
    bad("--mesh istio --redirect-dns=maybe", &["--redirect-dns", "\"maybe\"", "true or false"]),
    bad("--mesh istio --redirect-dns=yes", &["--redirect-dns", "\"yes\""]),
    bad("--mesh istio --drop-invalid=", &["drop-invalid"]),
    // A value that is missing, and would have been the next option.
    bad("--mesh istio -x -b 80", &["--outbound-exclude-cidrs", "value is required"]),
    bad("--mesh istio -u", &["--proxy-uid"]),
    bad("-p 15001", &["--proxy-uid", "-u", "PROXY_UID", "nginmesh"]),
    bad("-u 1337", &["--proxy-port", "-p", "ENVOY_PORT", "nginmesh"]),
    bad("", &["--proxy-port (-p, ENVOY_PORT) and --proxy-uid (-u, PROXY_UID)"]),
    bad("-p 15001 -u ,", &["--proxy-uid"]),
    // Formats that nothing is printed in.
    bad("-p 15001 -u 1337 --format json", &["--format", "--dry-run"]),
    bad("diff -p 15001 -u 1337 --format nft", &["--format", "text or json"]),
    bad("clean --format json", &["--format", "--dry-run"]),
    bad("clean --dry-run --format restore", &["--format", "text or json"]),
    bad("watch -p 15001 -u 1337 --format json", &["--format", "watch"]),
    bad("apply -p 15001 -u 1337 --quiet --verbose", &["--quiet", "--verbose"]),
    // What there is not, or not here.
    bad("--mesh consul -p 15001 -u 1337", &["consul"]),
    bad("--backend ipchains -p 15001 -u 1337", &["ipchains"]),
    bad("remove", &["remove"]),
    bad("Apply", &["did you mean the action apply?"]),
    bad("--proxy_port 15001", &["did you mean --proxy-port?"]),
    bad("--mesh istio -mode TPROXY", &["-mode", "did you mean --mode?"]),
    bad("-p 15001 -u 1337 -dry-run", &["-dry-run", "did you mean --dry-run?"]),
    bad("status -o json", &["-o", "did you mean --format json?"]),
    bad("--mesh istio -i '*'", &["-i: ", "\"'*'\"", "quotes"]),
    bad("--mesh istio -b \"80\"", &["-b: ", "quotes"]),
    bad("apply clean", &["one action at a time"]),
    bad("--mesh istio -b 80 443", &["a list has no spaces between its items: 80,443"]),
    bad("--list", &["status"]),
    bad("-F", &["clean"]),
    bad("clean all", &["all managed rules"]),
    bad("explain --Local_Address 10.0.0.1", &["did you mean --local-address?"]),
    bad("diff --mesh istio --live", &["an option of explain"]),
    bad("verify --port 80", &["did you mean --probe-port?"]),
    bad("verify --probe-port http", &["\"http\" is not a port"]),
    bad("diff Cargo.toml", &["\"Cargo.toml\"", "--connections --against"]),
    bad("explain --mesh istio 10.1.2.3 80", &["did you mean 10.1.2.3:80?"]),
    bad("explain --mesh istio --src 10.1.2.3", &["did you mean --from?"]),
    bad("explain --mesh istio --uid 1000", &["did you mean --user?"]),
    bad("-p 15001 -u 1337 --nope", &["--nope"]),
    bad("-p 15001 -u 1337 surplus", &["\"surplus\" is not an action", "apply, clean, diff"]),
    bad("-p 15001 -u 1337 -i 10.0.0.0/8, 172.16.0.0/12", &["a list has no spaces", "10.0.0.0/8,172.16.0.0/12"]),
    bad("apply -p 15001 -u 1337 -i 10.0.0.0/8 ,172.16.0.0/12", &["a list has no spaces"]),
    bad("istio-iptables -b 80, 90", &["a list has no spaces", "80,90"]),
    bad("-p 15001 -u 1337 -i Cargo.lock Cargo.toml LICENSE", &["\"Cargo.toml\": this is a file here", "'*'"]),
    bad("--mesh istio --redirect-dns false", &["--redirect-dns=false"]),
    bad("istio-iptables --redirect-dns false", &["--redirect-dns=false"]),
    bad("-p 15001 -u 1337 --log-level debug", &["--log-level", "-v", "RUST_LOG"]),
    bad("-p 15001 -u 1337 -b 80", &["-b: mesh nginmesh has no such option", "--mesh istio-1.0 or --mesh istio"]),
    bad("--mesh istio-1.0 --redirect-dns", &["--redirect-dns", "mesh istio-1.0 has no such option", "--mesh istio has it"]),
    bad("--mesh istio --enable-inbound-ipv6", &["--enable-inbound-ipv6", "mesh istio has no such option", "--mesh istio-1.0 has it"]),
    bad("--mesh istio-1.0 -c eth0", &["-c: ", "--mesh istio has it"]),
    // Files.
    bad("--mesh istio --env-file /nonexistent/cluster.env", &["--env-file: /nonexistent/cluster.env", "--env-file -/nonexistent/cluster.env"]),
    bad("--mesh istio --env-file --dry-run", &["--env-file", "--dry-run"]),
    bad("--mesh istio --env-file -n", &["--env-file", "-n", "absolute"]),
    bad("--mesh istio --env-file /proc/self/mounts", &["/proc/self/mounts", "line 1"]),
    bad("--network-namespace /nonexistent/ns -p 15001 -u 1337", &["--network-namespace", "/nonexistent/ns"]),
    bad("--network-namespace mypod -p 15001 -u 1337", &["--network-namespace", "/run/netns/mypod"]),
    bad("--network-namespace /proc/self/ns/uts -p 15001 -u 1337", &["--network-namespace", "/proc/self/ns/uts is not a network namespace"]),
    bad("--network-namespace /etc/passwd -p 15001 -u 1337", &["/etc/passwd is not a network namespace"]),
    bad("--network-namespace /dev/null -p 15001 -u 1337", &["/dev/null is not a network namespace"]),
    bad("--network-namespace /tmp -p 15001 -u 1337", &["/tmp is not a network namespace"]),
    // Istio's own command line.
    bad("istio-iptables --force-iptables-binary bpf", &["--force-iptables-binary", "\"bpf\"", "legacy or nft"]),
    bad("istio-iptables --force-iptables-binary nft --native-nftables", &["--force-iptables-binary", "--native-nftables"]),
    bad("istio-iptables --nope", &["--nope"]),
    bad("-p 16001 -i * istio-iptables", &["-p: ", "after istio-iptables"]),
    bad("--mesh istio istio-iptables -u 5", &["--mesh", "after istio-iptables"]),
    bad("istio-iptables --proxy-port 15001", &["--proxy-port"]),
    bad("istio-iptables --owner-groups 5", &["--owner-groups"]),
    bad("istio-iptables --cleanup-only=perhaps", &["--cleanup-only", "\"perhaps\""]),
    bad("istio-iptables --probe-timeout soon", &["--probe-timeout", "\"soon\"", "5s"]),
    bad("istio-iptables --iptables-probe-port 0", &["--iptables-probe-port", "\"0\""]),
    bad("istio-iptables --log_output_level=default:loud", &["--log_output_level", "\"default:loud\""]),
    bad("istio-iptables -b 80 90", &["90"]),
    bad("istio-iptables -b 70000 --skip-rule-apply", &["-b: ", "\"70000\""]),
    // The environment, and which name was looked at.
    bad_env("--mesh istio", &[("ISTIO_INBOUND_PORTS", "80,x")], &["ISTIO_INBOUND_PORTS", "\"x\""]),
    // White space, which a line here cannot have.
    bad_env("--mesh istio", &[("ISTIO_INBOUND_PORTS", "80 443")], &["ISTIO_INBOUND_PORTS", "\"80 443\"", "space"]),
    bad_env("--mesh istio", &[("ISTIO_SERVICE_CIDR", "10.0.0.0/8 11.0.0.0/8")], &["ISTIO_SERVICE_CIDR", "space"]),
    bad("--mesh istio -i all", &["-i: ", "\"all\"", "* stands for all"]),
    bad("--mesh istio -k br-*", &["-k: ", "br-+"]),
    bad_env("--mesh istio", &[("ISTIO_INBOUND_INTERCEPTION_MODE", " TPROXY")], &["ISTIO_INBOUND_INTERCEPTION_MODE", "\" TPROXY\""]),
    bad_env("--mesh istio", &[("ISTIO_META_DNS_CAPTURE", "sure")], &["ISTIO_META_DNS_CAPTURE", "\"sure\""]),
    bad_env("--mesh istio", &[("INVALID_DROP", "2")], &["INVALID_DROP", "\"2\""]),
    bad_env("--mesh istio", &[("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "10.0.0.0/8")], &["ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR"]),
    bad_env("--mesh istio-1.0", &[("ENABLE_INBOUND_IPV6", "often")], &["ENABLE_INBOUND_IPV6", "\"often\""]),
    bad_env("-p 15001 -u 1337", &[("PREPARE_PROXY_MESH", "osm")], &["PREPARE_PROXY_MESH", "\"osm\"", "nginmesh, istio-1.0, istio"]),
    bad_env("istio-iptables", &[("SKIP_RULE_APPLY", "x")], &["skip-rule-apply", "\"x\""]),
    // What connections are compared with.
    bad("diff --mesh istio --against /no/such/file", &["--connections"]),
    bad("diff --mesh istio --connections --against /no/such/file", &["/no/such/file"]),
    bad("diff --mesh istio --connections --against /proc/self/status", &["/proc/self/status"]),
    bad("diff --mesh istio --connections --local-address 10.0.0.1", &["--against"]),
    // The connection to explain.
    bad("explain --mesh istio --user 1000", &["--to"]),
    bad("explain --mesh istio --udp", &["--to"]),
    bad("explain --mesh istio --format nft", &["--format", "text or json"]),
    bad("explain --mesh istio --to 10.1.2.3:80 --format mermaid", &["--format", "--to"]),
    bad("explain --mesh istio --to 10.1.2.3", &["--to", "\"10.1.2.3\"", "ADDRESS:PORT"]),
    bad("explain --mesh istio --to 10.1.2.3:0", &["--to", "\"0\"", "1–65535"]),
    bad("explain --mesh istio --to example.com:80", &["--to", "\"example.com:80\"", "getent ahosts example.com"]),
    bad("explain --mesh istio example.com", &["getent ahosts example.com"]),
    bad("explain https://example.com/ --mesh istio", &["getent ahosts example.com"]),
    bad("explain --mesh istio 10.1.2.3:http", &["\"10.1.2.3:http\" is not ADDRESS:PORT"]),
    bad("explain 10.1.2.3:80 --mesh istio --short --format json", &["--short", "JSON"]),
    bad("explain 10.1.2.3:80 --mesh istio --short -v", &["--short", "--verbose"]),
    bad("explain --mesh istio --short", &["--to"]),
    bad("explain --live -u 1337 10.1.2.3:80", &["-u", "--live", "did you mean --user 1337?"]),
    bad("explain --live --mesh istio 10.1.2.3:80", &["--mesh", "--live"]),
    bad("explain --live -b * 10.1.2.3:80", &["-b", "--live"]),
    bad("explain --live -b *", &["-b", "--live"]),
    bad("explain -u 1337 10.1.2.3:80", &["--proxy-port", "did you mean --user 1337?"]),
    bad("explain --mesh istio --to fd00::1:80x", &["--to", "[fd00::1]:443"]),
    bad("explain --mesh istio --to 10.1.2.3:80 --user nobody-of-that-name", &["--user", "\"nobody-of-that-name\"", "/etc/passwd"]),
    bad("explain --mesh istio --to 10.1.2.3:80 --user 1000:no-such-group", &["--user", "\"no-such-group\"", "/etc/group"]),
    bad("explain --mesh istio --to 10.1.2.3:80 --user 4294967295", &["--user", "\"4294967295\""]),
    bad("explain --mesh istio --to 10.1.2.3:80 --from 10.2.0.9:x", &["--from", "\"10.2.0.9:x\""]),
    bad("explain --mesh istio --to 10.1.2.3:80 --from fd00::1", &["--from", "family"]),
    bad("explain --mesh istio --to 10.1.2.3:80 --from 10.2.0.9 --interface eth+", &["--interface", "\"eth+\""]),
    bad("explain --mesh istio --to 10.1.2.3:80 --from 10.2.0.9 --interface nosuch0", &["--interface", "\"nosuch0\""]),
    bad("explain --mesh istio 10.1.2.3:80 --from 10.2.0.9 --interface nosuch0", &["--interface", "\"nosuch0\""]),
    bad("explain --mesh istio --to 10.1.2.3:80 --user 1 --interface lo", &["--interface", "outside"]),
    bad("explain --mesh istio --to 10.1.2.3:80 --mark x", &["--mark", "\"x\"", "0xffffffff"]),
    bad("explain --mesh istio --to 10.1.2.3:80 --ct-state OLD", &["--ct-state", "OLD", "established"]),
    bad("explain --mesh istio --to 10.1.2.3:80 --local-address 10.0.0.0/33", &["--local-address", "\"10.0.0.0/33\""]),
    bad("explain --mesh istio --to 10.1.2.3:80 --local-address 10.0.0.1%a/b", &["--local-address", "\"a/b\""]),
    bad("apply --mesh istio --to 10.1.2.3:80", &["--to"]),
];

/// What clap says of a word that is not known is no suggestion to pass it as a value.
#[test]
fn an_unknown_word_is_never_said_to_be_a_value() {
    let done = run(&Namespace::new(), "explain --frobnicate", &[]);
    refused(&done, &["--frobnicate"]).unwrap();
    assert!(!done.err.contains("tip:"), "{}", done.err);
}

/// Runs one line in the namespace.
fn run(namespace: &Namespace, args: &str, env: &[(&str, &str)]) -> Done {
    let words = args.split_whitespace();
    let words = words.map(|w| if w == "''" { "" } else { w });
    let mut command = product();
    namespace.run(command.args(words).envs(env.iter().copied()))
}

/// Fails unless it was refused, with a message that has all these parts.
fn refused(done: &Done, says: &[&str]) -> Result<(), String> {
    let silent: Vec<_> = says.iter().filter(|s| !done.err.contains(**s)).collect();
    let refused = done.code == Some(2) && done.out.is_empty();
    let what = format!("does not say {silent:?}");
    done.check(refused && silent.is_empty(), &what)
}

#[test]
fn every_line_is_refused_and_nothing_is_touched() {
    assert!(TABLE.len() >= 40);
    let namespace = Namespace::new();
    let before = everything(&namespace);
    let problem = |bad: &Bad| {
        let refused = refused(&run(&namespace, bad.args, bad.env), bad.says);
        Some(format!("{}: {}", bad.args, refused.err()?))
    };
    let problems: Vec<String> = TABLE.iter().filter_map(problem).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(before, everything(&namespace));
}

#[test]
fn values_that_are_not_utf_8_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let namespace = Namespace::new();
    let no_text = std::ffi::OsStr::from_bytes(b"80,\xff");
    let mut by_variable = product();
    by_variable
        .args(["--mesh", "istio"])
        .env("ISTIO_INBOUND_PORTS", no_text);
    let mut by_flag = product();
    by_flag.args(["--mesh", "istio", "-b"]).arg(no_text);
    // Whom that names nobody can tell; another would be exempted.
    let mut by_user = product();
    let other_alphabet = std::ffi::OsStr::from_bytes(b"j\xfcrgen");
    by_user
        .args(["--mesh", "istio"])
        .env("ENVOY_USER", other_alphabet);
    for command in [&mut by_variable, &mut by_flag, &mut by_user] {
        refused(&namespace.run(command), &["UTF-8"]).unwrap();
    }
}

#[test]
fn a_bad_value_in_an_env_file_names_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"ISTIO_SERVICE_CIDR=10.0.0.0/8\nISTIO_INBOUND_PORTS=80,70000\n")
        .unwrap();
    let mut command = product();
    command
        .args(["--mesh", "istio-1.0"])
        .env("ISTIO_SIDECAR_CONFIG", file.path());
    let path = file.path().to_str().unwrap();
    let says = ["ISTIO_INBOUND_PORTS in", path, "\"70000\""];
    refused(&Namespace::new().run(&mut command), &says).unwrap();
}

/// Asked for and impossible: IPv6 in a namespace that has it switched off.
#[test]
fn dual_stack_without_ipv6_is_refused() {
    let namespace = Namespace::new();
    namespace.sysctl("ipv6/conf/all/disable_ipv6", "1");
    let before = everything(&namespace);
    for mesh in ["nginmesh", "istio"] {
        let line = format!("--mesh {mesh} -p 1 -u 2 --dual-stack");
        refused(&run(&namespace, &line, &[]), &["--dual-stack"]).unwrap();
    }
    assert_eq!(before, everything(&namespace));
}
