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

    /// Whether this SYN asks for another connection than the flow's, which its endpoint has taken part in.
    pub fn asks_beside(&self, segment: &Segment) -> bool {
        let [asked, _] = self.expected;
        let flags = segment.flags;
        let is_other = match self.state() {
            State::SynReceived => segment.sequence.wrapping_add(1) != asked,
            State::Established
            | State::Closing
            | State::LastAckOriginal
            | State::LastAckReply
            | State::Doubted
            | State::EndingOriginal
            | State::EndingReply => true,
            _ => false,
        };
        is_other && flags.syn() && !flags.ack() && !flags.rst() && !flags.fin() && !self.is_direct()
    }

    /// Notes that the endpoint has to answer the SYN that has just opened the flow: where its mark will be, which it has none of
    /// yet, stands when that was. So it lasts as long as the flow itself, however many others open.
    #[cold]
    pub fn set_owed(&mut self, opened: u32) {
        if self.state() == State::SynSent {
            let [_, endpoints] = &mut self.expected;
            *endpoints = opened.max(1);
        }
    }

    /// Whether that was noted, and nothing has come since.
    pub fn is_owed(&self) -> bool {
        let [_, opened] = self.expected;
        self.state() == State::SynSent && opened == self.last_seen().max(1) && !self.brought_data()
    }
}

impl Flow {
    /// An answer of the endpoint that shows nothing else, since it came by another interface, shows that the client is
    /// answered, if it has the number that the client asked with: who forges it keeps a client where it is, and no more.
    #[cold]
    pub fn see_answer(&mut self, segment: &Segment) {
        let [asked, _] = self.expected;
        let flags = segment.flags;
        let answers = match self.state() {
            State::SynSent => {
                flags.syn() && flags.ack() && !flags.rst() && self.is_syn_acknowledged(segment.acknowledgment)
            }
            State::SctpUnreplied => segment.chunk == chunk::INIT_ACK && asked != 0 && segment.sequence == asked,
            _ => false,
        };
        if answers {
            self.flags |= SEEN_REPLY;
        }
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
