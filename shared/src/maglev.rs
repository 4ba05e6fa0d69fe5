//! Maglev consistent hashing (Eisenbud et al., NSDI 2016): build on the control side, lookup in the packet path. Pure.
//!
//! Each backend walks its own permutation of the slots; in turns, each takes the next slot of its permutation that is
//! still free. The permutation of a backend depends on its address and port alone, so that every node and every restart
//! builds the same table from the same endpoints.

mod fill;

use std::net::IpAddr;

use crate::address::{address_words, fold};
use crate::backend::Backend;
use fill::{Walk, fill};

/// The largest table that is built by default, the paper's "small" size.
pub const MAX_DEFAULT_SLOTS: u32 = 65_537;

/// Slots a backend in a default table: a share is then within about 1 % of even.
const SLOTS_PER_BACKEND: u32 = 100;

/// How much larger weights may make a table than equal ones do. Where they differ by more, the lightest backends have fewer slots:
/// what they lack or have too much is a small part of all connections, and every Service's table has to be made and kept.
const MOST_BY_WEIGHTS: u32 = 4;

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
        Self::build(backends, slots(backends.len(), shares(backends)))
    }

    /// A table with `slots` slots, a prime number of at least the number of backends.
    ///
    /// 65,537 slots for 1,000 backends take 0.8 ms on a 2.6 GHz core of its own (`cargo bench --bench maglev`; a busy
    /// machine shows more).
    pub fn build(backends: &[Backend], slots: u32) -> Self {
        let narrow = backends.len() <= usize::from(u16::MAX);
        Maglev {
            slots: match narrow {
                true => Slots::Narrow(build(backends, slots, |index| index as u16)),
                false => Slots::Wide(build(backends, slots, |index| index)),
            },
        }
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

/// The slots of a table; `number` makes an index what the table has.
fn build<T: Copy + Default>(backends: &[Backend], slots: u32, number: impl Fn(u32) -> T) -> Box<[T]> {
    // A backend of weight 0 gets nothing; if all are 0 they are all equal.
    let all_zero = backends.iter().all(|backend| backend.weight == 0);
    let weight = |backend: &Backend| if all_zero { 1 } else { u32::from(backend.weight) };
    let heaviest = backends.iter().map(weight).max().unwrap_or(1);
    let mut walks: Vec<Walk<T>> = (0..)
        .zip(backends)
        .filter(|(_, backend)| weight(backend) > 0)
        .map(|(index, backend)| Walk::new(backend, number(index), weight(backend), heaviest, slots))
        .collect();
    if walks.is_empty() {
        return Box::default();
    }
    let mut table = vec![T::default(); slots as usize];
    fill(&mut table, &mut walks, heaviest);
    table.into()
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
    slots(backends, backends)
}

/// How many times the share of the lightest backend all of them have together: as many as there are, where all are equal.
fn shares(backends: &[Backend]) -> usize {
    let weights = || backends.iter().map(|backend| usize::from(backend.weight));
    let lightest = weights().filter(|weight| *weight > 0).min();
    lightest.map_or(backends.len(), |lightest| weights().sum::<usize>().div_ceil(lightest))
}

/// The lightest backend is to have 100 slots, as each has where all are equal, as far as that makes the table not much larger.
fn slots(backends: usize, shares: usize) -> u32 {
    let [backends, shares] =
        [backends, shares].map(|number| u32::try_from(number).unwrap_or(u32::MAX / SLOTS_PER_BACKEND));
    let shares = shares.min(backends.saturating_mul(MOST_BY_WEIGHTS));
    let wanted = shares.saturating_mul(SLOTS_PER_BACKEND).min(MAX_DEFAULT_SLOTS);
    next_prime(wanted.max(backends.saturating_mul(2)).max(3))
}

fn next_prime(from: u32) -> u32 {
    let is_prime = |number: u32| number > 1 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d));
    (from..).find(|number| is_prime(*number)).unwrap_or(MAX_DEFAULT_SLOTS)
}

#[cfg(test)]
mod tests;
