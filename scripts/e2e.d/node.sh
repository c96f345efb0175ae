# shellcheck shell=bash
# A node: Debian with containerd, runc and the CNI plugins, in a tree of its own. See e2e.d/node for how it runs.

# What pods are made of, and the client of CRI.
make_node() {
    RUSTFLAGS='-C target-feature=+crt-static' build --release --locked --target "$host"
    build_lab
    make_debian_tree
    make_node_tree
    make_venv
    as_builder python3 scripts/e2e.d/archive.py "$target_dir/$host/release/prepare-proxy" "$lab" "$version" "$work/node-images.tar"
}

make_node_tree() {
    [[ -e $work/node.done ]] && return
    debian_with node containerd runc containernetworking-plugins
    touch "$work/node.done"
}

# on_node PART: runs scripts/e2e.d/PART.py there.
on_node() {
    isolated "$top/scripts/e2e.d/node" "$1" "$lab"
}
