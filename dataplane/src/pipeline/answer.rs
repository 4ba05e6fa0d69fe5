//! Packets that Ringway answers itself: rejects, time exceeded, packet too big, echo replies.
//!
//! A packet that deserves an answer but must not get one (see [`crate::forward::may_answer`]) or is over the limit is a
//! drop under the answer's reason.

use std::net::IpAddr;

use ringway_shared::counters::Counter;
use ringway_shared::network::{Heading, NoAdjacency};
use ringway_shared::{DropReason, ServicePortId, Snapshot};

use super::departure::{Intent, mtu, must_not_fragment};
use super::fragments::is_certain;
use super::limiter::AnswerTo;
use super::{Context, Core, Outcome, dropped};
use crate::batch::Received;
use crate::forward::{ANSWER_ROOM, echo, icmp_error, ip_header, may_answer, reject};
use crate::wire::{Kind, Packet};

impl Core {
    /// Tells the client that it cannot have this: RST for TCP, port unreachable for the rest, from the address asked for.
    #[cold]
    pub(super) fn answer(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        reason: DropReason,
        service_port: Option<ServicePortId>,
    ) -> Option<Outcome> {
        let to = (AnswerTo::Refused, reason);
        self.answer_with(context, received, packet, to, service_port, |frame| reject::reject(frame, packet))
    }

    /// Tells the sender that no Service can have the packet's protocol.
    #[cold]
    pub(super) fn answer_protocol(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
    ) -> Option<Outcome> {
        let to = (AnswerTo::Refused, DropReason::OtherProtocol);
        self.answer_with(context, received, packet, to, None, |frame| reject::protocol_unreachable(frame, packet))
    }

    /// TTL or hop limit ran out.
    #[cold]
    pub(super) fn answer_expired(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        service_port: Option<ServicePortId>,
    ) -> Option<Outcome> {
        let reason = DropReason::TtlExpired;
        let Some(source) = own_address(context.snapshot, &received, packet).filter(|_| packet.ttl == 1) else {
            return dropped(received, reason, service_port);
        };
        let to = (AnswerTo::Refused, reason);
        self.answer_with(context, received, packet, to, service_port, |frame| {
            icmp_error::time_exceeded(frame, packet, source)
        })
    }

    /// The packet is larger than the way out, and must not be fragmented.
    #[cold]
    pub(super) fn answer_too_big(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        mtu: u32,
        service_port: Option<ServicePortId>,
    ) -> Option<Outcome> {
        let reason = DropReason::TooBig;
        let Some(source) = own_address(context.snapshot, &received, packet) else {
            return dropped(received, reason, service_port);
        };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        let flow = self.flows.lookup(&packet.tuple, context.now);
        let certain = flow.is_some_and(|(id, _)| is_certain(self.flows.flow(id)));
        let to = (AnswerTo::TooBig { hash: self.flows.hash(&packet.tuple), certain }, reason);
        self.answer_with(context, received, packet, to, service_port, |frame| {
            icmp_error::too_big(frame, packet, source, mtu)
        })
    }

    /// A ping to a VIP. Its answer is never fragmented, as no ping in fragments is answered: one that the way back does not carry
    /// is not sent, and the sender is told if it asks for that.
    #[cold]
    pub(super) fn answer_echo(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
    ) -> Option<Outcome> {
        // Beyond the limit nobody looks for a way.
        if !self.answers.has_room(AnswerTo::Ping, context.now) {
            self.tally.add(Counter::RepliesLimited, u64::from(may_answer(packet)));
            return dropped(received, DropReason::EchoRequest, None);
        }
        let network = &context.snapshot.network;
        let way = self.adjacencies.to_client(network, &answer_heading(&received, packet)).map(|found| found.adjacency);
        let length = u32::from(packet.end.saturating_sub(packet.l4)) + ip_header(packet.family()) as u32;
        if let Some(mtu) = mtu(&way).filter(|mtu| length > *mtu) {
            return match must_not_fragment(context.umem.packet(&received.frame), packet) {
                true => self.answer_too_big(context, received, packet, mtu, None),
                false => dropped(received, DropReason::TooBig, None),
            };
        }
        let to = (AnswerTo::Ping, DropReason::EchoRequest);
        self.answer_with(context, received, packet, to, None, |frame| echo::reply(frame, packet))
    }

    /// Builds an answer in the packet's own frame and sends it back to the packet's source.
    fn answer_with(
        &mut self,
        context: &mut Context,
        mut received: Received,
        packet: &Packet,
        (to, reason): (AnswerTo, DropReason),
        service_port: Option<ServicePortId>,
        build: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<Outcome> {
        let heading = answer_heading(&received, packet);
        // No way back is no reason of its own: the packet dies of what it would have been told.
        let adjacency = self.adjacencies.to_client(&context.snapshot.network, &heading).map(|found| found.adjacency);
        let answerable = adjacency.is_ok() || matches!(adjacency, Err(NoAdjacency::Unresolved { .. }));
        if !answerable {
            return dropped(received, reason, service_port);
        }
        // Who asks too often costs no answer that is built for nothing.
        if !self.answers.has_room(to, context.now) {
            self.tally.add(Counter::RepliesLimited, u64::from(may_answer(packet)));
            return dropped(received, reason, service_port);
        }
        let length = received.frame.len();
        context.umem.resize(&mut received.frame, length.max(ANSWER_ROOM));
        let Some(length) = build(context.umem.packet_mut(&mut received.frame)) else {
            return dropped(received, reason, service_port);
        };
        context.umem.resize(&mut received.frame, length);
        self.answers.count(to, context.now);
        debug_assert!(!matches!(packet.kind, Kind::LaterFragment { .. }));
        self.send(context, received, adjacency, heading, Intent::Reply(reason), service_port)
    }
}

/// The node's address that errors about this packet come from: the one that Linux would choose towards its sender.
fn own_address(snapshot: &Snapshot, received: &Received, packet: &Packet) -> Option<IpAddr> {
    snapshot.network.source_address_for(&answer_heading(received, packet))
}

/// What decides about the way of an answer: it goes from the address that was asked to the one that asked.
fn answer_heading(received: &Received, packet: &Packet) -> Heading {
    Heading {
        destination: packet.tuple.source_address(),
        source: Some(packet.tuple.destination_address()),
        arrived: Some(received.interface),
        hash: packet.tuple.maglev_hash(),
    }
}
