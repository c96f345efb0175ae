# shellcheck shell=bash
# What can be said of the Debian package before it is installed anywhere that boots.

# check_package FILE
check_package() {
    lintian_is_silent "$1"
    pages_are_there "$1"
    comes_and_goes_without_systemd "$1"
}

lintian_is_silent() {
    local said
    said=$(lintian --no-cfg --allow-root --tag-display-limit 0 "$1" 2>&1) || die "lintian: $said"
    [[ -z $said ]] || die "lintian: $said"
    proved "lintian has no error and no warning"
}

# Every manual page that one of its pages points to.
pages_are_there() {
    local files page
    files=$(dpkg --fsys-tarfile "$1" | tar -t)
    for page in $(dpkg --fsys-tarfile "$1" | tar -x --to-command 'case $TAR_FILENAME in *.1.gz) gzip -d ;; *) cat >/dev/null ;; esac' |
        tr -d '\\' | grep -oE '(prepare-proxy|istio-iptables)[a-z-]*\(1\)' | sort -u); do
        [[ $files == *"./usr/share/man/man1/${page%(1)}.1.gz"* ]] || die "a manual page points to $page, which is not packaged"
    done
    [[ -n ${page:-} ]] || die "the manual pages point to no other"
    proved "each manual page that another points to is packaged"
}

# In a tree without systemctl, such as a container's.
comes_and_goes_without_systemd() {
    unshare --mount --net bash -ec '
        mount -t tmpfs tree /mnt
        mkdir /mnt/upper /mnt/work /mnt/root
        mount -t overlay tree -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
        cp "$2" /mnt/root/package.deb
        ! chroot /mnt/root sh -c "command -v systemctl" || { echo "systemctl is there"; exit 1; }
        chroot /mnt/root dpkg --install package.deb
        chroot /mnt/root prepare-proxy --dry-run -p 15001 -u 1337 >/dev/null
        chroot /mnt/root dpkg --purge prepare-proxy
        ! chroot /mnt/root find / -xdev -name "*prepare-proxy*" -not -path "/var/log/*" | grep .' \
        - "$work/debian" "$1" >"$work/dpkg-without-systemd.log" 2>&1 ||
        die "the package where systemd is not: $(tail -n 5 "$work/dpkg-without-systemd.log")"
    proved "dpkg -i and -P on a system without systemctl: nothing is left"
}
