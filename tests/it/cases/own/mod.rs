//! Cases that nobody recorded: what users of such tools were hurt by, and every option once.

mod istio;
mod istio_1_0;
mod linkerd;
mod nginmesh;

use super::{Case, Expect};

/// One row: the mesh, or the subcommand, a name, the command line, and what else the host says.
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
    addresses: &[V4],
    resolv_conf: "",
};

const V4: &str = "10.244.1.17/24";
const V6: &str = "fd00:10:244::17/64";
const LINK_LOCAL: &str = "fe80::17/64";

pub fn cases() -> impl Iterator<Item = Case> {
    let rows = [nginmesh::ROWS, istio_1_0::ROWS, istio::ROWS, linkerd::ROWS];
    rows.into_iter().flatten().map(|row| Case {
        name: format!("{}-{}", row.mesh, row.name),
        prefix: match row.mesh {
            "istio-iptables" | "proxy-init" => vec![row.mesh.to_owned()],
            mesh => vec!["--mesh".to_owned(), mesh.to_owned()],
        },
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
