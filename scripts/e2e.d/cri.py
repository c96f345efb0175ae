"""Pods without kubelet: containerd is told over CRI what kubelet would tell it about the containers of a manifest."""

import itertools
import json
import subprocess
import time
from pathlib import Path

import grpc
from cri_api.v1 import api_pb2 as cri
from cri_api.v1.api_pb2_grpc import RuntimeServiceStub
from google.protobuf.json_format import ParseDict

# Against hangs only.
DEADLINE = 180

# What kubelet hides of /proc and /sys, and what it protects.
MASKED = ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
          "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
SERVICES = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def eventually(condition, what):
    """Waits until the condition returns something true, and returns that."""
    end = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < end, f"still not so after {DEADLINE} seconds: {what}"
        time.sleep(0.02)
    return result


def output(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, f"{command}: exit {done.returncode}: {done.stderr}"
    return done.stdout


class Refused(Exception):
    """RunPodSandbox failed; its text is what kubelet puts into the pod's event."""


class Node:
    """A containerd in a tree of its own, which this process sees at `root`; `holder` is a process that has it as its root."""

    def __init__(self, root, holder):
        self.root = Path(root)
        self.inside = ["nsenter", f"--mount=/proc/{holder}/ns/mnt", "--"]
        self.runtime = RuntimeServiceStub(grpc.insecure_channel(f"unix://{root}/run/containerd/containerd.sock"))

    def start(self):
        log = open(self.root / "var/log/containerd.log", "ab")
        self.daemon = subprocess.Popen([*self.inside, "containerd"], stdout=log, stderr=log)
        self.call("Version", {}, wait_for_ready=True)

    def stop(self):
        self.daemon.terminate()
        self.daemon.wait(DEADLINE)

    def ctr(self, *arguments):
        return output(*self.inside, "ctr", "--namespace", "k8s.io", *arguments)

    def call(self, method, request, **options):
        """One call, its request as the JSON of the interface."""
        message = ParseDict(request, getattr(cri, method + "Request")())
        return getattr(self.runtime, method)(message, timeout=DEADLINE, **options)

    def write_network(self, *plugins, name="10-pods.conflist"):
        """As a CNI's installer writes its list: whole, by a rename."""
        folder = self.root / "etc/cni/net.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "new").write_text(json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}))
        (folder / "new").rename(folder / name)

    def plugins(self):
        """The types in the CNI list that containerd goes by now."""
        networks = json.loads(self.call("Status", {"verbose": True}).info["cniconfig"])["Networks"]
        return [p["Network"]["type"] for n in networks for p in n["Config"]["Plugins"] if n["IFName"] != "lo"]


class Pod:
    """A sandbox and its containers. `address` is one of each family, by version."""

    numbers = itertools.count(1)

    def __init__(self, node, name, annotations=None, namespace="demo", host_network=False):
        self.node, self.name, self.host_network = node, name, host_network
        self.logs = f"/var/log/pods/{name}"
        self.config = {
            "metadata": {"name": name, "namespace": namespace, "uid": f"{name}-uid", "attempt": 0},
            "hostname": "" if host_network else name, "log_directory": self.logs, "annotations": annotations or {},
            "dns_config": {"servers": ["10.96.0.10"]},
            "linux": {"security_context": {"namespace_options": {"network": "NODE" if host_network else "POD", "pid": "CONTAINER"}}},
        }

    def run(self):
        """RunPodSandbox, also once more after `stop`: then in a new network namespace, as kubelet does it."""
        try:
            self.id = self.node.call("RunPodSandbox", {"config": self.config}).pod_sandbox_id
        except grpc.RpcError as error:
            raise Refused(error.details()) from None
        self.config["metadata"]["attempt"] += 1
        answer = self.node.call("PodSandboxStatus", {"pod_sandbox_id": self.id, "verbose": True})
        self.pid = json.loads(answer.info["info"])["pid"]
        network = answer.status.network
        self.address = {6 if ":" in ip else 4: ip for ip in [network.ip, *(a.ip for a in network.additional_ips)]}
        return self

    def stop(self):
        self.node.call("StopPodSandbox", {"pod_sandbox_id": self.id})

    def remove(self):
        self.stop()
        self.node.call("RemovePodSandbox", {"pod_sandbox_id": self.id})

    def rules(self):
        """Everything in the pod's network namespace; handles tell whether it was written anew."""
        return output("nsenter", f"--net=/proc/{self.pid}/ns/net", "nft", "--handle", "--stateless", "list", "ruleset")

    def start(self, container):
        """Starts a container of a manifest."""
        return Container(self, container)

    def finish(self, container):
        """Runs an init container to its end."""
        return Container(self, container).ended()


class Container:
    def __init__(self, pod, container):
        self.node = pod.node
        name = f"{container['name']}-{next(Pod.numbers)}"
        self.log = self.node.root / f"{pod.logs}/{name}.log".lstrip("/")
        config = container_config(container, pod.host_network) | {"metadata": {"name": name}, "log_path": f"{name}.log"}
        self.id = self.node.call("CreateContainer", {
            "pod_sandbox_id": pod.id, "config": config, "sandbox_config": pod.config}).container_id
        self.node.call("StartContainer", {"container_id": self.id})

    def status(self):
        return self.node.call("ContainerStatus", {"container_id": self.id, "verbose": True})

    def spec(self):
        """What the OCI runtime was given."""
        return json.loads(self.status().info["info"])["runtimeSpec"]

    def stop(self):
        """SIGTERM, and long after it SIGKILL."""
        self.node.call("StopContainer", {"container_id": self.id, "timeout": DEADLINE // 2})

    def ended(self):
        """Its exit code, once it has one."""
        def over():
            status = self.status().status
            return status if status.state == cri.CONTAINER_EXITED else None
        self.code = eventually(over, f"{self.log.stem} ends").exit_code
        return self

    def lines(self):
        """Its log, as (time, line)."""
        entries = (line.split(" ", 3) for line in self.log.read_text().splitlines())
        return [(when, text) for when, _, _, text in entries]

    def text(self):
        return "\n".join(text for _, text in self.lines())

    def message(self):
        """The termination message that kubelet takes from a log (FallbackToLogsOnError)."""
        return "\n".join(self.text().splitlines()[-80:])[-2048:]

    def ready(self):
        eventually(lambda: "ready" in self.text().splitlines(), f"{self.log.stem} listens")
        return self

    def run(self, command):
        """A command in the container, as a probe runs it."""
        return self.node.call("ExecSync", {"container_id": self.id, "cmd": command, "timeout": DEADLINE})

    def execute(self, *command):
        """What it prints, whether it succeeds or not."""
        answer = self.run(command)
        return (answer.stdout + answer.stderr).decode()


def container_config(container, host_network):
    """What kubelet makes of a container of a manifest."""
    context = container.get("securityContext", {})
    capabilities = context.get("capabilities", {})
    environment = SERVICES | {e["name"]: e["value"] for e in container.get("env", [])}
    security = {
        "capabilities": {"add_capabilities": capabilities.get("add", []), "drop_capabilities": capabilities.get("drop", [])},
        "no_new_privs": not context.get("allowPrivilegeEscalation", True),
        "readonly_rootfs": context.get("readOnlyRootFilesystem", False),
        "seccomp": {"profile_type": context.get("seccompProfile", {}).get("type", "Unconfined")},
        "namespace_options": {"network": "NODE" if host_network else "POD", "pid": "CONTAINER"},
        "masked_paths": MASKED, "readonly_paths": READ_ONLY,
    }
    for kubernetes, field in (("runAsUser", "run_as_user"), ("runAsGroup", "run_as_group")):
        if kubernetes in context:
            security[field] = {"value": context[kubernetes]}
    return {
        "image": {"image": container["image"]}, "command": container.get("command", []), "args": container.get("args", []),
        "envs": [{"key": key, "value": value} for key, value in environment.items()],
        "mounts": container.get("mounts", []),
        "linux": {"security_context": security},
    }
