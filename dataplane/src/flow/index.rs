//! An open-addressing table from hashes to 32-bit values, in buckets of one cache line. It is at most half full, never
//! grows, and deletion leaves no trace that could ever slow it down.
//!
//! A slot keeps 32 bits of the hash (the tag) beside the value. An entry lives in its home bucket, or in the first bucket
//! behind it that had room; the home is a part of the tag. Two invariants hold between operations: the entries of a bucket
//! are in its first slots, and every bucket from an entry's home to the one before it is full. So a search looks at one
//! cache line, nearly always, and ends at the first bucket that is not full. What equal tags mean, the caller decides.

use crate::af_xdp::mapping::spread;

const SLOTS: usize = 8;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u32; SLOTS],
    values: [u32; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// No entry. Values are kept one higher.
const EMPTY: u32 = 0;

impl Bucket {
    // The tags are not zero, so that a table full of these is written, and thereby given memory, when it is made.
    const BLANK: Bucket = Bucket { tags: [u32::MAX; SLOTS], values: [EMPTY; SLOTS] };

    /// The values with this tag, in one: `EMPTY` if there is none, the value if there is one, nonsense if there are more.
    #[inline]
    fn select(&self, tag: u32) -> u32 {
        // Without a branch: where an entry sits is a matter of luck that no branch predictor can know. In this form the
        // compiler makes it two vector comparisons.
        let mut selected = [0; SLOTS / 2];
        for (half, selected) in selected.iter_mut().enumerate() {
            for slot in [half, half + SLOTS / 2] {
                *selected |= u32::from(self.tags[slot] == tag).wrapping_neg() & self.values[slot];
            }
        }
        selected.iter().fold(0, |all, part| all | part)
    }

    #[inline]
    fn set(&mut self, slot: usize, tag: u32, value: u32) {
        if let (Some(a), Some(b)) = (self.tags.get_mut(slot), self.values.get_mut(slot)) {
            (*a, *b) = (tag, value);
        }
    }

    #[inline]
    fn len(&self) -> usize {
        self.values.iter().map(|value| usize::from(*value != EMPTY)).sum()
    }

    #[inline]
    fn is_full(&self) -> bool {
        let [.., last] = self.values;
        last != EMPTY
    }

    /// Takes out the entry in `slot`; the last one takes its place.
    #[inline]
    fn take(&mut self, slot: usize) {
        let last = self.len().wrapping_sub(1);
        if let (Some(tag), Some(value)) = (self.tags.get(last).copied(), self.values.get(last).copied()) {
            self.set(slot, tag, value);
            self.set(last, u32::MAX, EMPTY);
        }
    }
}

/// The buckets.
pub(super) struct Index {
    buckets: Box<[Bucket]>,
    // Number of buckets minus one; the number is a power of two.
    mask: u32,
}

#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Index {
    /// Room for `entries`.
    pub(super) fn new(entries: usize) -> Self {
        let buckets = (entries * 2 / SLOTS).next_power_of_two().clamp(4, 1 << 28);
        Index { buckets: spread(buckets, Bucket::BLANK), mask: (buckets - 1) as u32 }
    }

    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    #[inline]
    fn bucket(&self, number: u32) -> &Bucket {
        // The mask keeps the number inside.
        self.buckets.get((number & self.mask) as usize).unwrap_or(&Bucket::BLANK)
    }

    #[inline(always)]
    fn change(&mut self, number: u32, change: impl FnOnce(&mut Bucket)) {
        if let Some(bucket) = self.buckets.get_mut((number & self.mask) as usize) {
            change(bucket);
        }
    }

    /// Something from the bucket where a search for `hash` begins: one load, nothing that depends on it.
    #[inline]
    pub(super) fn probe(&self, hash: u64) -> u32 {
        let [first, ..] = self.bucket(tag(hash)).values;
        first
    }

    /// The value that a search for `hash` most likely finds, without a branch. It may be wrong, or none.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> u32 {
        self.bucket(tag(hash)).select(tag(hash)).wrapping_sub(1)
    }

    /// The first value whose tag fits `hash` and which `is_it` accepts. `is_it` may be asked about values that are not in
    /// the index, and has to say no.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        // The home bucket, and no entry there with this tag but the one, as nearly always.
        let bucket = self.bucket(tag(hash));
        match bucket.select(tag(hash)) {
            EMPTY if !bucket.is_full() => None,
            selected if selected != EMPTY && is_it(selected - 1) => Some(selected - 1),
            _ => self.find_on(hash, &mut is_it),
        }
    }

    /// As [`Self::find`], with every bucket and entry that may have it.
    #[cold]
    fn find_on(&self, hash: u64, is_it: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        for step in 0..=self.mask {
            let bucket = self.bucket(tag.wrapping_add(step));
            let mut same = bucket.tags.iter().zip(&bucket.values).filter(|(other, _)| **other == tag);
            let found = same.find(|(_, value)| **value != EMPTY && is_it(**value - 1));
            if let Some((_, value)) = found {
                return Some(*value - 1);
            }
            if !bucket.is_full() {
                return None;
            }
        }
        None
    }

    /// Adds an entry; the caller keeps the number of entries within what `new` was asked for.
    #[inline(always)]
    pub(super) fn insert(&mut self, hash: u64, value: u32) {
        let (tag, value) = (tag(hash), value.wrapping_add(1));
        debug_assert_ne!(value, EMPTY);
        for step in 0..=self.mask {
            let number = tag.wrapping_add(step);
            if !self.bucket(number).is_full() {
                self.change(number, |bucket| bucket.set(bucket.len(), tag, value));
                return;
            }
        }
        debug_assert!(false, "the index is full");
    }

    /// Takes out the entry with this hash and value.
    #[inline]
    pub(super) fn remove(&mut self, hash: u64, value: u32) -> bool {
        let (tag, value) = (tag(hash), value.wrapping_add(1));
        for step in 0..=self.mask {
            let number = tag.wrapping_add(step);
            let bucket = self.bucket(number);
            if let Some(slot) = bucket.values.iter().position(|other| *other == value) {
                let was_full = bucket.is_full();
                self.change(number, |bucket| bucket.take(slot));
                if was_full {
                    self.refill(number);
                }
                return true;
            }
            if !bucket.is_full() {
                return false;
            }
        }
        false
    }

    /// The bucket `hole` was full and has room now: an entry that once found it full has to move there, and so on for the
    /// bucket that it leaves.
    #[cold]
    fn refill(&mut self, mut hole: u32) {
        let mut distance = 1;
        while distance <= self.mask {
            let number = hole.wrapping_add(distance);
            let bucket = self.bucket(number);
            let was_full = bucket.is_full();
            // Entries whose home is the hole or before it have come at least this far.
            let passed = |home: u32| number.wrapping_sub(home) & self.mask >= distance;
            let found = bucket.tags.iter().zip(&bucket.values).position(|(tag, value)| *value != EMPTY && passed(*tag));
            if let Some(slot) = found
                && let (Some(tag), Some(value)) = (bucket.tags.get(slot).copied(), bucket.values.get(slot).copied())
            {
                self.change(hole, |bucket| bucket.set(bucket.len(), tag, value));
                self.change(number, |bucket| bucket.take(slot));
                hole = number;
                distance = 0;
            }
            if !was_full {
                return;
            }
            distance += 1;
        }
    }

    /// Every value.
    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = u32> {
        self.buckets.iter().flat_map(|bucket| bucket.values).filter(|value| *value != EMPTY).map(|value| value - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        // Few distinct hashes, so that runs are long and wrap around the end.
        #[test]
        fn behaves_as_a_set(operations in proptest::collection::vec((any::<bool>(), 0u32..12, 0u32..4), 1..400)) {
            let mut index = Index::new(32);
            let mut oracle = HashSet::new();
            for (add, home, value) in operations {
                let hash = u64::from(home.wrapping_add(58)) << 32 | 7;
                let value = home << 8 | value;
                if add {
                    if oracle.len() < 32 && oracle.insert((hash, value)) {
                        index.insert(hash, value);
                    }
                } else {
                    prop_assert_eq!(index.remove(hash, value), oracle.remove(&(hash, value)));
                }
                prop_assert_eq!(index.values().count(), oracle.len());
                for (hash, value) in &oracle {
                    prop_assert_eq!(index.find(*hash, |found| found == *value), Some(*value));
                }
            }
        }
    }

    #[test]
    fn a_full_cycle_leaves_no_trace() {
        let mut index = Index::new(1024);
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 0..100_000u64 {
            index.insert(hash(n), n as u32);
            if n >= 1024 {
                assert!(index.remove(hash(n - 1024), (n - 1024) as u32));
            }
        }
        for n in 100_000 - 1024..100_000 {
            assert!(index.remove(hash(n), n as u32));
        }
        assert_eq!(index.values().count(), 0);
        assert!(!index.remove(hash(5), 5));
    }
}
