//! Flows: which connection a packet belongs to, what becomes of it, and for how long that is remembered.
//!
//! A [`FlowTable`] belongs to one worker and is bounded: all memory is set aside and touched when it is made. A flow is
//! one [`Flow`] record of 128 bytes, found under both of its tuples. No two flows ever share a tuple, of whatever
//! direction.
//!
//! A batch of packets is looked up in stages, so that the cache misses of all its packets overlap: for each packet
//! [`FlowTable::hash`], then for each [`FlowTable::probe`], then for each [`FlowTable::guess`], then for each
//! [`FlowTable::touch`], and at last [`FlowTable::find`], one packet after the other, right before the packet is dealt
//! with. Only `find` decides anything; the stages before it load what it will need, and whatever happens to the table in
//! between makes it slower at worst. The stages are short on purpose: the fewer instructions stand between two loads, the
//! more loads the processor has under way at once. At a million flows that is worth 25 ns a packet.

mod candidate;
mod direct;
mod expiry;
mod fast_open;
mod fifo;
mod hasher;
mod hints;
mod holders;
mod index;
mod kept;
mod observer;
mod one_way;
mod opening;
mod ports;
mod prospect;
mod record;
mod refusal;
mod replies;
mod rescue;
mod sctp;
mod segment;
mod state;
mod table;
mod tcp;
mod used;

use std::time::Duration;

use ringway_shared::PortSet;

pub use candidate::Candidate;
pub(crate) use hasher::Hasher;
pub(crate) use observer::REPEATED;
pub use opening::{Effort, NewFlow, OpenError, Opened, Source, Wishes};
pub use ports::{PortUse, QUARANTINE};
pub use prospect::Prospect;
pub use record::Flow;
pub use replies::ReplyQueues;
pub use segment::Segment;
use state::STATES;
pub use state::State;
pub use table::FlowTable;
pub use tcp::WINDOW;

/// The number of a record. It names a flow until that flow ends, and then perhaps another one: do not keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u32);

/// From which side a packet of a flow comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client.
    Original = 0,
    /// From the endpoint.
    Reply = 1,
}

impl Direction {
    /// The other one.
    #[inline]
    pub const fn opposite(self) -> Self {
        match self {
            Direction::Original => Direction::Reply,
            Direction::Reply => Direction::Original,
        }
    }
}

/// How long a flow may be silent, by its state. At most 12 days each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, both sides known.
    pub tcp_established: Duration,
    /// TCP, before the handshake is over.
    pub tcp_half_open: Duration,
    /// TCP, after the first FIN.
    pub tcp_closing: Duration,
    /// TCP, after the end.
    pub tcp_closed: Duration,
    /// UDP, both directions seen.
    pub udp: Duration,
    /// UDP, no reply seen; SCTP before its handshake is over.
    pub udp_unreplied: Duration,
    /// SCTP. Its heartbeats come every 30 s.
    pub sctp: Duration,
}

impl Timeouts {
    /// Milliseconds, by the number of a state.
    fn of_states(&self) -> [u32; STATES] {
        std::array::from_fn(|number| {
            let timeout = match State::of(number as u8) {
                State::Free => return 0,
                State::SynSent | State::SynReceived | State::PickedUp | State::Answered => self.tcp_half_open,
                // Who is doubted may just be silent: it stays as long as any connection, unless another needs its place.
                State::Established | State::Doubted | State::EndingOriginal | State::EndingReply | State::OneWay => {
                    self.tcp_established
                }
                State::Closing | State::LastAckOriginal | State::LastAckReply | State::OneWayClosing => {
                    self.tcp_closing
                }
                State::Closed => self.tcp_closed,
                State::UdpUnreplied | State::UdpUnanswered | State::SctpUnreplied => self.udp_unreplied,
                State::UdpAnswered | State::UdpReplied => self.udp,
                State::SctpReplied => self.sctp,
            };
            // Half of the circle of milliseconds is the most that can be told from the past.
            timeout.as_millis().clamp(1, 1 << 30) as u32
        })
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            tcp_established: Duration::from_secs(8000),
            tcp_half_open: Duration::from_secs(30),
            tcp_closing: Duration::from_secs(120),
            tcp_closed: Duration::from_secs(10),
            udp: Duration::from_secs(120),
            udp_unreplied: Duration::from_secs(60),
            sctp: Duration::from_secs(210),
        }
    }
}

/// What a table is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowConfig {
    /// The most flows at once.
    pub capacity: u32,
    /// The secret of the hashes.
    pub seed: u64,
    /// When flows end.
    pub timeouts: Timeouts,
    /// This worker's share of the SNAT ports.
    pub snat_ports: PortSet,
}

/// What the table did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStatistics {
    /// Flows opened.
    pub opened: u64,
    /// Flows that ended, whatever the way.
    pub closed: u64,
    /// Flows that ended early because the table was full, or because no SNAT port was free. Contained in `closed`.
    pub evicted: u64,
    /// Half-open and unreplied flows that ended early because no SNAT port was free. Contained in `evicted`.
    pub ports_reclaimed: u64,
}
