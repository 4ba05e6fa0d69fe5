//! ICMP errors about packets that went to their endpoint inside others (`dsr-ipip`): they come to the node, which is the outer
//! sender, and only the sender of the packet inside can do something about them.
//!
//! As with errors about other packets ([`super::errors`]) one is believed when it quotes what a flow may have sent to
//! its endpoint, and nothing that it says changes the flow. A tunnel of somebody else on this node is not looked at further:
//! its errors are the kernel's.

use ringway_shared::DropReason;
use ringway_shared::network::Heading;
use ringway_shared::service::ForwardingMode;

use super::departure::Intent;
use super::errors::{Elsewhere, Hint};
use super::{Context, Core, Outcome, dropped, handed};
use crate::batch::Received;
use crate::flow::{Direction, Segment};
use crate::forward::tunnel_error::{meaning, translate};
use crate::wire::Packet;
use crate::wire::quote::quoted_inside;
use crate::wire::transport::{ChecksumState, checksum_state};

impl Core {
    /// What becomes of an error that quotes nothing with ports; the packet comes back when it is about no flow of ours.
    #[cold]
    pub(super) fn hear_tunnel_error(
        &mut self,
        context: &mut Context,
        received: Received,
        packet: &Packet,
        objection: Option<DropReason>,
    ) -> Result<Option<Outcome>, Received> {
        let (frame, network) = (context.umem.packet(&received.frame), &context.snapshot.network);
        let Some(message) = packet.transport(frame) else { return Err(received) };
        let Some(inside) = quoted_inside(message, packet.family()) else { return Err(received) };
        let (tuple, [source, endpoint]) = (&inside.quote.tuple, inside.outer);
        let Some(meaning) = meaning(message, packet.family(), tuple.family()) else { return Err(received) };
        if packet.tuple.destination_address() != source || !network.is_local(source) {
            return Err(received);
        }
        let hash = self.flows.hash(tuple);
        let Some((id, direction)) = self.flows.lookup(tuple, context.now) else {
            let directory = self.shared.directory.as_ref().filter(|_| !received.handed_over);
            let worker = directory.and_then(|directory| directory.owner(hash));
            let worker = worker.filter(|worker| *worker != self.config.worker && *worker < self.config.workers);
            let Some(worker) = worker.filter(|_| objection.is_none()) else { return Err(received) };
            if !self.errors.admit(&Elsewhere { worker, hash, by: Hint::Noted }, context.now) {
                return Ok(dropped(received, DropReason::IcmpHandoverLimited, None));
            }
            return Ok(handed(received, worker, false));
        };
        let flow = self.flows.flow(id);
        let is_its_tunnel = flow.forwarding() == ForwardingMode::DsrIpip && flow.reply().source_address() == endpoint;
        // What its receiver would throw away is the kernel's to throw away.
        if direction != Direction::Original || !is_its_tunnel || checksum_state(frame, packet) == ChecksumState::Wrong {
            return Err(received);
        }
        let service_port = Some(flow.service_port());
        let segment = Segment::quoted(message, &inside.quote);
        let believed = segment.is_some_and(|segment| flow.may_have_sent(Direction::Original, &segment));
        if let Some(reason) = objection.or((!believed).then_some(DropReason::IcmpOutsideWindow)) {
            return Ok(dropped(received, reason, service_port));
        }
        let heading = Heading {
            destination: tuple.source_address(),
            source: Some(tuple.destination_address()),
            arrived: None,
            hash: tuple.maglev_hash(),
        };
        let Some(own) = network.source_address_for(&heading) else {
            return Ok(dropped(received, DropReason::NoSourceAddress, service_port));
        };
        let adjacency = self.adjacencies.to_client(network, &heading).map(|found| found.adjacency);
        let mut received = received;
        let Some(length) = translate(context.umem.packet_mut(&mut received.frame), packet, &inside, own, &meaning)
        else {
            return Err(received);
        };
        context.umem.resize(&mut received.frame, length);
        Ok(self.send(context, received, adjacency, heading, Intent::Forward, service_port))
    }
}
