//! What an explanation says of a ping, and of an ICMP error.

use ringway_shared::decision::{Decision, without_frontend};
use ringway_shared::service::{ForwardingMode, Matched};
use ringway_shared::{DropReason, FiveTuple};

use super::{Trace, TraceVerdict, View, steps};
use crate::flow::Flow;
use crate::pipeline::portless::echo_answerer;
use crate::wire::icmp::Class;
use crate::wire::may_be_of_a_router;

impl Trace {
    /// A ping. `tuple` has its addresses alone.
    pub(super) fn ping(&mut self, view: &View<'_>, tuple: &FiveTuple) {
        if !self.is_ours(view, tuple, Class::EchoRequest) {
            return;
        }
        let (source, vip) = (tuple.source_address(), tuple.destination_address());
        if let Some(target) = echo_answerer(view.services, source, vip) {
            let service = &target.service_port.service;
            self.steps.push(format!("Service {service} on {vip} has an endpoint and lets {source} in."));
            self.steps.push(format!("So Ringway answers the ping in the name of {vip}; no endpoint gets it."));
            self.verdict = TraceVerdict::Reply;
            self.reason = Some(DropReason::EchoRequest.label().to_owned());
            return;
        }
        for target in view.services.vips.get(&vip).into_iter().flat_map(|vip| &vip.targets) {
            let port = &target.service_port;
            let (service, protocol, number) = (&port.service, port.protocol, port.port);
            let guard = || steps::ranges(port, source).filter(|_| target.matched == Matched::LoadBalancerIp);
            let why = if port.has_endpoint { guard() } else { Some("it has no endpoint.".to_owned()) };
            self.steps.extend(why.map(|why| format!("{protocol} {number} of Service {service} does not count: {why}")));
        }
        self.die(TraceVerdict::Drop, DropReason::EchoWithoutEndpoint);
    }

    /// An ICMP error about a packet. `tuple` has the addresses of the error alone.
    pub(super) fn error(&mut self, view: &View<'_>, tuple: &FiveTuple, quoted: &FiveTuple, flow: Option<&Flow>) {
        let (to, sender) = (tuple.destination_address(), quoted.source_address());
        let is_own = view.network.is_none_or(|network| network.is_local(to));
        if let Some(flow) = flow.filter(|flow| is_own && is_inside(flow, quoted)) {
            self.tunnel_error(flow);
            return;
        }
        let flow = flow.filter(|_| to == sender);
        if to != sender {
            self.steps.push(format!("The quoted packet is from {sender}, and an error goes to whoever sent that."));
        }
        let Some(flow) = flow else {
            self.steps.push(format!("No flow is known that has sent {quoted}."));
            if self.is_ours(view, tuple, Class::Error) {
                self.die(TraceVerdict::Drop, DropReason::IcmpWithoutFlow);
            }
            return;
        };
        let (original, reply) = (flow.original(), flow.reply());
        let (client, endpoint) = (original.source_address(), reply.source_address());
        self.verdict = TraceVerdict::Forward;
        let is_clients = original != quoted.reversed();
        self.steps.push(match (is_clients, flow.forwarding().is_dsr()) {
            (true, _) => format!("It is about what the flow of {original} sent to its endpoint {endpoint}: it goes to the client {client}, about the packet that it sent."),
            (false, false) => format!("It is about what {endpoint} sent to the client of the flow of {original}: it goes to {endpoint}, about the packet that it sent."),
            (false, true) => format!("It is about what {endpoint} sent to the client of the flow of {original} in the address's name: it goes to {endpoint} as it is, by {}.", flow.forwarding().label()),
        });
        self.steps.push(only_if_believed());
    }

    /// An ICMP error about an outer packet, with one of the flow's inside.
    fn tunnel_error(&mut self, flow: &Flow) {
        let (original, endpoint) = (flow.original(), flow.reply().source_address());
        let client = original.source_address();
        self.verdict = TraceVerdict::Forward;
        self.steps.push(format!(
            "It is about a packet inside which one of the flow of {original} went to its endpoint {endpoint} ({}).",
            flow.forwarding().label()
        ));
        self.steps.push(format!("So the client {client} is told about the packet that it sent: how large one may be, the outer header taken off, or that the host is unreachable."));
        self.steps.push(
            "Only if it quotes the ports inside and what stands behind them (8 bytes); what quotes less is the kernel's."
                .into(),
        );
        self.steps.push(only_if_believed());
    }

    /// Whether a packet without ports is not the kernel's; says why where it is, or where it ends at once.
    fn is_ours(&mut self, view: &View<'_>, tuple: &FiveTuple, class: Class) -> bool {
        let address = tuple.destination_address();
        match without_frontend(view.services, address) {
            Decision::Pass => {
                self.steps.push(match view.services.vips.get(&address) {
                    Some(_) => format!("{address} is a Service's address but also this node's own."),
                    None => format!("No Service has {address}."),
                });
                self.pass(view, tuple);
                return false;
            }
            Decision::Drop(reason, _) => {
                self.die(TraceVerdict::Drop, reason);
                return false;
            }
            _ => self.steps.push(format!("{address} is a Service's address.")),
        }
        may_be_of_a_router(tuple, class) || !self.object(view, tuple)
    }
}

/// Whether the quoted packet is one that the flow sends to its endpoint inside another.
fn is_inside(flow: &Flow, quoted: &FiveTuple) -> bool {
    flow.forwarding() == ForwardingMode::DsrIpip && flow.original() == *quoted
}

fn only_if_believed() -> String {
    format!(
        "Only if it quotes a number that the flow may have used lately (TCP, SCTP); any other is dropped ({}).",
        DropReason::IcmpOutsideWindow.label()
    )
}
