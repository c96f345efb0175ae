"""An application and a sidecar of the tests in a pod, and the ways that their connections take."""

import re
import subprocess
import sys

import yaml
from injection import deploy

LAB = sys.argv[2]
(demo,) = yaml.safe_load_all((deploy / "demo-pod.yaml").read_text())
PROXY, APP = demo["spec"]["containers"]
# With Istio's ports; with Linkerd's, as the user whom its rules let pass.
ISTIO = PROXY | {"args": ["proxy", "--announce", "15001", "15006,to=loopback"]}
LINKERD = PROXY | {
    "args": ["proxy", "--announce", "4140", "4143,to=loopback"],
    "securityContext": PROXY["securityContext"] | {"runAsUser": 2102, "runAsGroup": 2102},
}

# Debian's plugins ahead of whatever a case adds.
BRIDGE = {
    "type": "bridge", "bridge": "cni0", "isGateway": True,
    "ipam": {"type": "host-local", "dataDir": "/run/ipam", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
             "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]]},
}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def proved(what):
    print(f"ok    {what}", flush=True)


def by_proxy(answer, port, server, what):
    assert re.search(rf" by=proxy:{port} .* > by={server} ", answer), f"{what}: not by the proxy's port {port}: {answer}"


def direct(answer, server, what):
    assert re.match(rf"to=\S+ by={server} ", answer), f"{what}: not direct: {answer}"


def from_outside(target):
    return subprocess.run([LAB, "connect", target], capture_output=True, text=True).stdout


class Meshed:
    """An application beside a proxy in a pod that runs."""

    def __init__(self, pod, proxy=ISTIO):
        self.pod = pod
        self.out, self.into = (re.match(r"\d+", listener)[0] for listener in proxy["args"][-2:])
        self.proxy, self.app = pod.start(proxy).ready(), pod.start(APP).ready()

    def own(self):
        return {4: f"{self.pod.address[4]}:8080", 6: f"[{self.pod.address[6]}]:8080"}

    def traffic(self, families=(4, 6)):
        """Through the proxy out and in; its own connections and loopback past it."""
        outside, loopback = {4: "203.0.113.5:80", 6: "[2001:db8::5]:80"}, {4: "127.0.0.1:8080", 6: "[::1]:8080"}
        for family in families:
            what = f"{self.pod.name}, IPv{family}"
            by_proxy(self.connect(self.app, outside[family]), self.out, "outside:80", f"{what}: out")
            by_proxy(from_outside(self.own()[family]), self.into, "app:8080", f"{what}: in")
            direct(self.connect(self.proxy, outside[family]), "outside:80", f"{what}: the proxy's own")
            direct(self.connect(self.app, loopback[family]), "app:8080", f"{what}: loopback")

    def untouched(self):
        """As without any mesh."""
        assert not self.pod.rules(), f"{self.pod.name}: {self.pod.rules()}"
        direct(self.connect(self.app, "203.0.113.5:80"), "outside:80", f"{self.pod.name}: out")
        direct(from_outside(self.own()[4]), "app:8080", f"{self.pod.name}: in")

    @staticmethod
    def connect(container, target):
        return container.execute("lab", "connect", target)
