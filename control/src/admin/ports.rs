//! The SNAT ports in use, asked of the workers every other second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringway_dataplane::flow::{NewFlow, OpenError, Prospect, Segment, Source};
use ringway_dataplane::trace::{Question, Trace, View, explain_with};
use ringway_dataplane::wire::tcp::Flags;
use ringway_shared::service::ForwardingMode;
use ringway_shared::snapshot::Services;
use ringway_shared::{BackendId, Protocol, ServicePortId};

use super::Admin;
use crate::report::ports::{Frontends, PortUses, Warnings};
use crate::report::services::ServicesReport;
use crate::report::shared_ports::{SnatSources, sentence};
use crate::watch::heart;

/// How often flows are looked through for one request.
pub(super) const LOOKS: usize = 3;
/// How often the workers are asked.
const ASKED_EVERY: Duration = Duration::from_secs(2);

impl Admin {
    /// Keeps what is known of the SNAT ports fresh, and warns before none is left, until the task ends.
    pub(crate) async fn follow_ports(self: Arc<Self>) {
        let heart = heart("the use of SNAT ports");
        let mut warnings = Warnings::default();
        loop {
            let ports = self.loaded.borrow().config.snat.ports.clone();
            let frontends = Frontends::of(&self.published().snapshot.services, &ports);
            let uses = Arc::new(heart.waiting(self.asker.ports(ports, frontends)).await);
            warnings.due(&uses).iter().for_each(|warning| tracing::warn!("{warning}"));
            self.ports.send_replace(uses);
            heart.waiting(tokio::time::sleep(ASKED_EVERY)).await;
        }
    }

    /// What becomes of the flow that a connection would open, and how many ports are left for it, if it is masqueraded. `known`:
    /// the packet belongs to a flow that there is.
    pub(super) async fn tell_opening(
        &self,
        trace: &mut Trace,
        question: &Question,
        view: &View<'_>,
        (known, services): (bool, &Arc<Services>),
    ) {
        let tuple = &question.tuple;
        let mut prospects = if known { None } else { self.prospects(trace, question, view, services).await };
        let is_refused = prospects.as_ref().is_some_and(|found| trace.objection(tuple, found).is_some());
        if is_refused && view.rescue {
            // As the packet path: who would go beside a suspect goes to the suspect then.
            let mut other = explain_with(&View { rescue: false, ..*view }, question, None);
            if other.chosen.is_some() && other.chosen != trace.chosen {
                other
                    .steps
                    .push("It is suspected of being dead, but for the next in the table no flow can be opened.".into());
                prospects = self.prospects(&other, question, view, services).await;
                *trace = other;
            }
        }
        let chosen = trace.chosen.as_ref().filter(|_| trace.masquerade).and_then(|chosen| chosen.parse().ok());
        let said = chosen.and_then(|chosen| self.port_uses().sentence(tuple.protocol(), chosen));
        trace.steps.extend(said);
        trace.tell_prospects(tuple, &prospects.unwrap_or_default());
    }

    /// What the workers say of the flow that the connection would open; nothing where its endpoint answers the client itself,
    /// which goes without a flow as well.
    async fn prospects(
        &self,
        trace: &Trace,
        question: &Question,
        view: &View<'_>,
        services: &Arc<Services>,
    ) -> Option<Vec<(u16, Result<Prospect, OpenError>)>> {
        let is_nat = trace.forwarding.as_deref() == Some(ForwardingMode::Nat.label());
        let chosen: SocketAddr = trace.chosen.as_ref().filter(|_| is_nat)?.parse().ok()?;
        let mut addresses = view.snat_addresses.iter().filter(|address| address.is_ipv4() == chosen.is_ipv4());
        let source = match trace.masquerade {
            true => Source::Masquerade(trace.snat_address.or(addresses.next().copied())?),
            false => Source::Kept,
        };
        let begins = question.tuple.protocol() == Protocol::Tcp;
        let flags = Flags(if begins { Flags::SYN } else { 0 });
        let new = NewFlow {
            original: question.tuple,
            segment: Segment { flags, ..Segment::default() },
            endpoint: chosen.ip(),
            endpoint_port: chosen.port(),
            source,
            service_port: ServicePortId(0),
            backend: BackendId(0),
        };
        self.asker.prospects(new, view.snat_addresses, services).await
    }

    /// That masqueraded flows have the frontend's port. `looks`: how often flows may still be looked through for that.
    async fn shared(&self, protocol: Protocol, at: SocketAddr, looks: &mut usize) -> Option<String> {
        let (published, config) = (self.published(), self.loaded.borrow().config.clone());
        let (ports, addresses) = (&config.snat.ports, &config.snat.addresses[..]);
        let sources = SnatSources { ports, addresses, network: &published.snapshot.network };
        if !sources.include(at) {
            return None;
        }
        *looks = looks.checked_sub(1)?;
        sentence(protocol, at, &self.asker.holders(protocol, at).await)
    }

    /// The same of a packet to one.
    pub(super) async fn tell_shared(&self, trace: &mut Trace, question: &Question, looks: &mut usize) {
        let tuple = &question.tuple;
        let at = SocketAddr::new(tuple.destination_address(), tuple.destination_port());
        if trace.service.is_some() {
            trace.steps.extend(self.shared(tuple.protocol(), at, looks).await);
        }
    }

    /// The same of all addresses in a report about Services.
    pub(super) async fn note_shared(&self, report: &mut ServicesReport) {
        let mut looks = LOOKS;
        for port in report.services.iter_mut().flat_map(|service| &mut service.ports) {
            let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
            let Some(protocol) = protocols.into_iter().find(|one| one.to_string() == port.protocol) else { continue };
            for address in &mut port.addresses {
                if let Ok(at) = address.address.parse() {
                    address.note = self.shared(protocol, at, &mut looks).await;
                }
            }
        }
    }

    /// What was known of the SNAT ports last.
    pub(super) fn port_uses(&self) -> Arc<PortUses> {
        self.ports.borrow().clone()
    }
}
