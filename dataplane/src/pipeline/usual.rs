//! The usual packet of a known flow: nothing has changed since the last one, and nothing is wrong.
//!
//! All that nearly every packet needs stands here in one function without calls; whatever else a packet may be is left to
//! others, behind one call. So the compiler keeps in registers what this way needs, and nothing for the sake of the others.

use ringway_shared::ServicePortId;

use super::departure::{Intent, leave};
use super::stage::Staged;
use super::{Context, Core};
use crate::batch::Received;
use crate::flow::{Direction, Segment};
use crate::forward::{nat, usual};
use crate::verdict::Verdict;
use crate::wire::Kind;

impl Core {
    /// Sends the usual packet of a flow on. `None`, with nothing done, for any other packet: [`Core::decide`] knows what to do.
    #[inline(always)]
    pub(super) fn usual(
        &mut self,
        context: &mut Context,
        received: &mut Received,
        staged: &Staged,
    ) -> Option<(Verdict, ServicePortId)> {
        let (services, network) = (&context.snapshot.services, &context.snapshot.network);
        let interface = network.interface(received.interface)?;
        let Ok(packet) = &staged.parsed else { return None };
        if packet.destination_mac != interface.mac || packet.fragment.is_some() {
            return None;
        }
        let now = context.now.millis();
        let (flow, direction) = self.flows.expected(staged.candidate, &packet.tuple, now)?;
        // Of another generation, the number would mark another next hop as used.
        if flow.network_generation != network.generation {
            return None;
        }
        let adjacency = network.leave_by(flow.adjacency(direction))?;
        if packet.objection.is_some() || packet.ttl <= 1 || u32::from(packet.ip_length()) > adjacency.mtu {
            return None;
        }
        if flow.services_generation != services.generation && direction == Direction::Original {
            if services.changed_since(flow.service_port(), flow.services_generation) {
                return None;
            }
            flow.services_generation = services.generation;
        }
        let bytes = context.umem.packet_mut(&mut received.frame);
        // One protocol after the other, each to its end, so that nothing is asked twice.
        if let Kind::Tcp { flags, .. } = packet.kind {
            if !flow.goes_on_by_segment(direction, flags, Segment::acknowledgment_of(bytes, packet)?) {
                return None;
            }
            flow.count(direction, now);
            usual::rewrite_segment(bytes, packet, || flow.ends_v4(direction), || flow.rewrite(direction));
        } else if packet.kind == Kind::Udp {
            if !flow.goes_on_by_datagram(direction, now) {
                return None;
            }
            flow.count(direction, now);
            usual::rewrite_datagram(bytes, packet, || flow.ends_v4(direction), || flow.rewrite(direction));
        } else {
            if packet.kind != Kind::Sctp || !flow.goes_on_by_chunk(Segment::of(bytes, packet).chunk) {
                return None;
            }
            flow.count(direction, now);
            nat::rewrite(bytes, packet, &flow.rewrite(direction));
        }
        let verdict = leave(bytes, adjacency, Intent::Forward);
        self.shared.counters.backend_packet(flow.backend(), u64::from(packet.end));
        // Ethernet padding is not carried along.
        if received.frame.len() != usize::from(packet.end) {
            context.umem.resize(&mut received.frame, usize::from(packet.end));
        }
        Some((verdict, flow.service_port()))
    }
}
