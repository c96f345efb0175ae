# What the scripts beside this file share. To be sourced by bash, first thing.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/sbin:/sbin"
[[ -d ${CARGO_HOME:-${HOME:-/root}/.cargo}/bin ]] && PATH="$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"

# Colours only where somebody looks.
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' dim='' green='' plain=''
fi

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need_root() {
    ((EUID == 0)) || die 'needs root, for network namespaces of its own (nothing outside them is changed)'
}

# install_missing PROGRAM=PACKAGE... | /PATH=PACKAGE...
# Installs the Debian packages of those programs and files that are not there yet.
install_missing() {
    local pair missing=()
    for pair; do
        command -v "${pair%%=*}" >/dev/null || [[ -f ${pair%%=*} ]] || missing+=("${pair#*=}")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || die "please install: ${missing[*]}"
    printf 'Installing %s\n' "${missing[*]}" >&2
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
    fi
}

# build CARGO-ARGUMENT...
# Compiles, quietly when there is little to do.
build() {
    install_missing cc=gcc /usr/include/stdlib.h=libc6-dev
    command -v cargo >/dev/null || die 'needs Rust: https://rustup.rs'
    cargo build --quiet "$@"
}
