//! Packets of a known flow.

use ringway_shared::decision::{Decision, decide};
use ringway_shared::network::{Heading, NoAdjacency};
use ringway_shared::{Adjacency, AdjacencyId, DropReason, FiveTuple, InterfaceId, Network, Snapshot};

use super::adjacencies::{Adjacencies, Resolved};
use super::departure::{Intent, depart, exceeded_mtu, mtu};
use super::{Context, Core, Outcome, dropped};
use crate::batch::Received;
use crate::flow::{Direction, Flow, FlowId, Segment, State};
use crate::forward::{mss, usual};
use crate::wire::{Kind, Packet};

/// What a changed set of Services means for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its endpoint is still one of its Service's.
    Good,
    /// Its endpoint or its Service is gone.
    Gone,
}

impl Core {
    #[cold]
    pub(super) fn established(
        &mut self,
        context: &mut Context,
        mut received: Received,
        packet: &Packet,
        hash: u64,
        id: FlowId,
        direction: Direction,
    ) -> Option<Outcome> {
        let snapshot = context.snapshot;
        let flow = self.flows.flow_mut(id);
        if flow.forwarding().is_dsr() {
            return self.established_dsr(context, received, packet, hash, id, direction);
        }
        let service_port = Some(flow.service_port());
        if let Some(objection) = packet.objection {
            return dropped(received, objection, service_port);
        }
        let segment = Segment::of(context.umem.packet(&received.frame), packet);
        // Whoever forges a client can forge its endpoint as well, and choose the numbers of both.
        let shows_nothing =
            direction == Direction::Reply && !leads_to_endpoint(flow, received.interface, &snapshot.network);
        if shows_nothing {
            self.again.forget(id);
        }
        let flow = self.flows.flow(id);
        if direction == Direction::Reply && !flow.is_answer(&segment) {
            if shows_nothing {
                return self.pass_from(context, received, packet.tuple.source_address());
            }
            return self.answers_another(context, received, packet, hash, id);
        }
        let mut leaves = false;
        if direction == Direction::Original {
            // A SYN on a closed flow opens a new one (packets of the old one may still be under way).
            let reopens = || flow.reopens(direction, &Segment::believed(context.umem.packet(&received.frame), packet));
            if flow.state() == State::Closed && reopens() {
                self.flows.remove(id, context.now);
                return self.open(context, received, packet, hash);
            }
            // One that may leave its endpoint does not keep the flow.
            leaves = flow.asks_anew(&segment) && is_no_choice(flow, snapshot, packet);
            if leaves && flow.is_left(context.now.millis()) && !is_void(context, &received, packet) {
                self.flows.remove(id, context.now);
                return self.open(context, received, packet, hash);
            }
            if flow.asks_again(&segment, context.now.millis()) {
                let owed = flow.is_owed();
                match self.rescue(context, received, packet, hash, id, owed) {
                    Ok(outcome) => return outcome,
                    Err(kept) => received = kept,
                }
            } else if flow.asks_beside(&segment) && self.is_deserted(context, &received, packet, id, &segment) {
                return self.rescue(context, received, packet, hash, id, true).unwrap_or_else(|received| {
                    self.flows.remove(id, context.now);
                    self.open(context, received, packet, hash)
                });
            }
            let flow = self.flows.flow_mut(id);
            if flow.services_generation != snapshot.services.generation && revise(flow, snapshot) == Standing::Gone {
                self.flows.remove(id, context.now);
                return match packet.kind {
                    // A SYN is the new connection that the client would be told to begin.
                    Kind::Tcp { flags, .. } if !flags.syn() || flags.ack() || flags.rst() => {
                        self.answer(context, received, packet, DropReason::EndpointDeleted, service_port)
                    }
                    _ => self.open(context, received, packet, hash),
                };
            }
        }
        if packet.ttl <= 1 {
            return self.answer_expired(context, received, packet, service_port);
        }
        let flow = self.flows.flow_mut(id);
        let adjacency = known_adjacency(flow, direction, Some(received.interface), snapshot, &mut self.adjacencies);
        if let Some(mtu) = exceeded_mtu(&adjacency, context.umem.packet(&received.frame), packet) {
            return self.answer_too_big(context, received, packet, mtu, service_port);
        }
        if shows_nothing {
            flow.see_answer(&segment);
        }
        if shows_nothing || leaves {
            return self.send_on(context, received, packet, id, direction, &adjacency);
        }
        self.forward(context, received, packet, id, direction, &adjacency)
    }

    /// Advances the flow and sends the packet on.
    pub(super) fn forward(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        id: FlowId,
        direction: Direction,
        adjacency: &Result<&Adjacency, NoAdjacency>,
    ) -> Option<Outcome> {
        let frame = context.umem.packet(&received.frame);
        let before = self.flows.flow(id).state();
        let segment = match before {
            State::UdpUnanswered => Segment::asking(frame, packet),
            _ => Segment::believed(frame, packet),
        };
        let state = self.flows.advance(id, direction, &segment, context.now);
        if state.is_complete() && self.flows.flow(id).is_moved() {
            self.complete_move(context.snapshot, id, context.now);
        }
        if state != before && completes(before, state) {
            self.flows.keep_hints(id);
            self.prove_client(context.snapshot, id, context.now);
        }
        self.send_on(context, received, packet, id, direction, adjacency)
    }

    /// Rewrites a packet that its flow has counted, and sends it.
    pub(super) fn send_on(
        &mut self,
        context: &mut Context,
        mut received: Received,
        packet: &Packet,
        id: FlowId,
        direction: Direction,
        adjacency: &Result<&Adjacency, NoAdjacency>,
    ) -> Option<Outcome> {
        let most = self.segment_size(context.snapshot, packet, id, direction, adjacency);
        let bytes = context.umem.packet_mut(&mut received.frame);
        let flow = self.flows.flow(id);
        let (service_port, backend) = (flow.service_port(), flow.backend());
        usual::rewrite(bytes, packet, || flow.ends_v4(direction), || flow.rewrite(direction));
        if let Some(most) = most {
            mss::lower(bytes, packet, most);
        }
        self.shared.counters.backend_packet(backend, u64::from(packet.end));
        // Ethernet padding is not carried along.
        context.umem.resize(&mut received.frame, usize::from(packet.end));
        let none = match adjacency {
            Ok(adjacency) => return depart(context, received, adjacency, Intent::Forward, Some(service_port)),
            Err(none) => *none,
        };
        let heading = heading(flow, direction, Some(received.interface), &context.snapshot.network);
        self.send(context, received, Err(none), heading, Intent::Forward, Some(service_port))
    }
}

impl Core {
    /// The largest TCP segment that a SYN of this flow may offer: one whose packet both directions carry, the way that this
    /// packet goes, `adjacency`, and the way that it came. Nothing for any other packet.
    #[inline]
    fn segment_size(
        &self,
        snapshot: &Snapshot,
        packet: &Packet,
        id: FlowId,
        direction: Direction,
        adjacency: &Result<&Adjacency, NoAdjacency>,
    ) -> Option<u16> {
        match packet.kind {
            Kind::Tcp { flags, .. } if flags.syn() => {}
            _ => return None,
        }
        let (network, flow) = (&snapshot.network, self.flows.flow(id));
        let there = mtu(adjacency)?;
        // No packet leaves by it now, so it is not marked as used.
        let known = network.adjacency(flow.adjacency(direction.opposite()));
        let back = match known.filter(|_| flow.network_generation == network.generation) {
            Some(adjacency) => adjacency.mtu,
            None => mtu_back(flow, direction, network, adjacency).unwrap_or(there),
        };
        Some(mss::segment_size(packet.family(), there.min(back))).filter(|most| *most > 0)
    }
}

/// Whether with this step of a flow both sides have shown that they hear each other.
fn completes(before: State, after: State) -> bool {
    match before {
        State::SynSent | State::SynReceived | State::PickedUp | State::Answered | State::SctpUnreplied => {
            after.is_complete()
        }
        State::UdpAnswered => after == State::UdpReplied,
        _ => false,
    }
}

/// The MTU of the way back of packets that leave by `adjacency`, looked up.
#[cold]
fn mtu_back(
    flow: &Flow,
    direction: Direction,
    network: &Network,
    adjacency: &Result<&Adjacency, NoAdjacency>,
) -> Option<u32> {
    let out = match adjacency {
        Ok(adjacency) => adjacency.out,
        Err(NoAdjacency::Unresolved { interface, .. }) => *interface,
        Err(_) => return None,
    };
    // What comes back arrives by where this leaves.
    let found = network.resolve_for(&heading(flow, direction.opposite(), Some(out), network));
    let back = found.and_then(|id| network.adjacency(id).ok_or(NoAdjacency::NoRoute));
    mtu(&back)
}

/// Whether packets to the flow's endpoint can leave by this interface, so that its answers come by it.
#[inline]
pub(super) fn leads_to_endpoint(flow: &Flow, interface: InterfaceId, network: &Network) -> bool {
    let by_known_adjacency = flow.network_generation == network.generation
        && network.adjacency(flow.adjacency(Direction::Original)).is_some_and(|adjacency| adjacency.out == interface);
    by_known_adjacency || network.next_hops(flow.reply().source_address()).any(|(out, _)| out == interface)
}

/// What chooses between several paths for a flow with this original tuple; where there are none, nothing does.
#[inline]
pub(super) fn path_hash(network: &Network, original: &FiveTuple) -> u64 {
    if network.has_several_paths() { original.maglev_hash() } else { 0 }
}

/// What decides about a flow's adjacency in one direction.
pub(super) fn heading(flow: &Flow, direction: Direction, arrived: Option<InterfaceId>, network: &Network) -> Heading {
    let original = flow.original();
    let client = original.source_address();
    let hash = path_hash(network, &original);
    let (destination, source) = match direction {
        Direction::Original => (flow.reply().source_address(), client),
        Direction::Reply => (client, original.destination_address()),
    };
    Heading { destination, source: Some(source), arrived, hash }
}

/// The adjacency for a direction: the one the flow remembers, when the network has not changed since. `arrived` is the
/// interface that packets of this direction arrive by.
#[inline]
pub(super) fn known_adjacency<'s>(
    flow: &mut Flow,
    direction: Direction,
    arrived: Option<InterfaceId>,
    snapshot: &'s Snapshot,
    adjacencies: &mut Adjacencies,
) -> Result<&'s Adjacency, NoAdjacency> {
    let network = &snapshot.network;
    if flow.network_generation != network.generation {
        flow.network_generation = network.generation;
        keep_adjacencies(flow, network, direction, arrived);
    }
    match network.leave_by(flow.adjacency(direction)) {
        Some(adjacency) => Ok(adjacency),
        None => find_adjacency(flow, direction, arrived, snapshot, adjacencies),
    }
}

/// Forgets what an older network said, but for the adjacency of a path that is still one of several: a flow does not go to and fro between them
/// because some of them come and go.
#[cold]
fn keep_adjacencies(flow: &mut Flow, network: &Network, direction: Direction, arrived: Option<InterfaceId>) {
    let out = |id: AdjacencyId| network.adjacency(id).map(|adjacency| adjacency.out);
    let [original, reply] = [Direction::Original, Direction::Reply].map(|direction| flow.adjacency(direction));
    for (of, id, back) in [(Direction::Original, original, reply), (Direction::Reply, reply, original)] {
        // What goes out in one direction comes back by the same interface in the other, as far as anybody knows.
        let arrived = if of == direction { arrived } else { out(back) };
        let known = network.adjacency(id).is_some();
        let keeps = known && network.still_leads(&heading(flow, of, arrived, network), id);
        flow.set_adjacency(of, keeps.then_some(id));
    }
}

/// The adjacency for a direction, looked up, and remembered by the flow.
fn find_adjacency<'s>(
    flow: &mut Flow,
    direction: Direction,
    arrived: Option<InterfaceId>,
    snapshot: &'s Snapshot,
    adjacencies: &mut Adjacencies,
) -> Result<&'s Adjacency, NoAdjacency> {
    let network = &snapshot.network;
    let heading = heading(flow, direction, arrived, network);
    let Resolved { id, adjacency, .. } = match direction {
        Direction::Original => adjacencies.to_endpoint(network, &heading)?,
        Direction::Reply => adjacencies.to_client(network, &heading)?,
    };
    flow.set_adjacency(direction, Some(id));
    Ok(adjacency)
}

/// Whether its receiver throws the packet away.
#[cold]
fn is_void(context: &Context, received: &Received, packet: &Packet) -> bool {
    Segment::believed(context.umem.packet(&received.frame), packet).void
}

/// Whether no new connection like this flow's would go to its endpoint.
#[cold]
fn is_no_choice(flow: &Flow, snapshot: &Snapshot, packet: &Packet) -> bool {
    let reply = flow.reply();
    match decide(&snapshot.services, &packet.tuple) {
        Decision::Forward { set, .. } => {
            let endpoint = (reply.source_address(), reply.source_port());
            !set.backends().iter().any(|backend| (backend.address, backend.port) == endpoint)
        }
        _ => false,
    }
}

/// Looks whether the flow's frontend still leads to a Service that has the flow's endpoint (rule 21 of the Service
/// semantics). A ClusterIP that another Service took over does not.
#[cold]
pub(super) fn revise(flow: &mut Flow, snapshot: &Snapshot) -> Standing {
    if flow.is_direct() {
        flow.services_generation = snapshot.services.generation;
        return Standing::Good;
    }
    let reply = flow.reply();
    let member = snapshot.services.find(&flow.original().frontend()).and_then(|target| {
        let backend = target.service_port.member(reply.source_address(), reply.source_port())?;
        Some((target.service_port.id, backend.id))
    });
    let Some((service_port, backend)) = member else { return Standing::Gone };
    flow.approve(service_port, backend, snapshot.services.generation);
    Standing::Good
}
