//! How long an API server that fails is left alone.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Pauses that grow with every failure.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    /// Failures since the last good attempt.
    failures: u32,
    /// Whether the last of them got an answer.
    answered: bool,
}

impl Backoff {
    /// `first` is the pause after the first failure.
    pub(super) fn new(first: Duration) -> Self {
        Backoff { first, failures: 0, answered: true }
    }

    /// An attempt was good.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// An attempt failed; `answered` when an API server said so, rather than nobody. The pause before the next one, not yet
    /// varied.
    pub(super) fn failed(&mut self, answered: bool, longest: Duration) -> Duration {
        if answered && !self.answered {
            // It is back, and not to be waited for as if it were away.
            self.failures = 0;
        }
        self.answered = answered;
        let doubled = self.first * 2u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        doubled.min(longest)
    }
}

/// Between half of it and one and a half, so that not all nodes come at once.
pub(super) fn vary(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + random() as f64 / u64::MAX as f64)
}

/// The standard library has no other source of chance, and this one is good enough for pauses.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over_when_somebody_answers() {
        let longest = Duration::from_secs(8);
        let mut backoff = Backoff::new(Duration::from_millis(250));
        let mut fail = |answered| backoff.failed(answered, longest).as_millis();
        assert_eq!([(); 7].map(|()| fail(false)), [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000]);
        assert_eq!([(); 3].map(|()| fail(true)), [250, 500, 1_000]);
        assert_eq!(fail(false), 2_000);
        for _ in 0..100 {
            fail(false);
        }
        assert_eq!(fail(false), 8_000);
        backoff.reset();
        assert_eq!(backoff.failed(false, longest).as_millis(), 250);
    }

    #[test]
    fn pauses_vary_around_their_length() {
        let pauses: Vec<f64> = (0..1000).map(|_| vary(Duration::from_secs(1)).as_secs_f64()).collect();
        assert!(pauses.iter().all(|pause| (0.5..=1.5).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause < 0.8) && pauses.iter().any(|pause| *pause > 1.2), "{pauses:?}");
    }
}
