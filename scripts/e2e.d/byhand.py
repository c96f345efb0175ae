"""A pod's network without a runtime: a network namespace of another user namespace, and a CNI list that is gone through by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

from cri import eventually

LAB = sys.argv[2]
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"


class OwnedNamespace:
    """As a runtime makes it for `hostUsers: false`. It looks like a Pod to what judges traffic."""

    def __init__(self, node, name, annotations):
        self.node, self.name, self.annotations = node, name, annotations
        self.list = json.loads((node.root / "etc/cni/net.d/10-pods.conflist").read_text())
        self.process = subprocess.Popen(["unshare", "--user", "--net", "sleep", "infinity"])
        self.pid = self.process.pid
        eventually(lambda: os.readlink(f"/proc/{self.pid}/ns/net") != os.readlink("/proc/self/ns/net"), "a namespace of its own")
        for file in ("uid_map", "gid_map"):
            Path(f"/proc/{self.pid}/{file}").write_text("0 100000 65536")

    def call(self, command, entry, result):
        """One plugin of the list: its exit code, and what it prints."""
        environment = {
            "CNI_COMMAND": command, "CNI_CONTAINERID": self.name, "CNI_NETNS": f"/proc/{self.pid}/ns/net", "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin", "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME={self.name}",
        }
        asked = entry.get("capabilities", {})
        given = entry | {"cniVersion": self.list["cniVersion"], "name": self.list["name"]}
        given["runtimeConfig"] = {key: value for key, value in {ANNOTATIONS: self.annotations}.items() if asked.get(key)}
        if result:
            given["prevResult"] = result
        done = subprocess.run([*self.node.inside, f"/opt/cni/bin/{entry['type']}"], input=json.dumps(given), text=True,
                              env=os.environ | environment, capture_output=True)
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None

    def add(self):
        self.result = None
        for entry in self.list["plugins"]:
            code, result = self.call("ADD", entry, self.result)
            assert code == 0, f"{entry['type']}: {result}"
            assert self.result in (None, result), f"{entry['type']} changes the result: {result}, not {self.result}"
            self.result = result
        ips = [ip["address"].split("/")[0] for ip in result["ips"]]
        self.address = {6 if ":" in ip else 4: ip for ip in ips}

    def check(self):
        """What the last plugin of the list has to say against the namespace."""
        code, error = self.call("CHECK", self.list["plugins"][-1], self.result)
        return error if code else None

    def remove(self):
        for entry in reversed(self.list["plugins"]):
            code, error = self.call("DEL", entry, self.result)
            assert code == 0, f"{entry['type']}: {error}"
        self.process.kill()
        self.process.wait()

    def start(self, container):
        user = container["securityContext"]
        return Inside(self.pid, f"{user['runAsUser']}:{user['runAsGroup']}", container["args"])


class Inside:
    """A program of the laboratory in that namespace, as a user of its user namespace."""

    def __init__(self, pid, user, arguments):
        self.command = ["nsenter", f"--target={pid}", "--user", "--net", LAB, "--user", user]
        self.process = subprocess.Popen([*self.command, "--lifeline", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self):
        assert self.process.stdout.readline() == "ready\n"
        return self

    def execute(self, *command):
        return subprocess.run([*self.command, *command[1:]], capture_output=True, text=True).stdout
