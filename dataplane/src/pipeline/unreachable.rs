//! ICMP errors from an endpoint's side that say that a flow's packet does not arrive: a refusal, as a RST is.
//!
//! They pass, as everything that is the kernel's own or only crosses the node.

use super::established::leads_to_endpoint;
use super::{Context, Core, Outcome, pass};
use crate::batch::Received;
use crate::flow::Direction;
use crate::verdict::Verdict;
use crate::wire::quote::{is_unreachable, quoted_tuple};
use crate::wire::transport::{ChecksumState, checksum_state};
use crate::wire::{Kind, Packet};

impl Core {
    /// Counts the refusal, if it is one and about a flow of ours; then the packet passes.
    #[cold]
    pub(super) fn hear_error(&mut self, context: &mut Context, received: Received, packet: &Packet) -> Option<Outcome> {
        let frame = context.umem.packet(&received.frame);
        let Some(message) = packet.transport(frame) else { return pass(received) };
        let Kind::Icmp { icmp_type, code, .. } = packet.kind else { return pass(received) };
        let family = packet.family();
        if packet.objection.is_some()
            || !is_unreachable(icmp_type, code, family)
            || checksum_state(frame, packet) != ChecksumState::Right
        {
            return pass(received);
        }
        let Some(quoted) = quoted_tuple(message, family) else { return pass(received) };
        // It goes to whoever sent the packet, and comes from where that went.
        let network = &context.snapshot.network;
        let is_on_its_way =
            || network.next_hops(quoted.destination_address()).any(|(out, _)| out == received.interface);
        if packet.tuple.destination_address() != quoted.source_address() || !is_on_its_way() {
            return pass(received);
        }
        let reply = quoted.reversed();
        match self.flows.lookup(&reply, context.now) {
            Some((id, Direction::Reply)) if leads_to_endpoint(self.flows.flow(id), received.interface, network) => {
                self.flows.refuse(id, context.now);
            }
            Some(_) => {}
            None if !received.handed_over && self.config.workers > 1 => {
                let hinted = self.shared.directory.as_ref();
                let hinted = hinted.and_then(|directory| directory.owner(self.flows.hash(&reply)));
                // The port of a masqueraded flow's reply names its owner.
                let owner = hinted.or_else(|| self.config.port_owner(quoted.source_port()));
                if let Some(worker) = owner.filter(|w| *w != self.config.worker && *w < self.config.workers)
                    // A flood of them shall not take the room of replies; it is only counting that suffers.
                    && self.errors.admit(context.now)
                {
                    let verdict = Verdict::HandOver { worker, arrived: received.interface };
                    return Some(Outcome { frame: received.frame, tag: received.tag, verdict, service_port: None });
                }
            }
            None => {}
        }
        pass(received)
    }
}
