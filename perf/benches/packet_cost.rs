//! What a packet costs in memory. The targets: an established flow at most 40 ns at 1,000 flows and 100 ns at 1,000,000,
//! a new flow at most 200 ns.
#![allow(missing_docs, reason = "criterion's macros make items without documentation")]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use ringway_dataplane::clock::Time;
use ringway_dataplane::flow::{FlowConfig, FlowTable, NewFlow, ReplyQueues, Segment, Source, Timeouts};
use ringway_dataplane::forward::nat::{self, Rewrite};
use ringway_dataplane::wire::Packet;
use ringway_perf::memory_bed::{Company, MemoryBed};
use ringway_perf::traffic::Kind;
use ringway_shared::network::rss::{FieldsByPacket, HashedFields, Rss, RssSettings};
use ringway_shared::{BackendId, FiveTuple, PortSet, Protocol, ServicePortId};

/// Endpoints in the beds.
const BACKENDS: u32 = 1000;

/// What a whole number of batches took, as if it had been exactly `iterations` packets.
fn share(total: Duration, done: u64, iterations: u64) -> Duration {
    total.mul_f64(iterations as f64 / done.max(1) as f64)
}

fn pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(1));
    for flows in [1_000_u32, 65_536, 1_000_000] {
        let mut bed = MemoryBed::new(Kind::Udp4, flows.next_power_of_two(), flows, BACKENDS);
        bed.open_all();
        group.bench_function(BenchmarkId::new("established", flows), |bencher| {
            bencher.iter_custom(|packets| share(bed.established(packets), packets.div_ceil(64) * 64, packets));
        });
    }
    // What it costs more to choose ports whose replies come to the worker's own queue: at most 100 ns.
    for workers in [2, 4, 8] {
        for (name, knows_queues) in [("new_flow_any_port", false), ("new_flow_by_queue", true)] {
            let mut bed = MemoryBed::among(&Company { workers, knows_queues }, Kind::Udp4, 1024, 1024, 10);
            group.bench_function(BenchmarkId::new(name, workers), |bencher| {
                bencher.iter_custom(|flows| open_flows(&mut bed, flows));
            });
        }
    }
    // Every flow opens after the one before it in its record has ended: the table has its size, and nothing grows.
    let mut bed = MemoryBed::new(Kind::Udp4, 1024, 1024, BACKENDS);
    bed.opening();
    bed.forget();
    group.bench_function(BenchmarkId::new("new_flow", 1024), |bencher| {
        bencher.iter_custom(|flows| open_flows(&mut bed, flows));
    });
    group.finish();
}

/// What opening so many flows takes, in rounds of 1,024.
fn open_flows(bed: &mut MemoryBed, flows: u64) -> Duration {
    let rounds = flows.div_ceil(1024);
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        total += bed.opening();
        bed.forget();
    }
    share(total, rounds * 1024, flows)
}

/// A packet of 64 bytes of payload.
fn packet(v6: bool, tcp: bool) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
    let builder = if v6 {
        let address = |last: u8| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        builder.ipv6(address(1), address(2), 64)
    } else {
        builder.ipv4([192, 168, 0, 1], [192, 168, 0, 2], 64)
    };
    let mut bytes = Vec::new();
    let written = if tcp {
        builder.tcp(40_000, 443, 1, 65_000).write(&mut bytes, &[7; 64])
    } else {
        builder.udp(40_000, 443).write(&mut bytes, &[7; 64])
    };
    written.expect("a vector takes everything");
    bytes
}

const KINDS: [(&str, bool, bool); 4] =
    [("udp4", false, false), ("tcp4", false, true), ("udp6", true, false), ("tcp6", true, true)];

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, v6, tcp) in KINDS {
        let bytes = packet(v6, tcp);
        group.bench_function(name, |bencher| bencher.iter(|| Packet::parse(black_box(&bytes))));
    }
    group.finish();
}

fn rewrite(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rewrite");
    for (name, v6, tcp) in KINDS {
        let bytes = packet(v6, tcp);
        let packet = Packet::parse(&bytes).expect("a good packet");
        let ends: [&str; 2] = if v6 { ["fd00:1::1", "fd00:1::2"] } else { ["10.0.0.1", "10.0.0.2"] };
        let [source, destination] = ends.map(|text| text.parse::<IpAddr>().expect("a constant"));
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let to = FiveTuple::new(protocol, SocketAddr::new(source, 61_000), SocketAddr::new(destination, 8443));
        let rewrite = Rewrite::new(&packet.tuple, to);
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || bytes.clone(),
                |bytes| nat::rewrite(black_box(bytes), &packet, black_box(&rewrite)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flow_lookup");
    for flows in [1_000_u32, 65_536] {
        let mut table = FlowTable::new(&FlowConfig {
            capacity: flows,
            seed: 7,
            timeouts: Timeouts::default(),
            snat_ports: PortSet::from(61_000..=65_535),
        });
        let tuple = |n: u32| {
            let client = SocketAddr::new(IpAddr::V4((0xc612_0000 + (n >> 14)).into()), 1024 + (n & 0x3fff) as u16);
            FiveTuple::new(Protocol::Udp, client, SocketAddr::from(([192, 168, 0, 2], 53)))
        };
        for n in 0..flows {
            let flow = NewFlow {
                original: tuple(n),
                segment: Segment::default(),
                endpoint: IpAddr::V4([10, 0, 0, 1].into()),
                endpoint_port: 53,
                source: Source::Kept,
                service_port: ServicePortId(0),
                backend: BackendId(0),
            };
            table.open(&flow, Time(1)).expect("room for all");
        }
        let mut n = 0_u32;
        group.bench_function(BenchmarkId::from_parameter(flows), |bencher| {
            bencher.iter(|| {
                n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                table.lookup(&tuple((n >> 8) % flows), Time(2))
            });
        });
    }
    group.finish();
}

/// A masqueraded flow opened and ended, where the queue of its replies is to be a worker's of so many.
fn snat_port(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snat_port");
    for workers in [1_u16, 2, 4, 8] {
        let settings = RssSettings {
            key: (0..52_u8).map(|byte| byte.wrapping_mul(0x9d) ^ 0x5a).collect(),
            table: (0..128).map(|entry| entry % u32::from(workers)).collect(),
            fields: FieldsByPacket::all(HashedFields::AddressesAndPorts),
        };
        let rss = Rss::new(settings).expect("a whole key");
        let mut table = FlowTable::new(&FlowConfig {
            capacity: 1024,
            seed: 7,
            timeouts: Timeouts::default(),
            snat_ports: PortSet::from(1024..=u16::MAX / workers),
        });
        let mut n = 0_u32;
        group.bench_function(BenchmarkId::new("workers", workers), |bencher| {
            bencher.iter(|| {
                n = n.wrapping_add(1);
                let client = SocketAddr::new(IpAddr::V4((0xc612_0000 + (n >> 14)).into()), 1024 + (n & 0x3fff) as u16);
                let flow = NewFlow {
                    original: FiveTuple::new(Protocol::Tcp, client, SocketAddr::from(([192, 168, 0, 2], 443))),
                    segment: Segment::default(),
                    endpoint: IpAddr::V4([10, 0, 0, 1].into()),
                    endpoint_port: 8443,
                    source: Source::Masquerade(IpAddr::V4([192, 168, 0, 2].into())),
                    service_port: ServicePortId(0),
                    backend: BackendId(0),
                };
                let hash = table.hash(&flow.original);
                let opened = table.open_new(hash, &flow, ReplyQueues::new(&rss, 0, workers), Time(1));
                table.remove(opened.expect("a free port").id, Time(1))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pipeline, parse, rewrite, lookup, snat_port);
criterion_main!(benches);
