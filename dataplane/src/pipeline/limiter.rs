//! How many packets a worker may generate by itself: a token bucket.

use crate::clock::Time;

const NANOS: u64 = 1_000_000_000;

/// A token bucket that holds at most one second's worth.
pub(crate) struct Limiter {
    per_second: u64,
    // In billionths of a token, so that no rate loses fractions.
    tokens: u64,
    last: Time,
}

impl Limiter {
    pub(crate) fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second);
        Limiter { per_second, tokens: per_second * NANOS, last: Time::default() }
    }

    /// Takes a token if there is one.
    pub(crate) fn admit(&mut self, now: Time) -> bool {
        // A pause longer than a second fills the bucket; the limit also keeps the product small.
        let elapsed = now.0.saturating_sub(self.last.0).min(NANOS);
        self.last = now;
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.per_second * NANOS);
        if self.tokens < NANOS {
            return false;
        }
        self.tokens -= NANOS;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_brings_a_seconds_worth_and_no_more() {
        let mut limiter = Limiter::new(1_000);
        let mut admitted = |now| (0..5_000).filter(|_| limiter.admit(Time(now))).count();
        assert_eq!(admitted(0), 1_000);
        assert_eq!(admitted(NANOS / 2), 500);
        assert_eq!(admitted(NANOS / 2 + 999_999), 0);
        assert_eq!(admitted(NANOS / 2 + 1_000_000), 1);
        assert_eq!(admitted(100 * NANOS), 1_000);
    }
}
