//! Work that is done at once when it is rare, and at intervals that grow with its cost when it is not.

use std::time::{Duration, Instant};

/// The shortest pause between two rounds of work in a storm.
const PAUSE: Duration = Duration::from_millis(5);

/// When the next round may begin. A storm of causes takes a fifth of a CPU at most.
#[derive(Debug)]
pub(crate) struct Pace {
    not_before: Instant,
    longest: Duration,
}

impl Pace {
    /// May begin at once.
    pub(crate) fn new() -> Self {
        Pace::at_most(Duration::MAX)
    }

    /// Likewise, and never pauses longer than `longest`: for rounds whose cost follows from what there is to do, so that a
    /// dear one does not make the next one dear.
    pub(crate) fn at_most(longest: Duration) -> Self {
        Pace { not_before: Instant::now(), longest }
    }

    /// When the next round may begin.
    pub(crate) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// A round that began at `began` is over.
    pub(crate) fn done(&mut self, began: Instant) {
        let now = Instant::now();
        self.not_before = now + (now.duration_since(began) * 4).clamp(PAUSE, self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_cost_up_to_a_limit() {
        let (long, now) = (Duration::from_secs(10), Instant::now());
        let (mut free, mut limited) = (Pace::new(), Pace::at_most(long));
        free.done(now - long);
        assert!(free.not_before() >= now + long * 4);
        limited.done(now - long);
        assert!(limited.not_before() <= Instant::now() + long);
        limited.done(now);
        assert!(limited.not_before() >= now + PAUSE);
    }
}
