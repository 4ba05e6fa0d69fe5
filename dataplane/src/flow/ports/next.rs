//! Which port comes next. In this order, oldest first in each line:
//!
//! 1. ports that fit and were never used;
//! 2. ports that fit and are ready or have rested;
//! 3. ports that do not fit and were never used, are ready, or have rested;
//! 4. ports that rest, whether they fit or not; of UDP none.
//!
//! A reply to a port that does not fit is handed over, which is slow; a port that is used again too early can break a
//! connection. So no fitting port is taken from its rest while any other is free. For one flow only a few ports are looked
//! at: one that finds none among them that fits takes another. Where it is not known to which queue replies come, all ports
//! count as fitting.
//!
//! Ports that are found not to fit move to queues of their own, each once for every time it is given back. When the NIC's
//! RSS changes, all are sorted anew: once a second at most, since the next hops of a pool may differ in theirs.

use ringway_shared::FiveTuple;

use super::{ATTEMPTS, FITTING, OTHER, Pool, Ports, REST_OF_UDP, SPARE_CHUNKS};
use crate::clock::Time;
use crate::flow::fifo::{Arena, Entry, Fifo, Seconds};
use crate::flow::replies::{Judge, ReplyQueues};

/// Ports for which the index is loaded at once.
const LOOK_AHEAD: u32 = 8;
/// The most ports that are judged for one flow. The hash is linear, so ports that do not fit come in runs, as long as a power of
/// two that the key decides: with one key in 32 of 32 and more, with one in 256 of 256 and more. Each port is judged once, so
/// what lies before a port that fits is paid for by one flow only.
const LOOKS: u32 = 256;

/// Ports never used that are judged at once, each for a bit; the bit above them marks the end.
const WINDOW: u32 = 31;

/// The rank behind another one, of `total`.
#[inline]
fn following(rank: u32, total: u32) -> u32 {
    if rank + 1 < total { rank + 1 } else { 0 }
}

/// Among which ports the next one is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Fitting,
    Other,
    Resting,
}

impl Stage {
    pub(super) fn following(self) -> Self {
        match self {
            Stage::Fitting => Stage::Other,
            Stage::Other | Stage::Resting => Stage::Resting,
        }
    }
}

/// Which of a pool's queues an entry came from.
#[derive(Clone, Copy)]
enum Kind {
    Ready,
    Resting,
}

impl Pool {
    /// The rank, of `total`, of the port that is `step` behind the next one that was never used.
    #[inline]
    pub(super) fn next_rank(&self, step: u32, total: u32) -> u32 {
        let rank = self.offset + self.known + step;
        if rank < total { rank } else { (rank - total).min(total - 1) }
    }

    fn queue(&mut self, kind: Kind, group: usize) -> Option<&mut Fifo> {
        match kind {
            Kind::Ready => self.ready.get_mut(group),
            Kind::Resting => self.resting.get_mut(group),
        }
    }
}

impl Ports {
    /// What tells a pool's fitting ports, where that is known.
    #[inline]
    pub(super) fn judge<'a>(&mut self, number: u32, replies: Option<ReplyQueues<'a>>, now: Time) -> Option<Judge<'a>> {
        let pool = self.pools.get(number as usize)?;
        match replies {
            None if pool.stamp == 0 => None,
            Some(replies) if pool.stamp == replies.stamp() => replies.judge_with(&pool.key, pool.base),
            _ => self.sort(number, replies, now),
        }
    }

    /// Begins to tell fitting ports from others, or to do it by another RSS, or not any more.
    #[cold]
    fn sort<'a>(&mut self, number: u32, replies: Option<ReplyQueues<'a>>, now: Time) -> Option<Judge<'a>> {
        let pool = self.pools.get_mut(number as usize)?;
        let judge = replies.and_then(|replies| replies.judge(&pool.key));
        let stamp = replies.filter(|_| judge.is_some()).map_or(0, |replies| replies.stamp());
        if pool.stamp == 0 {
            if stamp == 0 || self.arena.is_short() || !self.arena.reserve(SPARE_CHUNKS) {
                return None;
            }
        } else {
            if pool.sorted == Seconds::floor(now).0 {
                return judge;
            }
            let Pool { ready, resting, .. } = pool;
            for [fitting, other] in [ready, resting] {
                while let Some(entry) = other.pop(&mut self.arena) {
                    fitting.push(&mut self.arena, entry);
                }
            }
            if stamp == 0 {
                self.arena.unreserve(SPARE_CHUNKS);
            }
        }
        (pool.stamp, pool.sorted, pool.loaded, pool.window) = (stamp, Seconds::floor(now).0, 0, 0);
        pool.base = judge.map_or(0, |judge| judge.base);
        judge
    }

    /// The next port, taken out of its queue.
    #[inline]
    pub(super) fn next(&mut self, number: u32, now: Time, judge: Option<&Judge<'_>>, stage: &mut Stage) -> Option<u16> {
        loop {
            let port = match stage {
                Stage::Fitting => self.next_fitting(number, now, judge),
                Stage::Other => self.oldest(number, OTHER, now).map(|(entry, _)| entry.port),
                Stage::Resting => return self.longest_resting(number, now),
            };
            if port.is_some() {
                return port;
            }
            *stage = stage.following();
        }
    }

    #[inline]
    fn next_fitting(&mut self, number: u32, now: Time, judge: Option<&Judge<'_>>) -> Option<u16> {
        let mut looks = judge.map_or(1, |_| LOOKS);
        if !self.arena.is_short()
            && let Some(port) = self.never_used(number, now, judge, &mut looks)
        {
            return Some(port);
        }
        while looks > 0
            && let Some((entry, kind)) = self.oldest(number, FITTING, now)
        {
            if judge.is_none_or(|judge| judge.fits(entry.port)) {
                return Some(entry.port);
            }
            if let Some(queue) = self.pools.get_mut(number as usize)?.queue(kind, OTHER) {
                queue.push(&mut self.arena, entry);
            }
            looks -= 1;
        }
        self.never_used(number, now, judge, &mut looks)
    }

    pub(super) fn put_back(&mut self, number: u32, port: u16, judge: Option<&Judge<'_>>, now: Time) {
        let group = if judge.is_none_or(|judge| judge.fits(port)) { FITTING } else { OTHER };
        if let Some(pool) = self.pools.get_mut(number as usize) {
            pool.ready[group].push(&mut self.arena, Entry { port, at: Seconds::floor(now).0 });
        }
    }

    /// A port that is a frontend's now rests, as what may have been answered does, and is asked for again after that: however
    /// many there are, flows meet them once in three seconds, and they come back when the Service is gone.
    #[cold]
    pub(super) fn lay_aside(&mut self, number: u32, port: u16, now: Time) {
        if let Some(pool) = self.pools.get_mut(number as usize) {
            pool.resting[FITTING].push(&mut self.arena, Entry { port, at: Seconds::ceiling(now).0 });
        }
    }

    /// A port where there is no memory for a pool, or for more ports in it.
    #[cold]
    #[inline(never)]
    pub(super) fn find_without_pool(
        &self,
        (reply, hash): (&FiveTuple, u64),
        replies: Option<ReplyQueues<'_>>,
        now: Time,
        is_free: impl FnMut(&u16) -> bool,
    ) -> Option<u16> {
        let judge = replies.and_then(|replies| replies.judge(reply));
        let fitting = self.attempts(hash, now).filter(|port| judge.is_some_and(|judge| judge.fits(*port)));
        fitting.chain(self.attempts(hash, now)).find(is_free)
    }

    /// The ports that are tried without a pool.
    pub(super) fn attempts(&self, hash: u64, now: Time) -> impl Iterator<Item = u16> {
        let start = (hash as u32).wrapping_add(now.millis());
        (0..ATTEMPTS.min(self.total)).map(move |step| self.port(start.wrapping_add(step)))
    }

    /// The oldest port of a group that is ready or has rested.
    #[inline]
    fn oldest(&mut self, number: u32, group: usize, now: Time) -> Option<(Entry, Kind)> {
        let pool = self.pools.get_mut(number as usize)?;
        let age = |entry: Entry| Seconds::floor(now).since(Seconds(entry.at));
        let rest = pool.rest();
        let (ready, resting) = (pool.ready.get_mut(group)?, pool.resting.get_mut(group)?);
        let readys = ready.peek(&self.arena).map(age);
        let rested = resting.peek(&self.arena).map(age).filter(|age| *age >= rest);
        let (queue, kind) = match (readys, rested) {
            (Some(ready), Some(rested)) if rested > ready => (resting, Kind::Resting),
            (None, Some(_)) => (resting, Kind::Resting),
            (Some(_), _) => (ready, Kind::Ready),
            (None, None) => return None,
        };
        queue.pop(&mut self.arena).map(|entry| (entry, kind))
    }

    fn longest_resting(&mut self, number: u32, now: Time) -> Option<u16> {
        let pool = self.pools.get_mut(number as usize)?;
        let age = |queue: &Fifo| Some(Seconds::floor(now).since(Seconds(queue.peek(&self.arena)?.at)));
        let [fitting, other] = pool.resting.each_ref().map(age);
        let is_udp = pool.rest() == REST_OF_UDP;
        if is_udp && fitting.max(other) < Some(REST_OF_UDP) {
            return None;
        }
        let queue = pool.resting.get_mut(if other > fitting { OTHER } else { FITTING })?;
        queue.pop(&mut self.arena).map(|entry| entry.port)
    }

    /// The next port that fits and was never used. Those on the way that do not fit count as ready from now on.
    #[inline]
    fn never_used(&mut self, number: u32, now: Time, judge: Option<&Judge<'_>>, looks: &mut u32) -> Option<u16> {
        loop {
            let known = self.pools.get(number as usize)?.known;
            if *looks == 0 || known >= self.total || !self.reserve(number, known, now) {
                return None;
            }
            let Some(judge) = judge else {
                let pool = self.pools.get_mut(number as usize)?;
                let rank = pool.next_rank(0, self.total);
                pool.known += 1;
                pool.window >>= 1;
                return Some(self.set.nth(rank));
            };
            let window = match self.window(number, judge) {
                Some(window) => window,
                None => 1 << 1 | u32::from(judge.fits(self.coming(number, 0)?)),
            };
            // Up to one that fits, and as far as room is set aside.
            let unfit = window.trailing_zeros();
            let room = Arena::ENTRIES - known % Arena::ENTRIES;
            let skipped = unfit.min(room).min(*looks);
            let pool = self.pools.get_mut(number as usize)?;
            let mut rank = pool.next_rank(0, self.total);
            let at = Seconds::floor(now).0;
            for _ in 0..skipped {
                pool.ready[OTHER].push(&mut self.arena, Entry { port: self.set.nth(rank), at });
                rank = following(rank, self.total);
            }
            *looks -= skipped;
            let is_found = skipped == unfit && unfit < room && window >> unfit > 1;
            let passed = skipped + u32::from(is_found);
            pool.known += passed;
            pool.window >>= passed;
            if is_found {
                return Some(self.set.nth(rank));
            }
        }
    }

    /// Which of a pool's next ports that were never used fit, beginning with the lowest bit; the highest one that is set is none
    /// of them. So each is judged once. `None` by another RSS than the pool's ports are sorted by.
    #[inline(never)]
    fn window(&mut self, number: u32, judge: &Judge<'_>) -> Option<u32> {
        let pool = self.pools.get_mut(number as usize).filter(|pool| pool.stamp == judge.stamp())?;
        if pool.window <= 1 {
            let count = WINDOW.min(self.total - pool.known);
            let mut rank = pool.next_rank(0, self.total);
            let mut window = 1 << count;
            for bit in 0..count {
                window |= u32::from(judge.fits(self.set.nth(rank))) << bit;
                rank = following(rank, self.total);
            }
            pool.window = window;
        }
        Some(pool.window)
    }

    /// The port that is `step` behind the next one of a pool that was never used.
    #[inline]
    fn coming(&self, number: u32, step: u32) -> Option<u16> {
        self.pools.get(number as usize).map(|pool| self.set.nth(pool.next_rank(step, self.total)))
    }

    /// Sets room aside for one more port.
    #[inline]
    fn reserve(&mut self, number: u32, known: u32, now: Time) -> bool {
        if !known.is_multiple_of(Arena::ENTRIES) {
            return true;
        }
        let chunks = if known == 0 { 1 + SPARE_CHUNKS } else { 1 };
        self.arena.reserve(chunks) || (self.reclaim(Some(number), now).is_some() && self.arena.reserve(chunks))
    }

    /// Has the index load what the next ports of a pool will need, several at a time so that the cache misses overlap.
    #[inline]
    pub(super) fn look_ahead(&mut self, number: u32, judge: Option<&Judge<'_>>, mut preload: impl FnMut(u16)) {
        let Some(pool) = self.pools.get_mut(number as usize) else { return };
        if pool.loaded > 0 {
            pool.loaded -= 1;
            return;
        }
        let left = self.total - pool.known;
        if left > 0 && !self.arena.is_short() {
            let Some(window) = judge.and_then(|judge| self.window(number, judge)) else {
                self.look_ahead_at_all(number, left.min(LOOK_AHEAD), preload);
                return;
            };
            let (mut ahead, mut loaded, mut step, most) = (window, 0, 0, left.min(WINDOW));
            while ahead > 1 && loaded < LOOK_AHEAD as u8 {
                let unfit = ahead.trailing_zeros();
                (ahead, step) = (ahead >> unfit, step + unfit);
                if ahead == 1 || step >= most {
                    break;
                }
                if let Some(port) = self.coming(number, step) {
                    preload(port);
                    loaded += 1;
                }
                (ahead, step) = (ahead >> 1, step + 1);
            }
            if let Some(pool) = self.pools.get_mut(number as usize) {
                pool.loaded = loaded.saturating_sub(1);
            }
            return;
        }
        let mut queues = pool.ready.iter().zip(&pool.resting).flat_map(|(ready, resting)| [ready, resting]);
        let Some(queue) = queues.find(|queue| !queue.is_empty()) else { return };
        let entries = queue.front(&self.arena);
        let entries = entries.get(..LOOK_AHEAD as usize).unwrap_or(entries);
        pool.loaded = (entries.len() as u8).saturating_sub(1);
        entries.iter().for_each(|entry| preload(entry.port));
    }

    /// The same for the next `count` ports that were never used, of which none is told from others.
    #[inline]
    fn look_ahead_at_all(&mut self, number: u32, count: u32, preload: impl FnMut(u16)) {
        let Some(pool) = self.pools.get_mut(number as usize) else { return };
        pool.loaded = (count as u8).saturating_sub(1);
        let first = pool.next_rank(0, self.total);
        let ranks = std::iter::successors(Some(first), |rank| Some(following(*rank, self.total)));
        ranks.take(count as usize).map(|rank| self.set.nth(rank)).for_each(preload);
    }
}
