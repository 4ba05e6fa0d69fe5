//! Direct server return: the packet goes to the endpoint as it came, which owns the VIP and answers the client itself.
//!
//! With `dsr-l2` only the MAC addresses change, so the endpoint has to be on a link of the node; with `dsr-ipip` the packet
//! goes inside another one, from the address that the kernel would choose on that way. Nothing is rewritten, no port is
//! taken, and no answer is seen, so whatever would be known by answers is not asked for: [`crate::flow`] knows such flows by
//! their client's packets alone, and where it has no room for one, its packets go the same way without.

use ringway_shared::counters::Counter;
use ringway_shared::decision::{Decision, Masquerade, decide, selection_hash};
use ringway_shared::network::{Heading, NoAdjacency};
use ringway_shared::service::{ForwardingMode, ServicePort};
use ringway_shared::{
    Adjacency, Backend, BackendId, DropReason, FiveTuple, InterfaceId, Network, ServicePortId, Snapshot,
};

use super::departure::{Intent, mtu, must_not_fragment};
use super::direct::begins;
use super::established::{Standing, revise};
use super::held::key_of_client;
use super::{Context, Core, Outcome, dropped};
use crate::affinity::Rank;
use crate::batch::Received;
use crate::flow::{Direction, Effort, Flow, FlowId, NewFlow, OpenError, Opened, Segment, Source, Wishes};
use crate::forward::dsr::{self, Tunnel};
use crate::fragments::Follow;
use crate::wire::{Kind, Packet};

/// How a packet gets to its endpoint.
pub(super) struct Way<'n> {
    adjacency: Result<&'n Adjacency, NoAdjacency>,
    heading: Heading,
    /// What it goes inside.
    tunnel: Option<Tunnel>,
}

impl Way<'_> {
    /// The largest packet that it carries, its outer header taken off.
    fn mtu(&self) -> Option<u32> {
        let outer = self.tunnel.map_or(0, |tunnel| dsr::overhead(tunnel.destination));
        Some(mtu(&self.adjacency)?.saturating_sub(outer))
    }

    /// The same, when `packet`, which was parsed from `frame`, is larger and must not be fragmented.
    fn exceeded_by(&self, frame: &[u8], packet: &Packet) -> Option<u32> {
        let mtu = self.mtu()?;
        (u32::from(packet.ip_length()) > mtu && must_not_fragment(frame, packet)).then_some(mtu)
    }
}

/// What a new connection like this flow's could get: the same endpoint, and the same forwarding.
#[cold]
fn same_choice<'s>(flow: &Flow, snapshot: &'s Snapshot, packet: &Packet) -> Option<(&'s ServicePort, &'s Backend)> {
    let Decision::Forward { target, set, masquerade: Masquerade::KeptForDsr, .. } =
        decide(&snapshot.services, &packet.tuple)
    else {
        return None;
    };
    let port = &*target.service_port;
    let reply = flow.reply();
    let endpoint = (reply.source_address(), reply.source_port());
    let backend = set.backends().iter().find(|backend| (backend.address, backend.port) == endpoint)?;
    (port.forwarding == flow.forwarding()).then_some((port, backend))
}

impl Core {
    /// How the later fragments of a datagram follow its first one, `packet`, that was sent on without a flow.
    pub(super) fn follow_without_flow(
        &self,
        context: &Context,
        packet: &Packet,
        arrived: InterfaceId,
    ) -> Option<Follow> {
        let (tuple, snapshot) = (&packet.tuple, context.snapshot);
        let Decision::Forward { target, set, masquerade: Masquerade::KeptForDsr, .. } =
            decide(&snapshot.services, tuple)
        else {
            return None;
        };
        let port = &target.service_port;
        let backend = self.first_choice(packet, port, set, selection_hash(tuple, port), context.now)?;
        let (client, number) = (tuple.source_address(), tuple.source_port());
        Some(Follow {
            to: FiveTuple::from_parts(tuple.protocol(), client, number, backend.address, backend.port),
            ports: (tuple.ports >> 32) as u32,
            direction: Direction::Original,
            arrived,
            hash: tuple.maglev_hash(),
            service_port: Some(port.id),
            backend: Some(backend.id),
            forwarding: port.forwarding,
        })
    }

    /// The packet of a client that opens a flow to `backend`.
    pub(super) fn open_dsr(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        hash: u64,
        port: &ServicePort,
        backend: &Backend,
    ) -> Option<Outcome> {
        let snapshot = context.snapshot;
        let service_port = Some(port.id);
        let to = (port.forwarding, backend);
        let way = (received.interface, packet.tuple.maglev_hash());
        let way = match self.dsr_way(&snapshot.network, packet, way, to) {
            Ok(way) => way,
            Err(reason) => return dropped(received, reason, service_port),
        };
        if let Some(mtu) = way.exceeded_by(context.umem.packet(&received.frame), packet) {
            return self.answer_too_big(context, received, packet, mtu, service_port);
        }
        let new = NewFlow {
            original: packet.tuple,
            segment: Segment::one_way(context.umem.packet(&received.frame), packet),
            endpoint: backend.address,
            endpoint_port: backend.port,
            source: Source::OneWay(port.forwarding),
            service_port: port.id,
            backend: backend.id,
        };
        match self.flows.open_with(hash, &new, Wishes::default(), Effort::Any, context.now) {
            Ok(Opened { id, .. }) => {
                self.shared.counters.backend_flow(backend.id);
                self.note_client(packet, port, backend, context.now);
                let flow = self.flows.flow_mut(id);
                flow.services_generation = snapshot.services.generation;
                flow.network_generation = snapshot.network.generation;
            }
            Err(OpenError::Exists(_)) => {}
            // The choice is the same for its next packet, and no answer has to find back.
            Err(OpenError::TableFull | OpenError::PortsExhausted) => {
                self.tally.add(Counter::Stateless, 1);
                if begins(context.umem.packet(&received.frame), packet) {
                    self.note_client(packet, port, backend, context.now);
                }
            }
        }
        self.send_dsr(context, received, packet, way, port.id, backend.id)
    }

    /// A packet of a known flow.
    pub(super) fn established_dsr(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        hash: u64,
        id: FlowId,
        direction: Direction,
    ) -> Option<Outcome> {
        // What the endpoint sends under its own address is no answer.
        if direction == Direction::Reply {
            return self.pass_from(context, received, packet.tuple.source_address());
        }
        let snapshot = context.snapshot;
        let flow = self.flows.flow_mut(id);
        let service_port = Some(flow.service_port());
        if let Some(objection) = packet.objection {
            return dropped(received, objection, service_port);
        }
        let segment = Segment::one_way(context.umem.packet(&received.frame), packet);
        if flow.services_generation != snapshot.services.generation && revise(flow, snapshot) == Standing::Gone {
            self.flows.remove(id, context.now);
            return match packet.kind {
                Kind::Tcp { flags, .. } if !flags.syn() => {
                    self.answer(context, received, packet, DropReason::EndpointDeleted, service_port)
                }
                _ => self.open(context, received, packet, hash),
            };
        }
        if packet.ttl <= 1 {
            return self.answer_expired(context, received, packet, service_port);
        }
        // New connections go to those who are chosen now, also from the same port; to the same one as long as it may be chosen, since
        // who forges a client's FIN and then a SYN asks for one, too.
        let flow = self.flows.flow(id);
        let same = if flow.asks_one_way(&segment) { Some(same_choice(flow, snapshot, packet)) } else { None };
        let is_stale = matches!(same, Some(None));
        if is_stale && flow.gives_way_to(&segment, context.now.millis()) {
            self.flows.remove(id, context.now);
            return self.open(context, received, packet, hash);
        }
        if let Some(Some((port, backend))) = same
            && flow.is_over_one_way()
        {
            self.flows.remove(id, context.now);
            return self.open_dsr(context, received, packet, hash, port, backend);
        }
        let way = match self.dsr_way_of(&snapshot.network, packet, received.interface, id) {
            Ok(way) => way,
            Err(reason) => return dropped(received, reason, service_port),
        };
        if let Some(mtu) = way.exceeded_by(context.umem.packet(&received.frame), packet) {
            return self.answer_too_big(context, received, packet, mtu, service_port);
        }
        // A SYN keeps none alive that it may replace.
        if !is_stale && self.flows.advance_one_way(id, &segment, context.now) {
            self.rank_client(snapshot, id, Rank::WentOn, context.now);
        }
        let flow = self.flows.flow(id);
        let (service_port, backend) = (flow.service_port(), flow.backend());
        self.send_dsr(context, received, packet, way, service_port, backend)
    }

    /// A packet that is none of the flow's but goes where they go: an ICMP error about what the endpoint sent.
    pub(super) fn follow_dsr(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        id: FlowId,
    ) -> Option<Outcome> {
        let flow = self.flows.flow(id);
        let (service_port, backend) = (flow.service_port(), flow.backend());
        if packet.ttl <= 1 {
            return self.answer_expired(context, received, packet, Some(service_port));
        }
        let network = &context.snapshot.network;
        let way = match self.dsr_way_of(network, packet, received.interface, id) {
            Ok(way) => way,
            Err(reason) => return dropped(received, reason, Some(service_port)),
        };
        if let Some(mtu) = way.exceeded_by(context.umem.packet(&received.frame), packet) {
            return self.answer_too_big(context, received, packet, mtu, Some(service_port));
        }
        self.send_dsr(context, received, packet, way, service_port, backend)
    }

    /// A later fragment of a packet of such a flow.
    pub(super) fn follow_dsr_fragment(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        follow: &Follow,
    ) -> Option<Outcome> {
        let (address, port) = (follow.to.destination_address(), follow.to.destination_port());
        let (Some(service_port), Some(id)) = (follow.service_port, follow.backend) else {
            return dropped(received, DropReason::FlowTableFull, follow.service_port);
        };
        let backend = Backend { id, address, port, weight: 1 };
        let (network, arrived) = (&context.snapshot.network, received.interface);
        let way = match self.dsr_way(network, packet, (arrived, follow.hash), (follow.forwarding, &backend)) {
            Ok(way) => way,
            Err(reason) => return dropped(received, reason, Some(service_port)),
        };
        // The first one was answered.
        if way.exceeded_by(context.umem.packet(&received.frame), packet).is_some() {
            return dropped(received, DropReason::TooBig, Some(service_port));
        }
        self.send_dsr(context, received, packet, way, service_port, id)
    }

    /// The way of a packet of a known flow.
    fn dsr_way_of<'n>(
        &mut self,
        network: &'n Network,
        packet: &Packet,
        arrived: InterfaceId,
        id: FlowId,
    ) -> Result<Way<'n>, DropReason> {
        let flow = self.flows.flow(id);
        let reply = flow.reply();
        let (address, port) = (reply.source_address(), reply.source_port());
        let backend = Backend { id: flow.backend(), address, port, weight: 1 };
        let hash = packet.tuple.maglev_hash();
        self.dsr_way(network, packet, (arrived, hash), (flow.forwarding(), &backend))
    }

    /// The way of a packet to a backend, its neighbour known or not.
    fn dsr_way<'n>(
        &mut self,
        network: &'n Network,
        packet: &Packet,
        (arrived, hash): (InterfaceId, u64),
        (forwarding, backend): (ForwardingMode, &Backend),
    ) -> Result<Way<'n>, DropReason> {
        let destination = backend.address;
        let tunnelled = forwarding == ForwardingMode::DsrIpip;
        let heading = if tunnelled {
            // The outer packet comes from here.
            Heading { hash, ..Heading::to(destination) }
        } else {
            let source = Some(packet.tuple.source_address());
            Heading { destination, source, arrived: Some(arrived), hash }
        };
        let found = self.adjacencies.to_endpoint(network, &heading);
        let id = network.suits(destination, forwarding, found.map(|resolved| resolved.id));
        let adjacency = id.and_then(|id| network.adjacency(id).ok_or(NoAdjacency::NoRoute));
        unresolved(&adjacency)?;
        if !tunnelled {
            return Ok(Way { adjacency, heading, tunnel: None });
        }
        let source = match &found {
            Ok(resolved) => resolved.source,
            Err(_) => network.source_address_for(&heading),
        };
        let source = source.ok_or(DropReason::NoSourceAddress)?;
        Ok(Way { adjacency, heading, tunnel: Some(Tunnel { source, destination, hash }) })
    }

    /// Sends a packet on that its flow, if it has one, has counted.
    fn send_dsr(
        &mut self,
        context: &mut Context,
        mut received: Received,
        packet: &Packet,
        way: Way<'_>,
        service_port: ServicePortId,
        backend: BackendId,
    ) -> Option<Outcome> {
        dsr::hop(context.umem.packet_mut(&mut received.frame), packet);
        // Ethernet padding is not carried along.
        context.umem.resize(&mut received.frame, usize::from(packet.end));
        if let Some(tunnel) = &way.tunnel
            && !dsr::encapsulate(context.umem, &mut received.frame, packet, tunnel)
        {
            return dropped(received, DropReason::TooBig, Some(service_port));
        }
        self.shared.counters.backend_packet(backend, u64::from(packet.end));
        let client = key_of_client(packet.tuple.source_address());
        let intent = if way.tunnel.is_some() { Intent::Inside { client } } else { Intent::ToLink };
        self.send(context, received, way.adjacency, way.heading, intent, Some(service_port))
    }
}

/// Nothing but a neighbour that is not known yet can be waited for.
fn unresolved(adjacency: &Result<&Adjacency, NoAdjacency>) -> Result<(), DropReason> {
    match adjacency {
        Ok(_) | Err(NoAdjacency::Unresolved { .. }) => Ok(()),
        Err(none) => Err(none.reason()),
    }
}
