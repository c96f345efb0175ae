//! Users and groups that do not exist in a user namespace: the kernel takes no rule about them, and
//! only says "Invalid argument".

use crate::mesh::config::Host;
use crate::netfilter::model::{Owner, Rule, Ruleset, Test};
use std::path::Path;

/// Says which owners in `wanted` the user namespace does not map, if there are any.
pub(crate) fn explain(wanted: &Ruleset, host: &dyn Host) -> Option<String> {
    let [uids, gids] =
        ["/proc/self/uid_map", "/proc/self/gid_map"].map(|path| Map::read(host, path));
    let chains = wanted.tables.iter().flat_map(|t| &t.chains);
    let mut missing: Vec<String> = chains
        .flat_map(|c| &c.rules)
        .flat_map(owners)
        .filter_map(|owner| match owner {
            Owner::Uid(id) => (!uids.has(id)).then(|| format!("uid {id}")),
            Owner::Gid(id) => (!gids.has(id)).then(|| format!("gid {id}")),
        })
        .collect();
    missing.sort();
    missing.dedup();
    (!missing.is_empty()).then(|| {
        format!(
            "this user namespace has no {} (see /proc/self/uid_map and gid_map): the kernel takes no rule about it, \
             or one that is never true; map it, or give the proxy another user",
            missing.join(", ")
        )
    })
}

fn owners(rule: &Rule) -> impl Iterator<Item = Owner> + '_ {
    rule.matches.iter().filter_map(|m| match m.test {
        Test::Owner(owner) => Some(owner),
        _ => None,
    })
}

/// The ids that exist, as user_namespaces(7) describes the file; all of them where there is none.
struct Map(Option<Vec<(u32, u32)>>);

impl Map {
    fn read(host: &dyn Host, path: &str) -> Self {
        let text = host.file(Path::new(path)).ok();
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map(|n| n.parse().ok());
            Some((numbers.next()??, numbers.nth(1)??))
        };
        Map(text.map(|t| t.lines().filter_map(range).collect()))
    }

    fn has(&self, id: u32) -> bool {
        let inside = |(first, count): &(u32, u32)| id >= *first && id - first < *count;
        self.0
            .as_ref()
            .is_none_or(|ranges| ranges.iter().any(inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_kernel_prints_them() {
        let map = Map(Some(vec![(0, 1), (1000, 10)]));
        let held: Vec<u32> = [0, 1, 999, 1000, 1009, 1010]
            .into_iter()
            .filter(|i| map.has(*i))
            .collect();
        assert_eq!(held, [0, 1000, 1009]);
        assert!(Map(Some(vec![(0, u32::MAX)])).has(1337));
        assert!(Map(None).has(1337));
    }
}
