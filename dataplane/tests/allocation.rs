//! The packet path does not allocate: a counting allocator watches process, dispatch, release, expire, publish and the
//! handoff of snapshots, for every kind of packet. One test alone in its process.
#![allow(unsafe_code, reason = "a global allocator cannot be had otherwise")]

mod bed;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use bed::*;
use ringway_dataplane::af_xdp::{Frame, Umem, UmemLayout};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::batch::{BATCH, Batch, Received};
use ringway_dataplane::clock::Time;
use ringway_dataplane::config::{PipelineConfig, port_share};
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::directory::FlowDirectory;
use ringway_dataplane::dispatch::{Fate, Transmit, dispatch};
use ringway_dataplane::flow::{FlowConfig, FlowTable, Timeouts};
use ringway_dataplane::handover::{Handover, Mesh};
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_shared::counters::{Counter, Tally, WorkerCounters};
use ringway_shared::handoff::{Publisher, Reader};
use ringway_shared::{DropReason, InterfaceId, PortSet, Snapshot};

thread_local! {
    /// Whether calls count, and how many there were. Constants without destructors, so that using them allocates nothing.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    if WATCHED.get() {
        CALLS.set(CALLS.get() + 1);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches thread-local cells only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // Freeing costs as much as allocating.
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often memory was allocated or freed in `work`.
fn calls<R>(work: impl FnOnce() -> R) -> (u64, R) {
    CALLS.set(0);
    WATCHED.set(true);
    let result = work();
    WATCHED.set(false);
    (CALLS.get(), result)
}

/// Where frames leave: freed at once, or to another worker.
struct Out {
    handover: Handover,
    last: Option<([u8; 128], usize)>,
}

impl Transmit for Out {
    fn send(&mut self, umem: &mut Umem, _: InterfaceId, frame: Frame, _: u64) -> Result<(), (Frame, DropReason)> {
        let mut copy = [0; 128];
        let packet = umem.packet(&frame);
        let length = packet.len().min(128);
        copy[..length].copy_from_slice(&packet[..length]);
        self.last = Some((copy, length));
        umem.free(frame);
        Ok(())
    }

    fn pass(&mut self, _: &[u8], _: InterfaceId) -> bool {
        true
    }

    fn hand_over(&mut self, worker: u16, packet: &[u8], arrived: InterfaceId, tag: u64, doubted: bool) -> bool {
        self.handover.send(worker, packet, arrived, tag, doubted)
    }

    fn note(&mut self, _: &Fate) {}
}

/// A worker's loop without its ports.
struct Loop {
    umem: Umem,
    pipeline: Pipeline,
    batch: Batch,
    snapshots: Reader<Snapshot>,
    out: Out,
}

impl Loop {
    fn new(worker: u16, snapshots: Reader<Snapshot>, handover: Handover, directory: Arc<FlowDirectory>) -> Self {
        let config = PipelineConfig {
            worker,
            workers: 2,
            snat_ports: PortSet::from(61_000..=61_127),
            ..PipelineConfig::single()
        };
        let flows = FlowTable::new(&FlowConfig {
            capacity: 256,
            seed: 1,
            snat_ports: port_share(&config.snat_ports, worker, 2).unwrap(),
            timeouts: Timeouts::default(),
        });
        let shared = Shared {
            directory: Some(directory),
            direct: DirectConnections::new(),
            affinities: Affinities::new(64, 1),
            suspects: Default::default(),
            resolver: Resolver::new().unwrap(),
            counters: WorkerCounters::new(64),
        };
        Loop {
            umem: Umem::new(UmemLayout::of_frames(512)).unwrap(),
            pipeline: Pipeline::new(config, flows, shared),
            batch: Batch::new(),
            snapshots,
            out: Out { handover, last: None },
        }
    }

    /// One turn with these packets; how often it allocated or freed.
    fn turn(&mut self, packets: &[(InterfaceId, Vec<u8>)], now: Time) -> u64 {
        let Loop { umem, pipeline, batch, snapshots, out } = self;
        calls(|| {
            let snapshot = snapshots.current();
            for packets in packets.chunks(BATCH) {
                for (arrives, bytes) in packets {
                    assert!(batch.push(umem, bytes, *arrives, 0));
                }
                pipeline.process(umem, batch, snapshot, now);
                dispatch(batch, umem, pipeline.tally(), out);
            }
            while let Some(mut frame) = umem.allocate() {
                let unpacked = out.handover.receive(|bytes, interface, _| (umem.fill(&mut frame, bytes), interface));
                let Some((true, interface)) = unpacked else {
                    umem.free(frame);
                    break;
                };
                batch.input.push(Received { frame, interface, tag: 0, handed_over: true });
                if batch.input.is_full() {
                    break;
                }
            }
            pipeline.process(umem, batch, snapshot, now);
            dispatch(batch, umem, pipeline.tally(), out);
            pipeline.release(umem, batch, snapshot, now);
            dispatch(batch, umem, pipeline.tally(), out);
            pipeline.expire(now, 64);
            pipeline.publish();
            snapshots.ack();
        })
        .0
    }

    fn tally(&mut self) -> Tally {
        self.pipeline.tally().clone()
    }
}

/// Frames of lines; `*` in a source port counts up.
fn frames(count: u16, line: &str) -> Vec<(InterfaceId, Vec<u8>)> {
    let (name, text) = line.split_once(' ').unwrap();
    let arrives = text::interface(name).unwrap();
    (0..count).map(|step| (arrives, text::frame(arrives, &text.replace('*', &(20_000 + step).to_string())))).collect()
}

#[test]
fn the_packet_path_does_not_allocate() {
    let bed = Bed::of(&[
        "web tcp 172.30.0.41:80 node=30080 -> 10.0.1.1:8080 10.0.1.2:8080",
        "dns udp [fd00:172:30::53]:53 -> [fd00:10::3]:5353",
        "local tcp 172.30.0.46:80 lb=198.51.100.7 etp=Local -> 10.0.1.5:80/local",
        "empty tcp 172.30.0.44:80 ->",
        "empty udp 172.30.0.44:53 ->",
        "wait udp 172.30.0.48:53 -> 10.0.1.99:53",
        "busy tcp 172.30.0.49:80 -> 10.0.1.6:80",
    ])
    .then("changed", &["web tcp 172.30.0.41:80 node=30080 -> 10.0.1.2:8080", "empty tcp 172.30.0.44:80 ->"])
    .then_neighbors("flushed", Neighbors::Outside)
    .then_neighbors("known", Neighbors::All);
    let (mut publisher, mut readers) = Publisher::new(bed.first().clone(), 2);
    let (_mesh, mut ends) = Mesh::new(2).unwrap();
    let directory = FlowDirectory::new(512);
    let mut b = Loop::new(1, readers.pop().unwrap(), ends.pop().unwrap(), directory.clone());
    let mut a = Loop::new(0, readers.pop().unwrap(), ends.pop().unwrap(), directory);

    let mut time = 0;
    let mut now = |millis: u64| {
        time += millis;
        ms(time)
    };
    let kinds: &[(&str, u16, &str)] = &[
        ("masqueraded flows", 50, "outside tcp S 203.0.113.9:* > 172.30.0.41:80"),
        ("their next packets", 50, "outside tcp A 203.0.113.9:* > 172.30.0.41:80 seq=1001 data=x sum=partial"),
        ("source-kept flows", 50, "inside tcp S 10.0.1.9:* > 172.30.0.41:80"),
        ("evictions", 600, "inside tcp S 10.0.1.8:* > 172.30.0.41:80"),
        ("flows over IPv6", 50, "outside udp [2001:db8:c::9]:* > [fd00:172:30::53]:53 bytes=1400"),
        (
            "errors about flows",
            50,
            "outside icmp 2/0 [2001:db8:c::9] > [fd00:172:30::53] about udp [fd00:172:30::53]:53 > [2001:db8:c::9]:* bytes=1400 quote=1232",
        ),
        (
            "errors that are not believed",
            50,
            "outside icmp 3/1 203.0.113.9 > 172.30.0.41 about tcp SA 172.30.0.41:80 > 203.0.113.9:*",
        ),
        ("reclaimed ports", 300, "outside tcp S 203.0.113.10:* > 172.30.0.41:80"),
        ("resets", 50, "outside tcp S 203.0.113.9:* > 172.30.0.44:80 data=x"),
        ("port unreachable", 50, "outside udp 203.0.113.9:* > 172.30.0.44:53 bytes=1000"),
        ("time exceeded", 20, "outside tcp S 203.0.113.9:* > 172.30.0.41:80 ttl=1"),
        ("pings", 20, "outside echo 203.0.113.9 > 172.30.0.41 bytes=56"),
        ("answers over the limit", 1200, "outside tcp S 203.0.113.9:* > 172.30.0.44:80"),
        ("drops", 20, "outside tcp S 203.0.113.9:* > 172.30.9.9:80"),
        ("broken packets", 20, "outside tcp S 203.0.113.9:* > 172.30.0.41:80 poke=24:dead"),
        ("later fragments", 30, "outside udp [2001:db8:c::9]:* > [fd00:172:30::53]:0 frag=16+ bytes=8 id=7"),
        ("first fragments", 20, "outside udp [2001:db8:c::9]:* > [fd00:172:30::53]:53 frag=0+ bytes=8 id=7"),
        ("passed packets", 20, "outside tcp S 203.0.113.9:* > 192.168.0.2:22 sum=partial"),
        ("held packets", 30, "outside udp 203.0.113.9:* > 172.30.0.48:53"),
    ];
    // Nothing is warmed up: what the first packet of a kind costs, its user pays.
    for (what, count, line) in kinds {
        let packets = frames(*count, line);
        assert_eq!(a.turn(&packets, now(1)), 0, "{what}");
    }
    assert_eq!(a.pipeline.held(), 16);
    assert_eq!(a.turn(&[], now(1500)), 0, "held packets that waited too long");
    assert_eq!(a.pipeline.held(), 0);

    // Established flows give no port up.
    assert_eq!(a.turn(&frames(64, "outside tcp S 203.0.113.30:* > 172.30.0.49:80"), now(1)), 0);
    let answers = |port| frames(1, &format!("inside tcp SA 10.0.1.6:80 > 10.0.255.254:{port} seq=5000 ack=1001"));
    assert_eq!(a.turn(&(61_000..61_064).flat_map(answers).collect::<Vec<_>>(), now(1)), 0, "answers");
    let last = frames(64, "outside tcp A 203.0.113.30:* > 172.30.0.49:80 seq=1001 ack=5001");
    assert_eq!(a.turn(&last, now(1)), 0, "handshakes");
    // The other worker lends its ports, as long as it has some; it did so before, when ports were reclaimed.
    while b.tally().get(Counter::Rx) < a.tally().get(Counter::HandedOver) {
        assert_eq!(b.turn(&[], now(1)), 0, "lent ports");
    }
    let (lent, forwarded) = (a.tally().get(Counter::HandedOver), b.tally().get(Counter::Forwarded));
    assert_eq!(a.turn(&frames(9, "outside tcp S 203.0.113.31:* > 172.30.0.49:80"), now(1)), 0, "borrowed ports");
    assert_eq!(a.tally().get(Counter::HandedOver), lent + 9);
    assert_eq!(b.turn(&[], now(1)), 0, "lent ports");
    assert_eq!(b.tally().get(Counter::Forwarded), forwarded + 9);
    assert_eq!(b.turn(&frames(64, "outside tcp S 203.0.113.32:* > 172.30.0.49:80"), now(1)), 0, "no ports anywhere");
    assert_eq!(a.turn(&[], now(1)), 0, "exhausted ports");
    assert_eq!(a.tally().drops(DropReason::SnatPortsExhausted), 9);

    // Handover: replies of a source-kept and of a masqueraded flow arrive at the other worker.
    assert_eq!(a.turn(&frames(1, "outside tcp S 203.0.113.20:7 > 198.51.100.7:80"), now(1)), 0);
    let reply = frames(1, "inside tcp SA 10.0.1.5:80 > 203.0.113.20:7 ack=1001");
    assert_eq!(a.turn(&frames(1, "outside udp [2001:db8:c::20]:9 > [fd00:172:30::53]:53"), now(1)), 0);
    let (sent, _) = a.out.last.unwrap();
    let port = u16::from_be_bytes([sent[54], sent[55]]);
    let other = frames(1, &format!("inside udp [fd00:10::3]:5353 > [fd00:10::fffe]:{port}"));
    let forwarded = a.tally().get(Counter::Forwarded);
    let handed_over = b.tally().get(Counter::HandedOver);
    assert_eq!(b.turn(&[reply, other].concat(), now(1)), 0, "handing over");
    assert_eq!(b.tally().get(Counter::HandedOver), handed_over + 2);
    assert_eq!(a.turn(&[], now(1)), 0, "taking over");
    assert_eq!(a.tally().get(Counter::Forwarded), forwarded + 2);

    // Changes: flows whose endpoint went, and whose neighbours went.
    let packets = frames(150, "inside tcp A 10.0.1.8:* > 172.30.0.41:80");
    assert_eq!(a.turn(&packets, now(300)), 0);
    for (number, name) in ["changed", "flushed", "known"].iter().enumerate() {
        publisher.publish(bed.snapshot(name).clone());
        assert_eq!(a.turn(&packets, now(300)), 0, "{name}");
        assert_eq!(a.turn(&[], now(1)), 0, "{name}: release");
        b.turn(&[], now(1));
        assert_eq!(publisher.acked(), number as u64 + 1);
        publisher.retire();
    }

    // Everything ends.
    for _ in 0..450 {
        assert_eq!(a.turn(&[], now(20_000)), 0, "expiry");
    }
    assert!(a.pipeline.flows().is_empty());
    let tally = a.tally();
    assert!(tally.closes());
    for counter in [Counter::FlowsEvicted, Counter::RepliesLimited, Counter::Replied, Counter::Passed] {
        assert!(tally.get(counter) > 0, "{} never happened", counter.label());
    }
    for reason in [DropReason::SnatPortsExhausted, DropReason::NeighborUnresolved, DropReason::FragmentOverlap] {
        assert!(tally.drops(reason) > 0, "{} never happened", reason.label());
    }
    assert!(tally.replies(DropReason::EndpointDeleted) > 0);
}
