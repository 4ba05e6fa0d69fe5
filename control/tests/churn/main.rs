//! Objects that change at random under live flows: every packet goes where the rules send it, a flow stays where it is as
//! long as it may, and no packet ever reaches an endpoint that is not of the Service that has the address.

mod objects;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use ringway_control::cluster::ClusterState;
use ringway_control::compile::{CompileOptions, Memory, compile};
use ringway_control::config::{Config, SourceKey};
use ringway_control::parse::{self, Document};
use ringway_dataplane::af_xdp::{Umem, UmemLayout};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::clock::Time;
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::flow::FlowTable;
use ringway_dataplane::io::memory::MemoryWorker;
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_dataplane::verdict::Verdict;
use ringway_shared::counters::WorkerCounters;
use ringway_shared::decision::{Decision, decide};
use ringway_shared::snapshot::{Generation, Snapshot};
use ringway_shared::{DropReason, FiveTuple, InterfaceId, Network, Protocol};
use serde_json::Value;

use objects::{Change, change};

const WAN: InterfaceId = InterfaceId(0);
const LAN: InterfaceId = InterfaceId(1);
const CLIENT: &str = "198.51.100.7";
/// Every address and port that some form of some Service has.
const DESTINATIONS: [&str; 7] = [
    "172.30.0.1:80",
    "172.30.0.1:81",
    "172.30.0.2:80",
    "203.0.113.1:80",
    "203.0.113.2:81",
    "192.168.0.2:30080",
    "192.168.0.2:30081",
];

const CONFIG: &str = r#"
nodeName: gw-1
node: {addresses: [192.168.0.2], podCIDRs: []}
services: {serviceCIDRs: [172.30.0.0/24]}
interfaces: [{name: wan0}, {name: lan0}]
flows: {perWorker: 256}
network:
  interfaces:
  - {name: wan0, mac: "02:00:00:00:00:01", addresses: [192.168.0.2/24]}
  - {name: lan0, mac: "02:00:00:00:00:02", addresses: [10.180.0.254/24]}
  routes: [{to: 198.51.100.0/24, via: 192.168.0.254, dev: wan0}]
  neighbors:
  - {address: 192.168.0.254, mac: "02:00:00:00:01:fe", dev: wan0}
  - {address: 10.180.0.1, mac: "02:00:00:00:03:01", dev: lan0}
  - {address: 10.180.0.2, mac: "02:00:00:00:03:02", dev: lan0}
  - {address: 10.180.0.3, mac: "02:00:00:00:03:03", dev: lan0}
"#;

/// A connection: a fixed client port, protocol and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Connection {
    tuple: FiveTuple,
}

impl Connection {
    fn new(number: usize) -> Self {
        let destination = DESTINATIONS[number % DESTINATIONS.len()].parse().unwrap();
        let protocol = if number.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp };
        let client = SocketAddr::new(CLIENT.parse().unwrap(), 40_000 + number as u16);
        Connection { tuple: FiveTuple::new(protocol, client, destination) }
    }
}

/// Where an open connection goes, as it should be.
#[derive(Clone, Copy, Debug)]
struct Open {
    endpoint: SocketAddr,
    /// What the endpoint sees as client.
    client: SocketAddr,
}

struct World {
    objects: HashMap<String, Value>,
    cluster: ClusterState,
    memory: Memory,
    options: CompileOptions,
    network: Arc<Network>,
    snapshot: Snapshot,
    worker: MemoryWorker,
    now: u64,
    open: HashMap<Connection, Open>,
    /// How often each kind of thing happened.
    seen: HashMap<&'static str, usize>,
}

impl World {
    fn new() -> Self {
        let config = Config::parse(CONFIG, Path::new("gw.yaml"), SourceKey::Replaced).unwrap();
        let network = Arc::new(config.network.as_ref().unwrap().build(1, &config.interfaces));
        let shared = Shared {
            directory: None,
            direct: DirectConnections::new(),
            affinities: Affinities::new(64, 1),
            suspects: Default::default(),
            resolver: Resolver::new().unwrap(),
            counters: WorkerCounters::new(0),
        };
        let flows = FlowTable::new(&config.flow_table(0, 1, 7).unwrap());
        let umem = Umem::new(UmemLayout::of_frames(256)).unwrap();
        let mut world = World {
            objects: HashMap::new(),
            cluster: ClusterState::default(),
            memory: Memory::new(),
            options: CompileOptions::from_config(&config),
            network,
            snapshot: Snapshot::default(),
            worker: MemoryWorker::new(umem, Pipeline::new(config.pipeline(0, 1), flows, shared)),
            now: 1,
            open: HashMap::new(),
            seen: HashMap::new(),
        };
        // Most of what can change is there from the start.
        Change::first().iter().for_each(|change| world.change(change));
        world
    }

    fn change(&mut self, change: &Change) {
        let (name, object) = change.object();
        match object {
            Some(object) => {
                let mut documents = Vec::new();
                parse::document(&object, &mut documents);
                let Some(Document::Taken(parsed)) = documents.pop() else { panic!("{documents:?}") };
                self.cluster.apply(parsed, None);
                self.objects.insert(name, object);
            }
            None => {
                let key = self.cluster.keys().find(|key| *key.name == *name);
                key.iter().for_each(|key| {
                    self.cluster.remove(key);
                });
                self.objects.remove(&name);
            }
        }
        self.compile();
    }

    fn compile(&mut self) {
        let compiled = compile(&self.cluster, &self.options, &mut self.memory);
        let generation = Generation(self.snapshot.generation.0 + 1);
        self.snapshot = Snapshot { generation, services: Arc::new(compiled.services), network: self.network.clone() };
    }

    /// Whether a slice of `service` names this endpoint for a port of this protocol: asked of the objects alone.
    fn is_named(&self, service: &str, protocol: Protocol, endpoint: SocketAddr) -> bool {
        self.objects.values().any(|object| {
            object["metadata"]["labels"]["kubernetes.io/service-name"] == service
                && object["ports"].as_array().into_iter().flatten().any(|port| {
                    port["port"] == endpoint.port()
                        && port["protocol"].as_str().unwrap_or("TCP").eq_ignore_ascii_case(&protocol.to_string())
                })
                && object["endpoints"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|of| of["addresses"][0] == endpoint.ip().to_string())
        })
    }

    /// Sends a packet through; what became of it and what left.
    fn run(&mut self, bytes: &[u8], arrived: InterfaceId) -> (Verdict, Option<Vec<u8>>) {
        // Apart far enough for the limit of answers.
        self.now += 10_000_000;
        let now = Time(self.now);
        assert!(self.worker.run(bytes, arrived, 1, &self.snapshot, now));
        let fate = self.worker.collector.fates.pop().expect("every next hop is known, so no packet waits");
        (fate.verdict, self.worker.collector.sent.pop().map(|sent| sent.bytes))
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// The client sends: the first packet of its connection, or one more.
    fn send(&mut self, connection: Connection) -> Result<(), TestCaseError> {
        let tuple = connection.tuple;
        let open = self.open.get(&connection).copied();
        let services = self.snapshot.services.clone();
        let target = services.find(&tuple.frontend());
        let member = |open: &Open| {
            target.is_some_and(|target| target.service_port.member(open.endpoint.ip(), open.endpoint.port()).is_some())
        };
        let stays = open.filter(|open| member(open));
        let bytes = packet(&tuple, if open.is_some() { Flags::Ack } else { Flags::Syn });
        let (verdict, sent) = self.run(&bytes, WAN);
        if open.is_some() && stays.is_none() && tuple.protocol() == Protocol::Tcp {
            // Rule 21: its endpoint is gone, and the client is told.
            let Verdict::Reply { reason: DropReason::EndpointDeleted, .. } = verdict else {
                return Err(TestCaseError::fail(format!("{tuple} should be reset: {verdict:?}")));
            };
            self.open.remove(&connection);
            self.count("reset");
            return Ok(());
        }
        match (verdict, stays, decide(&services, &tuple)) {
            (Verdict::Forward { .. }, stays, decision) => {
                let (client, endpoint) = ends(sent.as_deref().expect("what is forwarded leaves"));
                let service = target.map(|target| &*target.service_port.service.name);
                let own = service.is_some_and(|service| self.is_named(service, tuple.protocol(), endpoint));
                prop_assert!(own, "{tuple} went to {endpoint}, which is not of {service:?}");
                match (stays, decision) {
                    (Some(open), _) => {
                        prop_assert_eq!((endpoint, client), (open.endpoint, open.client), "{} moved", tuple);
                        self.count("stayed");
                    }
                    (None, Decision::Forward { set, .. }) => {
                        prop_assert!(set.backends().iter().any(|backend| backend.socket() == endpoint));
                        self.count(if open.is_some() { "moved" } else { "opened" });
                    }
                    (None, decision) => prop_assert!(false, "{tuple} went to {endpoint}: {decision:?}"),
                }
                self.open.insert(connection, Open { endpoint, client });
            }
            (Verdict::Drop(had), None, Decision::Drop(reason, _))
            | (Verdict::Reply { reason: had, .. }, None, Decision::Reject(reason, _)) => {
                prop_assert_eq!(had, reason);
                self.open.remove(&connection);
                self.count("refused");
            }
            (Verdict::Pass { .. }, None, Decision::Pass) => {
                self.open.remove(&connection);
                self.count("passed");
            }
            (verdict, stays, decision) => {
                prop_assert!(false, "{tuple}: {verdict:?}, flow {stays:?}, rules {decision:?}");
            }
        }
        // What a former endpoint still sends is nobody's, once the client's packet has moved the flow or ended it.
        if let Some(former) = open.filter(|_| stays.is_none()) {
            self.answer(connection, former, false)?;
        }
        match self.open.get(&connection).copied() {
            Some(open) => self.answer(connection, open, true),
            None => Ok(()),
        }
    }

    /// An endpoint answers; the client sees the address it asked, or nothing.
    fn answer(&mut self, connection: Connection, open: Open, is_ours: bool) -> Result<(), TestCaseError> {
        let tuple = connection.tuple;
        let reply = FiveTuple::new(tuple.protocol(), open.endpoint, open.client);
        // The same endpoint may serve the flow again, by the same ports: then this is its answer after all.
        let again =
            self.open.get(&connection).is_some_and(|now| (now.endpoint, now.client) == (open.endpoint, open.client));
        let (verdict, sent) = self.run(&packet(&reply, Flags::SynAck), LAN);
        if is_ours || again {
            prop_assert!(matches!(verdict, Verdict::Forward { .. }), "{reply}: {verdict:?}");
            let seen = ends(sent.as_deref().expect("what is forwarded leaves"));
            let source = SocketAddr::new(tuple.source_address(), tuple.source_port());
            prop_assert_eq!(seen, (SocketAddr::new(tuple.destination_address(), tuple.destination_port()), source));
        } else {
            prop_assert!(!matches!(verdict, Verdict::Forward { .. }), "{reply} of a former endpoint: {verdict:?}");
            self.count("former");
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Flags {
    Syn,
    SynAck,
    Ack,
}

fn packet(tuple: &FiveTuple, flags: Flags) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (tuple.source_address(), tuple.destination_address()) else {
        unreachable!("all addresses are IPv4")
    };
    // To the interface where it arrives: clients are behind wan0, endpoints behind lan0.
    let own = if source.octets()[0] == 10 { 2 } else { 1 };
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 9, 9], [2, 0, 0, 0, 0, own]);
    let builder = builder.ipv4(source.octets(), destination.octets(), 64);
    let (from, to) = (tuple.source_port(), tuple.destination_port());
    let mut bytes = Vec::new();
    match tuple.protocol() {
        Protocol::Udp => builder.udp(from, to).write(&mut bytes, b"hello").unwrap(),
        _ => {
            let tcp = builder.tcp(from, to, 1000, 1000);
            match flags {
                Flags::Syn => tcp.syn(),
                Flags::SynAck => tcp.syn().ack(1001),
                Flags::Ack => tcp.ack(1001),
            }
            .write(&mut bytes, &[])
            .unwrap();
        }
    }
    bytes
}

/// Source and destination of a packet that left.
fn ends(bytes: &[u8]) -> (SocketAddr, SocketAddr) {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else { panic!("no IPv4 left") };
    let (from, to) = match sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => (tcp.source_port(), tcp.destination_port()),
        TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port()),
        other => panic!("{other:?} left"),
    };
    let socket = |address: std::net::Ipv4Addr, port| SocketAddr::new(address.into(), port);
    (socket(ip.header().source_addr(), from), socket(ip.header().destination_addr(), to))
}

/// A change, or a packet of one of the connections.
type Step = Result<Change, usize>;

fn run(steps: &[Step]) -> Result<HashMap<&'static str, usize>, TestCaseError> {
    let mut world = World::new();
    for step in steps {
        match step {
            Ok(change) => world.change(change),
            Err(number) => world.send(Connection::new(*number))?,
        }
    }
    Ok(world.seen)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![1 => change().prop_map(Ok), 3 => (0..2 * DESTINATIONS.len()).prop_map(Err)];
    proptest::collection::vec(step, 50..250)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_packet_goes_astray_while_objects_change(steps in steps()) {
        run(&steps)?;
    }
}

#[test]
fn everything_that_can_happen_to_a_flow_happens() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: HashMap<&'static str, usize> = HashMap::new();
    for _ in 0..40 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        for (what, number) in run(&steps).unwrap() {
            *seen.entry(what).or_default() += number;
        }
    }
    for what in ["opened", "stayed", "moved", "reset", "refused", "passed", "former"] {
        assert!(seen.get(what).is_some_and(|number| *number >= 20), "{what}: {seen:?}");
    }
}
