//! Publishing into workers, and changes that are made to what is published.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringway_control::cluster::ClusterState;
use ringway_control::compile::CompileOptions;
use ringway_control::config::Config;
use ringway_control::daemon::{Placement, Workers};
use ringway_control::network::NetworkWatch;
use ringway_control::publish::{Publication, PublishOptions, Published, Steering};
use ringway_dataplane::af_xdp::UmemLayout;
use ringway_dataplane::af_xdp::program::{SteeringEntry, SteeringProgram};
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::resolver::Resolver;
use ringway_shared::Snapshot;
use ringway_shared::counters::WorkerCounters;
use ringway_shared::handoff::Publisher;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::WORKERS;
use super::cluster::Model;
use super::forwarding::Forwarding;
use super::process::{control_cpu, resident_bytes};
use crate::failure::{Failure, failed};

/// Rest between two changes, so that none waits for the one before.
const REST: Duration = Duration::from_millis(20);

/// The steering program, where it can be loaded.
struct Program(Option<Mutex<SteeringProgram>>);

impl Steering for Program {
    fn add(&mut self, entries: &HashSet<SteeringEntry>) -> Result<(), String> {
        self.with(|program| program.add_missing(entries).map_err(|error| error.to_string()))
    }

    fn remove(&mut self, entries: &HashSet<SteeringEntry>) -> Result<(), String> {
        self.with(|program| program.remove_present(entries).map_err(|error| error.to_string()))
    }
}

impl Program {
    fn with(&mut self, tell: impl FnOnce(&mut SteeringProgram) -> Result<(), String>) -> Result<(), String> {
        let program = self.0.as_mut().map(Mutex::get_mut);
        program.map_or(Ok(()), |program| tell(program.map_err(|error| error.to_string())?))
    }
}

/// Publishing with workers.
pub(super) struct Bed {
    state: ClusterState,
    cluster: watch::Sender<Arc<ClusterState>>,
    published: watch::Receiver<Arc<Published>>,
    workers: Option<Workers>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Program>,
    pub(super) first: Duration,
    pub(super) steering: bool,
}

impl Bed {
    /// With workers as `ringway run` has them, but without ports.
    pub(super) async fn with_workers(
        config: &Config,
        compile: CompileOptions,
        state: ClusterState,
    ) -> Result<Bed, Failure> {
        let resolver = Resolver::new().map_err(failed("the workers' questions"))?;
        let placement = Placement { cpus: (0..WORKERS).collect() };
        let (workers, publisher) =
            Workers::start(config, &placement, UmemLayout::of_frames(4096), &resolver, &DirectConnections::new())
                .map_err(failed("workers"))?;
        let counters = workers.views.iter().map(|worker| worker.counters.clone()).collect();
        let mesh = workers.mesh.clone();
        let wake = move || (0..WORKERS as u16).filter_map(|worker| mesh.waker(worker)).for_each(|waker| waker.wake());
        let mut bed = Bed::start(config, compile, state, publisher, counters, Box::new(wake)).await?;
        bed.workers = Some(workers);
        Ok(bed)
    }

    /// With one worker, which forwards in memory.
    pub(super) async fn with_forwarding(
        config: &Config,
        compile: CompileOptions,
        state: ClusterState,
        services: u32,
        flows: u32,
    ) -> Result<(Bed, Forwarding), Failure> {
        let (publisher, mut readers) = Publisher::new(Snapshot::default(), 1);
        let counters = WorkerCounters::new(1 << 18);
        let reader = readers.pop().ok_or_else(|| Failure("no reader".into()))?;
        let forwarding = Forwarding::start(reader, counters.clone(), services, flows)?;
        // It never sleeps.
        let bed = Bed::start(config, compile, state, publisher, vec![counters], Box::new(|| {})).await?;
        Ok((bed, forwarding))
    }

    async fn start(
        config: &Config,
        compile: CompileOptions,
        state: ClusterState,
        publisher: Publisher<Snapshot>,
        counters: Vec<Arc<WorkerCounters>>,
        wake: Box<dyn Fn() + Send>,
    ) -> Result<Bed, Failure> {
        let network = config.network.as_ref().map(|network| network.build(1, &config.interfaces));
        let network = NetworkWatch::fixed(network.unwrap_or_default());
        let program = SteeringProgram::load().ok();
        let steering = program.is_some();
        let options = PublishOptions { compile, snat_addresses: Vec::new() };
        let first = Arc::new(state.clone());
        let (cluster, receiver) = watch::channel(first.clone());
        let program = Program(program.map(Mutex::new));
        let began = Instant::now();
        let (publication, published) = Publication::new(options, receiver, network, program, publisher, counters, wake);
        let (stop, stopped) = oneshot::channel();
        let ended = publication.start(async {}, stopped).map_err(failed("the thread that publishes"))?;
        let workers = None;
        let mut bed = Bed { state, cluster, published, workers, stop, ended, first: Duration::ZERO, steering };
        bed.in_force(&first).await;
        bed.first = began.elapsed();
        Ok(bed)
    }

    /// Waits until all workers use what was compiled from `cluster`.
    async fn in_force(&mut self, cluster: &Arc<ClusterState>) {
        let wanted = |published: &Arc<Published>| published.in_force && Arc::ptr_eq(&published.cluster, cluster);
        // Publication ends only when it is told to.
        let _ = self.published.wait_for(wanted).await;
    }

    /// One change after the other, each alone.
    pub(super) async fn changes(&mut self, model: &mut Model, count: u32) -> Value {
        let mut delays = Delays::new();
        let cpu = control_cpu("self");
        for _ in 0..count {
            let began = Instant::now();
            model.change(&mut self.state);
            let changed = Arc::new(self.state.clone());
            self.cluster.send_replace(changed.clone());
            self.in_force(&changed).await;
            delays.add(began.elapsed());
            tokio::time::sleep(REST).await;
        }
        let cpu = control_cpu("self").saturating_sub(cpu);
        json!({
            "changes": count,
            "delayMillis": delays.report(),
            "cpuMicrosEach": cpu.as_secs_f64() * 1e6 / f64::from(count.max(1)),
        })
    }

    /// Many changes a second; none waits for another.
    pub(super) async fn storm(&mut self, model: &mut Model, rate: u32, duration: Duration) -> Value {
        let mut delays = Delays::new();
        let mut waiting: VecDeque<(Arc<ClusterState>, Instant)> = VecDeque::new();
        let (began, cpu) = (Instant::now(), control_cpu("self"));
        let first = self.published.borrow().snapshot.generation.0;
        let every = Duration::from_secs(1) / rate;
        let total = (duration.as_secs_f64() * f64::from(rate)) as u32;
        let (mut made, mut warm, mut peak) = (0, None, 0);
        while made < total || !waiting.is_empty() {
            let due = began + every * made;
            tokio::select! {
                () = tokio::time::sleep_until(due.into()), if made < total => {
                    // A timer that is late makes up for it.
                    while made < total && Instant::now() >= began + every * made {
                        model.change(&mut self.state);
                        waiting.push_back((Arc::new(self.state.clone()), Instant::now()));
                        if let Some((changed, _)) = waiting.back() {
                            self.cluster.send_replace(changed.clone());
                        }
                        made += 1;
                    }
                    // What caches and counters take in the first part is no growth.
                    if made >= total / 6 && warm.is_none() {
                        warm = Some(resident_bytes("self"));
                    }
                    if made % rate < 10 {
                        peak = resident_bytes("self").max(peak);
                    }
                }
                changed = self.published.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let published = self.published.borrow_and_update().clone();
                    let place = waiting.iter().position(|(state, _)| Arc::ptr_eq(state, &published.cluster));
                    if let Some(place) = place.filter(|_| published.in_force) {
                        let now = Instant::now();
                        waiting.drain(..=place).for_each(|(_, made)| delays.add(now - made));
                    }
                }
            }
        }
        let elapsed = began.elapsed();
        let cpu = control_cpu("self").saturating_sub(cpu);
        let snapshots = self.published.borrow().snapshot.generation.0 - first;
        let warm = warm.unwrap_or_default();
        json!({
            "changes": made,
            "seconds": elapsed.as_secs_f64(),
            "snapshots": snapshots,
            "delayMillis": delays.report(),
            "cpuShare": cpu.as_secs_f64() / elapsed.as_secs_f64(),
            "residentMiBAfterASixth": warm as f64 / f64::from(1 << 20),
            "residentMiBPeak": peak as f64 / f64::from(1 << 20),
            "residentMiBAtTheEnd": resident_bytes("self") as f64 / f64::from(1 << 20),
            "lost": model.missing(&self.published.borrow().snapshot),
        })
    }

    pub(super) async fn end(self) {
        let _ = self.stop.send(());
        let _ = self.ended.await;
        if let Some(Ok(mut handles)) = self.workers.as_ref().map(|workers| workers.handles.lock()) {
            handles.iter().for_each(|worker| worker.stop());
            handles.iter_mut().for_each(|worker| {
                worker.join();
            });
        }
    }
}

/// Delays with their distribution.
struct Delays(Histogram<u64>);

impl Delays {
    fn new() -> Self {
        Delays(Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are allowed"))
    }

    fn add(&mut self, delay: Duration) {
        self.0.saturating_record(delay.as_micros() as u64);
    }

    fn report(&self) -> Value {
        let millis = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1e3;
        json!({"p50": millis(0.5), "p90": millis(0.9), "p99": millis(0.99), "max": millis(1.0)})
    }
}
