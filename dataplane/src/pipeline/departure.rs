//! The departure: the one way out of every frame that is sent, whoever sends it and whenever.
//!
//! Whoever sends finds the adjacency first, asks [`exceeded_mtu`] while the packet is still as it came (an answer quotes it
//! so), and rewrites. Then [`Core::send`] takes over: the packet leaves by [`leave`], or waits here until its neighbour is
//! known. One that is larger than the adjacency carries is fragmented when it is sent: it is one packet until then. The usual packet of a flow, whose adjacency is at hand and large enough, leaves by [`leave`] at once.
//!
//! What an adjacency asks of a frame is written in [`leave`] and nowhere else. Frames have the whole headroom of their chunk
//! before them, for headers that are put in front ([`Umem::grow_head`]).

use std::net::IpAddr;

use ringway_shared::counters::Counter;
use ringway_shared::network::{Heading, NoAdjacency};
use ringway_shared::service::ForwardingMode;
use ringway_shared::{Adjacency, DropReason, Family, ServicePortId};

use super::adjacencies::Resolved;
use super::held::{HeldPacket, key_of_client};
use super::{Context, Core, Outcome, dropped};
use crate::af_xdp::Umem;
use crate::batch::{BATCH, Batch, Outcomes, Received};
use crate::dispatch::{discard, receive};
use crate::verdict::Verdict;
use crate::wire::transport::read_u16;
use crate::wire::{Packet, ethernet, ipv4};

/// Why a frame is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// A packet on its way.
    Forward,
    /// A packet for its next hop itself, which has to be the endpoint: nobody else could tell by its destination where it goes.
    ToLink,
    /// A packet of the client with this [`key_of_client`], inside another one, which is Ringway's own.
    Inside { client: u32 },
    /// Ringway's own answer.
    Reply(DropReason),
}

/// The last step of a frame: what the adjacency asks of it. `bytes` is the frame, with all else done.
#[inline(always)]
pub(super) fn leave(bytes: &mut [u8], adjacency: &Adjacency, intent: Intent) -> Verdict {
    ethernet::set_macs(bytes, adjacency.destination_mac, adjacency.source_mac);
    match intent {
        Intent::Forward | Intent::ToLink | Intent::Inside { .. } => Verdict::Forward { out: adjacency.out },
        Intent::Reply(reason) => Verdict::Reply { out: adjacency.out, reason },
    }
}

/// [`leave`] for a packet that may be larger than the adjacency carries: it leaves as fragments then.
fn leave_whole_or_not(bytes: &mut [u8], adjacency: &Adjacency, intent: Intent) -> Verdict {
    let length = bytes.len().saturating_sub(ethernet::HEADER) as u64;
    match leave(bytes, adjacency, intent) {
        Verdict::Forward { out } if length > u64::from(adjacency.mtu) => {
            Verdict::Fragment { out, mtu: u16::try_from(adjacency.mtu).unwrap_or(u16::MAX) }
        }
        verdict => verdict,
    }
}

/// Sends a packet whose addresses are done by an adjacency that is known.
#[inline]
pub(super) fn depart(
    context: &mut Context,
    mut received: Received,
    adjacency: &Adjacency,
    intent: Intent,
    service_port: Option<ServicePortId>,
) -> Option<Outcome> {
    let verdict = leave_whole_or_not(context.umem.packet_mut(&mut received.frame), adjacency, intent);
    Some(Outcome { frame: received.frame, tag: received.tag, verdict, service_port })
}

/// The largest IP packet that the way out carries, known neighbour or not.
#[inline]
pub(super) fn mtu(adjacency: &Result<&Adjacency, NoAdjacency>) -> Option<u32> {
    match adjacency {
        Ok(Adjacency { mtu, .. }) | Err(NoAdjacency::Unresolved { mtu, .. }) => Some(*mtu),
        Err(_) => None,
    }
}

/// The MTU of the way out when `packet`, which was parsed from `frame`, is larger and must not be fragmented.
#[inline]
pub(super) fn exceeded_mtu(adjacency: &Result<&Adjacency, NoAdjacency>, frame: &[u8], packet: &Packet) -> Option<u32> {
    let mtu = mtu(adjacency)?;
    (u32::from(packet.ip_length()) > mtu && must_not_fragment(frame, packet)).then_some(mtu)
}

/// Whether the sender asks to be told instead of fragmented: IPv6 always, IPv4 with DF.
pub(super) fn must_not_fragment(frame: &[u8], packet: &Packet) -> bool {
    let flags = || read_u16(frame, usize::from(packet.l3) + ipv4::FLAGS);
    packet.family() == Family::V6 || flags() & ipv4::flag::DONT_FRAGMENT != 0
}

impl Core {
    /// Sends a packet whose addresses are done, or holds it until the neighbour is known.
    pub(super) fn send(
        &mut self,
        context: &mut Context,
        received: Received,
        adjacency: Result<&Adjacency, NoAdjacency>,
        heading: Heading,
        intent: Intent,
        service_port: Option<ServicePortId>,
    ) -> Option<Outcome> {
        match adjacency {
            Ok(adjacency) => depart(context, received, adjacency, intent, service_port),
            Err(NoAdjacency::Unresolved { interface, next_hop, .. }) => {
                let ahead = self.held.waiting_for(interface, next_hop);
                let Received { frame, tag, .. } = received;
                let (since, client) = (context.now, client_of(context, &heading, next_hop, intent));
                let held = HeldPacket { frame, tag, service_port, intent, heading, interface, next_hop, since };
                if ahead == 0 {
                    // Also when too many wait for others: the next packet finds its neighbour then.
                    self.shared.resolver.ask(interface, next_hop);
                }
                match self.held.push(held, client, ahead) {
                    Ok(()) => None,
                    Err(held) => Some(outcome(held, Verdict::Drop(DropReason::NeighborUnresolved))),
                }
            }
            Err(other) => dropped(received, other.reason(), service_port),
        }
    }

    /// Ends the packets that waited and were given up for others.
    pub(super) fn end_given_up(&mut self, output: &mut Outcomes) {
        for held in self.held.take_given_up() {
            output.push(outcome(held, Verdict::Drop(DropReason::NeighborUnresolved)));
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
            let found = self.adjacencies.to_endpoint(network, &held.heading).map(|Resolved { id, .. }| id);
            let found = match held.intent {
                Intent::ToLink => network.suits(held.heading.destination, ForwardingMode::DsrL2, found),
                Intent::Forward | Intent::Inside { .. } | Intent::Reply(_) => found,
            };
            let verdict = match found.and_then(|id| network.adjacency(id).ok_or(NoAdjacency::NoRoute)) {
                Ok(adjacency) => leave_whole_or_not(umem.packet_mut(&mut held.frame), adjacency, held.intent),
                Err(none) => Verdict::Drop(none.reason()),
            };
            batch.output.push(outcome(held, verdict));
        });
        self.count_held();
    }

    /// Drops every held packet: the worker ends.
    pub(super) fn drop_held(&mut self, umem: &mut Umem) {
        let counted = !self.others_may_take();
        let tally = &mut self.tally;
        self.held.take(
            0,
            usize::MAX,
            |_| false,
            |held| discard(umem, tally, held.frame, DropReason::NeighborUnresolved),
        );
        self.fragments.waiting.end();
        while let Some((received, _)) = self.fragments.waiting.take() {
            if !counted {
                receive(tally, received.frame.len() as u64);
            }
            discard(umem, tally, received.frame, DropReason::FragmentWithoutFirst);
        }
        tally.set(Counter::Held, 0);
        tally.set(Counter::FragmentsWaiting, 0);
    }
}

/// For whom a packet is sent, who answers get or who sends to endpoints, as a number; and whether it waits for that client itself.
#[cold]
fn client_of(context: &Context, heading: &Heading, next_hop: IpAddr, intent: Intent) -> (u32, bool) {
    let services = &context.snapshot.services;
    // What comes from a VIP or a NodePort is an answer.
    let is_frontend = |source: &IpAddr| services.vips.get(source).is_some() || services.node.is_own(*source);
    let client = match intent {
        Intent::Inside { client } => return (client, false),
        Intent::Reply(_) => heading.destination,
        Intent::Forward | Intent::ToLink => {
            heading.source.filter(|source| !is_frontend(source)).unwrap_or(heading.destination)
        }
    };
    (key_of_client(client), client == next_hop)
}

fn outcome(held: HeldPacket, verdict: Verdict) -> Outcome {
    Outcome { frame: held.frame, tag: held.tag, verdict, service_port: held.service_port }
}
