//! Who holds the ports of a pool, and who gives one up first: lists through an array beside the records, so that the flow
//! whose port a new one may have is found without a search.
//!
//! Every flow with a port of a pool has an entry, which names the pool. Closed flows are in one list of their pool,
//! half-open and unreplied ones in another, each in the order of their last packet, to a second, as in the table's own
//! queues. Flows that both sides take part in are in none: their ports are never taken away.

use super::expiry::{Class, END};
use super::state::State;
use crate::af_xdp::mapping::spread;

/// A flow's port is from no pool.
pub(super) const NO_POOL: u32 = u32::MAX;

/// Lists of a pool: closed flows, and those that wait for the other side.
const LISTS: u32 = 2;
const CLOSED: u32 = 0;
const WAITING: u32 = 1;

#[derive(Clone, Copy)]
struct Ends {
    head: u32,
    tail: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    pool: u32,
    // A flow's number, or `END` and the list's.
    next: u32,
    previous: u32,
}

/// The entries, by the flow's number, and the lists' ends, two for each pool.
pub(super) struct Holders {
    entries: Box<[Entry]>,
    ends: Box<[Ends]>,
}

/// The list of its pool that a flow of this state is in.
#[inline]
fn list_of(pool: u32, state: State) -> Option<u32> {
    match Class::of(state) {
        Class::Closed => Some(pool * LISTS + CLOSED),
        Class::HalfOpen | Class::Unreplied => Some(pool * LISTS + WAITING),
        Class::Wheel => None,
    }
}

impl Holders {
    pub(super) fn new(flows: u32, pools: u32) -> Self {
        let mut ends = spread((pools * LISTS) as usize, Ends { head: 0, tail: 0 });
        for (list, ends) in (0..).zip(&mut ends) {
            *ends = Ends { head: END | list, tail: END | list };
        }
        Holders { entries: spread(flows as usize, Entry { pool: NO_POOL, next: END, previous: END }), ends }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.ends)
    }

    /// The pool that a flow's port is from.
    #[inline]
    pub(super) fn pool(&self, flow: u32) -> u32 {
        self.entries.get(flow as usize).map_or(NO_POOL, |entry| entry.pool)
    }

    /// A flow got a port of this pool; it is in no list yet.
    #[inline]
    pub(super) fn hold(&mut self, flow: u32, pool: u32) {
        if let Some(entry) = self.entries.get_mut(flow as usize) {
            entry.pool = pool;
        }
    }

    /// Puts a flow at the end of the list for its state.
    #[inline]
    pub(super) fn enlist(&mut self, flow: u32, state: State) {
        let Some(list) = list_of(self.pool(flow), state) else { return };
        let Some(ends) = self.ends.get_mut(list as usize) else { return };
        let tail = std::mem::replace(&mut ends.tail, flow);
        match self.entries.get_mut(tail as usize) {
            Some(last) if tail & END == 0 => last.next = flow,
            _ => ends.head = flow,
        }
        if let Some(entry) = self.entries.get_mut(flow as usize) {
            (entry.previous, entry.next) = (tail, END | list);
        }
    }

    /// Takes a flow, whose state was `state` when it was put there, out of its list.
    #[inline]
    pub(super) fn delist(&mut self, flow: u32, state: State) {
        let Some(Entry { pool, next, previous }) = self.entries.get(flow as usize).copied() else { return };
        if list_of(pool, state).is_none() {
            return;
        }
        match self.ends_of(previous) {
            Some(ends) => ends.head = next,
            None => self.change(previous, |entry| entry.next = next),
        }
        match self.ends_of(next) {
            Some(ends) => ends.tail = previous,
            None => self.change(next, |entry| entry.previous = previous),
        }
    }

    /// The flow of a pool that gives its port up first: the one closed for longest, else the one that has waited longest.
    pub(super) fn first(&self, pool: u32) -> Option<u32> {
        let head = |list: u32| {
            let ends = self.ends.get((pool * LISTS + list) as usize)?;
            (ends.head & END == 0).then_some(ends.head)
        };
        head(CLOSED).or_else(|| head(WAITING))
    }

    #[inline]
    fn ends_of(&mut self, link: u32) -> Option<&mut Ends> {
        if link & END == 0 { None } else { self.ends.get_mut((link & !END) as usize) }
    }

    #[inline]
    fn change(&mut self, flow: u32, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(flow as usize) {
            change(entry);
        }
    }
}
