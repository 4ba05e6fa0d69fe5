//! Who asked before, lately: what tells a client that sends its SYN again from forged sources, of which hardly any comes
//! twice.
//!
//! Three generations of a Bloom filter: of fixed size however many ask, and of 100,000 strangers a second it takes less than
//! one in a thousand for somebody who asked before.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::Key;

/// How long a generation is: TCP sends a SYN again 1 s, 3 s and 7 s after the first.
const GENERATION: Duration = Duration::from_secs(1);
/// 512 KiB each.
const BITS: u64 = 1 << 22;
const HASHES: u64 = 4;

#[derive(Debug)]
pub(super) struct Earlier {
    current: Vec<u64>,
    before: [Vec<u64>; 2],
    since: Option<Instant>,
    random: RandomState,
}

impl Earlier {
    pub(super) fn new() -> Self {
        Earlier { current: blank(), before: [blank(), blank()], since: None, random: RandomState::new() }
    }

    /// Whether this one asked in one of the two generations before; notes that it asks now.
    pub(super) fn asked_before(&mut self, key: &Key, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age >= GENERATION {
            self.before.swap(0, 1);
            self.before[0] = std::mem::replace(&mut self.current, blank());
            if age >= 3 * GENERATION {
                self.before = [blank(), blank()];
            }
            self.since = Some(now);
        }
        let hash = self.random.hash_one(key);
        let (mut position, step) = (hash, (hash >> 32) | 1);
        let mut all = [true; 2];
        for _ in 0..HASHES {
            let (word, bit) = ((position % BITS / 64) as usize, 1 << (position % 64));
            for (all, before) in all.iter_mut().zip(&self.before) {
                *all &= before.get(word).is_some_and(|bits| bits & bit != 0);
            }
            if let Some(bits) = self.current.get_mut(word) {
                *bits |= bit;
            }
            position = position.wrapping_add(step);
        }
        all.contains(&true)
    }
}

fn blank() -> Vec<u64> {
    vec![0; (BITS / 64) as usize]
}
