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

use super::{FITTING, OTHER, Pool, Ports, REST_OF_UDP, SPARE_CHUNKS};
use crate::clock::Time;
use crate::flow::fifo::{Arena, Entry, Fifo, Seconds, seconds};
use crate::flow::replies::{Judge, ReplyQueues};

/// Ports for which the index is loaded at once.
const LOOK_AHEAD: u32 = 8;
/// Ports that are judged for one flow: eight for each worker, and this many at least. For a few flows none of them fits: the
/// hash is linear, so ports that do not fit come in runs.
const LEAST_LOOKS: u32 = 32;
const LOOKS_A_WORKER: u32 = 8;

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
            if pool.sorted == seconds(now) {
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
        (pool.stamp, pool.sorted, pool.loaded) = (stamp, seconds(now), 0);
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
        let mut looks = judge.map_or(1, |judge| LEAST_LOOKS.max(LOOKS_A_WORKER * u32::from(judge.workers())));
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
        while *looks > 0 {
            let pool = self.pools.get(number as usize)?;
            let (known, offset) = (pool.known, pool.offset);
            if known >= self.total || !self.reserve(number, known, now) {
                return None;
            }
            let port = self.port(offset.wrapping_add(known));
            let pool = self.pools.get_mut(number as usize)?;
            pool.known += 1;
            if judge.is_none_or(|judge| judge.fits(port)) {
                return Some(port);
            }
            pool.ready[OTHER].push(&mut self.arena, Entry { port, at: Seconds::floor(now).0 });
            *looks -= 1;
        }
        None
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
        let (known, offset, left) = (pool.known, pool.offset, self.total - pool.known);
        if left > 0 && !self.arena.is_short() {
            let next = (0..left.min(4 * LOOK_AHEAD)).map(|step| self.port(offset.wrapping_add(known + step)));
            let fitting = next.filter(|port| judge.is_none_or(|judge| judge.fits(*port))).take(LOOK_AHEAD as usize);
            let loaded = fitting.map(&mut preload).count() as u16;
            if let Some(pool) = self.pools.get_mut(number as usize) {
                pool.loaded = loaded.saturating_sub(1);
            }
            return;
        }
        let mut queues = pool.ready.iter().zip(&pool.resting).flat_map(|(ready, resting)| [ready, resting]);
        let Some(queue) = queues.find(|queue| !queue.is_empty()) else { return };
        let entries = queue.front(&self.arena);
        let entries = entries.get(..LOOK_AHEAD as usize).unwrap_or(entries);
        pool.loaded = (entries.len() as u16).saturating_sub(1);
        entries.iter().for_each(|entry| preload(entry.port));
    }
}
