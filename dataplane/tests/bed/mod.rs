//! A gateway without a NIC for tests of the packet path: one node, a few interfaces, Services from one line of text each,
//! packets from one line of text each, built by etherparse.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, reason = "each test file uses its part")]

pub mod fragments;
pub mod network;
pub mod random;
pub mod row;
pub mod services;
pub mod sums;
pub mod text;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_dataplane::af_xdp::{Umem, UmemLayout};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::clock::Time;
use ringway_dataplane::config::{PipelineConfig, port_share};
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::directory::FlowDirectory;
use ringway_dataplane::flow::{FlowConfig, FlowTable, Timeouts};
use ringway_dataplane::io::memory::MemoryWorker;
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_shared::counters::{Counter, Tally, WorkerCounters};
use ringway_shared::network::ReversePath;
use ringway_shared::snapshot::Generation;
use ringway_shared::suspects::Suspects;
use ringway_shared::{DropReason, PortSet, Services, Snapshot};

pub use network::*;
pub use services::*;

/// Settings of the worker under test.
#[derive(Clone)]
pub struct Settings {
    pub pipeline: PipelineConfig,
    pub flows: u32,
    pub frames: u32,
    pub directory: Option<Arc<FlowDirectory>>,
    /// Shared with other workers; each has its own without.
    pub affinities: Option<Arc<Affinities>>,
    /// Likewise.
    pub suspects: Option<Arc<Suspects>>,
}

impl Default for Settings {
    fn default() -> Self {
        let pipeline = PipelineConfig::single();
        Settings { pipeline, flows: 1024, frames: 128, directory: None, affinities: None, suspects: None }
    }
}

/// One worker without a NIC.
pub fn worker(settings: &Settings) -> MemoryWorker {
    worker_with(settings, Resolver::new().unwrap())
}

/// One worker without a NIC, and whom it asks for neighbours.
pub fn worker_with(settings: &Settings, resolver: Arc<Resolver>) -> MemoryWorker {
    worker_of(settings, resolver, WorkerCounters::new(1024))
}

/// One worker without a NIC, and where it counts what endpoints answer.
pub fn worker_counted(settings: &Settings, counters: Arc<WorkerCounters>) -> MemoryWorker {
    worker_of(settings, Resolver::new().unwrap(), counters)
}

fn worker_of(settings: &Settings, resolver: Arc<Resolver>, counters: Arc<WorkerCounters>) -> MemoryWorker {
    let config = settings.pipeline.clone();
    let ports = port_share(&config.snat_ports, config.worker, config.workers).unwrap();
    let flows = FlowTable::new(&FlowConfig {
        capacity: settings.flows,
        seed: 1,
        snat_ports: ports,
        timeouts: Timeouts::default(),
    });
    let shared = Shared {
        directory: settings.directory.clone(),
        direct: DirectConnections::new(),
        affinities: settings.affinities.clone().unwrap_or_else(|| Affinities::new(64, 1)),
        suspects: settings.suspects.clone().unwrap_or_else(|| Suspects::new(1024, [counters.clone()])),
        resolver,
        counters,
    };
    let umem = Umem::new(UmemLayout::of_frames(settings.frames)).unwrap();
    MemoryWorker::new(umem, Pipeline::new(config, flows, shared))
}

/// A worker to be, and the snapshots that it will see.
pub struct Bed {
    pub settings: Settings,
    ids: Ids,
    snapshots: Vec<(&'static str, Snapshot)>,
}

impl Bed {
    /// A bed that starts with these Services and all neighbours known.
    pub fn of(specs: &[&str]) -> Self {
        let bed = Bed { settings: Settings::default(), ids: Ids::default(), snapshots: Vec::new() };
        bed.then("start", specs)
    }

    /// The first snapshot.
    pub fn first(&self) -> &Snapshot {
        &self.snapshots[0].1
    }

    /// The snapshot with this name.
    pub fn snapshot(&self, name: &str) -> &Snapshot {
        &self.snapshots.iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("no snapshot {name}")).1
    }

    /// All snapshots, in order.
    pub fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        self.snapshots.iter().map(|(_, snapshot)| snapshot)
    }

    fn push(mut self, name: &'static str, change: impl FnOnce(&mut Ids, &mut Snapshot, u32)) -> Self {
        let number = self.snapshots.len() as u32 + 1;
        let mut snapshot = self.snapshots.last().map_or_else(
            || Snapshot { network: Arc::new(network(1, Neighbors::All)), ..Snapshot::default() },
            |(_, last)| last.clone(),
        );
        snapshot.generation = Generation(u64::from(number));
        change(&mut self.ids, &mut snapshot, number);
        self.snapshots.push((name, snapshot));
        self
    }

    /// Then these Services.
    pub fn then(self, name: &'static str, specs: &[&str]) -> Self {
        self.push(name, |ids, snapshot, number| snapshot.services = Arc::new(services(ids, number, specs)))
    }

    /// Then these neighbours.
    pub fn then_neighbors(self, name: &'static str, neighbors: Neighbors) -> Self {
        self.push(name, |_, snapshot, number| snapshot.network = Arc::new(network(number, neighbors)))
    }

    /// Then the same network, with [`network_behind`]'s routes.
    pub fn then_behind(self, name: &'static str) -> Self {
        self.push(name, |_, snapshot, number| snapshot.network = Arc::new(network_behind(number)))
    }

    /// Changes the Services of the first snapshot.
    pub fn with(mut self, change: impl FnOnce(&mut Services)) -> Self {
        change(Arc::make_mut(&mut self.snapshots[0].1.services));
        self
    }

    /// Only these neighbours are known at the start.
    pub fn neighbors(mut self, neighbors: Neighbors) -> Self {
        self.snapshots[0].1.network = Arc::new(network(1, neighbors));
        self
    }

    /// What the first interfaces ask of sources.
    pub fn reverse_paths(mut self, asked: &[ReversePath]) -> Self {
        let network = (*self.snapshots[0].1.network).clone();
        self.snapshots[0].1.network = Arc::new(network.with_reverse_paths(asked.to_vec()));
        self
    }

    /// Changes the worker's settings.
    pub fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// A flow table of this size.
    pub fn flows(self, flows: u32) -> Self {
        self.set(|settings| settings.flows = flows)
    }

    /// SNAT ports from 61000 on, this many.
    pub fn ports(self, count: u16) -> Self {
        self.set(|settings| settings.pipeline.snat_ports = PortSet::from(61_000..=60_999 + count))
    }
}

/// A snapshot of these Services with every neighbour known.
pub fn snapshot(specs: &[&str]) -> Snapshot {
    let services = services(&mut Ids::default(), 1, specs);
    Snapshot { generation: Generation(1), services: Arc::new(services), network: Arc::new(network(1, Neighbors::All)) }
}

/// The ledger as a table that a test can state whole: everything that is not zero.
pub fn ledger(tally: &Tally) -> BTreeMap<String, u64> {
    assert!(tally.closes(), "the ledger does not close: {tally:?}");
    let counters = [
        Counter::Rx,
        Counter::Forwarded,
        Counter::Replied,
        Counter::Passed,
        Counter::Held,
        Counter::HandedOver,
        Counter::FlowsOpened,
        Counter::FlowsClosed,
        Counter::FlowsEvicted,
        Counter::FlowsRescued,
        Counter::Stateless,
        Counter::RepliesLimited,
    ];
    let mut ledger: BTreeMap<String, u64> =
        counters.iter().map(|counter| (counter.label().to_owned(), tally.get(*counter))).collect();
    for reason in DropReason::ALL {
        ledger.insert(format!("drop:{}", reason.label()), tally.drops(reason));
        ledger.insert(format!("reply:{}", reason.label()), tally.replies(reason));
    }
    ledger.retain(|_, count| *count > 0);
    ledger
}

/// Milliseconds.
pub fn ms(millis: u64) -> Time {
    Time(millis * 1_000_000)
}
