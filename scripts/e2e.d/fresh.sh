# shellcheck shell=bash
# The machine of the part fresh: see e2e.d/fresh for what happens there.

# A base to begin with, kept; and from it the machine, made anew each time.
make_fresh_machine() {
    if [[ ! -e $work/fresh-base.done ]]; then
        rm -rf "$work/fresh-base"
        cp -a "$work/debian" "$work/fresh-base"
        unshare --mount chroot "$work/fresh-base" sh -ec '
            export DEBIAN_FRONTEND=noninteractive
            apt-get update -qq
            apt-get install -y -qq --no-install-recommends git sudo ca-certificates
            rm -rf /var/lib/apt/lists/*
            useradd --create-home --uid 1000 --shell /bin/bash me
            echo "me ALL=(ALL:ALL) NOPASSWD: ALL" >/etc/sudoers.d/me
            echo "Defaults env_keep += \"http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY\"" \
                >>/etc/sudoers.d/me' >"$work/fresh-base.log" 2>&1 || die "the fresh machine: $(tail -n 3 "$work/fresh-base.log")"
        touch "$work/fresh-base.done"
    fi
    drop_fresh_machine
    cp -a "$work/fresh-base" "$work/fresh"
    cp /etc/hosts /etc/resolv.conf "$work/fresh/etc/"
    # Whom this machine trusts beside the public authorities.
    [[ ! -e $authorities ]] || cp -L "$authorities" "$work/fresh/etc/ssl/certs/ca-certificates.crt"
    give_rust "$work/fresh/home/me"
    as_builder rm -rf "$work/fresh.git"
    as_builder git clone -q --bare "file://$top" "$work/fresh.git"
    mv "$work/fresh.git" "$work/fresh/srv/prepare-proxy.git"
    chown -R root:root "$work/fresh/srv/prepare-proxy.git"
}

# give_rust HOME: the toolchain that builds here, for ~/.cargo/bin there; no crate of those that were downloaded here.
give_rust() {
    local program
    mkdir -p "$1/rust" "$1/.cargo/bin"
    for program in "$(rustc --print sysroot)"/bin/*; do
        ln -s "../../rust/bin/${program##*/}" "$1/.cargo/bin/"
    done
    [[ ! -e $cargo_home/config.toml ]] || cp "$cargo_home/config.toml" "$1/.cargo/"
    chown -hR 1000:1000 "$1"
}

drop_fresh_machine() { rm -rf --one-file-system "$work/fresh"; }
