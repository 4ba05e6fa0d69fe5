//! A worker's packet path in memory: what a packet costs without any I/O.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::{Frame, Umem, UmemLayout};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::batch::{BATCH, Batch};
use ringway_dataplane::clock::Time;
use ringway_dataplane::config::PipelineConfig;
use ringway_dataplane::dispatch::{Transmit, dispatch};
use ringway_dataplane::flow::{FlowConfig, FlowTable, Timeouts};
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_shared::counters::{Counter, WorkerCounters};
use ringway_shared::endpoint::EndpointState;
use ringway_shared::network::{Interface, Network};
use ringway_shared::service::ServiceName;
use ringway_shared::snapshot::{Generation, Node, Target};
use ringway_shared::{
    Backend, BackendId, DropReason, Endpoint, EndpointSet, Family, Frontend, InterfaceId, MacAddress, Matched,
    Protocol, ServicePort, ServicePortId, Services, Snapshot,
};

use crate::traffic::{Mix, Random, Stamp};

const OUTSIDE: InterfaceId = InterfaceId(0);
const INSIDE: InterfaceId = InterfaceId(1);
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);
const NODE_PORT: u16 = 30_053;

/// One Service with `backends` endpoints, asked for by its NodePort: every flow is masqueraded.
pub fn snapshot(backends: u32) -> Snapshot {
    let backend = |n: u32| Backend {
        id: BackendId(n),
        address: IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + n)),
        port: 53,
        weight: 1,
    };
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
        protocol: Protocol::Udp,
        port: 53,
        family: Family::V4,
        internal_policy: Default::default(),
        external_policy: Default::default(),
        affinity: None,
        forwarding: Default::default(),
        source_ranges: None,
        endpoints: endpoints.into(),
        cluster: set.clone(),
        local: set,
        has_endpoint: true,
    });
    let mut services = Services {
        generation: 1,
        node: Node { addresses: [IpAddr::V4(NODE)].into_iter().collect(), pod_cidrs: Vec::new() },
        service_ports: vec![Some(port.clone())].into(),
        ..Services::default()
    };
    let frontend = Frontend { address: IpAddr::V4(NODE), protocol: Protocol::Udp, port: NODE_PORT };
    services.frontends.insert(frontend, Target { matched: Matched::NodePort, service_port: port });
    let interface = |id: InterfaceId, name: &str, address: &str| Interface {
        id,
        name: name.into(),
        index: u32::from(id.0) + 1,
        mac: MAC,
        mtu: 1500,
        addresses: vec![address.parse().expect("a constant")],
        up: true,
    };
    // Both networks are on link; every backend is a neighbour, and so is every client that a mix may have.
    let clients = (0..128).map(|n| (OUTSIDE, Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + n)));
    let pods = backends.iter().filter_map(|backend| match backend.address {
        IpAddr::V4(address) => Some((INSIDE, address)),
        IpAddr::V6(_) => None,
    });
    let neighbors: Vec<_> =
        clients.chain(pods).map(|(interface, address)| (interface, IpAddr::V4(address), CLIENT_MAC)).collect();
    let interfaces =
        vec![interface(OUTSIDE, "outside", "198.18.255.254/15"), interface(INSIDE, "inside", "10.255.255.254/8")];
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
    /// A bed with room for `capacity` flows, that sends the flows of a mix of `flows`.
    pub fn new(capacity: u32, flows: u32, backends: u32) -> Self {
        let config = PipelineConfig::single();
        // All ports but the reserved ones: a million flows to a thousand backends.
        let table = FlowTable::new(&FlowConfig {
            capacity,
            seed: 0x0123_4567_89ab_cdef,
            timeouts: Timeouts::default(),
            snat_ports: 1024..=65_535,
        });
        let counters = WorkerCounters::new(backends as usize);
        let resolver = Resolver::new().expect("an eventfd can be made");
        let shared = Shared { directory: None, affinities: Affinities::new(1, 1), resolver, counters };
        let mix = Mix {
            flows,
            size: 60,
            destination_mac: MAC,
            source_mac: CLIENT_MAC,
            first_client: Ipv4Addr::new(198, 18, 0, 1),
            destination: (NODE, NODE_PORT),
        };
        MemoryBed {
            umem: Umem::new(UmemLayout::of_frames(2 * BATCH as u32)).expect("memory for a few frames"),
            pipeline: Pipeline::new(config, table, shared),
            snapshot: snapshot(backends),
            batch: Batch::new(),
            mix,
            now: Time(1),
            random: Random(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Sends one batch of the flows that `pick` names; returns what the pipeline took for it.
    pub fn batch(&mut self, mut pick: impl FnMut(&mut Random, u32) -> u32) -> Duration {
        let mut frame = [0; 128];
        for _ in 0..BATCH {
            let flow = pick(&mut self.random, self.mix.flows);
            let length = self.mix.write(flow, Stamp::default(), &mut frame);
            let bytes = frame.get(..length).unwrap_or_default();
            assert!(self.batch.push(&mut self.umem, bytes, OUTSIDE, 0), "the UMEM has room for two batches");
        }
        self.now = Time(self.now.0 + 10_000);
        let start = Instant::now();
        self.pipeline.process(&mut self.umem, &mut self.batch, &self.snapshot, self.now);
        dispatch(&mut self.batch, &mut self.umem, self.pipeline.tally(), &mut Sink);
        self.pipeline.expire(self.now, 32);
        self.pipeline.publish();
        start.elapsed()
    }

    /// Opens every flow of the mix, in order.
    pub fn open_all(&mut self) {
        let mut next = 0;
        for _ in 0..self.mix.flows.div_ceil(BATCH as u32) {
            self.batch(|_, flows| {
                next += 1;
                (next - 1) % flows
            });
        }
        assert_eq!(self.pipeline.flows().len(), self.mix.flows, "every flow of the mix is open");
    }

    /// What `packets` packets of random known flows cost.
    pub fn established(&mut self, packets: u64) -> Duration {
        let before = self.pipeline.tally().get(Counter::FlowsOpened);
        let batches = packets.div_ceil(BATCH as u64);
        let total = (0..batches).map(|_| self.batch(Random::below)).sum();
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
                self.batch(|_, _| {
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
