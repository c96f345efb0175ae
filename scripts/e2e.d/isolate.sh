# shellcheck shell=bash
# Runs the parts in network, mount, pid and cgroup namespaces of their own, and tells whether the host stayed as it was.

# Unlike that of a run that was killed: process numbers come again in a new pid namespace.
own_cgroup=prepare-proxy-e2e-$$-$RANDOM

# Every mounted cgroup hierarchy, as "mount point<tab>this process's place in it".
cgroups() {
    local point type options name path
    while read -r _ point type options _; do
        case $type in
            cgroup2) path=$(sed -n 's/^0:://p' /proc/self/cgroup) ;;
            cgroup)
                name=${point##*/}
                path=$(awk -F: -v n="$name" '$2 == n || $2 == "name=" n { print $3 }' /proc/self/cgroup)
                ;;
            *) continue ;;
        esac
        printf '%s\t%s\n' "$point" "${path%/}"
    done </proc/self/mounts
}

# Moves this shell into a cgroup of its own in each hierarchy.
enter_cgroups() {
    local point path own
    own_cgroups=()
    while IFS=$'\t' read -r point path; do
        own=$point$path/$own_cgroup
        mkdir "$own"
        for file in cpuset.cpus cpuset.mems; do
            [[ ! -e $own/$file || -s $point$path/cgroup.controllers ]] || cat "$point$path/$file" >"$own/$file"
        done
        echo $$ >"$own/cgroup.procs"
        own_cgroups+=("$point$path")
    done < <(cgroups)
}

# What was killed just now may take a moment to be gone from them.
leave_cgroups() {
    local above
    for above in "${own_cgroups[@]}"; do
        echo $$ >"$above/cgroup.procs"
        eventually find "$above/$own_cgroup" -depth -type d -exec rmdir {} +
    done
}

# What must be the same before and after.
host_state() {
    ip -o address
    ip rule
    ip -6 rule
    nft list ruleset
    cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding
    sort /proc/self/mounts
    find /run/netns /run/systemd/nspawn /var/lib/machines -mindepth 1 -maxdepth 1 2>/dev/null || true
    find /sys/fs/cgroup -name "$own_cgroup"
}

# isolated COMMAND...: everything it starts, mounts or configures ends with it.
isolated() {
    unshare --net --mount --pid --cgroup --fork --kill-child --mount-proc \
        "$BASH" "$top/scripts/e2e.d/inside" "$@" </dev/null &
    namespace=$!
    wait "$namespace"
    namespace=
}
