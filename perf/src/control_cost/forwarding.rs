//! A worker's packet path in memory that forwards while snapshots change under it: what that costs it, and whether a packet
//! ever goes to an endpoint that its Service does not have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use ringway_dataplane::af_xdp::{Frame, Umem, UmemLayout};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::batch::{BATCH, Batch};
use ringway_dataplane::clock::Clock;
use ringway_dataplane::config::PipelineConfig;
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::dispatch::{Transmit, dispatch};
use ringway_dataplane::flow::{FlowConfig, FlowTable, Timeouts};
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_shared::counters::{Counter, WorkerCounters};
use ringway_shared::handoff::Reader;
use ringway_shared::{DropReason, InterfaceId, PortSet, Snapshot};

use super::cluster::frontend;
use super::{CLIENT, GATEWAY_MAC, NEXT_HOP_MAC, WORKERS};
use crate::failure::{Failure, failed};
use crate::traffic::{Kind, Mix, Random, SizeList, Stamp};

const FRAME: usize = 64;

/// One batch of so many is checked: each looks at every packet's Service once more, which fills caches.
const CHECKED: u64 = 16;

/// What the forwarding thread says.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) packets: AtomicU64,
    /// The time in the packet path.
    pub(super) nanos: AtomicU64,
    pub(super) checked: AtomicU64,
    /// Packets to an endpoint that the Service does not have, and packets that were not forwarded.
    pub(super) wrong: AtomicU64,
    pub(super) reopened: AtomicU64,
    opened: AtomicBool,
    stop: AtomicBool,
}

/// The thread.
pub(super) struct Forwarding {
    pub(super) shown: Arc<Shown>,
    thread: JoinHandle<()>,
}

/// Sees where packets go: the service number that came with each, and its new destination.
#[derive(Default)]
struct Seen(Vec<(u64, [u8; 4])>);

impl Transmit for Seen {
    #[inline]
    fn send(&mut self, umem: &mut Umem, _: InterfaceId, frame: Frame, tag: u64) -> Result<(), (Frame, DropReason)> {
        let destination = umem.packet(&frame).get(30..34).and_then(|bytes| bytes.try_into().ok());
        self.0.push((tag, destination.unwrap_or_default()));
        umem.free(frame);
        Ok(())
    }

    fn pass(&mut self, _: &[u8], _: InterfaceId) -> bool {
        true
    }

    fn hand_over(&mut self, _: u16, _: &[u8], _: InterfaceId, _: u64, _: bool) -> bool {
        true
    }
}

impl Forwarding {
    /// Starts to forward `flows` flows, evenly over `services` Services, by the snapshots of `reader`; it sends nothing
    /// before there is one with Services.
    pub(super) fn start(
        mut reader: Reader<Snapshot>,
        counters: Arc<WorkerCounters>,
        services: u32,
        flows: u32,
    ) -> Result<Forwarding, Failure> {
        let resolver = Resolver::new().map_err(failed("the worker's questions"))?;
        let table = FlowTable::new(&FlowConfig {
            capacity: (flows * 2).next_power_of_two(),
            seed: 0x0123_4567_89ab_cdef,
            timeouts: Timeouts::default(),
            snat_ports: PortSet::from(1024..=65_535),
        });
        let shared = Shared {
            directory: None,
            direct: DirectConnections::new(),
            affinities: Affinities::new(1, 1),
            suspects: Default::default(),
            resolver,
            counters,
        };
        let umem = Umem::new(UmemLayout::of_frames(2 * BATCH as u32)).map_err(failed("packet memory"))?;
        let mut worker = Worker {
            umem,
            pipeline: Pipeline::new(PipelineConfig::single(), table, shared),
            clock: Clock::start(),
            frames: (0..flows).map(|flow| frame(flow, services)).collect(),
            services,
            seen: Seen::default(),
            batch: Batch::new(),
        };
        let shown = Arc::new(Shown::default());
        let told = shown.clone();
        let forward = move || {
            core_affinity::set_for_current(core_affinity::CoreId { id: WORKERS - 1 });
            while reader.current().services.frontends.is_empty() && !told.stop.load(Ordering::Relaxed) {
                reader.ack();
                thread::yield_now();
            }
            for first in (0..flows).step_by(BATCH) {
                let mut next = first;
                worker.turn(&mut reader, &told, || {
                    next += 1;
                    (next - 1) % flows
                });
            }
            told.opened.store(true, Ordering::Release);
            let mut random = Random(0x9e37_79b9_7f4a_7c15);
            while !told.stop.load(Ordering::Relaxed) {
                worker.turn(&mut reader, &told, || random.below(flows));
            }
        };
        // Named like the other workers: their time is not the control side's.
        let thread = thread::Builder::new().name("worker-m".into()).spawn(forward).map_err(failed("a worker"))?;
        Ok(Forwarding { shown, thread })
    }

    /// Whether every flow has been opened.
    pub(super) fn is_ready(&self) -> bool {
        self.shown.opened.load(Ordering::Acquire) || self.thread.is_finished()
    }

    /// Ends the thread; false when it had panicked.
    pub(super) fn end(self) -> bool {
        self.shown.stop.store(true, Ordering::Relaxed);
        self.thread.join().is_ok()
    }
}

struct Worker {
    umem: Umem,
    pipeline: Pipeline,
    clock: Clock,
    frames: Vec<[u8; FRAME]>,
    services: u32,
    seen: Seen,
    batch: Batch,
}

impl Worker {
    /// One batch of the flows that `pick` names.
    fn turn(&mut self, reader: &mut Reader<Snapshot>, shown: &Shown, mut pick: impl FnMut() -> u32) {
        let shortest = Kind::Udp4.shortest();
        let snapshot = reader.current();
        let interface = snapshot.network.interfaces().first().map_or(InterfaceId(0), |interface| interface.id);
        for _ in 0..BATCH {
            let flow = pick();
            let tag = u64::from(flow % self.services);
            let bytes = self.frames.get(flow as usize).and_then(|frame| frame.get(..shortest)).unwrap_or_default();
            let pushed = self.batch.push(&mut self.umem, bytes, interface, tag);
            assert!(pushed, "the UMEM has room for two batches");
        }
        self.seen.0.clear();
        let began = Instant::now();
        let now = self.clock.tick();
        self.pipeline.process(&mut self.umem, &mut self.batch, snapshot, now);
        dispatch(&mut self.batch, &mut self.umem, self.pipeline.tally(), &mut self.seen);
        self.pipeline.expire(now, 32);
        self.pipeline.publish();
        let took = began.elapsed().as_nanos() as u64;
        let packets = shown.packets.load(Ordering::Relaxed);
        let lost = BATCH - self.seen.0.len();
        let (mut wrong, mut checked) = (lost as u64, lost as u64);
        if (packets / BATCH as u64).is_multiple_of(CHECKED) {
            checked += self.seen.0.len() as u64;
            wrong += self.seen.0.iter().filter(|(service, pod)| !is_endpoint(snapshot, *service, *pod)).count() as u64;
        }
        reader.ack();
        // This thread alone writes them.
        shown.packets.store(packets + BATCH as u64, Ordering::Relaxed);
        shown.nanos.fetch_add(took, Ordering::Relaxed);
        shown.checked.fetch_add(checked, Ordering::Relaxed);
        shown.wrong.fetch_add(wrong, Ordering::Relaxed);
        shown.reopened.store(self.pipeline.tally().get(Counter::FlowsOpened), Ordering::Relaxed);
    }
}

/// Whether the Service has this endpoint, in this snapshot.
fn is_endpoint(snapshot: &Snapshot, service: u64, pod: [u8; 4]) -> bool {
    let target = snapshot.services.find(&frontend(service as u32));
    target.is_some_and(|target| {
        target.service_port.cluster.backends().iter().any(|backend| backend.address == std::net::IpAddr::from(pod))
    })
}

/// The frame of a flow: of its own client port, to the Service whose turn it is.
fn frame(flow: u32, services: u32) -> [u8; FRAME] {
    let frontend = frontend(flow % services);
    let kind = Kind::Udp4;
    let mix = Mix {
        kind,
        flows: u32::MAX,
        sizes: SizeList::Shortest.of(kind),
        destination_mac: GATEWAY_MAC,
        source_mac: NEXT_HOP_MAC,
        first_client: CLIENT.into(),
        destination: (frontend.address, frontend.port).into(),
    };
    let mut frame = [0; FRAME];
    mix.write(flow, kind.shortest(), 0, Stamp::default(), &mut frame);
    frame
}
