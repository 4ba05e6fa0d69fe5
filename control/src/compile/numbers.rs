//! Numbers for service ports and backends: dense, because they index counters and tables; stable, because flows and
//! counters remember them.
//!
//! A number that a compile no longer needs is retired. It keeps its meaning, and gets it back if its owner returns, until
//! it is released: no worker can see an older snapshot then. Even so the numbers released longest ago are taken first, and
//! some are always kept back: a flow that slept through the change then finds an empty place, not a stranger.

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;

/// How many released numbers of each sort are kept back from reuse.
const KEPT_BACK: usize = 1024;

#[derive(Debug)]
struct Entry {
    number: u32,
    /// The generation that no longer needed it.
    retired: Option<u32>,
}

/// Numbers for keys of one sort.
#[derive(Debug)]
pub(super) struct Numbers<K> {
    entries: HashMap<K, Entry>,
    retired: VecDeque<(u32, K)>,
    free: VecDeque<u32>,
    next: u32,
    new: Vec<u32>,
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Numbers { entries: HashMap::new(), retired: VecDeque::new(), free: VecDeque::new(), next: 0, new: Vec::new() }
    }
}

impl<K: Clone + Eq + Hash> Numbers<K> {
    /// All numbers given out so far are below this.
    pub(super) fn bound(&self) -> u32 {
        self.next
    }

    /// The numbers that got a new meaning since the last call.
    pub(super) fn take_new(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.new)
    }

    /// The number of `key`, which is in use from now on.
    pub(super) fn number(&mut self, key: K) -> u32 {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.retired = None;
            return entry.number;
        }
        let reused = if self.free.len() > KEPT_BACK { self.free.pop_front() } else { None };
        let number = reused.unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.new.push(number);
        self.entries.insert(key, Entry { number, retired: None });
        number
    }

    /// Declares that `generation` no longer uses `key`.
    pub(super) fn retire(&mut self, key: K, generation: u32) {
        if let Some(entry) = self.entries.get_mut(&key)
            && entry.retired.is_none()
        {
            entry.retired = Some(generation);
            self.retired.push_back((generation, key));
        }
    }

    /// Declares that every worker has left the snapshots before `generation`.
    pub(super) fn release(&mut self, generation: u32) {
        while let Some((retired, _)) = self.retired.front()
            && generation.wrapping_sub(*retired) <= u32::MAX / 2
        {
            let Some((retired, key)) = self.retired.pop_front() else { return };
            // It may have come back since, and even have been retired once more.
            if self.entries.get(&key).is_some_and(|entry| entry.retired == Some(retired))
                && let Some(entry) = self.entries.remove(&key)
            {
                self.free.push_back(entry.number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_to_its_key_until_it_is_released() {
        let mut numbers = Numbers::default();
        assert_eq!([numbers.number("a"), numbers.number("b"), numbers.number("a")], [0, 1, 0]);
        assert_eq!(std::mem::take(&mut numbers.new), [0, 1]);
        numbers.retire("a", 5);
        numbers.release(4);
        assert_eq!(numbers.number("a"), 0, "not released yet");
        numbers.release(9);
        assert_eq!(numbers.number("a"), 0, "in use again, so not released");
        assert!(numbers.new.is_empty());
        numbers.retire("a", 10);
        numbers.release(10);
        assert_eq!(numbers.number("a"), 2, "released: a newcomer, and 0 is kept back");
        assert_eq!(numbers.new, [2]);
    }

    #[test]
    fn released_numbers_are_reused_oldest_first_and_some_kept_back() {
        let mut numbers = Numbers::default();
        let many = KEPT_BACK as u32 + 2;
        for key in 0..many {
            numbers.number(key);
        }
        for key in 0..many {
            numbers.retire(key, u32::MAX);
        }
        // Generations wrap around.
        numbers.release(1);
        numbers.new.clear();
        assert_eq!([many, many + 1, many + 2].map(|key| numbers.number(key)), [0, 1, many]);
        assert_eq!(numbers.new, [0, 1, many], "reused numbers count as new: their counters mean something else now");
    }
}
