//! Maglev consistent hashing (Eisenbud et al., NSDI 2016): build on the control side, lookup in the packet path. Pure.
//!
//! Each backend walks its own permutation of the slots; in turns, each takes the next slot of its permutation that is
//! still free. The permutation of a backend depends on its address and port alone, so that every node and every restart
//! builds the same table from the same endpoints.

use std::net::IpAddr;

use crate::address::{address_words, fold};
use crate::endpoint::Backend;

/// The largest table that is built by default, the paper's "small" size.
pub const MAX_DEFAULT_SLOTS: u32 = 65_537;

/// Slots a backend in a default table: a share is then within about 1 % of even.
const SLOTS_PER_BACKEND: u32 = 100;

/// A lookup table: slot to index of the backend in the list the table was built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maglev {
    slots: Slots,
}

// Tables of most Services have few backends: two bytes a slot keep more of them in cache.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Slots {
    Narrow(Box<[u16]>),
    Wide(Box<[u32]>),
}

impl Maglev {
    /// A table of the default size for these backends.
    pub fn for_backends(backends: &[Backend]) -> Self {
        Self::build(backends, default_slots(backends.len()))
    }

    /// A table with `slots` slots, a prime number of at least the number of backends.
    ///
    /// 65,537 slots for 1,000 backends take 0.9 ms on a 2.6 GHz core of its own (`cargo bench --bench maglev`; a busy
    /// machine shows more).
    pub fn build(backends: &[Backend], slots: u32) -> Self {
        // A backend of weight 0 gets nothing; if all are 0 they are all equal.
        let all_zero = backends.iter().all(|backend| backend.weight == 0);
        let weight = |backend: &Backend| if all_zero { 1 } else { u32::from(backend.weight) };
        let heaviest = backends.iter().map(weight).max().unwrap_or(1);
        let mut walks: Vec<Walk> = (0..)
            .zip(backends)
            .filter(|(_, backend)| weight(backend) > 0)
            .map(|(index, backend)| Walk::new(backend, index, weight(backend), slots))
            .collect();
        let mut table = vec![u32::MAX; slots as usize];
        if !walks.is_empty() {
            fill(&mut table, &mut walks, heaviest);
        } else {
            table.clear();
        }
        let slots = if backends.len() <= usize::from(u16::MAX) {
            Slots::Narrow(table.into_iter().map(|index| index as u16).collect())
        } else {
            Slots::Wide(table.into())
        };
        Maglev { slots }
    }

    /// How many slots the table has.
    pub fn slots(&self) -> usize {
        match &self.slots {
            Slots::Narrow(slots) => slots.len(),
            Slots::Wide(slots) => slots.len(),
        }
    }

    /// The slot of a hash: multiply-shift, which needs no division.
    #[inline]
    pub fn slot(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.slots() as u128) >> 64) as usize
    }

    /// The index of the backend in `slot`.
    #[inline]
    pub fn at(&self, slot: usize) -> Option<u32> {
        match &self.slots {
            Slots::Narrow(slots) => slots.get(slot).map(|index| u32::from(*index)),
            Slots::Wide(slots) => slots.get(slot).copied(),
        }
    }

    /// The index of the backend for a hash; `None` only in an empty table.
    #[inline]
    pub fn lookup(&self, hash: u64) -> Option<u32> {
        self.at(self.slot(hash))
    }
}

/// How many steps of a walk are tried at once.
const STRIDE: usize = 4;

/// One backend's walk through its permutation.
struct Walk {
    next: u32,
    /// One to [`STRIDE`] steps ahead.
    ahead: [u32; STRIDE],
    backend: u32,
    weight: u32,
    credit: u32,
}

impl Walk {
    fn new(backend: &Backend, index: u32, weight: u32, slots: u32) -> Self {
        let (offset, skip) = hashes(backend.address, backend.port);
        let next = (offset % u64::from(slots)) as u32;
        // Any skip from 1 to slots - 1 visits every slot once, because slots is prime.
        let skip = (skip % u64::from(slots - 1)) as u32 + 1;
        let mut ahead = [skip; STRIDE];
        for step in 1..STRIDE {
            ahead[step] = forward(ahead[step - 1], skip, slots);
        }
        Walk { next, ahead, backend: index, weight, credit: 0 }
    }

    /// Takes the next free slot of the walk. There must be one.
    #[inline(always)]
    fn take(&mut self, free: &mut Bits, slots: u32) -> u32 {
        loop {
            let [one, two, three, four] = self.ahead;
            let tried = [
                self.next,
                forward(self.next, one, slots),
                forward(self.next, two, slots),
                forward(self.next, three, slots),
            ];
            let mut found = 0;
            for (step, slot) in tried.into_iter().enumerate() {
                found |= free.get(slot) << step;
            }
            if found == 0 {
                self.next = forward(self.next, four, slots);
                continue;
            }
            let slot = tried[found.trailing_zeros() as usize % STRIDE];
            self.next = forward(slot, one, slots);
            free.clear(slot);
            return slot;
        }
    }
}

/// `slot + skip`, around the end.
#[inline(always)]
fn forward(slot: u32, skip: u32, slots: u32) -> u32 {
    let sum = slot + skip;
    // When the sum is below `slots` the difference wraps and is the larger one.
    sum.min(sum.wrapping_sub(slots))
}

/// One bit a slot: it fits the first-level cache where the table would not.
struct Bits(Vec<u64>);

impl Bits {
    fn all_set(length: usize) -> Self {
        Bits(vec![u64::MAX; length.div_ceil(64)])
    }

    #[inline(always)]
    fn get(&self, at: u32) -> u64 {
        self.0[(at / 64) as usize] >> (at % 64) & 1
    }

    #[inline(always)]
    fn clear(&mut self, at: u32) {
        self.0[(at / 64) as usize] &= !(1 << (at % 64));
    }
}

/// Lets the walks take slots in turns until none is free.
///
/// Most of the time goes into trying slots that are taken, the more so the fuller the table is: about ln(slots) tries a
/// slot. They are tried several at a time, so that one step does not wait for the one before.
fn fill(table: &mut [u32], walks: &mut [Walk], heaviest: u32) {
    let slots = table.len() as u32;
    let mut free = Bits::all_set(table.len());
    let mut left = slots;
    loop {
        for walk in walks.iter_mut() {
            // A backend takes its turn as often as its weight in relation to the heaviest says.
            walk.credit += walk.weight;
            if walk.credit < heaviest {
                continue;
            }
            walk.credit -= heaviest;
            let slot = walk.take(&mut free, slots);
            table[slot as usize] = walk.backend;
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }
}

/// The two hashes of a backend: its permutation's offset and skip. Fixed for ever: they decide where connections go.
fn hashes(address: IpAddr, port: u16) -> (u64, u64) {
    let [high, low] = address_words(address);
    let key = fold(high ^ 0x2d35_8dcc_aa6c_78a5, low ^ 0x8bb8_4b93_962e_acc9) ^ u64::from(port);
    let offset = fold(key ^ 0x4b33_a62e_d433_d4a3, 0x4d5a_2da5_1de1_aa47);
    let skip = fold(key ^ 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db);
    (offset, skip)
}

/// The default size: the smallest prime of at least 100 slots a backend, at most 65,537 (or as many as the backends need).
pub fn default_slots(backends: usize) -> u32 {
    let backends = u32::try_from(backends).unwrap_or(u32::MAX / SLOTS_PER_BACKEND);
    let wanted = backends.saturating_mul(SLOTS_PER_BACKEND).min(MAX_DEFAULT_SLOTS);
    next_prime(wanted.max(backends.saturating_mul(2)).max(3))
}

fn next_prime(from: u32) -> u32 {
    let is_prime = |number: u32| number > 1 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d));
    (from..).find(|number| is_prime(*number)).unwrap_or(MAX_DEFAULT_SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::BackendId;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn backends(count: u32) -> Vec<Backend> {
        let backend =
            |n| Backend { id: BackendId(n), address: Ipv4Addr::from_bits(0x0ab4_0000 + n).into(), port: 80, weight: 1 };
        (0..count).map(backend).collect()
    }

    /// How many slots each backend has.
    fn shares(table: &Maglev, backends: usize) -> Vec<u32> {
        let mut shares = vec![0; backends];
        for slot in 0..table.slots() {
            shares[table.at(slot).unwrap() as usize] += 1;
        }
        shares
    }

    /// The paper's pseudo-code, with turns by weight, as plainly as it can be written.
    fn plain(backends: &[Backend], slots: u32) -> Vec<u32> {
        let heaviest = backends.iter().map(|backend| u64::from(backend.weight)).max().unwrap();
        let permutation = |backend: &Backend| -> Vec<u64> {
            let (offset, skip) = hashes(backend.address, backend.port);
            let (offset, skip) = (offset % u64::from(slots), skip % u64::from(slots - 1) + 1);
            (0..u64::from(slots)).map(|step| (offset + step * skip) % u64::from(slots)).collect()
        };
        let mut walks: Vec<_> = backends.iter().map(|backend| permutation(backend).into_iter()).collect();
        let mut table = vec![None; slots as usize];
        for round in 1.. {
            for (index, backend) in backends.iter().enumerate() {
                let turns = |round: u64| round * u64::from(backend.weight) / heaviest;
                if turns(round) == turns(round - 1) {
                    continue;
                }
                let Some(slot) = walks[index].find(|slot| table[*slot as usize].is_none()) else { continue };
                table[slot as usize] = Some(index as u32);
            }
            if table.iter().all(Option::is_some) {
                break;
            }
        }
        table.into_iter().flatten().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_table_is_the_papers(weights in prop::collection::vec(0u16..20, 1..40), slots in 40u32..700, v6 in any::<bool>()) {
            let slots = next_prime(slots);
            let mut backends = backends(weights.len() as u32);
            for (backend, weight) in backends.iter_mut().zip(&weights) {
                backend.weight = *weight;
                if v6 {
                    backend.address = Ipv4Addr::from_bits(backend.id.0).to_ipv6_compatible().into();
                }
            }
            let table = Maglev::build(&backends, slots);
            prop_assert_eq!(table.slots(), slots as usize);
            if weights.iter().any(|weight| *weight > 0) {
                let table: Vec<u32> = (0..table.slots()).map(|slot| table.at(slot).unwrap()).collect();
                prop_assert_eq!(table, plain(&backends, slots));
            } else {
                let shares = shares(&table, backends.len());
                prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn known_tables_stay_what_they_are() {
        // These decide where connections go. If this fails, every user's connections would move with the update.
        let table = Maglev::build(&backends(3), 13);
        let slots: Vec<_> = (0..13).map(|slot| table.at(slot).unwrap()).collect();
        assert_eq!(slots, [2, 0, 0, 0, 1, 1, 0, 2, 2, 1, 1, 0, 2]);
    }

    #[test]
    fn equal_backends_get_equal_shares() {
        // Each takes a turn a round, so shares differ by one slot at most; with 100 slots a backend that is within 1 %.
        for count in [1, 2, 3, 7, 10, 100, 655] {
            let table = Maglev::for_backends(&backends(count));
            let shares = shares(&table, count as usize);
            let (least, most) = (*shares.iter().min().unwrap(), *shares.iter().max().unwrap());
            assert!(most - least <= 1 && least >= 100, "{count}: {least} to {most}");
        }
        let shares = shares(&Maglev::for_backends(&backends(1000)), 1000);
        assert!(shares.iter().all(|share| [65, 66].contains(share)));
    }

    #[test]
    fn hashes_find_the_shares() {
        let backends = backends(10);
        let table = Maglev::for_backends(&backends);
        let mut hits = [0_u32; 10];
        let mut hash = 1_u64;
        for _ in 0..100_000 {
            hash = fold(hash ^ 0x9e37_79b9_7f4a_7c15, 0xe703_7ed1_a0b4_28db ^ hash.rotate_left(17));
            hits[table.lookup(hash).unwrap() as usize] += 1;
        }
        assert!(hits.iter().all(|hits| (9_400..10_600).contains(hits)), "{hits:?}");
    }

    #[test]
    fn weights_are_shares() {
        let mut backends = backends(4);
        for (backend, weight) in backends.iter_mut().zip([1, 2, 5, 0]) {
            backend.weight = weight;
        }
        let shares = shares(&Maglev::build(&backends, 8009), 4);
        for (share, expected) in shares.iter().zip([1001, 2002, 5005, 0]) {
            assert!(share.abs_diff(expected) <= 2, "{shares:?}");
        }
    }

    /// The part of all slots, in per cent, that move although their backend stays when `gone` backends go.
    fn disruption(count: u32, slots: u32, gone: u32) -> f64 {
        let all = backends(count);
        let is_gone = |n: u32| n % (count / gone) == 1 && n / (count / gone) < gone;
        let left: Vec<Backend> = all.iter().filter(|backend| !is_gone(backend.id.0)).copied().collect();
        assert_eq!(left.len() as u32, count - gone);
        let (before, after) = (Maglev::build(&all, slots), Maglev::build(&left, slots));
        let moved = (0..slots as usize).filter(|slot| {
            let was = all[before.at(*slot).unwrap() as usize];
            !is_gone(was.id.0) && was.id != left[after.at(*slot).unwrap() as usize].id
        });
        moved.count() as f64 * 100.0 / f64::from(slots)
    }

    #[test]
    fn few_slots_move_when_backends_go() {
        // The paper's sizes: 1,000 backends, a small and a large table. A few per cent of the slots at worst, about one per
        // cent in the large table.
        for (slots, gone, most) in [
            (65_537, 1, 0.8),
            (65_537, 10, 2.7),
            (65_537, 100, 4.0),
            (655_373, 1, 0.4),
            (655_373, 10, 0.8),
            (655_373, 100, 1.2),
        ] {
            let moved = disruption(1000, slots, gone);
            assert!(moved <= most, "{gone} of 1000 gone, {slots} slots: {moved:.2} % moved");
        }
        assert!(disruption(10, 1009, 1) <= 3.0);
        assert!(disruption(100, 10_007, 1) <= 2.0);
    }

    #[test]
    fn default_sizes_are_primes_of_a_hundred_slots_a_backend() {
        for (backends, slots) in [
            (0, 3),
            (1, 101),
            (2, 211),
            (3, 307),
            (100, 10_007),
            (655, 65_519),
            (656, 65_537),
            (30_000, 65_537),
            (40_000, 80_021),
        ] {
            assert_eq!(default_slots(backends), slots, "{backends}");
        }
        let many = Maglev::for_backends(&backends(66_000));
        assert!(matches!(many.slots, Slots::Wide(_)));
        assert!(shares(&many, 66_000).iter().all(|share| (1..=3).contains(share)));
    }

    #[test]
    fn no_backends_no_choice() {
        let table = Maglev::for_backends(&[]);
        assert_eq!((table.slots(), table.lookup(0), table.lookup(u64::MAX)), (0, None, None));
    }
}
