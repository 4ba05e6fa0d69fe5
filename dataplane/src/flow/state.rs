//! The states of a flow, and what each packet does to them.
//!
//! TCP as connection tracking has it, without windows. The flow never refuses a packet: what the end hosts make of it is
//! theirs to decide; the state only decides how long the flow is kept and whether a new one may take its place.
//!
//! | state | ends when idle for | when the table is full |
//! |---|---|---|
//! | SYN sent, SYN received, picked up (no reply yet) | `tcp_half_open` | goes, oldest first |
//! | established | `tcp_established` | stays |
//! | closing: one FIN seen; both seen, the last not acknowledged | `tcp_closing` | stays |
//! | closed: FINs acknowledged, or reset | `closed` | goes before all others |
//! | unreplied UDP, SCTP | `udp` | goes, oldest first |
//! | replied UDP, SCTP | `udp`, `sctp` | stays |
//!
//! **When a RST is genuine.** The record keeps, per direction, the upper half of the sequence number that the other side
//! last acknowledged: what the receiver expects next, in units of 64 KiB. A RST counts when its sequence number lies in
//! the [`WINDOW`] from there, which is where RFC 9293 lets the receiver accept it; before anything was acknowledged it
//! counts always, but one from the endpoint in answer to a SYN must acknowledge that SYN. An acknowledgment moves
//! the mark only forward and within the same window, so that a forged one cannot drag it away. A blind forger thus needs
//! some 250 tries besides the ports; and should one hit, the flow comes back to life with the next packet of the
//! side that allegedly reset it: after a genuine RST that side sends nothing but RSTs.
//!
//! SCTP: INIT is not told from data; the first answer makes a flow replied. Ends are noticed by silence alone, because a
//! shutdown or abort cannot be told from a forged one without the verification tags.

use super::Direction;
use super::expiry::Lists;
use super::record::{Flow, SEEN_ORIGINAL, SEEN_REPLY};
use crate::wire::tcp::{self, Flags};
use crate::wire::{Kind, Packet};
use ringway_shared::{FiveTuple, Protocol};

/// Where a flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// The record is not in use.
    Free = 0,
    /// TCP: a SYN was seen.
    SynSent = 1,
    /// TCP: the endpoint answered with a SYN of its own.
    SynReceived = 2,
    /// TCP: found in the middle; the endpoint has not said anything yet.
    PickedUp = 3,
    /// TCP: both sides talk.
    Established = 4,
    /// TCP: one side sent FIN.
    Closing = 5,
    /// TCP: both sent FIN; the client has to acknowledge the last one.
    LastAckOriginal = 6,
    /// TCP: both sent FIN; the endpoint has to acknowledge the last one.
    LastAckReply = 7,
    /// TCP: over.
    Closed = 8,
    /// UDP: no reply yet.
    UdpUnreplied = 9,
    /// UDP: both directions seen.
    UdpReplied = 10,
    /// SCTP: no reply yet.
    SctpUnreplied = 11,
    /// SCTP: both directions seen.
    SctpReplied = 12,
}

/// How many numbers states have, rounded up to a power of two.
pub(super) const STATES: usize = 16;

impl State {
    /// The state with this number.
    #[inline]
    pub(super) fn of(number: u8) -> Self {
        match number {
            1 => State::SynSent,
            2 => State::SynReceived,
            3 => State::PickedUp,
            4 => State::Established,
            5 => State::Closing,
            6 => State::LastAckOriginal,
            7 => State::LastAckReply,
            8 => State::Closed,
            9 => State::UdpUnreplied,
            10 => State::UdpReplied,
            11 => State::SctpUnreplied,
            12 => State::SctpReplied,
            _ => State::Free,
        }
    }

    /// The word for people and for JSON.
    pub const fn label(self) -> &'static str {
        match self {
            State::Free => "free",
            State::SynSent => "synSent",
            State::SynReceived => "synReceived",
            State::PickedUp => "pickedUp",
            State::Established => "established",
            State::Closing | State::LastAckOriginal | State::LastAckReply => "closing",
            State::Closed => "closed",
            State::UdpUnreplied | State::SctpUnreplied => "unreplied",
            State::UdpReplied | State::SctpReplied => "replied",
        }
    }

    /// Every word that [`Self::label`] says of a flow, in the order of a flow's life.
    pub const LABELS: [&str; 8] =
        ["synSent", "synReceived", "pickedUp", "established", "closing", "closed", "unreplied", "replied"];

    /// Whether the flow is half-open or unreplied: of use to nobody if the other side stays silent.
    #[inline]
    pub const fn is_half_open(self) -> bool {
        matches!(
            self,
            State::SynSent | State::SynReceived | State::PickedUp | State::UdpUnreplied | State::SctpUnreplied
        )
    }
}

/// What a flow's state needs to know of a packet. All zeros for anything but TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The control bits.
    pub flags: Flags,
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgment number.
    pub acknowledgment: u32,
}

impl Segment {
    /// The segment that `packet` is in `frame`.
    #[inline]
    pub fn of(frame: &[u8], packet: &Packet) -> Self {
        let Kind::Tcp { flags, .. } = packet.kind else { return Segment::default() };
        let header = packet.transport(frame).and_then(|segment| segment.first_chunk::<{ tcp::HEADER }>());
        let Some([_, _, _, _, a, b, c, d, e, f, g, h, ..]) = header else { return Segment::default() };
        Segment {
            flags,
            sequence: u32::from_be_bytes([*a, *b, *c, *d]),
            acknowledgment: u32::from_be_bytes([*e, *f, *g, *h]),
        }
    }
}

/// How far ahead of what is expected a sequence number may be, in units of 64 KiB: 16 MiB, more than the receive windows
/// that systems use by default.
pub const WINDOW: u16 = 256;

const FIN_ORIGINAL: u8 = 0x04;
const FIN_REPLY: u8 = 0x08;
const RESET_BY_ORIGINAL: u8 = 0x10;
const RESET_BY_REPLY: u8 = 0x20;
pub(super) const EXPECTED_ORIGINAL: u8 = 0x40;
pub(super) const EXPECTED_REPLY: u8 = 0x80;

/// The flag bits of one direction.
struct Bits {
    seen: u8,
    fin: u8,
    reset: u8,
    expected: u8,
}

const ORIGINAL: Bits =
    Bits { seen: SEEN_ORIGINAL, fin: FIN_ORIGINAL, reset: RESET_BY_ORIGINAL, expected: EXPECTED_ORIGINAL };
const REPLY: Bits = Bits { seen: SEEN_REPLY, fin: FIN_REPLY, reset: RESET_BY_REPLY, expected: EXPECTED_REPLY };

#[inline]
const fn bits(direction: Direction) -> Bits {
    match direction {
        Direction::Original => ORIGINAL,
        Direction::Reply => REPLY,
    }
}

impl Flow {
    /// Whether this segment of the client ends a closed flow's lingering: the caller removes the flow and opens another.
    #[inline]
    pub fn reopens(&self, direction: Direction, segment: &Segment) -> bool {
        self.state == State::Closed as u8
            && direction == Direction::Original
            && segment.flags.syn()
            && !segment.flags.ack()
            && !segment.flags.rst()
    }

    /// Sets the state that the first packet of a flow opens it in.
    pub(super) fn begin(&mut self, tuple: &FiveTuple, segment: &Segment) {
        self.flags |= SEEN_ORIGINAL;
        let state = match tuple.protocol() {
            Protocol::Udp => State::UdpUnreplied,
            Protocol::Sctp => State::SctpUnreplied,
            Protocol::Tcp if segment.flags.syn() => {
                // The endpoint will acknowledge the SYN, or refuse it by a RST that does.
                self.expect(Direction::Original, segment.sequence.wrapping_add(1));
                State::SynSent
            }
            Protocol::Tcp => {
                if segment.flags.fin() {
                    self.flags |= FIN_ORIGINAL;
                }
                if segment.flags.ack() {
                    self.acknowledge(Direction::Reply, segment.acknowledgment);
                }
                State::PickedUp
            }
        };
        self.state = state as u8;
    }

    /// Whether the flow just goes on with this packet, as with nearly every packet of its life; marks are moved then.
    #[inline]
    pub(super) fn goes_on(&mut self, direction: Direction, segment: &Segment, now: u32) -> bool {
        const ESTABLISHED: u8 = State::Established as u8;
        const UDP_REPLIED: u8 = State::UdpReplied as u8;
        const SCTP_REPLIED: u8 = State::SctpReplied as u8;
        const UDP_UNREPLIED: u8 = State::UdpUnreplied as u8;
        const SCTP_UNREPLIED: u8 = State::SctpUnreplied as u8;
        match self.state {
            ESTABLISHED if segment.flags.0 & (Flags::SYN | Flags::FIN | Flags::RST) == 0 => {
                self.hear_acknowledgment(direction, segment);
                true
            }
            UDP_REPLIED | SCTP_REPLIED => true,
            // Who only sends (syslog, metrics) moves up in its queue once a second.
            UDP_UNREPLIED | SCTP_UNREPLIED if direction == Direction::Original => {
                !Lists::must_move(State::UdpUnreplied, self.last_seen, now)
            }
            _ => false,
        }
    }

    /// The state after this packet, with the marks and flags that lead there. The caller stores it.
    pub(super) fn step(&mut self, direction: Direction, segment: &Segment) -> State {
        let state = self.state();
        self.flags |= bits(direction).seen;
        match state {
            State::UdpUnreplied if direction == Direction::Reply => State::UdpReplied,
            State::SctpUnreplied if direction == Direction::Reply => State::SctpReplied,
            State::Free | State::UdpUnreplied | State::UdpReplied | State::SctpUnreplied | State::SctpReplied => state,
            _ => self.step_tcp(state, direction, segment),
        }
    }

    fn step_tcp(&mut self, state: State, direction: Direction, segment: &Segment) -> State {
        let flags = segment.flags;
        let mine = bits(direction);
        if flags.rst() {
            if state != State::Closed && self.resets(state, direction, segment) {
                self.flags |= mine.reset;
                return State::Closed;
            }
            return state;
        }
        let acknowledges = flags.ack() && self.hear_acknowledgment(direction, segment);
        if flags.syn() {
            return self.step_syn(state, direction, segment);
        }
        if flags.fin() {
            self.flags |= mine.fin;
        }
        match (state, direction) {
            (State::SynReceived, Direction::Original) if acknowledges => self.established(direction),
            (State::PickedUp, Direction::Reply) => self.established(direction),
            (State::Established | State::Closing, _) => self.established(direction),
            (State::LastAckOriginal, Direction::Original) | (State::LastAckReply, Direction::Reply)
                if flags.ack() && !flags.fin() =>
            {
                State::Closed
            }
            (State::Closed, _) if self.flags & mine.reset != 0 => {
                // The side that is said to have reset the connection goes on with it.
                self.flags &= !mine.reset;
                if self.seen(Direction::Reply) { self.established(direction) } else { State::PickedUp }
            }
            _ => state,
        }
    }

    /// A SYN, with or without ACK.
    fn step_syn(&mut self, state: State, direction: Direction, segment: &Segment) -> State {
        let next = segment.sequence.wrapping_add(1);
        match (state, direction) {
            // A retransmission; should it be another connection's, the new number counts.
            (State::SynSent, Direction::Original) => self.expect(direction, next),
            // A client that starts anew on a flow that was picked up and never answered.
            (State::PickedUp, Direction::Original) if !segment.flags.ack() => {
                self.expect(direction, next);
                return State::SynSent;
            }
            // The answer, or the other SYN of a simultaneous open.
            (State::SynSent | State::PickedUp, Direction::Reply) => {
                self.expect(direction, next);
                return State::SynReceived;
            }
            // Simultaneous open: the client's answer.
            (State::SynReceived, Direction::Original) if segment.flags.ack() => return State::Established,
            _ => {}
        }
        state
    }

    /// The state of a connection that both sides know, by the FINs seen.
    fn established(&self, direction: Direction) -> State {
        let (original, reply) = (self.flags & FIN_ORIGINAL != 0, self.flags & FIN_REPLY != 0);
        match (original && reply, direction) {
            // This packet brought the second FIN: the other side has to acknowledge it.
            (true, Direction::Original) => State::LastAckReply,
            (true, Direction::Reply) => State::LastAckOriginal,
            _ if original || reply => State::Closing,
            _ => State::Established,
        }
    }

    /// Whether a RST can be genuine.
    fn resets(&self, state: State, direction: Direction, segment: &Segment) -> bool {
        if state == State::SynSent && direction == Direction::Reply && segment.flags.ack() {
            // The refusal of a SYN acknowledges it (RFC 9293 3.10.7.3); its own sequence number means nothing.
            return self.plausible(Direction::Original, segment.acknowledgment);
        }
        self.plausible(direction, segment.sequence)
    }

    /// Whether the receiver could accept `sequence` from the sender of `direction`.
    #[inline]
    fn plausible(&self, direction: Direction, sequence: u32) -> bool {
        let [original, reply] = self.expected;
        let expected = match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        };
        self.flags & bits(direction).expected == 0 || ((sequence >> 16) as u16).wrapping_sub(expected) <= WINDOW
    }

    /// The receiver of `direction` now expects `sequence`.
    #[inline]
    fn expect(&mut self, direction: Direction, sequence: u32) {
        self.flags |= bits(direction).expected;
        let [original, reply] = &mut self.expected;
        match direction {
            Direction::Original => *original = (sequence >> 16) as u16,
            Direction::Reply => *reply = (sequence >> 16) as u16,
        }
    }

    /// The receiver of `direction` says that it expects `acknowledgment`. Believed, and true returned, if plausible.
    #[inline]
    fn acknowledge(&mut self, direction: Direction, acknowledgment: u32) -> bool {
        let plausible = self.plausible(direction, acknowledgment);
        if plausible {
            self.expect(direction, acknowledgment);
        }
        plausible
    }

    /// Reads what a segment of `direction` acknowledges of the other.
    #[inline]
    fn hear_acknowledgment(&mut self, direction: Direction, segment: &Segment) -> bool {
        segment.flags.ack() && self.acknowledge(direction.opposite(), segment.acknowledgment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_labels_has_those_of_all_states_and_no_others() {
        let states = (0..STATES as u8).map(State::of).filter(|state| *state != State::Free);
        let labels: Vec<&str> = states.map(State::label).collect();
        assert!(labels.iter().all(|label| State::LABELS.contains(label)), "{labels:?}");
        assert!(State::LABELS.iter().all(|label| labels.contains(label)), "{labels:?}");
    }
}
