//! The workers: their memory, their packet path, their threads.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

use ringway_dataplane::af_xdp::program::LeftFragments;
use ringway_dataplane::af_xdp::{Umem, UmemLayout};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::clock::Clock;
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::directory::FlowDirectory;
use ringway_dataplane::flow::FlowTable;
use ringway_dataplane::handover::Mesh;
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_dataplane::worker::{WorkerHandle, WorkerParts, spawn};
use ringway_shared::Snapshot;
use ringway_shared::counters::WorkerCounters;
use ringway_shared::handoff::Publisher;
use ringway_shared::suspects::Suspects;

use super::error::RunError;
use super::placement::Placement;
use crate::config::Config;
use crate::report::worker::WorkerView;
use crate::watch::{self, Heart};

/// Backends that have counters of their own; those with larger numbers are counted nowhere.
const BACKENDS: usize = 1 << 18;
/// Interfaces beyond those of the start that a glob may bring, or else a reload.
const LATER_INTERFACES: [u32; 2] = [2, 1];

/// All workers.
pub struct Workers {
    /// The running threads.
    pub handles: Arc<Mutex<Vec<WorkerHandle>>>,
    /// What reports need of each.
    pub views: Vec<WorkerView>,
    /// For waking them.
    pub mesh: Arc<Mesh>,
    /// Which endpoints clients have, by session affinity.
    pub affinities: Arc<Affinities>,
    /// Backends that seem to be dead.
    pub suspects: Arc<Suspects>,
    /// The clock that they share.
    pub clock: Clock,
    /// How many fragments the steering program leaves to the kernel, which never reach a worker.
    pub left_fragments: Option<Arc<LeftFragments>>,
}

/// The most ports that one worker has at a device with so many queues.
pub(super) fn share_of(queues: u32, workers: usize) -> u32 {
    queues.div_ceil(workers as u32)
}

/// The most ports that one worker will have. `queues`: of each interface at the start.
pub(super) fn ports_per_worker(config: &Config, queues: &[u32], workers: usize) -> u32 {
    let share = |queues: &u32| share_of(*queues, workers);
    let largest = queues.iter().map(share).max().unwrap_or(1);
    let [with_glob, without] = LATER_INTERFACES;
    let later = if config.interfaces.iter().any(|interface| interface.name.is_glob()) { with_glob } else { without };
    queues.iter().map(share).sum::<u32>() + later * largest
}

impl Workers {
    /// Starts the workers, without ports. `memory`: for the packets of each.
    pub fn start(
        config: &Config,
        placement: &Placement,
        memory: UmemLayout,
        resolver: &Arc<Resolver>,
        direct: &Arc<DirectConnections>,
    ) -> Result<(Self, Publisher<Snapshot>), RunError> {
        let count = placement.workers() as u16;
        let (mesh, handovers) =
            Mesh::new(count).map_err(|errno| RunError::start("the handover between workers")(errno.into()))?;
        let (publisher, readers) = Publisher::new(Snapshot::default(), usize::from(count));
        let clock = Clock::start();
        let seed = RandomState::new().hash_one(std::process::id());
        let total_flows = config.flows.per_worker as usize * usize::from(count);
        let directory = (count > 1).then(|| FlowDirectory::new(total_flows));
        let affinities = Affinities::new(Affinities::CLIENTS, seed);
        let counters: Vec<_> = (0..count).map(|_| WorkerCounters::new(BACKENDS)).collect();
        let suspects = Suspects::new(BACKENDS, counters.iter().cloned());
        let mut handles = Vec::new();
        let mut views = Vec::new();
        for (((id, counters), handover), snapshots) in (0..count).zip(counters).zip(handovers).zip(readers) {
            let flows = config
                .flow_table(id, count, seed)
                .ok_or(RunError::TooFewPorts { workers: usize::from(count), ports: config.snat.ports.to_string() })?;
            let shared = Shared {
                directory: directory.clone(),
                direct: direct.clone(),
                affinities: affinities.clone(),
                suspects: suspects.clone(),
                resolver: resolver.clone(),
                counters: counters.clone(),
            };
            let parts = WorkerParts {
                id,
                cpu: placement.cpus.get(usize::from(id)).copied(),
                poll: config.workers.poll,
                umem: Umem::new(memory)?,
                pipeline: Pipeline::new(config.pipeline(id, count), FlowTable::new(&flows), shared),
                snapshots,
                handover,
                clock,
            };
            let handle = spawn(parts, mesh.clone(), counters.clone()).map_err(RunError::start("a worker's thread"))?;
            let (cpu, queries) = (handle.cpu, handle.queries.clone());
            views.push(WorkerView { id, cpu, memory: (memory.frames, memory.chunk_size), counters, queries });
            handles.push(handle);
        }
        Ok((
            Workers {
                handles: Arc::new(Mutex::new(handles)),
                views,
                mesh,
                affinities,
                suspects,
                clock,
                left_fragments: None,
            },
            publisher,
        ))
    }

    /// A heart each. It beats as long as the worker publishes its counts, which it does twice a second at least.
    pub(super) fn hearts(&self) -> Vec<Heart> {
        let heart = |worker: &WorkerView| {
            let counters = worker.counters.clone();
            watch::follow(format!("worker {}", worker.id), move || counters.publications())
        };
        self.views.iter().map(heart).collect()
    }
}

/// Wakes the workers that sleep.
pub(super) fn wake_all(mesh: &Mesh, workers: u16) {
    (0..workers).filter_map(|worker| mesh.waker(worker)).for_each(|waker| waker.wake());
}
