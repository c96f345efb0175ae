//! Cases that nobody recorded: what users of such tools were hurt by, and every option once.

use super::{Case, Expect};

/// One row: the mesh, a name, the command line, and what else the host says.
struct Row {
    mesh: &'static str,
    name: &'static str,
    args: &'static str,
    env: &'static [(&'static str, &'static str)],
    addresses: &'static [&'static str],
    resolv_conf: &'static str,
}

const ROW: Row = Row {
    mesh: "nginmesh",
    name: "",
    args: "",
    env: &[],
    addresses: &["10.244.1.17/24"],
    resolv_conf: "",
};

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { name: "dual-stack", args: "-p 15001 -u 1337 --dual-stack", ..ROW },
    Row { name: "dual-stack-mixed-cidrs", args: "-p 15001 -u 1337 --dual-stack=true -i 10.0.0.0/8,fd00::/8", ..ROW },
    Row { name: "cidrs-of-the-other-family", args: "-p 15001 -u 1337 -i fd00::/8", ..ROW },
    Row { name: "host-bits", args: "-p 15001 -u 1337 -i 10.1.2.3/8", ..ROW },
    Row { name: "every-address", args: "-p 15001 -u 1337 --dual-stack -i 0.0.0.0/0,::/0", ..ROW },
    Row { name: "empty-items", args: "-p 15001 -u 1337 -i ,10.0.0.0/8,,172.16.0.0/12,", ..ROW },
    Row { name: "empty-list-means-all", args: "-p 15001 -u 1337 -i ''", ..ROW },
    Row { name: "several-uids", args: "-p 15001 -u 1337,0,4294967294", ..ROW },
    Row { name: "from-the-environment", env: &[("ENVOY_PORT", "25001"), ("PROXY_UID", "2102"), ("ISTIO_SERVICE_CIDR", "10.0.0.0/8")], ..ROW },
    Row { name: "flags-over-environment", args: "-p 15001", env: &[("ENVOY_PORT", "25001"), ("PROXY_UID", "1337")], ..ROW },
    Row { name: "an-empty-variable-is-unset", args: "-p 15001 -u 1337", env: &[("ISTIO_SERVICE_CIDR", "")], ..ROW },
    Row { name: "variables-of-other-meshes", args: "-p 15001 -u 1337", env: &[("ISTIO_INBOUND_PORTS", "nonsense")], ..ROW },
    Row { name: "long-names", args: "--envoy-port=15001 --proxy-uid 1337 --istio-service-cidr 10.0.0.0/8", ..ROW },
];

pub fn cases() -> impl Iterator<Item = Case> {
    ROWS.iter().map(|row| Case {
        name: format!("{}-{}", row.mesh, row.name),
        prefix: vec!["--mesh".to_owned(), row.mesh.to_owned()],
        args: row.args.split_whitespace().map(unquote).collect(),
        env: row
            .env
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
        addresses: row.addresses.iter().map(|a| a.to_string()).collect(),
        resolv_conf: row.resolv_conf.to_owned(),
        expect: Expect::Accepted,
    })
}

/// `''` stands for an empty argument.
fn unquote(word: &str) -> String {
    if word == "''" {
        String::new()
    } else {
        word.to_owned()
    }
}
