//! Which packets two rulesets treat differently.

use super::sets::Set;
use super::space::Space;
use super::{Ended, Picture};

/// Packets that are treated differently.
#[derive(Clone, Debug)]
pub struct Difference<'p> {
    pub packets: Set,
    pub before: &'p Ended,
    pub after: &'p Ended,
}

/// All packets that both pictures are about, that are determined in both, and of which another end
/// or another mark, zone or address comes in the one than in the other.
pub fn differing<'p>(
    space: &mut Space,
    before: &'p Picture,
    after: &'p Picture,
) -> Vec<Difference<'p>> {
    let unclear = space.or(before.undetermined, after.undetermined);
    let mut differences = Vec::new();
    for one in &before.ends {
        let clear = space.without(one.set, unclear);
        for other in &after.ends {
            let both = space.and(clear, other.set);
            if space.is_empty(both) {
                continue;
            }
            let differ = match one.fate == other.fate {
                true => arrive_differently(space, one, other),
                false => Set::ALL,
            };
            let packets = space.and(both, differ);
            if !space.is_empty(packets) {
                differences.push(Difference {
                    packets,
                    before: one,
                    after: other,
                });
            }
        }
    }
    differences
}

/// The packets that are not the same when they arrive.
fn arrive_differently(space: &mut Space, one: &Ended, other: &Ended) -> Set {
    let (Some(one), Some(other)) = (&one.arrived, &other.arrived) else {
        return Set::NONE;
    };
    if one.zone != other.zone {
        return Set::ALL;
    }
    let fields = one.header.iter().zip(&other.header);
    fields.fold(Set::NONE, |found, (a, b)| {
        let unequal = space.unequal(a, b);
        space.or(found, unequal)
    })
}
