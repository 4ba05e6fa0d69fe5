//! How many packets a worker may generate by itself: in any second no more than its limit, but for the news that a packet is
//! too large. And how many it may give to others
//! on the word of strangers: a share for each of what they speak of, so that nobody uses up what others need.
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

    /// Whether one more may be generated now.
    fn has_room(&self, now: Time) -> bool {
        self.free.get(self.oldest).is_some_and(|free| *free <= now.0)
    }

    /// Whether one more may be generated now; it counts if so.
    pub(crate) fn admit(&mut self, now: Time) -> bool {
        let Some(free) = self.free.get_mut(self.oldest).filter(|free| **free <= now.0) else { return false };
        *free = now.0.saturating_add(NANOS);
        self.oldest = if self.oldest + 1 < self.free.len() { self.oldest + 1 } else { 0 };
        true
    }
}

/// Shares that a [`Shares`] is divided into.
const SHARES: usize = 256;

/// How many may pass at once in one share.
const AT_ONCE: usize = 4;

/// After this time a share is free again.
const SHARE_TIME: u64 = NANOS / 10;

/// A limiter for each of many shares. By a hash under a secret, so nobody can aim at the share of somebody else.
pub(crate) struct Shares {
    // When each place is free again.
    free: Box<[[u64; AT_ONCE]]>,
}

impl Shares {
    pub(crate) fn new() -> Self {
        Shares { free: vec![[0; AT_ONCE]; SHARES].into_boxed_slice() }
    }

    /// Whether one more may pass now that has this hash.
    fn has_room(&self, hash: u64, now: Time) -> bool {
        let share = self.free.get((hash >> 32) as usize % SHARES);
        share.is_some_and(|share| share.iter().any(|free| *free <= now.0))
    }

    /// Whether one more may pass now that has this hash; it counts if so.
    pub(crate) fn admit(&mut self, hash: u64, now: Time) -> bool {
        let Some(share) = self.free.get_mut((hash >> 32) as usize % SHARES) else { return false };
        let Some(free) = share.iter_mut().find(|free| **free <= now.0) else { return false };
        *free = now.0.saturating_add(SHARE_TIME);
        true
    }
}

/// Clients that a worker moves to another endpoint in any second, whoever they are.
const RESCUES_PER_SECOND: u32 = 10_000;

/// How many clients a worker moves to another endpoint. Beyond what there is for all, each share of their addresses has its own, so
/// that one who asks without end, or makes others up nearby, is moved himself no more.
pub(super) struct Rescues {
    own: Shares,
    all: Limiter,
}

impl Rescues {
    pub(super) fn new() -> Self {
        Rescues { own: Shares::new(), all: Limiter::new(RESCUES_PER_SECOND) }
    }

    /// Whether one more client, whose address has this hash, may be moved now; it counts if so.
    pub(super) fn admit(&mut self, hash: u64, now: Time) -> bool {
        self.own.admit(hash, now) || self.all.admit(now)
    }
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerTo {
    /// A ping.
    Ping,
    /// What is refused, or ran out of hops.
    Refused,
    /// What is too large for its way: `hash` is its tuple's, `certain` says that both sides take part in its flow.
    TooBig { hash: u64, certain: bool },
}

/// How many answers a worker may generate. Who pings takes at most half of what there is for all that is refused. A packet that
/// is too large takes nothing from either, since its sender comes no further without the answer: each tuple has its share, and
/// those of flows that somebody may have forged take nothing from the rest.
pub(super) struct Answers {
    all: Limiter,
    pings: Limiter,
    too_big: [Shares; 2],
    /// Whether there are any.
    answers: bool,
}

impl Answers {
    pub(super) fn new(per_second: u32) -> Self {
        Answers {
            all: Limiter::new(per_second),
            pings: Limiter::new(per_second.div_ceil(2)),
            too_big: [Shares::new(), Shares::new()],
            answers: per_second > 0,
        }
    }

    /// Whether one more may be generated now.
    pub(super) fn has_room(&self, to: AnswerTo, now: Time) -> bool {
        let [forged, certain] = &self.too_big;
        match to {
            AnswerTo::Ping => self.pings.has_room(now) && self.all.has_room(now),
            AnswerTo::Refused => self.all.has_room(now),
            AnswerTo::TooBig { hash, certain: true } => self.answers && certain.has_room(hash, now),
            AnswerTo::TooBig { hash, certain: false } => self.answers && forged.has_room(hash, now),
        }
    }

    /// Counts one for which there was room.
    pub(super) fn count(&mut self, to: AnswerTo, now: Time) {
        let [forged, certain] = &mut self.too_big;
        match to {
            AnswerTo::Ping => self.pings.admit(now) && self.all.admit(now),
            AnswerTo::Refused => self.all.admit(now),
            AnswerTo::TooBig { hash, certain: true } => certain.admit(hash, now),
            AnswerTo::TooBig { hash, certain: false } => forged.admit(hash, now),
        };
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
    fn a_share_is_nobody_elses() {
        let mut shares = Shares::new();
        let mut admitted = |share: u64, now| (0..100).filter(|low| shares.admit(share << 32 | low, Time(now))).count();
        assert_eq!(admitted(5, 7), AT_ONCE);
        assert_eq!(admitted(5, SHARE_TIME + 6), 0);
        assert_eq!(admitted(6, SHARE_TIME + 6), AT_ONCE);
        assert_eq!(admitted(5, SHARE_TIME + 7), AT_ONCE);
        let all: usize = (0..10 * SHARES as u64).map(|share| admitted(share, NANOS)).sum();
        assert_eq!(all, SHARES * AT_ONCE);
    }

    #[test]
    fn a_limit_of_nothing_admits_nothing() {
        assert!(!Limiter::new(0).admit(Time(7)));
        let too_big = AnswerTo::TooBig { hash: 7, certain: true };
        for to in [AnswerTo::Ping, AnswerTo::Refused, too_big] {
            assert!(!Answers::new(0).has_room(to, Time(7)), "{to:?}");
        }
    }

    #[test]
    fn who_pings_leaves_room_for_all_else_and_nobody_takes_what_is_too_big_its_own() {
        let mut answers = Answers::new(10);
        let mut generated = |to, times: u32| {
            let admits = |_: &u32| {
                let room = answers.has_room(to, Time(7));
                if room {
                    answers.count(to, Time(7));
                }
                room
            };
            (0..times).filter(admits).count()
        };
        assert_eq!(generated(AnswerTo::Ping, 100), 5);
        assert_eq!(generated(AnswerTo::Refused, 100), 5);
        let forged: usize =
            (0..10_000u64).map(|number| generated(AnswerTo::TooBig { hash: number << 32, certain: false }, 1)).sum();
        assert_eq!(forged, SHARES * AT_ONCE);
        assert_eq!(generated(AnswerTo::TooBig { hash: 5, certain: true }, 100), AT_ONCE);
    }

    #[test]
    fn who_is_moved_without_end_leaves_others_their_share() {
        let mut rescues = Rescues::new();
        let mut admitted = |hash: u64| (0..20_000).filter(|_| rescues.admit(hash << 32, Time(7))).count();
        assert_eq!(admitted(5), RESCUES_PER_SECOND as usize + AT_ONCE);
        assert_eq!(admitted(6), AT_ONCE);
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
