# shellcheck shell=bash
# The two public base images that the Dockerfile names, made here from Debian's packages and this machine's Rust
# toolchain under those very names, so that the Dockerfile is built as it stands and nothing is pulled.

debian_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' | head -n 1
}

# The tree that the images and the booted system start from.
make_debian_tree() {
    [[ -e $work/debian.done ]] && return
    rm -rf "$work/debian"
    unshare --mount debootstrap --variant=minbase bookworm "$work/debian" "$(debian_mirror)" >"$work/debootstrap.log" 2>&1 ||
        die "debootstrap: $(tail -n 3 "$work/debootstrap.log")"
    rm -rf "$work"/debian/var/cache/apt/archives/*.deb "$work"/debian/usr/share/{doc,man,locale}/*
    # As the public image has it: no caches of apt.
    printf 'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n' >"$work/debian/etc/apt/apt.conf.d/docker-clean"
    touch "$work/debian.done"
}

# debian_with NAME PACKAGE...: another tree beside it, with these packages too.
debian_with() {
    local tree=$work/$1
    rm -rf "$tree"
    cp -a "$work/debian" "$tree"
    unshare --mount --pid --fork --kill-child chroot "$tree" sh -ec '
        mount -t proc proc /proc
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"' sh "${@:2}" \
        >"$tree.log" 2>&1 || die "the tree $1: $(tail -n 3 "$tree.log")"
}

# mount_tree NAME: a copy of that tree that is thrown away with this mount namespace, at $root.
mount_tree() {
    root=/mnt/root
    mount -t tmpfs "$1" /mnt
    mkdir /mnt/upper /mnt/work $root
    mount -t overlay "$1" -o "lowerdir=$work/$1,upperdir=/mnt/upper,workdir=/mnt/work" $root
}

make_debian_image() {
    podman image exists $debian_image && return
    tar -C "$work/debian" --numeric-owner -c . | podman import -q - $debian_image >/dev/null
}

# The toolchain itself is mounted when the Dockerfile is built (see build_image).
make_rust_image() {
    podman image exists $rust_image && return
    local c
    c=$(buildah from --pull-never $debian_image)
    buildah run --isolation chroot "$c" -- sh -ec \
        'apt-get update -qq; apt-get install -y -qq --no-install-recommends gcc libc6-dev; mkdir /usr/local/cargo
        printf "#!/bin/sh\n" >/usr/local/bin/rustup; chmod +x /usr/local/bin/rustup' \
        >"$work/rust-image.log" 2>&1 || die "the Rust image: $(tail -n 3 "$work/rust-image.log")"
    buildah config --env CARGO_HOME=/usr/local/cargo --env CARGO_NET_OFFLINE=true \
        --env PATH=/usr/local/rust/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$c"
    buildah commit -q --rm "$c" $rust_image >/dev/null
}

# build_image TARGET NAME [ARGUMENT...]: from $context or what stands here; an empty target is the Dockerfile's default.
build_image() {
    local target=$1 name=$2
    shift 2
    buildah bud --isolation chroot --pull-never --layers ${target:+--target "$target"} -t "$name" \
        -v "$(rustc --print sysroot):/usr/local/rust:ro" -v "$cargo_home/registry:/usr/local/cargo/registry:O" \
        --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "CREATED=$created" \
        "$@" "${context:-$top}" >"$work/build.log" 2>&1 ||
        die "building $name: $(tail -n 20 "$work/build.log")"
}
