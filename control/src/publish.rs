//! From changes to snapshots in force on every worker.
//!
//! Objects or the network changed: compile (only what depends on it), tell the steering program about what is new, hand
//! the snapshot to the workers, wait until all of them use it, then take out of the steering program what is not needed
//! any more and free the older snapshots. A single change starts at once; a storm of changes is taken together.

mod sets;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_shared::counters::{BackendTally, WorkerCounters};
use ringway_shared::handoff::Publisher;
use ringway_shared::snapshot::{Generation, Services};
use ringway_shared::{BackendId, Snapshot};
use tokio::sync::{oneshot, watch};

use crate::cluster::ClusterState;
use crate::compile::{CompileOptions, Compiled, HealthCheck, Ids, compile};
use crate::network::NetworkWatch;
use crate::pace::Pace;
use crate::problem::Problem;
pub use sets::SteeringSets;

/// How long the workers may take for an acknowledgement before a word is said about it. Idle ones are woken.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// The steering program's maps.
pub trait Steering: Send + 'static {
    /// Makes everything in `sets` be sent up, and whatever was so far.
    fn add_missing(&mut self, sets: &SteeringSets) -> Result<(), String>;

    /// Stops sending up what is not in `sets`.
    fn remove_stale(&mut self, sets: &SteeringSets) -> Result<(), String>;
}

/// Settings that do not change while the process runs.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// What compile needs besides the objects.
    pub compile: CompileOptions,
    /// `snat.addresses`.
    pub snat_addresses: Vec<IpAddr>,
    /// `snat.ports`.
    pub snat_ports: std::ops::RangeInclusive<u16>,
}

/// What is in force, for whoever reports on it.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The newest snapshot.
    pub snapshot: Snapshot,
    /// The objects it was compiled from.
    pub cluster: Arc<ClusterState>,
    /// What compile did not like, beyond the cluster's own problems.
    pub problems: Arc<[Problem]>,
    /// The healthCheckNodePorts.
    pub health_checks: Arc<[HealthCheck]>,
    /// The steering program's entries.
    pub steering: SteeringCounts,
    /// Why the steering program does not hold all of them.
    pub steering_problem: Option<String>,
    /// Whether all workers use this snapshot.
    pub in_force: bool,
    /// Whether all workers ever used a snapshot: the first full list is in force.
    pub ready: bool,
    /// The generation that each worker uses.
    pub acks: Vec<u64>,
    /// How long it took from the start of the compilation until every worker used it.
    pub took: Option<Duration>,
    /// What reused backend numbers had counted for their former backends.
    pub baselines: Arc<HashMap<BackendId, BackendTally>>,
}

/// How many entries of each kind the steering program holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteeringCounts {
    /// (address, protocol, port).
    pub frontends: usize,
    /// VIPs.
    pub vips: usize,
    /// Service CIDRs.
    pub service_cidrs: usize,
    /// SNAT addresses.
    pub snat_addresses: usize,
    /// Endpoints of flows whose source is kept.
    pub endpoints: usize,
}

impl SteeringCounts {
    fn of(sets: &SteeringSets) -> Self {
        SteeringCounts {
            frontends: sets.frontends.len(),
            vips: sets.vips.len(),
            service_cidrs: sets.service_cidrs.len(),
            snat_addresses: sets.snat_addresses.len(),
            endpoints: sets.endpoints.len(),
        }
    }
}

/// The task that publishes.
pub struct Publication<S> {
    options: PublishOptions,
    cluster: watch::Receiver<Arc<ClusterState>>,
    network: NetworkWatch,
    steering: S,
    publisher: Publisher<Snapshot>,
    counters: Vec<Arc<WorkerCounters>>,
    wake: Box<dyn Fn() + Send>,
    // None after compile failed in a way that lost it: then what is in force stays.
    ids: Option<Ids>,
    // The objects that `services` was compiled from.
    compiled: Option<Arc<ClusterState>>,
    services: Arc<Services>,
    baselines: Arc<HashMap<BackendId, BackendTally>>,
    sets: SteeringSets,
    published: watch::Sender<Arc<Published>>,
}

impl<S: Steering> Publication<S> {
    /// `publisher` has handed nothing out yet but its first, empty snapshot. `wake` wakes the workers that sleep.
    pub fn new(
        options: PublishOptions,
        cluster: watch::Receiver<Arc<ClusterState>>,
        network: NetworkWatch,
        steering: S,
        publisher: Publisher<Snapshot>,
        counters: Vec<Arc<WorkerCounters>>,
        wake: Box<dyn Fn() + Send>,
    ) -> (Self, watch::Receiver<Arc<Published>>) {
        let (published, receiver) = watch::channel(Arc::default());
        let sets = SteeringSets::empty(options.snat_ports.clone());
        let publication = Publication {
            options,
            cluster,
            network,
            steering,
            publisher,
            counters,
            wake,
            ids: Some(Ids::new()),
            compiled: None,
            services: Arc::default(),
            baselines: Arc::default(),
            sets,
            published,
        };
        (publication, receiver)
    }

    /// Publishes now and whenever something changes, until `stop`. The steering program comes back.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) -> S {
        let mut pace = Pace::new();
        loop {
            let began = Instant::now();
            self.round(began).await;
            pace.done(began);
            let late = !self.published.borrow().in_force;
            let wait = async {
                tokio::select! {
                    changed = self.cluster.changed() => changed.is_ok(),
                    changed = self.network.latest.changed() => changed.is_ok(),
                }
            };
            tokio::select! {
                _ = &mut stop => return self.steering,
                go_on = wait => if !go_on {
                    tracing::error!("nobody watches the objects or the network any more; what is in force stays");
                    let _ = stop.await;
                    return self.steering;
                },
                // A worker was late: look again, whether or not anything else happens.
                () = tokio::time::sleep(ACK_TIMEOUT), if late => {
                    self.settle(began).await;
                    continue;
                }
            }
            tokio::time::sleep_until(pace.not_before().into()).await;
        }
    }

    /// Puts the newest of everything in force.
    async fn round(&mut self, began: Instant) {
        let cluster = self.cluster.borrow_and_update().clone();
        let network = self.network.latest.borrow_and_update().clone();
        let fallback = self.network.node_addresses.borrow_and_update().to_vec();
        let mut published = Published::clone(&self.published.borrow());
        let known = self.compiled.as_ref().is_some_and(|compiled| Arc::ptr_eq(compiled, &cluster));
        if !known || fallback != self.options.compile.fallback_addresses {
            self.options.compile.fallback_addresses = fallback;
            self.compiled = Some(cluster.clone());
            if let Some(compiled) = self.compile(cluster.clone()).await {
                self.note_new_backends(&compiled.new_backends);
                published.problems = compiled.problems;
                published.health_checks = compiled.health_checks;
                self.services = Arc::new(compiled.services);
                self.keep_endpoints();
            }
        }
        let generation = Generation(published.snapshot.generation.0 + 1);
        let snapshot = Snapshot { generation, services: self.services.clone(), network };
        self.sets = SteeringSets::of(&snapshot, &self.options.snat_addresses, self.options.snat_ports.clone());
        published.steering_problem = self.steering.add_missing(&self.sets).err();
        if let Some(problem) = &published.steering_problem {
            tracing::error!("steering: {problem}");
        }
        published.snapshot = snapshot.clone();
        published.cluster = cluster;
        published.steering = SteeringCounts::of(&self.sets);
        published.baselines = self.baselines.clone();
        (published.in_force, published.took) = (false, None);
        self.publisher.publish(snapshot);
        self.published.send_replace(Arc::new(published));
        self.settle(began).await;
    }

    /// Waits until all workers use the newest snapshot, and cleans up behind it.
    async fn settle(&mut self, began: Instant) {
        let mut published = Published::clone(&self.published.borrow());
        let generation = published.snapshot.generation.0;
        published.in_force = self.await_acks(generation).await;
        published.acks = self.publisher.acks().collect();
        if published.in_force && !published.ready {
            let services = &published.snapshot.services;
            let (frontends, vips) = (services.frontends.len(), services.vips.len());
            tracing::info!("ready: {frontends} frontends and {vips} VIPs are in force on all workers");
        }
        published.ready |= published.in_force;
        if published.in_force {
            published.took = Some(began.elapsed());
            // Only now no worker serves what is gone.
            if let Err(problem) = self.steering.remove_stale(&self.sets) {
                tracing::error!("steering: {problem}");
                published.steering_problem = Some(problem);
            }
            if let Some(ids) = &mut self.ids {
                ids.release(self.services.generation);
            }
            tracing::debug!(generation, took = ?began.elapsed(), "in force on all workers");
        }
        self.publisher.retire();
        self.published.send_replace(Arc::new(published));
    }

    /// Compiles without holding up the runtime's other tasks.
    async fn compile(&mut self, cluster: Arc<ClusterState>) -> Option<Compiled> {
        let (options, mut ids) = (self.options.compile.clone(), self.ids.take()?);
        let task = tokio::task::spawn_blocking(move || (compile(&cluster, &options, &mut ids), ids));
        match task.await {
            Ok((compiled, ids)) => {
                self.ids = Some(ids);
                Some(compiled)
            }
            Err(error) => {
                tracing::error!("compiling failed, and from now on what is in force stays; restart Ringway: {error}");
                None
            }
        }
    }

    /// Counters belong to numbers, and a number may have got a new backend.
    fn note_new_backends(&mut self, new: &[BackendId]) {
        let used = |id: &BackendId| {
            let mut sum = BackendTally::default();
            self.counters.iter().for_each(|counters| sum.merge(counters.backend(*id)));
            (sum != BackendTally::default()).then_some((*id, sum))
        };
        let reused: Vec<_> = new.iter().filter_map(used).collect();
        if !reused.is_empty() {
            Arc::make_mut(&mut self.baselines).extend(reused);
        }
    }

    /// The next hops of all endpoints are resolved ahead of traffic.
    fn keep_endpoints(&self) {
        let ports = self.services.service_ports.iter().flatten();
        let mut endpoints: Vec<IpAddr> =
            ports.flat_map(|port| port.endpoints.iter().map(|endpoint| endpoint.backend.address)).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        self.network.endpoints.send_if_modified(|kept| {
            let changed = **kept != *endpoints;
            if changed {
                *kept = endpoints.into();
            }
            changed
        });
    }

    /// Waits until all workers use this snapshot; false when one does not in time.
    async fn await_acks(&mut self, number: u64) -> bool {
        let began = Instant::now();
        let mut pause = Duration::from_micros(50);
        loop {
            (self.wake)();
            if self.publisher.acked() >= number {
                return true;
            }
            if began.elapsed() > ACK_TIMEOUT {
                let acks: Vec<u64> = self.publisher.acks().collect();
                tracing::warn!(generation = number, ?acks, "a worker does not take the newest snapshot");
                return false;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests;
