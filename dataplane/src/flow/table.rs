//! The table: records, the index over both of their tuples, the lists of who ends next, and the ports.

use std::hint::black_box;
use std::sync::Arc;

use arrayvec::ArrayVec;
use ringway_shared::FiveTuple;
use ringway_shared::counters::WorkerCounters;
use ringway_shared::suspects::Suspects;

use super::candidate::Candidate;
use super::expiry::{HALF_OPEN, Lists};
use super::hasher::Hasher;
use super::index::Index;
use super::observer::Observer;
use super::ports::{PortUse, Ports};
use super::record::Flow;
use super::segment::Segment;
use super::state::State;
use super::used::Used;
use super::{Direction, FlowConfig, FlowId, FlowStatistics, Timeouts};
use crate::af_xdp::mapping::spread;
use crate::clock::Time;
use crate::direct::DirectConnections;
use crate::directory::FlowDirectory;

/// The most flows that one table can have: a value of the index is a record's number and a direction in 31 bits.
const MOST_FLOWS: u32 = 1 << 28;

/// The end of the list of free records.
pub(super) const NONE: u32 = u32::MAX;

/// The flows of one worker.
pub struct FlowTable {
    pub(super) flows: Box<[Flow]>,
    pub(super) used: Used,
    pub(super) index: Index,
    pub(super) lists: Lists,
    pub(super) ports: Ports,
    pub(super) hasher: Hasher,
    pub(super) observer: Observer,
    // Free records, through `Flow::next`.
    pub(super) free: u32,
    pub(super) len: u32,
    pub(super) statistics: FlowStatistics,
    // For how many of the next evictions the index has been loaded.
    pub(super) looked_ahead: u32,
    // Where other workers look who owns a flow, and this worker's number there.
    pub(super) shared: Option<(Arc<FlowDirectory>, u16)>,
    // What is known of connections past the Services.
    pub(super) direct: Option<Arc<DirectConnections>>,
    // What a number that is none of ours refers to.
    nothing: Flow,
}

#[inline]
pub(super) fn value(number: u32, direction: Direction) -> u32 {
    number << 1 | direction as u32
}

#[inline]
pub(super) fn number_of(value: u32) -> (u32, Direction) {
    (value >> 1, if value & 1 == 0 { Direction::Original } else { Direction::Reply })
}

impl FlowTable {
    /// An empty table; all its memory is touched.
    pub fn new(config: &FlowConfig) -> Self {
        let capacity = config.capacity.clamp(1, MOST_FLOWS);
        let hasher = Hasher::new(config.seed);
        let mut flows = spread(capacity as usize, Flow::FREE);
        for (number, flow) in flows.iter_mut().enumerate() {
            flow.next = number as u32 + 1;
        }
        if let Some(last) = flows.last_mut() {
            last.next = NONE;
        }
        FlowTable {
            used: Used::new(capacity),
            index: Index::new(capacity as usize * 2),
            lists: Lists::new(config),
            ports: Ports::new(capacity, config.snat_ports.clone(), hasher),
            hasher,
            observer: Observer::default(),
            free: 0,
            len: 0,
            statistics: FlowStatistics::default(),
            looked_ahead: 0,
            shared: None,
            direct: None,
            nothing: Flow::FREE,
            flows,
        }
    }

    /// From now on notes its flows in a directory as `worker`'s, for tables with the same seed to find.
    pub fn share(&mut self, directory: Arc<FlowDirectory>, worker: u16) {
        self.shared = Some((directory, worker));
    }

    /// Other timeouts from now on, for flows that there are as well. Costs nothing here: flows are looked at again as
    /// [`FlowTable::expire`] goes round.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts, now: Time) {
        self.lists.set_timeouts(timeouts, now.millis());
    }

    /// From now on counts in these what endpoints answer.
    pub fn watch(&mut self, counters: Arc<WorkerCounters>) {
        self.observer.counters = Some(counters);
    }

    /// From now on tells these of backends that have answered.
    pub fn watch_suspects(&mut self, suspects: Arc<Suspects>) {
        self.observer.suspects = Some(suspects);
    }

    /// Bytes of memory, all of them in use from the start.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.flows)
            + self.used.memory_bytes()
            + self.index.memory_bytes()
            + self.lists.memory_bytes()
            + self.ports.memory_bytes()
    }

    /// The most flows at once.
    pub fn capacity(&self) -> u32 {
        self.flows.len() as u32
    }

    /// How many flows there are.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of them are half-open or unreplied.
    pub fn half_open_len(&self) -> u32 {
        HALF_OPEN.iter().map(|class| self.lists.len(*class)).sum()
    }

    /// What was done so far.
    pub fn statistics(&self) -> FlowStatistics {
        self.statistics
    }

    /// The ports in use, per endpoint that has or had masqueraded flows. For metrics: looks at all pools.
    pub fn port_uses(&self) -> impl Iterator<Item = PortUse> {
        self.ports.uses(0, u32::MAX)
    }

    /// As [`Self::port_uses`], but no more than `most` pools from number `cursor` on are looked at; says where to go on, or
    /// nothing at the end.
    pub fn scan_ports(&self, cursor: u32, most: u32, show: impl FnMut(PortUse)) -> Option<u32> {
        self.ports.uses(cursor, most).for_each(show);
        let next = cursor.saturating_add(most);
        (next < self.ports.places()).then_some(next)
    }

    /// The ports in use towards the endpoint that this reply tuple comes from.
    pub fn port_use(&self, reply: &FiveTuple) -> Option<PortUse> {
        self.ports.use_of(reply)
    }

    /// The most ports that were ever in use at once towards one endpoint.
    pub fn port_high_water(&self) -> u32 {
        self.ports.high_water()
    }

    /// First stage of a lookup: arithmetic only.
    #[inline]
    pub fn hash(&self, tuple: &FiveTuple) -> u64 {
        self.hasher.hash(tuple)
    }

    /// Second stage: loads the index's cache line, and does nothing that depends on it.
    #[inline]
    pub fn probe(&self, hash: u64) -> Candidate {
        Candidate(self.index.probe(hash))
    }

    /// Third stage: reads the bucket, which has come by now, for the record that the packet most likely belongs to.
    #[inline]
    pub fn guess(&self, hash: u64, _candidate: Candidate) -> Candidate {
        Candidate(self.index.guess(hash))
    }

    /// Fourth stage: loads both cache lines of that record, and does nothing else, so that as many loads as possible are
    /// under way at once.
    #[inline]
    pub fn touch(&self, candidate: Candidate) {
        self.preload(candidate.0 >> 1);
    }

    /// Loads both cache lines of a record without waiting for them.
    #[inline]
    fn preload(&self, number: u32) {
        if let Some(flow) = self.flows.get(number as usize) {
            black_box(u32::from(flow.state) ^ flow.previous);
        }
    }

    /// Last stage: the flow that this packet belongs to. A flow whose time is up is none; the error names it, so that it can
    /// make room for a new one with the same tuple.
    #[inline]
    pub fn find(
        &self,
        hash: u64,
        candidate: Candidate,
        tuple: &FiveTuple,
        now: Time,
    ) -> Result<(FlowId, Direction), Option<FlowId>> {
        let (number, direction) = number_of(candidate.0);
        let flow = self.flows.get(number as usize);
        let found = match flow {
            Some(flow) if flow.answers_to(direction, tuple) => Some((flow, number, direction)),
            _ => self.search(hash, tuple),
        };
        match found {
            Some((flow, number, direction)) if !self.lists.is_over(flow, now.millis()) => {
                Ok((FlowId(number), direction))
            }
            Some((_, number, _)) => Err(Some(FlowId(number))),
            None => Err(None),
        }
    }

    /// The flow of a packet, all stages at once.
    #[inline]
    pub fn lookup(&self, tuple: &FiveTuple, now: Time) -> Option<(FlowId, Direction)> {
        let hash = self.hash(tuple);
        self.find(hash, Candidate::NONE, tuple, now).ok()
    }

    pub(super) fn search(&self, hash: u64, tuple: &FiveTuple) -> Option<(&Flow, u32, Direction)> {
        let value = self.index.find(hash, |value| {
            let (number, direction) = number_of(value);
            self.flows.get(number as usize).is_some_and(|flow| flow.answers_to(direction, tuple))
        })?;
        let (number, direction) = number_of(value);
        self.flows.get(number as usize).map(|flow| (flow, number, direction))
    }

    /// The flow with this number.
    #[inline]
    pub fn flow(&self, id: FlowId) -> &Flow {
        self.flows.get(id.0 as usize).unwrap_or(&self.nothing)
    }

    /// The flow with this number, for its caches.
    #[inline]
    pub fn flow_mut(&mut self, id: FlowId) -> &mut Flow {
        self.flows.get_mut(id.0 as usize).unwrap_or(&mut self.nothing)
    }

    /// Counts a packet of a flow and lets it change the flow's state, which is returned.
    #[inline]
    pub fn advance(&mut self, id: FlowId, direction: Direction, segment: &Segment, now: Time) -> State {
        let millis = now.millis();
        if let Some(flow) = self.flows.get_mut(id.0 as usize)
            && flow.goes_on(direction, segment, millis)
        {
            flow.count(direction, millis);
            return flow.state();
        }
        self.step(id, direction, segment, millis)
    }

    fn step(&mut self, id: FlowId, direction: Direction, segment: &Segment, now: u32) -> State {
        let Some(flow) = self.flows.get_mut(id.0 as usize) else { return State::Free };
        let (before, last_seen, waited) = (flow.state(), flow.last_seen, flow.waits(now));
        let after = flow.step(direction, segment, now);
        let idle = flow.idle(now);
        flow.count(direction, now);
        flow.state = after as u8;
        self.observer.changed(flow, before, direction, segment, idle, now);
        if Lists::must_move(before, after, last_seen, now) && before != State::Free {
            let pooled = flow.pooled();
            self.lists.unlink(&mut self.flows, id.0, before);
            self.lists.link(&mut self.flows, id.0);
            if pooled {
                self.ports.holders.moved(id.0, before, after);
                if before != after && after == State::UdpAnswered {
                    self.ports.answered(id.0, waited, now);
                }
            }
        }
        after
    }

    /// Ends a flow. Its port is free again, after a rest if the endpoint may remember the connection.
    pub fn remove(&mut self, id: FlowId, now: Time) -> bool {
        let state = self.flow(id).state();
        if state == State::Free {
            return false;
        }
        self.lists.unlink(&mut self.flows, id.0, state);
        self.forget(id.0, self.hashes(id.0), now);
        true
    }

    /// The hashes of both tuples of a flow.
    #[inline]
    pub(super) fn hashes(&self, number: u32) -> [u64; 2] {
        let flow = self.flow(FlowId(number));
        [self.hash(&flow.original()), self.hash(&flow.reply())]
    }

    /// Ends a flow that is in no list any more.
    fn forget(&mut self, number: u32, [original, reply]: [u64; 2], now: Time) {
        let Some(flow) = self.flows.get_mut(number as usize) else { return };
        self.observer.ended(flow, now.millis());
        if flow.pooled() {
            self.ports.release(number, flow, now);
        }
        if let Some(direct) = self.direct.as_ref().filter(|_| !flow.masquerade()) {
            flow.claimed().into_iter().flatten().for_each(|tuple| direct.disclaim(&tuple));
        }
        let one_way = flow.is_one_way();
        flow.state = State::Free as u8;
        flow.next = self.free;
        self.free = number;
        self.used.clear(number);
        self.len -= 1;
        self.statistics.closed += 1;
        let removed = self.index.remove(original, value(number, Direction::Original))
            & (one_way || self.index.remove(reply, value(number, Direction::Reply)));
        debug_assert!(removed, "a flow was not in the index");
        if let Some((directory, worker)) = &self.shared {
            directory.forget(original, *worker);
            if !one_way {
                directory.forget(reply, *worker);
            }
        }
    }

    /// Ends flows whose time is up, with at most `budget` steps; says how many ended. Besides, for as many at most it is
    /// noted that their endpoints have left them unanswered.
    pub fn expire(&mut self, now: Time, mut budget: u32) -> u32 {
        let most = budget;
        let mut ended = 0;
        loop {
            // Several at once, in stages as short as those of a lookup, so that their cache misses overlap.
            let mut due = ArrayVec::<_, 16>::new();
            while !due.is_full()
                && let Some(number) = self.lists.due(&mut self.flows, now.millis(), &mut budget)
            {
                due.push((number, self.hashes(number)));
            }
            for (_, [original, reply]) in &due {
                black_box(self.index.probe(*original) ^ self.index.probe(*reply));
            }
            for (number, hashes) in &due {
                self.forget(*number, *hashes, now);
            }
            ended += due.len() as u32;
            if !due.is_full() {
                break;
            }
        }
        for _ in 0..most {
            let Some(number) = self.lists.give_up(&mut self.flows, now.millis()) else { break };
            if let Some(flow) = self.flows.get_mut(number as usize) {
                self.observer.gave_up(flow, now.millis());
            }
        }
        ended
    }

    /// Shows up to `most` flows from number `cursor` on; says where to go on, or nothing at the end. Costs what it shows, and
    /// a word for each 4096 records of the table. Flows that last through the whole scan are shown exactly once.
    pub fn scan(&self, cursor: u32, most: u32, mut show: impl FnMut(FlowId, &Flow)) -> Option<u32> {
        let mut next = self.used.next(cursor);
        for _ in 0..most {
            let number = next?;
            show(FlowId(number), self.flow(FlowId(number)));
            next = self.used.next(number + 1);
        }
        next
    }
}
