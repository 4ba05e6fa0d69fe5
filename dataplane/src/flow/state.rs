//! The states of a flow, and what each packet does to them.
//!
//! The flow never refuses a packet: what the end hosts make of it is theirs to decide; the state only decides how long the
//! flow is kept and whether a new one may take its place.
//!
//! | state | ends when idle for | when the table is full |
//! |---|---|---|
//! | closed: FINs acknowledged, or reset | `tcp_closed` | goes before all others |
//! | SYN sent, SYN received, picked up, answered | `tcp_half_open` | goes next, the oldest of these two rows first |
//! | unreplied or unanswered UDP, SCTP before its handshake is over | `udp_unreplied` | goes next, the oldest of these two rows first |
//! | doubted: a RST or FIN was seen that its receiver may have ignored | `tcp_established` | goes next, the oldest of these two rows first |
//! | one way, and the client sent FIN | `tcp_closing` | goes next, the oldest of these two rows first |
//! | one way: the client went on, and nobody sees the endpoint (see [`super::one_way`]) | `tcp_established` | goes next, the oldest of these two rows first |
//! | answered UDP: the client has said nothing 2 s later | `udp` | goes next, the oldest of these two rows first |
//! | replied UDP | `udp` | goes last, while it is more than half of what may go; one that has been silent for long first |
//! | established | `tcp_established` | stays |
//! | closing: one FIN seen; both seen, the last not acknowledged | `tcp_closing` | stays |
//! | replied SCTP | `sctp` | stays |
//!
//! UDP is unreplied while its endpoint may still answer, and unanswered after three seconds ([`PATIENCE`]) without an answer,
//! until the client sends again. Nothing but what is counted of the endpoint depends on it.
//!
//! Whoever has been silent for less than three seconds may be about to be answered, or to answer: such a flow,
//! unless it is closed, goes only when none of the evictable ones has been silent for longer. Otherwise those that just open
//! would push each other out as soon as all the rest were answered UDP.
//!
//! **Who sends blindly never gets a flow that stays.** Whoever forges a client's address never sees what the endpoint
//! answers, so numbers that only the endpoint chooses tell clients from forgers: TCP's sequence numbers ([`super::tcp`]),
//! SCTP's verification tags ([`super::sctp`]). UDP has none; as Linux does, two seconds between a first answer and a
//! later datagram of the client count as a conversation. That keeps out queries sent once, but can be forged, so even
//! such a flow gives way, though after all others.

use super::Direction;
use super::record::{Flow, REFUSED, SEEN_REPLY};
use super::segment::Segment;
use crate::wire::sctp::chunk;
use crate::wire::tcp::Flags;
use ringway_shared::{FiveTuple, Protocol};

/// Where a flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// The record is not in use.
    Free = 0,
    /// TCP: a SYN was seen.
    SynSent = 1,
    /// TCP: the endpoint answered with a SYN of its own; the client has to acknowledge it.
    SynReceived = 2,
    /// TCP: found in the middle; the endpoint has not said anything that fits yet.
    PickedUp = 3,
    /// TCP: both sides know each other's numbers.
    Established = 4,
    /// TCP: one side sent FIN.
    Closing = 5,
    /// TCP: both sent FIN; the client has to acknowledge the last one.
    LastAckOriginal = 6,
    /// TCP: both sent FIN; the endpoint has to acknowledge the last one.
    LastAckReply = 7,
    /// Over: closed or reset.
    Closed = 8,
    /// UDP: no reply yet.
    UdpUnreplied = 9,
    /// UDP: a conversation.
    UdpReplied = 10,
    /// SCTP: nothing yet that shows that the client hears the endpoint.
    SctpUnreplied = 11,
    /// SCTP: both sides know each other's tags.
    SctpReplied = 12,
    /// TCP: found in the middle, and answered with numbers like the client's; the client has to acknowledge one of them.
    Answered = 13,
    /// TCP: both sides knew each other, then a RST came that its receiver may have ignored (RFC 5961). The next packet of
    /// either side shows that it did.
    Doubted = 14,
    /// UDP: the endpoint answered; the client has not gone on later.
    UdpAnswered = 15,
    /// UDP: no reply, and none is expected any more to what the client has sent so far.
    UdpUnanswered = 16,
    /// TCP: the client sent a FIN ahead of what the endpoint has acknowledged; the endpoint shows whether it counts.
    EndingOriginal = 17,
    /// TCP: the endpoint sent a FIN ahead of what the client has acknowledged; the client shows whether it counts.
    EndingReply = 18,
    /// TCP of which only the client is seen: it went on.
    OneWay = 19,
    /// TCP of which only the client is seen: it sent FIN.
    OneWayClosing = 20,
}

/// How many numbers states have, rounded up to a power of two.
pub(super) const STATES: usize = 32;

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
            13 => State::Answered,
            14 => State::Doubted,
            15 => State::UdpAnswered,
            16 => State::UdpUnanswered,
            17 => State::EndingOriginal,
            18 => State::EndingReply,
            19 => State::OneWay,
            20 => State::OneWayClosing,
            _ => State::Free,
        }
    }

    /// The word for people and for JSON.
    pub const fn label(self) -> &'static str {
        match self {
            State::Free => "free",
            State::SynSent => "synSent",
            State::SynReceived => "synReceived",
            State::PickedUp | State::Answered => "pickedUp",
            State::Established => "established",
            State::Closing
            | State::LastAckOriginal
            | State::LastAckReply
            | State::Doubted
            | State::EndingOriginal
            | State::EndingReply
            | State::OneWayClosing => "closing",
            State::OneWay => "oneWay",
            State::Closed => "closed",
            State::UdpUnreplied | State::UdpUnanswered | State::SctpUnreplied => "unreplied",
            State::UdpAnswered | State::UdpReplied | State::SctpReplied => "replied",
        }
    }

    /// Every word that [`Self::label`] says of a flow, in the order of a flow's life.
    pub const LABELS: [&str; 9] =
        ["synSent", "synReceived", "pickedUp", "established", "oneWay", "closing", "closed", "unreplied", "replied"];

    /// Whether the flow is half-open or unreplied: of use to nobody if the other side stays silent.
    #[inline]
    pub const fn is_half_open(self) -> bool {
        matches!(self.eviction_rank(), Some(1))
    }

    /// When a flow in this state goes for a new one, if something is full: lower ones first once they are ripe (three
    /// seconds of silence), and of one rank the one that has been silent for longest. `None`: never. Nothing that one side
    /// alone can send leads to `None`.
    #[inline]
    pub const fn eviction_rank(self) -> Option<u8> {
        match self {
            State::Free | State::Closed => Some(0),
            State::SynSent
            | State::SynReceived
            | State::PickedUp
            | State::Answered
            | State::UdpUnreplied
            | State::UdpUnanswered
            | State::SctpUnreplied => Some(1),
            State::Doubted | State::EndingOriginal | State::EndingReply | State::OneWayClosing => Some(2),
            State::UdpAnswered | State::OneWay => Some(3),
            State::UdpReplied => Some(4),
            State::Established | State::Closing | State::LastAckOriginal | State::LastAckReply | State::SctpReplied => {
                None
            }
        }
    }
}

/// Milliseconds of silence after which a flow goes by its rank.
pub(super) const PATIENCE: u32 = 3_000;

/// Milliseconds of silence after which a UDP flow needs its port no more that had an answer for each question: an answer may be
/// more than one datagram. No endpoint is expected to answer within less.
pub(super) const SETTLED: u32 = 250;

/// The order of flows of which one is the next to go is exact to 2^10 ms.
const ORDER_BITS: u32 = 10;

/// Whether a new second of that order has begun since a flow was last seen: it is to move to the back of its queue.
#[inline]
pub(super) const fn is_later_second(last_seen: u32, now: u32) -> bool {
    (last_seen ^ now) >> ORDER_BITS != 0
}

/// Whether a flow of this rank, silent for so many milliseconds, goes before all of higher ranks.
#[inline]
pub(super) const fn is_ripe(rank: u8, idle: u32) -> bool {
    rank == 0 || idle >= PATIENCE
}

/// Milliseconds after the endpoint's first answer from which on a datagram of the client makes a conversation of it.
const CONVERSATION: u32 = 2_000;

impl Flow {
    /// Whether this segment of the client, a SYN or INIT, ends a closed flow's lingering: the caller removes the flow and opens
    /// another.
    #[inline]
    pub fn reopens(&self, direction: Direction, segment: &Segment) -> bool {
        let asks = segment.flags.syn() && !segment.flags.ack() && !segment.flags.rst();
        self.state == State::Closed as u8
            && direction == Direction::Original
            && (asks || (segment.chunk == chunk::INIT && !self.is_direct()))
    }

    /// Sets the state that the first packet of a flow opens it in.
    #[inline(always)]
    pub(super) fn begin(&mut self, tuple: &FiveTuple, segment: &Segment, now: u32) {
        let state = match tuple.protocol() {
            Protocol::Udp if segment.void => State::UdpUnanswered,
            Protocol::Udp => self.ask_by_datagram(now),
            Protocol::Sctp => self.begin_sctp(segment),
            Protocol::Tcp => self.begin_tcp(segment),
        };
        self.state = state as u8;
    }

    /// Whether the flow just goes on with this packet, as with nearly every packet of its life; marks are moved then.
    pub(super) fn goes_on(&mut self, direction: Direction, segment: &Segment, now: u32) -> bool {
        match self.original().protocol() {
            Protocol::Tcp => self.goes_on_by_segment(direction, segment.flags, segment.acknowledgment),
            Protocol::Udp => self.goes_on_by_datagram(direction, now),
            Protocol::Sctp => self.goes_on_by_chunk(segment.chunk),
        }
    }

    /// [`Self::goes_on`] of TCP.
    #[inline(always)]
    pub(crate) fn goes_on_by_segment(&mut self, direction: Direction, flags: Flags, acknowledgment: u32) -> bool {
        // Without ACK it means nothing, and need not be quick.
        let goes_on = flags.0 & (Flags::SYN | Flags::FIN | Flags::RST | Flags::ACK) == Flags::ACK;
        if self.state != State::Established as u8 || !goes_on {
            return false;
        }
        self.hear(direction, acknowledgment);
        true
    }

    /// [`Self::goes_on`] of UDP.
    #[inline(always)]
    pub(crate) fn goes_on_by_datagram(&mut self, direction: Direction, now: u32) -> bool {
        const REPLIED: u8 = State::UdpReplied as u8;
        const UNREPLIED: u8 = State::UdpUnreplied as u8;
        const ANSWERED: u8 = State::UdpAnswered as u8;
        match self.state {
            REPLIED => true,
            // Who only sends (syslog, metrics) moves up in its queue once a second.
            UNREPLIED if direction == Direction::Original => !is_later_second(self.last_seen, now),
            ANSWERED => !is_later_second(self.last_seen, now) && !self.converses(direction, now),
            _ => false,
        }
    }

    /// [`Self::goes_on`] of SCTP.
    #[inline]
    pub(crate) fn goes_on_by_chunk(&self, first: u8) -> bool {
        // An INIT may be another association's.
        self.state == State::SctpReplied as u8 && first != chunk::INIT
    }

    /// The state after this packet, with the marks and flags that lead there. The caller stores it.
    pub(super) fn step(&mut self, direction: Direction, segment: &Segment, now: u32) -> State {
        let state = self.state();
        if direction == Direction::Reply {
            self.flags |= SEEN_REPLY;
        }
        match state {
            State::UdpUnanswered if direction == Direction::Original && !segment.void => self.ask_by_datagram(now),
            State::UdpUnreplied | State::UdpUnanswered if direction == Direction::Reply => {
                let [first_answer, _] = &mut self.expected;
                *first_answer = now;
                self.flags &= !REFUSED;
                State::UdpAnswered
            }
            State::UdpAnswered if self.converses(direction, now) => State::UdpReplied,
            State::Free
            | State::UdpUnreplied
            | State::UdpUnanswered
            | State::UdpAnswered
            | State::UdpReplied
            | State::SctpReplied
            | State::OneWay
            | State::OneWayClosing => state,
            _ if self.original().protocol() == Protocol::Sctp => self.step_sctp(state, direction, segment),
            _ => self.step_tcp(state, direction, segment),
        }
    }

    /// The client sends a datagram, and what it sent before was answered, or judged.
    pub(super) fn ask_by_datagram(&mut self, now: u32) -> State {
        let [asked, _] = &mut self.expected;
        *asked = now;
        State::UdpUnreplied
    }

    /// For how long the client of a UDP flow that has had no answer yet has been asking.
    #[inline]
    pub(super) fn waits(&self, now: u32) -> u32 {
        let [asked, _] = self.expected;
        now.wrapping_sub(asked)
    }

    /// Whether the endpoint has left the client's datagrams unanswered, and not refused, for so long that it will not answer
    /// any more; then what comes from now on is another question.
    pub(super) fn is_left_unanswered(&mut self, now: u32) -> bool {
        let [asked, _] = &mut self.expected;
        let left = now.wrapping_sub(*asked) >= PATIENCE;
        if left {
            *asked = now;
        }
        left && !self.take_refusal()
    }

    /// Whether this packet of an answered UDP flow makes a conversation of it.
    #[inline]
    fn converses(&self, direction: Direction, now: u32) -> bool {
        let [first_answer, _] = self.expected;
        direction == Direction::Original && now.wrapping_sub(first_answer) >= CONVERSATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> std::ops::RangeInclusive<u8> {
        0..=State::OneWayClosing as u8
    }

    #[test]
    fn the_list_of_labels_has_those_of_all_states_and_no_others() {
        let states = numbers().map(State::of).filter(|state| *state != State::Free);
        let labels: Vec<&str> = states.map(State::label).collect();
        assert!(labels.iter().all(|label| State::LABELS.contains(label)), "{labels:?}");
        assert!(State::LABELS.iter().all(|label| labels.contains(label)), "{labels:?}");
    }

    #[test]
    fn every_state_has_its_number() {
        for number in numbers() {
            assert_eq!(State::of(number) as u8, number);
        }
    }
}
