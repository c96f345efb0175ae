"""Checks deploy/kubernetes/ without a cluster: against the API schemas that kubernetes-validate carries, and by running
what each injector would start, with its own arguments, as a dry run.

usage: manifests.py BINARY"""

import subprocess
import sys

import kubernetes_validate
import yaml
from injection import deploy, injected, overlaid, top

VERSIONS = ["1.25", "1.31", "1.37"]
binary = sys.argv[1]


def validate(manifest):
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


def run_init(pod, expected):
    """Starts the init container's command as a dry run; its rules must name what this mesh alone has."""
    validate(pod)
    init = pod["spec"]["initContainers"][0]
    assert init["name"] == "istio-init" and init["image"] == "prepare-proxy:0.1.0", init
    name = init.get("command", ["prepare-proxy"])[0]
    done = subprocess.run([name, *init["args"], "--dry-run"], executable=binary, capture_output=True, text=True)
    assert done.returncode == 0, f"{name} {init['args']}: {done.stderr}"
    assert expected in done.stdout, f"{name} {init['args']}: no {expected} in\n{done.stdout}"


def edited(release):
    """An injector's sample after its sed script: the init container is another, and nothing else."""
    sample = (top / f"scripts/e2e.d/injectors/istio-{release}.yaml").read_text()
    script = ["sed", "-f", deploy / f"istio-{release}-injector.sed"]
    once = subprocess.run(script, input=sample, capture_output=True, text=True, check=True).stdout
    twice = subprocess.run(script, input=once, capture_output=True, text=True, check=True).stdout
    assert once == twice, f"{script} is not the same a second time: {twice}"
    before, after = injected(sample)["spec"], injected(once)["spec"]
    assert after["initContainers"][1:] == before["initContainers"][1:], f"{script} changes another container: {once}"
    assert after["containers"] == before["containers"], f"{script} changes another container: {once}"
    return once


def misspelt_is_refused(manifest):
    wrong = yaml.safe_load(yaml.safe_dump(manifest).replace("readOnlyRootFilesystem", "readonlyRootFilesystem"))
    try:
        validate(wrong)
    except kubernetes_validate.ValidationError:
        return
    raise AssertionError("the schemas accept a field that does not exist")


manifests = [m for f in sorted(deploy.glob("*.yaml")) for m in yaml.safe_load_all(f.read_text()) if "kind" in m]
for manifest in manifests:
    validate(manifest)
misspelt_is_refused(next(m for m in manifests if m["kind"] == "Pod"))
run_init(injected(edited("0.7")), "--to-ports 15001")
run_init(injected(edited("1.0")), "--dport 9090")
run_init(overlaid(), "--to-ports 15006")
print(f"ok    {len(manifests)} manifests and the pods of 3 injectors fit the API schemas of Kubernetes {', '.join(VERSIONS)}; "
      "their init commands are accepted")
