//! A gateway without a NIC for tests of the packet path: one node, two interfaces, a few Services, and packets built and
//! judged by etherparse.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use etherparse::{EtherType, IpFragOffset, PacketBuilder, SlicedPacket, TransportSlice};
use ringway_dataplane::af_xdp::{Umem, UmemLayout};
use ringway_dataplane::clock::Time;
use ringway_dataplane::config::{PipelineConfig, port_share};
use ringway_dataplane::flow::{FlowConfig, FlowTable, Timeouts};
use ringway_dataplane::io::memory::MemoryWorker;
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_dataplane::verdict::Verdict;
use ringway_shared::counters::{Counter, WorkerCounters};
use ringway_shared::endpoint::{EndpointState, Exclusion};
use ringway_shared::network::{Interface, Route, RouteTarget};
use ringway_shared::service::{ServiceName, SourceRanges, TrafficPolicy};
use ringway_shared::snapshot::{Generation, Node, Target, Vip};
use ringway_shared::{
    Backend, BackendId, DropReason, Endpoint, EndpointSet, Family, Frontend, InterfaceId, MacAddress, Matched, Network,
    Protocol, ServicePort, ServicePortId, Services, Snapshot,
};

/// Towards clients.
pub const OUTSIDE: InterfaceId = InterfaceId(0);
/// Towards pods.
pub const INSIDE: InterfaceId = InterfaceId(1);
pub const OUTSIDE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
pub const INSIDE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
pub const ROUTER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 1, 1]);
pub const POD_MAC: MacAddress = MacAddress([2, 0, 0, 0, 2, 1]);

/// One Service's port as a test states it.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: &'static str,
    pub protocol: Protocol,
    pub port: u16,
    pub cluster_ip: &'static str,
    pub external_ip: Option<&'static str>,
    pub load_balancer_ip: Option<&'static str>,
    pub node_port: Option<u16>,
    pub external_policy: TrafficPolicy,
    pub internal_policy: TrafficPolicy,
    pub affinity: Option<Duration>,
    pub source_ranges: Option<Vec<&'static str>>,
    /// Endpoints with whether they are local.
    pub endpoints: Vec<(&'static str, bool)>,
}

impl Spec {
    pub fn new(name: &'static str, protocol: Protocol, port: u16, cluster_ip: &'static str) -> Self {
        Spec {
            name,
            protocol,
            port,
            cluster_ip,
            external_ip: None,
            load_balancer_ip: None,
            node_port: None,
            external_policy: TrafficPolicy::Cluster,
            internal_policy: TrafficPolicy::Cluster,
            affinity: None,
            source_ranges: None,
            endpoints: Vec::new(),
        }
    }

    pub fn endpoints(mut self, endpoints: &[&'static str]) -> Self {
        self.endpoints = endpoints.iter().map(|endpoint| (*endpoint, false)).collect();
        self
    }

    fn compile(&self, id: u32) -> ServicePort {
        let backend = |index: usize, socket: &str| {
            let socket: SocketAddr = socket.parse().unwrap();
            Backend { id: BackendId(id * 16 + index as u32), address: socket.ip(), port: socket.port(), weight: 1 }
        };
        let mut endpoints: Vec<Endpoint> = (0..)
            .zip(&self.endpoints)
            .map(|(index, (socket, local))| Endpoint {
                backend: backend(index, socket),
                state: EndpointState { ready: true, serving: true, terminating: false },
                node: None,
                zone: None,
                slice: "test/slice".into(),
                excluded_from_cluster: None,
                excluded_from_local: (!local).then_some(Exclusion::OtherNode(None)),
            })
            .collect();
        endpoints.sort_by_key(|endpoint| (endpoint.backend.address, endpoint.backend.port));
        let set = |local: bool| {
            let members = endpoints.iter().filter(|e| !local || e.excluded_from_local.is_none());
            EndpointSet::new(members.map(|endpoint| endpoint.backend).collect())
        };
        let family = Family::of(self.cluster_ip.parse().unwrap());
        ServicePort {
            id: ServicePortId(id),
            service: ServiceName { namespace: "test".into(), name: self.name.into() },
            port_name: "".into(),
            protocol: self.protocol,
            port: self.port,
            family,
            internal_policy: self.internal_policy,
            external_policy: self.external_policy,
            affinity: self.affinity,
            forwarding: Default::default(),
            source_ranges: self.source_ranges.as_ref().map(|ranges| SourceRanges {
                ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
                own_vips: Box::default(),
            }),
            cluster: set(false),
            local: set(true),
            has_endpoint: !endpoints.is_empty(),
            endpoints: endpoints.into(),
        }
    }
}

/// Services compiled as `control` would, for one node with pods in 10.0.0.0/16 and fd00:10::/64.
pub fn services(generation: u32, specs: &[Spec], node_addresses: &[&str]) -> Services {
    let addresses: Vec<IpAddr> = node_addresses.iter().map(|address| address.parse().unwrap()).collect();
    let mut services = Services {
        generation,
        service_cidrs: vec!["172.30.0.0/16".parse().unwrap(), "fd00:172:30::/112".parse().unwrap()],
        node: Node {
            addresses: addresses.iter().copied().collect(),
            pod_cidrs: vec!["10.0.0.0/16".parse().unwrap(), "fd00:10::/64".parse().unwrap()],
        },
        ..Services::default()
    };
    for (id, spec) in (0..).zip(specs) {
        let port = Arc::new(spec.compile(id));
        let mut add = |address: IpAddr, number: u16, matched: Matched| {
            let target = Target { matched, service_port: port.clone() };
            if matched != Matched::NodePort {
                let vip = services.vips.entry(address).or_default();
                vip.cluster_ip |= matched == Matched::ClusterIp;
                vip.host_owned = addresses.contains(&address);
                vip.targets.push(target.clone());
            }
            let frontend = Frontend { address, protocol: spec.protocol, port: number };
            services.frontends.entry(frontend).or_insert(target);
        };
        add(spec.cluster_ip.parse().unwrap(), spec.port, Matched::ClusterIp);
        if let Some(address) = spec.external_ip {
            add(address.parse().unwrap(), spec.port, Matched::ExternalIp);
        }
        if let Some(address) = spec.load_balancer_ip {
            add(address.parse().unwrap(), spec.port, Matched::LoadBalancerIp);
        }
        if let Some(number) = spec.node_port {
            for address in addresses.iter().filter(|address| Family::of(**address) == port.family) {
                add(*address, number, Matched::NodePort);
            }
        }
        services.service_ports.push(Some(port));
    }
    services
}

/// Which neighbours are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbors {
    All,
    None,
    /// Only the router towards clients.
    Router,
}

/// The node's network: clients behind 192.168.0.254, pods on link behind the inside interface.
pub fn network(generation: u32, neighbors: Neighbors, mtu: u32) -> Network {
    let interface = |id: InterfaceId, name: &str, mac, addresses: [&str; 2], mtu| Interface {
        id,
        name: name.into(),
        index: u32::from(id.0) + 1,
        mac,
        mtu,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        up: true,
    };
    let interfaces = vec![
        interface(OUTSIDE, "outside", OUTSIDE_MAC, ["192.168.0.2/24", "2001:db8::2/64"], 1500),
        interface(INSIDE, "inside", INSIDE_MAC, ["10.0.255.254/16", "fd00:10::fffe/64"], mtu),
    ];
    let via = |to: &str, via: &str| Route {
        to: to.parse().unwrap(),
        target: RouteTarget::Out { interface: OUTSIDE, via: Some(via.parse().unwrap()) },
        source: None,
        metric: 0,
    };
    let unlisted = |to: &str| Route {
        to: to.parse().unwrap(),
        target: RouteTarget::Unlisted("wg0".into()),
        source: None,
        metric: 0,
    };
    let routes =
        vec![via("203.0.113.0/24", "192.168.0.254"), via("2001:db8:c::/48", "2001:db8::fe"), unlisted("10.99.0.0/16")];
    let mut known: Vec<(InterfaceId, IpAddr, MacAddress)> = Vec::new();
    if neighbors != Neighbors::None {
        known.push((OUTSIDE, "192.168.0.254".parse().unwrap(), ROUTER_MAC));
        known.push((OUTSIDE, "2001:db8::fe".parse().unwrap(), ROUTER_MAC));
        // A NIC's own neighbour asks, too.
        known.push((OUTSIDE, "192.168.0.77".parse().unwrap(), ROUTER_MAC));
    }
    if neighbors == Neighbors::All {
        for last in 1..=9u16 {
            known.push((INSIDE, format!("10.0.1.{last}").parse().unwrap(), POD_MAC));
            known.push((INSIDE, format!("fd00:10::{last}").parse().unwrap(), POD_MAC));
        }
    }
    Network::new(generation, interfaces, routes, known)
}

pub const NODE: [&str; 2] = ["192.168.0.2", "2001:db8::2"];

/// A snapshot with these Services and every neighbour known.
pub fn snapshot(specs: &[Spec]) -> Snapshot {
    snapshot_with(1, specs, Neighbors::All, 1500)
}

/// A snapshot in all its parts.
pub fn snapshot_with(generation: u32, specs: &[Spec], neighbors: Neighbors, mtu: u32) -> Snapshot {
    Snapshot {
        generation: Generation(u64::from(generation)),
        services: Arc::new(services(generation, specs, &NODE)),
        network: Arc::new(network(generation, neighbors, mtu)),
    }
}

/// Settings of the worker under test.
#[derive(Clone, Debug)]
pub struct Settings {
    pub pipeline: PipelineConfig,
    pub flows: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { pipeline: PipelineConfig::single(), flows: 1024 }
    }
}

/// One worker without a NIC.
pub fn worker(settings: &Settings) -> MemoryWorker {
    let config = settings.pipeline.clone();
    let ports = port_share(&config.snat_ports, config.worker, config.workers).unwrap();
    let flows = FlowTable::new(&FlowConfig {
        capacity: settings.flows,
        seed: 1,
        snat_ports: ports,
        timeouts: Timeouts::default(),
    });
    let shared = Shared { directory: None, resolver: Resolver::new().unwrap(), counters: WorkerCounters::new(1024) };
    let umem = Umem::new(UmemLayout::of_frames(512)).unwrap();
    MemoryWorker::new(umem, Pipeline::new(config, flows, shared))
}

/// A packet to build, or one that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    pub protocol: Protocol,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub ttl: u8,
    /// TCP control bits: S, A, F, R, P.
    pub flags: &'static str,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub payload: Vec<u8>,
    pub destination_mac: MacAddress,
    pub source_mac: MacAddress,
}

impl Wire {
    /// A packet from outside.
    pub fn new(protocol: Protocol, source: &str, destination: &str) -> Self {
        Wire {
            protocol,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ttl: 64,
            flags: "S",
            sequence: 1000,
            acknowledgment: 0,
            payload: Vec::new(),
            destination_mac: OUTSIDE_MAC,
            source_mac: ROUTER_MAC,
        }
    }

    pub fn tcp(source: &str, destination: &str, flags: &'static str) -> Self {
        Wire { flags, ..Wire::new(Protocol::Tcp, source, destination) }
    }

    pub fn udp(source: &str, destination: &str, payload: &[u8]) -> Self {
        Wire { payload: payload.to_vec(), ..Wire::new(Protocol::Udp, source, destination) }
    }

    /// From a pod: by the inside interface.
    pub fn inside(mut self) -> Self {
        (self.destination_mac, self.source_mac) = (INSIDE_MAC, POD_MAC);
        self
    }

    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(self.source_mac.0, self.destination_mac.0);
        let ip = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ethernet.ipv4(source.octets(), destination.octets(), self.ttl)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ethernet.ipv6(source.octets(), destination.octets(), self.ttl)
            }
            _ => panic!("mixed families"),
        };
        let mut frame = Vec::new();
        let (source, destination) = (self.source.port(), self.destination.port());
        match self.protocol {
            Protocol::Tcp => {
                let mut tcp = ip.tcp(source, destination, self.sequence, 0xffff);
                for flag in self.flags.chars() {
                    tcp = match flag {
                        'S' => tcp.syn(),
                        'A' => tcp.ack(self.acknowledgment),
                        'F' => tcp.fin(),
                        'R' => tcp.rst(),
                        'P' => tcp.psh(),
                        other => panic!("no TCP flag {other}"),
                    };
                }
                tcp.write(&mut frame, &self.payload).unwrap();
            }
            Protocol::Udp => ip.udp(source, destination).write(&mut frame, &self.payload).unwrap(),
            Protocol::Sctp => {
                let mut message = Vec::new();
                message.extend(source.to_be_bytes());
                message.extend(destination.to_be_bytes());
                message.extend([0; 8]);
                message.extend(&self.payload);
                ip.write(&mut frame, etherparse::IpNumber(132), &message).unwrap();
            }
        }
        frame
    }
}

/// Reads a frame that left, and judges every checksum in it.
pub fn judge(frame: &[u8]) -> Wire {
    let packet = SlicedPacket::from_ethernet(frame).expect("a frame that left can be read");
    let Some(etherparse::LinkSlice::Ethernet2(ethernet)) = &packet.link else { panic!("no Ethernet header") };
    let (source_ip, destination_ip, ttl): (IpAddr, IpAddr, u8) = match packet.net.as_ref().expect("IP") {
        etherparse::NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 header checksum");
            (header.source.into(), header.destination.into(), header.time_to_live)
        }
        etherparse::NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            (header.source.into(), header.destination.into(), header.hop_limit)
        }
        other => panic!("not IP: {other:?}"),
    };
    let mut wire = Wire {
        protocol: Protocol::Tcp,
        source: SocketAddr::new(source_ip, 0),
        destination: SocketAddr::new(destination_ip, 0),
        ttl,
        flags: "",
        sequence: 0,
        acknowledgment: 0,
        payload: Vec::new(),
        destination_mac: MacAddress(ethernet.destination()),
        source_mac: MacAddress(ethernet.source()),
    };
    match packet.transport.as_ref().expect("a transport header") {
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            let sum = match (source_ip, destination_ip) {
                (IpAddr::V4(s), IpAddr::V4(d)) => header.calc_checksum_ipv4_raw(s.octets(), d.octets(), tcp.payload()),
                (IpAddr::V6(s), IpAddr::V6(d)) => header.calc_checksum_ipv6_raw(s.octets(), d.octets(), tcp.payload()),
                _ => unreachable!(),
            };
            assert_eq!(header.checksum, sum.unwrap(), "TCP checksum");
            wire.source.set_port(header.source_port);
            wire.destination.set_port(header.destination_port);
            wire.sequence = header.sequence_number;
            wire.acknowledgment = header.acknowledgment_number;
            wire.flags = match (header.syn, header.ack, header.fin, header.rst, header.psh) {
                (true, false, false, false, _) => "S",
                (true, true, false, false, _) => "SA",
                (false, true, false, false, false) => "A",
                (false, true, false, false, true) => "AP",
                (false, true, true, false, _) => "FA",
                (false, true, false, true, _) => "RA",
                (false, false, false, true, _) => "R",
                other => panic!("flags {other:?}"),
            };
            wire.payload = tcp.payload().to_vec();
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let sum = match (source_ip, destination_ip) {
                (IpAddr::V4(s), IpAddr::V4(d)) => header.calc_checksum_ipv4_raw(s.octets(), d.octets(), udp.payload()),
                (IpAddr::V6(s), IpAddr::V6(d)) => header.calc_checksum_ipv6_raw(s.octets(), d.octets(), udp.payload()),
                _ => unreachable!(),
            };
            if header.checksum != 0 || source_ip.is_ipv6() {
                assert_eq!(header.checksum, sum.unwrap(), "UDP checksum");
            }
            wire.protocol = Protocol::Udp;
            wire.source.set_port(header.source_port);
            wire.destination.set_port(header.destination_port);
            wire.payload = udp.payload().to_vec();
        }
        other => panic!("not TCP or UDP: {other:?}"),
    }
    wire
}

/// The ledger as a table that a test can state whole: everything that is not zero.
pub fn ledger(worker: &mut MemoryWorker) -> BTreeMap<String, u64> {
    let tally = worker.tally();
    assert!(tally.closes(), "the ledger does not close: {tally:?}");
    let fates = [Counter::Rx, Counter::Forwarded, Counter::Replied, Counter::Passed, Counter::Held];
    let mut ledger: BTreeMap<String, u64> =
        fates.iter().map(|counter| (counter.label().to_owned(), tally.get(*counter))).collect();
    for reason in DropReason::ALL {
        ledger.insert(format!("drop:{}", reason.label()), tally.drops(reason));
        ledger.insert(format!("reply:{}", reason.label()), tally.replies(reason));
    }
    ledger.retain(|_, count| *count > 0);
    ledger
}

/// Where a packet arrives, by its MAC address.
pub fn arrival(wire: &Wire) -> InterfaceId {
    if wire.destination_mac == INSIDE_MAC { INSIDE } else { OUTSIDE }
}

/// Runs one packet; returns its verdict when it has one.
pub fn run(worker: &mut MemoryWorker, snapshot: &Snapshot, wire: &Wire, now: Time) -> Option<Verdict> {
    let before = worker.collector.fates.len();
    assert!(worker.run(&wire.build(), arrival(wire), 0, snapshot, now));
    worker.collector.fates.get(before).map(|fate| fate.verdict)
}

/// The last frame that left.
pub fn last_sent(worker: &MemoryWorker) -> Wire {
    judge(&worker.collector.sent.last().expect("nothing left").bytes)
}

/// Milliseconds.
pub fn ms(millis: u64) -> Time {
    Time(millis * 1_000_000)
}

/// A frame of another protocol than Services have.
pub fn other_frame(ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(OUTSIDE_MAC.0);
    frame.extend(ROUTER_MAC.0);
    frame.extend(ether_type.0.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Sets fragment bits of an IPv4 frame, checksum repaired.
pub fn fragment(frame: &mut [u8], offset: u16, more: bool) {
    let (mut header, _) = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap();
    header.fragment_offset = IpFragOffset::try_new(offset / 8).unwrap();
    header.more_fragments = more;
    header.dont_fragment = false;
    header.header_checksum = header.calc_header_checksum();
    frame[14..14 + header.header_len()].copy_from_slice(&header.to_bytes());
}
