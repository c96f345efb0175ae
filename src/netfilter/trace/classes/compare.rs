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
        let mut left = space.without(one.set, unclear);
        // Most packets end alike, which no other end has to be compared for.
        if let Some(same) = after.ends.iter().find(|other| one.is_alike(other)) {
            left = space.without(left, same.set);
        }
        for other in &after.ends {
            if space.is_empty(left) {
                break;
            }
            let both = space.and(left, other.set);
            if space.is_empty(both) {
                continue;
            }
            left = space.without(left, both);
            let packets = match one.fate == other.fate {
                true => arrive_differently(space, both, one, other),
                false => both,
            };
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

/// The packets of a set that are not the same when they arrive.
fn arrive_differently(space: &mut Space, among: Set, one: &Ended, other: &Ended) -> Set {
    let (Some(one), Some(other)) = (&one.arrived, &other.arrived) else {
        return Set::NONE;
    };
    if one.zone != other.zone {
        return among;
    }
    let fields = one.header.iter().zip(&other.header);
    fields.fold(Set::NONE, |found, (a, b)| {
        let unequal = space.unequal(among, a, b);
        space.or(found, unequal)
    })
}
