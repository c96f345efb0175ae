# shellcheck shell=bash
# A booted Debian in systemd-nspawn, with a cable to this namespace: here 10.99.0.1 and fd99::1, there .2 and ::2.

# The tree: the debootstrapped one and what a small server has.
make_machine_tree() {
    [[ -e $work/machine.done ]] && return
    debian_with machine systemd systemd-sysv dbus openssh-server iproute2 iptables man-db firewalld ufw nftables
    unshare --mount chroot "$work/machine" sh -ec '
        systemctl enable systemd-networkd systemd-networkd-wait-online ssh
        systemctl disable firewalld ufw nftables
        useradd -u 1337 -M -s /usr/sbin/nologin istio-proxy
        useradd -u 1000 -M app' >>"$work/machine.log" 2>&1 || die "the machine's tree: $(tail -n 3 "$work/machine.log")"
    cat >"$work/machine/etc/systemd/network/10-host0.network" <<'END'
[Match]
Name=host0
[Network]
Address=10.99.0.2/24
Address=fd99::2/64
Gateway=10.99.0.1
Gateway=fd99::1
IPv6AcceptRA=no
END
    # A first boot would enable every unit that it finds.
    systemd-machine-id-setup --root="$work/machine" 2>/dev/null
    ln -sf /dev/null "$work/machine/etc/systemd/system/systemd-firstboot.service"
    touch "$work/machine.done"
}

boot() {
    systemd-nspawn --quiet --directory=$root --machine=vm --register=no --keep-unit --network-veth --console=pipe --boot \
        </dev/null >>"$work/console.log" 2>&1 &
    nspawn=$!
    eventually ip link set ve-vm up
    ip address add 10.99.0.1/24 dev ve-vm
    ip address add fd99::1/64 dev ve-vm nodad
    eventually pgrep --parent $nspawn --exact systemd
    leader=$(pgrep --parent $nspawn --exact systemd)
    eventually running
}

running() { [[ $(vm systemctl is-system-running 2>/dev/null) =~ running|degraded ]]; }

# Runs a command in the machine.
vm() { nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup -- "$@"; }

# nspawn ends with 133 where the machine asks to be started again.
reboot() {
    local status=0
    vm systemctl reboot
    wait $nspawn || status=$?
    [[ $status == 133 ]] || die "the machine did not reboot: nspawn ended with $status"
    boot
}

power_off() {
    vm systemctl poweroff
    wait $nspawn || die "the machine did not power off cleanly"
}
