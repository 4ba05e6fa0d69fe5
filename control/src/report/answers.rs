//! Which endpoints do not answer, as the workers saw it. Nobody is asked for it.
//!
//! An endpoint is told when so many first packets in a row failed and none was answered since, by any worker; it is well
//! again with its first answer, and forgotten when nobody has tried for a while. Silence of UDP is told only where some
//! endpoint of the service port does answer: who sends logs or measurements expects nothing back. A refusal is one anyway.

use std::cell::OnceCell;
use std::sync::Arc;

use ringway_shared::answers::{Answers, Silence};
use ringway_shared::counters::{BackendTally, WorkerCounters};
use ringway_shared::endpoint::Endpoint;
use ringway_shared::service::ServicePort;
use ringway_shared::suspects::Suspects;
use ringway_shared::{BackendId, Protocol};
use serde::{Deserialize, Serialize};

use crate::publish::Published;

/// First packets that must fail in a row.
const LEAST: u64 = 3;

/// Milliseconds after the last of them.
const FORGOTTEN: u32 = 600_000;

/// Endpoints that a report lists.
const LISTED: usize = 100;

/// What the reports ask.
pub struct AnswerView<'a> {
    /// The endpoints.
    pub published: &'a Published,
    /// The counters of all workers.
    pub counters: &'a [Arc<WorkerCounters>],
    /// Who seems to be dead; `None` while nobody is suspected of it.
    pub suspects: Option<&'a Suspects>,
    /// The workers' clock, in milliseconds.
    pub now: u32,
}

/// An endpoint that does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnansweringReport {
    /// `NAMESPACE/NAME`.
    pub service: String,
    /// `IP:PORT`.
    pub endpoint: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// First packets that failed in a row: SYNs, INITs, requests over UDP.
    pub failed: u64,
    /// Of these, refused by a RST, an ABORT, or an ICMP error.
    pub refused: u64,
    /// Seconds since the last of them.
    pub seconds: u64,
}

impl UnansweringReport {
    /// What failed.
    pub fn sentence(&self) -> String {
        let UnansweringReport { failed, refused, seconds, .. } = self;
        let what = if self.protocol == Protocol::Tcp.to_string() { "SYNs" } else { "requests" };
        let how = match (failed - refused, *refused) {
            (_, 0) => "unanswered".to_owned(),
            (0, _) => "refused".to_owned(),
            (unanswered, refused) => format!("failed: {unanswered} unanswered, {refused} refused"),
        };
        format!("{failed} of the last {failed} {what} {how}, the last {seconds} s ago")
    }
}

impl AnswerView<'_> {
    /// What a backend got, without what its number's former owners got.
    pub fn tally(&self, id: BackendId) -> BackendTally {
        let mut sum = BackendTally::default();
        self.counters.iter().for_each(|counters| sum.merge(counters.backend(id)));
        let before = self.published.baselines.get(&id).copied().unwrap_or_default();
        BackendTally {
            flows: sum.flows.saturating_sub(before.flows),
            packets: sum.packets.saturating_sub(before.packets),
            bytes: sum.bytes.saturating_sub(before.bytes),
            answers: sum.answers.since(&before.answers),
        }
    }

    /// What all endpoints of a service port answered.
    pub fn answers(&self, port: &ServicePort) -> Answers {
        let mut sum = Answers::default();
        port.endpoints.iter().for_each(|endpoint| sum.merge(&self.tally(endpoint.backend.id).answers));
        sum
    }

    /// Whether, and how, an endpoint does not answer. `answered` has what all endpoints of its service port answered once
    /// one of them had to ask: the same for all of them.
    pub fn unanswering(
        &self,
        port: &ServicePort,
        endpoint: &Endpoint,
        answered: &OnceCell<u64>,
    ) -> Option<UnansweringReport> {
        let id = endpoint.backend.id;
        let Silence { failed, refused, failed_at } = WorkerCounters::silence(self.counters, id);
        let age = self.now.wrapping_sub(failed_at);
        if failed < LEAST || (FORGOTTEN..u32::MAX / 2).contains(&age) {
            return None;
        }
        // The number may have had another owner.
        let own = self.tally(id).answers;
        let (failed, refused) = (failed.min(own.unanswered + own.refused), refused.min(own.refused));
        let answers_nothing = || *answered.get_or_init(|| self.answers(port).answered) == 0;
        if failed < LEAST || (port.protocol == Protocol::Udp && refused == 0 && answers_nothing()) {
            return None;
        }
        Some(UnansweringReport {
            service: port.service.to_string(),
            endpoint: endpoint.backend.socket().to_string(),
            protocol: port.protocol.to_string(),
            failed,
            refused,
            seconds: if age > u32::MAX / 2 { 0 } else { u64::from(age / 1000) },
        })
    }

    /// The endpoints that do not answer: the first of them, and how many there are.
    pub fn all_unanswering(&self) -> (Vec<UnansweringReport>, usize) {
        let ports = self.published.snapshot.services.service_ports.iter().flatten();
        let (mut listed, mut count) = (Vec::new(), 0);
        for port in ports {
            let answered = OnceCell::new();
            for report in port.endpoints.iter().filter_map(|endpoint| self.unanswering(port, endpoint, &answered)) {
                count += 1;
                if listed.len() < LISTED {
                    listed.push(report);
                }
            }
        }
        listed.sort_by(|a, b| (&a.service, &a.endpoint).cmp(&(&b.service, &b.endpoint)));
        (listed, count)
    }
}
