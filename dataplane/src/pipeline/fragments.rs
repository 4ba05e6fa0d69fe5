//! Fragments of packets with ports: the first is dealt with as a whole packet is, and the others share its fate.
//!
//! A fragment that comes before the first waits. When the first does not come, those for a VIP end here; all others are the
//! kernel's, which has perhaps the first one.
//!
//! With several workers, fragments of a datagram may come by several queues, none of which need be that of its flow's owner.
//! The directory says who has a datagram, as it does of flows: whoever deals with the first fragment notes it there,
//! and the others are handed over when they come, or when they have waited for it.

mod first;

use ringway_shared::decision::{Decision, without_frontend};
use ringway_shared::network::Heading;
use ringway_shared::{DropReason, Family, FiveTuple, InterfaceId, Protocol};

pub(super) use first::is_certain;

use super::departure::{Intent, exceeded_mtu};
use super::{Context, Core, Outcome, Shared, Staged, dropped, handed, objection};
use crate::batch::Received;
use crate::clock::Time;
use crate::config::PipelineConfig;
use crate::flow::Direction;
use crate::forward::nat::{self, Rewrite};
use crate::fragments::{DatagramId, Datagrams, Fate, Follow, Key, Next, Piece, Waiting};
use crate::wire::{Fragment, Kind, Packet, ipv6};

/// Where the second eight bytes of a TCP header would stand: no fragment begins there but one that hides flags (RFC 3128).
const INSIDE_TCP_HEADER: u16 = 8;

/// What is known of datagrams that come in fragments.
#[derive(Default)]
pub(super) struct Fragments {
    pub(super) datagrams: Datagrams,
    pub(super) waiting: Waiting<Received>,
    /// How many of the batch wait that count as received later, and their bytes.
    pub(super) received_later: (u64, u64),
}

impl Fragments {
    /// A step of forgetting.
    pub(super) fn expire(&mut self, now: Time, budget: u32) {
        self.datagrams.expire(now, budget);
    }
}

impl Core {
    /// A fragment of a packet of whatever protocol.
    #[cold]
    pub(super) fn fragment(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        fragment: Fragment,
        staged: &Staged,
    ) -> Option<Outcome> {
        match packet.kind {
            Kind::Tcp { .. } | Kind::Udp | Kind::Sctp => {
                self.first_fragment(context, received, packet, fragment, staged)
            }
            Kind::LaterFragment { protocol } if may_have_ports(protocol, packet.family()) => {
                self.later_fragment(context, received, packet, fragment)
            }
            _ => self.portless(context, received, packet),
        }
    }

    fn later_fragment(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        fragment: Fragment,
    ) -> Option<Outcome> {
        let key = Key::of(packet, fragment);
        let hash = self.flows.hash(key.words());
        let piece = Piece::of(context.umem.packet(&received.frame), packet, fragment);
        if let Some(fate) = self.shared_fate(context, packet, received.interface, (hash, &key), piece.as_ref()) {
            return self.share(context, received, packet, fate);
        }
        let services = &context.snapshot.services;
        match without_frontend(services, packet.tuple.destination_address()) {
            // What is perhaps the kernel's is judged when that is known.
            Decision::Pass => {}
            decision => {
                let refused = match decision {
                    Decision::Drop(reason, _) => Some(reason),
                    _ if hides_flags(packet) => Some(DropReason::TinyFragment),
                    _ if piece.is_none() => Some(DropReason::InvalidFragment),
                    _ => None,
                };
                let objection = objection(context.snapshot, packet, received.interface);
                if let Some(reason) = refused.filter(|reason| objection.is_none() && ends_datagram(*reason)) {
                    self.decide_datagram(hash, key, Fate::Drop(reason), context.now);
                }
                if let Some(reason) = objection.or(refused) {
                    return dropped(received, reason, None);
                }
            }
        }
        if !received.handed_over
            && let Some(worker) = datagram_elsewhere(&self.shared, &self.config, hash)
        {
            return handed(received, worker, false);
        }
        let bytes = received.frame.len() as u64;
        match self.fragments.waiting.push(hash, key, received, context.now) {
            Ok(()) => {
                if self.others_may_take() {
                    let (count, sum) = &mut self.fragments.received_later;
                    (*count, *sum) = (*count + 1, *sum + bytes);
                }
                None
            }
            Err(received) => self.without_first(context, received, packet),
        }
    }

    /// The fate of a later fragment, if that of its datagram is known.
    pub(super) fn shared_fate(
        &mut self,
        context: &Context,
        packet: &Packet,
        arrived: InterfaceId,
        (hash, key): (u64, &Key),
        piece: Option<&Piece>,
    ) -> Option<Fate> {
        let datagrams = &mut self.fragments.datagrams;
        let id = datagrams.find(hash, key, context.now)?;
        let fate = datagrams.fate(id);
        if let Some(objection) = objection(context.snapshot, packet, arrived).filter(|_| !fate.came_by(arrived)) {
            // It adds nothing to a datagram that others send, and ends none.
            return Some(if fate == Fate::Pass { fate } else { Fate::Drop(objection) });
        }
        if hides_flags(packet) && matches!(datagrams.fate(id), Fate::Forward(_)) {
            datagrams.set_fate(id, Fate::Drop(DropReason::TinyFragment));
        }
        let Next::Share(fate) = datagrams.add(id, piece, context.now) else { return None };
        if let Fate::Forward(follow) = &fate
            && datagrams.is_uncertain(id)
        {
            // Its flow may have been answered since the first fragment came.
            let rest = packet.tuple.ports & u64::from(u32::MAX);
            let first = FiveTuple { ports: u64::from(follow.ports) << 32 | rest, ..packet.tuple };
            if self.flows.lookup(&first, context.now).is_some_and(|(flow, _)| is_certain(self.flows.flow(flow))) {
                self.make_certain(id, key);
            }
        }
        Some(fate)
    }

    fn make_certain(&mut self, id: DatagramId, key: &Key) {
        let pair = self.flows.hash(&key.pair());
        self.fragments.datagrams.make_certain(id, pair);
    }

    pub(super) fn share(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        fate: Fate,
    ) -> Option<Outcome> {
        match fate {
            Fate::Pass => self.pass_from(context, received, packet.tuple.source_address()),
            Fate::Drop(reason) => dropped(received, packet.objection.unwrap_or(reason), None),
            Fate::Forward(follow) => self.follow(context, received, packet, &follow),
        }
    }

    /// Sends a later fragment where the first one went. It is never answered.
    fn follow(
        &mut self,
        context: &mut Context,
        mut received: Received,
        packet: &Packet,
        follow: &Follow,
    ) -> Option<Outcome> {
        if let Some(objection) = packet.objection {
            return dropped(received, objection, follow.service_port);
        }
        if packet.ttl <= 1 {
            return dropped(received, DropReason::TtlExpired, follow.service_port);
        }
        if follow.forwarding.is_dsr() {
            return self.follow_dsr_fragment(context, received, packet, follow);
        }
        let source = match follow.direction {
            Direction::Original => packet.tuple.source_address(),
            Direction::Reply => follow.to.source_address(),
        };
        let (destination, arrived) = (follow.to.destination_address(), Some(received.interface));
        let heading = Heading { destination, source: Some(source), arrived, hash: follow.hash };
        let network = &context.snapshot.network;
        let resolved = match follow.direction {
            Direction::Original => self.adjacencies.to_endpoint(network, &heading),
            Direction::Reply => self.adjacencies.to_client(network, &heading),
        };
        let adjacency = resolved.map(|resolved| resolved.adjacency);
        if exceeded_mtu(&adjacency, context.umem.packet(&received.frame), packet).is_some() {
            return dropped(received, DropReason::TooBig, follow.service_port);
        }
        nat::rewrite(context.umem.packet_mut(&mut received.frame), packet, &Rewrite::new(&packet.tuple, follow.to));
        if let Some(backend) = follow.backend {
            self.shared.counters.backend_packet(backend, u64::from(packet.end));
        }
        // Ethernet padding is not carried along.
        context.umem.resize(&mut received.frame, usize::from(packet.end));
        self.send(context, received, adjacency, heading, Intent::Forward, follow.service_port)
    }

    /// Says what becomes of the fragments of a datagram, whatever was said before.
    pub(super) fn decide_datagram(&mut self, hash: u64, key: Key, fate: Fate, now: Time) {
        let datagrams = &mut self.fragments.datagrams;
        match datagrams.find(hash, &key, now) {
            Some(id) => datagrams.set_fate(id, fate),
            None => {
                datagrams.open(hash, key, fate, None, now);
            }
        }
        self.fragments.waiting.settle(hash, &key);
    }
}

/// The other worker that has the datagram with this hash, as far as that is known.
pub(super) fn datagram_elsewhere(shared: &Shared, config: &PipelineConfig, hash: u64) -> Option<u16> {
    let owner = shared.directory.as_ref()?.owner(hash)?;
    (owner != config.worker && owner < config.workers).then_some(owner)
}

/// Whether a first fragment with this number of a protocol may have ports: over IPv6 the headers may go on.
fn may_have_ports(protocol: u8, family: Family) -> bool {
    Protocol::from_number(protocol).is_some() || (family == Family::V6 && ipv6::is_extension(protocol))
}

/// Whether a reason to drop a fragment is one to drop all of its datagram, whatever follows.
fn ends_datagram(reason: DropReason) -> bool {
    matches!(reason, DropReason::TinyFragment | DropReason::FragmentOverlap | DropReason::InvalidFragment)
}

/// Whether a later fragment begins inside the TCP header.
fn hides_flags(packet: &Packet) -> bool {
    packet.fragment.is_some_and(|fragment| fragment.offset == INSIDE_TCP_HEADER)
        && packet.kind == Kind::LaterFragment { protocol: Protocol::Tcp.number() }
}
