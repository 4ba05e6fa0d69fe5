//! Packets that pass because they belong to no Service, and the connections that clients have straight to endpoints among
//! them: see [`crate::direct`].

use ringway_shared::DropReason;
use ringway_shared::network::{Heading, NoAdjacency};

use super::departure::exceeded_mtu;
use super::{Context, Core, Outcome, dropped, handed, pass};
use crate::batch::Received;
use crate::direct::{Noted, Passed};
use crate::flow::{Direction, FlowId, NewFlow, OpenError, Segment, Source};
use crate::wire::{Kind, Packet, sctp};

/// The chunk that opens an SCTP association.
const INIT: u8 = 1;

impl Core {
    /// A packet with ports that is nobody's: the kernel gets it, unless it opens a direct connection under the tuple that a
    /// flow has at the endpoint.
    #[cold]
    pub(super) fn nobodys(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        hash: u64,
    ) -> Option<Outcome> {
        let (network, node) = (&context.snapshot.network, &context.snapshot.services.node);
        let (source, destination) = (packet.tuple.source_address(), packet.tuple.destination_address());
        if network.objection_to(source, received.interface) == Some(DropReason::ReversePath) {
            return dropped(received, DropReason::ReversePath, None);
        }
        // What is the node's goes past no Service. Anybody may send it, and it must not crowd out what does.
        if node.is_own(destination) || self.is_snat_address(network, destination) {
            return self.pass_from(context, received, source);
        }
        let answer = packet.tuple.reversed();
        let answer_hash = self.flows.hash(&answer);
        if begins(context.umem.packet(&received.frame), packet) {
            if let Some(flow) = self.flows.answered_by(answer_hash, &answer, context.now) {
                return self.open_direct(context, received, packet, hash, flow);
            }
            let directory = self.shared.directory.as_ref().filter(|_| !received.handed_over);
            if let Some(worker) = directory.and_then(|directory| directory.owner(answer_hash))
                && worker != self.config.worker
                && worker < self.config.workers
            {
                return handed(received, worker, false);
            }
        }
        self.note_direct(context, &received, packet, [hash, answer_hash]);
        self.pass_from(context, received, source)
    }

    /// Notes the connection of a packet that passes. `hashes` are those of its tuple and of the reversed one.
    fn note_direct(&mut self, context: &Context, received: &Received, packet: &Packet, hashes: [u64; 2]) {
        let passed = Passed::of(context.umem.packet(&received.frame), packet);
        let network = &context.snapshot.network;
        let by_own_way = || network.next_hops(packet.tuple.source_address()).any(|(out, _)| out == received.interface);
        match self.shared.direct.note(hashes, &passed, context.now, by_own_way) {
            Noted::Known => {}
            Noted::Unproven => self.watches.begin(packet.tuple.reversed(), context.now),
            Noted::Proven => [packet.tuple, packet.tuple.reversed()].iter().for_each(|tuple| self.watches.end(tuple)),
        }
    }

    /// Opens a flow for a direct connection whose tuple at the endpoint is `other`'s, so that it gets another port there.
    /// Where that is not possible it passes.
    fn open_direct(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        hash: u64,
        other: FlowId,
    ) -> Option<Outcome> {
        let snapshot = context.snapshot;
        let other = self.flows.flow(other);
        let (service_port, backend) = (other.service_port(), other.backend());
        let endpoint = packet.tuple.destination_address();
        let (source, arrived) = (Some(packet.tuple.source_address()), Some(received.interface));
        let heading = Heading { destination: endpoint, source, arrived, hash: packet.tuple.maglev_hash() };
        let found = self.adjacencies.to_endpoint(&snapshot.network, &heading);
        let (adjacency, adjacency_id, out) = match found {
            Ok(found) => (Ok(found.adjacency), Some(found.id), found.adjacency.out),
            Err(none @ NoAdjacency::Unresolved { interface, .. }) => (Err(none), None, interface),
            Err(_) => return pass(received),
        };
        let too_large = exceeded_mtu(&adjacency, context.umem.packet(&received.frame), packet);
        if packet.ttl <= 1 || packet.objection.is_some() || too_large.is_some() {
            return pass(received);
        }
        let new = NewFlow {
            original: packet.tuple,
            segment: Segment::asking(context.umem.packet(&received.frame), packet),
            endpoint,
            endpoint_port: packet.tuple.destination_port(),
            source: Source::Moved,
            service_port,
            backend,
        };
        match self.flows.open(&new, context.now) {
            Ok(opened) => {
                self.introduce(snapshot, opened.id, adjacency_id, packet, out);
                self.send_on(context, received, packet, opened.id, Direction::Original, &adjacency)
            }
            Err(OpenError::Exists(id)) => self.forward(context, received, packet, id, Direction::Original, &adjacency),
            Err(OpenError::TableFull | OpenError::PortsExhausted) => {
                let answer_hash = self.flows.hash(&packet.tuple.reversed());
                self.note_direct(context, &received, packet, [hash, answer_hash]);
                pass(received)
            }
        }
    }

    /// A packet of an endpoint that has a flow's tuple, but is no answer of the flow.
    #[cold]
    pub(super) fn answers_another(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        hash: u64,
        id: FlowId,
    ) -> Option<Outcome> {
        if Segment::believed(context.umem.packet(&received.frame), packet).flags.syn() {
            // The endpoint would not open a connection under this tuple if it had the flow's still.
            self.flows.displace(id, context.now);
        }
        let asked = self.flows.hash(&packet.tuple.reversed());
        self.note_direct(context, &received, packet, [hash, asked]);
        self.pass_from(context, received, packet.tuple.source_address())
    }
}

/// Whether a packet may be the first of a connection.
pub(super) fn begins(frame: &[u8], packet: &Packet) -> bool {
    match packet.kind {
        Kind::Tcp { flags, .. } => flags.syn() && !flags.ack() && !flags.rst(),
        Kind::Sctp => packet.transport(frame).and_then(|message| message.get(sctp::HEADER)) == Some(&INIT),
        _ => true,
    }
}
