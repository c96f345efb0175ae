"""Our image as an init container, as kubelet has containerd and runc run it.

usage: containerd.py ROOT LAB HOLDER, in the namespaces of `node`"""

import copy
import os
import signal
import sys

from cri import Node, Pod, eventually, output
from injection import ISTIO_INIT, STRICTEST
from sidecar import BRIDGE, Meshed, proved


def changed(container, image=None, **context):
    """That container with another image or security context."""
    other = copy.deepcopy(container)
    other["image"] = image or other["image"]
    other["securityContext"] |= context
    return other


def applied(pod, init):
    container = pod.finish(init)
    assert container.code == 0, f"{pod.name}: exit {container.code}: {container.text()}"
    return container


def privileges(container):
    """What runc was given, in the words of the OCI."""
    spec = container.spec()
    process, capabilities = spec["process"], spec["process"].get("capabilities", {})
    return {
        "capabilities": sorted(capabilities.get("bounding", [])), "effective": sorted(capabilities.get("effective", [])),
        "ambient": capabilities.get("ambient"), "noNewPrivileges": process.get("noNewPrivileges"),
        "readonly": spec["root"].get("readonly", False), "seccomp": "seccomp" in spec["linux"],
    }


def istio(node):
    pod = Pod(node, "istio").run()
    given = privileges(applied(pod, ISTIO_INIT))
    both = ["CAP_NET_ADMIN", "CAP_NET_RAW"]
    assert given == {"capabilities": both, "effective": both, "ambient": None, "noNewPrivileges": True,
                     "readonly": False, "seccomp": False}, given
    Meshed(pod).traffic()
    proved("Istio's init container, its security context as the injector writes it: out and in through the proxy, "
           "the proxy's own and loopback not, IPv4 and IPv6")
    pod.remove()


def strictest(node):
    pod = Pod(node, "strictest").run()
    given = privileges(applied(pod, STRICTEST))
    one = ["CAP_NET_ADMIN"]
    assert given == {"capabilities": one, "effective": one, "ambient": None, "noNewPrivileges": True,
                     "readonly": True, "seccomp": True}, given
    meshed = Meshed(pod)
    meshed.traffic()
    proved("the same with NET_ADMIN alone, a read-only root and the runtime's seccomp profile")
    return meshed


def again(meshed):
    """Kubelet runs init containers again in a sandbox that it keeps."""
    before = meshed.pod.rules()
    applied(meshed.pod, STRICTEST)
    assert meshed.pod.rules() == before, f"rules were written anew:\n{before}\n{meshed.pod.rules()}"
    meshed.traffic()
    proved("once more in the same sandbox: every rule keeps its handle, the traffic flows as before")


def containerd_restarted(node, meshed):
    node.stop()
    meshed_address = meshed.own()[4]
    node.start()
    meshed.traffic()
    proved(f"containerd restarted: the pod at {meshed_address} stays as it was")


def sandbox_restarted(node, meshed):
    """The sandbox dies; kubelet stops what is left of it and runs it anew, init containers first."""
    pod, namespace = meshed.pod, os.readlink(f"/proc/{meshed.pod.pid}/ns/net")
    os.kill(pod.pid, signal.SIGKILL)
    status = {"pod_sandbox_id": pod.id}
    eventually(lambda: node.call("PodSandboxStatus", status).status.state, "the sandbox is not ready")
    pod.stop()
    pod.run()
    assert os.readlink(f"/proc/{pod.pid}/ns/net") != namespace, "the sandbox kept its network namespace"
    assert not pod.rules(), pod.rules()
    applied(pod, STRICTEST)
    Meshed(pod).traffic()
    proved("the sandbox restarted: its new network namespace gets the rules again")
    pod.remove()


def refused(node, name, init, remedy):
    """The init container ends with 3, says what is missing, and has changed nothing."""
    pod = Pod(node, name).run()
    container = pod.finish(init)
    assert container.code == 3, f"{name}: exit {container.code}, not 3: {container.text()}"
    assert remedy in container.message(), f"{name}: no {remedy} in the termination message: {container.message()}"
    Meshed(pod).untouched()
    pod.remove()


def without_capability(node):
    refused(node, "nothing", changed(STRICTEST, capabilities={"drop": ["ALL"]}), "NET_ADMIN")
    proved("without a capability: exit 3, the termination message names NET_ADMIN, nothing is changed")


def ordinary_user(node):
    user = {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": True}
    refused(node, "user", changed(STRICTEST, **user), "NET_ADMIN")
    pod = Pod(node, "file-capabilities").run()
    applied(pod, changed(STRICTEST, image=f"{STRICTEST['image']}-file-capabilities", **user))
    Meshed(pod).traffic()
    pod.remove()
    proved("uid 1000 with NET_ADMIN: exit 3, for kubelet gives no ambient capabilities; with file capabilities it works")


def host_network(node):
    """This node is a container itself, as with kind: its network namespace is not the kernel's first."""
    before = output("nft", "list", "ruleset")
    pod = Pod(node, "host-network", host_network=True).run()
    container = pod.finish(STRICTEST)
    assert container.code == 2, f"hostNetwork: exit {container.code}, not 2: {container.text()}"
    assert output("nft", "list", "ruleset") == before, "a hostNetwork pod changed the node's rules"
    pod.remove()
    proved("a hostNetwork pod on a node that is itself a container: exit 2, the node's rules are as they were")


def main():
    node = Node(sys.argv[1], sys.argv[3])
    node.write_network(BRIDGE)
    node.start()
    node.ctr("images", "import", "/var/lib/images.tar")
    version = node.call("Version", {})
    proved(f"a node with {version.runtime_name} {version.runtime_version}")
    istio(node)
    meshed = strictest(node)
    again(meshed)
    containerd_restarted(node, meshed)
    sandbox_restarted(node, meshed)
    without_capability(node)
    ordinary_user(node)
    host_network(node)


main()
