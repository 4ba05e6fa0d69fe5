//! A worker's packet path in memory: what a packet costs without any I/O.

mod cluster;
mod forged;
mod fragments;
mod rings;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::{Frame, Umem, UmemLayout};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::batch::{BATCH, Batch};
use ringway_dataplane::clock::Time;
use ringway_dataplane::config::{PipelineConfig, port_share};
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::directory::FlowDirectory;
use ringway_dataplane::dispatch::{Transmit, dispatch};
use ringway_dataplane::flow::{FlowConfig, FlowTable, Timeouts};
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_dataplane::wire::{Packet, checksum};
use ringway_shared::counters::{Counter, WorkerCounters};
use ringway_shared::{DropReason, Family, InterfaceId, PortSet, Protocol, Snapshot};

pub use forged::{Flooded, ForgedCost, flooded};
pub use fragments::{MOST_FRAGMENTS, hand_over, replies_of_another};

use cluster::{CLIENT_MAC, INSIDE, MAC, NODE_PORT, OUTSIDE, Plan};

use crate::traffic::{Kind, Mix, PSH_ACK, Random, SizeList, Stamp};

/// Frees whatever leaves.
struct Sink;

impl Transmit for Sink {
    #[inline]
    fn send(&mut self, umem: &mut Umem, _: InterfaceId, frame: Frame, _: u64) -> Result<(), (Frame, DropReason)> {
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

/// Keeps what leaves, for the endpoints to answer.
#[derive(Default)]
struct Kept(Vec<Vec<u8>>);

impl Transmit for Kept {
    fn send(&mut self, umem: &mut Umem, _: InterfaceId, frame: Frame, _: u64) -> Result<(), (Frame, DropReason)> {
        self.0.push(umem.packet(&frame).to_vec());
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

/// Who shares the work, each with a queue of its own.
#[derive(Clone, Copy, Debug)]
pub struct Company {
    /// How many there are.
    pub workers: u16,
    /// Whether it can be computed which queue a reply comes to, so that ports are chosen by it.
    pub knows_queues: bool,
}

impl Default for Company {
    fn default() -> Self {
        Company { workers: 1, knows_queues: false }
    }
}

/// A worker in memory, and the mix that it gets.
pub struct MemoryBed {
    umem: Umem,
    pipeline: Pipeline,
    snapshot: Snapshot,
    batch: Batch,
    mix: Mix,
    now: Time,
    random: Random,
}

impl MemoryBed {
    /// A bed with room for `capacity` flows, that sends the flows of a mix of `flows`, in frames as short as can be.
    pub fn new(kind: Kind, capacity: u32, flows: u32, backends: u32) -> Self {
        Self::among(&Company::default(), kind, capacity, flows, backends)
    }

    /// As [`Self::new`], for a worker that is not alone.
    pub fn among(company: &Company, kind: Kind, capacity: u32, flows: u32, backends: u32) -> Self {
        let workers = company.workers;
        // All ports but the reserved ones: a million flows to a thousand backends.
        let config = PipelineConfig { workers, snat_ports: PortSet::from(1024..=65_535), ..PipelineConfig::single() };
        let table = FlowTable::new(&FlowConfig {
            capacity,
            seed: 0x0123_4567_89ab_cdef,
            timeouts: Timeouts::default(),
            snat_ports: port_share(&config.snat_ports, 0, workers).expect("a port for each"),
        });
        let counters = WorkerCounters::new(backends as usize);
        let resolver = Resolver::new().expect("an eventfd can be made");
        let shared = Shared {
            directory: (workers > 1).then(|| FlowDirectory::new(capacity as usize)),
            direct: DirectConnections::new(),
            affinities: Affinities::new(1, 1),
            suspects: Default::default(),
            resolver,
            counters,
        };
        let plan = Plan::of(kind);
        let mix = Mix {
            kind,
            flows,
            sizes: SizeList::Shortest.of(kind),
            destination_mac: MAC,
            source_mac: CLIENT_MAC,
            first_client: plan.first_client(),
            destination: SocketAddr::new(plan.node(), NODE_PORT),
        };
        MemoryBed {
            umem: Umem::new(UmemLayout::of_frames(2 * BATCH as u32)).expect("memory for a few frames"),
            pipeline: Pipeline::new(config, table, shared),
            snapshot: cluster::snapshot(kind, backends, company.knows_queues.then_some(workers)),
            batch: Batch::new(),
            mix,
            now: Time(1),
            random: Random(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Sends one batch of frames with these TCP flags, of the flows that `pick` names; what the pipeline took for it.
    fn batch(&mut self, flags: u8, to: &mut impl Transmit, mut pick: impl FnMut(&mut Random, u32) -> u32) -> Duration {
        let (mut frame, size) = ([0; 128], self.mix.kind.shortest());
        for _ in 0..BATCH {
            let flow = pick(&mut self.random, self.mix.flows);
            let length = self.mix.write(flow, size, flags, Stamp::default(), &mut frame);
            self.push(frame.get(..length).unwrap_or_default(), OUTSIDE);
        }
        self.process(to)
    }

    fn push(&mut self, bytes: &[u8], interface: InterfaceId) {
        assert!(self.batch.push(&mut self.umem, bytes, interface, 0), "the UMEM has room for two batches");
    }

    fn process(&mut self, to: &mut impl Transmit) -> Duration {
        self.now = Time(self.now.0 + 10_000);
        let start = Instant::now();
        self.carry(to);
        self.pipeline.expire(self.now, 32);
        self.pipeline.publish();
        start.elapsed()
    }

    /// What `perf/instructions.sh` counts, by this name: never a part of another function.
    #[inline(never)]
    fn carry(&mut self, to: &mut impl Transmit) {
        self.pipeline.process(&mut self.umem, &mut self.batch, &self.snapshot, self.now);
        dispatch(&mut self.batch, &mut self.umem, self.pipeline.tally(), to);
    }

    /// Opens every flow of the mix, in order; those of TCP to the end of the handshake.
    pub fn open_all(&mut self) {
        for first in (0..self.mix.flows).step_by(BATCH) {
            // In the last batch flows of the first may stand once more.
            let flows = || {
                let mut next = first;
                move |_: &mut Random, flows: u32| {
                    next += 1;
                    (next - 1) % flows
                }
            };
            if !self.mix.kind.is_tcp() {
                self.batch(Mix::flags(true), &mut Sink, flows());
                continue;
            }
            let mut kept = Kept::default();
            self.batch(Mix::flags(true), &mut kept, flows());
            for mut frame in kept.0 {
                answer(&mut frame).expect("what Ringway sends on has a TCP header");
                self.push(&frame, INSIDE);
            }
            self.process(&mut Sink);
            self.batch(PSH_ACK, &mut Sink, flows());
        }
        assert_eq!(self.pipeline.flows().len(), self.mix.flows, "every flow of the mix is open");
        assert_eq!(self.pipeline.tally().dropped(), 0, "no drop");
    }

    /// What `packets` packets of random known flows cost.
    pub fn established(&mut self, packets: u64) -> Duration {
        let before = self.pipeline.tally().get(Counter::FlowsOpened);
        let batches = packets.div_ceil(BATCH as u64);
        let total = (0..batches).map(|_| self.batch(PSH_ACK, &mut Sink, Random::below)).sum();
        let tally = self.pipeline.tally();
        assert_eq!(tally.get(Counter::FlowsOpened), before, "no new flow");
        assert_eq!(tally.dropped(), 0, "no drop");
        total
    }

    /// Lets every flow expire and forgets the time it took.
    pub fn forget(&mut self) {
        self.now = Time(self.now.0 + 600_000_000_000);
        while !self.pipeline.flows().is_empty() {
            self.pipeline.expire(self.now, 4096);
        }
    }

    /// What opening all flows of the mix costs in a table that has its size, per the whole mix.
    pub fn opening(&mut self) -> Duration {
        let mut next = 0;
        let batches = self.mix.flows / BATCH as u32;
        (0..batches)
            .map(|_| {
                self.batch(Mix::flags(true), &mut Sink, |_, _| {
                    next += 1;
                    next - 1
                })
            })
            .sum()
    }

    /// Bytes of the flow table.
    pub fn memory_bytes(&self) -> usize {
        self.pipeline.flows().memory_bytes()
    }
}

/// Makes the SYN that reached an endpoint the endpoint's answer.
fn answer(frame: &mut [u8]) -> Option<()> {
    let packet = Packet::parse(frame).ok()?;
    let (l4, end) = (usize::from(packet.l4), usize::from(packet.end));
    let (address, source) = if packet.family() == Family::V6 { (16, 22) } else { (4, 26) };
    swap(frame, 0, 6)?;
    swap(frame, source, address)?;
    swap(frame, l4, 2)?;
    // It acknowledges the SYN, and the client's next packet acknowledges this one: in a mix all numbers are 1.
    frame.get_mut(l4 + 4..l4 + 12)?.copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 2]);
    *frame.get_mut(l4 + 13)? = SYN_ACK;
    frame.get_mut(l4 + 16..l4 + 18)?.fill(0);
    // The same addresses, so the pseudo-header's sum is the same.
    let pseudo = checksum::pseudo_header(&packet.tuple, Protocol::Tcp.number(), (end - l4) as u16);
    let sum = u64::from(pseudo) + u64::from(checksum::sum(frame.get(l4..end)?));
    frame.get_mut(l4 + 16..l4 + 18)?.copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    Some(())
}

const SYN_ACK: u8 = 0x12;

/// Exchanges two neighbouring parts of `length` bytes each.
fn swap(frame: &mut [u8], at: usize, length: usize) -> Option<()> {
    let (first, second) = frame.get_mut(at..at + 2 * length)?.split_at_mut(length);
    first.swap_with_slice(second);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is refused on the way: the bed panics where a flow is missing or a packet dropped.
    #[test]
    fn every_kind_of_flow_opens_and_goes_on() {
        for kind in Kind::ALL {
            let mut bed = MemoryBed::new(kind, 1024, 200, 10);
            bed.opening();
            bed.forget();
            bed.open_all();
            bed.established(1_000);
            let tally = bed.pipeline.tally();
            assert!(tally.closes(), "{kind}");
            let half_open = tally.get(Counter::FlowsHalfOpen);
            assert_eq!(half_open, if kind.is_tcp() { 0 } else { 200 }, "{kind}: a handshake was not finished");
        }
    }

    /// Otherwise what choosing by queue costs would not be seen.
    #[test]
    fn ports_are_chosen_by_queue_where_that_is_known() {
        let ports = |knows_queues| {
            let company = Company { workers: 4, knows_queues };
            let mut bed = MemoryBed::among(&company, Kind::Udp4, 1024, 256, 1);
            bed.opening();
            let uses = bed.pipeline.flows().port_uses().map(|port_use| port_use.used).sum::<u32>();
            let mut ports = Vec::new();
            bed.pipeline.flows().scan(0, 256, |_, flow| ports.push(flow.reply().destination_port()));
            ports.sort_unstable();
            assert_eq!((uses, ports.len()), (256, 256));
            ports.last().zip(ports.first()).map_or(0, |(last, first)| last - first)
        };
        assert_eq!(ports(false), 255, "one after the other");
        assert!(ports(true) > 3 * 255, "one in four fits");
    }
}
