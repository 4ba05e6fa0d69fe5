use ringway_shared::PortSet;
use ringway_shared::counters::Tally;
use ringway_shared::handoff::Publisher;

use super::*;
use crate::af_xdp::UmemLayout;
use crate::affinity::Affinities;
use crate::config::PipelineConfig;
use crate::direct::DirectConnections;
use crate::directory::FlowDirectory;
use crate::flow::{FlowConfig, FlowTable, Timeouts};
use crate::pipeline::Shared;
use crate::resolver::Resolver;

/// A worker without ports.
fn worker(handover: Handover, snapshots: Reader<Snapshot>) -> Worker {
    let config = PipelineConfig { workers: 2, ..PipelineConfig::single() };
    let timeouts = Timeouts::default();
    let flows =
        FlowTable::new(&FlowConfig { capacity: 64, seed: 1, timeouts, snat_ports: PortSet::from(61_000..=61_007) });
    let shared = Shared {
        directory: Some(FlowDirectory::new(128)),
        direct: DirectConnections::new(),
        affinities: Affinities::new(64, 1),
        resolver: Resolver::new().unwrap(),
        counters: WorkerCounters::new(1),
    };
    let parts = WorkerParts {
        id: 0,
        cpu: None,
        poll: Poll::Adaptive,
        umem: Umem::new(UmemLayout::of_frames(2 * BATCH as u32)).unwrap(),
        pipeline: Pipeline::new(config, flows, shared),
        snapshots,
        handover,
        clock: Clock::start(),
    };
    Worker::new(parts, Queries::new(), Changes::new())
}

/// Where devices have fewer queues than there are workers, one may have no port and flows all the same.
#[test]
fn a_worker_without_ports_unpacks_what_is_handed_to_it() {
    let (_mesh, mut ends) = Mesh::new(2).unwrap();
    let mut other = ends.pop().unwrap();
    let (_publisher, mut readers) = Publisher::new(Snapshot::default(), 1);
    let mut worker = worker(ends.pop().unwrap(), readers.pop().unwrap());
    const PACKETS: usize = 3 * BATCH;
    for packet in 0..PACKETS {
        assert!(other.send(0, &[0; 60], ringway_shared::InterfaceId(0), packet as u64));
    }
    let turns = (0..4).filter(|_| worker.turn()).count();
    assert_eq!(turns, 3, "a batch a turn, then there is nothing to do");
    assert!(!worker.io.handover().is_waiting());
    let tally: &Tally = worker.pipeline.tally();
    assert_eq!(tally.get(Counter::Rx), PACKETS as u64);
}
