//! What `ringway trace` says about a packet is what the packet path does with it, over random objects, networks and
//! packets.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use ringway_control::compile::{CompileOptions, Memory, compile};
use ringway_control::config::{Config, SourceKey};
use ringway_control::source::files;
use ringway_dataplane::af_xdp::{Umem, UmemLayout};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::clock::Time;
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::flow::FlowTable;
use ringway_dataplane::io::memory::MemoryWorker;
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_dataplane::trace::{Question, Trace, TraceVerdict, View, explain};
use ringway_dataplane::verdict::Verdict;
use ringway_shared::counters::WorkerCounters;
use ringway_shared::snapshot::{Generation, Snapshot};
use ringway_shared::{DropReason, InterfaceId, MacAddress, Protocol};
use serde_json::{Value, json};

const NODE: [[&str; 2]; 2] = [["192.168.0.2", "192.168.1.2"], ["fd00:1::2", "fd00:2::2"]];
const CLUSTER_IPS: [[&str; 3]; 2] =
    [["172.30.0.1", "172.30.0.2", "172.30.0.3"], ["fd00:30::1", "fd00:30::2", "fd00:30::3"]];
/// The last one is also the node's own.
const VIPS: [[&str; 3]; 2] = [["203.0.113.1", "203.0.113.2", "192.168.1.2"], ["fd00:f::1", "fd00:f::2", "fd00:2::2"]];
/// Reachable; another reachable; its neighbour is silent; behind an interface that is not listed; no route; the node's.
const ENDPOINTS: [[&str; 6]; 2] = [
    ["10.180.0.1", "10.180.1.1", "10.180.0.9", "10.9.0.1", "11.0.0.1", "192.168.0.2"],
    ["fd00:180::1", "fd00:181::1", "fd00:180::9", "fd00:9::1", "2001:db8::1", "fd00:1::2"],
];
const SOURCES: [[&str; 7]; 2] = [
    ["10.180.0.1", "10.180.0.2", "192.168.0.2", "198.51.100.7", "203.0.113.1", "0.0.0.0", "192.168.0.255"],
    ["fd00:180::1", "fd00:180::2", "fd00:1::2", "2001:db8:7::7", "fd00:f::1", "::", "ff02::1"],
];
/// Behind the VIPs, the ClusterIPs and the node's addresses: unallocated, and somebody else's.
const ELSEWHERE: [[&str; 2]; 2] = [["172.30.0.99", "8.8.8.8"], ["fd00:30::99", "2001:db8::8"]];

const CONFIG: &str = r#"
nodeName: gw-1
node:
  addresses: [192.168.0.2, 192.168.1.2, "fd00:1::2", "fd00:2::2"]
  podCIDRs: [10.180.0.0/24, "fd00:180::/64"]
  labels: {topology.kubernetes.io/zone: a}
services: {serviceCIDRs: [172.30.0.0/24, "fd00:30::/64"]}
interfaces: [{name: wan0}, {name: lan0}]
flows: {perWorker: 64}
network:
  interfaces:
  - {name: wan0, mac: "02:00:00:00:00:01", addresses: [192.168.0.2/24, "fd00:1::2/64"]}
  - {name: lan0, mac: "02:00:00:00:00:02", addresses: [192.168.1.2/24, "fd00:2::2/64"]}
  routes:
  - {to: 10.180.0.0/24, dev: lan0}
  - {to: 10.180.1.0/24, via: 192.168.1.3, dev: lan0}
  - {to: 198.51.100.0/24, via: 192.168.0.254, dev: wan0}
  - {to: 10.9.0.0/16, dev: wg0}
  - {to: "fd00:180::/64", dev: lan0}
  - {to: "fd00:181::/64", via: "fd00:2::3", dev: lan0}
  - {to: "2001:db8:7::/64", via: "fd00:1::fe", dev: wan0}
  - {to: "fd00:9::/64", dev: wg0}
  neighbors:
  - {address: 192.168.0.254, mac: "02:00:00:00:01:fe", dev: wan0}
  - {address: "fd00:1::fe", mac: "02:00:00:00:01:fe", dev: wan0}
  - {address: 192.168.1.3, mac: "02:00:00:00:02:03", dev: lan0}
  - {address: "fd00:2::3", mac: "02:00:00:00:02:03", dev: lan0}
  - {address: 10.180.0.1, mac: "02:00:00:00:03:01", dev: lan0}
  - {address: "fd00:180::1", mac: "02:00:00:00:03:01", dev: lan0}
"#;

/// An endpoint as random choices: address, port, ready, terminating, local.
type EndpointChoice = (usize, u16, Option<bool>, bool, Option<bool>);

/// One Service with its slice, as random choices.
#[derive(Clone, Debug)]
struct Choice {
    v6: bool,
    cluster_ip: usize,
    external_ip: Option<usize>,
    ingress: Option<usize>,
    ranges: Option<bool>,
    policies: (bool, bool),
    affinity: bool,
    udp: bool,
    endpoints: Vec<EndpointChoice>,
    hints: bool,
    /// Direct server return: by MAC address, or inside another packet.
    dsr: Option<bool>,
}

fn choice() -> impl Strategy<Value = Choice> {
    let address = prop_oneof![6 => 0..2usize, 2 => 2..6usize];
    let seldom = || proptest::bool::weighted(0.2);
    let ready = prop_oneof![3 => Just(None), 2 => Just(Some(true)), 1 => Just(Some(false))];
    let endpoint = (address, 8000..8002u16, ready, seldom(), any::<Option<bool>>());
    let addresses = (any::<bool>(), 0..3usize, proptest::option::of(0..3usize), proptest::option::of(0..3usize));
    let ranges = proptest::option::weighted(0.3, any::<bool>());
    let dsr = proptest::option::weighted(0.4, any::<bool>());
    let more = (ranges, any::<(bool, bool)>(), any::<bool>(), seldom(), seldom(), dsr);
    (addresses, more, proptest::collection::vec(endpoint, 0..8)).prop_map(|(addresses, more, endpoints)| {
        let (v6, cluster_ip, external_ip, ingress) = addresses;
        let (ranges, policies, affinity, udp, hints, dsr) = more;
        Choice { v6, cluster_ip, external_ip, ingress, ranges, policies, affinity, udp, endpoints, hints, dsr }
    })
}

impl Choice {
    fn objects(&self, number: usize) -> [Value; 2] {
        let family = usize::from(self.v6);
        let name = format!("svc{number}");
        let policy = |local| if local { "Local" } else { "Cluster" };
        let protocol = if self.udp { "UDP" } else { "TCP" };
        let ranges = self.ranges.map(|admits| {
            let range = [["198.51.100.0/24", "2001:db8:7::/64"], ["192.168.0.0/24", "fd00:1::/64"]];
            vec![range[usize::from(admits)][family]]
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "ns1", "name": name, "annotations": {"ringway.io/forwarding": match self.dsr {
                None => "nat",
                Some(false) => "dsr-l2",
                Some(true) => "dsr-ipip",
            }}},
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": CLUSTER_IPS[family][self.cluster_ip],
                "clusterIPs": [CLUSTER_IPS[family][self.cluster_ip]],
                "externalIPs": self.external_ip.map(|at| vec![VIPS[family][at]]).unwrap_or_default(),
                "internalTrafficPolicy": policy(self.policies.0),
                "externalTrafficPolicy": policy(self.policies.1),
                "loadBalancerSourceRanges": ranges.unwrap_or_default(),
                "sessionAffinity": if self.affinity { "ClientIP" } else { "None" },
                "ports": [{"name": "p", "port": 80, "protocol": protocol, "nodePort": 30080 + number}],
            },
            "status": {"loadBalancer": {"ingress": self.ingress.map(|at| json!([{"ip": VIPS[family][at]}])).unwrap_or(json!([]))}},
        });
        let slices = [8000, 8001].map(|port| {
            let endpoints = self.endpoints.iter().filter(|endpoint| endpoint.1 == port);
            let endpoints: Vec<Value> = endpoints
                .map(|(at, _, ready, terminating, local)| {
                    json!({
                        "addresses": [ENDPOINTS[family][*at]],
                        "conditions": {"ready": ready, "terminating": terminating},
                        "nodeName": local.map(|local| if local { "gw-1" } else { "b" }),
                        "hints": self.hints.then(|| json!({"forZones": [{"name": (if at % 2 == 0 { "a" } else { "b" })}]})),
                    })
                })
                .collect();
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"namespace": "ns1", "name": format!("{name}-{port}"), "labels": {"kubernetes.io/service-name": name}},
                "addressType": (if self.v6 { "IPv6" } else { "IPv4" }),
                // With direct server return the port stays what it was.
                "ports": [{"name": "p", "port": if self.dsr.is_some() { 80 } else { port }, "protocol": protocol}],
                "endpoints": endpoints,
            })
        });
        [service, json!({"apiVersion": "v1", "kind": "List", "items": slices})]
    }
}

/// A packet as random choices: family, protocol, source, destination, ports.
type Asked = (bool, bool, usize, usize, u16, u16);

fn asked() -> impl Strategy<Value = Asked> {
    let virtual_ip = (prop_oneof![9 => 0..6usize, 1 => 6..10usize], prop_oneof![9 => Just(80u16), 1 => Just(81)]);
    let node_port = (6..8usize, 30080..30084u16);
    let destination = prop_oneof![3 => virtual_ip, 1 => node_port];
    let source = prop_oneof![9 => 0..5usize, 1 => 5..7usize];
    let ends = (source, destination, 1024..60000u16);
    (any::<bool>(), proptest::bool::weighted(0.2), ends).prop_map(
        |(v6, udp, (source, (destination, port), source_port))| (v6, udp, source, destination, source_port, port),
    )
}

fn question((v6, udp, source, destination, source_port, port): Asked) -> Question {
    let family = usize::from(v6);
    let destinations = [&CLUSTER_IPS[family][..], &VIPS[family], &NODE[family], &ELSEWHERE[family]].concat();
    let socket = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
    let (source, destination) = (socket(SOURCES[family][source], source_port), socket(destinations[destination], port));
    format!("{}:{source}->{destination}", if udp { "udp" } else { "tcp" }).parse().unwrap()
}

/// The packet on the wire, arriving on wan0.
fn packet(question: &Question) -> Vec<u8> {
    let tuple = &question.tuple;
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 9, 9], [2, 0, 0, 0, 0, 1]);
    let builder = match (tuple.source_address(), tuple.destination_address()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => builder.ipv4(source.octets(), destination.octets(), 64),
        (IpAddr::V6(source), IpAddr::V6(destination)) => builder.ipv6(source.octets(), destination.octets(), 64),
        _ => unreachable!("a question has one family"),
    };
    let (source, destination) = (tuple.source_port(), tuple.destination_port());
    let mut bytes = Vec::new();
    match tuple.protocol() {
        Protocol::Udp => builder.udp(source, destination).write(&mut bytes, b"hello").unwrap(),
        _ => builder.tcp(source, destination, 1, 1000).syn().write(&mut bytes, &[]).unwrap(),
    }
    bytes
}

/// Source and destination of a packet that left.
fn ends(bytes: &[u8]) -> (SocketAddr, SocketAddr) {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let (source, destination): (IpAddr, IpAddr) = match sliced.net.unwrap() {
        etherparse::NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        etherparse::NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        etherparse::NetSlice::Arp(_) => panic!("ARP left"),
    };
    let ports = match sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => (tcp.source_port(), tcp.destination_port()),
        TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port()),
        other => panic!("{other:?} left"),
    };
    (SocketAddr::new(source, ports.0), SocketAddr::new(destination, ports.1))
}

/// What the packet path does with a packet that opens a connection.
fn run(
    config: &Config,
    snapshot: &Snapshot,
    affinities: &Arc<Affinities>,
    question: &Question,
) -> (Verdict, Option<Vec<u8>>) {
    let shared = Shared {
        directory: None,
        direct: DirectConnections::new(),
        affinities: affinities.clone(),
        suspects: Default::default(),
        resolver: Resolver::new().unwrap(),
        counters: WorkerCounters::new(0),
    };
    let flows = FlowTable::new(&config.flow_table(0, 1, 7).unwrap());
    let umem = Umem::new(UmemLayout::of_frames(256)).unwrap();
    let mut worker = MemoryWorker::new(umem, Pipeline::new(config.pipeline(0, 1), flows, shared));
    assert!(worker.run(&packet(question), InterfaceId(0), 1, snapshot, Time(1)));
    worker.tick(snapshot, Time(2_000_000_000));
    let fate = worker.collector.fates.pop().expect("a packet has a fate after two seconds");
    (fate.verdict, worker.collector.sent.pop().map(|sent| sent.bytes))
}

fn agree(trace: &Trace, question: &Question, snapshot: &Snapshot, verdict: Verdict, sent: Option<&[u8]>) {
    let told = || format!("{trace}\n{verdict:?}");
    match (trace.verdict, verdict) {
        (TraceVerdict::Pass, Verdict::Pass { .. }) => assert_eq!(trace.service, None),
        // The node's own packets do not come by a wire.
        (_, Verdict::Drop(DropReason::ImpossibleSource))
            if snapshot.network.is_local(question.tuple.source_address()) =>
        {
            assert!(trace.steps.iter().any(|step| step.contains("inside the node it is genuine")), "{}", told());
        }
        (TraceVerdict::Drop, Verdict::Drop(reason)) => {
            assert_eq!(trace.reason.as_deref(), Some(reason.label()), "{}", told())
        }
        // A reject that cannot be sent, because there is no way back or nobody may be answered, is a drop for its reason.
        (TraceVerdict::Reject, Verdict::Reply { reason, .. } | Verdict::Drop(reason)) => {
            let unsent = matches!(verdict, Verdict::Drop(_)) && reason.label() == "neighbor_unresolved";
            assert!(unsent || trace.reason.as_deref() == Some(reason.label()), "{}", told());
        }
        (TraceVerdict::Forward, Verdict::Forward { out }) => {
            let mut frame = sent.expect("what is forwarded leaves").to_vec();
            let exit = trace.adjacency.as_ref().expect("a way out");
            assert_eq!(MacAddress(frame[..6].try_into().unwrap()).to_string(), exit.next_hop_mac, "{}", told());
            let chosen: SocketAddr = trace.chosen.as_ref().unwrap().parse().unwrap();
            if trace.forwarding.as_deref() == Some("dsr-ipip") {
                let (header, address) = if chosen.is_ipv4() { (20, 30) } else { (40, 38) };
                let octets = match chosen.ip() {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                assert_eq!(frame[address..address + octets.len()], octets, "{}", told());
                frame.drain(14..14 + header);
            }
            let (source, destination) = ends(&frame);
            if trace.forwarding.as_deref() == Some("nat") {
                assert_eq!(destination, chosen, "{}", told());
            } else {
                let asked = SocketAddr::new(question.tuple.destination_address(), question.tuple.destination_port());
                assert_eq!((destination, trace.masquerade), (asked, false), "{}", told());
            }
            let client = SocketAddr::new(question.tuple.source_address(), question.tuple.source_port());
            if trace.masquerade {
                assert_eq!(Some(source.ip()), trace.snat_address, "{}", told());
                assert!(source.port() >= 61_000, "{}", told());
            } else {
                assert_eq!(source, client, "{}", told());
            }
            let name = snapshot.network.interface(out).map(|interface| interface.name.to_string());
            assert_eq!(trace.adjacency.as_ref().map(|exit| exit.interface.clone()), name, "{}", told());
            let listed = trace.eligible.iter().filter(|eligible| Some(*eligible) == trace.chosen.as_ref()).count();
            assert_eq!(listed, 1, "{}", told());
            assert!(trace.eligible.is_sorted(), "{}", told());
        }
        _ => panic!("{}", told()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn trace_says_what_the_packet_path_does(
        services in proptest::collection::vec(choice(), 3..8),
        questions in proptest::collection::vec(asked(), 20),
        detector: bool,
        masquerade_all: bool,
    ) {
        let mut config = Config::parse(CONFIG, Path::new("gw.yaml"), SourceKey::Replaced).unwrap();
        config.services.masquerade_all = masquerade_all;
        if !detector {
            config.node.pod_cidrs = Some(Vec::new());
        }
        let folder = tempfile::tempdir().unwrap();
        for (number, service) in services.iter().enumerate() {
            for (part, object) in service.objects(number).iter().enumerate() {
                std::fs::write(folder.path().join(format!("{number}-{part}.json")), object.to_string()).unwrap();
            }
        }
        let cluster = files::load(&[folder.path().to_owned()]).into_cluster();
        let compiled = compile(&cluster, &CompileOptions::from_config(&config), &mut Memory::default());
        let network = Arc::new(config.network.as_ref().unwrap().build(1, &config.interfaces));
        let snapshot = Snapshot { generation: Generation(1), services: Arc::new(compiled.services), network };
        // Clients are remembered from question to question, as by an instance that runs.
        let affinities = Affinities::new(64, 1);
        for question in questions.into_iter().map(question) {
            let view = View {
                services: &snapshot.services,
                network: Some(&snapshot.network),
                snat_addresses: &[],
                affinities: Some((&affinities, Time(1))),
                rescue: true,
                suspects: None,
            };
            let trace = explain(&view, &question);
            let (verdict, sent) = run(&config, &snapshot, &affinities, &question);
            agree(&trace, &question, &snapshot, verdict, sent.as_deref());
        }
    }
}
