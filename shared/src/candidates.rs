//! Which backend of a set a connection tries next when the first one does not answer.
//!
//! The order is that in which backends first appear in the Maglev table from the connection's slot on. It depends on the set
//! and the hash alone, so every worker and every node has the same one, and what goes from one backend spreads over all
//! others by their weights.

use std::net::IpAddr;

use crate::endpoint::{Backend, EndpointSet};

/// Slots of the table that are looked at: a default table has 100 for each backend, well mixed.
const SLOTS: usize = 1024;
/// Backends that are told apart on the way.
const TOLD_APART: usize = 16;
/// Backends beside the present one that are asked when none of those is fit.
const BESIDE: usize = 64;

/// The backends that were passed, by their places in the set.
struct Passed {
    places: [u32; TOLD_APART],
    count: usize,
}

impl Passed {
    fn places(&self) -> &[u32] {
        self.places.get(..self.count).unwrap_or_default()
    }

    /// Notes one more; false when there is no room.
    fn push(&mut self, place: u32) -> bool {
        let Some(free) = self.places.get_mut(self.count) else { return false };
        *free = place;
        self.count += 1;
        true
    }
}

impl EndpointSet {
    /// The backend that a connection with this hash tries after the one with the address and port of `present`: the next
    /// in its order that is `fit`; behind the last one it begins anew. `None` where no other one is.
    pub fn next_candidate(
        &self,
        hash: u64,
        present: (IpAddr, u16),
        mut fit: impl FnMut(&Backend) -> bool,
    ) -> Option<&Backend> {
        let at = |place: u32| self.backends().get(place as usize);
        let is_present = |backend: &Backend| (backend.address, backend.port) == present;
        let (table, slots) = (self.table(), self.table().slots());
        let first = table.slot(hash);
        let mut passed = Passed { places: [0; TOLD_APART], count: 0 };
        let mut is_behind = false;
        for step in 0..slots.min(SLOTS) {
            let Some(place) = table.at((first + step) % slots) else { break };
            if passed.places().contains(&place) {
                continue;
            }
            let backend = at(place)?;
            if is_present(backend) {
                is_behind = true;
            } else if is_behind && fit(backend) {
                return Some(backend);
            }
            if !passed.push(place) {
                break;
            }
        }
        let before = passed.places().iter().filter_map(|place| at(*place));
        let other = |backend: &&Backend| !is_present(backend) && fit(backend);
        let mut fit_ones = before.chain(self.beside(present)).filter(other);
        fit_ones.next()
    }

    /// A few backends beside the present one, in the order of their addresses.
    fn beside(&self, present: (IpAddr, u16)) -> impl Iterator<Item = &Backend> {
        let backends = self.backends();
        let next = backends.partition_point(|backend| (backend.address, backend.port) <= present);
        let (before, behind) = backends.split_at(next);
        behind.iter().chain(before).take(BESIDE).filter(|backend| backend.weight > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::BackendId;

    fn backend(number: usize, weight: u16) -> Backend {
        let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number as u32));
        Backend { id: BackendId(number as u32), address, port: 80, weight }
    }

    fn key(backend: &Backend) -> (IpAddr, u16) {
        (backend.address, backend.port)
    }

    proptest! {
        #[test]
        fn it_is_another_fit_member_wherever_there_is_one(
            weights in proptest::collection::vec(1u16..4, 1..40), unfit: u64, present in 0usize..48, hash: u64,
        ) {
            let set = EndpointSet::new(weights.iter().enumerate().map(|(n, weight)| backend(n, *weight)).collect());
            let present = key(&backend(present, 1));
            let is_fit = |backend: &Backend| unfit >> (backend.id.0 % 64) & 1 == 0;
            let next = set.next_candidate(hash, present, is_fit);
            let others: BTreeSet<u32> =
                set.backends().iter().filter(|b| key(b) != present && is_fit(b)).map(|b| b.id.0).collect();
            prop_assert_eq!(next.is_some(), !others.is_empty());
            prop_assert!(next.is_none_or(|next| others.contains(&next.id.0)));
            prop_assert_eq!(next, set.next_candidate(hash, present, is_fit), "twice the same");
        }

        #[test]
        fn who_goes_on_has_tried_all_before_one_comes_again(count in 2usize..12, hash: u64) {
            let set = EndpointSet::new((0..count).map(|number| backend(number, 1)).collect());
            let first = set.select(hash).unwrap();
            let mut tried = vec![first.id.0];
            let mut present = first;
            for _ in 1..count {
                present = set.next_candidate(hash, key(present), |_| true).unwrap();
                tried.push(present.id.0);
            }
            prop_assert_eq!(tried.iter().collect::<BTreeSet<_>>().len(), count, "{:?}", tried);
            prop_assert_eq!(set.next_candidate(hash, key(present), |_| true), Some(first));
        }
    }

    #[test]
    fn what_leaves_one_spreads_over_the_others_and_nothing_goes_to_a_weight_of_zero() {
        let weights = [1, 1, 2, 0];
        let set = EndpointSet::new(weights.iter().enumerate().map(|(n, weight)| backend(n, *weight)).collect());
        let mut moved = [0u32; 4];
        for number in 0..40_000u64 {
            let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            if set.select(hash).unwrap().id.0 == 0 {
                moved[set.next_candidate(hash, key(&backend(0, 1)), |_| true).unwrap().id.0 as usize] += 1;
            }
        }
        let all: u32 = moved.iter().sum();
        assert_eq!((moved[0], moved[3]), (0, 0), "{moved:?}");
        assert!((0.23..0.43).contains(&(f64::from(moved[1]) / f64::from(all))), "{moved:?}");
    }
}
