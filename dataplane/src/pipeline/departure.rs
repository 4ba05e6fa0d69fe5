//! The departure: the one way out of every frame that is sent, whoever sends it and whenever.
//!
//! Whoever sends finds the adjacency first, asks [`exceeded_mtu`] while the packet is still as it came (an answer quotes it
//! so), and rewrites. Then [`Core::send`] takes over: the packet leaves by [`leave`], or waits here until its neighbour is
//! known. The usual packet of a flow, whose adjacency is at hand and large enough, leaves by [`leave`] at once.
//!
//! What an adjacency asks of a frame is written in [`leave`] and nowhere else. Frames have the whole headroom of their chunk
//! before them, for headers that are put in front ([`Umem::grow_head`]).

use ringway_shared::counters::Counter;
use ringway_shared::network::{Heading, NoAdjacency};
use ringway_shared::{Adjacency, DropReason, ServicePortId, Snapshot};

use super::adjacencies::Resolved;
use super::held::HeldPacket;
use super::{Context, Core, Outcome, dropped};
use crate::af_xdp::Umem;
use crate::batch::{BATCH, Batch, Received};
use crate::dispatch::discard;
use crate::verdict::Verdict;
use crate::wire::{Packet, ethernet};

/// Why a frame is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// A packet on its way.
    Forward,
    /// Ringway's own answer.
    Reply(DropReason),
}

/// The last step of a frame: what the adjacency asks of it. `bytes` is the frame, with all else done.
#[inline(always)]
pub(super) fn leave(bytes: &mut [u8], adjacency: &Adjacency, intent: Intent) -> Verdict {
    ethernet::set_macs(bytes, adjacency.destination_mac, adjacency.source_mac);
    match intent {
        Intent::Forward => Verdict::Forward { out: adjacency.out },
        Intent::Reply(reason) => Verdict::Reply { out: adjacency.out, reason },
    }
}

/// The MTU of the way out when `packet` is larger, known neighbour or not.
#[inline]
pub(super) fn exceeded_mtu(
    snapshot: &Snapshot,
    adjacency: &Result<Adjacency, NoAdjacency>,
    packet: &Packet,
) -> Option<u32> {
    let mtu = match adjacency {
        Ok(adjacency) => adjacency.mtu,
        Err(NoAdjacency::Unresolved { interface, .. }) => snapshot.network.interface(*interface)?.mtu,
        Err(_) => return None,
    };
    (u32::from(packet.ip_length()) > mtu).then_some(mtu)
}

impl Core {
    /// Sends a packet whose addresses are done, or holds it until the neighbour is known.
    pub(super) fn send(
        &mut self,
        context: &mut Context,
        mut received: Received,
        adjacency: Result<Adjacency, NoAdjacency>,
        heading: Heading,
        intent: Intent,
        service_port: Option<ServicePortId>,
    ) -> Option<Outcome> {
        match adjacency {
            Ok(adjacency) => {
                let verdict = leave(context.umem.packet_mut(&mut received.frame), &adjacency, intent);
                Some(Outcome { frame: received.frame, tag: received.tag, verdict, service_port })
            }
            Err(NoAdjacency::Unresolved { interface, next_hop }) => {
                let first = self.held.waiting_for(interface, next_hop) == 0;
                let Received { frame, tag, .. } = received;
                let since = context.now;
                let held = HeldPacket { frame, tag, service_port, intent, heading, interface, next_hop, since };
                if first {
                    // Also when too many wait for others: the next packet finds its neighbour then.
                    self.shared.resolver.ask(interface, next_hop);
                }
                match self.held.push(held) {
                    Ok(()) => None,
                    Err(held) => Some(outcome(held, Verdict::Drop(DropReason::NeighborUnresolved))),
                }
            }
            Err(other) => dropped(received, other.reason(), service_port),
        }
    }

    /// Sends the held packets whose neighbour is known now, and drops those that waited too long.
    #[cold]
    pub(super) fn release(&mut self, context: &mut Context, batch: &mut Batch) {
        let network = &context.snapshot.network;
        let now = context.now;
        let room = batch.output.remaining_capacity().min(BATCH);
        let keep = |held: &HeldPacket| {
            !held.is_overdue(now) && matches!(network.resolve_for(&held.heading), Err(NoAdjacency::Unresolved { .. }))
        };
        let umem = &mut *context.umem;
        self.held.take(network.generation, room, keep, |mut held| {
            let verdict = match self.adjacencies.to_endpoint(network, &held.heading) {
                Ok(Resolved { adjacency, .. }) => leave(umem.packet_mut(&mut held.frame), &adjacency, held.intent),
                Err(none) => Verdict::Drop(none.reason()),
            };
            batch.output.push(outcome(held, verdict));
        });
        self.tally.set(Counter::Held, self.held.len() as u64);
    }

    /// Drops every held packet: the worker ends.
    pub(super) fn drop_held(&mut self, umem: &mut Umem) {
        let tally = &mut self.tally;
        self.held.take(
            0,
            usize::MAX,
            |_| false,
            |held| discard(umem, tally, held.frame, DropReason::NeighborUnresolved),
        );
        tally.set(Counter::Held, 0);
    }
}

fn outcome(held: HeldPacket, verdict: Verdict) -> Outcome {
    Outcome { frame: held.frame, tag: held.tag, verdict, service_port: held.service_port }
}
