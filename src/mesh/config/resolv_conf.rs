//! The nameservers of /etc/resolv.conf, see resolv.conf(5).

use std::net::{IpAddr, Ipv4Addr};

/// Where the resolver looks for it.
pub const PATH: &str = "/etc/resolv.conf";

/// Docker's nameserver in the containers of its networks. It listens on another port, which rules of
/// docker's in nat OUTPUT translate queries to.
pub const DOCKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Whether docker's nameserver is among those of this text.
pub(super) fn names_docker(text: &str) -> bool {
    nameservers(text).contains(&IpAddr::V4(DOCKER))
}

/// The addresses behind `nameserver`, in their order and without the scopes of IPv6 (`%eth0`), which
/// rules cannot match. A line whose word is not an address has no effect, as for the resolver.
pub fn nameservers(text: &str) -> Vec<IpAddr> {
    let words = text.lines().map(str::split_whitespace);
    let named = words.filter_map(|mut words| match words.next() {
        Some("nameserver") => words.next(),
        _ => None,
    });
    named.filter_map(address).collect()
}

fn address(word: &str) -> Option<IpAddr> {
    match word.split_once('%') {
        Some((address, _)) => address.parse().ok().map(IpAddr::V6),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nameservers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 1.1.1.1\n;nameserver 2.2.2.2\nsearch a b\noptions ndots:5\n\
                    nameserver 10.96.0.10\nnameserver\t fe80::1%eth0 # local\nnameserver\n\
                    nameserver dns.example\nnameserver 127.0.0.1%lo\nnameserver 10.96.0.10\n\
                    nameservers 3.3.3.3\n";
        let expected = ["10.96.0.10", "fe80::1", "10.96.0.10"];
        let expected: Vec<IpAddr> = expected.map(|a| a.parse().unwrap()).into();
        assert_eq!(nameservers(text), expected);
        assert_eq!(nameservers(""), Vec::<IpAddr>::new());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(nameserver|[a-z0-9.:% \\n#;])*") {
            let _ = nameservers(&text);
        }
    }
}
