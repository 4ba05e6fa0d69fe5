//! How many packets a worker may generate by itself: in any second no more than its limit.
//!
//! Not a token bucket: one that holds a second's worth lets twice the limit through in the second after a pause.

use crate::clock::Time;

const NANOS: u64 = 1_000_000_000;

/// A ring of the last answers, as many as a second may have.
pub(crate) struct Limiter {
    // When each of them is a second ago.
    free: Box<[u64]>,
    oldest: usize,
}

impl Limiter {
    pub(crate) fn new(per_second: u32) -> Self {
        Limiter { free: vec![0; per_second as usize].into_boxed_slice(), oldest: 0 }
    }

    /// Whether one more may be generated now; it counts if so.
    pub(crate) fn admit(&mut self, now: Time) -> bool {
        let Some(free) = self.free.get_mut(self.oldest).filter(|free| **free <= now.0) else { return false };
        *free = now.0.saturating_add(NANOS);
        self.oldest = if self.oldest + 1 < self.free.len() { self.oldest + 1 } else { 0 };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_has_a_seconds_worth_and_no_more() {
        let mut limiter = Limiter::new(1_000);
        let mut admitted = |now| (0..5_000).filter(|_| limiter.admit(Time(now))).count();
        assert_eq!(admitted(7), 1_000);
        assert_eq!(admitted(NANOS / 2), 0);
        assert_eq!(admitted(NANOS + 6), 0);
        assert_eq!(admitted(NANOS + 7), 1_000);
        assert_eq!(admitted(100 * NANOS), 1_000);
    }

    #[test]
    fn a_limit_of_nothing_admits_nothing() {
        assert!(!Limiter::new(0).admit(Time(7)));
    }

    proptest! {
        /// However they come, every one is admitted that fits into the second before it.
        #[test]
        fn the_second_before_decides(limit in 1u32..20, pauses in proptest::collection::vec(0..NANOS / 8, 0..200)) {
            let mut limiter = Limiter::new(limit);
            let mut admitted: Vec<u64> = Vec::new();
            let mut now = 0;
            for pause in pauses {
                now += pause;
                let recent = admitted.iter().filter(|then| **then + NANOS > now).count();
                let fits = recent < limit as usize;
                prop_assert_eq!(limiter.admit(Time(now)), fits);
                if fits {
                    admitted.push(now);
                }
            }
        }
    }
}
