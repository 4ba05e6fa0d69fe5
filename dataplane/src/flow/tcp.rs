//! What TCP segments do to a flow's state: RFC 9293 as far as it can be told from between the two sides, with the eyes of
//! somebody who forges one of them.
//!
//! `Flow::expected` has the marks: per direction the sequence number that the receiver said it expects next. While the
//! client alone has spoken, that of the endpoint's bytes is the client's claim.
//!
//! **Established** is a flow only after both sides have shown that they hear each other:
//! - The endpoint acknowledges the client's SYN, and the client acknowledges the endpoint's: all 32 bits of both.
//! - A flow found in the middle: the endpoint answers with exactly the number that the client acknowledged, and
//!   acknowledges about what it sent. Or it answers with numbers near to those, as it does with data under way, and the
//!   client then acknowledges about what the endpoint just sent ([`STEP`]). An endpoint that knows no such connection
//!   answers with a RST, whose number is the forger's own choice, so a RST is no answer: it closes the flow. One that
//!   knows another connection answers with that one's numbers, which do not fit.
//!
//! **A RST ends an established flow** when it has exactly the number that its receiver expects (RFC 5961). Ahead of that,
//! in the [`WINDOW`], the receiver asks back, unless data is under way that makes the number right: the flow is *doubted*
//! until the next packet of either side, and after one that followed, no such RST counts any more. Another RST is nothing.
//!
//! **A FIN counts** when it acknowledges something near the mark and has exactly the number that its receiver expects. Ahead
//! of that, in the window, as it is with data under way, it is doubted until the other side acknowledges exactly that much;
//! the flow lasts as before. Who sends anything but an acknowledgment from behind its FIN has sent none, and the next
//! acknowledgment of the other side says where it stands. So a forged one changes nothing for longer than that.
//!
//! An acknowledgment moves the mark when it is near it; one that a forger dragged away comes back with the side's next.

use super::Direction;
use super::record::{Flow, REFUSED};
use super::segment::Segment;
use super::state::State;

/// How far ahead of what is expected a sequence number may be: more than the receive windows that systems use by default.
pub const WINDOW: u32 = 1 << 24;

/// How far a picked-up client's first acknowledgment may be ahead of the number that it has to reach: what systems
/// acknowledge at once, by far.
const STEP: u32 = 1 << 18;

// Bits of `Flow::flags`; SEEN_REPLY is 0x01.
/// The flow was established.
pub(super) const PROVEN: u8 = 0x02;
pub(super) const FIN_ORIGINAL: u8 = 0x04;
pub(super) const FIN_REPLY: u8 = 0x08;
pub(super) const RESET_BY_ORIGINAL: u8 = 0x10;
pub(super) const RESET_BY_REPLY: u8 = 0x20;
/// The connection went on after a RST that was not at the exact number: no such RST counts any more.
const OUTLIVED_RESET: u8 = 0x40;
/// The client sent a SYN while established. Before that the bit is `REFUSED`.
const SYN_AGAIN: u8 = REFUSED;

/// The flag bits of one direction.
struct Bits {
    fin: u8,
    reset: u8,
}

#[inline]
const fn bits(direction: Direction) -> Bits {
    match direction {
        Direction::Original => Bits { fin: FIN_ORIGINAL, reset: RESET_BY_ORIGINAL },
        Direction::Reply => Bits { fin: FIN_REPLY, reset: RESET_BY_REPLY },
    }
}

/// Whether `number` is at most a window away from `mark`, in either direction.
#[inline]
pub(super) fn is_near(mark: u32, number: u32) -> bool {
    number.wrapping_sub(mark).wrapping_add(WINDOW) <= 2 * WINDOW
}

/// Whether `number` is `mark` or at most `by` ahead of it.
#[inline]
pub(super) fn is_ahead(mark: u32, number: u32, by: u32) -> bool {
    number.wrapping_sub(mark) <= by
}

/// Where a FIN ends in the sequence space.
#[inline]
fn end(segment: &Segment) -> u32 {
    segment.sequence.wrapping_add(segment.length.into()).wrapping_add(1)
}

impl Flow {
    pub(super) fn begin_tcp(&mut self, segment: &Segment) -> State {
        // Nobody answers a SYN that is a FIN as well.
        if segment.flags.syn() && !segment.flags.ack() && !segment.flags.fin() {
            return self.ask(segment);
        }
        self.claim(segment)
    }

    #[inline]
    fn mark(&self, direction: Direction) -> u32 {
        self.expected[direction as usize]
    }

    #[inline]
    fn set_mark(&mut self, direction: Direction, number: u32) {
        self.expected[direction as usize] = number;
    }

    /// Reads what a segment of `direction` acknowledges of the other. False when that is nothing that can be.
    #[inline(always)]
    pub(super) fn hear(&mut self, direction: Direction, acknowledgment: u32) -> bool {
        let mark = &mut self.expected[direction as usize ^ 1];
        let heard = is_near(*mark, acknowledgment);
        if heard {
            *mark = acknowledgment;
        }
        heard
    }

    /// [`Self::hear`] of a segment that may acknowledge nothing.
    fn hear_segment(&mut self, direction: Direction, segment: &Segment) -> bool {
        segment.flags.ack() && self.hear(direction, segment.acknowledgment)
    }

    /// The client speaks as if there were a connection. What it said last counts.
    fn claim(&mut self, segment: &Segment) -> State {
        let Segment { flags, sequence, acknowledgment, .. } = *segment;
        self.flags &= !(FIN_ORIGINAL | FIN_REPLY | REFUSED);
        if flags.fin() && flags.ack() {
            self.flags |= FIN_ORIGINAL;
        }
        self.expected = [sequence.wrapping_add(flags.syn().into()), if flags.ack() { acknowledgment } else { 0 }];
        State::PickedUp
    }

    /// The endpoint answers a SYN with its own.
    fn offer(&mut self, acknowledgment: u32, segment: &Segment) -> State {
        self.flags &= !(PROVEN | FIN_ORIGINAL | FIN_REPLY | OUTLIVED_RESET | SYN_AGAIN);
        self.expected = [acknowledgment, segment.sequence.wrapping_add(1)];
        State::SynReceived
    }

    /// With this segment both sides have shown that they hear each other.
    fn prove(&mut self, direction: Direction, segment: &Segment) -> State {
        self.flags |= PROVEN;
        self.set_mark(direction, segment.sequence.wrapping_add(segment.flags.syn().into()));
        self.set_mark(direction.opposite(), segment.acknowledgment);
        if segment.flags.fin() {
            self.flags |= bits(direction).fin;
        }
        self.go_on(direction)
    }

    pub(super) fn step_tcp(&mut self, state: State, direction: Direction, segment: &Segment) -> State {
        let flags = segment.flags;
        if flags.rst() {
            return self.step_reset(state, direction, segment);
        }
        if state == State::Closed {
            return self.step_closed(direction, segment);
        }
        if flags.syn() {
            return self.step_syn(state, direction, segment);
        }
        // Without ACK only RST and the first SYN mean anything.
        if !flags.ack() {
            return state;
        }
        match (state, direction) {
            (State::SynSent | State::PickedUp, Direction::Original) => self.claim(segment),
            (State::PickedUp, Direction::Reply) => self.step_answer(segment),
            (State::SynReceived, Direction::Original) if segment.acknowledgment == self.mark(Direction::Reply) => {
                self.prove(direction, segment)
            }
            // Data before the handshake is over, to a client that proved itself by its cookie (TCP Fast Open): the client
            // may acknowledge both at once.
            (State::SynReceived, Direction::Reply)
                if segment.payload && is_ahead(self.mark(direction), segment.sequence, STEP) =>
            {
                State::Answered
            }
            (State::SynSent | State::SynReceived, _) => state,
            (State::Answered, Direction::Original) => self.step_acknowledgment(segment),
            (State::Answered, Direction::Reply) => {
                self.hear_segment(direction, segment);
                state
            }
            _ => self.step_established(state, direction, segment),
        }
    }

    /// The endpoint speaks on a flow that was picked up.
    fn step_answer(&mut self, segment: &Segment) -> State {
        let [sent, claimed] = self.expected;
        if !is_near(sent, segment.acknowledgment) || !is_near(claimed, segment.sequence) {
            return State::PickedUp;
        }
        if segment.sequence == claimed {
            return self.prove(Direction::Reply, segment);
        }
        self.expected = [segment.acknowledgment, segment.sequence];
        State::Answered
    }

    /// The client speaks on a flow that was picked up and answered: does it acknowledge what the endpoint said?
    fn step_acknowledgment(&mut self, segment: &Segment) -> State {
        let [heard, said] = self.expected;
        if !is_near(heard, segment.sequence) || !is_near(said, segment.acknowledgment) {
            return State::Answered;
        }
        if is_ahead(said, segment.acknowledgment, STEP) {
            return self.prove(Direction::Original, segment);
        }
        if is_ahead(said, segment.acknowledgment, WINDOW) {
            // Too far to tell it from a guess: another try.
            return self.claim(segment);
        }
        State::Answered
    }

    /// A segment of a connection that both sides know.
    fn step_established(&mut self, state: State, direction: Direction, segment: &Segment) -> State {
        match state {
            State::EndingOriginal => return self.step_ending(state, Direction::Original, direction, segment),
            State::EndingReply => return self.step_ending(state, Direction::Reply, direction, segment),
            _ => {}
        }
        let heard = self.hear_segment(direction, segment);
        if segment.flags.fin() && heard && is_ahead(self.mark(direction), segment.sequence, WINDOW) {
            // While nobody else has ended the connection, one ahead of what was acknowledged is no evidence yet.
            if segment.sequence != self.mark(direction) && self.flags & (FIN_ORIGINAL | FIN_REPLY) == 0 {
                return self.doubt_end(state, direction, segment);
            }
            self.flags |= bits(direction).fin;
        }
        match (state, direction) {
            (State::LastAckOriginal, Direction::Original) | (State::LastAckReply, Direction::Reply)
                if heard && !segment.flags.fin() =>
            {
                State::Closed
            }
            (State::LastAckOriginal | State::LastAckReply, _) => state,
            (State::Doubted, _) => {
                self.flags |= OUTLIVED_RESET;
                self.go_on(direction)
            }
            _ => self.go_on(direction),
        }
    }

    /// A FIN ahead of what its receiver has acknowledged.
    fn doubt_end(&mut self, state: State, direction: Direction, segment: &Segment) -> State {
        if state == State::Doubted {
            self.flags |= OUTLIVED_RESET;
        }
        self.set_mark(direction, end(segment));
        self.set_went_on(false);
        match direction {
            Direction::Original => State::EndingOriginal,
            Direction::Reply => State::EndingReply,
        }
    }

    /// A segment after the doubted FIN of `ending`, whose mark is where that FIN ends.
    fn step_ending(&mut self, state: State, ending: Direction, direction: Direction, segment: &Segment) -> State {
        let (fin_end, flags) = (self.mark(ending), segment.flags);
        if direction == ending {
            let repeated = if flags.fin() { end(segment) } else { segment.sequence };
            if repeated != fin_end || (segment.payload && !flags.fin()) {
                self.set_went_on(true);
            }
            return state;
        }
        if !flags.ack() || !is_near(fin_end, segment.acknowledgment) {
            return state;
        }
        if segment.acknowledgment == fin_end && !self.went_on() {
            self.flags |= bits(ending).fin;
        } else if !self.went_on() && !is_ahead(fin_end, segment.acknowledgment, WINDOW) && !flags.fin() {
            // Of data that is still under way.
            return state;
        }
        self.set_went_on(false);
        self.step_established(State::Established, direction, segment)
    }

    /// The state of a connection that both sides know, by the FINs seen.
    fn go_on(&self, direction: Direction) -> State {
        let (original, reply) = (self.flags & FIN_ORIGINAL != 0, self.flags & FIN_REPLY != 0);
        match (original && reply, direction) {
            // This packet brought the second FIN: the other side has to acknowledge it.
            (true, Direction::Original) => State::LastAckReply,
            (true, Direction::Reply) => State::LastAckOriginal,
            _ if original || reply => State::Closing,
            _ => State::Established,
        }
    }

    /// A segment of a flow that is over. Only the side that is said to have reset the connection can show that it has not.
    fn step_closed(&mut self, direction: Direction, segment: &Segment) -> State {
        let reset = bits(direction).reset;
        if self.flags & reset == 0 || !(segment.flags.ack() || segment.flags.syn()) {
            return State::Closed;
        }
        self.flags &= !reset;
        if self.flags & PROVEN != 0 {
            // One that came late does not tell; the next one does.
            self.hear_segment(direction, segment);
            return State::Doubted;
        }
        self.step_tcp(State::PickedUp, direction, segment)
    }

    /// A SYN, with or without ACK.
    fn step_syn(&mut self, state: State, direction: Direction, segment: &Segment) -> State {
        let Segment { flags, acknowledgment, .. } = *segment;
        if flags.fin() && !flags.ack() {
            return state;
        }
        match (state, direction) {
            // The first, a retransmission, or another connection's: the endpoint has known no other.
            (State::SynSent | State::PickedUp | State::Answered, Direction::Original) if !flags.ack() => {
                self.ask(segment)
            }
            (State::SynSent | State::PickedUp, Direction::Original) => self.claim(segment),
            // The answer.
            (State::SynSent, Direction::Reply) if flags.ack() => {
                if self.is_syn_acknowledged(acknowledgment) {
                    self.offer(acknowledgment, segment)
                } else {
                    state
                }
            }
            // The other SYN of a simultaneous open.
            (State::SynSent, Direction::Reply) => self.offer(self.mark(Direction::Original), segment),
            // The answer to a SYN that something came after.
            (State::PickedUp, Direction::Reply) if flags.ack() => self.offer(acknowledgment, segment),
            (State::SynReceived, Direction::Reply) if flags.ack() => self.offer(acknowledgment, segment),
            // Simultaneous open: the client's answer.
            (State::SynReceived, Direction::Original)
                if flags.ack() && acknowledgment == self.mark(Direction::Reply) =>
            {
                self.prove(direction, segment)
            }
            (State::SynReceived | State::Answered | State::PickedUp, _) => state,
            // An endpoint that knows the connection does not answer with a SYN.
            (_, Direction::Original) => {
                self.flags |= SYN_AGAIN;
                state
            }
            (_, Direction::Reply) => {
                let anew = flags.ack() && self.flags & SYN_AGAIN != 0;
                let repeated = is_near(self.mark(direction), segment.sequence.wrapping_add(1));
                if anew && !repeated { self.offer(acknowledgment, segment) } else { state }
            }
        }
    }

    fn doubts_end_of(&self, state: State, direction: Direction) -> bool {
        match direction {
            Direction::Original => state == State::EndingOriginal,
            Direction::Reply => state == State::EndingReply,
        }
    }

    fn step_reset(&mut self, state: State, direction: Direction, segment: &Segment) -> State {
        let mark = self.mark(direction);
        // The mark of a side whose FIN is doubted is its own word.
        let exact = segment.sequence == mark && !self.doubts_end_of(state, direction);
        let ends = match (state, direction) {
            // The refusal of a SYN acknowledges it (RFC 9293 3.10.7.3); its own sequence number means nothing.
            (State::SynSent, Direction::Reply) => {
                segment.flags.ack() && self.is_syn_acknowledged(segment.acknowledgment)
            }
            // The endpoint knows no such connection. The number is the client's, which may have been any.
            (State::PickedUp, Direction::Reply) => true,
            (State::PickedUp | State::Answered, _) => is_ahead(mark, segment.sequence, WINDOW),
            (State::Closed, _) => false,
            _ => exact,
        };
        if ends {
            self.flags |= bits(direction).reset;
            return State::Closed;
        }
        match state {
            State::Established | State::Closing | State::LastAckOriginal | State::LastAckReply
                if self.flags & OUTLIVED_RESET == 0 && is_ahead(mark, segment.sequence, WINDOW) =>
            {
                State::Doubted
            }
            _ => state,
        }
    }
}
