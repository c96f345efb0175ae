# shellcheck shell=bash
# Others who write rules on a machine: whatever they do, ours are back, theirs stay theirs, and nobody fights.

repairs() { journal | grep -c '; restored after' || true; }

# whole WHAT: the rules are as they were when $wanted was taken, and take connections to the proxy.
whole() {
    eventually as_wanted || die "$1: the rules are not back: $(diff <(printf '%s\n' "$wanted") <(rules))"
    by_proxy "$(from_app 10.63.240.5:80)" elsewhere:80 "out, after $1"
    direct "$(from_app 203.0.113.5:80)" elsewhere:80 "out, elsewhere, after $1"
}
as_wanted() { [[ $(rules) == "$wanted" ]]; }

# disturbed WHAT COMMAND...: what the machine does about it.
disturbed() {
    local what=$1
    shift
    vm "$@" >>"$work/firewalls.log" 2>&1 || die "$what: $(tail -n 3 "$work/firewalls.log")"
    whole "$what"
}

firewalls() {
    local wanted before
    wanted=$(rules)
    before=$(repairs)
    firewalld
    ufw
    nftables_service
    docker_like
    ! journal | grep -q 'keeps removing' || die "somebody was fought: $(journal | grep 'keeps removing')"
    journal | grep '; restored after' | sed -E 's/ \(pid [0-9]+\)//; s/;.*//' | sort | uniq -c | sort -rn | sed 's/^/      /'
    proved "firewalld, ufw, nftables.service and docker's way with iptables: the rules are back each time ($(($(repairs) - before)) repairs)"
}

firewalld() {
    disturbed 'the start of firewalld' systemctl start firewalld
    # It says that it is there before its rules are.
    eventually vm nft list table inet firewalld
    whole 'the start of firewalld'
    local rules_of_theirs
    rules_of_theirs=$(vm nft --stateless list table inet firewalld)
    disturbed 'a reload of firewalld' firewall-cmd --reload
    disturbed 'a complete reload of firewalld' firewall-cmd --complete-reload
    [[ $(vm nft --stateless list table inet firewalld) == "$rules_of_theirs" ]] || die "the rules of firewalld are others than before"
    # Nothing goes in or out meanwhile, port 22 neither.
    stop_watching_ssh
    vm firewall-cmd --panic-on >/dev/null
    disturbed 'panic on and off' firewall-cmd --panic-off
    start_watching_ssh
    disturbed 'the stop of firewalld' systemctl stop firewalld
}

ufw() {
    vm ufw allow 22/tcp >/dev/null
    vm ufw allow 15001/tcp >/dev/null
    disturbed 'ufw enable' ufw --force enable
    local rules_of_theirs
    rules_of_theirs=$(vm iptables-save -t filter | grep -e '-A ufw')
    disturbed 'ufw reload' ufw reload
    [[ $(vm iptables-save -t filter | grep -e '-A ufw') == "$rules_of_theirs" ]] || die "the rules of ufw are others than before"
    disturbed 'ufw disable' ufw disable
}

# Its stop is a "flush ruleset", and so is the first line of Debian's configuration.
nftables_service() {
    local before
    before=$(repairs)
    disturbed 'the start of nftables.service' systemctl start nftables
    disturbed 'a restart of nftables.service' systemctl restart nftables
    vm nft list table inet filter >/dev/null || die "the table of nftables.service is gone"
    disturbed 'the stop of nftables.service' systemctl stop nftables
    (($(repairs) > before)) || die "nobody took anything away"
}

# What dockerd does when it starts, and when it makes and removes a network.
docker_like() {
    local script='set -e
        iptables -t nat -N DOCKER
        iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
        iptables -t nat -A OUTPUT ! --dst 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
        iptables -t nat -I POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
        iptables -t filter -N DOCKER-USER
        iptables -t filter -I FORWARD -j DOCKER-USER'
    local before
    before=$(repairs)
    disturbed 'docker'"'"'s rules' sh -c "$script"
    [[ $(vm iptables -t nat -S | grep -c DOCKER) == 3 ]] || die "docker's rules are not whole"
    disturbed 'the removal of docker'"'"'s rules' sh -ec 'iptables -t nat -D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
        iptables -t nat -D OUTPUT ! --dst 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
        iptables -t nat -D POSTROUTING 1; iptables -t nat -X DOCKER
        iptables -t filter -D FORWARD -j DOCKER-USER; iptables -t filter -X DOCKER-USER'
    (($(repairs) == before)) || die "a repair where nothing of ours was touched"
}
