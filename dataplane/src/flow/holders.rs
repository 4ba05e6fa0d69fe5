//! Who holds the ports of a pool, and who gives one up first: lists through an array beside the records, so that the flow
//! whose port a new one may have is found without a search.
//!
//! Every flow with a port of a pool has an entry, which names the pool, and is in the list of its pool for its rank
//! ([`State::eviction_rank`]), in the order of the last packet, to a second, as in the table's own queues. UDP's conversations
//! go last: nothing in them tells a client from somebody who forges its address. Their packets move nothing, so of a few
//! flows in turn the one silent for longest goes. Who was not silent for long goes later than whoever was
//! (`state::PATIENCE`). TCP and SCTP that both sides take part in are in no list: their ports are never taken away.
//!
//! Of UDP no flow gives its port up while an answer to it may be under way (see `ports`). And whatever opens takes no port
//! from conversations as long as they have no more than half of a pool: it has to do with the other half, which those that
//! were asked once give up again and again. Who forges conversations can fill no more than that, either: of more than half,
//! the one silent for longest goes.

use arrayvec::ArrayVec;

use super::Direction;
use super::opening::Effort;
use super::record::{END, Flow};
use super::state::{PATIENCE, State, is_ripe};
use crate::af_xdp::mapping::spread;

/// A flow's port is from no pool.
pub(super) const NO_POOL: u32 = u32::MAX;

/// Lists of a pool, by rank.
const LISTS: u32 = 5;
/// The rank of flows that gain time by every packet, but are not moved then.
const USED: u32 = 4;
/// Flows of that rank, or of another one's that were used since they came into their list, looked at for one.
const LOOKED_AT: usize = 16;

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

/// The entries, by the flow's number, and the lists' ends.
pub(super) struct Holders {
    entries: Box<[Entry]>,
    ends: Box<[Ends]>,
    // How many conversations each pool has.
    conversations: Box<[u32]>,
}

/// The list of its pool that a flow of this state is in.
#[inline]
fn list_of(pool: u32, state: State) -> Option<u32> {
    state.eviction_rank().map(|rank| pool * LISTS + u32::from(rank))
}

impl Holders {
    pub(super) fn new(flows: u32, pools: u32) -> Self {
        let mut ends = spread((pools * LISTS) as usize, Ends { head: 0, tail: 0 });
        for (list, ends) in (0..).zip(&mut ends) {
            *ends = Ends { head: END | list, tail: END | list };
        }
        Holders {
            entries: spread(flows as usize, Entry { pool: NO_POOL, next: END, previous: END }),
            ends,
            conversations: spread(pools as usize, 0),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.ends) + size_of_val(&*self.conversations)
    }

    /// The pool that a flow's port is from.
    #[inline]
    pub(super) fn pool(&self, flow: u32) -> u32 {
        self.entries.get(flow as usize).map_or(NO_POOL, |entry| entry.pool)
    }

    /// A flow, which is in `state` and in no list yet, got a port of this pool.
    #[inline(always)]
    pub(super) fn hold(&mut self, flow: u32, pool: u32, state: State) {
        if let Some(entry) = self.entries.get_mut(flow as usize) {
            entry.pool = pool;
        }
        self.enlist(flow, state);
    }

    /// A flow went from one state to another, or moved up in its queue.
    #[inline]
    pub(super) fn moved(&mut self, flow: u32, before: State, after: State) {
        self.delist(flow, before);
        self.enlist(flow, after);
    }

    /// Puts a flow at the end of the list for its state.
    #[inline(always)]
    fn enlist(&mut self, flow: u32, state: State) {
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
        if state == State::UdpReplied {
            self.count(flow, 1);
        }
    }

    /// One conversation more or less, modulo 2^32.
    fn count(&mut self, flow: u32, by: u32) {
        let pool = self.pool(flow);
        if let Some(conversations) = self.conversations.get_mut(pool as usize) {
            *conversations = conversations.wrapping_add(by);
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
        if state == State::UdpReplied {
            self.count(flow, u32::MAX);
        }
    }

    /// The flow of a pool that gives its port up first; with `Effort::Idle` only one of use to nobody. Not for UDP.
    pub(super) fn first(&self, pool: u32, effort: Effort, flows: &[Flow], now: u32) -> Option<u32> {
        let mut longest: Option<(u32, u32)> = None;
        for rank in 0..USED {
            let Some(head) = self.head(pool, rank) else { continue };
            let silence = flows.get(head as usize).map_or(0, |flow| flow.idle(now));
            if is_ripe(rank as u8, silence) {
                return Some(head);
            }
            if longest.is_none_or(|(longest, _)| silence > longest) {
                longest = Some((silence, head));
            }
        }
        longest.filter(|_| effort == Effort::Any).map(|(_, number)| number)
    }

    /// As [`Self::first`] for UDP: only of flows to which no answer can be under way, where that may take the endpoint
    /// `answer_time`; and of conversations only while they have more than half of the pool's `ports`.
    pub(super) fn first_settled(
        &mut self,
        pool: u32,
        effort: Effort,
        flows: &[Flow],
        now: u32,
        answer_time: u32,
        ports: u32,
    ) -> Option<u32> {
        // Others are looked at the next time.
        let mut passed = ArrayVec::<_, { 3 * LOOKED_AT }>::new();
        let found =
            self.settled(pool, effort, flows, now, (answer_time, ports), |flow, state| passed.push((flow, state)));
        passed.into_iter().for_each(|(flow, state)| self.moved(flow, state, state));
        found
    }

    /// The same, and nothing is moved: `pass` gets each flow whose turn is over, with a state of its list.
    pub(super) fn settled(
        &self,
        pool: u32,
        effort: Effort,
        flows: &[Flow],
        now: u32,
        (answer_time, ports): (u32, u32),
        mut pass: impl FnMut(u32, State),
    ) -> Option<u32> {
        for (rank, state) in [(1, State::UdpUnreplied), (3, State::UdpAnswered)] {
            for number in self.list(pool, rank).take(LOOKED_AT) {
                let flow = flows.get(number as usize)?;
                let patience = if effort == Effort::Any { flow.settles_after(|| answer_time) } else { PATIENCE };
                if flow.idle(now) >= patience {
                    return Some(number);
                }
                let [asked, answered] = [Direction::Original, Direction::Reply].map(|side| flow.packets(side));
                if asked == 1 && answered <= 1 {
                    // It came here with its last packet, and those behind it after it.
                    break;
                }
                // It was used since, so that others may have been silent for longer.
                pass(number, state);
            }
        }
        let conversations = self.conversations.get(pool as usize).copied().unwrap_or(0);
        if effort != Effort::Any || conversations <= ports / 2 {
            return None;
        }
        let mut longest: Option<(u32, u32)> = None;
        for number in self.list(pool, USED).take(LOOKED_AT) {
            let flow = flows.get(number as usize)?;
            let silence = flow.idle(now);
            if silence >= flow.settles_after(|| answer_time) && longest.is_none_or(|(longest, _)| silence > longest) {
                longest = Some((silence, number));
            }
            pass(number, State::UdpReplied);
        }
        longest.map(|(_, number)| number)
    }

    /// The flows of a list, first those that came there first.
    fn list(&self, pool: u32, rank: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(self.head(pool, rank), |number| {
            self.entries.get(*number as usize).map(|entry| entry.next).filter(|next| next & END == 0)
        })
    }

    fn head(&self, pool: u32, rank: u32) -> Option<u32> {
        let ends = self.ends.get((pool * LISTS + rank) as usize)?;
        (ends.head & END == 0).then_some(ends.head)
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
