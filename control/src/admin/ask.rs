//! Asking the workers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_dataplane::clock::Time;
use ringway_dataplane::config::port_share;
use ringway_dataplane::flow::{Flow, NewFlow, OpenError, Prospect};
use ringway_dataplane::handover::Mesh;
use ringway_dataplane::query::{Queries, Query};
use ringway_shared::{FiveTuple, PortSet, Protocol, Services};
use tokio::sync::Mutex;

use crate::report::flows::{FlowFilter, FlowReport, FlowsReport};
use crate::report::ports::{Frontends, PortUses};
use crate::report::worker::WorkerView;

/// Endpoints that are named as those of flows that come from one port.
const HOLDERS: usize = 100;
/// How long a worker may take for one answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one scan of all tables may take.
const SCAN: Duration = Duration::from_secs(5);

/// Asks workers, one question at a time each.
pub(super) struct Asker {
    workers: Vec<(u16, Mutex<Arc<Queries>>)>,
    mesh: Arc<Mesh>,
}

impl Asker {
    pub(super) fn new(workers: &[WorkerView], mesh: Arc<Mesh>) -> Self {
        let workers = workers.iter().map(|worker| (worker.id, Mutex::new(worker.queries.clone()))).collect();
        Asker { workers, mesh }
    }

    /// The answer of one worker; `None` when it does not answer.
    async fn ask(&self, worker: u16, queries: &Queries, query: Query) -> Option<Box<Query>> {
        // An answer that came too late for its question.
        while queries.answer().is_some() {}
        queries.ask(Box::new(query)).ok()?;
        let began = Instant::now();
        let mut pause = Duration::from_micros(50);
        while began.elapsed() < PATIENCE {
            if let Some(waker) = self.mesh.waker(worker) {
                waker.wake();
            }
            if let Some(answer) = queries.answer() {
                return Some(answer);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(5));
        }
        tracing::warn!("worker {worker} does not answer");
        None
    }

    /// The flow that a packet belongs to, with its worker and that worker's time.
    pub(super) async fn lookup(&self, tuple: FiveTuple) -> Option<(u16, Flow, Time)> {
        for (id, queries) in &self.workers {
            let queries = queries.lock().await;
            let answer = self.ask(*id, &queries, Query::lookup(tuple)).await;
            if let Some(Query::Lookup { found: Some((flow, _)), now, .. }) = answer.as_deref() {
                return Some((*id, *flow, *now));
            }
        }
        None
    }

    /// What each worker would make of a new flow; `None` when one does not answer.
    pub(super) async fn prospects(
        &self,
        new: NewFlow,
        addresses: &[IpAddr],
        services: &Arc<Services>,
    ) -> Option<Vec<(u16, Result<Prospect, OpenError>)>> {
        let mut all = Vec::new();
        for (id, queries) in &self.workers {
            let queries = queries.lock().await;
            let query = Query::prospect(new, addresses.to_vec(), services.clone());
            let answer = self.ask(*id, &queries, query).await;
            let Some(Query::Prospect { found: Some(found), .. }) = answer.as_deref() else { return None };
            all.push((*id, *found));
        }
        Some(all)
    }

    /// The SNAT ports in use, of these. A worker that does not answer is left out.
    pub(super) async fn ports(&self, ports: PortSet, frontends: Frontends) -> PortUses {
        let workers = self.workers.len() as u16;
        let shares: Vec<_> = self.workers.iter().map(|(id, _)| port_share(&ports, *id, workers)).collect();
        let (mut all, began) = (PortUses::of(ports, frontends), Instant::now());
        for ((id, queries), share) in self.workers.iter().zip(shares) {
            let share = share.unwrap_or_default();
            let mut next = Some(0);
            while let Some(from) = next.filter(|_| began.elapsed() < SCAN) {
                let queries = queries.lock().await;
                let Some(answer) = self.ask(*id, &queries, Query::ports(from)).await else { break };
                let Query::Ports { cursor, uses, certain, capacity } = *answer else { break };
                all.note_table(*id, certain, capacity);
                uses.iter().for_each(|port_use| all.add(port_use, &share));
                next = cursor;
            }
        }
        all
    }

    /// The endpoints of flows that come from this port, as far as they are found in time.
    pub(super) async fn holders(&self, protocol: Protocol, source: SocketAddr) -> Vec<SocketAddr> {
        let (mut found, began) = (BTreeSet::new(), Instant::now());
        for (id, queries) in &self.workers {
            let mut next = Some(0);
            while let Some(from) = next {
                let queries = queries.lock().await;
                let Some(answer) = self.ask(*id, &queries, Query::scan(from)).await else { break };
                let Query::Scan { cursor, flows, .. } = *answer else { break };
                next = cursor;
                for reply in flows.iter().filter(|flow| flow.masquerade()).map(Flow::reply) {
                    let at = SocketAddr::new(reply.destination_address(), reply.destination_port());
                    if at == source && reply.protocol() == protocol {
                        found.insert(SocketAddr::new(reply.source_address(), reply.source_port()));
                    }
                }
                if began.elapsed() > SCAN || found.len() >= HOLDERS {
                    return found.into_iter().collect();
                }
            }
        }
        found.into_iter().collect()
    }

    /// The flows that match. `total`: how many there are in all.
    pub(super) async fn flows(&self, filter: &FlowFilter, services: &Services, total: u64) -> FlowsReport {
        let (limit, began) = (filter.limit(), Instant::now());
        let mut report = FlowsReport { total, ..FlowsReport::default() };
        for (id, queries) in &self.workers {
            let queries = queries.lock().await;
            let mut next = Some(0);
            while let Some(from) = next {
                let Some(answer) = self.ask(*id, &queries, Query::scan(from)).await else {
                    report.truncated = true;
                    break;
                };
                let Query::Scan { cursor, flows, now } = *answer else { break };
                next = cursor;
                for flow in flows.iter().filter(|flow| filter.matches(flow, services)) {
                    if report.flows.len() == limit {
                        report.truncated = true;
                        return report;
                    }
                    report.flows.push(FlowReport::of(*id, flow, services, now));
                }
                if began.elapsed() > SCAN {
                    report.truncated = true;
                    return report;
                }
            }
        }
        report
    }
}
