//! The record of a flow: both directions in 128 bytes, two cache lines, plain data without pointers.
//!
//! The first line has what finding and advancing a flow needs, the second the other direction's tuple and what changes
//! rarely. Records refer to each other by number, so an image of them can be mapped from a file or copied elsewhere.

use ringway_shared::service::ForwardingMode;
use ringway_shared::{AdjacencyId, BackendId, FiveTuple, Protocol, ServicePortId};

use super::Direction;
use super::state::{SETTLED, State};
use crate::forward::nat::Rewrite;
use crate::forward::usual::Ends;
use crate::wire::checksum::Delta;

/// One flow.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub struct Flow {
    // First line: the original tuple, and what most packets read or write.
    source: [u64; 2],
    destination: [u64; 2],
    // Source port in the high half, as in the high half of `FiveTuple::ports`.
    ports: u32,
    // The low half of `FiveTuple::ports` (family and protocol), and the OPTION_* bits above them.
    kind: u16,
    pub(super) state: u8,
    pub(super) flags: u8,
    pub(super) last_seen: u32,
    // By the direction whose bytes they number: see `tcp`. SCTP: tags, see `sctp`. UDP: since when an answer is waited
    // for, then when the first one came.
    pub(super) expected: [u32; 2],
    // By direction.
    adjacencies: [i16; 2],
    /// For the caller: the generation of the network that the cached adjacencies are of.
    pub network_generation: u32,
    /// For the caller: the generation of the Services that last approved this flow's backend.
    pub services_generation: u32,
    // Second line: the reply tuple, and what packets only count.
    reply_source: [u64; 2],
    reply_destination: [u64; 2],
    reply_ports: u32,
    delta: [u16; 2],
    service_port: u32,
    backend: u32,
    pub(super) packets: [u32; 2],
    // The neighbours in one of the lists of `expiry`.
    pub(super) next: u32,
    pub(super) previous: u32,
}

const _: () = assert!(size_of::<Flow>() == 128 && align_of::<Flow>() == 128);
const _: () = assert!(std::mem::offset_of!(Flow, reply_source) == 64);

/// The bit of a link that ends a list; the rest is the list's number.
pub(super) const END: u32 = 1 << 31;

const KIND: u16 = 0x01ff;
const OPTION_MASQUERADE: u16 = 0x8000;
const OPTION_POOLED: u16 = 0x4000;
const OPTION_DIRECT: u16 = 0x2000;
const OPTION_WENT_ON: u16 = 0x1000;
const OPTION_ONE_WAY: u16 = 0x0800;
const OPTION_TUNNEL: u16 = 0x0400;
const OPTION_MOVED: u16 = 0x0200;

/// Something was seen of the reply direction. The other bits of `flags` are `tcp`'s.
pub(super) const SEEN_REPLY: u8 = 0x01;
/// Before the endpoint has answered: what the client sent last was refused by an ICMP error, and is counted.
pub(super) const REFUSED: u8 = 0x80;

impl Flow {
    /// The record of no flow.
    pub(super) const FREE: Flow = Flow {
        source: [0; 2],
        destination: [0; 2],
        ports: 0,
        kind: 0,
        state: State::Free as u8,
        flags: 0,
        last_seen: 0,
        expected: [0; 2],
        adjacencies: [-1; 2],
        network_generation: 0,
        services_generation: 0,
        reply_source: [0; 2],
        reply_destination: [0; 2],
        reply_ports: 0,
        delta: [0; 2],
        service_port: 0,
        backend: 0,
        packets: [0; 2],
        next: END,
        previous: END,
    };

    /// A record of a flow that no packet has been counted for.
    #[inline(always)]
    pub(super) fn new(
        original: &FiveTuple,
        reply: &FiveTuple,
        service_port: ServicePortId,
        backend: BackendId,
        masquerade: bool,
        pooled: bool,
    ) -> Self {
        let delta = Delta::between(original, &reply.reversed());
        Flow {
            source: original.source,
            destination: original.destination,
            ports: (original.ports >> 32) as u32,
            kind: original.ports as u16
                | if masquerade { OPTION_MASQUERADE } else { 0 }
                | if pooled { OPTION_POOLED } else { 0 },
            reply_source: reply.source,
            reply_destination: reply.destination,
            reply_ports: (reply.ports >> 32) as u32,
            delta: [delta.addresses, delta.all],
            service_port: service_port.0,
            backend: backend.0,
            ..Flow::FREE
        }
    }

    #[inline]
    fn full_ports(&self, ports: u32) -> u64 {
        u64::from(ports) << 32 | u64::from(self.kind & KIND)
    }

    /// The tuple of packets from the client to the VIP.
    #[inline]
    pub fn original(&self) -> FiveTuple {
        FiveTuple { source: self.source, destination: self.destination, ports: self.full_ports(self.ports) }
    }

    /// The tuple of packets from the endpoint to the SNAT address, or to the client when the source is kept.
    #[inline]
    pub fn reply(&self) -> FiveTuple {
        FiveTuple {
            source: self.reply_source,
            destination: self.reply_destination,
            ports: self.full_ports(self.reply_ports),
        }
    }

    /// The tuple of packets as they come in this direction.
    #[inline]
    pub fn tuple(&self, direction: Direction) -> FiveTuple {
        match direction {
            Direction::Original => self.original(),
            Direction::Reply => self.reply(),
        }
    }

    /// What becomes of packets of this direction: the other direction's tuple reversed, and the change of the sums.
    #[inline]
    pub fn rewrite(&self, direction: Direction) -> Rewrite {
        let [addresses, all] = self.delta;
        let delta = Delta { addresses, all };
        match direction {
            Direction::Original => Rewrite { to: self.reply().reversed(), delta },
            Direction::Reply => Rewrite { to: self.original().reversed(), delta: delta.inverse() },
        }
    }

    /// [`Self::rewrite`] of a flow over IPv4.
    #[inline(always)]
    pub(crate) fn ends_v4(&self, direction: Direction) -> Ends {
        let (source, destination, ports, mask) = match direction {
            Direction::Original => (&self.reply_destination, &self.reply_source, self.reply_ports, 0),
            Direction::Reply => (&self.destination, &self.source, self.ports, u16::MAX),
        };
        let [addresses, all] = self.delta;
        Ends {
            source: source[1] as u32,
            destination: destination[1] as u32,
            ports: ports.rotate_left(16),
            // The inverse of a sum is its complement.
            delta: Delta { addresses: addresses ^ mask, all: all ^ mask },
        }
    }

    /// Whether this is a flow whose packets of `direction` have exactly this tuple.
    #[inline]
    pub(super) fn answers_to(&self, direction: Direction, tuple: &FiveTuple) -> bool {
        let (source, destination, ports) = match direction {
            Direction::Original => (&self.source, &self.destination, self.ports),
            Direction::Reply => (&self.reply_source, &self.reply_destination, self.reply_ports),
        };
        // One comparison of all words, without a branch between them.
        (source[0] ^ tuple.source[0])
            | (source[1] ^ tuple.source[1])
            | (destination[0] ^ tuple.destination[0])
            | (destination[1] ^ tuple.destination[1])
            | (self.full_ports(ports) ^ tuple.ports)
            == 0
            && self.state != State::Free as u8
    }

    /// The state.
    #[inline]
    pub fn state(&self) -> State {
        State::of(self.state)
    }

    /// Whether the source address is rewritten to a SNAT address.
    #[inline]
    pub fn masquerade(&self) -> bool {
        self.kind & OPTION_MASQUERADE != 0
    }

    /// Whether the port towards the endpoint goes back to a port pool.
    #[inline]
    pub(super) fn pooled(&self) -> bool {
        self.kind & OPTION_POOLED != 0
    }

    /// Whether this is a direct connection that got another port: no Service leads to its endpoint.
    #[inline]
    pub fn is_direct(&self) -> bool {
        self.kind & OPTION_DIRECT != 0
    }

    /// How its packets get to the endpoint. It stays what it was when the flow opened: the endpoint knows no other.
    #[inline]
    pub fn forwarding(&self) -> ForwardingMode {
        match (self.kind & OPTION_ONE_WAY != 0, self.kind & OPTION_TUNNEL != 0) {
            (false, _) => ForwardingMode::Nat,
            (true, false) => ForwardingMode::DsrL2,
            (true, true) => ForwardingMode::DsrIpip,
        }
    }

    /// Whether only the client's packets are seen (see [`super::one_way`]).
    #[inline]
    pub(super) fn is_one_way(&self) -> bool {
        self.kind & OPTION_ONE_WAY != 0
    }

    /// Notes that so it is.
    pub(super) fn mark_one_way(&mut self, forwarding: ForwardingMode) {
        self.kind |= OPTION_ONE_WAY | if forwarding == ForwardingMode::DsrIpip { OPTION_TUNNEL } else { 0 };
    }

    /// Whether an ICMP error refused what the client sent last; it did not from now on.
    pub(super) fn take_refusal(&mut self) -> bool {
        let refused = self.flags & REFUSED != 0;
        self.flags &= !REFUSED;
        refused
    }

    /// Notes that it is one.
    pub(super) fn mark_direct(&mut self) {
        self.kind |= OPTION_DIRECT;
    }

    /// Whether this flow goes to another endpoint than the one that was chosen at first, and is not complete yet.
    #[inline]
    pub fn is_moved(&self) -> bool {
        self.kind & OPTION_MOVED != 0
    }

    /// Notes that it does, or that it is complete.
    pub fn set_moved(&mut self, moved: bool) {
        self.kind = self.kind & !OPTION_MOVED | if moved { OPTION_MOVED } else { 0 };
    }

    /// Whether the side whose FIN is doubted has gone on since, as if it had sent none.
    pub(super) fn went_on(&self) -> bool {
        self.kind & OPTION_WENT_ON != 0
    }

    /// Notes that it has, or that no FIN is doubted.
    pub(super) fn set_went_on(&mut self, went_on: bool) {
        self.kind = self.kind & !OPTION_WENT_ON | if went_on { OPTION_WENT_ON } else { 0 };
    }

    /// Whether a packet of this direction was ever seen.
    #[inline]
    pub fn seen(&self, direction: Direction) -> bool {
        match direction {
            // The first packet opened the flow.
            Direction::Original => self.state != State::Free as u8,
            Direction::Reply => self.flags & SEEN_REPLY != 0,
        }
    }

    /// For the caller: the adjacency that packets of this direction leave by, valid in `network_generation`. When none is
    /// remembered, a number that no adjacency has.
    #[inline]
    pub fn adjacency(&self, direction: Direction) -> AdjacencyId {
        AdjacencyId(i32::from(self.adjacencies[direction as usize]) as u32)
    }

    /// Remembers an adjacency, or none. Beyond the first 32,768 they are not remembered.
    #[inline]
    pub fn set_adjacency(&mut self, direction: Direction, adjacency: Option<AdjacencyId>) {
        let remembered = adjacency.and_then(|AdjacencyId(id)| i16::try_from(id).ok()).unwrap_or(-1);
        self.adjacencies[direction as usize] = remembered;
    }

    /// Counts a packet.
    #[inline]
    pub(crate) fn count(&mut self, direction: Direction, now: u32) {
        let counter = &mut self.packets[direction as usize];
        *counter = counter.wrapping_add(1);
        self.last_seen = now;
    }

    /// Notes that the Services of `generation` still have this flow's endpoint, and under which numbers.
    #[inline]
    pub fn approve(&mut self, service_port: ServicePortId, backend: BackendId, generation: u32) {
        self.service_port = service_port.0;
        self.backend = backend.0;
        self.services_generation = generation;
    }

    /// The service port that the client asked for.
    #[inline]
    pub fn service_port(&self) -> ServicePortId {
        ServicePortId(self.service_port)
    }

    /// The chosen backend.
    #[inline]
    pub fn backend(&self) -> BackendId {
        BackendId(self.backend)
    }

    /// How many packets of this direction were seen, modulo 2^32.
    #[inline]
    pub fn packets(&self, direction: Direction) -> u32 {
        self.packets[direction as usize]
    }

    /// Whether this is UDP, and an answer may be under way. `answer_time` says how many milliseconds that may take the
    /// endpoint.
    #[inline]
    pub(super) fn may_be_answered(&self, now: u32, answer_time: impl FnOnce() -> u32) -> bool {
        self.kind as u8 == Protocol::Udp.number() && self.idle(now) < self.settles_after(answer_time)
    }

    /// Milliseconds of silence after which UDP needs its port no more for an answer. Where there was one question, it has had
    /// one; of several nobody knows, since an answer can be more than one datagram.
    #[inline]
    pub(super) fn settles_after(&self, answer_time: impl FnOnce() -> u32) -> u32 {
        let [asked, _] = self.packets;
        if self.state == State::UdpAnswered as u8 && asked == 1 { SETTLED } else { answer_time() }
    }

    /// Whether the endpoint may remember the connection after it ended.
    #[inline]
    pub(super) fn rests(&self) -> bool {
        self.kind as u8 == Protocol::Tcp.number() && self.seen(Direction::Reply)
    }

    /// When the last packet was seen, as [`crate::clock::Time::millis`] says it.
    #[inline]
    pub fn last_seen(&self) -> u32 {
        self.last_seen
    }

    /// Milliseconds since the last packet; 0 when that lies in the future.
    #[inline]
    pub fn idle(&self, now: u32) -> u32 {
        let idle = now.wrapping_sub(self.last_seen);
        if idle > i32::MAX as u32 { 0 } else { idle }
    }
}
