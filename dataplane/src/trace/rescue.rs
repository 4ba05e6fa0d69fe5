//! What an explanation says of endpoints that may be dead.

use ringway_shared::decision::Masquerade;
use ringway_shared::service::ServicePort;
use ringway_shared::suspects::{PROBE_EVERY, Suspicion, is_due};
use ringway_shared::{Backend, EndpointSet, Protocol};

use super::{Trace, View};
use crate::pipeline::rescue::next_endpoint;

impl Trace {
    /// Where the connection goes when the chosen endpoint is suspected of being dead, and where its client is moved when the
    /// endpoint does not answer.
    pub(super) fn beside_suspects<'s>(
        &mut self,
        view: &View<'_>,
        (port, masquerade): (&ServicePort, Masquerade),
        set: &'s EndpointSet,
        hash: u64,
        chosen: &'s Backend,
    ) -> &'s Backend {
        if !view.rescue || port.protocol == Protocol::Udp || masquerade == Masquerade::KeptForDsr {
            return chosen;
        }
        let now = view.suspects.map_or(0, |(_, now)| now.millis());
        let suspicion = |backend: &Backend| view.suspects.and_then(|(suspects, _)| suspects.suspicion(backend, now));
        let trusted = |backend: &Backend| suspicion(backend).is_none();
        let present = |backend: &Backend| (backend.address, backend.port);
        let mut goes_to = chosen;
        if let Some(suspicion) = suspicion(chosen) {
            let other = next_endpoint(set, hash, present(chosen), trusted, view.network);
            goes_to = other.filter(|_| !is_due(suspicion.probe, now)).unwrap_or(chosen);
            self.steps.push(suspected(chosen, &suspicion, now, other, goes_to));
        }
        let next = next_endpoint(set, hash, present(goes_to), trusted, view.network);
        self.rescue = next.map(|next| next.socket().to_string());
        if let Some(next) = next.filter(|_| view.suspects.is_some()) {
            let first = if port.protocol == Protocol::Tcp { "SYN" } else { "INIT" };
            let (goes_to, next) = (goes_to.socket(), next.socket());
            self.steps.push(format!("Should {goes_to} not answer, the client's repeated {first} goes to {next}."));
        }
        goes_to
    }
}

/// That an endpoint is suspected, and what follows.
fn suspected(chosen: &Backend, suspicion: &Suspicion, now: u32, other: Option<&Backend>, goes_to: &Backend) -> String {
    let (seconds, connections) = (now.wrapping_sub(suspicion.since) / 1000, suspicion.connections);
    let what = match other {
        None => "so are all others that have a way, so it is taken all the same".to_owned(),
        Some(_) if goes_to == chosen => "this connection goes there as a probe".to_owned(),
        Some(_) => format!("this connection goes to {}, the next in the table", goes_to.socket()),
    };
    format!(
        "{} is suspected of being dead: for {seconds} s it has answered nobody, and others completed {connections} \
         connections that it left unanswered. It gets probes only, one new connection in {} s; {what}.",
        chosen.socket(),
        PROBE_EVERY / 1000,
    )
}
