use ringway_shared::counters::Tally;
use ringway_shared::handoff::Publisher;
use ringway_shared::{InterfaceId, PortSet};

use super::*;
use crate::af_xdp::{RingSizes, UmemLayout};
use crate::affinity::Affinities;
use crate::config::PipelineConfig;
use crate::direct::DirectConnections;
use crate::directory::FlowDirectory;
use crate::flow::{FlowConfig, FlowTable, Timeouts};
use crate::io::{KernelSide, Port};
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
        suspects: Default::default(),
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
        assert!(other.send(0, &[0; 60], InterfaceId(0), packet as u64, false));
    }
    let turns = (0..4).filter(|_| worker.turn()).count();
    assert_eq!(turns, 3, "a batch a turn, then there is nothing to do");
    assert!(!worker.io.handover().is_waiting());
    let tally: &Tally = worker.pipeline.tally();
    assert_eq!(tally.get(Counter::Rx), PACKETS as u64);
}

const SIZES: RingSizes = RingSizes { fill: 8, completion: 4, receive: 8, transmit: 4, driver: 0 };

/// What a worker does with a question.
fn ask(worker: &mut Worker, change: Change) -> Answer {
    worker.changes.asked.push(change).ok().unwrap();
    worker.turn();
    let counted = worker.pipeline.tally().get(Counter::FreeFrames);
    assert_eq!(counted, u64::from(worker.umem.free_frames()), "the count is that of after the change");
    worker.changes.answered.pop().unwrap()
}

/// The other side of [`ask`] is the thread that opens and closes; that takes as long as it takes.
#[test]
fn a_worker_serves_its_ports_while_another_is_opened_and_while_one_is_closed() {
    let (_mesh, mut ends) = Mesh::new(1).unwrap();
    let (_publisher, mut readers) = Publisher::new(Snapshot::default(), 1);
    let mut worker = worker(ends.pop().unwrap(), readers.pop().unwrap());
    let total = worker.umem.total();
    let (port, mut kernel) = Port::in_memory(InterfaceId(0), 0, SIZES, &mut worker.umem).unwrap();
    let mut received = 0;
    let mut serve = |worker: &mut Worker, kernel: &mut KernelSide| {
        assert!(kernel.deliver(&mut worker.umem, &[0; 60]));
        assert!(worker.turn());
        received += 1;
        assert_eq!(worker.pipeline.tally().get(Counter::Rx), received);
    };
    assert!(matches!(ask(&mut worker, Change::Take(Box::new(port))), Answer::Done));
    serve(&mut worker, &mut kernel);
    // Somebody opens a port: its chunks are nobody else's, and the worker goes on.
    let Answer::Lent(loan) = ask(&mut worker, Change::Lend(SIZES)) else { panic!("there is room") };
    assert_eq!((worker.umem.free_frames(), worker.umem.unpromised()), (total - 16, total - 2 * SIZES.frames()));
    (0..20).for_each(|_| serve(&mut worker, &mut kernel));
    // It failed.
    assert!(matches!(ask(&mut worker, Change::Reclaim(loan.unused())), Answer::Done));
    assert_eq!((worker.umem.free_frames(), worker.umem.unpromised()), (total - 8, total - SIZES.frames()));
    let Answer::HandedBack(ports) = ask(&mut worker, Change::HandBack(0)) else { panic!("it has one") };
    assert_eq!((ports.len(), worker.io.len()), (1, 0));
    // Somebody closes it; until that is done the worker counts its chunks as the port's.
    assert_eq!(worker.umem.free_frames(), total - 8);
    for port in ports {
        assert!(matches!(ask(&mut worker, Change::Reclaim(port.close())), Answer::Done));
    }
    assert_eq!((worker.umem.free_frames(), worker.umem.unpromised()), (total, total));
    let refused = ask(&mut worker, Change::Lend(RingSizes { fill: 1024, ..SIZES }));
    assert!(matches!(refused, Answer::Refused(PortError::Frames { free, .. }) if free == total));
}
