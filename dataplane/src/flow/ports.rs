//! The ports of masqueraded flows towards endpoints: free per (SNAT address, protocol, endpoint address and port).
//!
//! A *pool* is made with the first masqueraded flow to an endpoint. It hands out ports never used before, then those that
//! were given back, oldest first; the port of a closed TCP flow rests in a queue of its own for 60 s and is taken from
//! there earlier only when nothing else is free. Whether a port really is free, the flow table's index has the last
//! word: source-kept flows may occupy reply tuples too. Where it is known to which queue replies come, ports that fit are
//! preferred (`next`). When no port is left, the flow that gives its own up first is
//! known (`holders`): a closed one, else the half-open or unreplied one that was silent for longest, else silent UDP.
//!
//! **No UDP port changes hands while an answer may be under way**: nothing in a datagram tells whose answer it is, so the new
//! flow's client would get the former one's. For how long that is, the endpoint's last answers tell (`answer_time`). A flow
//! that ends earlier (the table was full) leaves its port to rest, three seconds, and nothing shortens that. When all ports
//! are in use by flows that may be answered, or rest, a new flow gets none: its client can ask again, while what a wrong client
//! got cannot be taken back. Nor does UDP get a port that is a frontend's on the SNAT address. TCP and SCTP have numbers to tell.
//!
//! Memory is set aside at the start, and giving back never fails: a pool reserves room in the arena for every port before
//! it hands it out for the first time. When the arena runs short, pools prefer ports that have rested to new ones; when
//! it runs out, a pool that nothing uses loses its memory; when there is none, the caller gets ports without a pool, tried
//! at random against the index.

mod answer_time;
mod free;
mod next;

use answer_time::AnswerTime;
use next::Stage;
use ringway_shared::{FiveTuple, PortSet, Protocol};

use super::fifo::{Arena, Entry, Fifo, Seconds, seconds};
use super::hasher::Hasher;
use super::holders::{Holders, NO_POOL};
use super::index::Index;
use super::opening::Effort;
use super::record::Flow;
use super::replies::ReplyQueues;
use super::state::PATIENCE;
use crate::af_xdp::mapping::spread;
use crate::clock::Time;

/// Seconds that the port of a closed TCP flow rests, counted from the end of the flow's record: that keeps the queue in
/// order, and is later than the close.
pub const QUARANTINE: u16 = 60;
/// Seconds that the port of a UDP flow rests that might have been answered still.
const REST_OF_UDP: u16 = (PATIENCE / 1000) as u16;

/// Attempts to find a free port where every attempt is a look into the index.
const ATTEMPTS: u32 = 64;
/// Pools of a small table: endpoints that have some at the same time.
const LEAST_POOLS: u32 = 1024;
/// Pools looked at for one to reclaim.
const RECLAIM_STEPS: u32 = 16;
/// Chunks that a pool reserves besides those its ports fill: the first and the last one of both queues may be partly
/// empty. As many again once it tells fitting ports from others.
const SPARE_CHUNKS: u32 = 4;

/// Ports that fit, and all while that is not told.
const FITTING: usize = 0;
/// Ports that do not fit.
const OTHER: usize = 1;

/// What a pool is found by: the reply tuple without the port it hands out.
#[inline]
fn key(reply: &FiveTuple) -> FiveTuple {
    FiveTuple { ports: reply.ports & 0xffff_0000_ffff_ffff, ..*reply }
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Pool {
    key: FiveTuple,
    // The rank of the port that the pool began with.
    offset: u32,
    // How many ports were handed out for the first time; all of them are in use, ready or resting.
    known: u32,
    used: u32,
    high_water: u32,
    // Of ports that fit, and of others.
    ready: [Fifo; 2],
    resting: [Fifo; 2],
    // When a port was given back last, in seconds.
    touched: u32,
    // For how many of the next ports the index has been loaded.
    loaded: u8,
    live: bool,
    // When they were sorted anew, as queues keep it.
    sorted: u16,
    // By which RSS fitting ports are told from others; 0: they are not, and there are no others.
    stamp: u32,
    // The hash of replies but for their port.
    base: u32,
    // Which of the next ports never used fit; 0 or 1: they were not looked at. See `Ports::window`.
    window: u32,
    answers: AnswerTime,
}

const _: () = assert!(size_of::<Pool>() == 128);

impl Pool {
    /// Seconds that its ports rest.
    #[inline]
    fn rest(&self) -> u16 {
        if self.key.protocol() == Protocol::Udp { REST_OF_UDP } else { QUARANTINE }
    }
}

/// What one endpoint's ports are like, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortUse {
    /// Endpoint to SNAT address; the destination port is 0.
    pub reply: FiveTuple,
    /// Ports in use.
    pub used: u32,
    /// The most that were in use at once.
    pub high_water: u32,
    /// Ports that there are for this endpoint.
    pub total: u32,
}

/// A port that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) port: u16,
    /// The pool that it has to be given back to, or `NO_POOL`.
    pub(super) pool: u32,
}

/// All pools of a worker.
pub(super) struct Ports {
    set: PortSet,
    // How many ports the set has.
    total: u32,
    pools: Box<[Pool]>,
    index: Index,
    arena: Arena,
    hasher: Hasher,
    pub(super) holders: Holders,
    // Pools never used yet start here; those given up are in the list of `free`, through `Pool::offset`.
    fresh: u32,
    free: u32,
    // Where the search for a pool to reclaim goes on.
    hand: u32,
    high_water: u32,
}

/// The end of the list of free pools.
const NONE: u32 = u32::MAX;

impl Ports {
    pub(super) fn new(capacity: u32, set: PortSet, hasher: Hasher) -> Self {
        let pools = (capacity / 32).max(LEAST_POOLS) as usize;
        let blank = Pool {
            key: FiveTuple { source: [0; 2], destination: [0; 2], ports: 0 },
            offset: NONE,
            known: 0,
            used: 0,
            high_water: 0,
            ready: [Fifo::EMPTY; 2],
            resting: [Fifo::EMPTY; 2],
            touched: 0,
            loaded: 0,
            live: false,
            sorted: 0,
            stamp: 0,
            base: 0,
            window: 0,
            answers: AnswerTime::UNKNOWN,
        };
        Ports {
            total: set.len(),
            set,
            pools: spread(pools, blank),
            index: Index::new(pools),
            arena: Arena::new((capacity / 6).max(8192)),
            hasher,
            holders: Holders::new(capacity, pools as u32),
            fresh: 0,
            free: NONE,
            hand: 0,
            high_water: 0,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.pools) + self.index.memory_bytes() + self.arena.memory_bytes() + self.holders.memory_bytes()
    }

    /// The most ports that were in use towards any one endpoint.
    pub(super) fn high_water(&self) -> u32 {
        self.high_water
    }

    /// How many pools there have been at the same time.
    pub(super) fn places(&self) -> u32 {
        self.fresh
    }

    /// Every endpoint that has one of `most` pools from number `from` on.
    pub(super) fn uses(&self, from: u32, most: u32) -> impl Iterator<Item = PortUse> {
        let pools = self.pools.iter().skip(from as usize).take(most as usize);
        pools.filter(|pool| pool.live).map(|pool| PortUse {
            reply: pool.key,
            used: pool.used,
            high_water: pool.high_water,
            total: self.total,
        })
    }

    /// The use of ports towards the endpoint that `reply` comes from.
    pub(super) fn use_of(&self, reply: &FiveTuple) -> Option<PortUse> {
        let key = key(reply);
        let pool = self.pools.get(self.find(&key, self.hasher.hash(&key))? as usize)?;
        Some(PortUse { reply: key, used: pool.used, high_water: pool.high_water, total: self.total })
    }

    #[inline(always)]
    fn find(&self, key: &FiveTuple, hash: u64) -> Option<u32> {
        self.index
            .find(hash, |number| self.pools.get(number as usize).is_some_and(|pool| pool.live && pool.key == *key))
    }

    /// A free port for flows that `reply` answers, which comes with its hash and has no destination port. `replies` says which
    /// fit, `is_frontend` which may not be given, `is_free` asks the index, and `preload` has it load what is asked for next.
    #[inline(always)]
    pub(super) fn allocate(
        &mut self,
        (reply, hash): (&FiveTuple, u64),
        replies: Option<ReplyQueues<'_>>,
        now: Time,
        is_frontend: impl Fn(u16) -> bool,
        mut is_free: impl FnMut(u16) -> bool,
        preload: impl FnMut(u16),
    ) -> Option<Found> {
        debug_assert_eq!(*reply, key(reply));
        let number = match self.find(reply, hash) {
            Some(number) => Some(number),
            None => self.make(reply, hash, now),
        };
        if let Some(number) = number {
            let judge = self.judge(number, replies, now);
            let mut stage = Stage::Fitting;
            let mut first_taken = None;
            let mut attempts = 0;
            while attempts < ATTEMPTS {
                let before = stage;
                let Some(port) = self.next(number, now, judge.as_ref(), &mut stage) else { break };
                if stage != before {
                    first_taken = None;
                }
                if is_frontend(port) {
                    self.lay_aside(number, port, now);
                    continue;
                }
                attempts += 1;
                if first_taken == Some(port) {
                    // Once round: source-kept flows have all of these that are ready.
                    self.put_back(number, port, judge.as_ref(), now);
                    (stage, first_taken) = (stage.following(), None);
                    continue;
                }
                if is_free(port) {
                    self.take(number);
                    self.look_ahead(number, judge.as_ref(), preload);
                    return Some(Found { port, pool: number });
                }
                // A source-kept flow is there. Ask again when its turn comes.
                self.put_back(number, port, judge.as_ref(), now);
                first_taken.get_or_insert(port);
            }
            let exhausted = self.pools.get(number as usize).is_none_or(|pool| pool.known >= self.total);
            if exhausted {
                return None;
            }
        }
        let port = self.find_without_pool((reply, hash), replies, now, |port| !is_frontend(*port) && is_free(*port))?;
        Some(Found { port, pool: NO_POOL })
    }

    /// Whose port a new flow that `reply` answers may have, when `allocate` found none: the flow's number.
    pub(super) fn holder(&mut self, reply: &FiveTuple, effort: Effort, flows: &[Flow], now: Time) -> Option<u32> {
        let key = key(reply);
        let number = self.find(&key, self.hasher.hash(&key))?;
        if key.protocol() != Protocol::Udp {
            return self.holders.first(number, effort, flows, now.millis());
        }
        let answer_time = self.pools.get(number as usize)?.answers.limit(now);
        self.holders.first_settled(number, effort, flows, now.millis(), answer_time, self.total)
    }

    /// The endpoint answered a flow with a port of a pool, so many milliseconds after its first datagram.
    pub(super) fn answered(&mut self, flow: u32, took: u32, now: u32) {
        if let Some(pool) = self.pools.get_mut(self.holders.pool(flow) as usize) {
            pool.answers.note(took, now);
        }
    }

    /// The ports that `allocate` tried without a pool; none if there is one.
    pub(super) fn tried(&self, reply: &FiveTuple, now: Time) -> impl Iterator<Item = u16> {
        let key = key(reply);
        let hash = self.hasher.hash(&key);
        let pooled = self.find(&key, hash).is_some();
        self.attempts(hash, now).filter(move |_| !pooled)
    }

    /// Takes back the port that a flow had from a pool.
    pub(super) fn release(&mut self, number: u32, flow: &Flow, now: Time) {
        self.holders.delist(number, flow.state());
        let Some(pool) = self.pools.get_mut(self.holders.pool(number) as usize) else { return };
        pool.used = pool.used.saturating_sub(1);
        pool.touched = seconds(now);
        let port = flow.reply().destination_port();
        let rests = flow.rests() || flow.may_be_answered(now.millis(), || pool.answers.limit(now));
        // Whether it fits is seen when its turn comes.
        if rests {
            pool.resting[FITTING].push(&mut self.arena, Entry { port, at: Seconds::ceiling(now).0 });
        } else {
            pool.ready[FITTING].push(&mut self.arena, Entry { port, at: Seconds::floor(now).0 });
        }
    }

    #[inline]
    fn port(&self, offset: u32) -> u16 {
        self.set.nth(offset % self.total.max(1))
    }

    #[inline]
    fn take(&mut self, number: u32) {
        if let Some(pool) = self.pools.get_mut(number as usize) {
            pool.used += 1;
            pool.high_water = pool.high_water.max(pool.used);
            self.high_water = self.high_water.max(pool.used);
        }
    }

    /// A new pool.
    fn make(&mut self, key: &FiveTuple, hash: u64, now: Time) -> Option<u32> {
        if self.total == 0 {
            return None;
        }
        let number = if (self.fresh as usize) < self.pools.len() {
            self.fresh += 1;
            self.fresh - 1
        } else {
            if self.free == NONE {
                self.reclaim(None, now)?;
            }
            let number = self.free;
            self.free = self.pools.get(number as usize)?.offset;
            number
        };
        let pool = self.pools.get_mut(number as usize)?;
        *pool = Pool {
            key: *key,
            // Endpoints may remember a port from before a restart: do not begin at the same one.
            offset: hash as u32 % self.total,
            known: 0,
            used: 0,
            high_water: 0,
            ready: [Fifo::EMPTY; 2],
            resting: [Fifo::EMPTY; 2],
            touched: seconds(now),
            loaded: 0,
            live: true,
            sorted: Seconds::floor(now).0,
            stamp: 0,
            base: 0,
            window: 0,
            answers: AnswerTime::UNKNOWN,
        };
        self.index.insert(hash, number);
        Some(number)
    }

    /// Gives up a pool that has no port in use and none resting, looking at a few. Never the pool `keep`.
    fn reclaim(&mut self, keep: Option<u32>, now: Time) -> Option<u32> {
        for _ in 0..RECLAIM_STEPS {
            let number = self.hand;
            self.hand = if (number as usize) + 1 < self.pools.len() { number + 1 } else { 0 };
            let pool = self.pools.get_mut(number as usize)?;
            let rests = pool.resting.iter().any(|queue| !queue.is_empty());
            let rested = !rests || seconds(now).wrapping_sub(pool.touched) > u32::from(pool.rest());
            if !pool.live || pool.used > 0 || keep == Some(number) || !rested {
                continue;
            }
            let chunks = if pool.known == 0 { 0 } else { pool.known.div_ceil(Arena::ENTRIES) + SPARE_CHUNKS };
            let chunks = if pool.stamp == 0 { chunks } else { chunks + SPARE_CHUNKS };
            pool.ready.iter_mut().chain(&mut pool.resting).for_each(|queue| queue.clear(&mut self.arena));
            self.arena.unreserve(chunks);
            pool.live = false;
            pool.offset = self.free;
            let hash = self.hasher.hash(&pool.key);
            self.free = number;
            self.index.remove(hash, number);
            return Some(number);
        }
        None
    }
}
