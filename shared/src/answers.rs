//! What endpoints make of new flows: answered, left unanswered, refused; written when a flow changes or ends, by its
//! worker alone, and read by anyone.
//!
//! A SYN or an INIT counts as unanswered when the client repeats it, or when its flow ends, and nothing came back meanwhile;
//! UDP when nothing came back for three seconds, and again for every three seconds in which the client goes on to send. Forged packets that an endpoint answers are no sign of anything wrong, and what gave way
//! to others while it was young says nothing.

use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

/// Upper bounds in milliseconds of the classes that the time from SYN to SYN-ACK is counted in; one more is for the rest.
pub const HANDSHAKE_BOUNDS: [u32; 6] = [1, 5, 25, 100, 500, 2500];
const CLASSES: usize = HANDSHAKE_BOUNDS.len() + 1;

/// One backend's numbers in one worker, one cache line.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct AnswerCell {
    handshakes: [AtomicU32; CLASSES],
    handshake_millis: AtomicU32,
    answered: AtomicU32,
    unanswered: AtomicU32,
    refused: AtomicU32,
    // Without an answer in between.
    failed_since: AtomicU32,
    refused_since: AtomicU32,
    // In milliseconds of the workers' clock.
    answered_at: AtomicU32,
    failed_at: AtomicU32,
}

const _: () = assert!(size_of::<AnswerCell>() == 64);

/// A single writer needs no read-modify-write instruction.
#[inline]
fn raise(counter: &AtomicU32, amount: u32) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl AnswerCell {
    pub(crate) fn note_answer(&self, handshake: Option<u32>, now: u32) {
        if let Some(millis) = handshake {
            let class = HANDSHAKE_BOUNDS.iter().position(|bound| millis <= *bound).unwrap_or(CLASSES - 1);
            if let Some(class) = self.handshakes.get(class) {
                raise(class, 1);
            }
            raise(&self.handshake_millis, millis);
        }
        raise(&self.answered, 1);
        self.failed_since.store(0, Ordering::Relaxed);
        self.refused_since.store(0, Ordering::Relaxed);
        self.answered_at.store(now, Ordering::Relaxed);
    }

    pub(crate) fn answered_since(&self, time: u32) -> bool {
        self.answered.load(Ordering::Relaxed) > 0 && is_later(self.answered_at.load(Ordering::Relaxed), time)
    }

    pub(crate) fn note_failure(&self, refused: bool, now: u32) {
        if refused {
            raise(&self.refused, 1);
            raise(&self.refused_since, 1);
        } else {
            raise(&self.unanswered, 1);
        }
        raise(&self.failed_since, 1);
        self.failed_at.store(now, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Answers {
        let value = |counter: &AtomicU32| u64::from(counter.load(Ordering::Relaxed));
        Answers {
            answered: value(&self.answered),
            unanswered: value(&self.unanswered),
            refused: value(&self.refused),
            handshakes: self.handshakes.each_ref().map(value),
            handshake_millis: value(&self.handshake_millis),
        }
    }
}

/// How many first packets of flows a backend answered and did not answer, in one worker or in sum. Each worker counts
/// modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answers {
    /// SYNs that got a SYN-ACK, flows of other protocols that got a reply.
    pub answered: u64,
    /// SYNs, INITs, and requests over UDP, that got nothing.
    pub unanswered: u64,
    /// SYNs that got a RST, INITs that got an ABORT, and what an ICMP error was sent about.
    pub refused: u64,
    /// SYNs sent once by the time to their SYN-ACK, in the classes of [`HANDSHAKE_BOUNDS`].
    pub handshakes: [u64; CLASSES],
    /// The sum of these times in milliseconds.
    pub handshake_millis: u64,
}

impl Answers {
    /// Adds another worker's or backend's.
    pub fn merge(&mut self, other: &Answers) {
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        self.refused += other.refused;
        self.handshake_millis += other.handshake_millis;
        self.handshakes.iter_mut().zip(other.handshakes).for_each(|(sum, more)| *sum += more);
    }

    /// What was counted since `before`.
    pub fn since(&self, before: &Answers) -> Answers {
        let mut handshakes = self.handshakes;
        handshakes.iter_mut().zip(before.handshakes).for_each(|(now, before)| *now = now.saturating_sub(before));
        Answers {
            answered: self.answered.saturating_sub(before.answered),
            unanswered: self.unanswered.saturating_sub(before.unanswered),
            refused: self.refused.saturating_sub(before.refused),
            handshakes,
            handshake_millis: self.handshake_millis.saturating_sub(before.handshake_millis),
        }
    }
}

/// What a backend has not answered since its last answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// First packets in a row.
    pub failed: u64,
    /// Of these, refused.
    pub refused: u64,
    /// When the last of them failed, in milliseconds of the workers' clock.
    pub failed_at: u32,
}

/// Whether one time of the workers' clock is another one or after it. They count modulo 2^32 milliseconds.
fn is_later(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) <= i32::MAX as u32
}

/// The silence of one backend, whose numbers in all workers these are.
pub(crate) fn silence<'c>(cells: impl Iterator<Item = &'c AnswerCell> + Clone) -> Silence {
    let load = |value: &AtomicU32| value.load(Ordering::Relaxed);
    let answers = cells.clone().filter(|cell| load(&cell.answered) > 0).map(|cell| load(&cell.answered_at));
    let answered_at = answers.reduce(|a, b| if is_later(a, b) { a } else { b });
    let mut silence = Silence::default();
    for cell in cells {
        let failed_at = load(&cell.failed_at);
        if load(&cell.failed_since) == 0 || answered_at.is_some_and(|answered| !is_later(failed_at, answered)) {
            continue;
        }
        if silence.failed == 0 || is_later(failed_at, silence.failed_at) {
            silence.failed_at = failed_at;
        }
        silence.failed += u64::from(load(&cell.failed_since));
        silence.refused += u64::from(load(&cell.refused_since));
    }
    silence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_anywhere_ends_the_silence() {
        let workers = [AnswerCell::default(), AnswerCell::default()];
        workers[0].note_answer(Some(3), u32::MAX - 100);
        workers[0].note_failure(false, u32::MAX);
        // The clock goes around.
        workers[1].note_failure(true, 5);
        workers[1].note_failure(false, 7);
        assert_eq!(silence(workers.iter()), Silence { failed: 3, refused: 1, failed_at: 7 });
        let since = |time| workers.each_ref().map(|worker| worker.answered_since(time));
        assert_eq!([since(u32::MAX - 100), since(u32::MAX - 99), since(5)], [[true, false], [false; 2], [false; 2]]);
        workers[0].note_answer(None, 8);
        assert_eq!(silence(workers.iter()), Silence::default());
        workers[1].note_failure(false, 9);
        assert_eq!(silence(workers.iter()).failed_at, 9);
        let mut sum = workers[0].read();
        sum.merge(&workers[1].read());
        let handshakes = [0, 1, 0, 0, 0, 0, 0];
        let expected = Answers { answered: 2, unanswered: 3, refused: 1, handshakes, handshake_millis: 3 };
        assert_eq!(sum, expected);
        assert_eq!(sum.since(&workers[0].read()), workers[1].read());
    }

    #[test]
    fn handshakes_are_classed() {
        let cell = AnswerCell::default();
        for millis in [0, 1, 2, 25, 26, 100, 2500, 2501, 60_000] {
            cell.note_answer(Some(millis), 0);
        }
        assert_eq!(cell.read().handshakes, [2, 1, 1, 2, 0, 1, 2]);
    }
}
