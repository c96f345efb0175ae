"""Prints the notices of what the shipped program contains, for deploy/third-party.txt, from what cargo knows.

usage: notices.py >deploy/third-party.txt"""

import json
import re
import subprocess
import sys
from pathlib import Path

TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
HEAD = """\
prepare-proxy is licensed under the Apache License 2.0. It contains these works of others.

Under the Apache License 2.0, as prepare-proxy itself (the file LICENSE):

  {}

Linked into static builds: the GNU C Library (https://www.gnu.org/software/libc/), under the GNU Lesser General Public
License 2.1 or later, or musl (https://musl.libc.org), under the MIT licence. The source of prepare-proxy and Cargo.lock
are all it takes to link it with another version.

Under terms of their own, each as its authors give them:
"""


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def shipped():
    """What is linked in: neither what tests need nor what only runs inside the compiler."""
    names = set()
    for target in TARGETS:
        tree = cargo("tree", "--locked", "--target", target, "--edges", "normal,no-proc-macro", "--prefix", "none")
        names |= {tuple(line.split()[:2]) for line in tree.splitlines()}
    known = json.loads(cargo("metadata", "--locked", "--format-version", "1"))
    found = [p for p in known["packages"] if (p["name"], "v" + p["version"]) in names and p["source"]]
    return sorted(found, key=lambda p: p["name"])


def by_apache(package):
    """Whether the Apache License alone is enough: one of the alternatives is that and nothing else."""
    return "Apache-2.0" in re.split(r" OR |/", package["license"])


def texts(package):
    directory = Path(package["manifest_path"]).parent
    files = [f for f in sorted(directory.iterdir()) if re.match(r"(LICEN[CS]E|COPYING|UNLICENSE|NOTICE)", f.name)]
    if not files:
        sys.exit(f"{package['name']}: no licence text in {directory}")
    return [f.read_text().strip() for f in files]


def notices(package):
    """A work's own NOTICE goes on with it, whatever its licence."""
    directory = Path(package["manifest_path"]).parent
    return [f.read_text().strip() for f in sorted(directory.glob("NOTICE*"))]


def place(package):
    return f"{package['name']}, {package['repository'] or package['homepage']}"


packages = shipped()
apache = [p for p in packages if by_apache(p)]
others = [p for p in packages if not by_apache(p)]
listed = [place(p) for p in apache] + ["the standard library of Rust, https://github.com/rust-lang/rust"]
print(HEAD.format("\n  ".join(listed)))
for package in [p for p in apache if notices(p)] + others:
    found = notices(package) if package in apache else texts(package)
    print("-" * 100)
    print(f"{place(package)}: {package['license']}\n")
    print("\n\n".join(found) + "\n")
