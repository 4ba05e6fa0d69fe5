//! Clients whose first packet nobody answered, and backends that are suspected of being dead.
//!
//! **Rescue.** When a client repeats its SYN (or INIT) and nothing has come back from the endpoint, the flow ends and the
//! packet opens another one, to the next candidate of its set: the Services decide anew, so it is a member of the set of now.
//! A flow whose endpoint has said anything stays where it is. What comes late from the former endpoint belongs to no flow
//! any more and goes to the kernel; whoever gets it knows no such connection and resets it. Who was moved is moved
//! on when the next one does not answer either, each time that it asks.
//!
//! **Suspects** (`ringway_shared::suspects`) get new flows only as probes; all others that would go there go to the next
//! candidate at once. Where every candidate is suspected, the choice is what it would be without.
//!
//! A moved flow is remembered with the backends that did not answer it until both sides have shown that they hear each other.
//! Then these are accused, of having left unanswered what each had to answer ([`super::owed`]) or what may have been void, and the client's session affinity follows it: what somebody sends in a client's name moves
//! neither.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use ringway_shared::counters::Counter;
use ringway_shared::decision::{Decision, Masquerade, decide, selection_hash};
use ringway_shared::network::NoAdjacency;
use ringway_shared::service::ServicePort;
use ringway_shared::suspects::Accused;
use ringway_shared::{AdjacencyId, Backend, EndpointSet, Family, FiveTuple, Network, Snapshot};

use super::direct::begins;
use super::owed::is_owed_an_answer;
use super::{Context, Core, Outcome};
use crate::affinity::{self, Rank};
use crate::batch::Received;
use crate::clock::Time;
use crate::flow::{FlowId, Segment};
use crate::wire::Packet;

/// Moved flows that a worker remembers, a power of two; of two in one place the later one.
const REMEMBERED: usize = 1024;

/// Backends that one client asked in vain, the last ones.
type Accusations = ArrayVec<Accused, 4>;

/// What is to be known of a flow that goes elsewhere.
pub(super) struct Moved<'s> {
    /// Where it would go; `None` when that is no choice any more.
    pub(super) instead_of: Option<&'s Backend>,
    /// Who left the client unanswered.
    pub(super) accused: Accusations,
}

/// A flow that is to be opened.
pub(super) struct Wanted<'s> {
    pub(super) port: &'s ServicePort,
    pub(super) masquerade: Masquerade,
    pub(super) backend: &'s Backend,
    /// When the backend is not the one that Maglev or the client's affinity says.
    pub(super) moved: Option<Moved<'s>>,
    /// The packet was looked at, and the backend has to answer it.
    pub(super) owed: bool,
}

/// Moved flows that are not complete, by their numbers.
pub(super) struct Moves(Box<[(FlowId, Accusations)]>);

impl Default for Moves {
    fn default() -> Self {
        Moves((0..REMEMBERED).map(|_| (FlowId(u32::MAX), Accusations::new())).collect())
    }
}

impl Moves {
    fn note(&mut self, id: FlowId, accused: Accusations) {
        if let Some(place) = self.0.get_mut(id.0 as usize & (REMEMBERED - 1)) {
            *place = (id, accused);
        }
    }

    /// Whom a moved flow accuses; nobody when a later one has taken its place.
    fn take(&mut self, id: FlowId) -> Accusations {
        let place = self.0.get_mut(id.0 as usize & (REMEMBERED - 1)).filter(|(noted, _)| *noted == id);
        place.map(|(_, accused)| std::mem::take(accused)).unwrap_or_default()
    }
}

/// Whom a client asks next who asked the `present` endpoint in vain: one that packets can be sent to at once, where there is one,
/// else one whose neighbour is asked for, but nobody whom no packet reaches.
pub(crate) fn next_endpoint<'s>(
    set: &'s EndpointSet,
    selection: u64,
    present: (IpAddr, u16),
    trusted: impl Fn(&Backend) -> bool,
    network: Option<&Network>,
) -> Option<&'s Backend> {
    let is = |other: &Backend, fits: fn(&Result<AdjacencyId, NoAdjacency>) -> bool| {
        network.is_none_or(|network| fits(&network.resolve_any(other.address)))
    };
    let resolved = |other: &Backend| is(other, Result::is_ok);
    let unresolved = |other: &Backend| is(other, |found| matches!(found, Err(NoAdjacency::Unresolved { .. })));
    let at_once = set.next_candidate(selection, present, |other| trusted(other) && resolved(other));
    at_once.or_else(|| set.next_candidate(selection, present, |other| trusted(other) && unresolved(other)))
}

/// What a client cannot choose at will of its address: of IPv6, its network.
fn network_of_client(tuple: &FiveTuple) -> FiveTuple {
    let [high, low] = tuple.source;
    let low = if tuple.family() == Family::V4 { low } else { 0 };
    FiveTuple { source: [high, low], destination: [0; 2], ports: 0 }
}

impl Core {
    /// The backend for a new flow: by the client's affinity, else by Maglev, but of suspects only as a probe.
    #[inline]
    pub(super) fn choose<'s>(
        &mut self,
        context: &Context,
        received: &Received,
        packet: &Packet,
        (port, masquerade): (&'s ServicePort, Masquerade),
        set: &'s EndpointSet,
    ) -> Option<Wanted<'s>> {
        let selection = selection_hash(&packet.tuple, port);
        let backend = self.first_choice(packet, port, set, selection, context.now)?;
        let wanted = Wanted { port, masquerade, backend, moved: None, owed: false };
        if self.shared.suspects.is_noted(backend.id)
            && self.config.rescue
            && masquerade != Masquerade::KeptForDsr
            && begins(context.umem.packet(&received.frame), packet)
        {
            let owed = is_owed_an_answer(context.umem.packet(&received.frame), packet);
            return Some(self.choose_beside(context, set, selection, Wanted { owed, ..wanted }));
        }
        Some(wanted)
    }

    /// The same, whatever speaks against it; `selection` is the packet's [`selection_hash`].
    #[inline]
    pub(super) fn first_choice<'s>(
        &self,
        packet: &Packet,
        port: &ServicePort,
        set: &'s EndpointSet,
        selection: u64,
        now: Time,
    ) -> Option<&'s Backend> {
        match &port.affinity {
            None => set.select(selection),
            Some(affinity) => {
                let client = packet.tuple.source_address();
                let kept = self.shared.affinities.find(affinity, client, set, selection, now);
                kept.or_else(|| affinity::first(set, selection))
            }
        }
    }

    /// The choice where something speaks against the one that there would be.
    #[cold]
    fn choose_beside<'s>(
        &self,
        context: &Context,
        set: &'s EndpointSet,
        selection: u64,
        wanted: Wanted<'s>,
    ) -> Wanted<'s> {
        let (suspects, now) = (&self.shared.suspects, context.now.millis());
        let is_suspect = |backend: &Backend| suspects.suspicion(backend, now).is_some();
        let (backend, owed) = (wanted.backend, wanted.owed);
        if !is_suspect(backend) {
            return wanted;
        }
        let (present, network) = ((backend.address, backend.port), Some(&*context.snapshot.network));
        match next_endpoint(set, selection, present, |other| !is_suspect(other), network) {
            // What need not be answered is no probe.
            Some(other) if !owed || !suspects.take_probe(backend.id, now) => {
                let moved = Moved { instead_of: Some(backend), accused: Accusations::new() };
                Wanted { backend: other, moved: Some(moved), ..wanted }
            }
            _ => wanted,
        }
    }

    /// Moves a flow whose client asks again to the next candidate; `was_owed`: it had to be answered before. Where there is none, or
    /// none may be, the packet comes back, and nothing is done.
    #[cold]
    pub(super) fn rescue(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        hash: u64,
        id: FlowId,
        was_owed: bool,
    ) -> Result<Option<Outcome>, Received> {
        let snapshot = context.snapshot;
        let (flow, now) = (self.flows.flow(id), context.now);
        // Its receiver throws away what has a wrong checksum.
        let is_void = || Segment::believed(context.umem.packet(&received.frame), packet).void;
        if !self.config.rescue || packet.ttl <= 1 || flow.is_direct() || is_void() {
            return Err(received);
        }
        let Decision::Forward { target, set, masquerade, .. } = decide(&snapshot.services, &packet.tuple) else {
            return Err(received);
        };
        let port = &*target.service_port;
        // Where endpoints answer clients straight, nobody sees whether they do.
        if masquerade == Masquerade::KeptForDsr {
            return Err(received);
        }
        let (reply, asked, former) = (flow.reply(), flow.last_seen(), flow.backend());
        let present = (reply.source_address(), reply.source_port());
        let selection = selection_hash(&packet.tuple, port);
        let trusted = |other: &Backend| self.shared.suspects.suspicion(other, now.millis()).is_none();
        let next = next_endpoint(set, selection, present, trusted, Some(&*snapshot.network));
        let share = self.flows.hash(&network_of_client(&packet.tuple));
        let Some(backend) = next.filter(|_| self.rescues.admit(share, now)) else { return Err(received) };
        let mut accused = if flow.is_moved() { self.moves.take(id) } else { Accusations::new() };
        if accused.is_full() {
            accused.remove(0);
        }
        accused.push(Accused::new(former, present.0, present.1, asked, was_owed));
        let owed = is_owed_an_answer(context.umem.packet(&received.frame), packet);
        self.flows.give_up(id, now);
        self.tally.add(Counter::FlowsRescued, 1);
        let instead_of = set.backends().iter().find(|other| (other.address, other.port) == present);
        let moved = Some(Moved { instead_of, accused });
        Ok(self.open_at(context, received, packet, hash, &mut Wanted { port, masquerade, backend, moved, owed }))
    }

    /// Remembers a flow that goes elsewhere until it is complete.
    #[cold]
    pub(super) fn note_move(&mut self, id: FlowId, moved: Moved<'_>) {
        self.flows.flow_mut(id).set_moved(true);
        self.moves.note(id, moved.accused);
    }

    /// Both sides of a moved flow hear each other: so the others are dead, and the client stays here.
    #[cold]
    pub(super) fn complete_move(&mut self, snapshot: &Snapshot, id: FlowId, now: Time) {
        self.flows.flow_mut(id).set_moved(false);
        for accused in self.moves.take(id) {
            self.shared.suspects.accuse(&accused, now.millis());
        }
        let flow = self.flows.flow(id);
        let port = snapshot.services.service_port(flow.service_port());
        if let Some(affinity) = port.and_then(|port| port.affinity.as_ref()) {
            let (client, endpoint) = (flow.original().source_address(), flow.reply().source_address());
            self.shared.affinities.note(affinity, client, endpoint, now);
        }
    }

    /// A client has a connection to this backend of the Service, for all that is known.
    #[cold]
    pub(super) fn note_client(&self, packet: &Packet, port: &ServicePort, backend: &Backend, now: Time) {
        if let Some(affinity) = &port.affinity {
            self.shared.affinities.note(affinity, packet.tuple.source_address(), backend.address, now);
        }
    }

    /// Both sides of a flow hear each other now: its client is none that somebody made up.
    #[cold]
    pub(super) fn prove_client(&mut self, snapshot: &Snapshot, id: FlowId, now: Time) {
        self.rank_client(snapshot, id, Rank::Heard, now);
    }

    /// So much is known of a flow's client now.
    #[cold]
    pub(super) fn rank_client(&mut self, snapshot: &Snapshot, id: FlowId, rank: Rank, now: Time) {
        let flow = self.flows.flow(id);
        if flow.is_direct() {
            return;
        }
        let port = snapshot.services.service_port(flow.service_port());
        if let Some(affinity) = port.and_then(|port| port.affinity.as_ref()) {
            let (client, endpoint) = (flow.original().source_address(), flow.reply().source_address());
            self.shared.affinities.raise(affinity, client, endpoint, rank, now);
        }
    }
}
