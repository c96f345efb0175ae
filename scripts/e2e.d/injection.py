"""Pods as the meshes' injectors make them, without a cluster."""

import re
from pathlib import Path

import yaml

top = Path(__file__).parents[2]
deploy = top / "deploy/kubernetes"

# What the injectors put into their templates.
VALUES = {"ProxyListenPort": "15001", "InterceptionMode": "REDIRECT", "ContainerPorts": "8080, 9090,"}


def rendered(template):
    return re.sub(r"(\{\{|\[\[).*\.(\w+) (\}\}|\]\])", lambda m: VALUES[m[2]], template)


def injected(config):
    """The pod that an injector with this configuration makes."""
    fragment = yaml.safe_load(rendered(yaml.safe_load(config)["template"]))
    for container in fragment["initContainers"]:
        container["args"] = [str(a) for a in container["args"]]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "injected"}, "spec": fragment}


def overlaid():
    """Istio's own template with ours on top, merged as the injector merges containers: by name, field by field."""
    pod = injected((top / "scripts/e2e.d/injectors/istio.yaml").read_text())
    values = yaml.safe_load((deploy / "istio-values.yaml").read_text())
    ours = yaml.safe_load(values["sidecarInjectorWebhook"]["templates"]["prepare-proxy"])
    for container in ours["spec"]["initContainers"]:
        (same,) = [c for c in pod["spec"]["initContainers"] if c["name"] == container["name"]]
        context = same["securityContext"] | container["securityContext"]
        same |= container | {"securityContext": context}
    return pod


def daemon_set():
    """The pod of deploy/kubernetes/cni.yaml and its container, with the volumes as CRI mounts them."""
    (spec,) = [m["spec"]["template"]["spec"] for m in yaml.safe_load_all((deploy / "cni.yaml").read_text()) if m["kind"] == "DaemonSet"]
    (container,) = spec["containers"]
    folders = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"]}
    mounts = [{"host_path": folders[m["name"]], "container_path": m["mountPath"]} for m in container["volumeMounts"]]
    return spec, container | {"mounts": mounts}


# Istio's own init container with nothing but the image changed, the same with the least privilege, and what the injector
# adds in its place where a CNI plugin writes the rules.
(STRICTEST,) = overlaid()["spec"]["initContainers"]
(ISTIO_INIT,) = injected((top / "scripts/e2e.d/injectors/istio.yaml").read_text())["spec"]["initContainers"]
ISTIO_INIT["image"] = STRICTEST["image"]
VALIDATION = ISTIO_INIT | {
    "name": "istio-validation", "args": [*ISTIO_INIT["args"], "--run-validation", "--skip-rule-apply"],
    "securityContext": {"allowPrivilegeEscalation": False, "privileged": False, "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True, "runAsGroup": 1337, "runAsUser": 1337, "runAsNonRoot": True},
}
