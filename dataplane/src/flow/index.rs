//! An open-addressing table from hashes to 32-bit values: linear probing in 8-byte slots, deletion by shifting back, so
//! that no tombstone ever slows it down. It is at most half full and never grows.
//!
//! A slot keeps 32 bits of the hash (the tag) beside the value. The home of an entry is a part of its tag, therefore
//! shifting needs no look at the things that the values stand for. What equal tags mean, the caller decides.

/// The slots.
pub(super) struct Index {
    slots: Box<[u64]>,
    // Number of slots minus one; the number is a power of two, at most 2^32.
    mask: u32,
}

/// No entry. No value is `u32::MAX`, so no entry looks like this.
const EMPTY: u64 = u64::MAX;

#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Index {
    /// Room for `entries`.
    pub(super) fn new(entries: usize) -> Self {
        let slots = (entries * 2).next_power_of_two().clamp(16, 1 << 31);
        Index { slots: vec![EMPTY; slots].into_boxed_slice(), mask: (slots - 1) as u32 }
    }

    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    #[inline]
    fn slot(&self, position: u32) -> u64 {
        // The mask keeps the position inside.
        self.slots.get((position & self.mask) as usize).copied().unwrap_or(EMPTY)
    }

    #[inline]
    fn set(&mut self, position: u32, slot: u64) {
        if let Some(place) = self.slots.get_mut((position & self.mask) as usize) {
            *place = slot;
        }
    }

    /// The slot where a search for `hash` begins: one load, nothing that depends on it.
    #[inline]
    pub(super) fn probe(&self, hash: u64) -> u64 {
        self.slot(tag(hash))
    }

    /// The first value whose tag fits `hash` and which `is_it` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let mut position = tag;
        for _ in 0..=self.mask {
            let slot = self.slot(position);
            if slot == EMPTY {
                return None;
            }
            if (slot >> 32) as u32 == tag && is_it(slot as u32) {
                return Some(slot as u32);
            }
            position = position.wrapping_add(1);
        }
        None
    }

    /// Adds an entry; the caller keeps the number of entries within what `new` was asked for.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, value: u32) {
        debug_assert_ne!(value, u32::MAX);
        let tag = tag(hash);
        let mut position = tag;
        for _ in 0..=self.mask {
            if self.slot(position) == EMPTY {
                self.set(position, u64::from(tag) << 32 | u64::from(value));
                return;
            }
            position = position.wrapping_add(1);
        }
        debug_assert!(false, "the index is full");
    }

    /// Takes out the entry with this hash and value.
    #[inline]
    pub(super) fn remove(&mut self, hash: u64, value: u32) -> bool {
        let entry = u64::from(tag(hash)) << 32 | u64::from(value);
        let mut hole = tag(hash);
        let mut steps = 0;
        while self.slot(hole) != entry {
            if self.slot(hole) == EMPTY || steps == self.mask {
                return false;
            }
            hole = hole.wrapping_add(1);
            steps += 1;
        }
        // Fill the hole with the next entry that may stand there, and so on until a gap: afterwards every entry is again
        // reached from its home without crossing an empty slot.
        let mut position = hole;
        for _ in 0..=self.mask {
            position = position.wrapping_add(1);
            let slot = self.slot(position);
            if slot == EMPTY {
                break;
            }
            let home = (slot >> 32) as u32;
            let from_home = position.wrapping_sub(home) & self.mask;
            let from_hole = position.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.set(hole, slot);
                hole = position;
            }
        }
        self.set(hole, EMPTY);
        true
    }

    /// Every value.
    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().filter(|slot| **slot != EMPTY).map(|slot| *slot as u32)
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
