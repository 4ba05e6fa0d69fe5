//! Packets that name no port: ICMP and protocols that Services do not have, and fragments of both.

use std::net::IpAddr;

use ringway_shared::decision::{Decision, without_frontend};
use ringway_shared::service::Matched;
use ringway_shared::snapshot::Target;
use ringway_shared::{DropReason, Services};

use super::{Context, Core, Outcome, dropped, objection, pass};
use crate::batch::Received;
use crate::wire::icmp::{self, Class};
use crate::wire::{Kind, Packet};

impl Core {
    #[cold]
    pub(super) fn portless(&mut self, context: &mut Context, received: Received, packet: &Packet) -> Option<Outcome> {
        let services = &context.snapshot.services;
        let objection = objection(context.snapshot, packet, received.interface);
        let destination = packet.tuple.destination_address();
        let mut received = received;
        // Of a fragment neither the checksum nor all that it quotes is known.
        if let (Kind::Icmp { class: Class::Error, .. }, None) = (packet.kind, packet.fragment) {
            match self.hear_error(context, received, packet, objection) {
                Ok(outcome) => return outcome,
                Err(about_none) => received = about_none,
            }
        }
        let reason = match (without_frontend(services, destination), packet.kind) {
            (Decision::Pass, Kind::Icmp { class: Class::Error, .. })
                if objection.is_none() && !self.admits_strange_error(context, &received, packet) =>
            {
                DropReason::IcmpWithoutFlow
            }
            (Decision::Pass, _) => return self.pass_from(context, received, packet.tuple.source_address()),
            // From a neighbour, as its hop limit shows (RFC 4861). Any other would go round like other protocols.
            (_, Kind::Icmp { class: Class::Discovery, .. }) if packet.ttl == u8::MAX => return pass(received),
            (Decision::Drop(reason, _), _) => reason,
            (_, Kind::Icmp { .. }) if packet.fragment.is_some() => DropReason::IcmpFragment,
            (_, Kind::LaterFragment { protocol: icmp::V4 | icmp::V6 }) => DropReason::IcmpFragment,
            (_, Kind::Icmp { class: Class::EchoRequest, .. }) => {
                if objection.is_none() && echo_answerer(services, packet.tuple.source_address(), destination).is_some()
                {
                    return self.answer_echo(context, received, packet);
                }
                DropReason::EchoWithoutEndpoint
            }
            (_, Kind::Icmp { class: Class::Error, .. }) => DropReason::IcmpWithoutFlow,
            // What the kernel has as its own address too is the kernel's, a ClusterIP included.
            _ if context.snapshot.network.is_local(destination) => {
                return self.pass_from(context, received, packet.tuple.source_address());
            }
            // Passed on, it would go round between the router that sends VIPs here and the route that leads back there.
            (_, Kind::Other(_)) if objection.is_none() => return self.answer_protocol(context, received, packet),
            _ => DropReason::OtherProtocol,
        };
        dropped(received, objection.unwrap_or(reason), None)
    }
}

/// A Service on the VIP that has an endpoint and lets the sender of a ping in.
pub(crate) fn echo_answerer(services: &Services, source: IpAddr, vip: IpAddr) -> Option<&Target> {
    services.vips.get(&vip)?.targets.iter().find(|target| {
        let port = &target.service_port;
        let guarded = target.matched == Matched::LoadBalancerIp;
        let admitted = !guarded || port.source_ranges.as_ref().is_none_or(|ranges| ranges.admit(source));
        port.has_endpoint && admitted
    })
}
