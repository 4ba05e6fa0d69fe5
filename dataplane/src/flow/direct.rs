//! Flows beside direct connections (see [`crate::direct`]): which packets of an endpoint answer a flow, and which flow's
//! tuple a packet straight to an endpoint has.

use std::sync::Arc;

use ringway_shared::{FiveTuple, Protocol};

use super::record::Flow;
use super::segment::Segment;
use super::state::State;
use super::table::FlowTable;
use super::tcp::{PROVEN, RESET_BY_ORIGINAL, RESET_BY_REPLY, is_near};
use super::{Direction, FlowId};
use crate::clock::Time;
use crate::direct::DirectConnections;

impl Flow {
    /// Whether a segment with the reply's tuple is an answer of this flow, as far as its numbers tell. One that is not
    /// belongs to a connection that the client has straight to the endpoint.
    pub fn is_answer(&self, segment: &Segment) -> bool {
        if self.original().protocol() != Protocol::Tcp || self.masquerade() {
            return true;
        }
        let [original, reply] = self.expected;
        let acknowledges = !segment.flags.ack() || is_near(original, segment.acknowledgment);
        let continues = is_near(reply, segment.sequence);
        match self.state() {
            // Its own number means nothing yet.
            State::SynSent | State::PickedUp if segment.flags.syn() || segment.flags.rst() => acknowledges,
            // Whoever may have another connection there speaks for the flow by numbers like the flow's alone.
            State::Closed | State::Doubted => acknowledges && continues,
            State::SynReceived | State::Answered if !segment.flags.rst() => acknowledges && continues,
            _ if segment.flags.syn() => acknowledges && continues,
            _ => true,
        }
    }

    /// The tuples towards endpoints that this flow takes from direct connections; its source is kept.
    pub(super) fn claimed(&self) -> [Option<FiveTuple>; 2] {
        // The endpoint gets packets to the VIP.
        if self.is_one_way() {
            return [None, None];
        }
        // A direct connection goes on under its own tuple.
        [Some(self.reply().reversed()), self.is_direct().then(|| self.original())]
    }
}

impl FlowTable {
    /// From now on minds direct connections.
    pub fn mind(&mut self, direct: Arc<DirectConnections>) {
        self.direct = Some(direct);
    }

    /// Whether a connection past us has this reply tuple.
    pub(super) fn is_direct(&self, hash: u64, reply: &FiveTuple, now: Time) -> bool {
        self.direct.as_ref().is_some_and(|direct| direct.knows([hash, self.hash(&reply.reversed())], now))
    }

    /// The flow whose source is kept and whose answers are the packets with this tuple.
    pub fn answered_by(&self, hash: u64, reply: &FiveTuple, now: Time) -> Option<FlowId> {
        let (flow, number, direction) = self.search(hash, reply)?;
        let kept = direction == Direction::Reply && !flow.masquerade() && !self.lists.is_over(flow, now.millis());
        kept.then_some(FlowId(number))
    }

    /// The endpoint seems to have another connection where this flow's was: it says so with a SYN, which anybody near it can
    /// forge. The next segment with the flow's numbers shows that the flow goes on.
    pub fn displace(&mut self, id: FlowId, now: Time) {
        let Some(flow) = self.flows.get_mut(id.0 as usize) else { return };
        let before = flow.state();
        let next = match before {
            // The endpoint's numbers are known, and tell its segments from another connection's.
            State::Free | State::Closed | State::SynReceived | State::Answered => return,
            _ if flow.flags & PROVEN != 0 => State::Doubted,
            _ => State::Closed,
        };
        if next == State::Closed {
            flow.flags |= RESET_BY_ORIGINAL | RESET_BY_REPLY;
        }
        flow.state = next as u8;
        flow.last_seen = now.millis();
        self.lists.unlink(&mut self.flows, id.0, before);
        self.lists.link(&mut self.flows, id.0);
    }
}
