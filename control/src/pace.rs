//! Work that is done at once when it is rare, and at intervals that grow with its cost when it is not.

use std::time::{Duration, Instant};

/// The shortest pause between two rounds of work in a storm.
const PAUSE: Duration = Duration::from_millis(5);

/// When the next round may begin. A storm of causes takes a fifth of a CPU at most.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the last round was over, and what it asks for.
    done: Instant,
    wanted: Duration,
    /// The shortest pause now, and up to where it grows.
    pause: Duration,
    storm: Duration,
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
        Pace { done: Instant::now(), wanted: Duration::ZERO, pause: Duration::ZERO, storm: PAUSE, longest }
    }

    /// Likewise, and while causes come soon after the rounds before them the shortest pause doubles up to `storm`: for
    /// rounds that cost others something as well.
    pub(crate) fn slower_in_storms(self, storm: Duration) -> Self {
        Pace { storm, ..self }
    }

    /// When the next round may begin.
    pub(crate) fn not_before(&self) -> Instant {
        self.done + self.wanted.min(self.longest).max(self.pause)
    }

    /// The same for a round whose cause came at `cause`.
    pub(crate) fn not_before_for(&mut self, cause: Instant) -> Instant {
        let is_storm = cause.saturating_duration_since(self.done) < self.storm / 2;
        self.pause = if is_storm { (self.pause * 2).min(self.storm) } else { PAUSE };
        self.not_before()
    }

    /// A round that began at `began` is over.
    pub(crate) fn done(&mut self, began: Instant) {
        self.done = Instant::now();
        self.wanted = self.done.saturating_duration_since(began) * 4;
        self.pause = self.pause.max(PAUSE);
    }
}

/// Sleeps until `deadline`; without one, for good.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
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

    #[test]
    fn pauses_grow_while_a_storm_lasts() {
        let storm = Duration::from_millis(25);
        let mut pace = Pace::at_most(storm * 2).slower_in_storms(storm);
        let mut pause_for = |cause: Duration| {
            pace.done(Instant::now());
            let cause = pace.done + cause;
            pace.not_before_for(cause);
            pace.pause
        };
        assert_eq!(
            [1; 4].map(|after| pause_for(Duration::from_millis(after))),
            [10, 20, 25, 25].map(Duration::from_millis)
        );
        assert_eq!(pause_for(storm / 2), PAUSE, "that one came later");
        assert_eq!(pause_for(Duration::ZERO), PAUSE * 2);
    }
}
