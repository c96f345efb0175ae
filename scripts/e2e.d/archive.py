"""The images as an archive that containerd imports: made of the two programs, without a builder.

usage: archive.py PREPARE-PROXY LAB VERSION OUTPUT"""

import hashlib
import io
import json
import platform
import struct
import sys
import tarfile
from pathlib import Path

# As setcap cap_net_admin=ep leaves it: revision 2 with the effective bit, CAP_NET_ADMIN permitted, nothing inheritable.
FILE_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 12, 0, 0, 0).decode()


def layer(program, name, attributes=None):
    """A tree that holds this program in /usr/local/bin."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo(f"usr/local/bin/{name}")
        entry.mode, entry.size, entry.pax_headers = 0o755, len(program), attributes or {}
        tar.addfile(entry, io.BytesIO(program))
    return buffer.getvalue()


def add(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def write(images, path):
    """images: name → (layer, entrypoint)"""
    index = []
    with tarfile.open(path, "w") as archive:
        for number, (name, (content, entrypoint)) in enumerate(images.items()):
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            config = {"os": "linux", "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
                      "config": {"Entrypoint": entrypoint, "Env": ["PATH=/usr/local/bin"]},
                      "rootfs": {"type": "layers", "diff_ids": [digest]}}
            add(archive, f"{number}.json", json.dumps(config).encode())
            add(archive, f"{number}.tar", content)
            index.append({"Config": f"{number}.json", "Layers": [f"{number}.tar"], "RepoTags": [f"docker.io/library/{name}"]})
        add(archive, "manifest.json", json.dumps(index).encode())


program, lab = (Path(p).read_bytes() for p in sys.argv[1:3])
version, output = sys.argv[3:]
entrypoint = ["/usr/local/bin/prepare-proxy"]
write({
    f"prepare-proxy:{version}": (layer(program, "prepare-proxy"), entrypoint),
    f"prepare-proxy:{version}-file-capabilities":
        (layer(program, "prepare-proxy", {"SCHILY.xattr.security.capability": FILE_CAPABILITY}), entrypoint),
    f"prepare-proxy-demo:{version}": (layer(lab, "lab"), ["/usr/local/bin/lab"]),
    # What holds a sandbox open only has to stay.
    "pause:e2e": (layer(lab, "lab"), ["/usr/local/bin/lab", "serve", "udp:127.0.0.1:0"]),
}, output)
