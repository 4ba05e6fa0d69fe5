//! First fragments: each is dealt with as a whole packet is, and what becomes of it is kept for the others.

use ringway_shared::decision::{Decision, without_frontend};
use ringway_shared::service::ForwardingMode;
use ringway_shared::{DropReason, InterfaceId};

use super::ends_datagram;
use crate::batch::Received;
use crate::clock::Time;
use crate::flow::{Direction, Flow};
use crate::fragments::{Fate, Follow, Key, Next, Piece};
use crate::pipeline::{Context, Core, Outcome, Staged, dropped, objection};
use crate::verdict::Verdict;
use crate::wire::{Fragment, Kind, Packet, sctp};

impl Core {
    pub(super) fn first_fragment(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        fragment: Fragment,
        staged: &Staged,
    ) -> Option<Outcome> {
        let (key, now, arrived) = (Key::of(packet, fragment), context.now, received.interface);
        let hash = self.flows.hash(key.words());
        let datagrams = &mut self.fragments.datagrams;
        let bytes = context.umem.packet(&received.frame);
        let piece = Piece::of(bytes, packet, fragment);
        let missing = missing(bytes, packet);
        let mut known = datagrams.find(hash, &key, now);
        let objection = objection(context.snapshot, packet, received.interface);
        if let Some(objection) = objection
            && !known.is_some_and(|id| datagrams.fate(id).came_by(received.interface))
        {
            let goes_on = known.is_some_and(|id| matches!(datagrams.fate(id), Fate::Forward(_)));
            if goes_on || piece.is_none() && self.asks_for_ours(context, packet) {
                return dropped(received, objection, None);
            }
            let outcome = self.as_if_whole(context, received, packet, staged);
            if let (None, Some(piece), Ok((fate @ Fate::Forward(_), certain))) =
                (known, &piece, self.fate_of_first(context, packet, arrived, outcome.as_ref()))
            {
                self.begin(hash, key, (fate, certain), piece, told(&fate, packet, piece, missing), now);
            }
            return outcome;
        }
        if let Some(id) = known {
            match datagrams.fate(id) {
                Fate::Drop(reason) if ends_datagram(reason) => return dropped(received, reason, None),
                Fate::Forward(follow)
                    if !datagrams.is_done(id) && (follow.ports == ports(packet) || !datagrams.is_stale(id, now)) =>
                {
                    if follow.ports != ports(packet) {
                        datagrams.set_fate(id, Fate::Drop(DropReason::FragmentOverlap));
                    }
                    match datagrams.add(id, piece.as_ref(), now) {
                        Next::Share(Fate::Drop(reason)) => return dropped(received, reason, follow.service_port),
                        Next::Share(_) => {}
                        Next::Other => known = None,
                    }
                }
                // Another datagram, as its number comes round.
                _ => {
                    datagrams.remove(id);
                    known = None;
                }
            }
        }
        let Some(piece) = piece else {
            let ours = self.asks_for_ours(context, packet);
            let fate = if ours { Fate::Drop(DropReason::InvalidFragment) } else { Fate::Pass };
            self.decide_datagram(hash, key, fate, now);
            return match ours {
                true => dropped(received, DropReason::InvalidFragment, None),
                false => self.pass_from(context, received, packet.tuple.source_address()),
            };
        };
        let outcome = self.as_if_whole(context, received, packet, staged);
        // Another owner notes the datagram, if it gets this: nobody would forget what is noted here.
        if let Ok((fate, certain)) = self.fate_of_first(context, packet, arrived, outcome.as_ref()) {
            match known {
                // It goes on already: what is refused of this one, which comes again, is this one's alone.
                Some(id) => {
                    if matches!(fate, Fate::Forward(_)) {
                        self.fragments.datagrams.set_fate(id, fate);
                    }
                    if certain {
                        self.make_certain(id, &key);
                    }
                }
                None => self.begin(hash, key, (fate, certain), &piece, told(&fate, packet, &piece, missing), now),
            }
        }
        outcome
    }

    /// Begins a datagram with its first fragment, which may have been sent on as one of a datagram that ends at `end`.
    fn begin(
        &mut self,
        hash: u64,
        key: Key,
        (fate, certain): (Fate, bool),
        piece: &Piece,
        end: Option<u16>,
        now: Time,
    ) {
        let pair = certain.then(|| self.flows.hash(&key.pair()));
        let datagrams = &mut self.fragments.datagrams;
        let id = datagrams.open(hash, key, fate, pair, now);
        datagrams.add(id, Some(piece), now);
        end.inspect(|end| datagrams.expect_end(id, *end));
        self.fragments.waiting.settle(hash, &key);
    }

    /// The first fragment has all that a decision takes.
    fn as_if_whole(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        staged: &Staged,
    ) -> Option<Outcome> {
        let found = self.flows.find(staged.hash, staged.candidate, &packet.tuple, context.now);
        if packet.kind == Kind::Sctp {
            // Its checksum covers the ports, and what a change of them makes of it depends on how much follows. Chunks mostly tell.
            let keeps_ports = |to: u64| to >> 32 == packet.tuple.ports >> 32;
            let adjustable = match found {
                Ok((id, direction)) => keeps_ports(self.flows.flow(id).rewrite(direction).to.ports),
                Err(_) => {
                    let elsewhere = self.owner_elsewhere(context.snapshot, &received, packet, staged.hash).is_some();
                    elsewhere || self.opens_with_same_ports(context, packet)
                }
            };
            if !adjustable && missing(context.umem.packet(&received.frame), packet).is_none() {
                return dropped(received, DropReason::SctpFragment, None);
            }
        }
        match found {
            Ok((flow, direction)) => self.established(context, received, packet, staged.hash, flow, direction),
            Err(over) => {
                if let Some(flow) = over {
                    self.flows.remove(flow, context.now);
                }
                self.open(context, received, packet, staged.hash)
            }
        }
    }

    /// What the first fragment's outcome means for the others, and whether its flow is one that both sides take part in; the
    /// error is that another worker is to say so.
    fn fate_of_first(
        &self,
        context: &Context,
        packet: &Packet,
        arrived: InterfaceId,
        outcome: Option<&Outcome>,
    ) -> Result<(Fate, bool), ()> {
        let fate = match outcome.map(|outcome| outcome.verdict) {
            Some(Verdict::HandOver { .. }) => return Err(()),
            Some(Verdict::Pass { .. }) => Fate::Pass,
            Some(Verdict::Drop(reason) | Verdict::Reply { reason, .. }) => Fate::Drop(reason),
            // On its way, or waiting for a neighbour.
            Some(Verdict::Forward { .. } | Verdict::Fragment { .. }) | None => {
                if let Some((id, direction)) = self.flows.lookup(&packet.tuple, context.now) {
                    let flow = self.flows.flow(id);
                    let forwarding = flow.forwarding();
                    // Only a choice between several paths takes it, and a tunnel.
                    let several = context.snapshot.network.has_several_paths() || forwarding.is_dsr();
                    let follow = Follow {
                        to: flow.rewrite(direction).to,
                        ports: ports(packet),
                        direction,
                        arrived,
                        hash: if several { flow.original().maglev_hash() } else { 0 },
                        service_port: Some(flow.service_port()),
                        backend: Some(flow.backend()),
                        forwarding,
                    };
                    return Ok((Fate::Forward(follow), is_certain(flow)));
                }
                // Without a flow the packet itself tells where it goes, unless it went as it came.
                if let Some(follow) = self.follow_without_flow(context, packet, arrived) {
                    return Ok((Fate::Forward(follow), false));
                }
                let sent = outcome.and_then(|outcome| {
                    Some((Packet::parse(context.umem.packet(&outcome.frame)).ok()?, outcome.service_port))
                });
                match sent {
                    Some((sent, service_port)) => Fate::Forward(Follow {
                        to: sent.tuple,
                        ports: ports(packet),
                        direction: Direction::Original,
                        arrived,
                        hash: packet.tuple.maglev_hash(),
                        service_port,
                        backend: None,
                        forwarding: ForwardingMode::Nat,
                    }),
                    None => Fate::Drop(DropReason::NeighborUnresolved),
                }
            }
        };
        Ok((fate, false))
    }

    /// Whether a first fragment is to a VIP, to a frontend, or of a flow.
    fn asks_for_ours(&self, context: &Context, packet: &Packet) -> bool {
        let services = &context.snapshot.services;
        services.find(&packet.tuple.frontend()).is_some()
            || !matches!(without_frontend(services, packet.tuple.destination_address()), Decision::Pass)
            || self.flows.lookup(&packet.tuple, context.now).is_some()
    }
}

/// Whether both sides take part in a flow.
pub(in crate::pipeline) fn is_certain(flow: &Flow) -> bool {
    flow.state().eviction_rank().is_none_or(|rank| rank > 1)
}

/// What an SCTP packet's first fragment tells of how much follows it.
fn missing(frame: &[u8], packet: &Packet) -> Option<u16> {
    let message = packet.transport(frame).filter(|_| packet.kind == Kind::Sctp)?;
    sctp::missing(message)
}

/// Where a datagram has to end for the checksum of its first fragment to be right, which was sent on with other ports.
fn told(fate: &Fate, packet: &Packet, piece: &Piece, missing: Option<u16>) -> Option<u16> {
    let Fate::Forward(follow) = fate else { return None };
    missing.filter(|_| follow.to.ports >> 32 != packet.tuple.ports >> 32)?.checked_add(piece.bytes.end)
}

fn ports(packet: &Packet) -> u32 {
    (packet.tuple.ports >> 32) as u32
}
