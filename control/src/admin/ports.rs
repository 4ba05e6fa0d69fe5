//! The SNAT ports in use, asked of the workers every other second.

use std::sync::Arc;
use std::time::Duration;

use ringway_dataplane::trace::{Question, Trace};

use super::Admin;
use crate::report::ports::{PortUses, PortWarnings};
use crate::watch::heart;

/// How often the workers are asked.
const ASKED_EVERY: Duration = Duration::from_secs(2);

impl Admin {
    /// Keeps what is known of the SNAT ports fresh, and warns before none is left, until the task ends.
    pub(crate) async fn follow_ports(self: Arc<Self>) {
        let heart = heart("the use of SNAT ports");
        let mut warnings = PortWarnings::default();
        loop {
            let uses = Arc::new(heart.waiting(self.asker.ports(self.snat_ports())).await);
            warnings.due(&uses).iter().for_each(|warning| tracing::warn!("{warning}"));
            self.ports.send_replace(uses);
            heart.waiting(tokio::time::sleep(ASKED_EVERY)).await;
        }
    }

    /// How many SNAT ports there are.
    fn snat_ports(&self) -> u32 {
        self.loaded.borrow().config.snat.ports.len()
    }

    /// How many ports are left for the packet's flow, if it is masqueraded.
    pub(super) fn tell_ports(&self, trace: &mut Trace, question: &Question) {
        let chosen = trace.chosen.as_ref().filter(|_| trace.masquerade).and_then(|chosen| chosen.parse().ok());
        let said = chosen.and_then(|chosen| self.port_uses().sentence(question.tuple.protocol(), chosen));
        trace.steps.extend(said);
    }

    /// What was known of the SNAT ports last.
    pub(super) fn port_uses(&self) -> Arc<PortUses> {
        self.ports.borrow().clone()
    }
}
