//! First packets that a client repeats because nobody answered them.

use super::observer::REPEATED;
use super::record::{Flow, SEEN_REPLY};
use super::segment::Segment;
use super::state::State;
use super::table::FlowTable;
use super::{Direction, FlowId};
use crate::clock::Time;
use crate::wire::sctp::chunk;

impl Flow {
    /// Whether this is the client's SYN or INIT once more, and nothing has come back to it. The same number tells it from
    /// another connection's from the same port; a copy that comes within `REPEATED` is none.
    pub fn asks_again(&self, segment: &Segment, now: u32) -> bool {
        let [asked, _] = self.expected;
        let flags = segment.flags;
        let is_same = match self.state() {
            State::SynSent => {
                let opens = flags.syn() && !flags.ack() && !flags.rst() && !flags.fin();
                opens && segment.sequence.wrapping_add(1) == asked
            }
            State::SctpUnreplied => {
                segment.chunk == chunk::INIT && self.asks_for_association() && segment.acknowledgment == asked
            }
            _ => false,
        };
        is_same && !self.seen(Direction::Reply) && self.idle(now) >= REPEATED
    }
}

impl State {
    /// Whether both sides have shown that they hear each other.
    pub const fn is_complete(self) -> bool {
        matches!(self, State::Established | State::SctpReplied)
    }
}

impl FlowTable {
    /// Ends a flow whose endpoint has left the client's first packet unanswered, which is counted.
    pub fn give_up(&mut self, id: FlowId, now: Time) {
        if let Some(flow) = self.flows.get_mut(id.0 as usize) {
            self.observer.gave_up(flow, now.millis());
            // The packet may have arrived all the same, and the answer be under way: the port rests.
            flow.flags |= SEEN_REPLY;
        }
        self.remove(id, now);
    }
}
