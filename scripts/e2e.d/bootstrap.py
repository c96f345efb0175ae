"""Envoy's bootstrap as an injector writes it: bootstrap.py STYLE, or imported. One line of access log for each connection."""
import json
import sys

LOOPBACK = ("127.0.0.1", "::1")
POD = ("10.66.0.2", "fd66::2")
NAMESERVER = "10.66.0.1"
RESOLVED = "203.0.113.53"  # what the table of the DNS filter says of mesh.example
LOG = "%s from=%%DOWNSTREAM_REMOTE_ADDRESS%% to=%%DOWNSTREAM_LOCAL_ADDRESS%% upstream=%%UPSTREAM_HOST%% as=%%UPSTREAM_LOCAL_ADDRESS%%\n"

# The ports for outbound and inbound, and the addresses from which the proxy connects to the application: none is the
# client's own. With one port for both, inbound traffic is handed to loopback: connections to the pod's own address would
# come back to the proxy, again and again.
STYLES = {
    "one-port": (15001, 15001, LOOPBACK),
    "one-port-tproxy": (15001, 15001, LOOPBACK),
    "istio": (15001, 15006, ("127.0.0.6", "::6")),
    "istio-tproxy": (15001, 15006, None),
    "linkerd": (4140, 4143, POD),
}


def typed(name, kind, **fields):
    """An extension, by its name and its message type after envoy.extensions."""
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **fields}}


def address(host, port, protocol="TCP"):
    return {"socket_address": {"address": host, "port_value": port, "protocol": protocol}}


RESTORE = typed("envoy.filters.listener.original_dst", "filters.listener.original_dst.v3.OriginalDst")
AS_CLIENT = typed("envoy.filters.listener.original_src", "filters.listener.original_src.v3.OriginalSrc", mark=1337)


def forward(name, cluster):
    """The one filter of a chain: passes a connection on to the cluster, and logs it under the name when it ends."""
    log = typed("log", "access_loggers.stream.v3.StdoutAccessLog", log_format={"text_format_source": {"inline_string": LOG % name}})
    return [typed("tcp", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=name, cluster=cluster, access_log=[log])]


def listener(name, port, protocol="TCP", **fields):
    """For both families."""
    other = [{"address": address("::", port, protocol)}]
    return {"name": name, "address": address("0.0.0.0", port, protocol), "additional_addresses": other, **fields}


def original(name, *sources):
    """A cluster that is wherever the connection was going, and that is connected to from these addresses."""
    cluster = {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s"}
    if sources:
        first, *others = (address(source, 0)["socket_address"] for source in sources)
        cluster["upstream_bind_config"] = {"source_address": first, "extra_source_addresses": [{"address": o} for o in others]}
    return cluster


def static(host, port):
    """A cluster of one address, whose name is that address."""
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(host, port)}}]}]
    return {"name": host, "type": "STATIC", "load_assignment": {"cluster_name": host, "endpoints": endpoints}}


def dns():
    """Answers for mesh.example, and asks the name server for everything else."""
    table = {"virtual_domains": [{"name": "mesh.example", "endpoint": {"address_list": {"address": [RESOLVED]}}}]}
    cares = "network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    resolver = typed("envoy.network.dns_resolver.cares", cares, resolvers=[address(NAMESERVER, 53, "UDP")])
    client = {"max_pending_lookups": 256, "typed_dns_resolver_config": resolver}
    config = {"stat_prefix": "dns", "server_config": {"inline_dns_table": table}, "client_config": client}
    udp = typed("envoy.filters.udp.dns_filter", "filters.udp.dns_filter.v3.DnsFilterConfig", **config)
    yield listener("dns-udp", 15053, "UDP", listener_filters=[udp])
    yield listener("dns-tcp", 15053, listener_filters=[RESTORE], filter_chains=[{"filters": forward("dns", "original")}])


def virtual(style):
    """What listens on the ports that the rules redirect to."""
    outbound, inbound, sources = STYLES[style]
    out = {"filters": forward("out", "original")}
    tproxy = {"transparent": True} if style.endswith("tproxy") else {}
    if outbound == inbound:
        chains = [
            {"filters": forward("in", loopback), "filter_chain_match": {"prefix_ranges": [{"address_prefix": pod, "prefix_len": bits}]}}
            for pod, bits, loopback in zip(POD, (32, 128), LOOPBACK)
        ]
        return [listener("both", outbound, listener_filters=[RESTORE], filter_chains=chains, default_filter_chain=out, **tproxy)]
    filters = [RESTORE] if sources else [RESTORE, AS_CLIENT]
    into = {"filters": forward("in", "inbound")}
    return [
        listener("outbound", outbound, listener_filters=[RESTORE], default_filter_chain=out),
        listener("inbound", inbound, listener_filters=filters, default_filter_chain=into, **tproxy),
    ]


def bootstrap(style):
    ready = listener("ready", 15021, filter_chains=[{"filters": forward("ready", LOOPBACK[0])}])
    clusters = [original("original"), original("inbound", *(STYLES[style][2] or ())), *(static(a, 8080) for a in LOOPBACK)]
    return json.dumps({
        "node": {"id": "sidecar", "cluster": "pod"},
        "admin": {"address": address("127.0.0.1", 15000)},
        "static_resources": {"listeners": [*virtual(style), ready, *dns()], "clusters": clusters},
    })


if __name__ == "__main__":
    print(bootstrap(sys.argv[1]))
