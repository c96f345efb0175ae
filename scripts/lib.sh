# What the scripts beside this file share. To be sourced by bash, first thing.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/sbin:/sbin"

# Colours only where somebody looks.
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' dim='' green='' plain=''
fi

# What the static binary with everything may weigh, in bytes; an empty static program of the same target weighs 1.1 MB.
# shellcheck disable=SC2034
size_budget=3650000

# How many instructions it may execute in an apply, without any variables and in a new network namespace; an empty program
# executes 83,000.
# shellcheck disable=SC2034
instruction_budget=550000

# Whom this machine trusts.
# shellcheck disable=SC2034
authorities=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Root, and of its capabilities those that make namespaces and what is in them: numbers as in capabilities(7)'s header.
need_root() {
    ((EUID == 0)) || die "needs root, for network namespaces of its own (nothing outside them is changed): sudo $0"
    local effective one missing=()
    effective=0x$(sed -n 's/^CapEff:\t//p' /proc/self/status)
    for one in CAP_NET_ADMIN=12 CAP_SYS_ADMIN=21; do
        ((effective >> ${one#*=} & 1)) || missing+=("${one%=*}")
    done
    ((${#missing[@]} == 0)) ||
        die "root lacks ${missing[*]} here and cannot make namespaces of its own; in a container: docker run --privileged"
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
    ((EUID == 0)) || die "please install: sudo apt-get install ${missing[*]}"
    printf 'Installing %s\n' "${missing[*]}" >&2
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
    fi
}

# as_builder COMMAND...: as the user who called sudo, if it was one with Rust; see need_rust.
as_builder() {
    if [[ -z ${builder:-} ]]; then
        "$@"
    else
        setpriv --reuid "$SUDO_UID" --regid "$SUDO_GID" --init-groups env HOME="$builder" "$@"
    fi
}

# Finds Rust and what it needs to link. Under sudo it is the invoking user's, from their home, and that user builds:
# nothing in their checkout or in ~/.cargo becomes root's. Sets for this script and those that it starts:
#   builder      that user's home, or nothing
#   cargo_home   where the crates are
#   host         the target that rustc builds for by itself
#   target_dir   where cargo builds, whoever said where
need_rust() {
    install_missing cc=gcc /usr/include/stdlib.h=libc6-dev
    export builder='' cargo_home host target_dir
    local home=${HOME:-/root}
    if ((EUID == 0 && ${SUDO_UID:-0} != 0)); then
        home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
        builder=$home
        if PATH=${CARGO_HOME:-$home/.cargo}/bin:$PATH as_builder sh -c 'command -v cargo && test -w .' >/dev/null; then
            # What root runs of it is the same, and gives back what it wrote.
            export CARGO_HOME=${CARGO_HOME:-$home/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup}
            trap give_back EXIT
        else
            builder='' home=${HOME:-/root}
        fi
    fi
    cargo_home=${CARGO_HOME:-$home/.cargo}
    [[ :$PATH: == *:$cargo_home/bin:* ]] || PATH=$cargo_home/bin:$PATH
    command -v cargo >/dev/null || die 'needs Rust: https://rustup.rs'
    host=$(as_builder rustc -vV | sed -n 's/^host: //p')
    target_dir=$(as_builder cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    [[ -n $host && -n $target_dir ]] || die 'cannot tell what cargo builds for, or where: see cargo metadata --no-deps'
}

# What tests that ran as root left among the builder's files. Whole systems, which scripts/e2e makes, stay root's.
give_back() {
    local place
    [[ -n ${builder:-} ]] || return 0
    for place in "$PWD" "$target_dir" "$cargo_home"; do
        [[ ! -d $place ]] ||
            find "$place" -xdev -path "$target_dir/e2e" -prune -o -user 0 -exec chown -h "$SUDO_UID:$SUDO_GID" {} +
    done
}

# build CARGO-ARGUMENT...
build() {
    [[ -n ${target_dir:-} ]] || need_rust
    as_builder cargo build "$@"
}

# Builds a program with nothing in main, in the same profile, for $target; prints where it is.
empty_program() {
    local dir=$target_dir/empty-program
    as_builder mkdir -p "$dir/src"
    {
        printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n'
        sed -n '/^\[profile.release\]/,/^$/p' Cargo.toml
    } >"$dir/Cargo.toml"
    printf 'fn main() {}\n' >"$dir/src/main.rs"
    build --release --target "$target" --manifest-path "$dir/Cargo.toml" --target-dir "$dir/target"
    printf '%s\n' "$dir/target/$target/release/empty"
}
