//! What SCTP packets do to a flow's state: RFC 9260, as far as verification tags tell.
//!
//! Each side chooses a tag, tells it in INIT or INIT ACK, and throws away what does not carry it. So a client that uses the
//! tag of the endpoint's INIT ACK has seen it, and an endpoint that acknowledges something has seen the right tag. A
//! forged INIT gets no further than its INIT ACK, and whatever else a forger makes up gets an ABORT, or no answer.
//!
//! `Flow::expected` has the tag that packets to the client carry, then the one that packets to the endpoint carry; 0 while
//! it is not known. Ends of associations are noticed by silence.

use super::Direction;
use super::record::Flow;
use super::segment::Segment;
use super::state::State;
use crate::wire::sctp::chunk;

/// Milliseconds from one heartbeat to the next of an association on which nothing else is sent (RFC 9260 16).
const HEARTBEAT: u32 = 30_000;

impl Flow {
    pub(super) fn begin_sctp(&mut self, segment: &Segment) -> State {
        // Of anything but INIT no tag is known yet: `acknowledgment` is 0.
        self.expected = [segment.acknowledgment, 0];
        State::SctpUnreplied
    }

    /// Whether the client sent an INIT that the endpoint has not acknowledged.
    pub(super) fn asks_for_association(&self) -> bool {
        let [clients, endpoints] = self.expected;
        clients != 0 && endpoints == 0
    }

    /// Whether this is the INIT of another association than the flow's.
    #[inline]
    pub fn asks_anew(&self, segment: &Segment) -> bool {
        let [clients, _] = self.expected;
        segment.chunk == chunk::INIT && segment.acknowledgment != clients && !self.is_direct()
    }

    /// Whether nothing was heard of the association for longer than its ends leave each other without a heartbeat.
    pub fn is_left(&self, now: u32) -> bool {
        self.idle(now) > HEARTBEAT
    }

    pub(super) fn step_sctp(&mut self, state: State, direction: Direction, segment: &Segment) -> State {
        let [clients, endpoints] = self.expected;
        let tag = segment.sequence;
        match (direction, segment.chunk) {
            (Direction::Original, chunk::INIT) => self.begin_sctp(segment),
            // An ABORT may carry the tag of what it answers: the forger's own choice.
            (Direction::Reply, chunk::ABORT) => State::Closed,
            (Direction::Reply, _) if clients != 0 && clients != tag => state,
            (Direction::Reply, chunk::INIT_ACK) => {
                if clients != 0 {
                    self.expected = [clients, segment.acknowledgment];
                }
                State::SctpUnreplied
            }
            // Nobody acknowledges what came with a wrong tag. (SHUTDOWN ACK is also sent for an INIT, so it proves nothing.)
            (Direction::Reply, chunk::SACK | chunk::HEARTBEAT_ACK | chunk::COOKIE_ACK) => State::SctpReplied,
            (Direction::Original, _) if endpoints != 0 && endpoints == tag => State::SctpReplied,
            _ => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_are_two_words_of_the_record() {
        let mut flow = Flow::FREE;
        let init = Segment { chunk: chunk::INIT, acknowledgment: 7, ..Segment::default() };
        assert_eq!(flow.begin_sctp(&init), State::SctpUnreplied);
        let answer = Segment { chunk: chunk::INIT_ACK, sequence: 7, acknowledgment: 9, ..Segment::default() };
        assert_eq!(flow.step_sctp(State::SctpUnreplied, Direction::Reply, &answer), State::SctpUnreplied);
        assert_eq!(flow.expected, [7, 9]);
    }
}
