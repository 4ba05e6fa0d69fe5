//! The SNAT ports in use, asked of the workers every other second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringway_dataplane::trace::{Question, Trace};
use ringway_shared::Protocol;

use super::Admin;
use crate::report::ports::{Frontends, PortUses, PortWarnings};
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
        let mut warnings = PortWarnings::default();
        loop {
            let ports = self.loaded.borrow().config.snat.ports.clone();
            let frontends = Frontends::of(&self.published().snapshot.services, &ports);
            let uses = Arc::new(heart.waiting(self.asker.ports(ports, frontends)).await);
            warnings.due(&uses).iter().for_each(|warning| tracing::warn!("{warning}"));
            self.ports.send_replace(uses);
            heart.waiting(tokio::time::sleep(ASKED_EVERY)).await;
        }
    }

    /// How many ports are left for the packet's flow, if it is masqueraded.
    pub(super) fn tell_ports(&self, trace: &mut Trace, question: &Question) {
        let chosen = trace.chosen.as_ref().filter(|_| trace.masquerade).and_then(|chosen| chosen.parse().ok());
        let said = chosen.and_then(|chosen| self.port_uses().sentence(question.tuple.protocol(), chosen));
        trace.steps.extend(said);
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
