//! For how long an endpoint may still answer a datagram, as far as its answers of the last minute tell: twice as long as the
//! slowest of them took, and three seconds while none is known, which is also the most.
//!
//! The first answer that a flow has counts, from the first datagram that waited for it: of several nobody knows which one was
//! answered (Karn's rule for TCP's round trips leaves such out), and that is the most it can have taken. Left out, it
//! would be the slow answers, since clients repeat what is not answered soon. So a forger can only make it longer, up to what
//! it is while nothing is known. An endpoint that answers more slowly than it did in the last minute, and by more than twice,
//! is believed to be as quick as it was until such an answer has come.

use crate::clock::Time;
use crate::flow::state::{PATIENCE, SETTLED};

/// Answers of two periods count: those of the last 33 to 66 s.
const PERIOD_BITS: u32 = 15;
/// Milliseconds are kept in units of 2^4.
const UNIT_BITS: u32 = 4;

/// What is known of one endpoint.
#[derive(Clone, Copy)]
pub(super) struct AnswerTime {
    // The period that `slowest` is of; `before` is of the one before it. 0: none was answered.
    period: u16,
    slowest: u8,
    before: u8,
}

impl AnswerTime {
    pub(super) const UNKNOWN: AnswerTime = AnswerTime { period: 0, slowest: 0, before: 0 };

    /// An answer came after so many milliseconds.
    pub(super) fn note(&mut self, took: u32, now: u32) {
        *self = self.at(now);
        let units = (took >> UNIT_BITS).saturating_add(1);
        self.slowest = self.slowest.max(u8::try_from(units).unwrap_or(u8::MAX));
    }

    /// Milliseconds after which no answer to a datagram is expected any more.
    pub(super) fn limit(&self, now: Time) -> u32 {
        let known = self.at(now.millis());
        match known.slowest.max(known.before) {
            0 => PATIENCE,
            units => (u32::from(units) << (UNIT_BITS + 1)).clamp(SETTLED, PATIENCE),
        }
    }

    fn at(self, now: u32) -> Self {
        let period = (now >> PERIOD_BITS) as u16;
        match period.wrapping_sub(self.period) {
            0 => self,
            1 => AnswerTime { period, slowest: 0, before: self.slowest },
            _ => AnswerTime { period, slowest: 0, before: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_answer_of_the_last_minute_counts() {
        // The circle of milliseconds closes meanwhile.
        for start in [1_000u64, (1 << 32) - 40_000] {
            let at = |seconds: u64| Time((start + seconds * 1000) * 1_000_000);
            let mut known = AnswerTime::UNKNOWN;
            assert_eq!(known.limit(at(0)), PATIENCE);
            known.note(1, at(0).millis());
            assert_eq!(known.limit(at(0)), SETTLED);
            known.note(1000, at(0).millis());
            known.note(1, at(0).millis());
            assert!((2000..2100).contains(&known.limit(at(0))));
            known.note(5, at(32).millis());
            assert!((2000..2100).contains(&known.limit(at(32))));
            known.note(5, at(66).millis());
            assert_eq!(known.limit(at(66)), SETTLED);
            known.note(u32::MAX, at(66).millis());
            assert_eq!(known.limit(at(66)), PATIENCE);
            assert_eq!(known.limit(at(200)), PATIENCE);
        }
    }
}
