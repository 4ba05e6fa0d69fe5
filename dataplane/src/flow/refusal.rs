//! What ICMP errors say of a flow: whether it can have sent what they quote, and refusals that are no packets of the flow.

use ringway_shared::Protocol;

use super::record::{Flow, REFUSED};
use super::segment::Segment;
use super::state::State;
use super::table::FlowTable;
use super::tcp::is_near;
use super::{Direction, FlowId};
use crate::clock::Time;
use crate::wire::sctp::chunk;

impl Flow {
    /// Whether the flow can have sent the quoted packet in this direction not long ago, as far as its number tells, which
    /// somebody who has not seen the flow has to guess: TCP's is near what the other side expects (as with all that arrives),
    /// SCTP's is the other side's tag, or 0 in an INIT with the sender's own. UDP has none.
    pub fn may_have_sent(&self, direction: Direction, quoted: &Segment) -> bool {
        let state = self.state();
        let [original, reply] = self.expected;
        let (sent, heard) = match direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        };
        match self.original().protocol() {
            Protocol::Udp => true,
            // The endpoint has said nothing yet.
            Protocol::Tcp if state == State::SynSent && direction == Direction::Reply => false,
            Protocol::Tcp => is_near(sent, quoted.sequence),
            // Marks are the other way round here: the tag that the receiver wants, and the sender's own.
            Protocol::Sctp if quoted.sequence == 0 => {
                let tag = quoted.acknowledgment;
                quoted.chunk == chunk::INIT && (tag == sent || (heard == 0 && (tag == 0 || sent == 0)))
            }
            Protocol::Sctp => heard == 0 || quoted.sequence == heard,
        }
    }

    /// Whether the quoted number, which the flow may have sent in this direction, is one that has to be guessed by those who
    /// have not seen the flow.
    pub fn is_vouched_for(&self, direction: Direction, quoted: &Segment) -> bool {
        let [original, reply] = self.expected;
        match self.original().protocol() {
            Protocol::Udp => false,
            Protocol::Tcp => true,
            // The other side's tag, once it is known.
            Protocol::Sctp => {
                let heard = if direction == Direction::Original { reply } else { original };
                heard != 0 && quoted.sequence == heard
            }
        }
    }
}

impl FlowTable {
    /// Something on the endpoint's side says that what the client sent last does not arrive. That is counted, once for what is
    /// asked at a time, and only while there has been no answer: of UDP, an error quotes nothing that a forger has to guess but
    /// ports, so it says nothing of an endpoint that has answered. All else is left to both ends.
    pub fn refuse(&mut self, id: FlowId, now: Time) {
        let Some(flow) = self.flows.get_mut(id.0 as usize) else { return };
        let asks = match flow.state() {
            State::SynSent | State::UdpUnreplied => true,
            State::SctpUnreplied => flow.asks_for_association(),
            _ => false,
        };
        if !asks || flow.flags & REFUSED != 0 {
            return;
        }
        flow.flags |= REFUSED;
        self.observer.refused(flow, now.millis());
    }
}
