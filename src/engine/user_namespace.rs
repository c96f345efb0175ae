//! Users and groups that a user namespace does not map: the kernel refuses rules about them with no
//! more than "Invalid argument".

use crate::engine::host;
use crate::netfilter::model::{Owner, Rule, Ruleset, Test};
use std::path::Path;

/// The owners in `desired` that this user namespace does not map.
pub(crate) fn unmapped(desired: &Ruleset) -> Vec<Owner> {
    let [uids, gids] = ["/proc/self/uid_map", "/proc/self/gid_map"].map(Map::read);
    let mut missing: Vec<Owner> = desired
        .rules()
        .flat_map(owners)
        .filter(|owner| match owner {
            Owner::Uid(id) => !uids.has(*id),
            Owner::Gid(id) => !gids.has(*id),
        })
        .collect();
    missing.sort_by_key(|owner| match owner {
        Owner::Uid(id) => (0, *id),
        Owner::Gid(id) => (1, *id),
    });
    missing.dedup();
    missing
}

fn owners(rule: &Rule) -> impl Iterator<Item = Owner> + '_ {
    rule.matches.iter().filter_map(|m| match m.test {
        Test::Owner(owner) => Some(owner),
        _ => None,
    })
}

/// The mapped ids, as user_namespaces(7) describes the file; all ids if there is no such file.
struct Map(Option<Vec<(u32, u32)>>);

impl Map {
    fn read(path: &str) -> Self {
        let text = host::file(Path::new(path)).ok();
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map(|n| n.parse().ok());
            Some((numbers.next()??, numbers.nth(1)??))
        };
        Map(text.map(|t| t.text.lines().filter_map(range).collect()))
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
