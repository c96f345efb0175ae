# shellcheck shell=bash
# What every part of scripts/e2e shares, after need_rust. $work is where everything it makes lives.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

top=$PWD
work=$target_dir/e2e
as_builder mkdir -p "$work"

rust_image=localhost/$(sed -n 's/^ARG RUST_IMAGE=//p' "$top/Dockerfile")
debian_image=localhost/$(sed -n 's/^ARG DEBIAN_IMAGE=//p' "$top/Dockerfile")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1)
revision=$(as_builder git -C "$top" rev-parse HEAD)
created=$(as_builder env TZ=UTC git -C "$top" log -1 --format=%cd --date=format-local:%FT%TZ)
image=localhost/prepare-proxy:$version
image_iptables=$image-iptables
image_caps=$image-file-capabilities
image_demo=localhost/prepare-proxy-demo:$version
image_linkerd=localhost/linkerd-proxy:$version
image_linkerd_init=localhost/proxy-init:$version

export CONTAINERS_STORAGE_CONF=$work/storage.conf
export CONTAINERS_CONF=$work/containers.conf
export CONTAINERS_REGISTRIES_CONF=$work/registries.conf

# One line about what was proved.
proved() { printf 'ok    %s\n' "$*"; }
# want TEXT PATTERN WHAT: the text holds a line that matches the extended regular expression.
want() {
    grep -qE -- "$2" <<<"$1" || die "$3: wanted /$2/ in:
${1:0:2000}"
}

# by_proxy ANSWER WHO WHAT, direct ANSWER WHO WHAT: the way that a connection of the lab took.
by_proxy() { want "$1" ' by=proxy:15001 .* > by='"$2" "$3"; }
direct() { want "$1" "^to=[^ ]+ by=$2" "$3"; }

# Waits until COMMAND succeeds; the limit is against hangs alone.
eventually() {
    local end=$((SECONDS + 120))
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || die "still not so after two minutes: $*"
        sleep 0.1
    done
}
