//! What the demo's client counted: answers by endpoint, and requests that failed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// HTTP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A request over a new TCP connection.
    Http,
    /// A datagram from a new socket.
    Udp,
}

/// Counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Answers by endpoint, HTTP and UDP.
    pub(super) answers: BTreeMap<String, [u64; 2]>,
    /// Failures, HTTP and UDP.
    pub(super) failures: [u64; 2],
    /// The latest failure.
    pub(super) last_failure: Option<String>,
    /// Requests on the one connection that stays open all the while.
    pub(super) long_lived: u64,
    /// Who answered there, in order, without repetitions.
    pub(super) long_lived_endpoints: Vec<String>,
    /// What broke it, if anything.
    pub(super) long_lived_failure: Option<String>,
}

impl Counts {
    /// What came since an earlier moment.
    pub(super) fn since(&self, before: &Counts) -> Counts {
        let mut counts = self.clone();
        for (endpoint, answers) in &mut counts.answers {
            let [http, udp] = before.answers.get(endpoint).copied().unwrap_or_default();
            *answers = [answers[0].saturating_sub(http), answers[1].saturating_sub(udp)];
        }
        for (failures, before) in counts.failures.iter_mut().zip(before.failures) {
            *failures = failures.saturating_sub(before);
        }
        counts.long_lived = self.long_lived.saturating_sub(before.long_lived);
        counts
    }

    /// Answers of one endpoint, both kinds.
    pub(super) fn of(&self, endpoint: &str) -> u64 {
        self.answers.get(endpoint).map_or(0, |[http, udp]| http + udp)
    }

    /// All answers.
    pub(super) fn total(&self) -> u64 {
        self.answers.values().map(|[http, udp]| http + udp).sum()
    }

    /// One endpoint's part of all answers, 0 to 1.
    pub(super) fn share(&self, endpoint: &str) -> f64 {
        if self.total() == 0 { 0.0 } else { self.of(endpoint) as f64 / self.total() as f64 }
    }

    /// All failures.
    pub(super) fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }
}

/// Counts shared by the client's tasks and the story.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

impl Tally {
    /// The counts now.
    pub(super) fn read(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts one request.
    pub(super) fn count(&self, kind: Kind, result: Result<String, String>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(endpoint) => counts.answers.entry(endpoint).or_default()[kind as usize] += 1,
            Err(failure) => {
                counts.failures[kind as usize] += 1;
                counts.last_failure = Some(failure);
            }
        }
    }

    /// Counts one request on the connection that stays open.
    pub(super) fn count_long_lived(&self, result: Result<String, String>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(endpoint) => {
                counts.long_lived += 1;
                if counts.long_lived_endpoints.last() != Some(&endpoint) {
                    counts.long_lived_endpoints.push(endpoint);
                }
            }
            Err(failure) => counts.long_lived_failure = Some(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_came_since() {
        let tally = Tally::default();
        tally.count(Kind::Http, Ok("a".into()));
        let before = tally.read();
        for _ in 0..3 {
            tally.count(Kind::Udp, Ok("b".into()));
        }
        tally.count(Kind::Http, Ok("a".into()));
        tally.count(Kind::Http, Err("refused".into()));
        let counts = tally.read().since(&before);
        assert_eq!((counts.of("a"), counts.of("b"), counts.total(), counts.failed()), (1, 3, 4, 1));
        assert!((counts.share("b") - 0.75).abs() < 1e-9);
        assert_eq!(Counts::default().share("a"), 0.0);
    }
}
