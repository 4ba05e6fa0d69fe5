//! Why a packet goes where it goes, in words: the explanation behind `ringway trace`.
//!
//! Everything that decides is asked from the same functions as the packet path ([`decide`], [`selection_hash`],
//! [`masquerade_for`], the network's `resolve` and `source_address`), so an explanation cannot differ from what happens.
//! Each packet is taken as a new connection on its own; nothing is changed, and no flow is looked up.

mod answer;
mod portless;
mod prospect;
mod question;
mod rescue;
mod steps;

use std::net::{IpAddr, SocketAddr};

use ringway_shared::decision::{self, Decision, Masquerade, decide, masquerade_for, selection_hash};
use ringway_shared::endpoint::Exclusion;
use ringway_shared::network::{Heading, NoAdjacency};
use ringway_shared::policy::TrafficPolicy;
use ringway_shared::service::ForwardingMode;
use ringway_shared::snapshot::{Services, Target};
use ringway_shared::suspects::Suspects;
use ringway_shared::{Backend, DropReason, EndpointSet, Family, FiveTuple, Network};

use crate::affinity::{self, Affinities};
use crate::clock::Time;
use crate::flow::Flow;
use crate::wire;
pub use answer::{Excluded, Exit, Slot, Trace, TraceVerdict};
pub use prospect::Prospects;
pub use question::{Asked, DEFAULT_SOURCE_PORT, NoPacket, Question};

/// What an explanation is built from.
#[derive(Clone, Copy)]
pub struct View<'s> {
    /// The Services.
    pub services: &'s Services,
    /// Interfaces, routes and neighbours; `None` when nothing is known about them, and then nothing is said.
    pub network: Option<&'s Network>,
    /// `snat.addresses`.
    pub snat_addresses: &'s [IpAddr],
    /// Which endpoints clients have had until now, of an instance that runs.
    pub affinities: Option<(&'s Affinities, Time)>,
    /// `flows.synRescue`.
    pub rescue: bool,
    /// Which backends seem to be dead, of an instance that runs.
    pub suspects: Option<(&'s Suspects, Time)>,
}

/// Explains what a new connection of this packet gets, or what becomes of a ping or an ICMP error.
pub fn explain(view: &View<'_>, question: &Question) -> Trace {
    explain_with(view, question, None)
}

/// The same, of an instance that runs. `flow`: the one that [`Question::flow_tuple`] leads to; only an error asks for it.
pub fn explain_with(view: &View<'_>, question: &Question, flow: Option<&Flow>) -> Trace {
    let mut trace = Trace::new(&question.text);
    let tuple = &question.tuple;
    match question.kind {
        Asked::Connection => {}
        Asked::Ping => {
            trace.ping(view, tuple);
            return trace;
        }
        Asked::Error(quoted) => {
            trace.error(view, tuple, &quoted, flow);
            return trace;
        }
    }
    let decision = decide(view.services, tuple);
    let target = match decision {
        Decision::Pass => {
            trace.steps.push(steps::no_frontend(view.services, tuple));
            trace.pass(view, tuple);
            return trace;
        }
        Decision::Drop(_, target) | Decision::Reject(_, target) => target,
        Decision::Forward { target, .. } => Some(target),
    };
    trace.matched(view, tuple, target);
    if trace.object(view, tuple) {
        return trace;
    }
    match decision {
        Decision::Pass => {}
        Decision::Drop(reason, target) => {
            trace.without_endpoint(view, tuple, target, reason);
            trace.die(TraceVerdict::Drop, reason);
        }
        Decision::Reject(reason, target) => {
            trace.without_endpoint(view, tuple, target, reason);
            trace.die(TraceVerdict::Reject, reason);
        }
        Decision::Forward { .. }
            if view.network.is_some_and(|network| network.is_broadcast(tuple.source_address())) =>
        {
            trace.die(TraceVerdict::Drop, DropReason::ImpossibleSource);
        }
        Decision::Forward { target, set, policy, masquerade } => {
            trace.forward(view, tuple, target, set, policy, masquerade);
        }
    }
    trace
}

impl Trace {
    fn new(packet: &str) -> Self {
        Trace {
            packet: packet.to_owned(),
            verdict: TraceVerdict::Pass,
            reason: None,
            service: None,
            service_port: None,
            matched: None,
            eligible: Vec::new(),
            chosen: None,
            masquerade: false,
            forwarding: None,
            policy: None,
            excluded: Vec::new(),
            maglev: None,
            snat_address: None,
            adjacency: None,
            rescue: None,
            steps: Vec::new(),
        }
    }

    /// The first step: what the destination is.
    fn matched(&mut self, view: &View<'_>, tuple: &FiveTuple, target: Option<&Target>) {
        let Some(target) = target else {
            self.steps.push(steps::no_frontend(view.services, tuple));
            return;
        };
        self.service = Some(target.service_port.service.to_string());
        self.service_port = Some(target.service_port.port_name.to_string());
        self.matched = Some(target.matched.label().into());
        self.steps.push(steps::frontend(target, tuple));
        self.steps.push(steps::source(view.services, tuple.source_address()));
        if let Some(policy) = steps::policy(view.services, target, tuple.source_address()) {
            self.steps.push(policy);
        }
    }

    /// Why each endpoint is not eligible, when that is why the packet is not forwarded.
    fn without_endpoint(&mut self, view: &View<'_>, tuple: &FiveTuple, target: Option<&Target>, reason: DropReason) {
        let Some(target) = target else { return };
        let port = &target.service_port;
        if reason == DropReason::SourceNotAllowed {
            self.steps.extend(steps::ranges(port, tuple.source_address()));
            return;
        }
        let (policy, _) = decision::policy(view.services, target.matched, port, tuple.source_address());
        self.exclude(view, target, policy);
        if self.excluded.is_empty() {
            self.steps.push("No EndpointSlice names an endpoint for this port.".into());
        } else {
            self.policy = Some(policy.label().into());
        }
    }

    /// The packet ends here.
    fn die(&mut self, verdict: TraceVerdict, reason: DropReason) {
        self.verdict = verdict;
        self.reason = Some(reason.label().into());
        self.eligible.clear();
        self.chosen = None;
        self.masquerade = false;
        self.forwarding = None;
        self.maglev = None;
        self.snat_address = None;
        self.adjacency = None;
        self.rescue = None;
        let fate = if verdict == TraceVerdict::Reject { "Rejected" } else { "Dropped" };
        self.steps.push(format!("{fate}, {}: {}", reason.label(), reason.sentence()));
    }

    fn forward(
        &mut self,
        view: &View<'_>,
        tuple: &FiveTuple,
        target: &Target,
        set: &EndpointSet,
        policy: TrafficPolicy,
        masquerade: Masquerade,
    ) {
        self.verdict = TraceVerdict::Forward;
        self.policy = Some(policy.label().into());
        self.eligible = set.backends().iter().map(|backend| backend.socket().to_string()).collect();
        self.eligible.sort();
        self.steps.push(steps::eligible(target, set));
        self.exclude(view, target, policy);
        let hash = selection_hash(tuple, &target.service_port);
        let kept = target
            .service_port
            .affinity
            .as_ref()
            .zip(view.affinities)
            .and_then(|(affinity, (known, now))| known.find(affinity, tuple.source_address(), set, hash, now));
        let chosen = kept.or_else(|| match target.service_port.affinity {
            None => set.select(hash),
            Some(_) => affinity::first(set, hash),
        });
        let Some(chosen) = chosen else {
            // Only an empty set chooses nothing, and `decide` forwards to none.
            self.die(TraceVerdict::Drop, DropReason::NoEndpoint);
            return;
        };
        if kept.is_some() {
            self.steps.push(steps::kept(&target.service_port, tuple.source_address(), chosen));
        } else {
            let slot = Slot { slot: set.table().slot(hash), slots: set.table().slots() };
            self.maglev = Some(slot);
            self.steps.push(steps::choice(&target.service_port, slot, chosen));
        }
        let chosen = self.beside_suspects(view, (&target.service_port, masquerade), set, hash, chosen);
        self.chosen = Some(chosen.socket().to_string());
        let masquerade = masquerade_for(masquerade, tuple.source_address(), chosen);
        self.masquerade = masquerade.is_due();
        self.steps.push(steps::sentence(masquerade.sentence()));
        let forwarding = target.service_port.forwarding_of(target.matched);
        self.forwarding = Some(forwarding.label().to_owned());
        if let Some(network) = view.network {
            self.leave(view, network, tuple, (forwarding, chosen));
        } else {
            self.steps.extend(steps::forwarding(forwarding, chosen.address, None));
        }
    }

    /// Which endpoints are not eligible, and why.
    fn exclude(&mut self, view: &View<'_>, target: &Target, policy: TrafficPolicy) {
        let port = &target.service_port;
        let excluded = |socket: SocketAddr, slice: &str, why: &Exclusion| Excluded {
            endpoint: socket.to_string(),
            slice: slice.to_owned(),
            rule: why.rule(policy),
            why: why.to_string(),
        };
        let own = port.endpoints.iter().filter_map(|endpoint| {
            let why = match policy {
                TrafficPolicy::Cluster => endpoint.excluded_from_cluster.as_ref(),
                TrafficPolicy::Local => endpoint.excluded_from_local.as_ref(),
            };
            Some(excluded(endpoint.backend.socket(), &endpoint.slice, why?))
        });
        let foreign = |socket: SocketAddr| Exclusion::OtherFamily(Family::of(socket.ip()));
        let unserved = port.other_family.iter().map(|of| excluded(of.socket, &of.slice, &foreign(of.socket)));
        let sibling = view.services.other_family(port).into_iter().flat_map(|port| port.endpoints.iter());
        let sibling = sibling.map(|e| excluded(e.backend.socket(), &e.slice, &foreign(e.backend.socket())));
        self.excluded = own.chain(unserved).chain(sibling).collect();
        let said = |other: &Excluded| {
            let Excluded { endpoint, slice, rule, why } = other;
            format!("{endpoint} of EndpointSlice {slice} is not eligible: {why} (rule {rule}).")
        };
        self.steps.extend(self.excluded.iter().map(said));
    }

    /// The last steps: the SNAT address and the way out, either of which may be missing.
    fn leave(
        &mut self,
        view: &View<'_>,
        network: &Network,
        tuple: &FiveTuple,
        (forwarding, chosen): (ForwardingMode, &Backend),
    ) {
        let client = tuple.source_address();
        // Nobody said by which interface it arrives: by the one that leads back.
        let arrived = network.next_hops(client).next().map(|(interface, _)| interface);
        let hash = tuple.maglev_hash();
        let heading = match forwarding {
            // The outer packet comes from here.
            ForwardingMode::DsrIpip => Heading { hash, ..Heading::to(chosen.address) },
            _ => Heading { destination: chosen.address, source: Some(client), arrived, hash },
        };
        // As the packet path does where one of several ways does not answer.
        let way = network.resolve_for(&heading).or_else(|none| network.resolve_beside(&heading).ok_or(none));
        let way = network.suits(chosen.address, forwarding, way);
        if let Err(error) = &way
            && !matches!(error, NoAdjacency::Unresolved { .. })
        {
            self.steps.push(steps::no_way(network, chosen.address, error));
            self.die(TraceVerdict::Drop, error.reason());
            return;
        }
        if self.masquerade {
            let addresses = snat_addresses(view.snat_addresses, network, &heading);
            if addresses.is_empty() {
                self.die(TraceVerdict::Drop, DropReason::NoSourceAddress);
                return;
            }
            self.steps.push(steps::snat(&addresses));
            if let [only] = addresses[..] {
                self.snat_address = Some(only);
            }
        }
        if forwarding.is_dsr() {
            let source = network.source_address_for(&heading);
            if forwarding == ForwardingMode::DsrIpip && source.is_none() {
                self.die(TraceVerdict::Drop, DropReason::NoSourceAddress);
                return;
            }
            self.steps.extend(steps::forwarding(forwarding, chosen.address, source));
        }
        let adjacency = match way {
            Ok(id) => network.adjacency(id),
            Err(error) => {
                self.steps.push(steps::no_way(network, chosen.address, &error));
                self.die(TraceVerdict::Drop, error.reason());
                return;
            }
        };
        let Some(adjacency) = adjacency else { return };
        let Some(interface) = network.interface(adjacency.out) else { return };
        let exit = Exit {
            interface: interface.name.to_string(),
            next_hop_mac: adjacency.destination_mac.to_string(),
            mtu: adjacency.mtu,
        };
        self.steps.push(steps::leaves(&exit, interface.mtu));
        self.adjacency = Some(exit);
    }

    /// The kernel gets it, but for what an interface refuses.
    fn pass(&mut self, view: &View<'_>, tuple: &FiveTuple) {
        self.steps.push("The kernel gets it untouched.".into());
        let source = tuple.source_address();
        self.steps.extend(view.network.into_iter().flat_map(|network| steps::reverse_paths(network, source)));
    }

    /// Ends packets for us that cannot be genuine, whatever the Service rules say; true when this is one.
    fn object(&mut self, view: &View<'_>, tuple: &FiveTuple) -> bool {
        let broadcast = view.network.is_some_and(|network| network.is_broadcast(tuple.source_address()));
        let source = tuple.source_address();
        let own = view.network.is_some_and(|network| network.is_local(source));
        let reason = wire::objection_to(tuple).or((broadcast || own).then_some(DropReason::ImpossibleSource));
        let Some(reason) = reason else {
            self.steps.extend(view.network.into_iter().flat_map(|network| steps::reverse_paths(network, source)));
            return false;
        };
        if source.is_loopback() || (own && reason == DropReason::ImpossibleSource) {
            // The node's own processes use loopback sources, and the Service rules have an answer for them; on the wire
            // nobody has.
            self.steps.push(format!(
                "On the wire such a source is dropped ({}); inside the node it is genuine.",
                reason.label()
            ));
            return false;
        }
        self.die(TraceVerdict::Drop, reason);
        true
    }
}

/// The source addresses that a masqueraded flow to `endpoint` may get: the configured ones of its family, of which the
/// flow's hash picks one, else the one that Linux would choose on the way.
fn snat_addresses(configured: &[IpAddr], network: &Network, heading: &Heading) -> Vec<IpAddr> {
    let family = Family::of(heading.destination);
    let usable: Vec<IpAddr> = configured.iter().copied().filter(|address| Family::of(*address) == family).collect();
    if usable.is_empty() { network.source_address_for(heading).into_iter().collect() } else { usable }
}

/// The drop that an unreachable endpoint means, for callers that only ask whether there is a way.
pub fn unreachable(network: &Network, endpoint: IpAddr, forwarding: ForwardingMode) -> Option<(NoAdjacency, String)> {
    let error = network.unreachable(endpoint, forwarding)?;
    let said = steps::no_way(network, endpoint, &error);
    Some((error, said))
}

#[cfg(test)]
mod tests;
