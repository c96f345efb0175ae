"""Real Envoy behind the rules of each mesh, mode and backend, judged by its access log and by whom the application saw.

usage: envoy.py PREPARE-PROXY LAB ENVOY LOG, in the namespaces of `isolated`: this one is the node, with a pod on a cable and
services whose addresses it translates.
"""
import os
import queue
import subprocess
import sys
import threading
from socketserver import BaseRequestHandler, UDPServer

from bootstrap import LOOPBACK, NAMESERVER, POD, RESOLVED, STYLES, bootstrap

PRODUCT, LAB, ENVOY, LOG = sys.argv[1:]
NODE = ("10.66.0.1", "fd66::1")
OUTSIDE = ("203.0.113.9", "2001:db8::9")
EXCLUDED = ("198.51.100.9", "2001:db8:1::9")
SERVICE = ("10.96.0.10", "fd96::10")  # its port 80 is the pod's 8080
OTHER_RESOLVED = "198.51.100.53"  # what the name server says
DEADLINE = 120  # seconds, against hangs alone

WORLD = f"""
mkdir -p "$(dirname "$(realpath -m /etc/resolv.conf)")"
[ -e /etc/resolv.conf ] || : >"$(realpath -m /etc/resolv.conf)"
printf 'nameserver %s\\n' {NODE[0]} {NODE[1]} >/run/resolv.conf
mount --bind /run/resolv.conf "$(realpath /etc/resolv.conf)"
touch /run/envoy
mount --bind "$1" /run/envoy
ip netns add pod
ip link add pod type veth peer name eth0 netns pod
ip link set pod up
ip -n pod link set lo up
ip -n pod link set eth0 up
ip address add {NODE[0]}/24 dev pod
ip address add {NODE[1]}/64 dev pod nodad
ip -n pod address add {POD[0]}/24 dev eth0
ip -n pod address add {POD[1]}/64 dev eth0 nodad
ip -n pod route add default via {NODE[0]}
ip -n pod -6 route add default via {NODE[1]}
ip route add local 203.0.113.0/24 dev lo
ip route add local 198.51.100.0/24 dev lo
ip -6 route add local 2001:db8::/32 dev lo
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
nft -f - <<RULES
table inet services {{
    chain before {{
        type nat hook prerouting priority dstnat
        ip daddr {SERVICE[0]} tcp dport 80 dnat ip to {POD[0]}:8080
        ip6 daddr {SERVICE[1]} tcp dport 80 dnat ip6 to [{POD[1]}]:8080
    }}
    chain after {{
        type nat hook postrouting priority srcnat
        oifname pod ct status dnat masquerade
    }}
}}
RULES
"""

# Where each connection goes: who makes it, where to, and who answers.
PROBES = {
    "in": ("node", POD, 8080, "app"),
    "in-other": ("node", POD, 9090, "app"),  # a port that is excluded where a mesh can do that
    "out-port": ("app", OUTSIDE, 9999, "world"),
    "out-cidr": ("app", EXCLUDED, 80, "world"),
    "own": ("app", POD, 8080, "app"),
    "service": ("app", SERVICE, 80, "app"),
    "loopback": ("app", LOOPBACK, 8080, "app"),
    "proxy": ("proxy", OUTSIDE, 80, "world"),
    "proxy-own": ("proxy", POD, 8080, "app"),
    "dns": ("app", NODE, 53, "world"),
    "dns-other": ("app", OUTSIDE, 53, "world"),
    "out": ("app", OUTSIDE, 80, "world"),
    "ready": ("node", POD, 15021, "app"),  # the proxy's own, which the kubelet asks
}
# The way of each: - direct, o and i through the proxy outbound and inbound, r its own port, d its DNS.
NAMES = {"o": "out", "i": "in", "r": "ready", "d": "dns"}
DIRECT = "-"
UNTOUCHED = {name: "r" if name == "ready" else DIRECT for name in PROBES}
ISTIO = "--mesh istio -i * -b * -d 9090,15021 -x 198.51.100.0/24,2001:db8:1::/48 -o 9999 --dual-stack"
ISTIO_1_0 = "--mesh istio-1.0 -i * -b * -d 9090,15021 -x 198.51.100.0/24 --enable-inbound-ipv6"
LINKERD = "--mesh linkerd --inbound-ports-to-ignore 9090,15021 --outbound-ports-to-ignore 9999"
CLUSTER_ENV = "ISTIO_SERVICE_CIDR=10.96.0.0/16,fd96::/112\n"
SIDECAR_ENV = "ISTIO_INBOUND_PORTS=8080\nENABLE_INBOUND_IPV6=true\n"
VM = "--env-file /run/cluster.env --env-file /run/sidecar.env"
NATIVE, ALL = ("netlink", "nftables"), ("netlink", "nftables", "iptables-legacy")
# The columns are those of PROBES. IPv6 takes the same way, or none through the proxy where the mesh leaves it alone.
CASES = """
one-port        both all     i  i  o  o  i  oi -  -  i  o  o  o  i   -p 15001 -u 1337 --dual-stack
one-port        both native  i  i  -  o  i  i  -  -  i  -  -  -  i   -p 15001 -u 1337 -i 198.51.100.0/24,2001:db8:1::/48 --dual-stack
one-port        IPv4 all     i  -  o  -  i  oi -  -  i  o  o  o  r   {ISTIO_1_0}
one-port        IPv4 native  i  -  -  -  i  oi -  -  i  -  -  -  r   --mesh istio-1.0 {VM}
one-port-tproxy IPv4 all     i  -  o  -  i  oi -  -  i  o  o  o  r   {ISTIO_1_0} -m TPROXY
istio           both all     i  -  -  -  -  oi -  -  i  o  o  o  r   {ISTIO}
istio           both native  i  -  -  -  -  oi -  -  i  d  o  o  r   {ISTIO} --redirect-dns
istio           both all     i  -  -  -  -  oi -  -  i  d  d  o  r   {ISTIO} --redirect-dns --capture-all-dns
istio           both native  i  -  -  -  -  oi -  -  i  -  -  -  r   --mesh istio --dual-stack {VM}
istio-tproxy    both all     i  -  -  -  -  oi -  -  i  o  o  o  r   {ISTIO} -m TPROXY
istio-tproxy    both native  i  -  -  -  -  oi -  -  i  d  d  o  r   {ISTIO} -m TPROXY --redirect-dns --capture-all-dns
linkerd         both all     i  -  -  o  -  oi -  -  -  o  o  o  r   {LINKERD}
"""


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, timeout=DEADLINE, text=True, **options)


def in_pod(*command):
    return ("ip", "netns", "exec", "pod", *command)


def lines_of(stream):
    """A queue of what a program prints."""
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line.strip()) for line in stream], daemon=True).start()
    return lines


def fields(line):
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def host(endpoint):
    return endpoint.rpartition(":")[0].strip("[]")


def at(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class NameServer(BaseRequestHandler):
    """Says OTHER_RESOLVED of every name."""

    def handle(self):
        query, socket = self.request
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + bytes(map(int, OTHER_RESOLVED.split(".")))
        question = query[12 : query.index(b"\0", 12) + 5]
        socket.sendto(query[:2] + b"\x84\0\0\1\0\1\0\0\0\0" + question + answer, self.client_address)


def serve(prefix, user, name, *ports):
    server = subprocess.Popen((*prefix, LAB, f"--user={user}", "serve", f"--name={name}", *ports), stdout=subprocess.PIPE, text=True)
    assert lines_of(server.stdout).get(timeout=DEADLINE) == "ready"


class Envoy:
    """With TPROXY it is root, which may, and known to the rules by its group."""

    def __init__(self, style):
        self.style = style
        self.tproxy = style.endswith("tproxy")
        self.uid = 0 if self.tproxy else 2102 if style == "linkerd" else 1337
        self.gid = 2102 if style == "linkerd" else 1337
        allowed = "-all,+net_admin" if self.tproxy else "-all"
        user = (f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--inh-caps=-all", f"--bounding-set={allowed}")
        options = ("--concurrency", "1", "--disable-hot-restart", "--file-flush-interval-msec", "20", "--log-level", "warning")
        command = in_pod("setpriv", *user, "/run/envoy", *options, "--config-yaml", bootstrap(style))
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(LOG, "w"), text=True)
        self.log = lines_of(self.process.stdout)
        while connect(self, "proxy", at("127.0.0.1", 15021)).get("by") != "app:8080":
            assert self.process.poll() is None, f"Envoy does not start: see {LOG}"
        self.logged(1)

    def logged(self, count):
        """So many connections that have ended, fewer if they do not."""
        lines = []
        try:
            while len(lines) < count:
                lines.append(self.log.get(timeout=DEADLINE))
        except queue.Empty:
            pass
        return lines

    def end(self):
        self.process.terminate()
        self.process.wait()


def connect(envoy, who, target):
    """What whoever was reached says, on the last line of the answer."""
    user = f"{envoy.uid}:{envoy.gid}" if who == "proxy" else "1000:1000"
    command = (LAB, f"--user={user}", "connect", target)
    return fields(run(*(command if who == "node" else in_pod(*command))).stdout)


def probe(envoy, name, way, family):
    who, addresses, port, answers = PROBES[name]
    target = at(addresses[family], port)
    said = connect(envoy, who, target)
    log = envoy.logged(len(way.strip(DIRECT)))
    problem = f"IPv{(4, 6)[family]} {name}: {who} to {target}, by {way}: the answer is {said}, the log {log}"
    assert said.get("by", "").split(":")[0] == answers, problem
    # The service's address becomes the pod's on the way.
    inbound = at(POD[family], 8080) if name == "service" else target
    wanted = {f"{NAMES[hop]} {inbound if hop == 'i' else target}" for hop in way.strip(DIRECT)}
    assert {f"{line.split()[0]} {fields(line)['to']}" for line in log} == wanted, problem
    assert host(said["peer"]) == seen(envoy, name, way, family), problem


def seen(envoy, name, way, family):
    """Whom the application sees, or a server outside."""
    if way == "r":
        return LOOPBACK[0]
    if name == "loopback":
        return LOOPBACK[family]
    sources = STYLES[envoy.style][2] if way.endswith("i") else None
    client = NODE if PROBES[name][0] == "node" or name == "service" else POD
    return (sources or client)[family]


def resolve(envoy, captured):
    for user, name, address in (
        ("1000:1000", "mesh.example", RESOLVED if captured else OTHER_RESOLVED),
        ("1000:1000", "other.test", OTHER_RESOLVED),
        (f"{envoy.uid}:{envoy.gid}", "mesh.example", OTHER_RESOLVED),
    ):
        uid, gid = user.split(":")
        command = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "getent", "ahostsv4", name)
        found = run(*in_pod(*command)).stdout.split()
        assert found[:1] == [address], f"{name}, asked as {user}: {found}, not {address}"


def check(envoy, both):
    """The ways of IPv4, and those of IPv6."""
    resolve(envoy, both[0]["dns"] == "d")
    # The last one is always logged: whatever was logged and not expected comes before that.
    for family, ways in enumerate(both):
        for name, way in ways.items():
            probe(envoy, name, way, family)


def prove(envoy, case):
    _, families, backends, *ways = case.split(None, 3 + len(PROBES))
    options = ways.pop().split()
    ways = dict(zip(PROBES, ways))
    for backend in {"all": ALL, "native": NATIVE}[backends]:
        command = in_pod(PRODUCT, *options, "--backend", backend, "--quiet")
        try:
            assert run(*command).returncode == 0, "not applied"
            check(envoy, (ways, ways if families == "both" else UNTOUCHED))
            assert run(*in_pod(PRODUCT, "clean", "--quiet")).returncode == 0, "not cleaned"
            check(envoy, (UNTOUCHED, UNTOUCHED))
        except AssertionError as problem:
            sys.exit(f"{' '.join(command[4:])}\n{problem}\nWhat Envoy says is in {LOG}")
        print(f"ok    {backend}: {' '.join(options)}", flush=True)


def main():
    run("sh", "-ec", WORLD, "world", ENVOY, check=True)
    for name, text in (("cluster", CLUSTER_ENV), ("sidecar", SIDECAR_ENV)):
        with open(f"/run/{name}.env", "w") as file:
            file.write(text)
    os.environ["KUBERNETES_SERVICE_HOST"] = "10.96.0.1"  # as in a pod
    threading.Thread(target=UDPServer((NAMESERVER, 53), NameServer).serve_forever, daemon=True).start()
    serve((), "0:0", "world", "53", "80", "9999")
    serve(in_pod(), "1000:1000", "app", "8080", "9090")
    cases = CASES.format_map(globals()).strip().splitlines()
    for style in STYLES:
        envoy = Envoy(style)
        for case in cases:
            if case.split()[0] == style:
                prove(envoy, case)
        envoy.end()


main()
