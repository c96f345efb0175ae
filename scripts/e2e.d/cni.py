"""The CNI plugin: installed on a node, and called by containerd behind Debian's own plugins.

usage: cni.py ROOT LAB HOLDER, in the namespaces of `node`"""

import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

from byhand import OwnedNamespace
from cri import Node, Pod, Refused, eventually, output
from injection import STRICTEST, VALIDATION, daemon_set
from sidecar import APP, BRIDGE, LAB, LINKERD, PORTMAP, Meshed, proved

STATUS = {"initContainers": ["istio-validation", "istio-proxy"], "containers": None, "volumes": None, "revision": "default"}
TRAFFIC = "traffic.sidecar.istio.io/"
ISTIO_POD = {
    "sidecar.istio.io/status": json.dumps(STATUS), "sidecar.istio.io/interceptionMode": "REDIRECT",
    f"{TRAFFIC}includeOutboundIPRanges": "*", f"{TRAFFIC}includeInboundPorts": "*", f"{TRAFFIC}excludeInboundPorts": "15020",
}
LINKERD_POD = {"linkerd.io/inject": "enabled", "linkerd.io/proxy-version": "edge-26.8.3"}
OURS = "prepare-proxy"
ROUNDS = 5


class Installer:
    """prepare-proxy cni, run on the node."""

    def __init__(self, node):
        self.node = node
        self.binary = node.root / "usr/lib/cni" / OURS

    def command(self, *arguments):
        return [*self.node.inside, "/usr/local/bin/prepare-proxy", "cni", *arguments]

    def install(self):
        output(*self.command("install", "--mesh", "istio,linkerd"))
        self.loaded("bridge", "portmap", OURS)

    def remove(self, *more):
        output(*self.command("remove", *more))
        self.loaded("bridge", "portmap")

    def status(self):
        return subprocess.run(self.command("status"), capture_output=True).returncode

    def loaded(self, *plugins):
        eventually(lambda: self.node.plugins() == list(plugins), f"containerd goes by {plugins}")


def addresses(node):
    """Those that host-local has handed out."""
    return {f.name for f in (node.root / "run/ipam/pods").glob("*[.:]*") if not f.name.startswith("last_reserved")}


def refused(pod, *words):
    """RunPodSandbox fails, and says these words."""
    try:
        pod.run()
    except Refused as refusal:
        for word in words:
            assert word in str(refusal), f"{pod.name}: no {word} in {refusal}"
        return
    raise AssertionError(f"{pod.name}: runs, with the rules {pod.rules()}")


def meshed(node, name, annotations=ISTIO_POD, families=(4, 6), **container):
    """A pod that the plugin makes the rules for: its traffic is judged."""
    pod = Pod(node, name, annotations).run()
    here = Meshed(pod, **container)
    here.traffic(families)
    return here


def plain(node, name, annotations=None, **pod):
    """A pod that the plugin leaves alone."""
    here = Meshed(Pod(node, name, annotations, **pod).run())
    here.untouched()
    here.pod.remove()


def validation(pod, *more):
    return pod.finish(VALIDATION | {"args": [*VALIDATION["args"], *more]})


def istio(node):
    pod = Pod(node, "istio", ISTIO_POD).run()
    checked = validation(pod)
    assert checked.code == 0, f"istio-validation: exit {checked.code}: {checked.text()}"
    capabilities = checked.spec()["process"].get("capabilities", {})
    assert not capabilities.get("bounding") and not capabilities.get("effective"), capabilities
    Meshed(pod).traffic()
    pod.remove()
    bare = Pod(node, "bare", {}).run()
    checked = validation(bare, "--probe-timeout", "300ms")
    assert checked.code == 126, f"istio-validation without rules: exit {checked.code}, not 126: {checked.text()}"
    bare.remove()
    proved("Istio's pod: istio-validation passes as uid 1337 without any capability (126 in a pod without rules); "
           "out and in through the proxy, IPv4 and IPv6")


def linkerd(node):
    # Linkerd's own default leaves IPv6 alone.
    meshed(node, "linkerd", LINKERD_POD, families=(4,), proxy=LINKERD).pod.remove()
    proved("Linkerd's pod: out and in through the proxy of uid 2102")


def left_alone(node):
    plain(node, "no-annotations")
    plain(node, "other-annotations", {"prometheus.io/scrape": "true", "sidecar.istio.io/inject": "false"})
    plain(node, "excluded", ISTIO_POD, namespace="kube-system")
    before = output("nft", "list", "ruleset")
    pod = Pod(node, "host-network", ISTIO_POD, host_network=True).run()
    assert output("nft", "list", "ruleset") == before, "a hostNetwork pod changed the node's rules"
    pod.remove()
    proved("pods without annotations, with others, in an excluded namespace: left alone; so is the node by a hostNetwork pod")


def bad_annotation(node):
    name = f"{TRAFFIC}excludeInboundPorts"
    refused(Pod(node, "bad", ISTIO_POD | {name: "http"}), OURS, name, "http")
    assert not addresses(node), f"a refused pod left an address behind: {addresses(node)}"
    proved("a bad annotation: the pod does not start, its event names annotation and value, its address is free again")


def no_annotations(node, installer):
    """A runtime that hands over no annotations: here, a list that does not ask for them."""
    file = node.root / "etc/cni/net.d/10-pods.conflist"
    whole = json.loads(file.read_text())["plugins"]
    entry = {key: value for key, value in whole[-1].items() if key != "capabilities"}
    # The portmap plugin is away too: only so can the runtime's reload be seen.
    node.write_network(BRIDGE, entry)
    installer.loaded("bridge", OURS)
    refused(Pod(node, "unknown", ISTIO_POD), OURS)
    refused(Pod(node, "unknown-plain"), OURS)
    plain(node, "unknown-excluded", namespace="kube-system")
    node.write_network(*whole)
    installer.loaded("bridge", "portmap", OURS)
    proved("no annotations from the runtime: no pod passes unseen, but in excluded namespaces")


def owned_by_another_user_namespace(node):
    """containerd 1.6 has no user namespaces for pods: the namespace is made by hand, the list is gone through by hand."""
    pod = OwnedNamespace(node, "hostUsers-false", ISTIO_POD)
    pod.add()
    here = Meshed(pod)
    here.traffic()
    assert pod.check() is None, f"CHECK says {pod.check()} of what ADD did"
    output("nsenter", f"--net=/proc/{pod.pid}/ns/net", "nft", "flush", "ruleset")
    code = (pod.check() or {}).get("code")
    assert code == 101, f"CHECK of an empty ruleset: code {code}, not 101"
    pod.remove()
    proved("a network namespace of another user namespace, lo down: out and in through the proxy; CHECK is 0, without the rules 101")


def removal(node, installer):
    early = meshed(node, "early")
    assert installer.status() == 0, "status of what is installed"
    installer.remove()
    assert installer.status() == 1, "status of what was removed"
    plain(node, "late", ISTIO_POD)
    early.traffic()
    early.pod.remove()
    installer.install()
    last = meshed(node, "last")
    installer.remove("--binary")
    assert not installer.binary.exists(), "--binary leaves the binary"
    before = addresses(node)
    last.pod.remove()
    assert addresses(node) < before, "a pod that outlives the binary keeps its address"
    installer.install()
    proved("removed, with the binary and without: pods start without rules, those that run keep theirs and can be deleted")


def binary_lost(node, installer):
    """Somebody deletes the binary alone: no pod starts unseen, and those there were can go."""
    early = meshed(node, "early")
    installer.binary.unlink()
    assert installer.status() == 1, "status without the binary"
    refused(Pod(node, "late", ISTIO_POD), OURS)
    installer.install()
    early.pod.remove()
    # containerd calls the plugins for what it could not finish, when kubelet asks once more.
    for sandbox in node.call("ListPodSandbox", {}).items:
        node.call("StopPodSandbox", {"pod_sandbox_id": sandbox.id})
    assert not addresses(node), f"left behind: {addresses(node)}"
    proved("the binary deleted: no pod starts without rules; installed again, everything can be deleted")


def rewritten(node, installer):
    spec, container = daemon_set()
    daemon = Pod(node, "prepare-proxy-cni", host_network=spec["hostNetwork"]).run()
    watch = daemon.start(container)
    is_ready = container["readinessProbe"]["exec"]["command"]
    for others in ([BRIDGE], [BRIDGE, PORTMAP]):
        node.write_network(*others)
        installer.loaded(*(plugin["type"] for plugin in others), OURS)
    eventually(lambda: watch.run(is_ready).exit_code == 0, f"{is_ready} succeeds")
    meshed(node, "rewritten").pod.remove()
    # One that containerd prefers, for its name.
    node.write_network(BRIDGE, name="05-first.conflist")
    installer.loaded("bridge", OURS)
    meshed(node, "first").pod.remove()
    (node.root / "etc/cni/net.d/05-first.conflist").unlink()
    installer.loaded("bridge", "portmap", OURS)
    # It ends, and takes nothing away.
    watch.stop()
    assert watch.ended().code == 0, f"cni install --watch on SIGTERM: exit {watch.code}: {watch.text()}"
    daemon.remove()
    assert installer.status() == 0, "SIGTERM of the watch removes something"
    meshed(node, "after-the-watch").pod.remove()
    proved("another CNI rewrites its list, and brings one that comes first: the container of "
           "deploy/kubernetes/cni.yaml puts the entry back, is ready then, and leaves it on SIGTERM")


def containerd_restarted(node, installer):
    before = meshed(node, "before")
    node.stop()
    node.start()
    installer.loaded("bridge", "portmap", OURS)
    meshed(node, "after").pod.remove()
    before.traffic()
    before.pod.remove()
    proved("containerd restarted: pods from before and after go through their proxies")


def fifty(node):
    pods = [Pod(node, f"many-{number}", ISTIO_POD) for number in range(50)]
    with ThreadPoolExecutor(len(pods)) as pool:
        began = time.monotonic()
        list(pool.map(Pod.run, pods))
        took = time.monotonic() - began
        one = pods[0].rules()
        for pod in pods:
            assert one and pod.rules() == one, f"{pod.name}: {pod.rules()}"
        answers = [list(pool.map(lambda pod, uid=uid: connect(pod, uid), pods)) for uid in (1000, 1337)]
        for pod, app, proxy in zip(pods, *answers):
            # Nobody listens on the proxy's port yet.
            assert "error=refused" in app, f"{pod.name}: the app's connection is not captured: {app}"
            assert " by=outside:80 " in proxy, f"{pod.name}: the proxy's connection: {proxy}"
        list(pool.map(Pod.remove, pods))
    assert not addresses(node), addresses(node)
    proved(f"50 pods at once have their rules, each alike, before any of their containers starts; all gone again ({took:.1f} s to start)")


def connect(pod, uid):
    return subprocess.run(["nsenter", f"--net=/proc/{pod.pid}/ns/net", LAB, "--user", f"{uid}:{uid}", "connect", "203.0.113.5:80"],
                          capture_output=True, text=True).stdout


def first_line(node, name, annotations, *before):
    """Seconds from RunPodSandbox to the app's first line, by the time that containerd writes beside it."""
    began = datetime.now(timezone.utc)
    pod = Pod(node, name, annotations).run()
    for container in before:
        assert pod.finish(container).code == 0, name
    when, _ = pod.start(APP).ready().lines()[0]
    pod.remove()
    return (datetime.fromisoformat(when[:26] + "+00:00") - began).total_seconds()


def figures(node, installer):
    """What people feel; printed, never judged."""
    ways = {
        "no mesh": (False, {}, []), "init container": (False, ISTIO_POD, [STRICTEST]),
        "plugin": (True, ISTIO_POD, []), "plugin and istio-validation": (True, ISTIO_POD, [VALIDATION]),
    }
    taken = {way: [] for way in ways}
    for number in range(ROUNDS):
        for way, (plugin, annotations, before) in ways.items():
            installed = OURS in node.plugins()
            if plugin and not installed:
                installer.install()
            elif installed and not plugin:
                installer.remove()
            taken[way].append(first_line(node, f"{way} {number}".replace(" ", "-"), annotations, *before))
    medians = "; ".join(f"{way} {statistics.median(times) * 1000:.0f} ms" for way, times in taken.items())
    print(f"      from RunPodSandbox to the app's first line, medians of {ROUNDS} rounds: {medians}", flush=True)


def main():
    node = Node(sys.argv[1], sys.argv[3])
    installer = Installer(node)
    node.write_network(BRIDGE, PORTMAP)
    node.start()
    node.ctr("images", "import", "/var/lib/images.tar")
    installer.install()
    assert installer.status() == 0, "status of what is installed"
    istio(node)
    linkerd(node)
    left_alone(node)
    bad_annotation(node)
    no_annotations(node, installer)
    owned_by_another_user_namespace(node)
    removal(node, installer)
    binary_lost(node, installer)
    rewritten(node, installer)
    containerd_restarted(node, installer)
    fifty(node)
    figures(node, installer)


main()
