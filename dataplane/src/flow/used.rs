//! Which records hold flows, a bit each: for walking what is used and not what could be. A second level has a bit for each
//! word of the first that is not 0, so that an empty table of a million records is seen to be so in 256 words.

use crate::af_xdp::mapping::spread;

/// Bits of a word, and the shift that finds it.
const BITS: u32 = 64;
const SHIFT: u32 = 6;

pub(super) struct Used {
    records: Box<[u64]>,
    words: Box<[u64]>,
}

#[inline]
fn bit(number: u32) -> u64 {
    1 << (number % BITS)
}

/// The first bit of `words` from number `from` on.
fn first(words: &[u64], from: u32) -> Option<u32> {
    let word = |index: u32| words.get(index as usize).copied();
    let index = from >> SHIFT;
    let rest = word(index)? & (u64::MAX << (from % BITS));
    if rest != 0 {
        return Some(index << SHIFT | rest.trailing_zeros());
    }
    let behind = words.get(index as usize + 1..)?;
    let (skipped, found) = (0..).zip(behind).find(|(_, word)| **word != 0)?;
    Some((index + 1 + skipped) << SHIFT | found.trailing_zeros())
}

impl Used {
    pub(super) fn new(capacity: u32) -> Self {
        let records = capacity.div_ceil(BITS);
        Used { records: spread(records as usize, 0), words: spread(records.div_ceil(BITS) as usize, 0) }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.records) + size_of_val(&*self.words)
    }

    /// This record holds a flow from now on.
    #[inline(always)]
    pub(super) fn set(&mut self, number: u32) {
        let index = number >> SHIFT;
        let word = self.records.get_mut(index as usize);
        let above = self.words.get_mut((index >> SHIFT) as usize);
        if let (Some(word), Some(above)) = (word, above) {
            *word |= bit(number);
            *above |= bit(index);
        }
    }

    /// It is free.
    #[inline]
    pub(super) fn clear(&mut self, number: u32) {
        let index = number >> SHIFT;
        let word = self.records.get_mut(index as usize);
        let above = self.words.get_mut((index >> SHIFT) as usize);
        if let (Some(word), Some(above)) = (word, above) {
            *word &= !bit(number);
            if *word == 0 {
                *above &= !bit(index);
            }
        }
    }

    /// The first record in use from this number on.
    pub(super) fn next(&self, from: u32) -> Option<u32> {
        let index = from >> SHIFT;
        let rest = self.records.get(index as usize)? & (u64::MAX << (from % BITS));
        if rest != 0 {
            return Some(index << SHIFT | rest.trailing_zeros());
        }
        let index = first(&self.words, index + 1)?;
        first(&self.records, index << SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(
            capacity in 1u32..20_000,
            changes in proptest::collection::vec((any::<bool>(), any::<u32>()), 0..200),
            from in any::<u32>(),
        ) {
            let mut used = Used::new(capacity);
            let mut set = BTreeSet::new();
            for (add, number) in changes {
                // Few words, so that they become empty again.
                let number = number % capacity % 500 + (capacity - capacity.min(500)) * (number % 2);
                if add {
                    used.set(number);
                    set.insert(number);
                } else {
                    used.clear(number);
                    set.remove(&number);
                }
            }
            for from in [0, 1, 63, 64, from % capacity, capacity - 1, capacity] {
                prop_assert_eq!(used.next(from), set.range(from..).next().copied());
            }
            let walk: Vec<u32> = std::iter::successors(used.next(0), |number| used.next(number + 1)).collect();
            prop_assert_eq!(walk, set.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_empty_table_is_seen_at_a_glance() {
        let used = Used::new(1 << 20);
        assert_eq!((used.next(0), used.words.len()), (None, 256));
    }
}
