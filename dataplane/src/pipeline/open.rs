//! Packets that belong to no flow of this worker: the Service semantics decide, and a flow is opened.

use std::net::IpAddr;

use ringway_shared::address::address_words;
use ringway_shared::counters::Counter;
use ringway_shared::decision::{Decision, Masquerade, decide, masquerade_for, selection_hash};
use ringway_shared::network::{Heading, NoAdjacency};
use ringway_shared::service::ServicePort;
use ringway_shared::{AdjacencyId, Backend, DropReason, EndpointSet, FiveTuple, InterfaceId, Protocol, Snapshot};

use super::departure::{Intent, exceeded_mtu};
use super::established::path_hash;
use super::owner::Owner;
use super::rescue::Wanted;
use super::{Context, Core, Outcome, dropped, handed, objection};
use crate::batch::Received;
use crate::flow::{Direction, Effort, FlowId, NewFlow, OpenError, Opened, ReplyQueues, Segment, Source, Wishes};
use crate::forward::nat::{self, Rewrite};
use crate::wire::{Kind, Packet, sctp};

impl Core {
    /// A packet of a flow that has just ended.
    #[cold]
    pub(super) fn open(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        hash: u64,
    ) -> Option<Outcome> {
        self.open_unknown(context, received, packet, hash)
    }

    /// A packet that belongs to no flow here. A part of its only caller, and of [`Self::open`], which is seldom needed.
    #[inline(always)]
    pub(super) fn open_unknown(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        hash: u64,
    ) -> Option<Outcome> {
        let snapshot = context.snapshot;
        if let Some(Owner { worker, doubted }) = self.owner_elsewhere(snapshot, &received, packet, hash) {
            return handed(received, worker, doubted);
        }
        let decision = decide(&snapshot.services, &packet.tuple);
        if !matches!(decision, Decision::Pass)
            && let Some(objection) = objection(snapshot, packet, received.interface)
        {
            return dropped(received, objection, None);
        }
        match decision {
            Decision::Pass => self.nobodys(context, received, packet, hash),
            Decision::Drop(reason, target) => dropped(received, reason, target.map(|target| target.service_port.id)),
            Decision::Reject(reason, target) => {
                let service_port = target.map(|target| target.service_port.id);
                if packet.ttl <= 1 {
                    return self.answer_expired(context, received, packet, service_port);
                }
                self.answer(context, received, packet, reason, service_port)
            }
            Decision::Forward { target, set, masquerade, .. } => {
                self.open_to(context, received, packet, hash, &target.service_port, set, masquerade)
            }
        }
    }

    /// Whether no port of this packet changes, should it open a flow; also when it opens none.
    #[cold]
    pub(super) fn opens_with_same_ports(&self, context: &Context, packet: &Packet) -> bool {
        let tuple = &packet.tuple;
        let Decision::Forward { target, set, masquerade, .. } = decide(&context.snapshot.services, tuple) else {
            return true;
        };
        let client = tuple.source_address();
        let selection = selection_hash(tuple, &target.service_port);
        let chosen = self.first_choice(packet, &target.service_port, set, selection, context.now);
        chosen.is_some_and(|backend| {
            let (number, protocol) = (tuple.source_port(), tuple.protocol());
            let to = FiveTuple::from_parts(protocol, client, number, backend.address, backend.port);
            // Another flow may have the client's port there.
            let is_free = || self.flows.lookup(&to.reversed(), context.now).is_none();
            let is_kept = || !masquerade_for(masquerade, client, backend).is_due() && is_free();
            masquerade == Masquerade::KeptForDsr || (backend.port == tuple.destination_port() && is_kept())
        })
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a decision that is made once a flow")]
    fn open_to(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        hash: u64,
        port: &ServicePort,
        set: &EndpointSet,
        masquerade: Masquerade,
    ) -> Option<Outcome> {
        let service_port = Some(port.id);
        if let Kind::Tcp { flags, .. } = packet.kind
            && flags.rst()
        {
            return dropped(received, DropReason::RstWithoutFlow, service_port);
        }
        if packet.ttl <= 1 {
            return self.answer_expired(context, received, packet, service_port);
        }
        // The decision promises that the set is not empty.
        let Some(mut wanted) = self.choose(context, &received, packet, (port, masquerade), set) else {
            return dropped(received, DropReason::NoEndpoint, service_port);
        };
        if packet.kind == Kind::Sctp
            && (set.backends().len() > 1
                || masquerade_for(masquerade, packet.tuple.source_address(), wanted.backend).is_due())
            && tries_a_path(context.umem.packet(&received.frame), packet)
        {
            return dropped(received, DropReason::HeartbeatWithoutFlow, service_port);
        }
        if masquerade == Masquerade::KeptForDsr {
            return self.open_dsr(context, received, packet, hash, port, wanted.backend);
        }
        self.open_at(context, received, packet, hash, &mut wanted)
    }

    /// Opens a flow to the chosen backend.
    pub(super) fn open_at(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        hash: u64,
        wanted: &mut Wanted<'_>,
    ) -> Option<Outcome> {
        let snapshot = context.snapshot;
        let Wanted { port, masquerade, backend, owed, .. } = *wanted;
        let (service_port, tuple, arrived) = (Some(port.id), &packet.tuple, received.interface);
        // Addresses are kept as words in what nearly every flow needs: this is for the others.
        let client = || tuple.source_address();
        let heading = || Heading {
            destination: backend.address,
            source: Some(client()),
            arrived: Some(arrived),
            hash: path_hash(&snapshot.network, tuple),
        };
        let found = self.adjacencies.to_endpoint_at(&snapshot.network, address_words(backend.address), heading);
        let (adjacency, adjacency_id) = match &found {
            Ok(found) => (Ok(found.adjacency), Some(found.id)),
            Err(none) => (Err(*none), None),
        };
        if let Some(mtu) = exceeded_mtu(&adjacency, context.umem.packet(&received.frame), packet) {
            return self.answer_too_big(context, received, packet, mtu, service_port);
        }
        // Answers come from where the packet goes.
        let out = match &adjacency {
            Ok(adjacency) => adjacency.out,
            Err(NoAdjacency::Unresolved { interface, .. }) => *interface,
            Err(none) => return dropped(received, none.reason(), service_port),
        };
        let replies = self.reply_queues(snapshot, out);
        let source = if masquerade.is_due() || masquerade_for(masquerade, client(), backend).is_due() {
            let by_route = || match &found {
                Ok(found) => found.source,
                Err(_) => snapshot.network.source_address_for(&heading()),
            };
            let endpoint = (port.protocol, backend);
            let Some(address) = self.snat_address(endpoint, hash, replies).or_else(by_route) else {
                return dropped(received, DropReason::NoSourceAddress, service_port);
            };
            Source::Masquerade(address)
        } else {
            Source::Kept
        };
        let new = NewFlow {
            original: packet.tuple,
            segment: Segment::asking(context.umem.packet(&received.frame), packet),
            endpoint: backend.address,
            endpoint_port: backend.port,
            source,
            service_port: port.id,
            backend: backend.id,
        };
        let frontends = (port.protocol == Protocol::Udp).then_some(&*snapshot.services);
        let wishes = Wishes { replies, frontends };
        // Who is masqueraded has several ways to a port, and takes the easy one first.
        let effort = if matches!(source, Source::Masquerade(_)) { Effort::Free } else { Effort::Any };
        let mut opened = self.flows.open_with(hash, &new, wishes, effort, context.now);
        if effort == Effort::Free && opened == Err(OpenError::PortsExhausted) {
            // Who was moved has no other worker: it would choose anew.
            let keeps = received.handed_over || wanted.moved.is_some();
            opened = match self.open_without_free_port(hash, &new, wishes, keeps, context.now) {
                Ok(opened) => opened,
                Err(worker) => return handed(received, worker, false),
            };
        }
        match opened {
            Ok(Opened { id, .. }) => {
                self.shared.counters.backend_flow(backend.id);
                if owed {
                    self.flows.flow_mut(id).set_owed(context.now.millis());
                }
                match (wanted.moved.take(), &port.affinity) {
                    (Some(moved), _) => self.note_move(id, moved),
                    (None, Some(affinity)) => {
                        self.shared.affinities.note(affinity, client(), backend.address, context.now);
                    }
                    (None, None) => {}
                }
                self.introduce(snapshot, id, adjacency_id, packet, out);
                self.send_on(context, received, packet, id, Direction::Original, &adjacency)
            }
            // Cannot be: this packet's flow was looked for.
            Err(OpenError::Exists(id)) => self.forward(context, received, packet, id, Direction::Original, &adjacency),
            Err(OpenError::PortsExhausted) => match wanted.moved.take().and_then(|moved| moved.instead_of) {
                Some(backend) => {
                    let mut wanted = Wanted { port, masquerade, backend, moved: None, owed: false };
                    self.open_at(context, received, packet, hash, &mut wanted)
                }
                None => dropped(received, DropReason::SnatPortsExhausted, service_port),
            },
            // Without a flow replies do not find back: only who sends UDP and wants none is served.
            Err(OpenError::TableFull) if source != Source::Kept || port.protocol != Protocol::Udp => {
                dropped(received, DropReason::FlowTableFull, service_port)
            }
            Err(OpenError::TableFull) => {
                self.tally.add(Counter::Stateless, 1);
                self.note_client(packet, port, backend, context.now);
                let mut received = received;
                let bytes = context.umem.packet_mut(&mut received.frame);
                let to = FiveTuple::from_parts(
                    port.protocol,
                    client(),
                    packet.tuple.source_port(),
                    backend.address,
                    backend.port,
                );
                nat::rewrite(bytes, packet, &Rewrite::new(&packet.tuple, to));
                context.umem.resize(&mut received.frame, usize::from(packet.end));
                self.send(context, received, adjacency, heading(), Intent::Forward, service_port)
            }
        }
    }

    /// What a new flow needs besides its record: the generation it was made under, and a known way back to the client, whose
    /// packet goes out by an interface.
    #[inline(always)]
    pub(super) fn introduce(
        &mut self,
        snapshot: &Snapshot,
        id: FlowId,
        adjacency: Option<AdjacencyId>,
        packet: &Packet,
        out: InterfaceId,
    ) {
        let way_back = || way_back(packet, out, path_hash(&snapshot.network, &packet.tuple));
        let back = self.adjacencies.number_to_client(&snapshot.network, packet.tuple.source, way_back);
        let flow = self.flows.flow_mut(id);
        flow.services_generation = snapshot.services.generation;
        flow.network_generation = snapshot.network.generation;
        flow.set_adjacency(Direction::Original, adjacency);
        flow.set_adjacency(Direction::Reply, back.ok());
        // The client's neighbour is asked for now, so that the answer need not wait for it.
        if let Err(NoAdjacency::Unresolved { interface, next_hop, .. }) = back {
            self.shared.resolver.ask(interface, next_hop);
        }
        if self.shared.directory.is_some() {
            self.hint(snapshot, id);
        }
    }

    /// Where the port of a masqueraded SCTP flow is a frontend's as well, a reply cannot be told by its port from what clients
    /// send: the directory says whose it is. TCP tells by its flags, and no UDP flow is given such a port.
    fn hint(&mut self, snapshot: &Snapshot, id: FlowId) {
        let flow = self.flows.flow(id);
        let reply = flow.reply();
        if let Some(directory) = &self.shared.directory
            && flow.masquerade()
            && reply.protocol() == Protocol::Sctp
            && snapshot.services.find(&reply.frontend()).is_some()
        {
            directory.note(self.flows.hash(&reply), self.config.worker);
        }
    }

    /// By which queue replies come to this worker that arrive by an interface, where that can be computed.
    #[inline]
    pub(super) fn reply_queues<'a>(&self, snapshot: &'a Snapshot, interface: InterfaceId) -> Option<ReplyQueues<'a>> {
        let (worker, workers) = (self.config.worker, self.config.workers);
        if workers == 1 {
            return None;
        }
        snapshot.network.rss(interface).and_then(|rss| ReplyQueues::new(rss, worker, workers))
    }

    /// The configured SNAT address for a flow to an endpoint, by the flow's hash: where ports make no difference to the queue
    /// that replies come to, the next one by which they come to this worker. Without any, the address that Linux would
    /// choose is the one.
    fn snat_address(
        &self,
        (protocol, Backend { address: endpoint, port, .. }): (Protocol, &Backend),
        hash: u64,
        replies: Option<ReplyQueues<'_>>,
    ) -> Option<IpAddr> {
        if self.config.snat_addresses.is_empty() {
            return None;
        }
        let mut turn = self.snat_addresses(*endpoint, hash);
        let first = turn.next();
        let (Some(replies), Some(address)) = (replies, first) else { return first };
        let fits = |address: &IpAddr| {
            replies.fits_by_addresses(&FiveTuple::from_parts(protocol, *endpoint, *port, *address, 0)) != Some(false)
        };
        if fits(&address) { first } else { turn.find(fits).or(first) }
    }
}

/// The heading of answers to a packet that goes out by an interface: they come back by it.
#[inline]
fn way_back(packet: &Packet, out: InterfaceId, hash: u64) -> Heading {
    let (client, frontend) = (packet.tuple.source_address(), packet.tuple.destination_address());
    Heading { destination: client, source: Some(frontend), arrived: Some(out), hash }
}

/// Whether a packet asks whether another path of an association works. Only its own endpoint knows the association, by addresses
/// that no masquerade changes.
#[cold]
fn tries_a_path(frame: &[u8], packet: &Packet) -> bool {
    Segment::of(frame, packet).chunk == sctp::chunk::HEARTBEAT
}
