//! A worker's packet path in memory: what a packet costs without any I/O.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::{Frame, Umem, UmemLayout};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::batch::{BATCH, Batch};
use ringway_dataplane::clock::Time;
use ringway_dataplane::config::PipelineConfig;
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::dispatch::{Transmit, dispatch};
use ringway_dataplane::flow::{FlowConfig, FlowTable, Timeouts};
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_dataplane::wire::{Packet, checksum};
use ringway_shared::counters::{Counter, WorkerCounters};
use ringway_shared::endpoint::EndpointState;
use ringway_shared::network::{Interface, Lowers, Network};
use ringway_shared::service::ServiceName;
use ringway_shared::snapshot::{Generation, Node, Target};
use ringway_shared::{
    Backend, BackendId, DropReason, Endpoint, EndpointSet, Family, Frontend, InterfaceId, MacAddress, Matched, PortSet,
    Protocol, ServicePort, ServicePortId, Services, Snapshot,
};

use crate::traffic::{Kind, Mix, PSH_ACK, Random, SizeList, Stamp};

const OUTSIDE: InterfaceId = InterfaceId(0);
const INSIDE: InterfaceId = InterfaceId(1);
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const NODE_PORT: u16 = 30_053;

/// Addresses of one family.
struct Plan {
    node: &'static str,
    first_client: &'static str,
    first_backend: &'static str,
    outside: &'static str,
    inside: &'static str,
}

const V4: Plan = Plan {
    node: "192.168.0.2",
    first_client: "198.18.0.1",
    first_backend: "10.0.0.1",
    outside: "198.18.255.254/15",
    inside: "10.255.255.254/8",
};
const V6: Plan = Plan {
    node: "fd00:168::2",
    first_client: "fd00:198::1",
    first_backend: "fd00:10::1",
    outside: "fd00:198::ffff:fffe/64",
    inside: "fd00:10::ffff:fffe/64",
};

impl Plan {
    fn of(kind: Kind) -> &'static Plan {
        if kind.is_v6() { &V6 } else { &V4 }
    }

    fn node(&self) -> IpAddr {
        self.node.parse().expect("a constant")
    }

    fn first_client(&self) -> IpAddr {
        self.first_client.parse().expect("a constant")
    }

    fn backend(&self, n: u32) -> IpAddr {
        after(self.first_backend.parse().expect("a constant"), n)
    }
}

/// The `n`th address after another.
fn after(first: IpAddr, n: u32) -> IpAddr {
    match first {
        IpAddr::V4(first) => IpAddr::V4((first.to_bits() + n).into()),
        IpAddr::V6(first) => IpAddr::V6((first.to_bits() + u128::from(n)).into()),
    }
}

/// One Service with `backends` endpoints, asked for by its NodePort: every flow is masqueraded.
pub fn snapshot(kind: Kind, backends: u32) -> Snapshot {
    let plan = Plan::of(kind);
    let (node, protocol) = (plan.node(), kind.protocol());
    let backend = |n: u32| Backend { id: BackendId(n), address: plan.backend(n), port: 53, weight: 1 };
    let backends: Vec<Backend> = (0..backends).map(backend).collect();
    let endpoints: Vec<Endpoint> = backends
        .iter()
        .map(|backend| Endpoint {
            backend: *backend,
            state: EndpointState { ready: true, serving: true, terminating: false },
            node: None,
            zone: None,
            slice: "perf/slice".into(),
            excluded_from_cluster: None,
            excluded_from_local: None,
        })
        .collect();
    let set = EndpointSet::new(backends.clone());
    let port = Arc::new(ServicePort {
        id: ServicePortId(0),
        service: ServiceName { namespace: "perf".into(), name: "dns".into() },
        port_name: "".into(),
        protocol,
        port: 53,
        family: if kind.is_v6() { Family::V6 } else { Family::V4 },
        internal_policy: Default::default(),
        external_policy: Default::default(),
        affinity: None,
        forwarding: Default::default(),
        source_ranges: None,
        endpoints: endpoints.into(),
        other_family: [].into(),
        cluster: set.clone(),
        local: set,
        has_endpoint: true,
    });
    let mut services = Services {
        generation: 1,
        node: Node { addresses: [node].into_iter().collect(), pod_cidrs: Vec::new() },
        service_ports: vec![Some(port.clone())].into(),
        ..Services::default()
    };
    let frontend = Frontend { address: node, protocol, port: NODE_PORT };
    services.frontends.insert(frontend, Target { matched: Matched::NodePort, service_port: port });
    let interface = |id: InterfaceId, name: &str, address: &str| Interface {
        id,
        name: name.into(),
        index: u32::from(id.0) + 1,
        mac: MAC,
        mtu: 1500,
        addresses: vec![address.parse().expect("a constant")],
        up: true,
        lowers: Lowers::default(),
    };
    // Both networks are on link; every backend is a neighbour, and so is every client that a mix may have.
    let clients = (0..128).map(|n| (OUTSIDE, after(plan.first_client(), n)));
    let pods = backends.iter().map(|backend| (INSIDE, backend.address));
    let neighbors: Vec<_> = clients.chain(pods).map(|(interface, address)| (interface, address, CLIENT_MAC)).collect();
    let interfaces = vec![interface(OUTSIDE, "outside", plan.outside), interface(INSIDE, "inside", plan.inside)];
    Snapshot {
        generation: Generation(1),
        services: Arc::new(services),
        network: Arc::new(Network::new(1, interfaces, [], neighbors)),
    }
}

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

    fn hand_over(&mut self, _: u16, _: &[u8], _: InterfaceId, _: u64) -> bool {
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

    fn hand_over(&mut self, _: u16, _: &[u8], _: InterfaceId, _: u64) -> bool {
        true
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
        let config = PipelineConfig::single();
        // All ports but the reserved ones: a million flows to a thousand backends.
        let table = FlowTable::new(&FlowConfig {
            capacity,
            seed: 0x0123_4567_89ab_cdef,
            timeouts: Timeouts::default(),
            snat_ports: PortSet::from(1024..=65_535),
        });
        let counters = WorkerCounters::new(backends as usize);
        let resolver = Resolver::new().expect("an eventfd can be made");
        let shared = Shared {
            directory: None,
            direct: DirectConnections::new(),
            affinities: Affinities::new(1, 1),
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
            snapshot: snapshot(kind, backends),
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
}
