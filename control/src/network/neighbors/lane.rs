//! Questions to the kernel in the order in which they are due, so many a second.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Key;

/// So many a second, and a second's worth of them at once.
#[derive(Debug)]
pub(super) struct Rate {
    interval: Duration,
    /// When everything that was admitted is paid for.
    paid: Option<Instant>,
}

/// What may be admitted at once.
const BURST: Duration = Duration::from_secs(1);

impl Rate {
    pub(super) fn a_second(number: u32) -> Self {
        Rate { interval: Duration::from_secs(1) / number, paid: None }
    }

    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let paid = self.paid.map_or(now, |paid| paid.max(now));
        let fits = paid.duration_since(now) < BURST;
        if fits {
            self.paid = Some(paid + self.interval);
        }
        fits
    }

    /// When the next one is admitted; in the past when it is already.
    pub(super) fn free_at(&self) -> Option<Instant> {
        self.paid.and_then(|paid| paid.checked_sub(BURST)).map(|free| free + self.interval)
    }
}

/// Neighbours to ask for, each once.
#[derive(Debug)]
pub(super) struct Lane {
    due: BTreeSet<(Instant, Key)>,
    rate: Rate,
}

impl Lane {
    pub(super) fn new(rate: Rate) -> Self {
        Lane { due: BTreeSet::new(), rate }
    }

    pub(super) fn insert(&mut self, due: Instant, key: Key) {
        self.due.insert((due, key));
    }

    pub(super) fn remove(&mut self, due: Instant, key: Key) {
        self.due.remove(&(due, key));
    }

    /// The next neighbour to ask for now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Key> {
        let first = *self.due.first().filter(|(due, _)| *due <= now)?;
        if !self.rate.admit(now) {
            return None;
        }
        self.due.remove(&first);
        Some(first.1)
    }

    /// When there is something to ask next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let (due, _) = self.due.first()?;
        Some(self.rate.free_at().map_or(*due, |free| free.max(*due)))
    }

    #[cfg(test)]
    pub(super) fn contains(&self, due: Instant, key: Key) -> bool {
        self.due.contains(&(due, key))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}
