# shellcheck shell=bash
# A podman and buildah of our own: storage, networks and runtime settings under $work, the host's untouched.

configure_containers() {
    local files
    files=$(ulimit -Hn)
    [[ $files != unlimited ]] || files=1048576
    cat >"$CONTAINERS_STORAGE_CONF" <<END
[storage]
driver = "overlay"
graphroot = "$work/containers/root"
runroot = "$work/containers/run"
END
    cat >"$CONTAINERS_CONF" <<END
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=32768:32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "kubelet"
tmp_dir = "$work/containers/libpod"
[engine.runtimes]
kubelet = ["$top/scripts/e2e.d/runc-as-kubelet"]
[network]
network_backend = "netavark"
network_config_dir = "$work/containers/networks"
END
    printf 'unqualified-search-registries = ["localhost"]\nshort-name-mode = "permissive"\n' >"$CONTAINERS_REGISTRIES_CONF"
    mkdir -p "$work"/containers/{root,run,libpod,networks}
}
