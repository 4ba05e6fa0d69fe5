//! Who ends next: intrusive lists through the records, so that finding the flows that are due, or the oldest one that may
//! be evicted, never takes a search.
//!
//! Every flow is in exactly one list. Those that are likely of no use are in queues ordered by their last packet, to a
//! second: a packet moves its flow to the back when a new second has begun. Their heads are what a full table evicts: by
//! rank if they are ripe (`state::PATIENCE`), else the one that was silent for longest. All others are in one of two timer
//! wheels, in the slot of the moment when they would end, and a packet moves nothing: when the slot's turn comes, flows that
//! were used meanwhile get the slot of their new end. Ends further away than the wheel goes (4 minutes) are looked at once a
//! turn. One wheel has what is never evicted, the other UDP's conversations, which are while they are most of what can be:
//! one of the soonest slot, where those used since get their new slots (a second chance, as pages have it).

use super::record::{END, Flow};
use super::state::{PATIENCE, STATES, State, is_later_second, is_ripe};
use super::{FlowConfig, Timeouts};

/// The queues by eviction order (see [`State::eviction_rank`]), then the wheels. One queue has one timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Class {
    Closed = 0,
    HalfOpen = 1,
    Unreplied = 2,
    Unanswered = 3,
    Associating = 4,
    Doubted = 5,
    OneWayClosing = 6,
    OneWay = 7,
    Answered = 8,
    Conversation = 9,
    Certain = 10,
}

impl Class {
    #[inline]
    pub(super) const fn of(state: State) -> Self {
        match state {
            State::Closed | State::Free => Class::Closed,
            State::SynSent | State::SynReceived | State::PickedUp | State::Answered => Class::HalfOpen,
            State::UdpUnreplied => Class::Unreplied,
            State::UdpUnanswered => Class::Unanswered,
            State::SctpUnreplied => Class::Associating,
            State::Doubted | State::EndingOriginal | State::EndingReply => Class::Doubted,
            State::OneWayClosing => Class::OneWayClosing,
            State::OneWay => Class::OneWay,
            State::UdpAnswered => Class::Answered,
            State::UdpReplied => Class::Conversation,
            State::Established | State::Closing | State::LastAckOriginal | State::LastAckReply | State::SctpReplied => {
                Class::Certain
            }
        }
    }

    /// The first list of its wheel; `None` for a queue.
    #[inline]
    const fn wheel(self) -> Option<u32> {
        match self {
            Class::Conversation => Some(CONVERSATIONS),
            Class::Certain => Some(CONVERSATIONS + SLOTS),
            _ => None,
        }
    }
}

const CLASSES: usize = 11;
const QUEUES: [Class; 9] = [
    Class::Closed,
    Class::HalfOpen,
    Class::Unreplied,
    Class::Unanswered,
    Class::Associating,
    Class::Doubted,
    Class::OneWayClosing,
    Class::OneWay,
    Class::Answered,
];
/// Those of half-open and unreplied flows.
pub(super) const HALF_OPEN: [Class; 4] = [Class::HalfOpen, Class::Unreplied, Class::Unanswered, Class::Associating];
const WHEELS: [u32; 2] = [CONVERSATIONS, CONVERSATIONS + SLOTS];
/// The first list of the wheel of conversations.
const CONVERSATIONS: u32 = QUEUES.len() as u32;
/// Conversations that get a second chance for one that is evicted.
const SECOND_CHANCES: u32 = 16;
/// Slots of the wheel, a power of two.
const SLOTS: u32 = 1024;
/// A slot is 2^8 ms.
const TICK_BITS: u32 = 8;
/// Ticks count modulo what is left of 32 bits.
const TICK_MASK: u32 = u32::MAX >> TICK_BITS;

#[derive(Clone, Copy)]
struct Ends {
    head: u32,
    tail: u32,
}

/// The lists' ends and lengths. The links are in the records.
pub(super) struct Lists {
    ends: Box<[Ends]>,
    lengths: [u32; CLASSES],
    // The tick whose slots are looked at next.
    turn: u32,
    // No conversation is in the slot of an earlier tick.
    soonest: u32,
    timeouts: [u32; STATES],
}

#[inline]
fn tick(now: u32) -> u32 {
    now >> TICK_BITS
}

/// `to - from` on the circle of ticks: negative when `to` is earlier.
#[inline]
fn ticks_between(from: u32, to: u32) -> i32 {
    let unsigned = to.wrapping_sub(from) << TICK_BITS;
    (unsigned as i32) >> TICK_BITS
}

impl Lists {
    pub(super) fn new(config: &FlowConfig) -> Self {
        let lists = CONVERSATIONS + SLOTS * WHEELS.len() as u32;
        let ends = (0..lists).map(|list| Ends { head: END | list, tail: END | list }).collect();
        Lists { ends, lengths: [0; CLASSES], turn: 0, soonest: 0, timeouts: config.timeouts.of_states() }
    }

    /// Other timeouts from now on, for flows that there are as well: all slots of the wheel are due, so the next round looks
    /// at every flow and gives it the slot of its new end.
    pub(super) fn set_timeouts(&mut self, wanted: &Timeouts, now: u32) {
        self.timeouts = wanted.of_states();
        self.turn = tick(now).wrapping_sub(SLOTS - 1) & TICK_MASK;
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.ends)
    }

    /// How many flows a class has.
    #[inline]
    pub(super) fn len(&self, class: Class) -> u32 {
        self.lengths.get(class as usize).copied().unwrap_or(0)
    }

    /// Milliseconds that a flow of this state may be idle.
    #[inline]
    pub(super) fn timeout(&self, state: u8) -> u32 {
        self.timeouts.get(usize::from(state) % STATES).copied().unwrap_or(0)
    }

    /// Whether the flow has been idle for too long.
    #[inline]
    pub(super) fn is_over(&self, flow: &Flow, now: u32) -> bool {
        // Half of the circle of milliseconds is the future; no timeout is as long.
        now.wrapping_sub(flow.last_seen) as i32 >= self.timeout(flow.state) as i32
    }

    /// Starts the wheel here; nothing is on it.
    pub(super) fn start(&mut self, now: u32) {
        self.turn = tick(now);
        self.soonest = self.turn;
    }

    /// Whether a packet now, which led from one state to another or to none other, must move a flow that was last seen then: to
    /// another list, or to the back of its queue once a new second has begun.
    #[inline]
    pub(super) fn must_move(before: State, after: State, last_seen: u32, now: u32) -> bool {
        let class = Class::of(after);
        match class.wheel() {
            Some(_) => before != after,
            None => class != Class::of(before) || is_later_second(last_seen, now),
        }
    }

    /// Puts the flow into the list that its state and last packet ask for; it is in none.
    #[inline(always)]
    pub(super) fn link(&mut self, flows: &mut [Flow], number: u32) {
        let Some(flow) = flows.get(number as usize) else { return };
        let class = Class::of(flow.state());
        let list = match class.wheel() {
            Some(wheel) => {
                let tick = self.tick_of_end(flow);
                if class == Class::Conversation && ticks_between(self.soonest, tick) < 0 {
                    self.soonest = tick;
                }
                wheel + slot(tick)
            }
            None => class as u32,
        };
        self.count(class, 1);
        self.push(flows, list, number);
    }

    /// Takes the flow, whose state was `state` when it was linked, out of its list.
    pub(super) fn unlink(&mut self, flows: &mut [Flow], number: u32, state: State) {
        let Some(flow) = flows.get(number as usize) else { return };
        let (previous, next) = (flow.previous, flow.next);
        self.count(Class::of(state), u32::MAX);
        match self.ends_of(previous) {
            Some(ends) => ends.head = next,
            None => set(flows, previous, |flow| flow.next = next),
        }
        match self.ends_of(next) {
            Some(ends) => ends.tail = previous,
            None => set(flows, next, |flow| flow.previous = previous),
        }
    }

    #[inline]
    fn count(&mut self, class: Class, by: u32) {
        if let Some(length) = self.lengths.get_mut(class as usize) {
            *length = length.wrapping_add(by);
        }
    }

    /// The tick whose turn comes when the flow's end has passed, or the last of this turn of the wheel.
    #[inline]
    fn tick_of_end(&self, flow: &Flow) -> u32 {
        let end = flow.last_seen.wrapping_add(self.timeout(flow.state));
        let tick = tick(end).wrapping_add(1) & TICK_MASK;
        let ahead = ticks_between(self.turn, tick).clamp(0, SLOTS as i32 - 1) as u32;
        self.turn.wrapping_add(ahead) & TICK_MASK
    }

    #[inline]
    fn ends_of(&mut self, link: u32) -> Option<&mut Ends> {
        if link & END == 0 { None } else { self.ends.get_mut((link & !END) as usize) }
    }

    #[inline]
    fn push(&mut self, flows: &mut [Flow], list: u32, number: u32) {
        let Some(ends) = self.ends.get_mut(list as usize) else { return };
        let tail = ends.tail;
        ends.tail = number;
        if tail & END != 0 {
            ends.head = number;
        } else {
            set(flows, tail, |flow| flow.next = number);
        }
        set(flows, number, |flow| {
            flow.previous = tail;
            flow.next = END | list;
        });
    }

    fn head(&self, list: u32) -> Option<u32> {
        self.ends.get(list as usize).map(|ends| ends.head).filter(|head| head & END == 0)
    }

    /// Whether [`Self::evictable`] finds something.
    #[inline]
    pub(super) fn can_evict(&self) -> bool {
        let [evictable @ .., _certain] = self.lengths;
        evictable.iter().any(|length| *length > 0)
    }

    /// The flow to end first when the table is full: by [`State::eviction_rank`] among those that are ripe, then the one that
    /// has been silent for longest.
    pub(super) fn evictable(&mut self, flows: &mut [Flow], now: u32) -> Option<u32> {
        let mut longest: Option<(u32, u32)> = None;
        let ranks: [&[Class]; 4] =
            [&[Class::Closed], &HALF_OPEN, &[Class::Doubted, Class::OneWayClosing], &[Class::OneWay, Class::Answered]];
        for (rank, classes) in (0..).zip(ranks) {
            for class in classes {
                let Some(head) = self.head(*class as u32) else { continue };
                let idle = flows.get(head as usize).map_or(0, |flow| flow.idle(now));
                if longest.is_none_or(|(longest, _)| idle > longest) {
                    longest = Some((idle, head));
                }
            }
            if let Some((_, number)) = longest.filter(|(idle, _)| is_ripe(rank, *idle)) {
                return Some(number);
            }
        }
        let Some((idle, number)) = longest else { return self.idle_conversation(flows) };
        // As with ports (`holders`): what opens pushes out no conversation that has as many others beside it.
        let [evictable @ .., _] = self.lengths;
        if self.len(Class::Conversation) <= evictable.iter().sum::<u32>() / 2 {
            return Some(number);
        }
        let conversation = self.idle_conversation(flows);
        let silence = conversation.and_then(|number| flows.get(number as usize)).map_or(0, |flow| flow.idle(now));
        if silence > idle { conversation } else { Some(number) }
    }

    /// A conversation that has been silent for about as long as any.
    #[cold]
    fn idle_conversation(&mut self, flows: &mut [Flow]) -> Option<u32> {
        for _ in 0..SECOND_CHANCES {
            let (number, linked) = self.soonest_conversation()?;
            let flow = flows.get(number as usize)?;
            if self.tick_of_end(flow) == linked {
                return Some(number);
            }
            self.unlink(flows, number, State::UdpReplied);
            self.link(flows, number);
        }
        self.soonest_conversation().map(|(number, _)| number)
    }

    /// The conversation that is first in the soonest slot, and that slot's tick.
    fn soonest_conversation(&mut self) -> Option<(u32, u32)> {
        if self.len(Class::Conversation) == 0 {
            return None;
        }
        if ticks_between(self.turn, self.soonest) < 0 {
            self.soonest = self.turn;
        }
        for _ in 0..SLOTS {
            if let Some(head) = self.head(CONVERSATIONS + slot(self.soonest)) {
                return Some((head, self.soonest));
            }
            self.soonest = self.soonest.wrapping_add(1) & TICK_MASK;
        }
        None
    }

    /// Ends the wait of an unreplied flow whose endpoint has had time enough to answer; says which one. The order of its
    /// queues stays as it was. A flow that is over, too: it would keep those behind it waiting, since a queue's order is not
    /// exact enough for all that are over to come first.
    pub(super) fn give_up(&mut self, flows: &mut [Flow], now: u32) -> Option<u32> {
        let number = self.head(Class::Unreplied as u32)?;
        let flow = flows.get_mut(number as usize)?;
        if flow.idle(now) < PATIENCE {
            return None;
        }
        let before = flow.state();
        flow.state = State::UdpUnanswered as u8;
        self.unlink(flows, number, before);
        self.link(flows, number);
        Some(number)
    }

    /// A flow whose time is up, taken out of its list, or nothing if there is none or `budget` is used up. Costs one of the budget for every
    /// flow found or moved; empty slots of the wheel cost nothing, but no more than one round of them is run through.
    pub(super) fn due(&mut self, flows: &mut [Flow], now: u32, budget: &mut u32) -> Option<u32> {
        for queue in QUEUES {
            let Some(head) = self.head(queue as u32) else { continue };
            let Some(flow) = flows.get(head as usize).filter(|flow| self.is_over(flow, now)) else { continue };
            if !spend(budget) {
                return None;
            }
            let state = flow.state();
            self.unlink(flows, head, state);
            return Some(head);
        }
        let behind = ticks_between(self.turn, tick(now));
        if behind >= SLOTS as i32 {
            // Every slot is due; one round sees them all.
            self.turn = tick(now).wrapping_sub(SLOTS - 1) & TICK_MASK;
        }
        while ticks_between(self.turn, tick(now)) >= 0 {
            let turn = slot(self.turn);
            while let Some(head) = WHEELS.iter().find_map(|wheel| self.head(wheel + turn)) {
                if !spend(budget) {
                    return None;
                }
                let flow = flows.get(head as usize)?;
                let (state, is_over) = (flow.state(), self.is_over(flow, now));
                self.unlink(flows, head, state);
                if is_over {
                    return Some(head);
                }
                self.link(flows, head);
            }
            self.turn = self.turn.wrapping_add(1) & TICK_MASK;
        }
        None
    }
}

/// The slot of a tick in its wheel.
#[inline]
fn slot(tick: u32) -> u32 {
    tick & (SLOTS - 1)
}

#[inline]
fn spend(budget: &mut u32) -> bool {
    let left = *budget > 0;
    *budget = budget.saturating_sub(1);
    left
}

#[inline]
fn set(flows: &mut [Flow], number: u32, change: impl FnOnce(&mut Flow)) {
    if let Some(flow) = flows.get_mut(number as usize) {
        change(flow);
    }
}
