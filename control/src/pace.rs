//! Work that is done at once when it is rare, and at intervals that grow with its cost when it is not.

use std::time::{Duration, Instant};

/// The shortest pause between two rounds of work in a storm.
const PAUSE: Duration = Duration::from_millis(5);

/// When the next round may begin. A storm of causes takes a fifth of a CPU at most.
#[derive(Debug)]
pub(crate) struct Pace {
    not_before: Instant,
}

impl Pace {
    /// May begin at once.
    pub(crate) fn new() -> Self {
        Pace { not_before: Instant::now() }
    }

    /// When the next round may begin.
    pub(crate) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// A round that began at `began` is over.
    pub(crate) fn done(&mut self, began: Instant) {
        let now = Instant::now();
        self.not_before = now + (now.duration_since(began) * 4).max(PAUSE);
    }
}
