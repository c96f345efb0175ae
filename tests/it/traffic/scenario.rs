//! What a traffic test says, and how it is tried.

use crate::lab::{APP, Lab, Namespace, PROXY, ROOT, Server, User, lab, product, without_port};

/// One way to apply the rules, and what then has to happen to connections.
///
/// `args`, `env` and the listeners are words between spaces; `''` is the empty one.
pub struct Scenario {
    pub name: &'static str,
    pub mesh: &'static str,
    pub args: &'static str,
    pub env: &'static str,
    /// The pod's /etc/resolv.conf.
    pub resolv_conf: &'static str,
    /// What somebody else does in the pod, as shell scripts: before the rules are
    /// applied, and after.
    pub before: &'static str,
    pub after: &'static str,
    /// As whom the proxy runs, and its listeners as `lab proxy` takes them.
    pub proxy: (User, &'static str),
    /// One connection or query a line: `WHO tcp|udp TO [from SOURCE] -> ANSWER`.
    ///
    /// WHO is `app` or `proxy` in the pod, UID:GID for anybody else there, `peer`
    /// for the neighbour, `guest` for a virtual machine behind the bridge `br0`.
    ///
    /// ANSWER is what comes back, hop by hop:
    /// `proxy:15001 orig=203.0.113.9:443 > peer:443`. The first word of a hop says
    /// who answers, the other fields may be left out, and an address without a
    /// port stands for any port. Or `error=WORD`.
    pub flows: &'static str,
}

impl Scenario {
    /// Nobody connects, nothing is set; what a mesh's own base starts from.
    pub const NOTHING: Scenario = Scenario {
        name: "",
        mesh: "",
        args: "",
        env: "",
        resolv_conf: "",
        before: "",
        after: "",
        proxy: (PROXY, ""),
        flows: "",
    };
}

/// One line of [`Scenario::flows`].
struct Flow<'a> {
    line: &'a str,
    who: &'a str,
    protocol: &'a str,
    to: &'a str,
    source: Option<&'a str>,
    answer: &'a str,
}

impl<'a> Flow<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (head, answer) = line.split_once(" -> ")?;
        let (who, protocol, to, source) = match *head.split_whitespace().collect::<Vec<_>>() {
            [who, protocol, to] => (who, protocol, to, None),
            [who, protocol, to, "from", source] => (who, protocol, to, Some(source)),
            _ => return None,
        };
        Some(Self {
            line,
            who,
            protocol,
            to,
            source,
            answer,
        })
    }
}

impl Scenario {
    fn flows(&self) -> Vec<Flow<'_>> {
        let lines = self.flows.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| Flow::parse(line).unwrap_or_else(|| panic!("not a flow: {line}")))
            .collect()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
        .map(|word| if word == "''" { "" } else { word })
}

/// How the rules of a scenario get into the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub backend: &'static str,
    /// With what it is done: `+net_admin,+net_raw`.
    pub capabilities: &'static str,
    /// Whether the pod has a user namespace of its own.
    pub own_users: bool,
}

/// The pod, its neighbours, and the servers everywhere.
struct Stage {
    lab: Lab,
    guest: Namespace,
    _servers: Vec<Server>,
}

impl Stage {
    fn set(scenario: &Scenario, setup: Setup) -> Self {
        let pod = match setup.own_users {
            true => Namespace::with_users_and_resolv_conf(scenario.resolv_conf),
            false => Namespace::with_resolv_conf(scenario.resolv_conf),
        };
        let lab = Lab::around(pod);
        let guest = lab.guest_behind("br0");
        lab.pod.join("net1", &lab.peer, "net1", 68);
        let start = |namespace, user, text: &str| {
            Server::start(namespace, user, &words(text).collect::<Vec<_>>())
        };
        let (proxy_user, listeners) = scenario.proxy;
        // A name server answers from the address that was asked, so each has one.
        let servers = vec![
            start(
                &lab.pod,
                proxy_user,
                &format!("proxy --announce {listeners}"),
            ),
            start(
                &lab.pod,
                PROXY,
                "serve --name=dns 15053 udp:127.0.0.1:15053 udp:[::1]:15053",
            ),
            start(&lab.pod, APP, "serve --name=app 8080 9080 15020"),
            start(&lab.pod, ROOT, "serve --name=sshd 22"),
            start(
                &lab.pod,
                ROOT,
                "serve --name=stub 127.0.0.53:53 udp:127.0.0.53:53",
            ),
            start(
                &lab.peer,
                ROOT,
                "serve --name=peer 22 53 80 443 udp:10.66.0.1:53 udp:[fd66::1]:53",
            ),
            start(
                &lab.peer,
                ROOT,
                "serve --name=peer udp:203.0.113.53:53 udp:[2001:db8:113::53]:53",
            ),
        ];
        Self {
            lab,
            guest,
            _servers: servers,
        }
    }

    /// Where it did not go as it should, a text that says so.
    fn try_flow(&self, flow: &Flow) -> Option<String> {
        let (namespace, user) = match flow.who {
            "app" => (&self.lab.pod, APP),
            "proxy" => (&self.lab.pod, PROXY),
            "peer" => (&self.lab.peer, APP),
            "guest" => (&self.guest, APP),
            ids => (&self.lab.pod, User::parse(ids)),
        };
        let mut client = lab(user);
        client
            .arg(if flow.protocol == "udp" {
                "query"
            } else {
                "connect"
            })
            .arg(flow.to);
        client.args(flow.source.map(|source| format!("--source={source}")));
        let done = namespace.run(&mut client);
        let line = &done.out;
        let got = line
            .trim_end()
            .strip_prefix(&format!("to={} ", flow.to))
            .unwrap_or(line);
        (!agrees(flow.answer, got))
            .then(|| format!("    want {}\n    got  {got}{}", flow.line, done.err))
    }

    /// All that a reader needs to find out why.
    fn rules(&self) -> String {
        let dump = "for i in iptables ip6tables; do for v in nft legacy; do $i-$v-save -c; done; done; \
            nft list ruleset; ip rule; ip -6 rule";
        self.lab.pod.sh(&format!("({dump}) 2>&1 | grep -v '^#'"))
    }
}

/// Applies the scenario in one way and tries all its flows.
///
/// They are tried before that, too: if all went as they should without a single
/// rule, the scenario would prove nothing.
pub fn run(scenario: &Scenario, setup: Setup) -> Result<(), String> {
    let name = scenario.name;
    let flows = scenario.flows();
    let stage = Stage::set(scenario, setup);
    if flows.iter().all(|flow| stage.try_flow(flow).is_none()) {
        return Err(format!("{name}: goes the same way without any rule"));
    }
    stage.lab.pod.sh(scenario.before);
    let mut apply = product();
    apply
        .args(["--mesh", scenario.mesh, "--backend", setup.backend])
        .args(words(scenario.args));
    apply.envs(words(scenario.env).filter_map(|word| word.split_once('=')));
    let mut apply = stage.lab.pod.own_root(setup.capabilities, &apply);
    let applied = stage.lab.pod.run(&mut apply);
    let said = applied.expect(0, &format!("{name}: {apply:?}"))?.err;
    stage.lab.pod.sh(scenario.after);
    let wrong: Vec<String> = flows
        .iter()
        .filter_map(|flow| stage.try_flow(flow))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{name}, {setup:?}:\n{}\n{said}\n{}",
        wrong.join("\n"),
        stage.rules()
    ))
}

fn agrees(wanted: &str, got: &str) -> bool {
    let (wanted, got): (Vec<&str>, Vec<&str>) =
        (wanted.split(" > ").collect(), got.split(" > ").collect());
    wanted.len() == got.len() && wanted.iter().zip(&got).all(|(w, g)| hop_agrees(w, g))
}

/// Whether every field that is wanted of a hop is there.
fn hop_agrees(wanted: &str, got: &str) -> bool {
    let got: Vec<(&str, &str)> = got
        .split(' ')
        .filter_map(|field| field.split_once('='))
        .collect();
    wanted.split(' ').all(|field| {
        let (key, value) = field.split_once('=').unwrap_or(("by", field));
        got.iter()
            .any(|&(k, v)| k == key && (v == value || without_port(v) == value))
    })
}
