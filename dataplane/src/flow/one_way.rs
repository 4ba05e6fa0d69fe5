//! Flows of direct server return: the endpoint answers the client itself, so only the client's packets are seen.
//!
//! Such a flow is found under its original tuple alone. Its reply tuple names the endpoint, and no packet is ever looked up
//! by it: what the endpoint sends to the client under its own address is a connection of theirs, and what it sends in the
//! VIP's name goes by other ways.
//!
//! What one side alone can send, somebody who forges it can send as well. So no such flow ever stays when its place is
//! needed: a client that goes on after its SYN gets the long timeout, and gives way after what only opens. Little is lost
//! with it, since the next packet is picked up by the choice that the first one had, unless the endpoints have changed
//! since. Of TCP, marks are the client's next number, and the endpoint's next as the client last acknowledged it: a RST ends
//! a flow at exactly that number, a FIN counts near both, and until the client goes on from where its FIN ends, or before it.
//! What fits neither is the word of another connection if it comes after silence ([`QUIET`]), and nothing otherwise.
//! UDP and SCTP have a single state, of what is never seen to be answered. Nothing is counted of the endpoint's answers.
//!
//! Session affinity is told when a client has gone on for a while ([`ENOUGH`]). That is no evidence either, but whoever makes
//! clients up has to send several packets for each, of UDP and SCTP in several seconds, and to have a flow there meanwhile.

use ringway_shared::Protocol;

use super::observer::REPEATED;
use super::record::Flow;
use super::segment::Segment;
use super::state::{State, is_later_second};
use super::table::FlowTable;
use super::tcp::{FIN_ORIGINAL, RESET_BY_ORIGINAL, RESET_BY_REPLY, WINDOW, is_ahead, is_near};
use super::{FlowId, expiry::Lists};
use crate::clock::Time;

/// Milliseconds for which the client of a connection that it went on with has to be silent before a SYN means that it has left
/// it. Who forges one ends none that is in use.
const QUIET: u32 = 10_000;

/// Packets that have to follow the first one for its client to have gone on: of TCP those that fit the flow's numbers, of all else one in
/// each later second.
const ENOUGH: u8 = 3;
/// How many have, in two bits of `Flow::flags` that nothing else uses while only one side is seen.
const FOLLOWED: u8 = RESET_BY_ORIGINAL | RESET_BY_REPLY;

/// Where a segment ends in the sequence space.
fn end(segment: &Segment) -> u32 {
    let controls = u32::from(segment.flags.syn()) + u32::from(segment.flags.fin());
    segment.sequence.wrapping_add(segment.length.into()).wrapping_add(controls)
}

impl Flow {
    /// The state that the first packet opens such a flow in.
    pub(super) fn begin_one_way(&mut self, segment: &Segment) -> State {
        match self.original().protocol() {
            Protocol::Udp => State::UdpUnanswered,
            Protocol::Sctp => State::SctpUnreplied,
            Protocol::Tcp if segment.flags.syn() && !segment.flags.ack() => self.ask_one_way(segment),
            Protocol::Tcp => self.claim_one_way(segment),
        }
    }

    fn ask_one_way(&mut self, segment: &Segment) -> State {
        self.flags &= !(FIN_ORIGINAL | FOLLOWED);
        self.expected = [end(segment), 0];
        State::SynSent
    }

    /// The client speaks as if there were a connection. What it said last counts.
    fn claim_one_way(&mut self, segment: &Segment) -> State {
        self.flags &= !(FIN_ORIGINAL | FOLLOWED);
        self.expected = [end(segment), if segment.flags.ack() { segment.acknowledgment } else { 0 }];
        State::PickedUp
    }

    fn followed(&self) -> u8 {
        (self.flags & FOLLOWED) / RESET_BY_ORIGINAL
    }

    /// Counts a packet that goes on with what the client began.
    fn follow(&mut self) {
        if self.followed() < ENOUGH {
            self.flags += RESET_BY_ORIGINAL;
        }
    }

    /// Whether its connection has ended or is about to, so that a SYN asks for another one.
    pub fn is_over_one_way(&self) -> bool {
        matches!(self.state(), State::Closed | State::OneWayClosing)
    }

    /// Whether this is a SYN that asks for a connection.
    pub fn asks_one_way(&self, segment: &Segment) -> bool {
        let Segment { flags, .. } = segment;
        flags.syn() && !flags.ack() && !flags.rst() && !flags.fin()
    }

    /// Whether a SYN, whose choice would be another endpoint, takes the flow's place: another connection's, or the first one
    /// once more, which was left unanswered.
    pub fn gives_way_to(&self, segment: &Segment, now: u32) -> bool {
        let [next, _] = self.expected;
        match self.state() {
            State::SynSent => end(segment) != next || self.idle(now) >= REPEATED,
            State::Closed | State::OneWayClosing => true,
            _ => self.idle(now) >= QUIET,
        }
    }

    /// The state after this packet of the client.
    fn step_one_way(&mut self, segment: &Segment, now: u32) -> State {
        let (state, flags) = (self.state(), segment.flags);
        if segment.void {
            return state;
        }
        if self.original().protocol() != Protocol::Tcp {
            if is_later_second(self.last_seen, now) {
                self.follow();
            }
            return state;
        }
        let [next, heard] = self.expected;
        // Who was silent for long may speak of another connection, or went on by another gateway meanwhile.
        let is_left = matches!(state, State::OneWay | State::OneWayClosing) && self.idle(now) >= QUIET;
        if flags.rst() {
            return if segment.sequence == next { State::Closed } else { state };
        }
        if flags.syn() {
            // The first, a retransmission, or another connection's: nobody has gone on with any yet, or the client has left it.
            let opens = !flags.ack() && (matches!(state, State::SynSent | State::PickedUp) || is_left);
            return if opens { self.ask_one_way(segment) } else { state };
        }
        if !flags.ack() || state == State::Closed {
            return state;
        }
        // Whoever guesses has to guess both. Of a handshake nothing is known yet that could be acknowledged.
        if !is_near(next, segment.sequence) || (heard != 0 && !is_near(heard, segment.acknowledgment)) {
            let claims = matches!(state, State::SynSent | State::PickedUp) || is_left;
            return if claims { self.claim_one_way(segment) } else { state };
        }
        let end = end(segment);
        let had_ended = self.flags & FIN_ORIGINAL != 0;
        let goes_past = end != next && is_ahead(next, end, WINDOW);
        if goes_past {
            self.flags &= !FIN_ORIGINAL;
        }
        if flags.fin() && (goes_past || end == next) {
            self.flags |= FIN_ORIGINAL;
        }
        self.expected = [if goes_past { end } else { next }, segment.acknowledgment];
        self.follow();
        // From before its FIN speaks who repeats something, or has sent none: the next packet tells.
        let after_fin = flags.fin() || (had_ended && !goes_past && segment.sequence == next);
        if self.flags & FIN_ORIGINAL != 0 && after_fin { State::OneWayClosing } else { State::OneWay }
    }
}

impl FlowTable {
    /// Counts a packet of the client of such a flow, and lets it change the flow's state. Whether with this one the client has gone on
    /// for long enough to be told from one of a single packet.
    pub fn advance_one_way(&mut self, id: FlowId, segment: &Segment, now: Time) -> bool {
        let now = now.millis();
        let Some(flow) = self.flows.get_mut(id.0 as usize) else { return false };
        let (before, last_seen, followed) = (flow.state(), flow.last_seen, flow.followed());
        let after = flow.step_one_way(segment, now);
        flow.count(super::Direction::Original, now);
        flow.state = after as u8;
        let went_on = flow.followed() == ENOUGH && followed < ENOUGH;
        if Lists::must_move(before, after, last_seen, now) && before != State::Free {
            self.lists.unlink(&mut self.flows, id.0, before);
            self.lists.link(&mut self.flows, id.0);
        }
        went_on
    }
}
