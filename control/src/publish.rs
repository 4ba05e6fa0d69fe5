//! From changes to snapshots in force on every worker.
//!
//! Objects or the network changed: compile (only what depends on it), tell the steering program about what is new, hand
//! the snapshot to the workers, wait until all of them use it, then take out of the steering program what is not needed
//! any more and free the older snapshots. A single change starts at once; a storm of changes is taken together.

mod sets;
mod settings;

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::program::SteeringEntry;
use ringway_shared::counters::{BackendTally, WorkerCounters};
use ringway_shared::handoff::Publisher;
use ringway_shared::sharing::ShardedMap;
use ringway_shared::snapshot::{Generation, Services};
use ringway_shared::{BackendId, Snapshot};
use tokio::sync::{oneshot, watch};

use crate::cluster::ClusterState;
use crate::compile::{Compiled, HealthCheck, Memory, compile};
use crate::drain::Drained;
use crate::network::NetworkWatch;
use crate::pace::{Pace, sleep_until};
use crate::problem::{Problem, tell_changes};
use crate::watch::heart;
use crate::watch::last::caught;
use sets::Pending;
pub use sets::{SteeringChanges, SteeringCounts, SteeringSets};
use settings::Orders;
pub use settings::{PublishOptions, Resetting};

/// How long the workers may take for an acknowledgement before a snapshot is shown that is not in force yet.
const PROMPT: Duration = Duration::from_millis(5);

/// How long they may take before a word is said about it.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// What is said when that happens which should not.
const COMPILE_FAILED: &str = "compiling the objects failed, so what is in force stays whatever changes: restart Ringway, and report what the log says";

/// The longest pause between two rounds. How long one took says little about the next: the first compiles everything.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The pause between two rounds in a storm. After each the workers look at every flow once, and find the Services moved in
/// memory.
const STORM_PAUSE: Duration = Duration::from_millis(25);

/// How many of the problems that a round finds, or no longer finds, are logged. One Service can be in conflict by thousands.
const TOLD: usize = 20;

/// The steering program's maps.
pub trait Steering: Send + 'static {
    /// Makes these be sent up, too; some may be already.
    fn add(&mut self, entries: &HashSet<SteeringEntry>) -> Result<(), String>;

    /// Stops sending these up; some may not be.
    fn remove(&mut self, entries: &HashSet<SteeringEntry>) -> Result<(), String>;
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
    /// Why the newest objects are not compiled; what was in force before them stays.
    pub compile_problem: Option<String>,
    /// The endpoints that are drained by command.
    pub drained: Arc<Drained>,
    /// The healthCheckNodePorts.
    pub health_checks: Arc<[HealthCheck]>,
    /// The steering program's entries.
    pub steering: SteeringCounts,
    /// Why the steering program does not hold all of them.
    pub steering_problem: Option<String>,
    /// VIPs that are nobody's any more, whose packets are sent up for a while still: TCP clients are told.
    pub lingering: Arc<HashSet<IpAddr>>,
    /// Whether all workers use this snapshot.
    pub in_force: bool,
    /// Whether all workers ever used a snapshot: the first full list is in force.
    pub ready: bool,
    /// The generation that each worker uses.
    pub acks: Vec<u64>,
    /// How long it took from the start of the compilation until every worker used it.
    pub took: Option<Duration>,
    /// The settings that it was made with: 0 for those of the start.
    pub settings: u64,
    /// What reused backend numbers had counted for their former backends.
    pub baselines: ShardedMap<BackendId, BackendTally>,
}

/// What publishes.
pub struct Publication<S> {
    options: PublishOptions,
    orders: Orders,
    cluster: watch::Receiver<Arc<ClusterState>>,
    network: NetworkWatch,
    steering: S,
    publisher: Publisher<Snapshot>,
    counters: Vec<Arc<WorkerCounters>>,
    wake: Box<dyn Fn() + Send>,
    // None after compile failed in a way that lost it: then what is in force stays.
    memory: Option<Memory>,
    // The objects that `services` was compiled from.
    compiled: Option<Arc<ClusterState>>,
    services: Arc<Services>,
    baselines: ShardedMap<BackendId, BackendTally>,
    sets: SteeringSets,
    pending: Pending,
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
        let sets = SteeringSets::new(&options.snat_addresses);
        let publication = Publication {
            options,
            orders: Orders::none(),
            cluster,
            network,
            steering,
            publisher,
            counters,
            wake,
            memory: Some(Memory::new()),
            compiled: None,
            services: Arc::default(),
            baselines: ShardedMap::default(),
            sets,
            pending: Pending::default(),
            published,
        };
        (publication, receiver)
    }

    /// Takes other settings, and what is drained, as they come.
    #[must_use]
    pub fn following(
        self,
        resettings: watch::Receiver<Option<Resetting>>,
        drained: watch::Receiver<Arc<Drained>>,
    ) -> Self {
        Publication { orders: Orders { resettings, drained }, ..self }
    }

    /// Publishes on a thread of its own, until `stop`; what comes back ends then, with the steering program. It begins when
    /// `first` is done.
    ///
    /// The thread compiles as well: that holds up none of the other tasks, a small change needs no second thread, and memory
    /// that a change frees is used again by the next (an allocator keeps it for the thread that it was allocated by).
    pub fn start(
        self,
        first: impl Future<Output = ()> + Send + 'static,
        stop: oneshot::Receiver<()>,
    ) -> io::Result<oneshot::Receiver<S>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name("ringway-publish".into()).spawn(move || {
            let steering = runtime.block_on(self.run(first, stop));
            // Whoever started it may not care.
            let _ = ended.send(steering);
        })?;
        Ok(end)
    }

    /// Publishes first and whenever something changes, until `stop`. The steering program comes back.
    async fn run(mut self, first: impl Future<Output = ()>, mut stop: oneshot::Receiver<()>) -> S {
        let heart = heart("the publisher").of_this_thread();
        tokio::select! {
            () = heart.waiting(first) => {}
            _ = &mut stop => return self.steering,
        }
        let mut pace = Pace::at_most(LONGEST_PAUSE).slower_in_storms(STORM_PAUSE);
        loop {
            let began = Instant::now();
            self.round(began);
            pace.done(began);
            // Until something changed.
            loop {
                heart.beat();
                let late = !self.published.borrow().in_force;
                let due = self.pending.due().filter(|_| !late);
                let wait = async {
                    tokio::select! {
                        changed = self.cluster.changed() => changed.is_ok(),
                        changed = self.network.latest.changed() => changed.is_ok(),
                        () = self.orders.changed() => true,
                    }
                };
                tokio::select! {
                    _ = &mut stop => return self.steering,
                    go_on = wait => {
                        if go_on {
                            break;
                        }
                        tracing::error!("nobody watches the objects or the network any more; what is in force stays");
                        let _ = heart.waiting(stop).await;
                        return self.steering;
                    }
                    () = heart.rest(), if !late => {}
                    () = sleep_until(due) => {
                        let mut published = Published::clone(&self.published.borrow());
                        self.clean_up(&mut published);
                        self.published.send_replace(Arc::new(published));
                    }
                    // A worker was late: look again. Nothing else would wake one that sleeps.
                    () = tokio::time::sleep(ACK_TIMEOUT), if late => {
                        (self.wake)();
                        let published = Published::clone(&self.published.borrow());
                        self.settle(published, began);
                    }
                }
            }
            tokio::time::sleep_until(pace.not_before_for(Instant::now()).into()).await;
        }
    }

    /// Puts the newest of everything in force.
    fn round(&mut self, began: Instant) {
        let cluster = self.cluster.borrow_and_update().clone();
        let network = self.network.latest.borrow_and_update().clone();
        let fallback = self.network.node_addresses.borrow_and_update().to_vec();
        let mut published = Published::clone(&self.published.borrow());
        let mut known = self.compiled.as_ref().is_some_and(|compiled| Arc::ptr_eq(compiled, &cluster));
        let newest = self.orders.resettings.borrow_and_update().clone();
        let drained = self.orders.drained.borrow_and_update().clone();
        if let Some(Resetting { number, options }) = newest.filter(|newest| newest.number != published.settings) {
            self.sets.reset(&options.snat_addresses);
            self.options.compile = options.compile;
            published.settings = number;
            known = false;
        }
        let compile = &mut self.options.compile;
        known &= compile.drained == drained && compile.fallback_addresses == fallback;
        if !known || compile.host_addresses != *network.host() {
            (compile.drained, compile.fallback_addresses) = (drained.clone(), fallback);
            compile.host_addresses = network.host().clone();
            self.compiled = Some(cluster.clone());
            if let Some(compiled) = self.compile(&cluster) {
                self.note_new_backends(&compiled.new_backends);
                if !Arc::ptr_eq(&published.problems, &compiled.problems) {
                    tell_changes(TOLD, &*published.problems, &*compiled.problems);
                }
                published.problems = compiled.problems;
                published.health_checks = compiled.health_checks;
                (published.cluster, published.drained) = (cluster, drained);
                self.services = Arc::new(compiled.services);
            } else {
                // Whoever compares what is known with what is in force sees that they differ, health checks above all.
                published.compile_problem = Some(COMPILE_FAILED.into());
            }
        }
        let generation = Generation(published.snapshot.generation.0 + 1);
        let snapshot = Snapshot { generation, services: self.services.clone(), network };
        let changes = self.sets.advance(&snapshot);
        if changes.addresses_changed {
            // The next hops of all endpoints are resolved ahead of traffic.
            self.network.endpoints.send_replace(self.sets.addresses().clone());
        }
        self.pending.note(changes, began);
        published.steering_problem = self.add_pending().err();
        if let Some(problem) = &published.steering_problem {
            tracing::error!("steering: {problem}");
        }
        published.snapshot = snapshot.clone();
        published.steering = self.sets.counts();
        published.baselines = self.baselines.clone();
        (published.in_force, published.took) = (false, None);
        self.publisher.publish(snapshot);
        (self.wake)();
        // Everyone who is told has to wake up: once is enough where it is in force at once.
        if !self.await_acks(generation.0, PROMPT) {
            published.acks = self.publisher.acks().collect();
            self.published.send_replace(Arc::new(published.clone()));
        }
        self.settle(published, began);
    }

    /// Waits until all workers use the newest snapshot, and cleans up behind it.
    fn settle(&mut self, mut published: Published, began: Instant) {
        let generation = published.snapshot.generation.0;
        published.in_force = self.await_acks(generation, ACK_TIMEOUT);
        published.acks = self.publisher.acks().collect();
        if !published.in_force {
            let acks = &published.acks;
            tracing::warn!(generation, ?acks, "a worker does not take the newest snapshot");
        }
        if published.in_force && !published.ready && published.compile_problem.is_none() {
            let services = &published.snapshot.services;
            let (frontends, vips) = (services.frontends.len(), services.vips.len());
            tracing::info!("ready: {frontends} frontends and {vips} VIPs are in force on all workers");
        }
        // An empty snapshot is none of what was listed.
        published.ready |= published.in_force && published.compile_problem.is_none();
        if published.in_force {
            published.took = Some(began.elapsed());
            // Only now no worker serves what is gone.
            self.clean_up(&mut published);
            if let Some(memory) = &mut self.memory {
                memory.release(self.services.generation);
            }
            tracing::debug!(generation, took = ?began.elapsed(), "in force on all workers");
        }
        self.publisher.retire();
        self.published.send_replace(Arc::new(published));
    }

    /// None once it failed.
    fn compile(&mut self, cluster: &ClusterState) -> Option<Compiled> {
        let mut memory = self.memory.take()?;
        let options = &self.options.compile;
        // What was lent to it is lost when it panics, so nobody sees it half changed.
        match caught(move || (compile(cluster, options, &mut memory), memory)) {
            Some((compiled, memory)) => {
                self.memory = Some(memory);
                Some(compiled)
            }
            None => {
                tracing::error!("{COMPILE_FAILED}");
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
        self.baselines.extend(new.iter().filter_map(used));
    }

    /// What cannot be added is tried again with the next snapshot.
    fn add_pending(&mut self) -> Result<(), String> {
        if !self.pending.add.is_empty() {
            self.steering.add(&self.pending.add)?;
            self.pending.add.clear();
        }
        Ok(())
    }

    /// Takes out of the steering program what is not needed any more. What fails is tried again with the next snapshot.
    fn clean_up(&mut self, published: &mut Published) {
        self.pending.end_lingering(Instant::now());
        if let Some(lingering) = self.pending.lingering() {
            published.lingering = lingering;
        }
        if self.pending.remove.is_empty() {
            return;
        }
        match self.steering.remove(&self.pending.remove) {
            Ok(()) => self.pending.remove.clear(),
            Err(problem) => {
                tracing::error!("steering: {problem}");
                published.steering_problem = Some(problem);
            }
        }
    }

    /// Waits until all workers use this snapshot; false when one does not in time.
    ///
    /// The thread is this publication's own, and a worker takes microseconds: the timer of a runtime would be too coarse.
    fn await_acks(&self, number: u64, longest: Duration) -> bool {
        let began = Instant::now();
        let mut pause = Duration::from_micros(20);
        while self.publisher.acked() < number {
            if began.elapsed() > longest {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
        true
    }
}

#[cfg(test)]
mod tests;
