//! Random options of every mesh, such as people give.

use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::fmt;

/// A mesh and what is given for its options.
#[derive(Clone, Debug)]
pub struct Options {
    pub mesh: &'static str,
    pub given: Vec<(&'static str, String)>,
}

impl Options {
    /// Behind the program's name.
    pub fn args(&self) -> Vec<String> {
        let mesh = ["--mesh".to_owned(), self.mesh.to_owned()];
        let given = self.given.iter();
        let given = given.flat_map(|(name, value)| match *value == *"true" {
            true => vec![name.to_string()],
            false => vec![name.to_string(), value.clone()],
        });
        mesh.into_iter().chain(given).collect()
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prepare-proxy --mesh {}", self.mesh)?;
        for (name, value) in &self.given {
            write!(f, " {name} '{value}'")?;
        }
        Ok(())
    }
}

const CIDRS: &[&str] = &[
    "10.0.0.0/8",
    "10.66.0.0/24",
    "10.96.0.0/16",
    "127.0.0.0/8",
    "203.0.113.0/25",
    "203.0.113.9/32",
    "198.51.100.0/24",
    "2001:db8:113::/64",
    "fd00::/8",
    "fd66::/64",
    "::1/128",
];
const PORTS: &[&str] = &[
    "22",
    "53",
    "80",
    "443",
    "8080",
    "9000:9100",
    "15008",
    "15020",
    "15053",
];
/// As Linkerd writes ranges.
const RANGES: &[&str] = &["22", "80", "443", "8080", "9000-9100", "15020"];
const IDS: &[&str] = &["0", "1000", "1337", "4242"];
const LINKS: &[&str] = &["net1", "eth0", "net+", "br0", "lo"];

/// Some of a list, with commas; the empty list too.
fn some(of: &'static [&'static str]) -> BoxedStrategy<String> {
    let most = of.len().min(6);
    subsequence(of, 0..=most)
        .prop_map(|items| items.join(","))
        .boxed()
}

/// The same, or everything.
fn some_or_all(of: &'static [&'static str]) -> BoxedStrategy<String> {
    prop_oneof![some(of), Just("*".to_owned())].boxed()
}

/// At least one.
fn ids() -> BoxedStrategy<String> {
    subsequence(IDS, 1..=2)
        .prop_map(|ids| ids.join(","))
        .boxed()
}

fn one(of: &'static [&'static str]) -> BoxedStrategy<String> {
    select(of).prop_map(str::to_owned).boxed()
}

fn on() -> BoxedStrategy<String> {
    Just("true".to_owned()).boxed()
}

/// An option, in how many of ten sets it is, and its values.
type Row = (&'static str, u32, BoxedStrategy<String>);

fn mesh(mesh: &'static str, rows: Vec<Row>) -> BoxedStrategy<Options> {
    let rows = rows.into_iter().map(|(name, chance, value)| {
        let value = match chance {
            10 => value.prop_map(Some).boxed(),
            chance => weighted(f64::from(chance) / 10.0, value).boxed(),
        };
        value.prop_map(move |value| Some((name, value?)))
    });
    let given = rows.collect::<Vec<_>>();
    given
        .prop_map(move |given| Options {
            mesh,
            given: given.into_iter().flatten().collect(),
        })
        .boxed()
}

/// Options of any mesh.
pub fn options() -> impl Strategy<Value = Options> {
    let nginmesh = mesh(
        "nginmesh",
        vec![
            ("-p", 10, one(&["15001", "25001"])),
            ("-u", 10, ids()),
            ("-i", 7, some_or_all(CIDRS)),
            ("--dual-stack", 5, on()),
        ],
    );
    let istio_1_0 = mesh(
        "istio-1.0",
        vec![
            ("-p", 3, one(&["15001", "25001"])),
            ("-u", 7, ids()),
            ("-g", 3, ids()),
            ("-i", 8, some_or_all(CIDRS)),
            ("-x", 4, some(CIDRS)),
            ("-b", 8, some_or_all(PORTS)),
            ("-d", 5, some(PORTS)),
            ("-m", 4, one(&["TPROXY", "REDIRECT"])),
            ("-z", 2, one(&["25006"])),
            ("-t", 2, one(&["7", "0x2a"])),
            ("-r", 2, one(&["200"])),
            ("--enable-inbound-ipv6", 5, on()),
        ],
    );
    let istio = mesh(
        "istio",
        vec![
            ("-p", 2, one(&["25001"])),
            ("-u", 6, ids()),
            ("-g", 3, ids()),
            ("-i", 8, some_or_all(CIDRS)),
            ("-x", 4, some(CIDRS)),
            ("-b", 8, some_or_all(PORTS)),
            ("-d", 5, some(PORTS)),
            ("-q", 3, some(PORTS)),
            ("-o", 3, some(PORTS)),
            ("-c", 3, some(LINKS)),
            ("-k", 3, some(LINKS)),
            ("-m", 4, one(&["TPROXY", "REDIRECT"])),
            ("-z", 2, one(&["25006"])),
            ("-e", 2, one(&["25008", "8080"])),
            ("-t", 2, one(&["7", "0x2a", "1338"])),
            ("-r", 2, one(&["200"])),
            ("--redirect-dns", 4, on()),
            ("--capture-all-dns", 3, on()),
            ("--drop-invalid", 3, on()),
            ("--dual-stack", 2, on()),
            ("--owner-groups", 2, some(IDS)),
            ("--owner-groups-exclude", 2, some(IDS)),
            ("--loopback-cidr", 2, one(&["127.0.0.0/8", "127.0.0.0/16"])),
        ],
    );
    let linkerd = mesh(
        "linkerd",
        vec![
            ("-p", 2, one(&["25001"])),
            ("-z", 2, one(&["25006"])),
            ("-u", 6, ids()),
            ("-g", 3, ids()),
            ("-x", 4, some(CIDRS)),
            ("--inbound-exclude-cidrs", 4, some(CIDRS)),
            ("-b", 4, some_or_all(RANGES)),
            ("-d", 5, some(RANGES)),
            ("-o", 5, some(RANGES)),
            ("--ipv6", 5, on()),
        ],
    );
    prop_oneof![1 => nginmesh, 2 => istio_1_0, 4 => istio, 1 => linkerd]
}
