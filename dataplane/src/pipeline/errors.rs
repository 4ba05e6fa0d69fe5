//! ICMP errors: one about a packet of a flow goes to who sent that packet, translated back.
//!
//! Anybody can write an error, and quote what he has seen or guessed. So it is believed only if it goes to whoever sent the
//! quoted packet, comes from where that went (or quotes a number that is hard to guess), and quotes one that was under way; and
//! whatever it says, it ends no flow, takes no port and moves no mark: that is left to the end host that gets it, which knows
//! more. What it says of an endpoint that has not answered is counted, as a refusal is. Redirects are about a link that their receiver is on, so they go no further.

use ringway_shared::network::{Heading, NoAdjacency};
use ringway_shared::{Adjacency, DropReason, Family, Snapshot};

use super::adjacencies::Adjacencies;
use super::departure::{Intent, exceeded_mtu};
use super::established::{heading, leads_to_endpoint};
use super::limiter::Shares;
use super::{Context, Core, Outcome, dropped, handed};
use crate::batch::Received;
use crate::clock::Time;
use crate::flow::{Direction, Flow, FlowId, Segment};
use crate::forward::quote::translate;
use crate::wire::quote::{Quote, is_unreachable, quoted};
use crate::wire::transport::{ChecksumState, checksum_state};
use crate::wire::{Kind, Packet};

/// Whom an error is for.
enum Addressee {
    /// The end of the flow that packets of this direction go to: it sent what is quoted.
    End(FlowId, Direction),
    /// The same, if it were believed.
    Doubted(FlowId),
    /// An end of another worker's flow.
    Elsewhere(Elsewhere),
}

/// Whose flow an error seems to be about.
#[derive(Clone, Copy)]
pub(super) struct Elsewhere {
    pub(super) worker: u16,
    /// Of the tuple that it was found by.
    pub(super) hash: u64,
    pub(super) by: Hint,
}

/// What says that there is such a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// Somebody has noted it.
    Noted,
    /// The port, which names the worker; perhaps there is no such flow. The error came by an interface that packets to the endpoint
    /// leave by.
    PortOnItsWay,
    /// The port alone.
    Port,
}

/// How many errors a worker hands over. Each tuple that they quote has its share, so a flood about one takes nothing from
/// errors about others; and those about flows that nobody has noted, which anybody can invent, take nothing from the rest, nor do
/// those that come from elsewhere than their endpoint. A handover queue holds more than all of them at once.
pub(super) struct HandedErrors {
    noted: Shares,
    on_their_way: Shares,
    guessed: Shares,
    /// About no flow, so that the kernel gets them, which costs much more than a drop.
    strange: Shares,
}

impl HandedErrors {
    pub(super) fn new() -> Self {
        HandedErrors {
            noted: Shares::new(),
            on_their_way: Shares::new(),
            guessed: Shares::new(),
            strange: Shares::new(),
        }
    }

    pub(super) fn admit(&mut self, elsewhere: &Elsewhere, now: Time) -> bool {
        let shares = match elsewhere.by {
            Hint::Noted => &mut self.noted,
            Hint::PortOnItsWay => &mut self.on_their_way,
            Hint::Port => &mut self.guessed,
        };
        shares.admit(elsewhere.hash, now)
    }
}

impl Core {
    /// Whether one more error about no flow of ours may pass to the kernel.
    pub(super) fn admits_strange_error(&mut self, context: &Context, received: &Received, packet: &Packet) -> bool {
        let message = packet.transport(context.umem.packet(&received.frame));
        let quote = message.and_then(|message| quoted(message, packet.family()));
        let about = quote.map_or(packet.tuple, |quote| quote.tuple);
        let hash = self.flows.hash(&about);
        self.errors.strange.admit(hash, context.now)
    }

    /// What becomes of an error; nothing, with the packet, when it is about no flow of ours. `objection` says why nobody who is
    /// ours should get it.
    #[cold]
    pub(super) fn hear_error(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        objection: Option<DropReason>,
    ) -> Result<Option<Outcome>, Received> {
        let frame = context.umem.packet(&received.frame);
        let Some(message) = packet.transport(frame) else { return Err(received) };
        let Some(quote) = quoted(message, packet.family()) else {
            return self.hear_tunnel_error(context, received, packet, objection);
        };
        let segment = Segment::quoted(message, &quote);
        let (id, direction) = match self.addressee(context, &received, packet, &quote, segment) {
            None => return Err(received),
            Some(Addressee::Elsewhere(elsewhere)) => {
                if objection.is_some() {
                    return Err(received);
                }
                // A flood of them shall not take the room of replies.
                if !self.errors.admit(&elsewhere, context.now) {
                    return Ok(dropped(received, DropReason::IcmpHandoverLimited, None));
                }
                return Ok(handed(received, elsewhere.worker, false));
            }
            Some(Addressee::Doubted(id)) => {
                let reason = objection.unwrap_or(DropReason::IcmpOutsideWindow);
                return Ok(dropped(received, reason, Some(self.flows.flow(id).service_port())));
            }
            Some(Addressee::End(id, direction)) => (id, direction),
        };
        if let Some(reason) = objection {
            return Ok(dropped(received, reason, Some(self.flows.flow(id).service_port())));
        }
        if direction == Direction::Reply
            && refuses(packet)
            && leads_to_endpoint(self.flows.flow(id), received.interface, &context.snapshot.network)
            && checksum_state(frame, packet) == ChecksumState::Right
        {
            self.flows.refuse(id, context.now);
        }
        if self.flows.flow(id).forwarding().is_dsr() {
            return Ok(self.follow_dsr(context, received, packet, id));
        }
        Ok(self.tell(context, received, packet, &quote, id, direction))
    }

    /// Whom an error about a packet of ours is for.
    fn addressee(
        &self,
        context: &Context,
        received: &Received,
        packet: &Packet,
        quote: &Quote,
        segment: Option<Segment>,
    ) -> Option<Addressee> {
        let network = &context.snapshot.network;
        let source = quote.tuple.source_address();
        // It goes to whoever sent the packet.
        if packet.tuple.destination_address() != source || is_redirect(packet) {
            return None;
        }
        let answer = quote.tuple.reversed();
        let hash = self.flows.hash(&answer);
        let Some((id, direction)) = self.flows.lookup(&answer, context.now) else {
            if self.config.workers == 1 || received.handed_over {
                return None;
            }
            let hinted = self.shared.directory.as_ref().and_then(|directory| directory.owner(hash));
            // The port of a masqueraded flow's reply names its owner.
            let is_snat = || self.is_snat_address(network, source);
            let worker = hinted.or_else(|| self.config.port_owner(quote.tuple.source_port()).filter(|_| is_snat()))?;
            let endpoint = quote.tuple.destination_address();
            let on_its_way = || network.next_hops(endpoint).any(|(out, _)| out == received.interface);
            let by = match hinted {
                Some(_) => Hint::Noted,
                None if on_its_way() => Hint::PortOnItsWay,
                None => Hint::Port,
            };
            let elsewhere = Elsewhere { worker, hash, by };
            return (worker != self.config.worker && worker < self.config.workers)
                .then_some(Addressee::Elsewhere(elsewhere));
        };
        let flow = self.flows.flow(id);
        let sender = direction.opposite();
        let believed = segment.is_some_and(|segment| flow.may_have_sent(sender, &segment));
        // It comes from where the packet went, or shows that whoever wrote it has seen the packet: a router on the way may
        // answer by another way. Where clients come from is anybody's guess.
        let vouched_for = || believed && segment.is_some_and(|segment| flow.is_vouched_for(sender, &segment));
        if direction == Direction::Reply && !leads_to_endpoint(flow, received.interface, network) && !vouched_for() {
            return None;
        }
        Some(if believed { Addressee::End(id, direction) } else { Addressee::Doubted(id) })
    }

    /// Sends an error on to the end of a flow that packets of `direction` go to.
    fn tell(
        &mut self,
        context: &mut Context,
        mut received: Received,
        packet: &Packet,
        quote: &Quote,
        id: FlowId,
        direction: Direction,
    ) -> Option<Outcome> {
        let flow = self.flows.flow(id);
        let service_port = Some(flow.service_port());
        let heading = heading(flow, direction, Some(received.interface), &context.snapshot.network);
        let adjacency = adjacency_for(flow, direction, &heading, context.snapshot, &mut self.adjacencies);
        if packet.ttl <= 1 {
            return self.answer_expired(context, received, packet, service_port);
        }
        if let Some(mtu) = exceeded_mtu(&adjacency, context.umem.packet(&received.frame), packet) {
            return self.answer_too_big(context, received, packet, mtu, service_port);
        }
        let rewrite = flow.rewrite(direction);
        translate(context.umem.packet_mut(&mut received.frame), packet, quote, &rewrite);
        // Ethernet padding is not carried along.
        context.umem.resize(&mut received.frame, usize::from(packet.end));
        self.send(context, received, adjacency, heading, Intent::Forward, service_port)
    }
}

/// The adjacency that packets of a flow leave by. The flow remembers nothing of what an error makes it look for.
fn adjacency_for<'s>(
    flow: &Flow,
    direction: Direction,
    heading: &Heading,
    snapshot: &'s Snapshot,
    adjacencies: &mut Adjacencies,
) -> Result<&'s Adjacency, NoAdjacency> {
    let network = &snapshot.network;
    let known = network.leave_by(flow.adjacency(direction));
    if let Some(adjacency) = known.filter(|_| flow.network_generation == network.generation) {
        return Ok(adjacency);
    }
    let resolved = match direction {
        Direction::Original => adjacencies.to_endpoint(network, heading),
        Direction::Reply => adjacencies.to_client(network, heading),
    };
    resolved.map(|resolved| resolved.adjacency)
}

/// Whether the packet says that another packet did not arrive.
fn refuses(packet: &Packet) -> bool {
    matches!(packet.kind, Kind::Icmp { icmp_type, code, .. } if is_unreachable(icmp_type, code, packet.family()))
}

fn is_redirect(packet: &Packet) -> bool {
    matches!(packet.kind, Kind::Icmp { icmp_type: 5, .. } if packet.family() == Family::V4)
}
